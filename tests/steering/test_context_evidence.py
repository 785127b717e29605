"""What scores of contexts say of features: means, z, and p of contexts permuted among features."""

import numpy as np
import pytest

from workbench.features.context_evidence import ContextLimits, ContextMeans

LIMITS = ContextLimits(method="test", draws=20_000, max_q=0.05, min_effect=0.0, seed=0)


def test_means_and_z_are_over_features():
    features = np.array([0, 0, 2, 2, 2, 5])
    scores = np.array([[1.0], [3.0], [0.0], [0.0], [3.0], [6.0]])
    means = ContextMeans.of(scores, features, LIMITS)
    assert means.features.tolist() == [0, 2, 5]
    assert means.counts.tolist() == [2, 3, 1]
    assert means.means.ravel().tolist() == [2, 1, 6]
    assert means.z.ravel() == pytest.approx(np.array([-1, -2, 3]) / np.std([2, 1, 6]))


def test_p_is_uniform_where_contexts_belong_to_no_feature():
    rng = np.random.default_rng(1)
    features = np.repeat(np.arange(1000), rng.integers(1, 6, 1000))
    scores = rng.gamma(1, 1, (len(features), 3))
    p = ContextMeans.of(scores, features, LIMITS).p
    for share in (0.01, 0.05, 0.5):
        assert (p <= share).mean() == pytest.approx(share, abs=3.5 * np.sqrt(share / 3000))


def test_p_of_one_context_is_the_share_of_contexts_that_are_as_large():
    scores = np.arange(10.0)[:, None]
    p = ContextMeans.of(scores, np.arange(10), LIMITS).p.ravel()
    assert p == pytest.approx(np.arange(10, 0, -1) / 10, abs=0.02)
    alike = ContextMeans.of(np.ones((10, 1)), np.arange(10), LIMITS)
    assert (alike.p == 1).all()
    assert (alike.z == 0).all()


def test_the_value_with_the_largest_z_is_the_row_and_the_next_stands_beside_it():
    scores = np.zeros((40, 3))
    scores[:4, 1], scores[:4, 2] = 2.0, 1.0
    scores[4:8, 2] = 4.0
    means = ContextMeans.of(scores, np.repeat(np.arange(10), 4), LIMITS)
    rows = means.labels(["a", "b", "c"], LIMITS, [{"more": k} for k in range(10)])
    assert [(row.feature, row.value, row.accepted) for row in rows[:2]] == [
        (0, "b", True),
        (1, "c", True),
    ]
    assert '"runner_up": "c"' in rows[0].evidence
    assert '"more": 1' in rows[1].evidence
    assert not any(row.accepted for row in rows[2:])
