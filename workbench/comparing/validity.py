"""Do instruments measure the same? The multitrait-multimethod matrix (Campbell & Fiske 1959) over
subjects.

1. Traits are the values, methods the instruments, observations the subjects' centred profiles:
   `mtmm` correlates every (instrument, value) with every other over subjects.
2. *Convergent*: the mean correlation of a value with itself on the other instrument. Its p permutes
   the subjects of one instrument.
3. *Discriminant*: the mean correlation of a value with the other values on the other instrument,
   and the share of values whose convergent correlation is larger than all of those in its row and
   column (Campbell and Fiske's second criterion).
4. *Profile*: the mean over subjects of the correlation of their two profiles over values; its p
   permutes the values' names, the same for all subjects.
5. Intervals are percentiles of a bootstrap over subjects.

Steered variants of one model are no random sample of models: what is valid among them is that
instruments see the same steering. Left out: method factors, which need more subjects than there are
models.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from workbench.statistics.intervals import known_mean

FEWEST = 5
"""Subjects below which no correlation over subjects is given."""


class Validity(NamedTuple):
    """One figure of how far two instruments agree."""

    metric: str
    """`convergent`, `discriminant`, `criterion` or `profile`."""
    value: float
    """Mean correlation [-1 to 1]; `criterion`: share of values [0 to 1]."""
    low: float
    """Lower end of the 95 % interval over subjects."""
    high: float
    """Upper end of it."""
    p: float
    """Permutation p of a value as large [0 to 1]; NaN where none is defined."""
    n: int
    """Subjects."""


def correlations(
    a: Float[np.ndarray, "subject value"], b: Float[np.ndarray, "subject value"]
) -> Float[np.ndarray, "value value"]:
    """Correlate every value on one instrument with every value on the other, over subjects.

    NaN where one does not vary.
    """
    za, zb = _standardised(a), _standardised(b)
    return za.T @ zb / len(a)


def _standardised(x: Float[np.ndarray, "subject value"]) -> Float[np.ndarray, "subject value"]:
    """Standardise each column [SD]; NaN where it does not vary."""
    spread = x.std(0)
    return np.divide(x - x.mean(0), spread, out=np.full_like(x, np.nan), where=spread > 1e-12)


def mtmm(
    profiles: Mapping[str, Float[np.ndarray, "subject value"]], values: Sequence[str]
) -> list[dict[str, Any]]:
    """Give the rows of the relation `mtmm`: (instrument, value) with every other, both ways."""
    return [
        {
            "instrument": a,
            "value": values[i],
            "other_instrument": b,
            "other_value": values[j],
            "r": float(r),
            "n": len(profiles[a]),
        }
        for a in profiles
        for b in profiles
        for (i, j), r in np.ndenumerate(correlations(profiles[a], profiles[b]))
    ]


def validity(
    a: Float[np.ndarray, "subject value"],
    b: Float[np.ndarray, "subject value"],
    replicates: int,
    seed: int,
) -> list[Validity]:
    """Tell how far two instruments agree about the same subjects, over the values of both.

    There is nothing to tell where they share fewer than three values; correlations over subjects
    are given from `FEWEST` subjects on.
    """
    is_shared = np.isfinite(a).all(0) & np.isfinite(b).all(0)
    if is_shared.sum() < 3:
        return []
    a, b = a[:, is_shared], b[:, is_shared]
    rng = np.random.default_rng(seed)
    n = len(a)
    samples = rng.integers(n, size=(replicates, n))
    shuffles = [rng.permutation(n) for _ in range(replicates)]
    renamings = [rng.permutation(a.shape[1]) for _ in range(replicates)]
    figures = [_profile_validity(a, b, samples, renamings)]
    if n < FEWEST:
        return figures
    measured = _campbell_fiske(correlations(a, b))
    resampled = [_campbell_fiske(correlations(a[rows], b[rows])) for rows in samples]
    null = [_campbell_fiske(correlations(a, b[rows]))[0] for rows in shuffles]
    for k, metric in enumerate(("convergent", "discriminant", "criterion")):
        p = _p(measured[k], null) if metric == "convergent" else float("nan")
        low, high = _interval([sample[k] for sample in resampled])
        figures.append(
            Validity(metric=metric, value=float(measured[k]), low=low, high=high, p=p, n=n)
        )
    return figures


def _profile_validity(
    a: Float[np.ndarray, "subject value"],
    b: Float[np.ndarray, "subject value"],
    samples: Int[np.ndarray, "replicate subject"],
    renamings: Sequence[np.ndarray],
) -> Validity:
    """Give the mean correlation of each subject's two profiles."""
    per_subject = _profile(a, b)
    mean = known_mean(per_subject, 0)
    resampled = [known_mean(per_subject[rows], 0) for rows in samples] if len(a) > 1 else []
    low, high = _interval(resampled)
    p = _p(mean, [known_mean(_profile(a, b[:, names]), 0) for names in renamings])
    return Validity(metric="profile", value=float(mean), low=low, high=high, p=p, n=len(a))


def _profile(
    a: Float[np.ndarray, "subject value"], b: Float[np.ndarray, "subject value"]
) -> Float[np.ndarray, " subject"]:
    """Correlate each subject's two profiles over values."""
    za, zb = _standardised(a.T), _standardised(b.T)
    return (za * zb).mean(0)


def _campbell_fiske(r: Float[np.ndarray, "value value"]) -> tuple[float, float, float]:
    """Give the three figures of a block of the matrix.

    They are the mean of its diagonal, the mean beside it, and the share of the diagonal that is
    above its row and column.
    """
    diagonal = np.diag(r)
    off = np.where(np.eye(len(r), dtype=bool), np.nan, r)
    is_known = np.isfinite(diagonal)
    rivals = np.fmax(np.fmax.reduce(off, 0), np.fmax.reduce(off, 1))
    criterion = float((diagonal > rivals)[is_known].mean()) if is_known.any() else float("nan")
    return float(known_mean(diagonal, 0)), float(known_mean(off.ravel(), 0)), criterion


def _interval(replicates: Sequence[float | np.ndarray]) -> tuple[float, float]:
    """Give the percentile interval of what is finite; NaN where nothing is."""
    finite = np.array(replicates, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return float("nan"), float("nan")
    return float(np.quantile(finite, 0.025)), float(np.quantile(finite, 0.975))


def _p(estimate: float | np.ndarray, null: Sequence[float | np.ndarray]) -> float:
    """Give the one-sided permutation p of an estimate; NaN where there is none."""
    if not np.isfinite(estimate):
        return float("nan")
    hits = sum(bool(permuted >= estimate - 1e-12) for permuted in null)
    return (1 + hits) / (1 + len(null))
