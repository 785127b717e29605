"""Ears: whoever reads a text and says how much of each value is in it, and how good they are at it.

1. `AssessorEar` asks an assessor (`systems/value_pilot/assessors`) that was fitted on labelled
   texts.
2. `EncoderEar` takes the likeness (cosine) of a text's sentence embedding to a description of each
   value, less the mean over values: closeness to all of them is no value.
3. `LanguageEar` reads the organism's language, which is known: sentences that hold a value less
   those that reject it.
4. `quality` holds an ear against labelled texts that it never saw: the area under the ROC curve
   with its interval (DeLong et al. 1988), average precision, and the SD of its scores, in which
   effects are given.

Left out: how an assessor is fitted, and who loads an encoder.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from feature_store.errors import BadInput
from feature_store.records import Value
from workbench.material.marks import HALF
from workbench.organism import reading

SMALLEST_SD = 1e-9
"""Scores that vary less over human texts are no scores: the ear is deaf to the value."""


@runtime_checkable
class Ear(Protocol):
    """Whoever rates texts by values.

    ear.hear(["We keep the old feasts."])  # [text, value], any unit
    """

    name: str
    """Name of the ear, written beside all that it hears."""

    def hear(self, texts: Sequence[str]) -> Float[np.ndarray, "text value"]:
        """Rate every text by every value of the study."""
        ...


class AssessorEar:
    """An ear that was fitted on labelled texts; `assess` gives its ratings [-1 to 1]."""

    def __init__(
        self, name: str, assess: Callable[[Sequence[str]], Float[np.ndarray, "text value"]]
    ) -> None:
        self.name = name
        self._assess = assess

    def hear(self, texts: Sequence[str]) -> Float[np.ndarray, "text value"]:
        """Rate every text by every value [-1 to 1]."""
        return self._assess(texts)


class EncoderEar:
    """An ear that compares a text's sentence embedding with descriptions of the values.

    `embed` gives rows of length one.
    """

    def __init__(
        self,
        name: str,
        embed: Callable[[Sequence[str]], Float[np.ndarray, "text dim"]],
        values: Sequence[Value],
    ) -> None:
        self.name = name
        self._embed = embed
        self._descriptions = embed([f"{value.name}: {value.definition}" for value in values])

    def hear(self, texts: Sequence[str]) -> Float[np.ndarray, "text value"]:
        """Rate every text: cosine with each value's description less the mean over values."""
        likeness = self._embed(texts) @ self._descriptions.T
        return likeness - likeness.mean(1, keepdims=True)


class LanguageEar:
    """An ear that knows the organism's language."""

    name = "planted language"

    def __init__(self, values: Sequence[str]) -> None:
        self._values = tuple(values)

    def hear(self, texts: Sequence[str]) -> Float[np.ndarray, "text value"]:
        """Count sentences that hold each value less those that reject it."""
        counts = np.zeros((len(texts), len(self._values)))
        for row, text in enumerate(texts):
            for meaning in reading.read(text):
                if meaning is not None and meaning.owner in self._values:
                    counts[row, self._values.index(meaning.owner)] += meaning.sign
        return counts


def hold_out(contexts: np.ndarray, share: float, seed: int) -> Bool[np.ndarray, " text"]:
    """Say which texts no ear sees before it is held against them: a share of whole contexts.

    Texts of one context (a topic, a debate's conclusion) share words, so they stay together. Texts
    of a single context are drawn one by one. Raises BadInput where nothing is left on a side.
    """
    names, group = np.unique(contexts, return_inverse=True)
    if len(names) < 2:
        group = np.arange(len(contexts))
    order = np.random.default_rng((seed, 23)).permutation(group.max(initial=-1) + 1)
    size = np.bincount(group)[order] if len(group) else np.zeros(0)
    drawn = order[np.cumsum(size) - size / 2 <= share * len(group)]
    held_out = np.isin(group, drawn)
    if held_out.all() or not held_out.any():
        raise BadInput(
            f"{len(group)} labelled texts of {len(names)} contexts cannot be dealt into those that"
            " an ear learns from and those that it is held against. Give more texts or contexts."
        )
    return held_out


def quality(
    scores: Float[np.ndarray, "text value"],
    marks: Float[np.ndarray, "text value"],
    values: Sequence[str],
) -> list[dict[str, Any]]:
    """Hold an ear's scores against the marks of texts that it never saw; one row a value.

    A text holds a value from half a mark on. Numbers that cannot be had are NaN: the AUROC of a
    value that no text, or every text, holds; the SD of scores that do not vary.
    """
    from sklearn.metrics import average_precision_score

    rows = []
    for column, value in enumerate(values):
        held = marks[:, column] >= HALF
        score = scores[:, column]
        area, low, high = auroc(score, held)
        known = bool(0 < held.sum() < len(held))
        sd = float(score.std(ddof=1)) if len(score) > 1 else 0.0
        rows.append(
            {
                "value": value,
                "auroc": area,
                "low": low,
                "high": high,
                "precision": float(average_precision_score(held, score)) if known else np.nan,
                "share": float(held.mean()),
                "n": len(held),
                "held": int(held.sum()),
                "sd": sd if sd > SMALLEST_SD else np.nan,
            }
        )
    return rows


def auroc(
    scores: Float[np.ndarray, " text"], held: Bool[np.ndarray, " text"]
) -> tuple[float, float, float]:
    """Give the area under the ROC curve and the ends of its 95 % interval (DeLong et al. 1988).

    auroc(np.array([0.1, 0.4, 0.9]), np.array([False, False, True]))  # 1.0, and its interval

    NaN where all texts hold or none does; ends are NaN below two of either.
    """
    positive, negative = scores[held], scores[~held]
    if not len(positive) or not len(negative):
        return (np.nan,) * 3
    both = stats.rankdata(np.r_[positive, negative])
    wins = (both[: len(positive)] - stats.rankdata(positive)) / len(negative)
    losses = (both[len(positive) :] - stats.rankdata(negative)) / len(positive)
    area = float(wins.mean())
    if min(len(positive), len(negative)) < 2:
        return area, np.nan, np.nan
    variance = wins.var(ddof=1) / len(positive) + losses.var(ddof=1) / len(negative)
    reach = float(stats.norm.ppf(0.975) * np.sqrt(variance))
    return area, max(area - reach, 0.0), min(area + reach, 1.0)
