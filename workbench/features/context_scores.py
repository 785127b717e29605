"""Detection, fuzzing, intruder and embedding scores of a label, on contexts that no labeler saw.

The scores are those of delphi (Paulo et al. 2024, arXiv 2410.13928; the intruder: Paulo and
Belrose 2025), of a label that is a value and its definition in place of a free explanation:

1. `embedding`: a sentence encoder ranks the contexts by their cosine with the value's definition;
   area under the ROC curve of active against silent contexts. Chance: 0.5.
2. `detection`: whoever judges says of each context whether it is one of those that the label
   describes; balanced accuracy. Chance: 0.5. A judge is asked in words. Where none is named the
   encoder says yes where the value's definition is the nearest of all values'.
3. `fuzzing`: a judge says whether the marked tokens are those that the label describes: in half of
   the active contexts they are those on which the feature is active, in the others as many other
   tokens. Balanced accuracy, chance 0.5. It needs a judge.
4. `intruder`: one of five contexts is a silent one. A judge names it; the encoder takes the context
   that is least like the others. Chance: 0.2. It scores the feature: no label is shown.

A verdict that could not be read counts in no score, and is counted. Left out: several contexts in a
question, which delphi asks to save calls; the side of a value that a label names, which an encoder
hardly tells.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from feature_store.records import Value, ValueSystem
from workbench.features.held_out_contexts import HeldOutContexts, Window
from workbench.llm import Judge
from workbench.statistics.classified import Estimate, area, balanced, proportion

PROMPTS = "1"
"""Version of the questions below; a run that asks a judge names it among its inputs."""
DETECT = (
    "A feature of a language model is active on texts that speak of {name}: {definition}\n\n"
    "Text:\n{text}\n\nIs the feature likely to be active on this text?"
)
FUZZ = (
    "A feature of a language model is active on words that speak of {name}: {definition}\n\n"
    "Text, some of its words between << and >>:\n{text}\n\n"
    "Are the marked words those on which the feature is active?"
)
INTRUDE = (
    "A feature of a language model is active on four of these five texts.\n\n{texts}\n\n"
    "Which text is the one on which it is not active?"
)
YES_NO = ("yes", "no")
ROUND = 5
"""Contexts of a question about the intruder, itself among them."""
CHANCE = {"embedding": 0.5, "detection": 0.5, "fuzzing": 0.5, "intruder": 1 / ROUND}
"""Score -> what guessing reaches."""


@runtime_checkable
class TextEncoder(Protocol):
    """Whatever places texts in a space, as `SentenceEncoder` does.

    encoder.texts(["she locked the doors"])  # one row of length one
    """

    name: str
    """What stands on every row that it helped to make."""

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Give a row of length one for each text."""
        ...


class ContextScore(NamedTuple):
    """A score of a label."""

    score: str
    """Name of the score."""
    estimate: Estimate
    """The score with its interval."""
    n: int
    """Contexts, or rounds of the intruder, that were read."""


class EncodedContexts:
    """Held-out contexts of features, placed by a sentence encoder; each text is embedded once."""

    def __init__(
        self,
        held: Mapping[int, HeldOutContexts],
        system: ValueSystem,
        encoder: TextEncoder,
        seed: int,
    ) -> None:
        texts = [w.text for part in held.values() for w in (*part.active, *part.silent)]
        place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        points = encoder.texts(list(place))
        self.values = system.ids
        self.definitions = encoder.texts([_described(value) for value in system.values])
        self.points = {
            feature: tuple(points[[place[w.text] for w in kind]] for kind in part)
            for feature, part in held.items()
        }
        self.right = {
            feature: self._rounds(active, silent, (seed, feature))
            for feature, (active, silent) in self.points.items()
        }
        """Feature -> in which rounds the intruder was named."""

    def scores(self, feature: int, value: str) -> list[ContextScore]:
        """Score the label of a feature by a value three ways."""
        active, silent = self.points[feature]
        column = self.values.index(value)
        likeness = [kind @ self.definitions.T for kind in (active, silent)]
        nearest = [kind.argmax(1) == column for kind in likeness]
        n = len(active) + len(silent)
        rounds = self.right[feature]
        return [
            ContextScore("embedding", area(likeness[0][:, column], likeness[1][:, column]), n),
            ContextScore("detection", balanced(nearest[0], ~nearest[1]), n),
            ContextScore("intruder", proportion(rounds), len(rounds)),
        ]

    @staticmethod
    def _rounds(
        active: Float[np.ndarray, "context dim"],
        silent: Float[np.ndarray, "context dim"],
        seed: tuple[int, int],
    ) -> Bool[np.ndarray, " round"]:
        """Say in which rounds the silent context is the one least like the others."""
        right = []
        for shown, intruder in _intruder_rounds(len(active), len(silent), seed):
            points = np.concatenate([active[shown], silent[[intruder]]])
            right.append(_least_alike(points) == ROUND - 1)
        return np.array(right, bool)


def _least_alike(points: Float[np.ndarray, "context dim"]) -> int:
    """Say which point has the smallest mean cosine with the others."""
    return int((points @ points.sum(0)).argmin())


def _intruder_rounds(
    active: int, silent: int, seed: tuple[int, int]
) -> list[tuple[np.ndarray, int]]:
    """Draw four active contexts for each silent one; none where there are fewer than four."""
    if active < ROUND - 1:
        return []
    rng = np.random.default_rng(seed)
    return [(rng.choice(active, ROUND - 1, replace=False), intruder) for intruder in range(silent)]


class JudgedContexts:
    """Held-out contexts about which a judge is asked."""

    def __init__(
        self, held: Mapping[int, HeldOutContexts], system: ValueSystem, judge: Judge, seed: int
    ) -> None:
        self.held, self.judge, self.seed = held, judge, seed
        self.values = {value.id: value for value in system.values}
        self.unread = 0
        """Verdicts so far that could not be read."""

    def scores(self, feature: int, value: str) -> list[ContextScore]:
        """Score the label of a feature by a value three ways."""
        held, meant = self.held[feature], self.values[value]
        detect = [[_filled(DETECT, meant, window.text) for window in kind] for kind in held]
        fuzz = [
            [_filled(FUZZ, meant, text) for text in kind]
            for kind in _fuzzed(held.active, (self.seed, feature))
        ]
        return [
            self._told_apart("detection", detect),
            self._told_apart("fuzzing", fuzz),
            self._intruder(feature, held),
        ]

    def _told_apart(self, score: str, questions: Sequence[Sequence[str]]) -> ContextScore:
        """Ask about contexts that are, and that are not; count what was right."""
        right = []
        for kind, expected in zip(questions, YES_NO, strict=True):
            verdicts = self.judge.judge(kind, YES_NO) if kind else []
            read = [verdict.choice for verdict in verdicts if verdict.status == "parsed"]
            self.unread += len(verdicts) - len(read)
            right.append(np.array([choice == expected for choice in read], bool))
        n = sum(map(len, right))
        return ContextScore(score, balanced(*right), n)

    def _intruder(self, feature: int, held: HeldOutContexts) -> ContextScore:
        """Ask which of five contexts is the silent one."""
        seed = (self.seed, feature)
        rng = np.random.default_rng((*seed, 1))
        questions, expected = [], []
        for shown, intruder in _intruder_rounds(len(held.active), len(held.silent), seed):
            place = int(rng.integers(ROUND))
            texts = [held.active[k].text for k in shown]
            texts.insert(place, held.silent[intruder].text)
            listed = "\n\n".join(f"Text {k}:\n{text}" for k, text in enumerate(texts, 1))
            questions.append(INTRUDE.format(texts=listed))
            expected.append(str(place + 1))
        options = [str(k + 1) for k in range(ROUND)]
        verdicts = self.judge.judge(questions, options) if questions else []
        pairs = zip(verdicts, expected, strict=True)
        right = [v.choice == truth for v, truth in pairs if v.status == "parsed"]
        estimate = proportion(np.array(right, bool))
        self.unread += len(verdicts) - len(right)
        return ContextScore("intruder", estimate, len(right))


def _described(value: Value) -> str:
    return f"{value.name}: {value.definition}"


def _filled(question: str, value: Value, text: str) -> str:
    """Write a question; a text that holds braces is left as it is."""
    return question.format(name=value.name, definition=value.definition, text=text)


def _fuzzed(active: Sequence[Window], seed: tuple[int, int]) -> tuple[list[str], list[str]]:
    """Mark the tokens that are active in every second context, others in the rest.

    A context in which no other tokens are left to mark is passed over.
    """
    rng = np.random.default_rng((*seed, 2))
    right, wrong = [], []
    for number, window in enumerate(active):
        is_active = np.array(window.activations) > 0
        if number % 2 == 0:
            right.append(window.marked(is_active.tolist()))
            continue
        others = np.flatnonzero(~is_active)
        if not len(others):
            continue
        marked = np.zeros(len(is_active), bool)
        count = min(int(is_active.sum()), len(others))
        marked[rng.choice(others, count, replace=False)] = True
        wrong.append(window.marked(marked.tolist()))
    return right, wrong


def as_row(score: ContextScore) -> dict[str, Any]:
    """Give a score as columns of `label_scores`."""
    estimate, chance = score.estimate, CHANCE[score.score]
    return {
        "score": score.score,
        "figure": estimate.figure,
        "low": estimate.low,
        "high": estimate.high,
        "n": score.n,
        "chance": chance,
        "passed": bool(estimate.low > chance),
    }
