"""Which topic to refine next: an upper confidence bound over topics (Duan et al., ICLR 2026).

1. Every topic i has a quality Q_i and a count C_i; the one with the largest Q_i + sqrt(2 ln B /
   C_i) is pulled, B being the whole budget of pulls.
2. Q_i begins at S of the topic's seed question and C_i at 1. With the paper's C_i = 0 the bonus of
   a topic is infinite until it is pulled, so a budget below the number of topics would never return
   to one.
3. A pull's reward is the best S of the questions it tried; Q_i is the mean over the seed and all
   rewards. A reward that is NaN counts as a pull and changes no quality.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Pull:
    """A topic that the bandit chose, and why."""

    topic: int
    """0-based number of the topic."""
    quality: float
    """Q before the pull [nats]."""
    bonus: float
    """Width of the confidence bound before the pull [nats]."""
    count: int
    """C before the pull [pulls, the seed counted as one]."""


class Bandit:
    """Chooses among topics by their qualities and by how often each was pulled.

    `choose` and `reward` take turns:

        bandit = Bandit(np.array([0.2, 0.5]), budget=60)
        pull = bandit.choose()
        bandit.reward(pull.topic, 0.7)
    """

    def __init__(self, seeds: Float[np.ndarray, " topic"], budget: int) -> None:
        """Begin with the scores of the seed questions [nats]; `budget` is B [pulls]."""
        self.quality = np.where(np.isfinite(seeds), seeds, 0.0)
        self.count = np.ones(len(seeds), int)
        self._log = math.log(max(budget, 2))

    def choose(self) -> Pull:
        """Choose the topic of the largest upper bound, the first where several are equal."""
        bonus = np.sqrt(2 * self._log / self.count)
        topic = int((self.quality + bonus).argmax())
        return Pull(
            topic=topic,
            quality=float(self.quality[topic]),
            bonus=float(bonus[topic]),
            count=int(self.count[topic]),
        )

    def reward(self, topic: int, reward: float) -> None:
        """Take in what a pull brought [nats]; NaN counts as a pull and changes no quality."""
        self.count[topic] += 1
        if math.isfinite(reward):
            self.quality[topic] += (reward - self.quality[topic]) / self.count[topic]
