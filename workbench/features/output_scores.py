"""Output scores: how much a light steering along a feature raises the answers of the value it is
labelled with.

A feature that fires where a value is held (its *input scores*: held-out AUROC and specificity) need
not move the value when it is steered. Arad, Mueller and Belinkov (EMNLP 2025, "SAEs are good for
steering, if you select the right features") tell the two apart and choose by the output score: rank
times probability of the feature's logit-lens tokens under one intervention on one neutral prompt. A
value has no token, and the tokens of a feature in an early layer say little, so here the output is
the answer to the value's own items:

1. `candidates`: the accepted labels, at most so many a value, the most specific first.
2. Each is steered by `add` at one light dose, turned by its polarity, and the instrument is asked
   in a few contexts of its own. Random directions of the same length stand beside them.
3. Output: change of the labelled value's rating, mean over contexts, with its interval. `null_high`
   is the 97.5 % quantile over random directions of the largest size of that value's change: below
   it, a feature does no more than a random direction.
4. `beside`: root mean square of the other values' changes. It is shown and never chosen by:
   features chosen for small side effects would make the matrix of side effects, and the graph,
   smaller than they are.

A feature that was chosen by a measurement looks better in that measurement than it is (winner's
curse). So the contexts differ from those in which a sweep with the same seed asks
(`material.held_contexts`); a sweep counts the questions that both asked.

Left out: other doses and methods; a feature that needs more than the light dose has a low score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float

from feature_store.progress import Progress, missing_chunks, stage
from feature_store.records import Instrument, Label, Run, Steering
from feature_store.work import Work
from workbench.measuring.questions import Question
from workbench.measuring.scored import ScoredQuestions
from workbench.statistics.intervals import bootstrap_mean
from workbench.steering.apply import edit_for
from workbench.workspace import Workspace, site_of

DIRECTIONS = 24
"""Random directions behind `null_high`."""
CHUNK = 48
"""Steerings between two checkpoints."""
REPLICATES = 1000
"""Bootstrap replicates behind an interval."""


@dataclass(frozen=True, kw_only=True)
class OutputDesign:
    """What output scores are measured with."""

    instrument: Instrument
    """Instrument that is asked: single items on one scale."""
    questions: Sequence[Question]
    """Its questions, in contexts that no sweep measures in."""
    labels: Sequence[Label]
    """Labels whose features are steered."""
    dose: float
    """Light strength of the steering [share of the median residual norm]."""
    seed: int
    """Seed of the random directions and of the bootstrap."""

    @property
    def values(self) -> tuple[str, ...]:
        """Ids of the values that are asked about, in the order of the questions."""
        return tuple(dict.fromkeys(q.item.value for q in self.questions))

    @property
    def steerings(self) -> list[Steering]:
        """One steering a label, turned by its polarity, then the random directions."""
        features = [
            Steering(features=((label.feature, float(label.polarity)),), strength=self.dose)
            for label in self.labels
        ]
        directions = [
            Steering(random=self.seed * 100_000 + 50_000 + number, strength=self.dose)
            for number in range(DIRECTIONS)
        ]
        return features + directions


def candidates(labels: Sequence[Label], per_value: int) -> list[Label]:
    """Choose the labels that are measured: each value's most specific accepted ones.

    Of a labeler that reads no marked texts, those with the largest effect.
    """
    ranked = sorted(
        (label for label in labels if label.accepted),
        key=_specific_first,
    )
    by_value: dict[str, list[Label]] = {}
    for label in ranked:
        by_value.setdefault(label.value, []).append(label)
    chosen = [label for of_value in by_value.values() for label in of_value[:per_value]]
    return sorted(chosen, key=lambda label: (label.feature, label.value))


def _specific_first(label: Label) -> tuple[float, float, int]:
    """Order labels: gain and score, where they are known, else the effect; then the feature."""
    if math.isnan(label.score):
        return (0.0, -label.effect, label.feature)
    return (-label.gain, -label.score, label.feature)


def measure(
    work: Work, study: Workspace, sae_run: Run, design: OutputDesign, progress: Progress
) -> list[dict[str, Any]]:
    """Steer each label's feature lightly and give the rows of `output_scores`, one a label.

    Chunks that an interrupted call finished are not measured again.
    """
    import torch

    from sae_training.engine import scoring

    model, values, steerings = study.model_of(sae_run), design.values, design.steerings
    edit = edit_for(study, sae_run, steerings)
    scored = ScoredQuestions.of(design.questions, model)
    site, total = site_of(sae_run), len(steerings)
    done, shown = work.done("output_changes"), stage(progress, "scoring outputs")
    for number, rows, chunk_shown in missing_chunks(done, total, CHUNK, shown):
        part = edit.take(torch.tensor(rows))
        scores = scoring.sweep(model, scored.prompts, scored.options, part, site, chunk_shown)
        base, ratings = (scored.ratings(side.double().numpy()) for side in scores)
        changes = by_context(ratings - base, design.questions, values)
        flat = changes.reshape(len(rows), -1)
        table = pa.table({"steering": np.array(rows, np.int32), "change": list(flat)})
        work.part("output_changes", number, table)
    stored = np.stack(work.parts("output_changes")["change"].to_pylist())
    changes = stored.reshape(total, -1, len(values))
    return rows_of(changes, values, design.labels, design.dose, design.seed)


def by_context(
    changes: Float[np.ndarray, "steering question"],
    questions: Sequence[Question],
    values: Sequence[str],
) -> Float[np.ndarray, "steering context value"]:
    """Average the changes of every value in every context [rating points].

    Its items, wordings and orders weigh alike.
    """
    cell = np.array([q.context * len(values) + values.index(q.item.value) for q in questions])
    count = np.bincount(cell)
    sums = np.stack([np.bincount(cell, row, minlength=len(count)) for row in changes])
    return (sums / count).reshape(len(changes), -1, len(values))


def rows_of(
    changes: Float[np.ndarray, "steering context value"],
    values: Sequence[str],
    labels: Sequence[Label],
    dose: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Give the rows of `output_scores`; NaN where the model gave NaN.

    `changes` are those of the labels, in their order, then those of the random directions.
    """
    null = np.quantile(np.abs(changes[len(labels) :].mean(1)), 0.975, axis=0)
    rows = []
    for label, change in zip(labels, changes, strict=False):
        column = values.index(label.value)
        interval = bootstrap_mean(change[:, [column]], REPLICATES, seed)
        mean = change.mean(0)
        rows.append(
            {
                "feature": label.feature,
                "value": label.value,
                "polarity": label.polarity,
                "output": float(mean[column]),
                "low": float(interval.low[0]),
                "high": float(interval.high[0]),
                "beside": float(np.sqrt((np.delete(mean, column) ** 2).mean())),
                "null_high": float(null[column]),
                "n": len(change),
                "dose": dose,
                "seed": seed,
            }
        )
    return rows


def questions_in_both(study: Workspace, label_run: str, questions: Sequence[Question]) -> int:
    """Count the questions that were asked when the output scores were measured as well."""
    prompts = study.store.sql(
        "SELECT DISTINCT prompt FROM prompts WHERE run = ?", [label_run]
    ).prompt
    return sum(q.prompt in set(prompts) for q in questions)


def with_outputs(study: Workspace, label_run: str) -> pd.DataFrame:
    """Read a run's labels with their output scores, NaN where none was measured.

    `sweep.choose_features` takes them.
    """
    return study.store.sql(
        "SELECT feature, value, polarity, part, gain, score, effect, accepted, output FROM labels"
        " LEFT JOIN"
        " (SELECT feature, value, polarity, output FROM output_scores WHERE run = $run) USING"
        " (feature, value, polarity) WHERE run = $run ORDER BY feature, value, polarity",
        {"run": label_run},
    )
