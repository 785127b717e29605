"""Intervals of shares and areas, against published figures, coverage and the edges."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from workbench.statistics.classified import area, balanced, proportion


def test_an_area_is_sklearns_ties_included():
    rng = np.random.default_rng(0)
    active, silent = rng.integers(0, 6, 15).astype(float), rng.integers(0, 5, 12).astype(float)
    expected = roc_auc_score([1] * 15 + [0] * 12, np.r_[active, silent])
    estimate = area(active, silent)
    assert estimate.figure == pytest.approx(expected)
    assert estimate.low < expected < estimate.high


@pytest.mark.parametrize("sign", [1, -1])
def test_all_right_is_not_certain(sign):
    estimate = area(sign * np.arange(10.0, 20), sign * np.arange(10.0))
    ends = sorted([estimate.figure, estimate.low if sign > 0 else estimate.high])
    assert estimate.figure in (0.0, 1.0)
    assert 0.05 < ends[1] - ends[0] < 0.35
    both = balanced(np.ones(10, bool), np.ones(10, bool))
    assert both.figure == 1
    assert 0.7 < both.low < 0.85
    assert both.high == 1


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_intervals_cover(shift):
    """Normal scores of ten and ten: the true area lies in about 95 % of the intervals."""
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    truth, inside = norm.cdf(shift / np.sqrt(2)), []
    for _ in range(400):
        estimate = area(rng.normal(shift, 1, 10), rng.normal(0, 1, 10))
        inside.append(estimate.low <= truth <= estimate.high)
    assert 0.91 < np.mean(inside) < 0.995


def test_balanced_accuracy_weighs_classes_alike():
    assert balanced(np.ones(3, bool), np.zeros(30, bool)).figure == 0.5
    assert np.isnan(balanced(np.ones(3, bool), np.zeros(0, bool)).figure)
    assert np.isnan(area(np.zeros(0), np.ones(3)).low)


def test_a_proportion_has_wilsons_interval():
    estimate = proportion(np.array([True] * 8 + [False] * 2))
    assert estimate.figure == 0.8
    assert (estimate.low, estimate.high) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert np.isnan(proportion(np.zeros(0, bool)).figure)
