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

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.statistics.intervals import known_mean

FEWEST = 5
"""Subjects below which no correlation over subjects is given."""


class Validity(NamedTuple):
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
    """Correlation over subjects of every value on one instrument with every value on the other;
    NaN where one does not vary.
    """
    za, zb = _standardised(a), _standardised(b)
    return za.T @ zb / len(a)


def _standardised(x: Float[np.ndarray, "subject value"]) -> Float[np.ndarray, "subject value"]:
    spread = x.std(0)
    return np.divide(x - x.mean(0), spread, out=np.full_like(x, np.nan), where=spread > 1e-12)


def mtmm(
    profiles: dict[str, Float[np.ndarray, "subject value"]], values: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Rows of the relation `mtmm`: every pair of instrument and value with every other, once
    each way.
    """
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
    """How far two instruments agree about the same subjects, over the values that both measure;
    none where these are fewer than three.

    Correlations over subjects are given from `FEWEST` of them on.
    """
    both = np.isfinite(a).all(0) & np.isfinite(b).all(0)
    if both.sum() < 3:
        return []
    a, b = a[:, both], b[:, both]
    rng, n = np.random.default_rng(seed), len(a)
    drawn = rng.integers(n, size=(replicates, n))
    shuffled = [rng.permutation(n) for _ in range(replicates)]
    renamed = [rng.permutation(a.shape[1]) for _ in range(replicates)]
    own = _profile(a, b)
    found = [
        Validity(
            "profile",
            float(known_mean(own, 0)),
            *_interval([known_mean(own[rows], 0) for rows in drawn] if n > 1 else []),
            _p(known_mean(own, 0), [known_mean(_profile(a, b[:, names]), 0) for names in renamed]),
            n,
        )
    ]
    if n < FEWEST:
        return found
    told, resampled = (
        _campbell_fiske(correlations(a, b)),
        [_campbell_fiske(correlations(a[rows], b[rows])) for rows in drawn],
    )
    null = [_campbell_fiske(correlations(a, b[rows]))[0] for rows in shuffled]
    for k, metric in enumerate(("convergent", "discriminant", "criterion")):
        p = _p(told[k], null) if metric == "convergent" else float("nan")
        found.append(
            Validity(metric, float(told[k]), *_interval([one[k] for one in resampled]), p, n)
        )
    return found


def _profile(
    a: Float[np.ndarray, "subject value"], b: Float[np.ndarray, "subject value"]
) -> Float[np.ndarray, " subject"]:
    """Correlation over values of each subject's two profiles."""
    za, zb = _standardised(a.T), _standardised(b.T)
    return (za * zb).mean(0)


def _campbell_fiske(r: Float[np.ndarray, "value value"]) -> tuple[float, float, float]:
    """Mean of the validity diagonal, mean beside it, and share of the diagonal above its row and
    column.
    """
    diagonal, off = np.diag(r), np.where(np.eye(len(r), dtype=bool), np.nan, r)
    known = np.isfinite(diagonal)
    rivals = np.fmax(np.fmax.reduce(off, 0), np.fmax.reduce(off, 1))
    return (
        float(known_mean(diagonal, 0)),
        float(known_mean(off.ravel(), 0)),
        float((diagonal > rivals)[known].mean()) if known.any() else float("nan"),
    )


def _interval(replicates: Sequence[float | np.ndarray]) -> tuple[float, float]:
    known = np.array(replicates, dtype=float)
    known = known[np.isfinite(known)]
    return (
        (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975)))
        if len(known)
        else (float("nan"), float("nan"))
    )


def _p(told: float | np.ndarray, null: Sequence[float | np.ndarray]) -> float:
    return (
        float("nan")
        if not np.isfinite(told)
        else (1 + sum(one >= told - 1e-12 for one in null)) / (1 + len(null))
    )
