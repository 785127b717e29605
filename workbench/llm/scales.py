"""Ratings on a scale by a judge, asked both ways round, with how far the judge agrees with itself.

1. The options are the whole numbers of the scale, listed once upwards and once downwards.
2. A rating is the mean of both, so that a liking for a place in the list cancels. Where one of the
   two was refused or could not be read there is none.
3. Agreement is Cohen's kappa with quadratic weights (Cohen 1968): on a scale of eleven points a
   verdict one point off is nearly the same verdict, which the plain kappa of
   `judges.self_agreement` counts as another. Below `judges.LOW` it warns with the number.

Left out: agreement with people.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.records import Status
from workbench.llm import Judge
from workbench.llm.judges import LOW


class Rated(NamedTuple):
    ratings: Float[np.ndarray, " question"]
    """Mean of the two verdicts; NaN unless both were read."""
    statuses: tuple[Status, ...]
    """`parsed` where both were read, else what the first unread one is."""
    kappa: float
    """Quadratic-weighted kappa of the two series [at most 1]; NaN below two ratings or without
    spread."""


def rate(judge: Judge, questions: Sequence[str], low: int, high: int) -> Rated:
    """A rating in [low, high] for each question.

    Warns where the judge hardly agrees with itself.
    """
    options = [str(number) for number in range(low, high + 1)]
    both = (
        [judge.judge(questions, told) for told in (options, options[::-1])]
        if questions
        else [[], []]
    )
    read = np.array(
        [
            [float(v.choice) if v.status == "parsed" else np.nan for v in verdicts]
            for verdicts in both
        ]
    ).reshape(2, len(questions))
    statuses = tuple(
        next((v.status for v in pair if v.status != "parsed"), "parsed")
        for pair in zip(*both, strict=True)
    )
    known = np.isfinite(read).all(0)
    kappa = weighted_kappa(read[0, known], read[1, known])
    if questions and not kappa >= LOW:
        warnings.warn(
            f"{judge.name} agrees with itself at a weighted kappa of {kappa:.2f} when the scale is"
            f" turned round ({known.sum()} questions, {(~known).sum()} unread); its ratings carry"
            " little.",
            stacklevel=2,
        )
    return Rated(read.mean(0), statuses, kappa)


def weighted_kappa(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """1 less the mean squared difference over that of two independent series with the same
    ratings.
    """
    if len(a) < 2:
        return float("nan")
    chance = float(((a[:, None] - b[None]) ** 2).mean())
    return 1 - float(((a - b) ** 2).mean()) / chance if chance else float("nan")
