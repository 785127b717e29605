"""What steering one value does to the others."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SideEffect:
    """One cell of the matrix: what steering one value does to another one."""

    source: str
    """Id of the value whose features were steered."""
    target: str
    """Id of the value that was measured."""
    effect: float
    """Mean change at damage-matched strength, turned so that the source value rises [unsteered SD
    of the target]."""
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
