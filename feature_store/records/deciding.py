"""Scenarios, decisions in them, and what steering changes of those."""

from dataclasses import dataclass
from typing import Literal

from feature_store.records.asking import Action, Status


@dataclass(frozen=True)
class Scenario:
    """A situation in which one of several actions has to be chosen."""

    id: str
    """Unique within its run or file."""
    text: str
    """The situation; it names no value."""
    values: tuple[str, ...]
    """Ids of the values at stake in it, in circle order."""
    actions: tuple[Action, ...]
    """What one could do; at least two."""
    source: str
    """Who wrote and scored it: name of the language model, the generator or the file."""


@dataclass(frozen=True)
class Choice:
    """One decision in one scenario under one steering."""

    scenario: str
    """Id of the scenario."""
    steering: str
    """`Steering.name`."""
    kind: Literal["base", "steering", "random-direction"]
    """What was changed."""
    order: Literal["given", "reversed"]
    """Order in which the actions were offered; always `given` where they were not listed."""
    logprobs: tuple[float, ...]
    """Log-probability of each action, in the scenario's order [nats]; empty when generated."""
    tokens: tuple[int, ...]
    """Tokens of each action [tokens]; empty when generated."""
    probabilities: tuple[float, ...]
    """Softmax over the actions [0 to 1]; empty when generated."""
    chosen: int
    """0-based number of the chosen action; -1 unless parsed."""
    text: str
    """The raw answer when generated; empty otherwise."""
    status: Status
    """`parsed`, `refused` or `unparsed`; only parsed answers enter a mean."""


@dataclass(frozen=True)
class DecisionEffect:
    """What steering changes of the decisions, for one value."""

    steering: str
    """`Steering.name`."""
    kind: Literal["steering", "random-direction"]
    """`random-direction`: a control of equal norm."""
    outcome: Literal["expected", "chosen"]
    """Score of the actions weighted by their probability, or of the chosen action alone."""
    value: str
    """Id of the value."""
    base: float
    """Mean unsteered score over the scenarios [-1 to 1]."""
    steered: float
    """Mean steered score over the same scenarios [-1 to 1]."""
    effect: float
    """Mean paired difference, steered less base [score points, -2 to 2]."""
    low: float
    """Lower end of its 95 % interval, bootstrapped over scenarios [score points]."""
    high: float
    """Upper end of it [score points]."""
    p: float
    """Two-sided p of `effect` = 0 [0 to 1]."""
    q: float
    """`p` after Benjamini-Hochberg over the values of the same outcome and steering."""
    null_low: float
    """2.5 % quantile of the effect under the run's random directions [score points]; NaN for a
    control."""
    null_high: float
    """97.5 % quantile of it [score points]; NaN for a control."""
    n: int
    """Scenarios (clusters): those whose actions differ on the value and that both states
    answered."""
    missing: int
    """Scenarios whose actions differ on the value and that one of the two states left
    unanswered."""
