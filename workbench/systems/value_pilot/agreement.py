"""How well two rankings of the same actions agree (the paper's metrics).

1. `os_sim`: overlap similarity, the mean over depths d of the share of the top d that both have.
   The full depth always agrees, so a random ranking of N actions reaches (N + 1) / 2N, which stands
   beside every mean.
2. `first_acc`: whether both put the same action first; 1 / N by chance.
3. `agreement` averages both over scenarios, with an interval bootstrapped over scenarios.

Luo et al. (2025) report 0.73 and 0.46 against forty people's rankings of their own scenarios.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from feature_store.errors import BadInput
from workbench.statistics.intervals import bootstrap_mean

Metric = Literal["os_sim", "first_acc"]
METRICS: tuple[Metric, ...] = ("os_sim", "first_acc")
"""What is averaged: overlap similarity, and agreement on the first action."""


@dataclass(frozen=True)
class RankingAgreement:
    """How well a model's rankings agree with those for its preferences, averaged over scenarios."""

    steering: str
    """`Steering.name` of the state whose ranking is compared."""
    metric: Metric
    """What is averaged."""
    mean: float
    """Mean over scenarios [0 to 1]."""
    low: float
    """Lower end of its 95 % interval, bootstrapped over scenarios."""
    high: float
    """Upper end of it."""
    chance: float
    """Expectation for a random ranking [0 to 1]."""
    n: int
    """Scenarios."""


def os_sim(a: Sequence[int], b: Sequence[int]) -> float:
    """Compare two rankings: the mean over depths d of |top-d of a and of b| / d [0 to 1].

    Raises BadInput unless both rank the same actions once.
    """
    same_actions = sorted(a) == sorted(b) and len(set(a)) == len(a)
    if not len(a) or not same_actions:
        raise BadInput(
            f"Two rankings of the same actions are compared, each action once; got {list(a)} and"
            f" {list(b)}."
        )
    shares = [len({*a[:depth]} & {*b[:depth]}) / depth for depth in range(1, len(a) + 1)]
    return sum(shares) / len(a)


def first_acc(a: Sequence[int], b: Sequence[int]) -> float:
    """Say whether both rankings begin with the same action: 1 where they do, else 0."""
    return float(a[0] == b[0])


def agreement(
    steering: str, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], replicates: int, seed: int
) -> list[RankingAgreement]:
    """Average both metrics over scenarios, with intervals and what a random ranking would reach.

    `pairs` holds two rankings of each scenario's actions: numbers of the actions, best first.

        agreement("base", [([0, 1, 2], [1, 0, 2])], replicates=1000, seed=0)
    """
    sizes = np.array([len(a) for a, _ in pairs], float)
    reached = np.array([[os_sim(a, b), first_acc(a, b)] for a, b in pairs])
    interval = bootstrap_mean(reached, replicates, seed)
    chances = (((sizes + 1) / (2 * sizes)).mean(), (1 / sizes).mean())
    return [
        RankingAgreement(
            steering=steering,
            metric=metric,
            mean=float(interval.mean[k]),
            low=float(interval.low[k]),
            high=float(interval.high[k]),
            chance=float(chances[k]),
            n=len(pairs),
        )
        for k, metric in enumerate(METRICS)
    ]
