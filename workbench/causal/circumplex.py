"""Does steering one value move the others as Schwartz's circle says?

1. `distances` and `closeness` give the circle as arrays.
2. `fit` lays `change = a + b cos(theta - phi)` over the changes of all values by least squares: the direction phi in which the
   profile moved, how strongly (b), and the share of variance explained (R2).
3. Its p permutes the values' labels: ten points and three parameters give an R2 of 0.2 by chance alone.

Left out: a fit over several steerings at once (that is the Spearman of the whole matrix, `statistics.permuted_spearman`).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.records import ValueSystem


class Circumplex(NamedTuple):
    phi: float
    """Angle towards which the profile moved [radians, 0 to 2 pi]."""
    b: float
    """Half the difference between that angle and its opposite [unit of the changes, >= 0]."""
    a: float
    """Change common to all values [unit of the changes]."""
    r2: float
    """Share of the variance explained [0 to 1]; NaN where all changes are equal."""
    p: float
    """Permutation p of r2 [0 to 1]."""


def angles(system: ValueSystem, values: tuple[str, ...]) -> Float[np.ndarray, "value"]:
    """Places of `values` on the circle [radians]."""
    return np.array([system[value].angle for value in values])


def distances(system: ValueSystem, values: tuple[str, ...]) -> Float[np.ndarray, "value value"]:
    """Angle between every two values [radians, 0 to pi]."""
    return np.array([[system.distance(a, b) for b in values] for a in values])


def fit(change: Float[np.ndarray, "value"], theta: Float[np.ndarray, "value"], permutations: int, seed: int) -> Circumplex:
    """Least-squares circle through the changes of the values at angles `theta`, with a permutation p; values without a change are left out."""
    known = np.isfinite(change)
    change, theta = change[known], theta[known]
    design = np.column_stack([np.ones_like(theta), np.cos(theta), np.sin(theta)])
    if np.linalg.matrix_rank(design) < 3:
        raise BadInput(f"A circle needs three different angles, got {len(set(theta.tolist()))}. Measure more values.")
    a, x, y = np.linalg.lstsq(design, change, rcond=None)[0]
    phi, b = float(np.arctan2(y, x) % (2 * np.pi)), float(np.hypot(x, y))
    if not np.ptp(change):
        return Circumplex(phi, b, float(a), float("nan"), float("nan"))
    basis = np.linalg.qr(design[:, 1:] - design[:, 1:].mean(0))[0]
    rng = np.random.default_rng(seed)
    labels = np.stack([np.arange(len(theta)), *(rng.permutation(len(theta)) for _ in range(permutations))])
    centred = (change - change.mean())[labels]
    r2 = ((centred @ basis) ** 2).sum(1) / (centred[0] ** 2).sum()
    p = (1 + int((r2[1:] >= r2[0] - 1e-12).sum())) / (1 + permutations)
    return Circumplex(phi, b, float(a), float(r2[0]), p)
