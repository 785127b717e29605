"""The causal graph among values."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Edge:
    """A direct effect of one value on another one."""

    source: str
    """Id of the cause."""
    target: str
    """Id of the effect."""
    weight: float
    """Direct effect: change of the target per change of the source [rating points per rating
    point]."""
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
    """The direct effects among all values."""

    values: tuple[str, ...]
    """Ids, in circle order."""
    edges: tuple[Edge, ...]
    """Every ordered pair, present or not."""
    level: Literal["value", "feature", "group", "direction"]
    """What an edge is one of: values, or, where some value has fewer than five of what was steered,
    single features, groups or directions, whose leak it may be."""
    n: int
    """Contexts (clusters)."""
    seed: int
    """Seed of the bootstrap."""
