"""The consensus labeler: what runs of labels and people say together, by how reliable each is.

1. The question is asked of every feature and value that somebody names: does the feature carry the
   value? A run of labels answers yes or no; a person answers of the features that they judged.
   Each live feature adds a question on a value that nobody names, to which all say no: that is how
   rarely the sure ones are wrong.
2. Dawid and Skene (1979): each voice has a share of yes where the answer is yes, its sensitivity,
   and where it is no, its false alarms; both, and the answers, come of expectation maximisation.
   Nobody knows the answers beforehand, neither the methods nor the people.
3. Few voices leave open who is wrong where they differ. So what a voice claims of itself counts as
   much as what the others say of it. A run claims that the share `CLAIMED` of what it names is
   right, as labelers' limits are meant, and nothing of what it does not name; a person, who has
   looked, that so many of all their answers are.
4. Of a feature's values the one with the largest posterior is accepted, from `min_posterior` on.
   Sides are not asked for, because labelers of contexts tell none: the side is that which the most
   reliable voices name.

`effect` is the posterior [0 to 1]; evidence names the voices and how reliable each was taken to be.
It stands beside the methods, never in their place. Left out: features as harder or easier.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import special

from feature_store.bounds import Count, Share
from feature_store.errors import BadInput
from feature_store.records import Label, ValueSystem
from feature_store.registry import register
from workbench.features.judgements import Judgements
from workbench.features.labelers import LabelledActivations

CLAIMED = 0.95
"""Share of what a voice says that it takes to be right: the labelers' own limit."""
UNCLAIMED = (2, 3)
"""Answers with which the sensitivity of a run begins: right ones, and all of them."""
CONVERGED = 1e-9
"""Largest change of a posterior at which the fit ends."""
QUIET = "nobody names it"
"""Stands for the value of a question that nobody answers with yes."""


@dataclass(frozen=True)
class ConsensusLabelerSettings:
    """What a label must be worth, and how long the fit goes on."""

    min_posterior: Share = 0.5
    """Smallest posterior of an accepted label [0 to 1]."""
    iterations: Count = 2000
    """Most rounds of expectation maximisation [rounds]."""


@dataclass(frozen=True)
class Voice:
    """A run of labels or a person, and how reliable it was taken to be."""

    sensitivity: float
    """Share of yes where the answer is yes [0 to 1]."""
    false_alarms: float
    """Share of yes where the answer is no [0 to 1]."""

    @property
    def weight(self) -> float:
        """What its yes is worth [nats of log odds]; not below 0."""
        return max(math.log(max(self.sensitivity, 1e-6) / max(self.false_alarms, 1e-6)), 0.0)


@register("labelers", "consensus")
class Consensus:
    """What runs of labels and people say together, by how reliable each is (Dawid-Skene)."""

    config = ConsensusLabelerSettings
    judges = True

    @staticmethod
    def label(
        data: LabelledActivations, system: ValueSystem, settings: ConsensusLabelerSettings
    ) -> list[Label]:
        """Give one row a feature and value that a voice names.

        Raises BadInput where fewer than two voices speak.
        """
        judgements = data.read_judgements()
        answers = answers_of(judgements)
        count = answers.voice.nunique()
        if count < 2:
            raise BadInput(
                f"A consensus needs two voices or more, got {count}. Label with another labeler, or"
                " give verdicts, first."
            )
        posterior, voices = fit(answers, settings.iterations)
        sides = _sides(judgements)
        rows = []
        named = answers[answers.value != QUIET]
        for (feature, value), asked in named.groupby(["feature", "value"], sort=True):
            certainty = float(posterior[feature, value])
            evidence = _evidence(asked, voices)
            side = _side(sides.get((feature, value), {}), voices)
            label = Label(
                feature=int(feature),
                value=str(value),
                polarity=-1 if side < 0 else 1,
                part="pole" if side else "topic",
                effect=certainty,
                low=np.nan,
                high=np.nan,
                p=np.nan,
                q=np.nan,
                score=np.nan,
                gain=np.nan,
                n=len(asked),
                method="consensus",
                accepted=certainty >= settings.min_posterior,
                evidence=json.dumps(evidence, ensure_ascii=False),
            )
            rows.append(label)
        return _best_accepted(rows)


def answers_of(judgements: Judgements) -> pd.DataFrame:
    """Give every answer of every voice: feature, value, voice, is_person, answer (yes | no)."""
    labels = judgements.labels.rename(columns={"run": "voice"})
    people = judgements.verdicts[judgements.verdicts.verdict != "unsure"]
    people = people.assign(voice=people.labeller + " @" + people.desk, is_person=True)
    naming = people[people.verdict != "reject"]
    yes = pd.concat([labels, naming])[["voice", "feature", "value"]]
    named = yes[["feature", "value"]].drop_duplicates()
    quiet = pd.DataFrame({"feature": judgements.live, "value": QUIET})
    questions = pd.concat([named, quiet])
    # A run speaks of every live feature, a person of those they judged.
    machines = pd.DataFrame({"voice": [*judgements.labelers], "is_person": False})
    asked = [
        questions.merge(machines, how="cross"),
        questions.merge(people[["feature", "voice", "is_person"]], on="feature"),
    ]
    answers = pd.concat(asked).merge(yes.assign(answer="yes"), how="left")
    return answers.assign(answer=answers.answer.fillna("no"))


def fit(
    answers: pd.DataFrame, iterations: int
) -> tuple[Mapping[tuple[int, str], float], dict[str, Voice]]:
    """Give the posterior of yes of every question, and every voice with its reliability.

    Questions with the same answers are counted together, so that a large SAE costs no more.
    """
    table = answers.assign(yes=(answers.answer == "yes").astype(float)).pivot(
        index=["feature", "value"], columns="voice", values="yes"
    )
    # -1: was not asked
    patterns, pattern_of, counts = np.unique(
        table.fillna(-1.0).to_numpy(), axis=0, return_inverse=True, return_counts=True
    )
    asked, yes = (patterns >= 0).astype(float), (patterns > 0).astype(float)
    claims = _claims(answers, list(table.columns))
    sensitivity, false_alarms = claims.sensitivity.copy(), claims.false_alarms.copy()
    share = 0.5
    posterior = np.zeros(len(patterns))
    for _ in range(iterations):
        before = posterior
        odds = np.log(share / (1 - share)) + (
            yes @ np.log(sensitivity / false_alarms)
            + (asked - yes) @ np.log((1 - sensitivity) / (1 - false_alarms))
        )
        posterior = special.expit(odds)
        if np.abs(posterior - before).max() < CONVERGED:
            break
        is_yes, is_no = counts * posterior, counts * (1 - posterior)
        share = (is_yes.sum() + 1) / (counts.sum() + 2)
        sensitivity = (is_yes @ yes + claims.right) / (is_yes @ asked + claims.looked_at)
        claimed = claims.false_alarms * claims.questions
        false_alarms = (is_no @ yes + claimed) / (is_no @ asked + claims.questions)
    rows = zip(table.columns, sensitivity.tolist(), false_alarms.tolist(), strict=True)
    voices = {voice: Voice(sensitivity=s, false_alarms=f) for voice, s, f in rows}
    return dict(zip(table.index, posterior[pattern_of.ravel()].tolist(), strict=True)), voices


class _Claims(NamedTuple):
    """What voices claim of themselves; every field is [voice]."""

    sensitivity: Float[np.ndarray, " voice"]
    """Share of the features that anybody names which it would name rightly [0 to 1]."""
    false_alarms: Float[np.ndarray, " voice"]
    """Share of yes where the answer is no [0 to 1]."""
    questions: Float[np.ndarray, " voice"]
    """Questions that it answered: as much as that the claim on false alarms weighs [questions]."""
    right: Float[np.ndarray, " voice"]
    """Answers to questions whose answer is yes that count as right beforehand [questions]."""
    looked_at: Float[np.ndarray, " voice"]
    """All answers of that kind that count beforehand [questions]."""


def _claims(answers: pd.DataFrame, voices: Sequence[str]) -> _Claims:
    """Give how reliable voices would be if the share `CLAIMED` of what they name were right."""
    every = answers.assign(is_named=answers.value != QUIET, yes=answers.answer == "yes")
    asked = every.groupby("voice")
    named = asked.yes.sum().reindex(voices).to_numpy(float)
    questions = asked.size().reindex(voices).to_numpy(float)
    nameable = every[every.is_named].groupby("voice").feature.nunique()
    nameable = nameable.reindex(voices, fill_value=1).to_numpy(float)
    others = np.maximum(questions - named, 1)
    is_person = asked.is_person.first().reindex(voices).to_numpy(bool)
    right, looked_at = UNCLAIMED
    return _Claims(
        sensitivity=np.where(is_person, CLAIMED, np.clip(CLAIMED * named / nameable, 0.01, 0.99)),
        right=np.where(is_person, CLAIMED * nameable, right),
        looked_at=np.where(is_person, nameable, looked_at),
        false_alarms=np.clip((1 - CLAIMED) * named / others, 0.0005, 0.5),
        questions=questions,
    )


def _sides(judgements: Judgements) -> Mapping[tuple[int, str], dict[str, int]]:
    """Give what each voice that names a value says of its side: (feature, value) -> voice -> side.

    A voice that names the topic names no side.
    """
    sides: dict[tuple[int, str], dict[str, int]] = defaultdict(dict)
    for row in judgements.labels.itertuples():
        sides[row.feature, row.value][row.run] = int(row.side)
    for row in judgements.verdicts.itertuples():
        if row.verdict not in ("reject", "unsure"):
            sides[row.feature, row.value][f"{row.labeller} @{row.desk}"] = int(row.side)
    return sides


def _side(sides: Mapping[str, int], voices: Mapping[str, Voice]) -> int:
    """Give the side that the most reliable voices name; 0 where none names one, or they tie."""
    balance = sum(side * voices[voice].weight for voice, side in sides.items())
    return int(np.sign(round(balance, 9)))


def _evidence(asked: pd.DataFrame, voices: Mapping[str, Voice]) -> dict[str, str]:
    """Name the voices that say yes and no, each with its sensitivity and false alarms."""

    def listed(answer: str) -> str:
        """Write the voices of an answer."""
        parts = []
        for voice in sorted(asked.voice[asked.answer == answer]):
            known = voices[voice]
            parts.append(f"{voice} ({known.sensitivity:.2f}, {known.false_alarms:.4f})")
        return ", ".join(parts)

    return {"yes": listed("yes"), "no": listed("no")}


def _best_accepted(rows: list[Label]) -> list[Label]:
    """Leave a feature its label with the largest posterior; the others stay as evidence."""
    best: dict[int, float] = {}
    for label in rows:
        best[label.feature] = max(best.get(label.feature, 0.0), label.effect)
    return [
        replace(label, accepted=label.accepted and label.effect == best[label.feature])
        for label in rows
    ]
