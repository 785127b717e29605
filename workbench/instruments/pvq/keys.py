"""Keys and scores of the Portrait Values Questionnaires: PVQ-21, PVQ-40 and PVQ-RR.

1. `KEYS` says which items measure which value (Schwartz et al. 2001; Schwartz 2003; Schwartz et al.
   2012). The texts of the items are free for academic research only, so none are here: a researcher
   gives them as a file (`item_files.py`).
2. `score`: a value is the mean of its items that were answered.
3. `centre`: less the mean rating of *all* items (MRAT) of the same respondent, whatever value they
   measure. Never divided by the spread.
4. `recode_ess`: the European Social Survey codes 1 as very much like me, so 7 - x.
5. `fold` gives the PVQ-RR's items for the ten values. Tradition takes Humility; Face is in none of
   the ten, yet in the MRAT.

Left out: norms, and anything about a respondent beyond the answers.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from workbench.statistics.intervals import known_mean
from workbench.values import VALUES

OPTIONS = 6
"""Options of the scale: 1 not like me at all ... 6 very much like me."""

PVQ21 = {
    "self-direction": (1, 11),
    "stimulation": (6, 15),
    "hedonism": (10, 21),
    "achievement": (4, 13),
    "power": (2, 17),
    "security": (5, 14),
    "conformity": (7, 16),
    "tradition": (9, 20),
    "benevolence": (12, 18),
    "universalism": (3, 8, 19),
}
PVQ40 = {
    "self-direction": (1, 11, 22, 34),
    "stimulation": (6, 15, 30),
    "hedonism": (10, 26, 37),
    "achievement": (4, 13, 24, 32),
    "power": (2, 17, 39),
    "security": (5, 14, 21, 31, 35),
    "conformity": (7, 16, 28, 36),
    "tradition": (9, 20, 25, 38),
    "benevolence": (12, 18, 27, 33),
    "universalism": (3, 8, 19, 23, 29, 40),
}
PVQ_RR = {
    "self-direction-thought": (1, 23, 39),
    "self-direction-action": (16, 30, 56),
    "stimulation": (10, 28, 43),
    "hedonism": (3, 36, 46),
    "achievement": (17, 32, 48),
    "power-dominance": (6, 29, 41),
    "power-resources": (12, 20, 44),
    "face": (9, 24, 49),
    "security-personal": (13, 26, 53),
    "security-societal": (2, 35, 50),
    "tradition": (18, 33, 40),
    "conformity-rules": (15, 31, 42),
    "conformity-interpersonal": (4, 22, 51),
    "humility": (7, 38, 54),
    "benevolence-caring": (11, 25, 47),
    "benevolence-dependability": (19, 27, 55),
    "universalism-concern": (5, 37, 52),
    "universalism-nature": (8, 21, 45),
    "universalism-tolerance": (14, 34, 57),
}
KEYS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "pvq21": PVQ21,
    "pvq40": PVQ40,
    "pvq-rr": PVQ_RR,
}
"""Questionnaire -> value -> 1-based numbers of its items."""


def fold(key: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Fold a key of the nineteen values into one of the ten; Face, of none of them, is left out."""
    nineteen = VALUES["schwartz19"]
    folded: dict[str, tuple[int, ...]] = {}
    for value, numbers in key.items():
        if parent := nineteen[value].parent:
            folded[parent] = tuple(sorted(folded.get(parent, ()) + numbers))
    return folded


def score(
    answers: Float[np.ndarray, "respondent item"], key: Mapping[str, tuple[int, ...]]
) -> Float[np.ndarray, "respondent value"]:
    """Average each value's items, in the order of the key [1 to 6].

    Column k of `answers` is item k + 1; NaN: not answered. Raises BadInput for answers off the
    scale, or fewer columns than the key has items.

        score(answers, KEYS["pvq40"])  # respondent x value
    """
    last = max(number for numbers in key.values() for number in numbers)
    if answers.shape[1] < last:
        raise BadInput(
            f"The key goes up to item {last}, the answers to item {answers.shape[1]}. Give all"
            " items, in order."
        )
    given = answers[np.isfinite(answers)]
    if ((given < 1) | (given > OPTIONS)).any():
        raise BadInput(
            f"Answers lie between 1 and {OPTIONS}, got {given.min():g} to"
            f" {given.max():g}. Check the scale."
        )
    return np.stack(
        [known_mean(answers[:, np.array(numbers) - 1], axis=1) for numbers in key.values()], axis=1
    )


def centre(
    scores: Float[np.ndarray, "respondent value"], answers: Float[np.ndarray, "respondent item"]
) -> Float[np.ndarray, "respondent value"]:
    """Subtract each respondent's mean rating of all items (MRAT) from the scores [points]."""
    return scores - known_mean(answers, axis=1)[:, None]


def recode_ess(
    answers: Float[np.ndarray, "respondent item"],
) -> Float[np.ndarray, "respondent item"]:
    """Turn answers of the European Social Survey onto the scale of the questionnaire.

    The survey codes 1 as very much like me; its missing codes (7 and above) become NaN.
    """
    if (answers < 1).any():
        raise BadInput(
            f"The survey codes answers from 1, got {np.nanmin(answers):g}. Check the column."
        )
    return np.where(answers <= OPTIONS, OPTIONS + 1 - answers, np.nan)
