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
    """How alike the values of respondents and the circle are, beside chance."""

    estimate: float
    """Congruence or share of variance explained [0 to 1]; NaN where a value does not vary."""
    null: float
    """Its mean with the places on the circle permuted [0 to 1]."""
    p: float
    """One-sided permutation p [0 to 1]."""
    n: int
    """Respondents."""


class Circumplex(NamedTuple):
    """A circle through the changes of all values: `a + b cos(theta - phi)`."""

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
    """Give the places of values on the circle [radians].

    angles(system, ("power", "benevolence"))
    """
    return np.array([system[value].angle for value in values])


def distances(system: ValueSystem, values: tuple[str, ...]) -> Float[np.ndarray, "value value"]:
    """Give the angle between every two values [radians, 0 to pi].

    distances(system, system.ids).max()  # pi: there are opposite values
    """
    return np.array([[system.distance(a, b) for b in values] for a in values])


def correlations(scores: Float[np.ndarray, "respondent value"]) -> Float[np.ndarray, "value value"]:
    """Correlate the values over respondents (Pearson); NaN for a value that does not vary.

    Respondents with a missing score are left out. Raises BadInput below three respondents.

        correlations(np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 0.0]]))  # [[1, -1], [-1, 1]]
    """
    complete = scores[np.isfinite(scores).all(1)]
    n = len(complete)
    if n < 3:
        raise BadInput(
            f"A correlation needs three respondents with all values, got {n}. Measure more"
            " contexts or people."
        )
    z = complete - complete.mean(0)
    spread = np.sqrt((z**2).sum(0))
    z = np.divide(z, spread, out=np.full_like(z, np.nan), where=spread > 1e-9 * np.sqrt(n))
    return np.clip(z.T @ z, -1.0, 1.0)


def place(r: Float[np.ndarray, "value value"]) -> Float[np.ndarray, "value 2"]:
    """Lay values out in the plane by their correlations: classical scaling of sqrt(2 - 2r) [SD].

    x, y = place(correlations(scores)).T
    """
    centring = np.eye(len(r)) - 1 / len(r)
    # The doubly centred squared distances are those of r itself.
    size, axes = np.linalg.eigh(centring @ r @ centring)
    return axes[:, :-3:-1] * np.sqrt(np.maximum(size[:-3:-1], 0.0))


def congruence(
    scores: Float[np.ndarray, "respondent value"],
    theta: Float[np.ndarray, " value"],
    permutations: int,
    seed: int,
) -> Likeness:
    """Tell how well values, laid out in the plane, fall on the circle at angles `theta`.

    `scores` are centred (MRAT), or every correlation is one of a habit of agreeing. The estimate is
    the Procrustes correlation; its null gives the circle's places to other values.

        congruence(scores, angles(system, system.ids), permutations=999, seed=0).p
    """
    r = correlations(scores)
    if not np.isfinite(r).all():
        return _unknown(len(scores))
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
    """Give the share of the variance of the values' correlations that their angles explain (R2).

    What explains is the cosine of the angle between two values; the null gives the circle's places
    to other values.

        agreement(scores, angles(system, system.ids), permutations=999, seed=0).estimate
    """
    r = correlations(scores)
    if not np.isfinite(r).all():
        return _unknown(len(scores))
    upper, lower = np.triu_indices(len(theta), 1)
    cosine = np.cos(theta[:, None] - theta)
    labels = _labels(len(theta), permutations, seed)
    close = cosine[labels[:, upper], labels[:, lower]]
    off_diagonal = r[upper, lower] - r[upper, lower].mean()
    close = close - close.mean(1, keepdims=True)
    r2 = (close @ off_diagonal) ** 2 / ((close**2).sum(1) * (off_diagonal**2).sum())
    return _likeness(r2, len(scores))


def _labels(values: int, permutations: int, seed: int) -> Int[np.ndarray, "permutation value"]:
    """Give the numbers of the values as they are, then permuted."""
    rng = np.random.default_rng(seed)
    return np.stack([np.arange(values), *(rng.permutation(values) for _ in range(permutations))])


def _unknown(n: int) -> Likeness:
    """Give the likeness of scores whose correlations are not all defined."""
    nan = float("nan")
    return Likeness(estimate=nan, null=nan, p=nan, n=n)


def _likeness(reached: Float[np.ndarray, " permutation"], n: int) -> Likeness:
    """Lay an estimate, which comes first, beside those of permuted labels."""
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
    """Lay a circle through the changes of values at angles `theta`, by least squares.

    Values whose change is NaN are left out; p permutes the values' labels. Raises BadInput below
    three different angles.

        theta = angles(system, system.ids)
        fit(0.3 + 0.5 * np.cos(theta - 1.0), theta, 999, 0)  # phi=1.0, b=0.5, a=0.3, r2=1.0
    """
    is_known = np.isfinite(change)
    change, theta = change[is_known], theta[is_known]
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
