"""Schwartz's circle in data: do the values of respondents lie on it, and does steering one value
move the others as it says?

1. `angles` and `distances` give the circle as arrays.
2. `place` lays the values of respondents (people, personas, contexts) out in the plane: classical
   scaling of the distances sqrt(2 - 2r) between values. Scores must be centred (MRAT), or all
   correlations are those of a habit of agreeing.
3. `congruence` turns, scales and mirrors that plane onto the circle (Procrustes) and gives the
   correlation that is reached; `agreement` is the squared correlation of r with the cosine of the
   angle between two values. The null of both gives the circle's places to other values.
4. `fit` lays `change = a + b cos(theta - phi)` over the changes of all values by least squares: the
   direction phi in which the profile moved, how strongly (b), and the share of variance explained
   (R2).
5. Its p permutes the values' labels: ten points and three parameters give an R2 of 0.2 by chance
   alone.

Left out: a fit over several steerings at once (that is the Spearman of the whole matrix,
`statistics.permuted_spearman`).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from feature_store.errors import BadInput
from feature_store.records import ValueSystem


class Likeness(NamedTuple):
    estimate: float
    """Congruence or share of variance explained [0 to 1]; NaN where a value does not vary."""
    null: float
    """Its mean with the places on the circle permuted [0 to 1]."""
    p: float
    """One-sided permutation p [0 to 1]."""
    n: int
    """Respondents."""


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


def angles(system: ValueSystem, values: tuple[str, ...]) -> Float[np.ndarray, " value"]:
    """Places of `values` on the circle [radians]."""
    return np.array([system[value].angle for value in values])


def distances(system: ValueSystem, values: tuple[str, ...]) -> Float[np.ndarray, "value value"]:
    """Angle between every two values [radians, 0 to pi]."""
    return np.array([[system.distance(a, b) for b in values] for a in values])


def correlations(scores: Float[np.ndarray, "respondent value"]) -> Float[np.ndarray, "value value"]:
    """Pearson correlations of the values over respondents whose scores are all known; NaN for a
    value that does not vary.
    """
    known = scores[np.isfinite(scores).all(1)]
    if len(known) < 3:
        raise BadInput(
            f"A correlation needs three respondents with all values, got {len(known)}. Measure more"
            " contexts or people."
        )
    z = known - known.mean(0)
    spread = np.sqrt((z**2).sum(0))
    z = np.divide(z, spread, out=np.full_like(z, np.nan), where=spread > 1e-9 * np.sqrt(len(known)))
    return np.clip(z.T @ z, -1.0, 1.0)


def place(r: Float[np.ndarray, "value value"]) -> Float[np.ndarray, "value 2"]:
    """Where the values lie in the plane: classical scaling of sqrt(2 - 2r) [SD]."""
    centring = np.eye(len(r)) - 1 / len(r)
    size, axes = np.linalg.eigh(
        centring @ r @ centring
    )  # the doubly centred squared distances are those of r itself
    return axes[:, :-3:-1] * np.sqrt(np.maximum(size[:-3:-1], 0.0))


def congruence(
    scores: Float[np.ndarray, "respondent value"],
    theta: Float[np.ndarray, " value"],
    permutations: int,
    seed: int,
) -> Likeness:
    """How well the values, laid out in the plane, fall on the circle at angles `theta`
    (Procrustes correlation).
    """
    r = correlations(scores)
    if not np.isfinite(r).all():
        return Likeness(*[float("nan")] * 3, len(scores))
    points, circle = place(r), np.column_stack([np.cos(theta), np.sin(theta)])
    circle = circle - circle.mean(0)
    labels = _labels(len(theta), permutations, seed)
    cross = np.einsum("vi,pvj->pij", points, circle[labels])
    # The two singular values of a 2 x 2 matrix add up to this.
    reached = np.sqrt((cross**2).sum((1, 2)) + 2 * np.abs(np.linalg.det(cross))) / np.sqrt(
        (points**2).sum() * (circle**2).sum()
    )
    return _likeness(reached, len(scores))


def agreement(
    scores: Float[np.ndarray, "respondent value"],
    theta: Float[np.ndarray, " value"],
    permutations: int,
    seed: int,
) -> Likeness:
    """Share of the variance of the values' correlations that the cosine of their angle explains
    (R2).
    """
    r = correlations(scores)
    if not np.isfinite(r).all():
        return Likeness(*[float("nan")] * 3, len(scores))
    upper, lower = np.triu_indices(len(theta), 1)
    cosine = np.cos(theta[:, None] - theta)
    labels = _labels(len(theta), permutations, seed)
    close = cosine[labels[:, upper], labels[:, lower]]
    own, close = r[upper, lower] - r[upper, lower].mean(), close - close.mean(1, keepdims=True)
    return _likeness((close @ own) ** 2 / ((close**2).sum(1) * (own**2).sum()), len(scores))


def _labels(values: int, permutations: int, seed: int) -> Int[np.ndarray, "permutation value"]:
    """The values as they are, then permuted."""
    rng = np.random.default_rng(seed)
    return np.stack([np.arange(values), *(rng.permutation(values) for _ in range(permutations))])


def _likeness(reached: np.ndarray, n: int) -> Likeness:
    hits = int((reached[1:] >= reached[0] - 1e-12).sum())
    return Likeness(
        estimate=float(reached[0]), null=float(reached[1:].mean()), p=(1 + hits) / len(reached), n=n
    )


def fit(
    change: Float[np.ndarray, " value"],
    theta: Float[np.ndarray, " value"],
    permutations: int,
    seed: int,
) -> Circumplex:
    """Least-squares circle through the changes of the values at angles `theta`, with a
    permutation p; values without a change are left out.
    """
    known = np.isfinite(change)
    change, theta = change[known], theta[known]
    design = np.column_stack([np.ones_like(theta), np.cos(theta), np.sin(theta)])
    if np.linalg.matrix_rank(design) < 3:
        raise BadInput(
            f"A circle needs three different angles, got {len(set(theta.tolist()))}. Measure more"
            " values."
        )
    a, x, y = np.linalg.lstsq(design, change, rcond=None)[0]
    phi, b = float(np.arctan2(y, x) % (2 * np.pi)), float(np.hypot(x, y))
    if not np.ptp(change):
        return Circumplex(phi=phi, b=b, a=float(a), r2=float("nan"), p=float("nan"))
    basis = np.linalg.qr(design[:, 1:] - design[:, 1:].mean(0))[0]
    centred = (change - change.mean())[_labels(len(theta), permutations, seed)]
    r2 = ((centred @ basis) ** 2).sum(1) / (centred[0] ** 2).sum()
    p = (1 + int((r2[1:] >= r2[0] - 1e-12).sum())) / (1 + permutations)
    return Circumplex(phi=phi, b=b, a=float(a), r2=float(r2[0]), p=p)
