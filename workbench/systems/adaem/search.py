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

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from feature_store.progress import Progress
from feature_store.runs import Work
from workbench.systems.adaem import asking
from workbench.systems.adaem.asking import Asker, Read
from workbench.systems.adaem.bandit import Bandit, Pull
from workbench.systems.adaem.divergence import Distance, Score, distribution, score
from workbench.systems.adaem.responses import CRITERIA, criteria, keep
from workbench.systems.adaem.rewriting import Rewriter, Told

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


@dataclass(frozen=True)
class Objective:
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


@dataclass(frozen=True, eq=False)
class Tried:
    number: int
    """0-based; seeds come first."""
    topic: int
    """0-based number of the topic."""
    parent: int
    """Number of the question it was rewritten from; -1 for a seed."""
    pull: int
    """0-based number of the pull; -1 for a seed."""
    writer: str
    """Who wrote it."""
    read: Read
    """Question and opinions."""
    criteria: Float[np.ndarray, "opinion criterion"]
    """The response step's four criteria [0 to 1]; NaN where an opinion does not count."""
    kept: Bool[np.ndarray, " opinion"]
    """Which opinions the score is taken from."""
    score: Score
    """S from the kept opinions."""


@dataclass(frozen=True, eq=False)
class Pulled:
    pull: Pull
    """The bandit's choice."""
    reward: float
    """Best S of the new questions [nats]; NaN without any."""
    tried: int
    """New questions that were asked."""
    accepted: int
    """Number of the question that became the topic's best one; -1: none."""


@dataclass(frozen=True, eq=False)
class Found:
    tried: list[Tried]
    """Every question."""
    pulls: list[Pulled]
    """Every pull."""
    best: list[int]
    """Number of each topic's best question."""

    def ranked(self, numbers: Sequence[int]) -> list[int]:
        """Questions of a finite score, largest first."""
        known = [n for n in numbers if math.isfinite(self.tried[n].score.total)]
        return sorted(known, key=lambda n: (-self.tried[n].score.total, n))


def judge(read: Read, members: int, objective: Objective) -> tuple[np.ndarray, np.ndarray, Score]:
    """Criteria, kept opinions and S of one question."""
    known = np.isfinite(read.held).all(1)
    four, kept, member = (
        np.full((len(known), len(CRITERIA)), np.nan),
        np.zeros(len(known), bool),
        read.member,
    )
    if known.any():
        texts = [one.text for one, ok in zip(read.opinions, known, strict=True) if ok]
        four[known] = criteria(member[known], read.held[known], read.coherence[known], texts)
        kept[known] = keep(member[known], four[known].sum(1), objective.kept)
    p = np.stack([distribution(read.held[kept & (member == m)]) for m in range(members)])
    return four, kept, score(p, read.asked, objective.beta, objective.distance, objective.averaged)


class Search:
    """A search over `seeds` with so many pulls and `rewrites` new questions a pull."""

    def __init__(
        self,
        work: Work,
        asker: Asker,
        rewriter: Rewriter,
        objective: Objective,
        seeds: Sequence[str],
        pulls: int,
        rewrites: int,
        seed: int,
        progress: Progress,
    ) -> None:
        self.work, self.asker, self.rewriter, self.objective, self.progress = (
            work,
            asker,
            rewriter,
            objective,
            progress,
        )
        self.seeds, self.pulls, self.rewrites, self.seed = list(seeds), pulls, rewrites, seed
        self.tried: list[Tried] = []

    def run(self) -> Found:
        """All pulls; what an earlier, interrupted call kept is not asked again."""
        for part, start in enumerate(range(0, len(self.seeds), TOGETHER)):
            some = self.seeds[start : start + TOGETHER]
            self._take(
                self._asked("seeds", part, some), range(start, start + len(some)), -1, -1, "seed"
            )
            self.progress("asking seeds", start + len(some), len(self.seeds))
        best = [one.number for one in self.tried]
        bandit, pulls = Bandit(np.array([one.score.total for one in self.tried]), self.pulls), []
        done = self.work.done("pulls")
        for number in range(self.pulls):
            pull = bandit.choose()
            parent = self.tried[best[pull.topic]]
            texts = [] if number in done else self._rewritten(parent, number)
            new = self._take(
                self._asked("pulls", number, texts),
                [pull.topic],
                parent.number,
                number,
                self.rewriter.name,
            )
            scores = [one.score.total for one in new if math.isfinite(one.score.total)]
            reward = max(scores, default=float("nan"))
            bandit.reward(pull.topic, reward)
            accepted = -1
            if (
                scores and not reward <= parent.score.total
            ):  # also where the seed's own S is not known
                accepted = best[pull.topic] = next(
                    one.number for one in new if one.score.total == reward
                )
            pulls.append(Pulled(pull=pull, reward=reward, tried=len(new), accepted=accepted))
            self.progress("searching", number + 1, self.pulls)
        return Found(self.tried, pulls, best)

    def _rewritten(self, parent: Tried, pull: int) -> list[str]:
        """New questions; none that was tried before."""
        known = {one.read.text for one in self.tried}
        found = self.rewriter.rewrite(
            parent.read.text, self._told(parent), self.rewrites, self.seed * SEED + pull
        )
        return [text for text in dict.fromkeys(found) if text.strip() and text not in known]

    def _told(self, parent: Tried) -> list[Told]:
        found = []
        for m, member in enumerate(self.asker.population.members):
            own = np.flatnonzero(parent.kept & (parent.read.member == m))
            p = distribution(parent.read.held[own])
            best = own[np.argmax(parent.criteria[own].sum(1))] if len(own) else -1
            shares = (
                {value: float(x) for value, x in zip(self.asker.system.ids, p, strict=False)}
                if len(own)
                else {}
            )
            found.append(
                Told(member.name, shares, parent.read.opinions[best].text if len(own) else "")
            )
        return found

    def _asked(self, stage: str, part: int, texts: Sequence[str]) -> list[Read]:
        values = self.asker.system.ids
        if part in self.work.done(stage):
            return asking.from_rows(self.work.kept(stage, part).to_pylist(), values)
        n, size = self.objective.opinions, len(self.asker.population.members)
        found = self.asker.ask(texts, n, self.seed * SEED + len(self.tried) * size * n)
        told = [row for read in found for row in asking.rows(read, values)]
        self.work.part(stage, part, pa.Table.from_pylist(told, schema=PART))
        return found

    def _take(
        self, read: Sequence[Read], topics: Sequence[int], parent: int, pull: int, writer: str
    ) -> list[Tried]:
        size = len(self.asker.population.members)
        new = [
            Tried(
                len(self.tried) + k,
                topics[k % len(topics)],
                parent,
                pull,
                writer,
                one,
                *judge(one, size, self.objective),
            )
            for k, one in enumerate(read)
        ]
        self.tried += new
        return new
