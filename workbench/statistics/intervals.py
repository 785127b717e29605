"""Intervals and tests that a number must carry: clustered by prompt context, corrected for how many
were asked.

1. `bootstrap_mean` resamples whole clusters with multinomial weights, all cells in one matrix
   product, and gives the studentised (bootstrap-t) interval: each replicate's deviation is divided
   by its own standard error, and the quantiles of that ratio replace Student's. With 24-48 skewed
   clusters percentile, basic and BCa intervals cover too little (`benchmarks/coverage.py` measures
   it); this one does not (Efron & Tibshirani 1993, 12.5).
2. p is consistent with the interval: Student's tail, stretched so that it meets the bootstrap's
   quantile on that side. p < 0.05 exactly where the interval excludes 0, and no floor at 1 /
   replicates ruins Benjamini-Hochberg.
3. `benjamini_hochberg` controls the false discovery rate; `permuted_spearman` tests a matrix
   against the circle.
4. `hedges_g` and `auroc` compare groups within strata, the latter for all columns of a sparse
   matrix at once.

Left out: multilevel models. The mean over clusters is the estimate; clusters count equally.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy import sparse, special, stats

from feature_store.errors import BadInput

CELLS = 4096
"""Cells bootstrapped at a time: bounds memory at replicates x CELLS doubles, three times over."""
ALPHA = 0.05
"""One less the level of an interval."""


class Interval(NamedTuple):
    """Estimates with 95 % intervals; every field has the shape of the cells."""

    mean: np.ndarray
    """Mean over clusters [unit of the data]; NaN without any."""
    low: np.ndarray
    """Lower end; NaN below two clusters."""
    high: np.ndarray
    """Upper end."""
    p: np.ndarray
    """Two-sided p of a mean of 0 [0 to 1]."""
    n: np.ndarray
    """Clusters that count in the cell."""


def cluster_weights(n: int, replicates: int, seed: int) -> Float[np.ndarray, "replicate cluster"]:
    """Draw how often each of `n` clusters counts in each bootstrap replicate.

    cluster_weights(24, replicates=2000, seed=0).sum(1)  # 24 in each replicate
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=replicates).astype(float)


def known_mean(x: Float[np.ndarray, "*shape"], axis: int) -> Float[np.ndarray, "*rest"]:
    """Average along an axis what is not NaN; NaN where nothing is known.

    known_mean(np.array([[1.0, np.nan], [3.0, np.nan]]), axis=0)  # [2, nan]
    """
    is_known = np.isfinite(x)
    n = is_known.sum(axis)
    total = np.where(is_known, x, 0.0).sum(axis)
    return np.divide(total, n, out=np.full(np.shape(n), np.nan), where=n > 0)


def replicate_means(
    x: Float[np.ndarray, " cluster *cells"], weights: Float[np.ndarray, "replicate cluster"]
) -> Float[np.ndarray, " replicate *cells"]:
    """Average every cell over the clusters of each replicate, as `cluster_weights` drew them.

    Missing clusters are left out; NaN where a replicate drew none that is known.

        replicate_means(changes, cluster_weights(len(changes), 2000, seed=0))  # [2000, ...]
    """
    flat, known = _split(x)
    drawn = weights @ known
    means = np.divide(weights @ flat, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
    return means.reshape(len(weights), *x.shape[1:])


def bootstrap_mean(
    x: Float[np.ndarray, " cluster *cells"], replicates: int, seed: int, alpha: float = ALPHA
) -> Interval:
    """Average over clusters, with the studentised 95 % interval and p of every cell.

    The interval is of level 1 - `alpha`. A NaN leaves its cluster out of its cell. Raises BadInput
    without clusters or below 100 replicates.

        rng = np.random.default_rng(0)
        bootstrap_mean(rng.normal(1.0, 0.5, (24, 10)), replicates=2000, seed=0).low  # 10 values
    """
    if not len(x) or replicates < 100:
        raise BadInput(
            f"An interval needs clusters and at least 100 replicates, got {len(x)} and"
            f" {replicates}. Give more of them."
        )
    weights = cluster_weights(len(x), replicates, seed)
    flat = x.reshape(len(x), -1).astype(float)
    parts = [
        _studentised(flat[:, start : start + CELLS], weights, alpha)
        for start in range(0, flat.shape[1], CELLS)
    ]
    columns = [np.empty(0)] * len(Interval._fields)
    if parts:
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Interval(*(column.reshape(x.shape[1:]) for column in columns))


Averaging = Callable[[np.ndarray, int, int], Interval]
"""Averages clusters [cluster, *cells], with replicates and a seed, as `bootstrap_mean` does."""


def repeated_mean(
    x: Float[np.ndarray, " cluster *cells"], replicates: int, seed: int, looks: int
) -> Interval:
    """Average over clusters that came in rounds, with an interval that holds at every look.

    Each look's interval has the level 1 - 0.05 / looks, so all of them together cover with 95 %,
    whichever is the last (Jennison & Turnbull 1989); p is multiplied by `looks`, so it still is
    below 0.05 exactly where the interval excludes 0. Cells that were asked in the same clusters are
    resampled over those alone.

        repeated_mean(changes, 1000, 0, looks=3).low
    """
    flat = x.reshape(len(x), -1).astype(float)
    patterns, group = np.unique(np.isfinite(flat), axis=1, return_inverse=True)
    whole = [np.full(flat.shape[1], np.nan) for _ in Interval._fields]
    whole[-1] = np.zeros(flat.shape[1], int)
    for number, is_known in enumerate(patterns.T):
        cells = group.ravel() == number
        if is_known.any():
            known = bootstrap_mean(flat[is_known][:, cells], replicates, seed, ALPHA / looks)
            known = known._replace(p=np.minimum(1.0, looks * known.p))
            for column, values in zip(whole, known, strict=True):
                column[cells] = values
    return Interval(*(column.reshape(x.shape[1:]) for column in whole))


def bootstrap_ratio(
    total: Float[np.ndarray, "cluster cell"],
    count: Float[np.ndarray, "cluster cell"],
    replicates: int,
    seed: int,
    less: tuple[Float[np.ndarray, " cluster"], Float[np.ndarray, " cluster"]] | None = None,
) -> Interval:
    """Average over all members of unequal clusters: the sum of `total` over that of `count`.

    `less` is `total` and `count` of a second such mean over the same clusters, which is subtracted
    in every replicate. The interval is studentised as that of `bootstrap_mean`; standard errors are
    those of the linearised ratio (Cochran 1977, 6.3), so large clusters count more.

        bootstrap_ratio(np.array([[6.0], [2.0]]), np.array([[2.0], [1.0]]), 2000, 0).mean  # 8 / 3
    """
    if not len(total) or replicates < 100:
        raise BadInput(
            f"An interval needs clusters and at least 100 replicates, got {len(total)} and"
            f" {replicates}. Give more of them."
        )
    weights = cluster_weights(len(total), replicates, seed)
    n = (count > 0).sum(0).astype(float)
    sums, counts = total.sum(0), count.sum(0)
    mean = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    off = total - np.nan_to_num(mean) * count
    drawn = np.maximum(weights @ count, 1.0)
    linear = off / np.maximum(counts, 1.0)
    shift = weights @ off / drawn
    variance = (
        weights @ off**2 - 2 * shift * (weights @ (off * count)) + shift**2 * (weights @ count**2)
    ) / drawn**2
    if less is not None:
        other_total, other_count = less[0][:, None], less[1][:, None]
        members = max(float(other_count.sum()), 1.0)
        centre = float(other_total.sum()) / members
        other_off = other_total - centre * other_count
        other_drawn = np.maximum(weights @ other_count, 1.0)
        other_shift = weights @ other_off / other_drawn
        variance += (
            weights @ other_off**2
            - 2 * other_shift * (weights @ (other_off * other_count))
            + other_shift**2 * (weights @ other_count**2)
        ) / other_drawn**2
        covariance = (
            weights @ (off * other_off)
            - other_shift * (weights @ (off * other_count))
            - shift * (weights @ (count * other_off))
            + shift * other_shift * (weights @ (count * other_count))
        )
        variance -= 2 * covariance / (drawn * other_drawn)
        mean = mean - centre
        linear = linear - other_off / members
        shift = shift - other_shift
    small_sample = np.divide(n, n - 1, out=np.full_like(n, np.nan), where=n > 1)
    spread = np.sqrt((linear**2).sum(0))
    # What rounding leaves is no spread.
    spread[spread <= 1e-12 * np.abs(total).max(initial=0.0)] = 0.0
    se = spread * np.sqrt(small_sample)
    variance = np.maximum(variance, 0) * np.nan_to_num(small_sample)
    return _interval(mean, se, shift, variance, n)


def _split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give values with 0 for what is missing, and 1 or 0 for what is known [cluster, cell]."""
    flat = x.reshape(len(x), -1)
    is_known = np.isfinite(flat)
    return np.where(is_known, flat, 0.0), is_known.astype(float)


def _studentised(x: np.ndarray, weights: np.ndarray, alpha: float) -> Interval:
    """Give the interval of every cell [cluster, cell], from the replicates' weights."""
    flat, known = _split(x)
    n = known.sum(0)
    mean = np.divide(flat.sum(0), n, out=np.full_like(n, np.nan), where=n > 0)
    # Squares of small numbers lose no digits.
    centred = np.where(known > 0, flat - np.nan_to_num(mean), 0.0)
    # Rounding leaves a spread of 1e-16 in cells whose clusters are all equal: that is none.
    noise = 1e-12 * np.abs(flat).max(0, initial=0.0)
    spread = np.sqrt((centred**2).sum(0) / np.maximum(n - 1, 1))
    spread[spread <= noise] = 0.0
    se = np.divide(spread, np.sqrt(n), out=np.full_like(n, np.nan), where=n > 1)
    drawn = np.maximum(weights @ known, 1.0)
    shift = weights @ centred / drawn
    variance = np.maximum(weights @ centred**2 / drawn - shift**2, 0) / np.maximum(drawn - 1, 1)
    return _interval(mean, se, shift, variance, n, alpha)


def _interval(
    mean: Float[np.ndarray, " cell"],
    se: Float[np.ndarray, " cell"],
    shift: Float[np.ndarray, "replicate cell"],
    variance: Float[np.ndarray, "replicate cell"],
    n: Float[np.ndarray, " cell"],
    alpha: float = ALPHA,
) -> Interval:
    """Give the studentised interval and p of estimates with standard errors.

    `shift` and `variance` are each replicate's deviation from the estimate and its squared standard
    error.
    """
    # A replicate of few distinct clusters has next to no spread; a quarter of the real one bounds
    # its ratio.
    ratio = shift / np.maximum(np.sqrt(variance), np.where(se > 0, se, 1.0) / 4)
    below, above = np.quantile(ratio, (alpha / 2, 1 - alpha / 2), axis=0)
    t = np.divide(mean, se, out=np.zeros_like(mean), where=se > 0)
    certain = np.where(mean == 0, 1.0, 0.0)  # without any spread the mean is known
    degrees = np.maximum(n - 1, 1)
    reach = stats.t.ppf(1 - alpha / 2, degrees)
    stretch = np.maximum(np.where(t > 0, above, -below) / reach, 0.1)
    p = np.where(se > 0, 2 * stats.t.sf(np.abs(t) / stretch, degrees), certain)
    p[~np.isfinite(se)] = np.nan
    return Interval(mean=mean, low=mean - above * se, high=mean - below * se, p=p, n=n.astype(int))


def benjamini_hochberg(p: Float[np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
    """Turn p into q: the false discovery rate at which a test is called, over all of them.

    NaN stays NaN and is not counted among the tests.

        benjamini_hochberg(np.array([0.01, 0.04, np.nan]))  # [0.02, 0.04, nan]
    """
    q = np.full(p.shape, np.nan)
    is_known = np.isfinite(p)
    if is_known.any():
        q[is_known] = stats.false_discovery_control(p[is_known], method="bh")
    return q


class Correlation(NamedTuple):
    """A rank correlation with its permutation test."""

    r: float
    """Spearman correlation [-1 to 1]."""
    p: float
    """Two-sided permutation p [0 to 1]."""
    n: int
    """Cells."""


def permuted_spearman(
    matrix: Float[np.ndarray, "source value"],
    sources: Int[np.ndarray, " source"],
    similarity: Float[np.ndarray, "value value"],
    permutations: int,
    seed: int,
) -> Correlation:
    """Correlate the cells off the diagonal with `similarity` by ranks (a Mantel test).

    `sources[r]` is the number of the value that row r is about. p permutes the values' labels:
    cells share rows and columns, so permuting cells would be too liberal.

        similarity = np.cos(distances(system, system.ids))
        permuted_spearman(effects, np.arange(10), similarity, permutations=999, seed=0).r
    """
    rng = np.random.default_rng(seed)
    values = len(similarity)
    rows, columns = np.nonzero(sources[:, None] != np.arange(values))
    is_known = np.isfinite(matrix[rows, columns])
    rows, columns = rows[is_known], columns[is_known]
    cells = matrix[rows, columns]
    if len(cells) < 3 or np.ptp(cells) == 0:
        return Correlation(float("nan"), float("nan"), len(cells))
    labels = np.stack([np.arange(values), *(rng.permutation(values) for _ in range(permutations))])
    likeness = similarity[labels[:, sources[rows]], labels[:, columns]]
    ranks, cell_ranks = stats.rankdata(likeness, axis=1), stats.rankdata(cells)
    ranks, cell_ranks = ranks - ranks.mean(1, keepdims=True), cell_ranks - cell_ranks.mean()
    length = np.sqrt((ranks**2).sum(1) * (cell_ranks**2).sum())
    r = np.divide(ranks @ cell_ranks, length, out=np.zeros(len(ranks)), where=length > 0)
    hits = int((np.abs(r[1:]) >= abs(r[0]) - 1e-12).sum())
    return Correlation(float(r[0]), (1 + hits) / (1 + permutations), len(cells))


def hedges_g(
    x: Float[np.ndarray, " n"], group: Bool[np.ndarray, " n"], strata: Num[np.ndarray, " n"]
) -> Interval:
    """Give the standardised mean difference of `group` and the rest within strata [SD].

    The difference is that of the strata weighted by n1 n0 / (n1 + n0); the SD is pooled within
    groups and strata; the small-sample factor and the variance behind the 95 % interval are those
    of Hedges (1981). Raises BadInput where no stratum holds both groups, or nothing varies.

        hedges_g(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True]), np.zeros(4))
    """
    _, where = np.unique(strata, return_inverse=True)
    cell = 2 * where + group
    count = np.bincount(cell, minlength=2 * where.max() + 2).astype(float)
    total = np.bincount(cell, x, minlength=len(count))
    means = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    degrees = len(x) - (count > 0).sum()
    n0, n1 = count[::2], count[1::2]
    weight = np.divide(n0 * n1, n0 + n1, out=np.zeros_like(n0), where=n0 * n1 > 0)
    if degrees < 2 or not weight.any():
        raise BadInput(
            "A mean difference needs both groups in one stratum and four rows. Give wider strata."
        )
    sd = np.sqrt(((x - means[cell]) ** 2).sum() / degrees)
    if sd == 0:
        raise BadInput(
            "A standardised difference needs spread within the groups, got none. Check the data."
        )
    difference = float((weight * (means[1::2] - means[::2])).sum() / weight.sum() / sd)
    g = difference * (1 - 3 / (4 * degrees - 1))
    se = np.sqrt(1 / weight.sum() + g**2 / (2 * degrees))
    reach = stats.norm.ppf(0.975) * se
    p = 2 * special.ndtr(-abs(g) / se)
    return Interval(*map(np.array, (g, g - reach, g + reach, p, len(x))))


def auroc(
    activations: sparse.csc_matrix,
    positive: Bool[np.ndarray, " document"],
    strata: Int[np.ndarray, " document"],
) -> Float[np.ndarray, " column"]:
    """Give the area under the ROC curve of every column [0 to 1]; NaN without pairs.

    Pairs of a positive and another document are taken within strata. Only stored entries are
    sorted; they must be positive, so that they rank above all zeros.

        auroc(sparse.csc_matrix([[0.0], [2.0]]), np.array([False, True]), np.zeros(2, int))  # [1]
    """
    n_strata = int(strata.max(initial=0)) + 1
    held = np.bincount(strata, positive, minlength=n_strata)
    rest = np.bincount(strata, ~positive, minlength=n_strata)
    pairs = float(held @ rest)
    columns = activations.shape[1]
    if not pairs:
        return np.full(columns, np.nan)
    column = np.repeat(np.arange(columns), np.diff(activations.indptr))
    group = column * n_strata + strata[activations.indices]
    order = np.lexsort((activations.data, group))
    group, value, is_held = (
        group[order],
        activations.data[order],
        positive[activations.indices[order]],
    )
    # Ranks within a group, ties sharing the mean of their places.
    new_group = np.r_[True, group[1:] != group[:-1]] if len(group) else np.zeros(0, bool)
    new_run = new_group | np.r_[True, value[1:] != value[:-1]] if len(group) else new_group
    starts = np.flatnonzero(new_run)
    ends = np.r_[starts[1:], len(group)]
    run = np.cumsum(new_run) - 1
    first = np.flatnonzero(new_group)[np.cumsum(new_group) - 1] if len(group) else np.zeros(0, int)
    rank = (starts[run] + ends[run] + 1) / 2 - first
    cells = columns * n_strata
    held_on = np.bincount(group, is_held, minlength=cells).reshape(columns, n_strata)
    rest_on = np.bincount(group, ~is_held, minlength=cells).reshape(columns, n_strata)
    ranks = np.bincount(group, rank * is_held, minlength=cells).reshape(columns, n_strata)
    wins = ranks - held_on * (held_on + 1) / 2 + (rest - rest_on) * (held_on + (held - held_on) / 2)
    return wins.sum(1) / pairs
