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
from workbench.llm import Judge, Verdict
from workbench.llm.judges import LOW


class ScaleRatings(NamedTuple):
    """A judge's ratings, and how far the judge agrees with itself."""

    ratings: Float[np.ndarray, " question"]
    """Mean of the two verdicts; NaN unless both were read."""
    statuses: tuple[Status, ...]
    """`parsed` where both were read, else what the first unread one is."""
    kappa: float
    """Quadratic-weighted kappa of the two series [at most 1]; NaN below two ratings or without
    spread."""


def rate(judge: Judge, questions: Sequence[str], low: int, high: int) -> ScaleRatings:
    """Rate each question on the whole numbers from `low` to `high`, with the scale both ways round.

    Warns where the judge hardly agrees with itself.
    """
    options = [str(number) for number in range(low, high + 1)]
    upwards = judge.judge(questions, options) if questions else []
    downwards = judge.judge(questions, options[::-1]) if questions else []
    both = np.array([_numbers(upwards), _numbers(downwards)]).reshape(2, len(questions))
    statuses = tuple(_first_unread(pair) for pair in zip(upwards, downwards, strict=True))
    readable = np.isfinite(both).all(0)
    kappa = weighted_kappa(both[0, readable], both[1, readable])
    if questions and not kappa >= LOW:
        warnings.warn(
            f"{judge.name} agrees with itself at a weighted kappa of {kappa:.2f} when the scale is"
            f" turned round ({readable.sum()} questions, {(~readable).sum()} unread); its ratings"
            " carry little.",
            stacklevel=2,
        )
    return ScaleRatings(ratings=both.mean(0), statuses=statuses, kappa=kappa)


def _numbers(verdicts: Sequence[Verdict]) -> list[float]:
    """The ratings that verdicts give; NaN for one that was not read."""
    return [float(v.choice) if v.status == "parsed" else float("nan") for v in verdicts]


def _first_unread(verdicts: Sequence[Verdict]) -> Status:
    """`parsed` where all verdicts were read, else the status of the first that was not."""
    for verdict in verdicts:
        if verdict.status != "parsed":
            return verdict.status
    return "parsed"


def weighted_kappa(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Compute Cohen's kappa with quadratic weights of two series of ratings [at most 1].

    It is 1 less the mean squared difference over that of two independent series with the same
    ratings; NaN below two ratings or without spread.
    """
    if len(a) < 2:
        return float("nan")
    chance = float(((a[:, None] - b[None]) ** 2).mean())
    return 1 - float(((a - b) ** 2).mean()) / chance if chance else float("nan")
