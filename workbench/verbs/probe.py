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

import hashlib
import warnings
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from feature_store.bounds import Count, CountOrZero, Seed, Share, TextColumn
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.work import Work
from workbench import material
from workbench.llm import open_llm
from workbench.llm.cached import CachedLLM
from workbench.settings import plain
from workbench.steering import directions, pairs, probes
from workbench.steering.pairs import SHARED, ValuePair
from workbench.steering.probes import FEWEST
from workbench.workspace import Workspace

if TYPE_CHECKING:  # torch is loaded when a model is, not when the flags are read
    from sae_training.engine.model import Model

NULLS = 200
"""Random directions behind the null of the cosines."""


@dataclass(frozen=True)
class ProbeSettings:
    """Which model is probed, on which pairs of texts, and how."""

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
    pairs: str = ""
    """Table of pairs (value, text, opposed, context as .csv, .tsv, .jsonl, .parquet; ConVA's own:
    question_1, question_2, the value in the file's name), a folder of such tables; `situations`:
    built-in everyday texts; empty: the organism's own on that model, `situations` on others."""
    n_pairs: Count = 100
    """Pairs a value that the organism writes [pairs]; a table is read whole."""
    llm: str = ""
    """Language model that writes the pairs instead: local:FOLDER-OR-HUB-ID, or
    https://host/v1#model."""
    scenarios: str = ""
    """File with one situation a line, or a table, for the pairs that a language model writes;
    `n_pairs` of them are used."""
    text_column: TextColumn = ""
    """Column of the situations in a table; empty: `text`, or the only one."""
    shared: Share = SHARED
    """Least share of content words that both texts of a pair have in common [0 to 1]; pairs of a
    table below the default are warned of and kept, below any other share they are refused."""
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


def run(study: Workspace, settings: ProbeSettings, progress: Progress) -> Run:
    """Make a run of kind `probes`."""
    sae_run = _sae_run(study, settings)
    name = settings.model or (sae_run.config["model"] if sae_run else "")
    model = study.model_for(name, sae_run, settings.revision, settings.dtype, settings.device)
    skip = settings.skip_last if settings.skip_last >= 0 else probes.skipped(model.n_layers)
    if skip >= model.n_layers:
        raise BadInput(
            f"The model has {model.n_layers} layers, --skip-last {skip} leaves none to choose."
            " Lower it."
        )
    if not settings.llm:
        source = settings.pairs or material.labelled_source(name)
        settings = replace(settings, pairs=source)
    written = _pairs(study, settings, progress)
    settings, little = _least_shared(settings, written.pairs)
    checked = pairs.check(written.pairs, settings.shared)
    _refuse_few(checked)
    texts = repr([astuple(pair) for pair in written.pairs])
    inputs = {"model": model.pinned, "pairs": hashlib.sha256(texts.encode()).hexdigest()}
    pinned = replace(settings, model=name, sae=sae_run.id if sae_run else "", skip_last=skip)
    config = plain(pinned)
    if sae_run:
        inputs["sae"] = sae_run.id
        # The SAE's run says how its model was loaded.
        config |= {setting: sae_run.config[setting] for setting in ("revision", "dtype", "device")}
    job = _Job(
        settings=pinned,
        model=model,
        sae_run=sae_run,
        written=written,
        checked=checked,
        little=little,
    )
    return study.make("probes", config, inputs, partial(_build, study, job, progress))


def _refuse_few(checked: list[ValuePair]) -> None:
    """Raise BadInput for a value that has too few contexts, before any value is probed."""
    contexts: dict[str, set[str]] = {}
    for pair in checked:
        if not pair.reason:
            contexts.setdefault(pair.value, set()).add(pair.context)
    few = [f"{value} {len(names)}" for value, names in contexts.items() if len(names) < FEWEST]
    if few or not contexts:
        raise BadInput(
            f"A probe needs pairs in at least {FEWEST} contexts of each value, got"
            f" {', '.join(few) or 'none'}. Give more pairs, or leave these values out."
        )


@dataclass(frozen=True)
class _Job:
    """All that decides a run of probes."""

    settings: ProbeSettings
    """Settings, with model, SAE and number of skipped layers pinned."""
    model: "Model"
    """Live model that is probed."""
    sae_run: Run | None
    """Run of the SAE onto whose features the probes are projected; None for none."""
    written: pairs.WrittenPairs
    """Pairs as they were read or written."""
    checked: list[ValuePair]
    """The same pairs, with the reason of each refusal."""
    little: int
    """Pairs of a person's table that share few words and are believed nevertheless."""

    @property
    def pairs(self) -> list[ValuePair]:
        """Pairs that are not refused."""
        return [pair for pair in self.checked if not pair.reason]


def _build(study: Workspace, job: _Job, progress: Progress, work: Work) -> dict[str, Any]:
    """Write the run's tables and directions, and give its figures."""
    probed = {pair.value for pair in job.pairs}
    values = [value for value in study.system.ids if value in probed]
    for number, value in enumerate(values):
        if not _is_kept(work, number):
            _probe_value(work, job, number, value)
        progress("probing", number + 1, len(values))
    arrays = _arrays(work, len(values))
    directions.save(work.folder, arrays)
    table = work.parts("probes")
    work.table("probes", table)
    work.table("pairs", _pair_rows(job.checked))
    features = []
    if job.sae_run:
        features = _feature_rows(study, job.sae_run, values, arrays, job.settings)
    work.table("probe_features", features)
    return _summary(job, values, table)


def _summary(job: _Job, values: list[str], table: pa.Table) -> dict[str, Any]:
    """Give the run's figures from the relation `probes`."""
    rows = table.to_pandas()
    by_value = rows.groupby("value")
    warned = []
    for value, auroc in by_value.length_auroc.first().items():
        if max(auroc, 1 - auroc) >= probes.LENGTH:
            warned.append(f"{value} (AUROC {round(auroc, 3):g})")
    sharing = {"pairs_sharing_little": job.little} if job.little else {}
    return {
        **sharing,
        "probed": values,
        "values": len(values),
        "layers": job.model.n_layers,
        "pairs": len(job.pairs),
        "refused": len(job.checked) - len(job.pairs),
        "unread": len(job.written.unparsed),
        "too_long": job.written.too_long,
        "median_best_accuracy": float(by_value.accuracy.max().median()),
        "chosen_layers": int(rows.chosen.sum()),
        "values_without_layer": int((~by_value.chosen.any()).sum()),
        "told_apart_by_length": ", ".join(warned) or "none",
    }


def _sae_run(study: Workspace, settings: ProbeSettings) -> Run | None:
    """Find the SAE's run that the settings name, or the latest one where they name no model.

    Raises BadInput where the SAE reads another model than the one that is named.
    """
    if settings.model and not settings.sae:
        return None
    run = study.resolve("sae", settings.sae or "latest")
    if settings.model and settings.model != run.config["model"]:
        raise BadInput(
            f"{run.id} belongs to {run.config['model']}, not to {settings.model}. Name its"
            " SAE, or leave --sae out."
        )
    return run


def _least_shared(settings: ProbeSettings, written: list[ValuePair]) -> tuple[ProbeSettings, int]:
    """Give the settings with the share below which pairs are refused, and how many are below it
    and kept: those of a person's table, where no share was named.
    """
    built_in = settings.pairs in (material.ORGANISM, material.SITUATIONS)
    if settings.llm or built_in or settings.shared != SHARED:
        return settings, 0
    little = pairs.sharing_less(written, SHARED)
    if little:
        warnings.warn(
            f"{little} of {len(written)} pairs of {settings.pairs} share less than {SHARED:g} of"
            " their content words: a probe may learn what else differs. They are kept; a --shared"
            " other than the default refuses pairs below it.",
            stacklevel=2,
        )
    return replace(settings, shared=0.0), little


def _pairs(study: Workspace, settings: ProbeSettings, progress: Progress) -> pairs.WrittenPairs:
    """Read the pairs, or have them written; unchecked."""
    if not settings.llm:
        if settings.pairs == material.ORGANISM:
            texts = pairs.of_organism(settings.n_pairs, settings.seed)
        elif settings.pairs == material.SITUATIONS:
            texts = pairs.of_situations(study.system)
        else:
            texts = pairs.read(settings.pairs, study.system)
        return pairs.WrittenPairs(texts, [], 0)
    if not settings.scenarios:
        raise BadInput(
            "A language model writes pairs about situations. Give a file with one a line, as"
            " --scenarios."
        )
    llm = CachedLLM(open_llm(settings.llm, study.model), study.folder / "answers.jsonl")
    about = material.sample(
        material.lines(settings.scenarios, settings.text_column), settings.n_pairs, settings.seed
    )
    written = pairs.by_llm(llm, study.system, study.system.ids, about, settings.seed, progress)
    if not written.pairs:
        long = ""
        if written.too_long:
            long = f"; {written.too_long} requests are longer than it reads (shorten --scenarios)"
        raise BadInput(
            f"{llm.name} wrote no pair that could be read, in {len(written.unparsed)}"
            f" answers{long}. Choose a larger model."
        )
    return written


def _probe_value(work: Work, job: _Job, number: int, value: str) -> None:
    """Fit the probes of one value and keep them as part `number`.

    The arrays are written first, so that a part without arrays cannot be.
    """
    from safetensors.numpy import save_file

    texts = _residuals(job, value)
    layers = range(job.model.n_layers)
    last = job.model.n_layers - job.settings.skip_last
    options = probes.FitOptions(
        layers=layers,
        eligible=[layer < last for layer in layers],
        min_accuracy=job.settings.min_accuracy,
        solver=job.settings.solver,
        seed=job.settings.seed,
    )
    fitted = probes.fit(texts, options)
    save_file(
        {"weight": fitted.weight, "bias": fitted.bias, "difference-of-means": fitted.means},
        _arrays_file(work, number),
    )
    rows = [asdict(probe) for probe in fitted.probes]
    work.part("probes", number, pa.Table.from_pylist(rows))


def _residuals(job: _Job, value: str) -> probes.ProbeTexts:
    """Pass the texts of a value through the model, and read every layer at the last token."""
    from sae_training.model.last_token import last_residuals

    model = job.model
    members = [pair for pair in job.pairs if pair.value == value]
    n = len(members)
    ids = model.tokenize([pair.held for pair in members] + [pair.opposed for pair in members])
    residuals = last_residuals(model, ids, list(range(model.n_layers)), job.settings.rows).numpy()
    if not np.isfinite(residuals).all():
        raise BadInput(f"The model gives NaN on pairs of {value}. Load it with another --dtype.")
    lengths = [len(row) for row in ids]
    return probes.ProbeTexts(
        value=value,
        held=residuals[:n],
        opposed=residuals[n:],
        contexts=[pair.context for pair in members],
        length_auroc=probes.length_auroc(lengths[:n], lengths[n:]),
    )


def _arrays(work: Work, values: int) -> dict[str, np.ndarray]:
    """Stack the arrays of all values; the first axis is the value."""
    by_value = [_kept_arrays(work, number) for number in range(values)]
    return {name: np.stack([arrays[name] for arrays in by_value]) for name in by_value[0]}


def _arrays_file(work: Work, number: int) -> Path:
    """Say where the arrays of the value with that number are kept."""
    return work.state / f"{number:06d}.safetensors"


def _kept_arrays(work: Work, number: int) -> dict[str, np.ndarray]:
    """Read the arrays of a value."""
    from safetensors.numpy import load_file

    return load_file(_arrays_file(work, number))


def _is_kept(work: Work, number: int) -> bool:
    """Whether probes and arrays of a value are kept, and not torn by a loss of power."""
    from safetensors import SafetensorError

    if number not in work.done("probes"):
        return False
    try:
        _kept_arrays(work, number)
    except (SafetensorError, OSError):
        return False
    return True


def _pair_rows(checked: list[ValuePair]) -> list[dict[str, Any]]:
    """Give the rows of the relation `pairs`."""
    return [
        {
            "pair": number,
            "value": pair.value,
            "held": pair.held,
            "opposed": pair.opposed,
            "context": pair.context,
            "kept": not pair.reason,
            "reason": pair.reason,
        }
        for number, pair in enumerate(checked)
    ]


def _feature_rows(
    study: Workspace,
    sae_run: Run,
    values: list[str],
    arrays: dict[str, np.ndarray],
    settings: ProbeSettings,
) -> list[dict[str, Any]]:
    """Give the rows of the relation `probe_features`.

    They name the decoder rows nearest to each value's directions at the SAE's site.
    """
    layer = sae_run.summary["layer"] - (sae_run.summary["point"] == "resid_pre")
    if layer < 0:
        return []  # the embedding is not a layer's output, so nothing was probed there
    decoder = study.sae(sae_run).W_dec.double().cpu().numpy()
    length = np.linalg.norm(decoder, axis=1, keepdims=True)
    decoder = np.divide(decoder, length, out=np.zeros_like(decoder), where=length > 0)
    null = _largest_random_cosine(decoder, settings.seed)
    rows = []
    for number, value in enumerate(values):
        for kind, name in (("probe", "weight"), ("difference-of-means", "difference-of-means")):
            unit = arrays[name][number, layer] / np.linalg.norm(arrays[name][number, layer])
            cosine = decoder @ unit
            strongest = np.argsort(-np.abs(cosine))[: settings.top_features]
            for rank, feature in enumerate(strongest):
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


def _largest_random_cosine(decoder: np.ndarray, seed: int) -> float:
    """Give the 97.5 % quantile of a random direction's largest absolute cosine with the SAE's rows.

    `decoder` is [feat, d_model], each row of length 1; `NULLS` directions are drawn.
    """
    random = np.random.default_rng((seed, 2)).normal(size=(NULLS, decoder.shape[1]))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    return float(np.quantile(np.abs(random @ decoder.T).max(1), 0.975))
