"""Survey a model's layers: where values can be read, and where they can be written.

1. A sample of value-labelled texts passes through the model once, and every layer's mean residual
   of each text is kept.
2. Reading: at every layer a linear probe a value, tested on contexts that it has not seen
   (`statistics/readable.py`), beside permuted marks.
3. Writing: some layers, evenly spread, are steered lightly along each value's difference of means,
   at equal damage, and the questionnaire is asked (`sweeps/survey.py`), beside random directions.
4. The run advises a layer. `train` takes it where none is named.

A layer that is done is kept, so an interrupted survey goes on with the next. The contexts in which
is asked are those that choose (`material.held_contexts`): sweeps with the same seed measure in
others. In mode `voice` they are the open questions that sweeps ask too: two, which are kept for
choosing, are too few clusters.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_store.bounds import (
    MANY,
    Between,
    Count,
    CountOfTexts,
    CountOrZero,
    Permutations,
    Positive,
    Replicates,
    Seed,
)
from feature_store.errors import BadInput
from feature_store.progress import Progress, missing_chunks, stage, step
from feature_store.records import Run
from feature_store.work import Work
from sae_training.model import sites
from workbench import material
from workbench.measuring.defaults import SweepAskingSettings, sweep_questions
from workbench.measuring.heard import resolved
from workbench.measuring.questions import Question, prompt_rows
from workbench.settings import LocalModelSettings
from workbench.statistics import readable
from workbench.statistics.intervals import bootstrap_mean
from workbench.sweeps import survey
from workbench.sweeps.survey import ALL
from workbench.sweeps.sweep import SweepMaterial, neutral_tokens
from workbench.workspace import Workspace

if TYPE_CHECKING:  # torch is loaded when a model is, not when the flags are read
    from sae_training.engine.model import Model

RUNNING = "running the layers above each"
"""Stage of the writing, counted in what takes equal time: layers above a steered one."""
FEWEST = 20
"""Texts with a value, and without it, from which on the value is surveyed."""
TOPICS = 20
"""Contexts from which on a sample is one of whole contexts, so that each has texts to compare."""


@dataclasses.dataclass(frozen=True)
class SurveySettings(SweepAskingSettings, LocalModelSettings):
    """Which model is surveyed, on which texts, and how far it is steered."""

    model: str = material.ORGANISM
    """Folder or hub id of the model, or `organism`."""
    labelled: str = ""
    """Value-labelled table (.csv, .tsv, .jsonl, .parquet), `poles` or `situations` (built-in
    texts that hold or reject a value: short, or about everyday topics), or `organism`; empty: the
    organism's own on that model, `situations` on others."""
    labels: str = ""
    """Second table with the marks, joined by the columns that both have."""
    text_column: str = "text"
    """Column with the text, or with conversations."""
    scale: str = ""
    """Smallest and largest mark of the table, as 0-2 or 1-5; empty: 1, 0.5, 0, -0.5, -1."""
    context: str = ""
    """Column within which texts are compared, such as a topic; without it a topic that goes with
    a value is mistaken for it."""
    ignore: tuple[str, ...] = ()
    """Columns of marks that are no value of this system."""
    limit: CountOfTexts = 800
    """At most this many texts, sampled, whole contexts where there are many [texts]; 0: all."""
    layers: Annotated[tuple[int, ...], Between(0, MANY)] = ()
    """0-based layers that are surveyed; none: all of them."""
    n_written: CountOrZero = 8
    """At most so many of these layers, evenly spread, are steered; 0: none."""
    damage: Positive = 0.05
    """Damage at which layers are compared: rise of the loss on neutral text [nats per token]."""
    directions: Count = 12
    """Random directions steered at each layer."""
    neutral: str = ""
    """File or folder with neutral text; empty: that made for the model."""
    n_neutral: Count = 8
    """Neutral texts."""
    n_contexts: Annotated[int, Between(2, MANY)] = 6
    """Contexts in which is asked, the clusters of the intervals of what is written."""
    permutations: Permutations = 100
    """Permutations of the marks behind the null of what is read."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    rows: Count = 32
    """Texts in one forward pass [texts]."""
    seed: Seed = 0
    """Seed of the sample, the folds, the permutations, the contexts, the random directions and the
    bootstrap."""


@dataclasses.dataclass(frozen=True)
class _Job:
    """All that decides a survey."""

    settings: SurveySettings
    """Settings, with the layers pinned."""
    model: "Model"
    """The live model."""
    texts: material.LabelledDocuments
    """Sampled texts."""
    values: Sequence[str]
    """Ids of the values that have texts enough."""
    marks: np.ndarray
    """Whether a text holds a value [text value]."""
    questions: Sequence[Question]
    """What is asked under a steering."""
    neutral: Sequence[Sequence[int]]
    """Token ids of the neutral texts."""


def run(study: Workspace, settings: SurveySettings, progress: Progress) -> Run:
    """Make a run of kind `survey`."""
    source = settings.labelled or material.labelled_source(settings.model)
    settings = dataclasses.replace(settings, labelled=source)
    model = study.model(settings.model, settings.revision, settings.dtype, settings.device)
    layers = tuple(sorted(set(settings.layers))) or tuple(range(model.n_layers))
    for layer in layers:
        sites.check_layer(layer, model.n_layers)
    texts = _sample(_labelled(study, settings, model), settings)
    marks = texts.values > 0
    enough = (marks.sum(0) >= FEWEST) & ((~marks).sum(0) >= FEWEST)
    if not enough.any():
        raise BadInput(
            f"A survey needs {FEWEST} texts with a value and {FEWEST} without it, got at most"
            f" {marks.sum(0).max()} of {len(marks)}. Give more labelled texts, or a larger --limit."
        )
    # A model is tried last: what a person has mistyped costs nothing.
    settings = resolved(study, settings, vars(settings), progress)
    # The column is that of the labelled texts, not of a table of contexts.
    asking = dataclasses.replace(settings, text_column="")
    source = settings.neutral or material.default_source(settings.model)
    neutral = material.neutral(source, settings.n_neutral, settings.seed)
    job = _Job(
        settings=dataclasses.replace(settings, layers=layers),
        model=model,
        texts=texts,
        values=[value for value, kept in zip(study.system.ids, enough, strict=True) if kept],
        marks=marks[:, enough],
        questions=sweep_questions(study, settings.model, asking, held=settings.mode != "voice"),
        neutral=neutral_tokens(model, neutral),
    )
    put = SweepMaterial(job.questions, neutral).digest
    content = (texts.texts, texts.values.tolist(), texts.contexts.tolist(), put)
    inputs = {
        "model": model.pinned,
        "texts": hashlib.sha256(repr(content).encode()).hexdigest(),
    }
    return study.make("survey", job.settings, inputs, partial(_build, study, job, progress))


def first_lines(study: Workspace, run: Run) -> list[str]:
    """Say of every layer what is read and written there, for the terminal."""
    by_layer: dict[int, list[str]] = {}
    for row in study.store.sql(
        "SELECT * FROM survey_reading WHERE run = ? AND value = ? ORDER BY layer", [run.id, ALL]
    ).itertuples():
        by_layer[row.layer] = [
            f"layer {row.layer:>3}  read {row.auroc:.3f} [{row.low:.3f}, {row.high:.3f}], chance to"
            f" {row.null_high:.3f}"
        ]
    for row in study.store.sql(
        "SELECT * FROM survey_writing WHERE run = ? AND value = ? ORDER BY layer", [run.id, ALL]
    ).itertuples():
        by_layer[row.layer].append(
            f"written {row.effect:+.3f} [{row.low:+.3f}, {row.high:+.3f}], chance to"
            f" {row.null_high:.3f}, at {row.strength:.2g} of the norm, damage {row.damage:.3f}"
        )
    advice = f"advised: layer {run.summary['layer']}, {run.summary['reason']}."
    return ["  ".join(parts) for parts in by_layer.values()] + [advice]


def _labelled(
    study: Workspace, settings: SurveySettings, model: "Model"
) -> material.LabelledDocuments:
    """Read all of the value-labelled texts that the settings name."""
    source = material.LabelledSource(
        texts=settings.labelled,
        marks=settings.labels,
        text_column=settings.text_column,
        context_column=settings.context,
        ignored_columns=settings.ignore,
        scale=settings.scale,
    )
    written_by = None if source.texts == material.ORGANISM else model
    return material.labelled(source, study.system, 0, settings.seed, written_by)


def _sample(
    texts: material.LabelledDocuments, settings: SurveySettings
) -> material.LabelledDocuments:
    """Draw texts: whole contexts where enough of them are drawn, else single texts."""
    n, total = settings.limit, len(texts.texts)
    if not n or n >= total:
        return texts
    rng = np.random.default_rng(settings.seed)
    names, context, sizes = np.unique(texts.contexts, return_inverse=True, return_counts=True)
    drawn = rng.permutation(len(names))
    drawn = drawn[sizes[drawn].cumsum() <= n]
    rows = np.flatnonzero(np.isin(context, drawn))
    if len(drawn) < TOPICS:
        rows = np.sort(rng.permutation(total)[:n])
    return texts._replace(
        texts=[texts.texts[row] for row in rows],
        values=texts.values[rows],
        contexts=texts.contexts[rows],
        pairs=None if texts.pairs is None else texts.pairs[rows],
    )


def _build(study: Workspace, job: _Job, progress: Progress, work: Work) -> dict[str, Any]:
    """Read and write layer by layer, and give the run's figures."""
    means, norms = _means(work, job, progress)
    design = readable.design_of(job.texts.contexts, job.settings.seed)
    shuffled = readable.permuted(job.marks, design, job.settings.permutations, job.settings.seed)
    layers = job.settings.layers
    done, shown = work.done("survey_reading"), stage(progress, "reading layers")
    for number, _, _ in missing_chunks(done, len(layers), 1, shown):
        scores = readable.readable(means[:, number], job.marks, shuffled, design, job.settings.seed)
        rows = _reading_rows(layers[number], scores, job)
        work.part("survey_reading", number, pa.Table.from_pylist(rows))
    reading = work.parts("survey_reading")
    work.table("survey_reading", reading, sort=("layer", "value"))
    writing = _write_layers(study, work, job, (means, norms), progress)
    work.table("survey_writing", writing, sort=("layer", "value"))
    work.table("prompts", prompt_rows(job.questions), sort=("context", "wording", "order"))
    advice = survey.advised(reading.to_pandas(), pd.DataFrame(writing))
    return {
        "layer": advice.layer,
        "reason": advice.reason,
        "values": len(job.values),
        "left_out": ", ".join(v for v in study.system.ids if v not in job.values) or "none",
        "texts": len(job.marks),
        **material.reading(job.texts.account),
        "contexts": len(set(job.texts.contexts)),
        "layers_read": len(layers),
        "layers_written": len({row["layer"] for row in writing}),
        "damage": job.settings.damage,
    }


def _means(work: Work, job: _Job, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Read all layers' mean residuals and norms in one pass, or find them kept."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    from sae_training.model.layer_means import layer_means

    file = work.state / "means.safetensors"
    with contextlib.suppress(SafetensorError, OSError):
        kept = load_file(file)
        return kept["mean"], kept["norm"]
    ids = job.model.tokenize(job.texts.texts)
    before = job.texts.before
    residuals = layer_means(
        job.model,
        ids,
        job.settings.layers,
        job.settings.rows,
        stage(progress, "reading texts"),
        start=max(1, len(job.model.tokenize([before])[0]) if before else 1),
    )
    mean, norm = residuals.mean.numpy(), residuals.norm.numpy()
    if not np.isfinite(mean).all():
        raise BadInput("The model gives NaN on these texts. Load it with another --dtype.")
    save_file({"mean": mean, "norm": norm}, file)
    return mean, norm


def _reading_rows(layer: int, scores: readable.Readable, job: _Job) -> list[dict[str, Any]]:
    """Give the rows of `survey_reading` of a layer: each value's, then the mean's."""
    shared = {
        "layer": layer,
        "n": len(job.marks),
        "permutations": job.settings.permutations,
        "seed": job.settings.seed,
    }
    rows = [
        shared
        | {
            "value": value,
            "auroc": float(scores.auroc[k]),
            "low": float(scores.low[k]),
            "high": float(scores.high[k]),
            "held": int(job.marks[:, k].sum()),
        }
        | _chance(scores.null[:, k], scores.auroc[k])
        for k, value in enumerate(job.values)
    ]
    mean = np.nanmean(scores.auroc)
    over_values = bootstrap_mean(scores.auroc[:, None], job.settings.replicates, job.settings.seed)
    together = {
        "value": ALL,
        "auroc": float(mean),
        "low": float(np.nan_to_num(over_values.low[0], nan=mean)),
        "high": float(np.nan_to_num(over_values.high[0], nan=mean)),
        "held": len(job.values),
    }
    return [*rows, shared | together | _chance(np.nanmean(scores.null, axis=1), float(mean))]


def _chance(null: np.ndarray, auroc: float) -> dict[str, float]:
    """Give the upper end of a permutation null, and the share of it that is as large."""
    return {
        "null_high": float(np.nanquantile(null, 0.975)),
        "p": float((1 + (null >= auroc).sum()) / (1 + len(null))),
    }


def _write_layers(
    study: Workspace,
    work: Work,
    job: _Job,
    read: tuple[np.ndarray, np.ndarray],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Steer some layers, evenly spread, and give the rows of `survey_writing`."""
    means, norms = read
    spread = np.linspace(0, len(job.settings.layers) - 1, job.settings.n_written)
    numbers = sorted({int(place) for place in spread.round()})
    asked = {question.item.value for question in job.questions}
    steered = [k for k, value in enumerate(job.values) if value in asked]
    design = survey.WritingDesign(
        model=job.model,
        values=[job.values[k] for k in steered],
        questions=job.questions,
        neutral=job.neutral,
        damage=job.settings.damage,
        directions=job.settings.directions,
        replicates=job.settings.replicates,
        seed=job.settings.seed,
    )
    places = range(len(numbers) if steered else 0)
    layers = [job.settings.layers[numbers[place]] for place in places]
    # What is steered at a layer runs through all layers above it.
    costs = [job.model.n_layers - layer for layer in layers]
    kept = work.done("survey_writing")
    done, shown = sum(costs[place] for place in places if place in kept), stage(progress, RUNNING)
    shown(done, sum(costs))
    for place in [place for place in places if place not in kept]:
        directions = survey.value_directions(
            means[:, numbers[place]], job.marks[:, steered], job.texts.contexts
        )
        site = survey.LayerSite(layers[place], float(norms[numbers[place]]), directions)
        written = survey.write(site, design, step(shown, done, costs[place], sum(costs)))
        work.part("survey_writing", place, pa.Table.from_pylist(written))
        done += costs[place]
        shown(done, sum(costs))
    return [row for place in places for row in work.kept("survey_writing", place).to_pylist()]
