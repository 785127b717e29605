"""An SAE's features as Neuronpedia imports them: its folder of JSON lines.

1. `release`, `model`, `sourceset` and `source.jsonl` say what the SAE is. Neuronpedia calls it
   MODEL/LAYER-SET; `layer` of a feature is that second part, `index` a number written as text.
2. `features/batch-N.jsonl.gz`: statistics and histogram of the harvest, promoted and suppressed
   tokens, logit histogram and nearest features of `describe`, the decoder row, and the features
   that are active together: `_pearson` is the correlation of their activations over the tokens that
   are kept, `_l1` the cosine of their decoder rows, as SAEDashboard fills them.
3. `activations/batch-N.jsonl.gz`: the top contexts. They have SAEDashboard's mark of the strongest
   (`binMin` and `binContains` -1); the store keeps no samples of the lower quantiles.
4. `explanations/batch-N.jsonl.gz`: the accepted labels in words, their figures in `notes`, and what
   others wrote (`borrow`), as they wrote it.
5. What the store does not hold is null, and one line says what and which command would make it.
   Ids and times follow from the runs, so the same study gives the same bytes.

The folder appears in one rename. Left out: users and votes; `creatorId` is Neuronpedia's to fill.
"""

import gzip
import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from feature_store import queries
from feature_store.errors import BadInput
from feature_store.files import shown
from feature_store.records import Run
from feature_store.registry import register
from sae_training.model import sites
from workbench.exchange import ExportSettings
from workbench.exchange.vectors import label_run_of
from workbench.exchange.writing import new_folder
from workbench.workspace import Workspace, site_of

if TYPE_CHECKING:
    from sae_training.dictionary.sae import SAE

BATCH = 1024
"""Features in one file [features]."""
CREATOR = "values-workbench"
"""Who made what is exported, until Neuronpedia says otherwise."""
DIGITS = 6
"""Digits of a correlation behind the point: a sum's last ones depend on the order of its terms."""
ALIGNED = 3
"""Residual dimensions that are named of a decoder row, the largest."""
NAME = re.compile(r"([A-Za-z0-9._-]{1,128})/([0-9]{1,4})-([A-Za-z0-9._-]{1,128})")
"""Neuronpedia's name of an SAE: model, layer and set."""


@dataclass(frozen=True, kw_only=True)
class _Identity:
    """What Neuronpedia calls an SAE."""

    model: str
    """`modelId`."""
    layer: int
    """0-based layer."""
    set: str
    """Name of the set of SAEs over the layers."""

    @property
    def source(self) -> str:
        """`layer` of a feature: `20-gemmascope-res-16k`."""
        return f"{self.layer}-{self.set}"


@dataclass(frozen=True, kw_only=True)
class _Material:
    """What an export is made of."""

    study: Workspace
    """The study."""
    sae_run: Run
    """Run of the SAE."""
    sae: "SAE | None"
    """Its weights; None of a published study."""
    descriptions: str
    """Run of `describe`; empty: there is none."""
    labels: Run | None
    """Run of labels."""
    identity: _Identity
    """What Neuronpedia calls the SAE."""

    @property
    def place(self) -> dict[str, str]:
        """What every feature, activation and explanation says of where it belongs."""
        return {"modelId": self.identity.model, "layer": self.identity.source}


@register("exports", "neuronpedia")
class NeuronpediaFolder:
    """Features, activations and explanations in Neuronpedia's folder format, for its importer."""

    reads = ("labels", "name")

    @staticmethod
    def write(study: Workspace, settings: ExportSettings, out: Path) -> None:
        """Write the folder."""
        material = _material(study, settings)
        with new_folder(out) as folder:
            for name, row in _headers(material).items():
                _write_lines(folder / f"{name}.jsonl", [row])
            count = int(material.sae_run.summary["n_features"])
            for number, first in enumerate(range(0, count, BATCH)):
                span = (first, min(first + BATCH, count) - 1)
                _write_batch(folder, "features", number, _features(material, *span))
                _write_batch(folder, "activations", number, _activations(material, *span))
            explained = list(_explanations(material))
            for number, start in enumerate(range(0, len(explained), BATCH)):
                rows = explained[start : start + BATCH]
                _write_batch(folder, "explanations", number, rows)
        _warn_of_nulls(material, bool(explained))


def _material(study: Workspace, settings: ExportSettings) -> _Material:
    """Look up what is there."""
    sae_run = study.resolve("sae", settings.sae)
    described = study.store.sql(
        """
        SELECT run FROM runs WHERE kind = 'descriptions' AND inputs->>'sae' = ?
        ORDER BY created DESC, run LIMIT 1""",
        [sae_run.id],
    ).run
    sae = None if study.published else study.sae(sae_run)
    return _Material(
        study=study,
        sae_run=sae_run,
        sae=sae,
        descriptions=described.iloc[0] if len(described) else "",
        labels=label_run_of(study, sae_run, settings.labels),
        identity=_identity(sae_run, sae, settings.name),
    )


def _identity(sae_run: Run, sae: "SAE | None", name: str) -> _Identity:
    """Give Neuronpedia's name of an SAE: as set, as its configuration says, or made of its run.

    Raises BadInput for a name that is not one, or names another layer.
    """
    site = site_of(sae_run)
    known = str((sae.metadata.get("neuronpedia_id") if sae else None) or "")
    if not name and not NAME.fullmatch(known):
        model = sae_run.config["model"].rstrip("/").rpartition("/")[2]
        slug = re.sub(r"[^A-Za-z0-9._-]", "-", model) or "model"
        return _Identity(model=slug, layer=site.layer, set=CREATOR)
    match = NAME.fullmatch(name or known)
    if match is None:
        raise BadInput(
            f"--name is Neuronpedia's name of an SAE, MODEL/LAYER-SET such as"
            f" gemma-2-2b/20-gemmascope-res-16k; got {shown(name)}."
        )
    if int(match[2]) != site.layer:
        raise BadInput(
            f"{shown(name or known)} is of layer {match[2]}, {sae_run.id} reads layer {site.layer}."
            " Give --name with that layer."
        )
    return _Identity(model=match[1], layer=site.layer, set=match[3])


def _headers(material: _Material) -> dict[str, dict[str, Any]]:
    """Give the one row of each file that says what the SAE is."""
    identity, run = material.identity, material.sae_run
    metadata = material.sae.metadata if material.sae else {}
    made = {"creatorId": CREATOR, "createdAt": run.created}
    public = {"visibility": "PUBLIC"} | made
    return {
        "release": {
            "name": CREATOR,
            "description": f"Features of {identity.model}, described by the values workbench",
            "descriptionShort": CREATOR,
            "urls": [],
            "creatorName": CREATOR,
            "creatorNameShort": CREATOR,
            **public,
        },
        "model": {
            "id": identity.model,
            "displayName": identity.model,
            "displayNameShort": identity.model,
            "dimension": run.summary["d_model"],
            # Its importer takes no null here, and 0 for what is not known.
            "layers": material.study.model_of(run).n_layers if material.sae else 0,
            "neuronsPerLayer": 0,
            "instruct": False,
            "inferenceEnabled": False,
            "owner": "",
            "updatedAt": run.created,
            **public,
        },
        "sourceset": {
            "modelId": identity.model,
            "name": identity.set,
            "description": f"{run.summary['architecture']} SAE of {run.summary['n_features']}",
            "type": "",
            "creatorName": CREATOR,
            "urls": [],
            "releaseName": CREATOR,
            "hasDashboards": True,
            "showCorrelated": bool(material.descriptions),
            **public,
        },
        "source": {
            "id": identity.source,
            "modelId": identity.model,
            "setName": identity.set,
            "hasDashboards": True,
            "saelensRelease": metadata.get("release"),
            "saelensSaeId": metadata.get("sae_id"),
            "num_prompts": run.summary["documents"],
            "num_tokens_in_prompt": run.config["context"],
            "dataset": run.config["texts"] or None,
            "notes": json.dumps({"run": run.id, "tokens": run.summary["tokens"]}),
            **public,
        },
    }


def _features(material: _Material, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Give one row a feature, from `first` to `last`."""
    run, store, sae = material.sae_run, material.study.store, material.sae
    stored = queries.features_to_publish(store, run.id, material.descriptions, first, last)
    partners = _partners(material, first, last)
    hook = sites.saelens_name(site_of(run))
    is_umap = run.config["layout"] == "umap"
    for entry in stored:
        feature = int(entry["feature"])
        vector = None if sae is None else sae.W_dec[feature].float().cpu()
        indices, pearson, cosine = partners.get(feature, ([], [], []))
        described = bool(material.descriptions)
        yield {
            **material.place,
            "index": str(feature),
            "sourceSetName": material.identity.set,
            "creatorId": CREATOR,
            "createdAt": run.created,
            "maxActApprox": entry["max_activation"],
            "hasVector": vector is not None,
            "vector": None if vector is None else vector.tolist(),
            "vectorLabel": None,
            "vectorDefaultSteerStrength": entry["max_activation"],
            "hookName": hook,
            "topkCosSimIndices": entry["neighbours"],
            "topkCosSimValues": entry["cosines"],
            **_aligned(vector),
            "correlated_neurons_indices": None,
            "correlated_neurons_pearson": None,
            "correlated_neurons_l1": None,
            "correlated_features_indices": indices if described else None,
            "correlated_features_pearson": pearson if described else None,
            "correlated_features_l1": cosine if described and sae is not None else None,
            "neg_str": entry["suppressed"],
            "neg_values": entry["suppressed_logits"],
            "pos_str": entry["promoted"],
            "pos_values": entry["promoted_logits"],
            "frac_nonzero": entry["density"],
            "freq_hist_data_bar_heights": entry["bar_heights"] or [],
            "freq_hist_data_bar_values": entry["bar_values"] or [],
            "logits_hist_data_bar_heights": entry["bins"],
            "logits_hist_data_bar_values": _middles(entry),
            "decoder_weights_dist": None,
            "umap_x": entry["x"] if is_umap else None,
            "umap_y": entry["y"] if is_umap else None,
        }


def _middles(entry: Mapping[str, Any]) -> list[float] | None:
    """Give the middles of the bins of a feature's logits."""
    if entry["bins"] is None:
        return None
    count, low, high = len(entry["bins"]), entry["smallest"], entry["largest"]
    return [low + (high - low) * (number + 0.5) / count for number in range(count)]


def _aligned(vector: torch.Tensor | None) -> dict[str, list[Any] | None]:
    """Name the residual dimensions that a decoder row writes most.

    With each its weight, and that weight as a share of the row's absolute sum.
    """
    names = ("indices", "values", "l1")
    if vector is None:
        return dict.fromkeys((f"neuron_alignment_{name}" for name in names), None)
    top = vector.topk(min(ALIGNED, len(vector)))
    total = float(vector.abs().sum()) or 1.0
    lists = (top.indices.tolist(), top.values.tolist(), (top.values / total).tolist())
    return {f"neuron_alignment_{name}": part for name, part in zip(names, lists, strict=True)}


def _partners(
    material: _Material, first: int, last: int
) -> dict[int, tuple[list[int], list[float | None], list[float]]]:
    """Give each feature's partners, the correlations and the cosines of the decoder rows."""
    if not material.descriptions:
        return {}
    summary = material.sae_run.summary
    tokens = float(summary["tokens"]) * float(summary.get("activations_kept", 1.0))
    rows = queries.partner_correlations(
        material.study.store, material.sae_run.id, material.descriptions, tokens, first, last
    )
    partners = {}
    for feature, group in rows.groupby("feature"):
        others = group.partner.astype(int).tolist()
        pearson = [None if value != value else round(value, DIGITS) for value in group.pearson]
        cosine: list[float] = []
        if material.sae is not None:
            decoder = material.sae.W_dec
            pairs = decoder[int(feature)].expand(len(others), -1), decoder[others]
            cosine = torch.nn.functional.cosine_similarity(*pairs, dim=1).tolist()
        partners[int(feature)] = (others, pearson, cosine)
    return partners


def _activations(material: _Material, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Give one row a top context of the features from `first` to `last`."""
    run = material.sae_run
    for context in queries.contexts_to_publish(material.study.store, run.id, first, last):
        values = context["activations"]
        yield {
            "id": _id(run.id, "context", context["feature"], context["rank"]),
            **material.place,
            "index": str(context["feature"]),
            "tokens": context["tokens"],
            "values": values,
            "maxValue": values[context["peak"]],
            "maxValueTokenIndex": context["peak"],
            "minValue": min(values),
            "binMin": -1,
            "binMax": values[context["peak"]],
            "binContains": -1,
            "qualifyingTokenIndex": context["peak"],
            "dataIndex": str(context["document"]),
            "dataSource": run.config["texts"] or None,
            "dfaValues": [],
            "dfaTargetIndex": None,
            "dfaMaxValue": None,
            "lossValues": [],
            "logitContributions": None,
            "creatorId": CREATOR,
            "createdAt": run.created,
        }


def _explanations(material: _Material) -> Iterator[dict[str, Any]]:
    """Give one row an accepted label, and one an explanation of others.

    A label that was exported before and borrowed again is not written twice.
    """
    written = set()
    for row in _labels_in_words(material):
        written.add((row["index"], row["description"], row["notes"]))
        yield row
    borrowed = queries.borrowed_explanations(material.study.store, material.sae_run.id)
    for stated in borrowed.itertuples():
        if (str(stated.feature), stated.text, stated.notes) in written:
            continue
        yield {
            "id": _id(stated.run, stated.feature, stated.rank),
            **material.place,
            "index": str(stated.feature),
            "description": stated.text,
            "authorId": stated.author or CREATOR,
            "typeName": stated.method or None,
            "explanationModelName": stated.model or None,
            "notes": stated.notes or None,
            "createdAt": stated.created or None,
        }


def _labels_in_words(material: _Material) -> Iterator[dict[str, Any]]:
    """Give one row an accepted label, its figures as notes."""
    label_run = material.labels
    if label_run is None:
        return
    names = {value.id: value.name for value in material.study.system.values}
    for label in queries.labels_to_publish(material.study.store, label_run.id):
        name = names.get(label["value"], label["value"])
        yield {
            "id": _id(label_run.id, label),
            **material.place,
            "index": str(label.pop("feature")),
            "description": f"{name}{'' if label['polarity'] > 0 else ' (rejected)'}",
            "authorId": CREATOR,
            "typeName": f"{CREATOR}_{label['method']}",
            "explanationModelName": None,
            "notes": json.dumps(label),
            "createdAt": label_run.created,
        }


def _id(*parts: object) -> str:
    """Give an id that is the same whenever the same thing is exported."""
    return "vw" + hashlib.sha256(repr(parts).encode()).hexdigest()[:23]


def _write_batch(folder: Path, kind: str, number: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one compressed file of a batch, with no time in it."""
    (folder / kind).mkdir(exist_ok=True)
    file = folder / kind / f"batch-{number}.jsonl.gz"
    with file.open("wb") as raw, gzip.GzipFile("", "wb", 5, raw, mtime=0) as packed:
        for row in rows:
            packed.write(_line(row))


def _write_lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one file of JSON lines."""
    file.write_bytes(b"".join(map(_line, rows)))


def _line(row: Mapping[str, Any]) -> bytes:
    """Write one row; line separators and marks of direction stay data, escaped as JSON has it."""
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _warn_of_nulls(material: _Material, explained: bool) -> None:
    """Say in one line what is null, and which command would make it."""
    lacking = []
    if not material.descriptions:
        lacking.append(
            "tokens, logits, nearest and correlated features (`workbench describe` makes them)"
        )
    if not explained:
        lacking.append("explanations (`workbench label` or `workbench borrow` makes them)")
    if material.sae is None:
        lacking.append("vectors (a published study has no weights)")
    lacking.append("correlated neurons and samples of lower quantiles (no command makes them)")
    warnings.warn(f"the export lacks {'; '.join(lacking)}.", stacklevel=2)
