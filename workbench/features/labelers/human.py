"""The human labeler: a feature carries what most people who judged it say.

1. Of everybody's verdict on a feature the one that counts is taken; who is unsure does not vote.
2. A value is accepted where more than half of the votes name it, and enough people voted. Its side
   is that which most of them name; where sides tie, it is the topic.
3. What the others say stays: a row for every value that somebody names, with who names what.

`effect` is the share of the votes [0 to 1]. p, q, score and gain are NaN: nothing is tested and no
text is read. Left out: how good each person is; `consensus` weighs that.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from feature_store.bounds import Count
from feature_store.records import Label, ValueSystem
from feature_store.registry import register
from workbench.features.labelers import LabelledActivations

SIDES = {1: "held", -1: "rejected", 0: "both"}
"""Side of a value -> what it is called."""


@dataclass(frozen=True)
class HumanLabelerSettings:
    """How many people a label needs."""

    min_people: Count = 1
    """Fewest people who gave an answer on the feature [people]."""


@register("labelers", "human")
class Human:
    """What most people who judged a feature say of it."""

    config = HumanLabelerSettings
    judges = True

    @staticmethod
    def label(
        data: LabelledActivations, system: ValueSystem, settings: HumanLabelerSettings
    ) -> list[Label]:
        """Give one row a feature and value that somebody names."""
        verdicts = data.read_judgements().verdicts
        rows: list[Label] = []
        for feature, answers in verdicts.groupby("feature", sort=True):
            rows += _of_feature(int(feature), answers, settings.min_people)
        return rows


def _of_feature(feature: int, answers: pd.DataFrame, min_people: int) -> Iterator[Label]:
    """Give the rows of one feature, the most named value first."""
    voted = answers[answers.verdict != "unsure"]
    naming = voted[voted.verdict != "reject"]
    for value, count in Counter(naming.value).most_common():
        of_value = naming[naming.value == value]
        sides = Counter(of_value.side.tolist()).most_common()
        is_tie = len(sides) > 1 and sides[0][1] == sides[1][1]
        side = 0 if is_tie else int(sides[0][0])
        share = count / len(voted)
        evidence: dict[str, Any] = {
            "named_by": _named(of_value),
            "others": _named(voted.drop(of_value.index)),
            "unsure": ", ".join(sorted(answers.labeller[answers.verdict == "unsure"])),
            "notes": " | ".join(note for note in of_value.note if note),
        }
        yield Label(
            feature=feature,
            value=str(value),
            polarity=-1 if side < 0 else 1,
            part="pole" if side else "topic",
            effect=share,
            low=np.nan,
            high=np.nan,
            p=np.nan,
            q=np.nan,
            score=np.nan,
            gain=np.nan,
            n=len(voted),
            method="human",
            accepted=share > 0.5 and len(voted) >= min_people,
            evidence=json.dumps(evidence, ensure_ascii=False),
        )


def _named(answers: pd.DataFrame) -> str:
    """Write who says what: `Ada (power, held), Ben (no value)`."""
    parts = []
    for row in answers.sort_values(["labeller", "desk"]).itertuples():
        answer = "no value" if row.verdict == "reject" else f"{row.value}, {SIDES[row.side]}"
        parts.append(f"{row.labeller} ({answer})")
    return ", ".join(parts)
