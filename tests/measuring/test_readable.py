"""Reading marks off vectors: planted marks are read, permuted and topical ones are not, and the
interval covers."""

import numpy as np
import pytest

from workbench.statistics.readable import (
    design_of,
    held_out_scores,
    paired_auroc,
    permuted,
    readable,
)


def planted(n=240, d=12, contexts=1, strength=1.0, seed=0):
    rng = np.random.default_rng(seed)
    topic = np.arange(n) % contexts
    marks = rng.random((n, 2)) < 0.4
    vectors = rng.normal(size=(n, d))
    vectors[:, 0] += strength * marks[:, 0]
    return vectors, marks, np.array([f"topic {t}" for t in topic])


def test_a_planted_mark_is_read_as_well_as_theory_says_and_one_that_is_not_there_is_not():
    vectors, marks, contexts = planted(n=800, strength=1.5)
    design = design_of(contexts, 0)
    outcome = readable(vectors, marks, permuted(marks, design, 100, 0), design, 0)
    # Two unit normals 1.5 apart: Phi(1.5 / sqrt 2).
    assert outcome.auroc[0] == pytest.approx(0.856, abs=0.03)
    assert outcome.low[0] < 0.856 < outcome.high[0]
    high = np.quantile(outcome.null, 0.975, axis=0)
    assert outcome.auroc[0] > high[0] > 0.5
    assert outcome.low[1] < 0.5 < outcome.high[1]
    assert outcome.null.mean() == pytest.approx(0.5, abs=0.01)


def test_a_topic_that_goes_with_a_mark_is_not_read_as_the_mark():
    rng = np.random.default_rng(1)
    topic = np.repeat(np.arange(30), 12)
    share = np.where(topic % 2 == 0, 0.8, 0.2)
    marks = (rng.random(len(topic)) < share)[:, None]
    vectors = rng.normal(size=(len(topic), 8))
    vectors[:, 0] += 3 * (topic % 2 == 0)
    contexts = np.array([f"topic {t}" for t in topic])
    design = design_of(contexts, 0)
    within = readable(vectors, marks, permuted(marks, design, 100, 0), design, 0)
    assert within.low[0] < 0.5 < within.high[0]
    alone = np.full(len(topic), "")
    design = design_of(alone, 0)
    across = readable(vectors, marks, permuted(marks, design, 100, 0), design, 0)
    assert across.low[0] > 0.6, "without contexts the topic passes for the value"


def test_folds_keep_contexts_together_and_are_of_a_size():
    contexts = np.repeat([f"t{k}" for k in range(40)], np.arange(1, 41))
    fold = design_of(contexts, 3).fold
    assert all(len(set(fold[contexts == context])) == 1 for context in set(contexts))
    sizes = np.bincount(fold)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 40
    few = design_of(np.repeat(["a", "b"], 50), 0)
    assert set(few.fold[:50]) == set(range(5))


def test_the_same_seed_draws_the_same_and_permuted_marks_stay_in_their_context():
    _, marks, contexts = planted(contexts=6)
    design = design_of(contexts, 0)
    drawn = permuted(marks, design, 100, 5)
    assert (drawn == permuted(marks, design, 100, 5)).all()
    assert (drawn != marks[:, None]).any()
    for context in range(6):
        rows = design.context == context
        assert (drawn[rows].sum(0) == marks[rows].sum(0)).all()


def test_ridge_is_that_of_sklearn_at_the_penalty_it_chooses(monkeypatch):
    from sklearn.linear_model import Ridge

    from workbench.statistics import readable as module

    monkeypatch.setattr(module, "PENALTIES", np.array([1.0]))
    vectors, marks, _ = planted()
    fold = np.arange(len(marks)) % 2
    scores = held_out_scores(vectors, marks, fold)
    train = fold == 1
    centre, spread = vectors[train].mean(0), vectors[train].std(0)
    x = (vectors - centre) / spread
    # The mean eigenvalue of x xT over its n rows.
    ridge = Ridge(alpha=float((x[train] ** 2).sum() / train.sum())).fit(x[train], marks[train])
    expected = ridge.predict(x[~train]) - marks[train].mean(0)
    np.testing.assert_allclose(scores[~train], expected, atol=1e-8)


def test_pairs_are_those_of_brute_force():
    rng = np.random.default_rng(2)
    scores, marks = rng.integers(0, 4, (30, 3)).astype(float), rng.random((30, 3)) < 0.5
    stratum = rng.integers(0, 4, 30)
    wins, pairs = paired_auroc(scores, marks, stratum)
    for column in range(3):
        for number, one in enumerate(np.unique(stratum)):
            held = scores[(stratum == one) & marks[:, column], column]
            rest = scores[(stratum == one) & ~marks[:, column], column]
            right = sum((a > b) + 0.5 * (a == b) for a in held for b in rest)
            assert wins[number, column] == pytest.approx(right)
            assert pairs[number, column] == len(held) * len(rest)


@pytest.mark.parametrize("contexts", [1, 40])
def test_intervals_cover_the_true_auroc(contexts):
    """A score whose AUROC is known, no fit in between: 95 % intervals cover in most of 150 sets."""
    from workbench.statistics.readable import _interval

    covered = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        marks = rng.random((240, 1)) < 0.4
        scores = rng.normal(size=(240, 1)) + 1.0 * marks
        stratum = np.arange(240) % max(contexts, 5)
        low, high = _interval(scores, marks, stratum, 0)
        covered += low[0] <= 0.7602 <= high[0]
    assert covered >= 135
