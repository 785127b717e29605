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

What is chosen by a measurement looks better in it than it is (winner's curse). The contexts are
therefore others than those that a sweep with the same seed asks (`material.held_contexts`); a sweep
counts the questions that both asked.

Left out: other doses and methods; a feature that needs more than the light dose has a low score.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float

from feature_store.progress import Progress
from feature_store.records import Instrument, Label, Run, Steering
from feature_store.runs import Work
from workbench.measuring.questions import Question, expected_ratings, option_texts
from workbench.statistics.intervals import bootstrap_mean
from workbench.steering.apply import edit_for
from workbench.workspace import Workspace, site_of

DIRECTIONS = 24
"""Random directions behind `null_high`."""
CHUNK = 48
"""Steerings between two checkpoints."""
REPLICATES = 1000
"""Bootstrap replicates behind an interval."""


def candidates(labels: Sequence[Label], per_value: int) -> list[Label]:
    """The accepted labels that are measured: each value's most specific ones on held-out texts."""
    ranked = sorted(
        (label for label in labels if label.accepted),
        key=lambda label: (-label.gain, -label.score, label.feature),
    )
    by_value: dict[str, list[Label]] = {}
    for label in ranked:
        by_value.setdefault(label.value, []).append(label)
    return sorted(
        (label for own in by_value.values() for label in own[:per_value]),
        key=lambda label: (label.feature, label.value),
    )


def measure(
    work: Work,
    study: Workspace,
    sae_run: Run,
    instrument: Instrument,
    asked: Sequence[Question],
    labels: Sequence[Label],
    dose: float,
    seed: int,
    progress: Progress,
) -> list[dict]:
    """Rows of `output_scores`, one a label.

    Chunks that an interrupted call kept are not measured again.
    """
    import torch

    from sae_training.engine import scoring

    steerings = [
        Steering(features=((label.feature, float(label.polarity)),), strength=dose)
        for label in labels
    ]
    steerings += [
        Steering(random=seed * 100_000 + 50_000 + number, strength=dose)
        for number in range(DIRECTIONS)
    ]
    model, values = study.model_of(sae_run), tuple(dict.fromkeys(q.item.value for q in asked))
    edit, prompts, options = (
        edit_for(study, sae_run, steerings),
        [q.prompt for q in asked],
        option_texts(instrument, model),
    )
    done, total = work.done("output_changes"), len(steerings)
    for number, start in enumerate(range(0, total, CHUNK)):
        rows = range(start, min(start + CHUNK, total))
        if number not in done:
            scores = scoring.sweep(
                model,
                prompts,
                options,
                edit.take(torch.tensor(rows)),
                site_of(sae_run),
            )
            base, ratings = (expected_ratings(x.double().numpy(), asked) for x in scores)
            flat = by_context(ratings - base, asked, values).reshape(len(rows), -1)
            work.part(
                "output_changes",
                number,
                pa.table({"steering": np.array(rows, np.int32), "change": list(flat)}),
            )
        progress("scoring outputs", rows[-1] + 1, total)
    changes = np.stack(work.parts("output_changes")["change"].to_pylist()).reshape(
        total, -1, len(values)
    )
    return rows_of(changes, values, labels, dose, seed)


def by_context(
    changes: Float[np.ndarray, "steering question"],
    asked: Sequence[Question],
    values: Sequence[str],
) -> Float[np.ndarray, "steering context value"]:
    """Mean change of every value in every context, its items, wordings and orders together
    [rating points].
    """
    cell = np.array([q.context * len(values) + values.index(q.item.value) for q in asked])
    count = np.bincount(cell)
    sums = np.stack([np.bincount(cell, row, minlength=len(count)) for row in changes])
    return (sums / count).reshape(len(changes), -1, len(values))


def rows_of(
    changes: Float[np.ndarray, "steering context value"],
    values: Sequence[str],
    labels: Sequence[Label],
    dose: float,
    seed: int,
) -> list[dict]:
    """Rows of `output_scores`; the steerings are those of the labels, then the random directions.

    NaN where the model gave NaN.
    """
    null = np.quantile(np.abs(changes[len(labels) :].mean(1)), 0.975, axis=0)
    rows = []
    for label, change in zip(labels, changes, strict=False):
        own = values.index(label.value)
        found, mean = bootstrap_mean(change[:, [own]], REPLICATES, seed), change.mean(0)
        rows.append(
            {
                "feature": label.feature,
                "value": label.value,
                "polarity": label.polarity,
                "output": float(mean[own]),
                "low": float(found.low[0]),
                "high": float(found.high[0]),
                "beside": float(np.sqrt((np.delete(mean, own) ** 2).mean())),
                "null_high": float(null[own]),
                "n": len(change),
                "dose": dose,
                "seed": seed,
            }
        )
    return rows


def questions_in_both(study: Workspace, label_run: str, asked: Sequence[Question]) -> int:
    """How many of the questions were asked when the output scores were measured [questions]."""
    prompts = study.store.sql(
        "SELECT DISTINCT prompt FROM prompts WHERE run = ?", [label_run]
    ).prompt
    return sum(q.prompt in set(prompts) for q in asked)


def with_outputs(study: Workspace, label_run: str) -> pd.DataFrame:
    """The labels of a run with their output scores, NaN where none was measured;
    `sweep.choose_features` takes them.
    """
    return study.store.sql(
        "SELECT feature, value, polarity, gain, score, accepted, output FROM labels LEFT JOIN"
        " (SELECT feature, value, polarity, output FROM output_scores WHERE run = $run) USING"
        " (feature, value, polarity) WHERE run = $run ORDER BY feature, value, polarity",
        {"run": label_run},
    )
