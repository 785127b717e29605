"""An SAE's figures as SAEBench's core evaluation writes them, for its tables and plots.

1. What the run's evaluation measured goes to the field that means the same: losses and divergences
   [nats], explained variance (1 - FVU), cosine, L0, tokens.
2. Densities, and how near decoder and encoder rows come to each other, follow from the weights and
   the features' statistics, for the whole and for every feature.
3. SAEBench writes -1 for a metric that it did not compute, and so does this: a mean squared error,
   norms, L1 and the older explained variance are not measured here. `eval_result_unstructured`
   names them, and says whose figures these are.

Left out: SAEBench's other evaluations, and its own texts: figures of two corpora are compared with
care.
"""

import json
import math
import uuid
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.files import SETTINGS, read_json
from feature_store.records import Run
from feature_store.registry import register
from sae_training.dictionary.loaders.folder import CONFIG
from workbench.exchange import ExportSettings, sae_folder
from workbench.exchange.writing import new_file
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.dictionary.sae import SAE

ABSENT = -1.0
"""What SAEBench writes for a metric that was not computed."""
BLOCK = 2**26
"""Cosines held at once [numbers]."""
EVALUATED = {
    ("model_behavior_preservation", "kl_div_score"): "kl_recovered",
    ("model_behavior_preservation", "kl_div_with_ablation"): "kl_zero",
    ("model_behavior_preservation", "kl_div_with_sae"): "kl_spliced",
    ("model_performance_preservation", "ce_loss_score"): "loss_recovered",
    ("model_performance_preservation", "ce_loss_with_ablation"): "loss_zero",
    ("model_performance_preservation", "ce_loss_with_sae"): "loss_spliced",
    ("model_performance_preservation", "ce_loss_without_sae"): "loss_clean",
    ("reconstruction_quality", "cossim"): "cosine",
    ("sparsity", "l0"): "l0",
    ("token_stats", "total_tokens_eval_reconstruction"): "tokens",
}
"""(category, metric) of SAEBench -> figure of our evaluation."""
NOT_MEASURED = (
    *(("reconstruction_quality", "explained_variance_legacy"), ("reconstruction_quality", "mse")),
    *(("shrinkage", "l2_norm_in"), ("shrinkage", "l2_norm_out"), ("shrinkage", "l2_ratio")),
    *(("shrinkage", "relative_reconstruction_bias"), ("sparsity", "l1")),
)
"""Metrics of SAEBench that no evaluation here gives."""


@register("exports", "saebench")
class CoreEvaluation:
    """An SAE's evaluation as SAEBench's core JSON, beside those of other SAEs."""

    reads = ()

    @staticmethod
    def write(study: Workspace, settings: ExportSettings, out: Path) -> None:
        """Write the file."""
        sae_run = study.resolve("sae", settings.sae)
        sae = study.sae(sae_run)
        cosines = _Cosines(sae)
        metrics, absent = _metrics(study, sae_run, cosines)
        created = datetime.fromisoformat(sae_run.created)
        content = {
            "eval_type_id": "core",
            "eval_config": _config(sae_run),
            "eval_id": str(uuid.uuid5(uuid.NAMESPACE_OID, sae_run.id)),
            "datetime_epoch_millis": int(created.timestamp() * 1000),
            "eval_result_metrics": metrics,
            "eval_result_details": _details(study, sae_run, sae, cosines),
            "sae_bench_commit_hash": "",
            "sae_lens_id": sae.metadata.get("sae_id"),
            "sae_lens_release_id": sae.metadata.get("release"),
            "sae_lens_version": version("sae-lens"),
            "sae_cfg_dict": read_json(sae_folder(study, sae_run) / CONFIG, SETTINGS),
            "eval_result_unstructured": {
                "evaluated_by": f"values-workbench {version('values-workbench')}",
                "run": sae_run.id,
                "not_measured": absent,
            },
        }
        with new_file(out) as beside:
            beside.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


class _Cosines:
    """The largest cosine of each row with another one, of encoder and decoder."""

    def __init__(self, sae: "SAE") -> None:
        self.encoder = _largest_cosine(sae.W_enc.T)
        """Of encoder columns [-1 to 1]."""
        self.decoder = _largest_cosine(sae.W_dec)
        """Of decoder rows [-1 to 1]."""


def _largest_cosine(rows: Float[Tensor, "feat d_model"]) -> np.ndarray:
    """Give each row's largest cosine with another row, block by block [-1 to 1]."""
    units = torch.nn.functional.normalize(rows.float(), dim=1)
    height = max(1, BLOCK // len(units))
    largest = []
    for start in range(0, len(units), height):
        block = units[start : start + height] @ units.T
        itself = torch.arange(len(block))
        block[itself, start + itself] = -1.0
        largest.append(block.amax(1))
    return torch.cat(largest).cpu().numpy()


def _metrics(
    study: Workspace, sae_run: Run, cosines: _Cosines
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Give SAEBench's metrics by category, and the names of those that are absent."""
    rows = study.store.sql(
        "SELECT metric, value FROM training WHERE run = ? AND metric LIKE 'final_%'", [sae_run.id]
    )
    figures = {
        metric.removeprefix("final_"): value
        for metric, value in zip(rows.metric, rows.value, strict=True)
    }
    measured: dict[tuple[str, str], float | None] = {
        place: figures.get(name) for place, name in EVALUATED.items()
    }
    fvu = figures.get("fvu")
    measured["reconstruction_quality", "explained_variance"] = None if fvu is None else 1 - fvu
    measured["token_stats", "total_tokens_eval_sparsity_variance"] = sae_run.summary["tokens"]
    measured |= {("misc_metrics", name): value for name, value in _misc(study, sae_run, cosines)}
    measured |= dict.fromkeys(NOT_MEASURED)
    metrics: dict[str, dict[str, float]] = {}
    absent = []
    for (category, metric), value in measured.items():
        if value is None or not math.isfinite(value):
            absent.append(f"{category}.{metric}")
            value = ABSENT
        counted = category == "token_stats"
        metrics.setdefault(category, {})[metric] = int(value) if counted else float(value)
    return metrics, absent


def _misc(study: Workspace, sae_run: Run, cosines: _Cosines) -> list[tuple[str, float]]:
    """Give the metrics that follow from densities and weights."""
    density = _column(study, sae_run, "density")
    total = float(density.sum()) or math.nan
    figures = []
    for percent in (1, 10):
        over = density > percent / 100
        figures.append((f"freq_over_{percent}_percent", float(over.mean())))
        normalised = float(density[over].sum()) / total
        figures.append((f"normalized_freq_over_{percent}_percent", normalised))
    return [
        *figures,
        ("average_max_encoder_cosine_sim", float(cosines.encoder.mean())),
        ("average_max_decoder_cosine_sim", float(cosines.decoder.mean())),
        ("frac_alive", float((density > 0).mean())),
    ]


def _column(study: Workspace, sae_run: Run, name: str) -> np.ndarray:
    """Read one statistic of every feature, by feature."""
    rows = study.store.sql(
        f"SELECT {name} AS figure FROM features WHERE run = ? ORDER BY feature", [sae_run.id]
    )
    return rows.figure.to_numpy()


def _details(
    study: Workspace, sae_run: Run, sae: "SAE", cosines: _Cosines
) -> list[Mapping[str, float]]:
    """Give SAEBench's metrics of every feature."""
    density = _column(study, sae_run, "density")
    per_text = study.store.sql(
        """
        SELECT feature, count(*) / count(DISTINCT document) AS tokens FROM activations
        WHERE run = ? GROUP BY feature""",
        [sae_run.id],
    )
    tokens = dict(zip(per_text.feature, per_text.tokens, strict=True))
    encoder, decoder = sae.W_enc.T.float(), sae.W_dec.float()
    bias = sae.b_enc.float().cpu().numpy()
    norm = encoder.norm(dim=1).cpu().numpy()
    both = torch.nn.functional.cosine_similarity(encoder, decoder, dim=1).cpu().numpy()
    return [
        {
            "index": feature,
            "feature_density": float(density[feature]),
            "consistent_activation_heuristic": float(tokens.get(feature, ABSENT)),
            "encoder_bias": float(bias[feature]),
            "encoder_norm": float(norm[feature]),
            "encoder_decoder_cosine_sim": float(both[feature]),
            "max_decoder_cosine_sim": float(cosines.decoder[feature]),
            "max_encoder_cosine_sim": float(cosines.encoder[feature]),
        }
        for feature in range(sae.n_features)
    ]


def _config(sae_run: Run) -> dict[str, Any]:
    """Say how the evaluation was made, in SAEBench's words."""
    return {
        "model_name": sae_run.config["model"],
        "llm_dtype": sae_run.config["dtype"],
        "batch_size_prompts": sae_run.config["rows"],
        "n_eval_reconstruction_batches": int(ABSENT),
        "n_eval_sparsity_variance_batches": int(ABSENT),
        "dataset": sae_run.config["texts"],
        "context_size": sae_run.config["context"],
        "compute_kl": True,
        "compute_ce_loss": True,
        "compute_l2_norms": False,
        "compute_sparsity_metrics": True,
        "compute_variance_metrics": True,
        "compute_featurewise_density_statistics": True,
        "compute_featurewise_weight_based_metrics": True,
        "exclude_special_tokens_from_reconstruction": False,
        "verbose": False,
    }
