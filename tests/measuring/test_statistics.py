"""Intervals, multiplicity and group comparisons, each beside a reference or an exact answer."""

import numpy as np
import pytest
from scipy import sparse, stats

from feature_store.errors import BadInput
from workbench.statistics.intervals import (
    auroc,
    benjamini_hochberg,
    bootstrap_mean,
    cluster_weights,
    hedges_g,
    permuted_spearman,
    replicate_means,
)


def test_the_interval_of_a_skewed_mean_covers_what_it_promises():
    rng = np.random.default_rng(0)
    x = rng.gamma(
        0.8, 1.0, size=(24, 3000)
    )  # 3000 simulated studies of 24 skewed clusters, mean 0.8
    found = bootstrap_mean(x, 600, 1)
    covered = ((found.low <= 0.8) & (found.high >= 0.8)).mean()
    plain = 2.069 * x.std(0, ddof=1) / np.sqrt(24)
    student = (np.abs(x.mean(0) - 0.8) <= plain).mean()
    assert 0.93 <= covered <= 0.97
    assert student < 0.925  # the simulation is hard enough to tell


def test_p_is_below_five_per_cent_exactly_where_the_interval_excludes_zero():
    x = np.random.default_rng(1).gamma(1.0, 1.0, size=(30, 500)) - 0.8
    found = bootstrap_mean(x, 400, 0)
    outside = (found.low > 0) | (found.high < 0)
    assert np.array_equal(outside, found.p < 0.05)
    assert 0.02 < outside.mean() < 0.98
    strong = bootstrap_mean(x[:, :1] + 5, 400, 0)
    assert strong.p[0] < 1e-8  # no floor at 1 / replicates


def test_a_missing_cluster_is_left_out_of_its_cell_only():
    x = np.random.default_rng(2).normal(size=(20, 3))
    holed = x.copy()
    holed[4, 1] = np.nan
    holed[:, 2] = np.nan
    whole, found = bootstrap_mean(x, 500, 0), bootstrap_mean(holed, 500, 0)
    assert found.n.tolist() == [20, 19, 0]
    assert found.mean[1] == pytest.approx(np.delete(x[:, 1], 4).mean())
    assert (found.mean[0], found.low[0], found.high[0]) == (
        whole.mean[0],
        whole.low[0],
        whole.high[0],
    )
    assert np.isnan([found.mean[2], found.low[2], found.p[2]]).all()
    drawn = replicate_means(holed, cluster_weights(20, 200, 0))
    assert np.isfinite(drawn[:, :2]).all()
    assert np.isnan(drawn[:, 2]).all()


def test_cells_keep_their_shape_and_a_constant_is_certain():
    x = np.tile(np.arange(6.0).reshape(1, 2, 3) * 0.1, (12, 1, 1))
    found = bootstrap_mean(x, 200, 0)
    assert found.mean.shape == (2, 3)
    assert np.allclose(found.low, x[0])
    assert np.allclose(found.high, x[0])
    assert found.p[0, 0] == 1
    assert (found.p.ravel()[1:] == 0).all()


def test_one_cluster_has_a_mean_and_no_interval_and_none_is_refused():
    found = bootstrap_mean(np.array([[2.0]]), 200, 0)
    assert found.mean[0] == 2
    assert np.isnan(found.low[0])
    with pytest.raises(BadInput, match="clusters"):
        bootstrap_mean(np.empty((0, 2)), 200, 0)


def test_the_same_seed_gives_the_same_interval_and_replicates_average_to_the_mean():
    x = np.random.default_rng(3).normal(size=(24, 4)) + 1
    assert np.array_equal(bootstrap_mean(x, 300, 5).low, bootstrap_mean(x, 300, 5).low)
    assert not np.array_equal(bootstrap_mean(x, 300, 5).low, bootstrap_mean(x, 300, 6).low)
    assert replicate_means(x, cluster_weights(24, 4000, 0)).mean(0) == pytest.approx(
        x.mean(0), abs=0.02
    )


def test_benjamini_hochberg_matches_the_worked_example_and_skips_missing():
    p = np.array([[0.01, 0.04], [np.nan, 0.03]])
    assert benjamini_hochberg(p) == pytest.approx(
        np.array([[0.03, 0.04], [np.nan, 0.04]]), nan_ok=True
    )


def test_spearman_with_the_circle_is_found_and_its_null_is_uniform():
    theta = np.arange(10) * 2 * np.pi / 10
    like = np.cos(theta[:, None] - theta)
    rng = np.random.default_rng(4)
    everyone = np.arange(10)
    matrix = like + 0.3 * rng.normal(size=(10, 10))
    found = permuted_spearman(matrix, everyone, like, 999, 0)
    off = ~np.eye(10, dtype=bool)
    assert found.r == pytest.approx(stats.spearmanr(matrix[off], like[off]).statistic)
    assert found.p == 0.001
    assert found.n == 90
    few = np.array([0, 3, 7])
    assert permuted_spearman(matrix[few], few, like, 999, 0).n == 27
    null = [
        permuted_spearman(rng.normal(size=(10, 10)), everyone, like, 99, k).p for k in range(200)
    ]
    assert 0.01 <= np.mean(np.array(null) <= 0.05) <= 0.1


def test_hedges_g_is_exact_without_strata_and_immune_to_a_confounded_stratum():
    rng = np.random.default_rng(5)
    x, group = rng.normal(size=60), np.arange(60) < 20
    found = hedges_g(x + group, group, np.zeros(60, int))
    a, b = (x + group)[group], x[~group]
    pooled = np.sqrt((19 * a.var(ddof=1) + 39 * b.var(ddof=1)) / 58)
    assert found.mean == pytest.approx((a.mean() - b.mean()) / pooled * (1 - 3 / (4 * 58 - 1)))
    assert found.low < found.mean < found.high
    strata = np.repeat([0, 1], 30)
    lopsided = np.r_[np.arange(30) < 25, np.arange(30) < 5]
    shifted = x + 10 * strata
    assert abs(hedges_g(shifted, lopsided, strata).mean) < 1
    with pytest.raises(BadInput, match="both groups"):
        hedges_g(x, strata == 1, strata)


def test_auroc_equals_pair_counting_within_strata_ties_and_zeros_included():
    rng = np.random.default_rng(6)
    dense = rng.integers(0, 4, size=(80, 5)) * (rng.random((80, 5)) < 0.4)
    dense[:, 4] = 0
    positive, strata = rng.random(80) < 0.3, rng.integers(0, 3, 80)
    wins = pairs = np.zeros(5)
    for stratum in range(3):
        yes, no = dense[(strata == stratum) & positive], dense[(strata == stratum) & ~positive]
        wins = wins + (yes[:, None] > no).sum((0, 1)) + 0.5 * (yes[:, None] == no).sum((0, 1))
        pairs = pairs + len(yes) * len(no)
    columns = sparse.csc_matrix(dense.astype(float))
    assert auroc(columns, positive, strata) == pytest.approx(wins / pairs)
    assert auroc(columns, positive, strata)[4] == 0.5
    assert np.isnan(auroc(columns, np.zeros(80, bool), strata)).all()
