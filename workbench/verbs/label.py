"""Label the SAE's features by values, with evidence.

1. The value-labelled texts pass through the model and the SAE once; each feature keeps its largest
   activation a text.
2. The labeler compares texts with and without each value, or reads the features' strongest
   contexts, and writes one row a feature and value that competes: effect size with interval, p
   after multiplicity control, score on held-out texts (NaN where it reads none), accepted or not.
3. Where single features are weak there are groups of them, and directions of the residual, each
   with what it tells apart on held-out texts (`features/units.py`).
4. Accepted features are steered lightly, and the value's own items say how much each raises it: its
   output score (`output_scores.py`). It accepts nothing and rejects nothing; sweeps choose their
   features by it.

The labelers `human` and `consensus` repeat what runs of labels and people say: they read no text,
and their labels have no output scores.

The questionnaire's items never serve as labelled texts: labels and measurements stay independent.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

from feature_store.bounds import (
    Count,
    CountOfTexts,
    CountOrZero,
    KeptAs,
    Later,
    Plugin,
    Positive,
    Seed,
)
from feature_store.errors import Incompatible
from feature_store.progress import Progress, stage
from feature_store.records import Label, Run
from feature_store.work import Work
from workbench import material
from workbench.features import contexts, judgements, output_scores
from workbench.features.labelers import LABELERS, LabelledActivations, LabelNotes
from workbench.features.units import ValueUnits, group_rows, unit_rows, units_of
from workbench.llm import open_llm
from workbench.llm.cached import CachedLLM
from workbench.measuring.defaults import SweepAskingSettings, sweep_questions
from workbench.measuring.heard import resolved
from workbench.measuring.questionnaire import one_scale
from workbench.measuring.questions import Question, prompt_rows
from workbench.settings import contents, options
from workbench.steering import directions
from workbench.workspace import Workspace, site_of


@dataclasses.dataclass(frozen=True)
class LabelSettings(SweepAskingSettings):
    """Which texts label the features of which SAE, who decides, and what scores the labels."""

    sae: str = "latest"
    """Run of the SAE."""
    labelled: str = ""
    """Value-labelled table (.csv, .tsv, .jsonl, .parquet), `poles` or `situations` (built-in
    texts that hold or reject a value: short, or about everyday topics), or `organism`; empty: the
    organism's own on that model, `situations` on others."""
    labels: str = ""
    """Second table with the marks, joined by the columns that both have."""
    text_column: Annotated[str, KeptAs("text")] = "text"
    """Column with the text, or with conversations."""
    scale: Annotated[str, Later()] = ""
    """Smallest and largest mark of the table, as 0-2 or 1-5; a text holds a value from half of
    the way on. Empty: marks are 1, 0.5, 0, -0.5, -1."""
    context: str = ""
    """Column within which texts are compared, such as a topic; without it a topic that goes with
    a value is mistaken for it."""
    ignore: tuple[str, ...] = ()
    """Columns of marks that are no value of this system."""
    limit: CountOfTexts = 0
    """At most this many texts, sampled [texts]; 0: all (12,000 of the organism's)."""
    labeler: Annotated[str, Plugin("labelers")] = "contrast"
    """Plug-in that decides."""
    options: tuple[str, ...] = ()
    """The plug-in's own settings, as key=value."""
    max_tokens: Count = 256
    """Longer texts are read in pieces of this length [tokens]."""
    rows: Count = 128
    """Texts in one forward pass [texts]."""
    instrument: Annotated[str, Plugin("instruments")] = "standin"
    """Instrument plug-in behind the output scores."""
    wordings: tuple[str, ...] = ()
    """Its wordings; none: the first of those made for the model."""
    contexts: str = ""
    """File with one context a line, of which sweeps should use the same; empty: those made for
    the model."""
    n_contexts: CountOrZero = 6
    """Contexts of the output scores, others than those of a sweep with the same seed; 0: no
    output scores."""
    dose: Positive = 0.2
    """Light strength at which features are steered for them [share of the median residual norm]."""
    scored_per_value: Count = 40
    """Features of each value that get an output score, the most specific first."""
    seed: Seed = 0
    """Seed of the sample, of the held-out split and of the output scores' contexts and random
    directions."""


def run(study: Workspace, settings: LabelSettings, progress: Progress) -> Run:
    """Make a run of kind `labels`."""
    sae_run = study.resolve("sae", settings.sae)
    labeler = LABELERS[settings.labeler]
    options_of_labeler: Any = options(labeler.config, settings.options)
    if getattr(labeler, "judges", False):
        return _judge(study, settings, sae_run, options_of_labeler)
    settings = _with_texts(settings, sae_run)
    # What texts and marks alone decide (too few texts) is refused before the model is needed.
    labelled = _labelled_texts(study, settings, sae_run)
    silent_sae = _without_features(labelled)
    labeler.label(silent_sae, study.system, options_of_labeler)
    units_of(silent_sae, np.zeros((len(labelled.texts), 1)), study.system, settings.seed)
    settings = _with_mode(study, settings, sae_run, progress)
    questions = _questions(study, settings, sae_run)
    pinned = dataclasses.replace(settings, sae=sae_run.id)
    inputs = {
        "sae": sae_run.id,
        "labelled": _digest(labelled, questions),
        **_labeler_inputs(options_of_labeler, getattr(labeler, "inputs", {})),
    }

    def build(work: Work) -> dict[str, Any]:
        """Label the features, score the labels' outputs and write the tables."""
        from sae_training.engine.generate import prompt_ids

        # A question that is too long is refused before the texts are read.
        prompt_ids(study.model_of(sae_run), [question.prompt for question in questions])
        active, residuals = _read(study, sae_run, labelled, settings, progress)
        progress("labelling", 0, 1)
        labels = labeler.label(active, study.system, options_of_labeler)
        units = units_of(active, residuals, study.system, settings.seed)
        progress("labelling", 1, 1)
        _write_labels(work, labels, active.notes)
        told_apart = _write_units(work, units)
        scores: list[dict[str, Any]] = []
        if questions:
            design = output_scores.OutputDesign(
                instrument=one_scale(settings.instrument, study.system),
                questions=questions,
                labels=output_scores.candidates(labels, settings.scored_per_value),
                dose=settings.dose,
                seed=settings.seed,
            )
            if design.labels:
                scores = output_scores.measure(work, study, sae_run, design, progress)
        work.table("output_scores", scores, sort=("feature", "value"))
        work.table("prompts", prompt_rows(questions), sort=("context", "wording", "order"))
        return {
            "texts": len(labelled.texts),
            **material.reading(labelled.account),
            **_figures(labels, scores),
            **active.notes.figures,
            **_unit_figures(told_apart),
            "output_contexts": len({question.context for question in questions}),
        }

    return study.make("labels", pinned, inputs, build)


def _write_units(work: Work, units: ValueUnits) -> list[dict[str, Any]]:
    """Write groups of features and directions; give the rows of both."""
    rows = unit_rows(units)
    work.table("value_units", rows, sort=("unit", "part", "value", "polarity"))
    work.table("group_features", group_rows(units))
    directions.save(work.folder, {"pole": units.poles, "topic": units.topics})
    return rows


def _write_labels(work: Work, labels: Sequence[Label], notes: LabelNotes) -> None:
    """Write the labels, and explanations where the labeler made some."""
    work.table("labels", labels, sort=("feature", "value"))
    if notes.explanations:
        work.table("explanations", notes.explanations, sort=("feature", "part"))


def _open_model(study: Workspace, address: str) -> CachedLLM:
    """Open a language model whose answers the study keeps."""
    return CachedLLM(open_llm(address, study.model), study.folder / "answers.jsonl")


def _judge(study: Workspace, settings: LabelSettings, sae_run: Run, options_of_labeler: Any) -> Run:
    """Make a run of labels that repeats what runs and people say: no text is read, none scored."""
    judged = judgements.read(study.store, sae_run.id)
    no_texts = LabelledActivations(
        activations=csr_matrix((0, 0)),
        values=np.zeros((0, len(study.system.ids))),
        contexts=np.zeros(0, str),
        judged=lambda: judged,
    )
    labels = LABELERS[settings.labeler].label(no_texts, study.system, options_of_labeler)
    pinned = dataclasses.replace(
        settings, sae=sae_run.id, labelled="", labels="", n_contexts=0, mode="logprob"
    )
    inputs = {
        "sae": sae_run.id,
        "judgements": judged.digest,
        **{f"labels_{number}": run for number, run in enumerate(sorted(judged.labelers))},
        **_labeler_inputs(options_of_labeler),
    }

    def build(work: Work) -> dict[str, Any]:
        """Write the labels; the other relations of such a run are empty."""
        work.table("labels", labels, sort=("feature", "value"))
        for relation in ("value_units", "group_features", "output_scores", "prompts"):
            work.table(relation, [])
        return {
            **_figures(labels, []),
            "runs": len(judged.labelers),
            "verdicts": len(judged.verdicts),
        }

    return study.make("labels", pinned, inputs, build)


def _labeler_inputs(
    options_of_labeler: Any, versions: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Sum up what decides a labeler's labels: role -> checksum.

    They are its limits, the defaults as well, the files and folders that its settings name, and the
    `versions` that it names itself.
    """
    inputs = {"labeler": hashlib.sha256(repr(options_of_labeler).encode()).hexdigest()}
    named = dataclasses.asdict(options_of_labeler).items()
    files = contents([f"{name}={value}" for name, value in named if isinstance(value, str)])
    if files:
        inputs["files"] = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
    return inputs | dict(versions)


def _with_texts(settings: LabelSettings, sae_run: Run) -> LabelSettings:
    """Name the labelled texts that suit the model, where none are named."""
    source = settings.labelled or material.labelled_source(sae_run.config["model"])
    return dataclasses.replace(settings, labelled=source)


def _with_mode(
    study: Workspace, settings: LabelSettings, sae_run: Run, progress: Progress
) -> LabelSettings:
    """Resolve the mode `auto`; where nothing is asked, without trying the model."""
    if not settings.n_contexts:
        return dataclasses.replace(settings, mode="logprob")
    return resolved(study, settings, sae_run.config, progress)


def _labelled_texts(
    study: Workspace, settings: LabelSettings, sae_run: Run
) -> material.LabelledDocuments:
    """Read the value-labelled table that the settings name."""
    source = material.LabelledSource(
        texts=settings.labelled,
        marks=settings.labels,
        text_column=settings.text_column,
        context_column=settings.context,
        ignored_columns=settings.ignore,
        scale=settings.scale,
    )
    model = None if source.texts == material.ORGANISM else study.model_of(sae_run)
    return material.labelled(source, study.system, settings.limit, settings.seed, model)


def _digest(labelled: material.LabelledDocuments, questions: Sequence[Question]) -> str:
    """Give a checksum of the labelled texts and of what is asked (SHA-256)."""
    prompts = [q.identity for q in questions]
    # Whole marks are digested as whole numbers, as they were before there were halves.
    marks = labelled.values
    if not (marks % 1).any():
        marks = marks.astype(np.int8)
    content = (labelled.texts, marks.tolist(), labelled.contexts.tolist(), prompts)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _without_features(labelled: material.LabelledDocuments) -> LabelledActivations:
    """Give the labelled texts as an SAE without features would read them."""
    none = csr_matrix((len(labelled.texts), 0))
    return LabelledActivations(
        activations=none,
        values=labelled.values,
        contexts=labelled.contexts,
        pairs=labelled.pairs,
    )


def _read(
    study: Workspace,
    sae_run: Run,
    labelled: material.LabelledDocuments,
    settings: LabelSettings,
    progress: Progress,
) -> tuple[LabelledActivations, Float[np.ndarray, "text d_model"]]:
    """Read the labelled texts through model and SAE: each feature's largest activation a text, and
    each text's mean residual.
    """
    from sae_training.dictionary.harvest import pooled
    from sae_training.dictionary.texts import Corpus

    model = study.model_of(sae_run)
    seen = pooled(
        model,
        study.sae(sae_run),
        Corpus(labelled.texts, settings.rows, min(settings.max_tokens, model.context)),
        site_of(sae_run),
        stage(progress, "reading labelled texts"),
        start=len(model.tokenize([labelled.before])[0]) if labelled.before else 0,
    )
    active = LabelledActivations(
        activations=seen.activations,
        values=labelled.values,
        contexts=labelled.contexts,
        pairs=labelled.pairs,
        strongest=partial(contexts.read, study.store, sae_run.id),
        open_model=partial(_open_model, study),
    )
    return active, seen.residuals


def _unit_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count the values that have an accepted group, or direction, of each part."""
    return {
        f"{unit}s_{part}": len(
            {r["value"] for r in rows if r["accepted"] and (r["unit"], r["part"]) == (unit, part)}
        )
        for unit in ("group", "direction")
        for part in ("pole", "topic")
    }


def _figures(labels: Sequence[Label], scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the run's figures on labels and their output scores; NaN where there is none."""
    accepted = [label for label in labels if label.accepted]
    held_out = [label.score for label in accepted if not math.isnan(label.score)]
    outputs = [row["output"] for row in scores]
    raising = [row for row in scores if row["low"] > 0 and row["output"] > row["null_high"]]
    return {
        "features_labelled": len({label.feature for label in accepted}),
        "values_labelled": len({label.value for label in accepted}),
        "median_held_out_score": float(np.median(held_out)) if held_out else float("nan"),
        "output_scores": len(scores),
        "median_output_score": float(np.nanmedian(outputs)) if outputs else float("nan"),
        "raise_their_value": len(raising),
    }


def _questions(study: Workspace, settings: LabelSettings, sae_run: Run) -> list[Question]:
    """Write the questions behind the output scores.

    There are none where no contexts are wanted, or where the instrument measures other values than
    the study's: a sweep of this study could not use it either.
    """
    if settings.n_contexts == 0:
        return []
    try:
        one_scale(settings.instrument, study.system)
    except Incompatible:
        return []
    # The column is that of the labelled texts, not of a table of contexts.
    asking = dataclasses.replace(settings, text_column="")
    return sweep_questions(study, sae_run.config["model"], asking, held=True)
