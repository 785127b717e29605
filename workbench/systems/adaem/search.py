"""The optimiser: pull a topic, rewrite its best question, ask the population, keep what separates
it better (Duan et al., ICLR 2026).

1. Every topic's seed question is asked and scored; a bandit is set up with these scores.
2. For so many pulls the bandit chooses a topic; a rewriter makes N2 new questions out of its best
   one (question step); the population is asked, its telling opinions are kept (response step), and
   S is taken from them.
3. The best of the new questions replaces the topic's best one if its S is larger: refinement never
   lowers S. The pull's reward is that S either way.
4. Every question's opinions are kept as a part of the run, so an interrupted search goes on where
   it was, without asking or rewriting again.

Left out: new topics; those of the seeds are all there are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from feature_store.progress import Progress
from feature_store.work import Work
from workbench.systems.adaem import asking
from workbench.systems.adaem.asking import Asker, ReadQuestion
from workbench.systems.adaem.bandit import Bandit, Pull
from workbench.systems.adaem.divergence import Distance, Score, distribution, score
from workbench.systems.adaem.responses import CRITERIA, criteria, keep
from workbench.systems.adaem.rewriting import MemberAnswer, Rewriter

TOGETHER = 16
"""Seed questions asked between two checkpoints."""
SEED = 1_000_000_000
"""Seeds of opinions that one seed of a run stands for; the search uses the first half of them,
the report the second."""
PART = pa.schema(
    {
        "question": pa.string(),
        "asked": pa.list_(pa.float64()),
        "member": pa.int32(),
        "text": pa.string(),
        "status": pa.string(),
        "seed": pa.int64(),
        "held": pa.list_(pa.string()),
        "coherence": pa.float64(),
    }
)
"""Columns of a part of the run that keeps the opinions on some questions."""


@dataclass(frozen=True)
class SearchObjective:
    """How a question is scored from opinions on it."""

    opinions: int
    """Opinions of every member on every question."""
    kept: int
    """Of these, those that the response step keeps."""
    beta: float
    """Weight of the distance from the question's own values."""
    distance: Distance
    """Divergence of the second term."""
    averaged: bool
    """Whether the second term is divided by the number of members."""


@dataclass(frozen=True)
class SearchSettings:
    """How long a search goes on, and from which seed."""

    pulls: int
    """Pulls of the bandit."""
    rewrites: int
    """New questions a pull."""
    seed: int
    """Seed of opinions and rewriting."""


class Judgement(NamedTuple):
    """What the response step says of one question."""

    criteria: Float[np.ndarray, "opinion criterion"]
    """The response step's four criteria [0 to 1]; NaN where an opinion does not count."""
    kept: Bool[np.ndarray, " opinion"]
    """Opinions that the score is taken from."""
    score: Score
    """S from the kept opinions."""


@dataclass(frozen=True, eq=False)
class TriedQuestion:
    """A question that the search asked, where it comes from, and how it scored."""

    number: int
    """0-based; seeds come first."""
    topic: int
    """0-based number of the topic."""
    parent: int
    """Number of the question it was rewritten from; -1 for a seed."""
    pull: int
    """0-based number of the pull; -1 for a seed."""
    writer: str
    """Name of its writer."""
    read: ReadQuestion
    """Question and opinions."""
    criteria: Float[np.ndarray, "opinion criterion"]
    """The response step's four criteria [0 to 1]; NaN where an opinion does not count."""
    kept: Bool[np.ndarray, " opinion"]
    """Opinions that the score is taken from."""
    score: Score
    """S from the kept opinions."""


@dataclass(frozen=True, eq=False)
class PullOutcome:
    """What came of one pull of the bandit."""

    pull: Pull
    """The bandit's choice."""
    reward: float
    """Best S of the new questions [nats]; NaN without any."""
    tried: int
    """New questions that were asked."""
    accepted: int
    """Number of the question that became the topic's best one; -1: none."""


@dataclass(frozen=True, eq=False)
class SearchOutcome:
    """Everything that a search asked, and the best question of every topic."""

    tried: list[TriedQuestion]
    """Every question."""
    pulls: list[PullOutcome]
    """Every pull."""
    best: list[int]
    """Number of each topic's best question."""

    def ranked(self, numbers: Sequence[int]) -> list[int]:
        """Order those of the questions that have a finite score, largest first."""
        scored = [n for n in numbers if math.isfinite(self.tried[n].score.total)]
        return sorted(scored, key=lambda n: (-self.tried[n].score.total, n))


def judge(read: ReadQuestion, members: int, objective: SearchObjective) -> Judgement:
    """Take the response step on one question: criteria, kept opinions, and S."""
    counts = np.isfinite(read.held).all(1)
    member = read.member
    four = np.full((len(counts), len(CRITERIA)), np.nan)
    kept = np.zeros(len(counts), bool)
    if counts.any():
        texts = [read.opinions[k].text for k in np.flatnonzero(counts)]
        four[counts] = criteria(member[counts], read.held[counts], read.coherence[counts], texts)
        kept[counts] = keep(member[counts], four[counts].sum(1), objective.kept)
    p = np.stack([distribution(read.held[kept & (member == m)]) for m in range(members)])
    scored = score(p, read.outcome, objective.beta, objective.distance, objective.averaged)
    return Judgement(four, kept, scored)


class Search:
    """Refines seed questions until its pulls are used up.

    Every question's opinions are a part of the run; an interrupted search goes on from them.
    """

    def __init__(
        self,
        work: Work,
        asker: Asker,
        rewriter: Rewriter,
        objective: SearchObjective,
        settings: SearchSettings,
        progress: Progress,
    ) -> None:
        """Search within the run `work`, asking by `asker` and rewriting by `rewriter`."""
        self.work = work
        self.asker = asker
        self.rewriter = rewriter
        self.objective = objective
        self.settings = settings
        self.progress = progress
        self.tried: list[TriedQuestion] = []

    def run(self, seeds: Sequence[str]) -> SearchOutcome:
        """Ask the seed questions, then pull topic after topic.

        What an earlier, interrupted call was answered is not asked again.
        """
        self._ask_seeds(seeds)
        best = [question.number for question in self.tried]
        scores = np.array([question.score.total for question in self.tried])
        bandit = Bandit(scores, self.settings.pulls)
        pulls = []
        for number in range(self.settings.pulls):
            pull = bandit.choose()
            outcome = self._pull(number, pull, self.tried[best[pull.topic]])
            bandit.reward(pull.topic, outcome.reward)
            if outcome.accepted >= 0:
                best[pull.topic] = outcome.accepted
            pulls.append(outcome)
            self.progress("searching", number + 1, self.settings.pulls)
        return SearchOutcome(self.tried, pulls, best)

    def _ask_seeds(self, seeds: Sequence[str]) -> None:
        """Ask and score the seed question of every topic."""
        for part, start in enumerate(range(0, len(seeds), TOGETHER)):
            batch = seeds[start : start + TOGETHER]
            for topic, read in enumerate(self._asked("seeds", part, batch), start):
                self._take(read, topic, parent=-1, pull=-1, writer="seed")
            self.progress("asking seeds", start + len(batch), len(seeds))

    def _pull(self, number: int, pull: Pull, parent: TriedQuestion) -> PullOutcome:
        """Rewrite a topic's best question, ask the new ones, and say whether one is better."""
        is_done = number in self.work.done("pulls")
        texts = [] if is_done else self._rewritten(parent, number)
        new = [
            self._take(read, pull.topic, parent.number, number, self.rewriter.name)
            for read in self._asked("pulls", number, texts)
        ]
        scored = [question for question in new if math.isfinite(question.score.total)]
        reward, accepted = float("nan"), -1
        if scored:
            top = max(scored, key=lambda question: question.score.total)
            reward = top.score.total
            if not reward <= parent.score.total:  # also where the seed's own S is not known
                accepted = top.number
        return PullOutcome(pull=pull, reward=reward, tried=len(new), accepted=accepted)

    def _rewritten(self, parent: TriedQuestion, pull: int) -> list[str]:
        """Have new questions written; none that was tried before."""
        tried = {question.read.text for question in self.tried}
        texts = self.rewriter.rewrite(
            parent.read.text,
            self._answers(parent),
            self.settings.rewrites,
            self.settings.seed * SEED + pull,
        )
        return [text for text in dict.fromkeys(texts) if text.strip() and text not in tried]

    def _answers(self, question: TriedQuestion) -> list[MemberAnswer]:
        """Say how each member answered a question: its values, and its most telling opinion."""
        answers = []
        for m, member in enumerate(self.asker.population.members):
            numbers = np.flatnonzero(question.kept & (question.read.member == m))
            if not len(numbers):
                answers.append(MemberAnswer(member.name, {}, ""))
                continue
            p = distribution(question.read.held[numbers])
            shares = dict(zip(self.asker.system.ids, map(float, p), strict=False))  # `none` is last
            telling = numbers[np.argmax(question.criteria[numbers].sum(1))]
            opinion = question.read.opinions[telling].text
            answers.append(MemberAnswer(member.name, shares, opinion))
        return answers

    def _asked(self, stage: str, part: int, texts: Sequence[str]) -> list[ReadQuestion]:
        """Ask questions and keep the opinions as a part of the run, or read the part."""
        values = self.asker.system.ids
        if part in self.work.done(stage):
            return asking.from_rows(self.work.kept(stage, part).to_pylist(), values)
        opinions = self.objective.opinions
        asked_before = len(self.tried) * len(self.asker.population.members) * opinions
        read = self.asker.ask(texts, opinions, self.settings.seed * SEED + asked_before)
        rows = [row for question in read for row in asking.rows(question, values)]
        self.work.part(stage, part, pa.Table.from_pylist(rows, schema=PART))
        return read

    def _take(
        self, read: ReadQuestion, topic: int, parent: int, pull: int, writer: str
    ) -> TriedQuestion:
        """Score a question that was asked, and remember it."""
        judged = judge(read, len(self.asker.population.members), self.objective)
        question = TriedQuestion(
            number=len(self.tried),
            topic=topic,
            parent=parent,
            pull=pull,
            writer=writer,
            read=read,
            criteria=judged.criteria,
            kept=judged.kept,
            score=judged.score,
        )
        self.tried.append(question)
        return question
