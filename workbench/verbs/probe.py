"""Train a probe of each value at every layer, on pairs of texts that differ in the value alone.

1. The pairs are read or made, and checked: a pair that differs in more than the value is refused,
   kept as a row and counted.
2. One value after the other, its texts pass through the model (raw text, no chat template) and
   every layer is probed at the last token (`probes.py`). A finished value is kept, so an
   interrupted run goes on with the next.
3. Probes and differences of means go to `directions.safetensors`, where steerings find them.
4. Where an SAE of the model is there, both directions at its site are laid beside its decoder rows:
   the features they are made of, with the largest cosine that a random direction would have.
"""

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from feature_store.bounds import Count, CountOrZero, Seed, Share
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.runs import Work
from workbench import material
from workbench.llm import open_llm
from workbench.llm.answered import CachedLLM
from workbench.settings import plain
from workbench.steering import directions, pairs, probes
from workbench.steering.pairs import SHARED
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model

NULLS = 200
"""Random directions behind the null of the cosines."""


@dataclasses.dataclass(frozen=True)
class ProbeSettings:
    model: str = ""
    """Folder or hub id of the model, or `organism`; empty: the model of `sae`."""
    revision: str = ""
    """Revision of a hub model."""
    dtype: str = "float32"
    """Number format of the weights."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, ..."""
    sae: str = ""
    """Run of the SAE onto whose features the probes are projected; empty: none where a model is
    named, else the latest."""
    pairs: str = material.ORGANISM
    """Table of pairs (value, text, opposed, context as .csv, .tsv, .jsonl, .parquet), or
    `organism`."""
    n_pairs: Count = 100
    """Pairs a value that the organism writes [pairs]; a table is read whole."""
    llm: str = ""
    """Language model that writes the pairs instead: local:FOLDER-OR-HUB-ID, or
    https://host/v1#model."""
    scenarios: str = ""
    """File with one situation a line, for the pairs that a language model writes; `n_pairs` of
    them are used."""
    shared: Share = SHARED
    """Least share of content words that both texts of a pair have in common [0 to 1]."""
    min_accuracy: Share = 0.9
    """Held-out accuracy above which a layer is chosen for steering [0 to 1]."""
    skip_last: int = -1
    """Last layers that are never chosen [layers]; -1: 5, on models of fewer than 20 layers a
    quarter of them."""
    solver: probes.Solver = "lbfgs"
    """Optimiser of the logistic regression; saga as in the paper, lbfgs reaches the same minimum
    sooner."""
    top_features: CountOrZero = 20
    """SAE features listed of each direction."""
    rows: Count = 32
    """Texts in one forward pass [texts]."""
    seed: Seed = 0
    """Seed of the organism's pairs, the held-out split and the controls."""


def run(study: Workspace, config: ProbeSettings, progress: Progress) -> Run:
    """A run of kind `probes`."""
    sae_run = (
        study.resolve("sae", config.sae or "latest") if config.sae or not config.model else None
    )
    if sae_run and config.model and config.model != sae_run.config["model"]:
        raise BadInput(
            f"{sae_run.id} belongs to {sae_run.config['model']}, not to {config.model}. Name its"
            " SAE, or leave --sae out."
        )
    name = config.model or sae_run.config["model"]
    model = study.model_for(name, sae_run, config.revision, config.dtype, config.device)
    skip = config.skip_last if config.skip_last >= 0 else probes.skipped(model.n_layers)
    if skip >= model.n_layers:
        raise BadInput(
            f"The model has {model.n_layers} layers, --skip-last {skip} leaves none to choose."
            " Lower it."
        )
    made, unread, too_long = _pairs(study, config, progress)
    checked = pairs.check(made, config.shared)
    told = hashlib.sha256(repr([dataclasses.astuple(pair) for pair in made]).encode()).hexdigest()
    inputs = {"model": model.revision, "pairs": told} | ({"sae": sae_run.id} if sae_run else {})
    plainly = plain(
        dataclasses.replace(config, model=name, sae=sae_run.id if sae_run else "", skip_last=skip)
    )
    if sae_run:  # the SAE's run says how its model was loaded
        plainly |= {setting: sae_run.config[setting] for setting in ("revision", "dtype", "device")}
    if study.runs.exists(id := study.runs.find("probes", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("probes", plainly, inputs, config.seed) as work:
        kept = [pair for pair in checked if not pair.reason]
        values = [value for value in study.system.ids if any(pair.value == value for pair in kept)]
        for number, value in enumerate(values):
            if number not in work.done("probes"):
                _probe(
                    work,
                    model,
                    number,
                    [pair for pair in kept if pair.value == value],
                    config,
                    skip,
                )
            progress("probing", number + 1, len(values))
        found = work.parts("probes")
        arrays = _arrays(work, len(values))
        directions.save(work.folder, arrays)
        work.table("probes", found)
        work.table(
            "pairs",
            [
                {
                    "pair": number,
                    "value": p.value,
                    "held": p.held,
                    "opposed": p.opposed,
                    "context": p.context,
                    "kept": not p.reason,
                    "reason": p.reason,
                }
                for number, p in enumerate(checked)
            ],
        )
        work.table(
            "probe_features", _features(study, sae_run, values, arrays, config) if sae_run else []
        )
        rows = found.to_pandas()
        best = rows.groupby("value").accuracy.max()
        long = rows.groupby("value").length_auroc.first()
        by_length = {
            value: round(auroc, 3)
            for value, auroc in long.items()
            if max(auroc, 1 - auroc) >= probes.LENGTH
        }
        return work.finish(
            {
                "probed": values,
                "values": len(values),
                "layers": model.n_layers,
                "pairs": len(kept),
                "refused": len(checked) - len(kept),
                "unread": len(unread),
                "too_long": too_long,
                "median_best_accuracy": float(best.median()),
                "chosen_layers": int(rows.chosen.sum()),
                "values_without_layer": int((~rows.groupby("value").chosen.any()).sum()),
                "told_apart_by_length": (
                    ", ".join(f"{value} (AUROC {auroc:g})" for value, auroc in by_length.items())
                    or "none"
                ),
            }
        )


def _pairs(study: Workspace, config: ProbeSettings, progress: Progress) -> pairs.Written:
    """The pairs, unchecked, and what of a language model brought none."""
    if not config.llm:
        made = (
            pairs.of_organism(config.n_pairs, config.seed)
            if config.pairs == material.ORGANISM
            else pairs.read(config.pairs, study.system)
        )
        return pairs.Written(made, [], 0)
    if not config.scenarios:
        raise BadInput(
            "A language model writes pairs about situations. Give a file with one a line, as"
            " --scenarios."
        )
    llm = CachedLLM(open_llm(config.llm, study.model), study.folder / "answers.jsonl")
    about = material.sample(material.lines(config.scenarios), config.n_pairs, config.seed)
    written = pairs.by_llm(llm, study.system, study.system.ids, about, config.seed, progress)
    if not written.pairs:
        long = (
            f"; {written.too_long} requests are longer than it reads (shorten --scenarios)"
            if written.too_long
            else ""
        )
        raise BadInput(
            f"{llm.name} wrote no pair that could be read, in {len(written.unparsed)}"
            f" answers{long}. Choose a larger model."
        )
    return written


def _probe(
    work: Work, model: "Model", number: int, own: list[pairs.Pair], config: ProbeSettings, skip: int
) -> None:
    """Fit one value and keep its part: first the arrays, so that a part without arrays cannot
    be.
    """
    import pyarrow as pa
    from safetensors.numpy import save_file

    from sae_training.model.last_token import last_residuals

    ids = model.tokenize([pair.held for pair in own] + [pair.opposed for pair in own])
    layers = list(range(model.n_layers))
    residuals = last_residuals(model, ids, layers, config.rows).numpy()
    if not np.isfinite(residuals).all():
        raise BadInput(
            f"The model gives NaN on pairs of {own[0].value}. Load it with another --dtype."
        )
    held, opposed = residuals[: len(own)], residuals[len(own) :]
    lengths = [len(row) for row in ids]
    fitted = probes.fit(
        own[0].value,
        held,
        opposed,
        [pair.context for pair in own],
        layers,
        probes.length_auroc(lengths[: len(own)], lengths[len(own) :]),
        [layer < model.n_layers - skip for layer in layers],
        config.min_accuracy,
        config.solver,
        config.seed,
    )
    save_file(
        {"weight": fitted.weight, "bias": fitted.bias, "difference-of-means": fitted.means},
        work.state / f"{number:06d}.safetensors",
    )
    work.part(
        "probes",
        number,
        pa.Table.from_pylist([dataclasses.asdict(probe) for probe in fitted.probes]),
    )


def _arrays(work: Work, values: int) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    each = [load_file(work.state / f"{number:06d}.safetensors") for number in range(values)]
    return {name: np.stack([one[name] for one in each]) for name in each[0]}


def _features(
    study: Workspace,
    sae_run: Run,
    values: list[str],
    arrays: dict[str, np.ndarray],
    config: ProbeSettings,
) -> list[dict]:
    """Rows of `probe_features`: the decoder rows nearest to each value's directions at the SAE's
    site.
    """
    layer = sae_run.summary["layer"] - (sae_run.summary["point"] == "resid_pre")
    if layer < 0:
        return []  # the embedding is no layer's output, so nothing was probed there
    decoder = study.sae(sae_run).W_dec.double().cpu().numpy()
    length = np.linalg.norm(decoder, axis=1, keepdims=True)
    decoder = np.divide(decoder, length, out=np.zeros_like(decoder), where=length > 0)
    random = np.random.default_rng((config.seed, 2)).normal(size=(NULLS, decoder.shape[1]))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    null = float(np.quantile(np.abs(random @ decoder.T).max(1), 0.975))
    rows = []
    for number, value in enumerate(values):
        for kind, name in (("probe", "weight"), ("difference-of-means", "difference-of-means")):
            unit = arrays[name][number, layer] / np.linalg.norm(arrays[name][number, layer])
            cosine = decoder @ unit
            for rank, feature in enumerate(np.argsort(-np.abs(cosine))[: config.top_features]):
                rows.append(
                    {
                        "value": value,
                        "kind": kind,
                        "rank": rank,
                        "feature": int(feature),
                        "cosine": float(cosine[feature]),
                        "null_high": null,
                    }
                )
    return rows
