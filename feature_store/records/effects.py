"""What steering one value does to the others, and the causal graph it draws."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SideEffect:
    source: str
    """Id of the value whose features were steered."""
    target: str
    """Id of the value that was measured."""
    effect: float
    """Mean change at damage-matched strength, turned so that the source value rises [unsteered SD of the target]."""
    low: float
    """Lower end of the 95 % interval, bootstrapped over contexts, paired."""
    high: float
    """Upper end of it."""
    p: float
    """Two-sided p of `effect` = 0, over contexts and over features, the larger one [0 to 1]."""
    q: float
    """`p` after Benjamini-Hochberg over the off-diagonal cells."""
    null_low: float
    """2.5 % quantile of the same mean over random features and directions of equal damage."""
    null_high: float
    """97.5 % quantile of it."""
    n: int
    """Contexts (clusters)."""
    features: int
    """Features of the source value."""


@dataclass(frozen=True)
class Edge:
    source: str
    """Id of the cause."""
    target: str
    """Id of the effect."""
    weight: float
    """Direct effect: change of the target per change of the source [rating points per rating point]."""
    low: float
    """Lower end of the 95 % interval, bootstrapped over contexts and features."""
    high: float
    """Upper end of it."""
    z: float
    """`weight` over its bootstrap standard deviation."""
    q: float
    """Two-sided p after Benjamini-Hochberg over all ordered pairs."""
    frequency: float
    """Share of bootstrap replicates in which the edge is found [0 to 1]."""
    present: bool
    """Whether the edge belongs to the graph."""


@dataclass(frozen=True)
class CausalGraph:
    values: tuple[str, ...]
    """Ids, in circle order."""
    edges: tuple[Edge, ...]
    """Every ordered pair, present or not."""
    level: Literal["value", "feature"]
    """`feature` where some value has fewer than five features: such edges may be one feature's leak."""
    n: int
    """Contexts (clusters)."""
    seed: int
    """Seed of the bootstrap."""
