"""Features that are active on the same tokens: counts, ranks, and what chance gives."""

import numpy as np
import pandas as pd
import pytest

from workbench.features import coactivation
from workbench.features.coactivation import TokenSets


def rows_of(active: np.ndarray, texts: int = 4) -> pd.DataFrame:
    """The relation `activations` of a matrix [token feature], its tokens cut into texts."""
    feature, token = np.nonzero(active.T)
    length = -(-len(active) // texts)
    columns = {"feature": feature, "document": token // length, "position": token % length}
    return pd.DataFrame(columns).astype(np.int32)


def partners(active, top=50, least=1, tokens=None):
    sets = TokenSets.of(rows_of(active), active.shape[1], len(active) if tokens is None else tokens)
    return pd.concat([part.to_pandas() for part in sets.partners(top, least)])


def test_independent_features_are_together_as_often_as_by_chance():
    """PMI is 0 on average, and the Jaccard index what densities give."""
    rng = np.random.default_rng(0)
    density = np.array([0.5, 0.3, 0.2, 0.1])
    rows = partners(rng.random((40_000, 4)) < density)
    pairs = rows[rows.measure == "pmi"]
    assert len(pairs) == 12
    assert pairs.pmi.abs().max() < 0.05
    for row in rows.itertuples():
        a, b = density[row.feature], density[row.partner]
        assert row.jaccard == pytest.approx(a * b / (a + b - a * b), abs=0.01)


def test_features_that_share_all_tokens_are_first_by_both_measures():
    rng = np.random.default_rng(1)
    active = rng.random((2_000, 6)) < 0.05
    active[:, 4] = active[:, 1]
    rows = partners(active, top=1)
    assert set(rows[rows.feature == 1].partner) == {4}
    assert (rows[rows.feature == 1].jaccard == 1).all()
    share = active[:, 1].mean()
    assert rows[rows.feature == 1].pmi.iloc[0] == pytest.approx(-np.log(share), rel=1e-5)


def test_pairs_of_few_tokens_are_left_out_and_no_feature_is_its_own_partner():
    active = np.zeros((100, 3), bool)
    active[:4, :] = True
    active[4:50, 0] = True
    assert partners(active, least=5).empty
    rows = partners(active, least=4)
    assert (rows.together == 4).all()
    assert (rows.feature != rows.partner).all()
    # Equals stand in the order of their numbers.
    of_first = rows[(rows.feature == 0) & (rows.measure == "jaccard")]
    assert of_first.partner.tolist() == [1, 2]
    assert of_first["rank"].tolist() == [0, 1]


def test_blocks_change_nothing(monkeypatch):
    active = np.random.default_rng(2).random((500, 30)) < 0.2
    whole = partners(active, top=5)
    monkeypatch.setattr(coactivation, "HELD", 200)
    cut = partners(active, top=5)
    pd.testing.assert_frame_equal(whole.reset_index(drop=True), cut.reset_index(drop=True))


def test_tokens_without_any_active_feature_count():
    """As many tokens again, all silent, make the same overlap twice as surprising."""
    active = np.random.default_rng(3).random((500, 5)) < 0.4
    active = active[active.any(1)]
    once, twice = partners(active), partners(active, tokens=2 * len(active))
    np.testing.assert_allclose(twice.pmi - once.pmi, np.log(2), rtol=1e-4)
    # An estimate below what is there is no number of tokens.
    np.testing.assert_allclose(partners(active, tokens=1).pmi, once.pmi, rtol=1e-5)


def test_dead_features_have_no_partner_and_no_activation_is_no_mistake():
    active = np.ones((10, 4), bool)
    active[:, 2] = False
    rows = partners(active)
    assert {*rows.feature, *rows.partner} == {0, 1, 3}
    assert partners(np.zeros((10, 4), bool)).empty
