"""Label the SAE's features by values, with evidence.

1. The value-labelled texts pass through the model and the SAE once; each feature keeps its largest
   activation a text.
2. The labeler compares texts with and without each value and writes one row a feature and value
   that competes: effect size with interval, p after multiplicity control, score on held-out texts,
   accepted or not.
3. Accepted features are steered lightly, and the value's own items say how much each raises it: its
   output score (`output_scores.py`). It accepts nothing and rejects nothing; sweeps choose their
   features by it.

The questionnaire's items never serve as labelled texts: labels and measurements stay independent.
"""

import dataclasses
import hashlib
from typing import Annotated

import numpy as np

from feature_store import registry
from feature_store.bounds import Count, CountOfTexts, CountOrZero, Plugin, Positive, Seed
from feature_store.errors import Incompatible
from feature_store.progress import Progress
from feature_store.records import Run
from workbench import material
from workbench.features import output_scores
from workbench.features.labelers import LabelledActivations
from workbench.measuring.defaults import SweepAskingSettings, sweep_questions
from workbench.measuring.questionnaire import one_scale
from workbench.measuring.questions import Question, prompt_rows
from workbench.settings import options, plain
from workbench.workspace import Workspace, site_of


@dataclasses.dataclass(frozen=True)
class LabelSettings(SweepAskingSettings):
    """Which texts label the features of which SAE, who decides, and what scores the labels."""

    sae: str = "latest"
    """Run of the SAE."""
    labelled: str = material.ORGANISM
    """Value-labelled table (.csv, .tsv, .jsonl, .parquet), or `organism`."""
    labels: str = ""
    """Second table with the marks, joined by the columns that both have."""
    text: str = "text"
    """Column with the text."""
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


def run(study: Workspace, config: LabelSettings, progress: Progress) -> Run:
    """A run of kind `labels`."""
    from sae_training.dictionary.harvest import pooled_activations
    from sae_training.dictionary.texts import Corpus

    sae_run = study.resolve("sae", config.sae)
    labeler = registry.get("labelers", config.labeler)
    settings = options(labeler.config, config.options)
    data = material.labelled(
        material.LabelledSource(
            texts=config.labelled,
            marks=config.labels,
            text_column=config.text,
            context_column=config.context,
            ignored_columns=config.ignore,
        ),
        study.system,
        config.limit,
        config.seed,
    )
    asked = _asked(study, config, sae_run)
    told = hashlib.sha256(
        repr(
            (data.texts, data.values.tolist(), data.contexts.tolist(), [q.prompt for q in asked])
        ).encode()
    ).hexdigest()
    inputs = {"sae": sae_run.id, "labelled": told}
    plainly = plain(dataclasses.replace(config, sae=sae_run.id))
    if study.runs.exists(id := study.runs.find("labels", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("labels", plainly, inputs, config.seed) as work:
        model, sae = study.model_of(sae_run), study.sae(sae_run)
        context = min(config.max_tokens, model.context)
        pooled = pooled_activations(
            model,
            sae,
            Corpus(data.texts, config.rows, context),
            site_of(sae_run),
            lambda done, total: progress("reading labelled texts", done, total),
        )
        progress("labelling", 0, 1)
        labels = labeler.label(
            LabelledActivations(pooled, data.values, data.contexts), study.system, settings
        )
        progress("labelling", 1, 1)
        accepted = [label for label in labels if label.accepted]
        work.table("labels", labels, sort=("feature", "value"))
        scored = output_scores.candidates(labels, config.scored_per_value) if asked else []
        instrument = one_scale(config.instrument, study.system)
        rows = (
            output_scores.measure(
                work, study, sae_run, instrument, asked, scored, config.dose, config.seed, progress
            )
            if scored
            else []
        )
        work.table("output_scores", rows, sort=("feature", "value"))
        work.table("prompts", prompt_rows(asked), sort=("context", "wording", "order"))
        return work.finish(
            {
                "texts": len(data.texts),
                "features_labelled": len({label.feature for label in accepted}),
                "values_labelled": len({label.value for label in accepted}),
                "median_held_out_score": (
                    float(np.median([label.score for label in accepted]))
                    if accepted
                    else float("nan")
                ),
                "output_scores": len(rows),
                "median_output_score": (
                    float(np.nanmedian([row["output"] for row in rows])) if rows else float("nan")
                ),
                "raise_their_value": sum(
                    row["low"] > 0 and row["output"] > row["null_high"] for row in rows
                ),
                "output_contexts": config.n_contexts if asked else 0,
            }
        )


def _asked(study: Workspace, config: LabelSettings, sae_run: Run) -> list[Question]:
    """The questions behind the output scores; none where none are wanted, or where the
    instrument measures other values than the study's.
    """
    name = sae_run.config["model"]
    if config.n_contexts == 0:
        return []
    try:
        one_scale(config.instrument, study.system)
    except (
        Incompatible
    ):  # an instrument of other values; a sweep of this study could not use it either
        return []
    return sweep_questions(study, name, config, held=True)
