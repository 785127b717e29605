"""Forecasts of clean steering, against features whose statistics tell their side effects."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from feature_store.errors import BadInput
from workbench.causal import forecast


def test_a_steady_and_clean_effect_has_both_axes_at_their_ends():
    steady = np.tile([0.0, 2.0, 0.0], (8, 1))
    spread = np.tile([1.0, 1.0, 1.0], (8, 1))
    flips = spread * np.array([1, -1] * 4)[:, None]
    nothing = np.zeros((8, 3))
    axes = forecast.measured_axes(
        np.array([5, 2, 9, 1]), np.stack([steady, spread, flips, nothing])
    )
    assert axes.features.tolist() == [1, 2, 5, 9]
    np.testing.assert_allclose(axes.stability[1:], [1, 1, -1 / 7])
    np.testing.assert_allclose(axes.collateral[1:3], [2 / 3, 0])
    assert np.isnan(axes.stability[0])
    assert np.isnan(axes.collateral[0])


def test_stability_is_the_mean_cosine_between_pairs_of_contexts():
    changes = np.random.default_rng(0).normal(0.3, 1, (1, 6, 4))
    unit = changes[0] / np.linalg.norm(changes[0], axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(6, 1)]
    axes = forecast.measured_axes(np.array([0]), changes)
    assert axes.stability[0] == pytest.approx(cosines.mean())


def planted(n=200, steered=90, informative=True, seed=0):
    """Statistics of features, and a target that one of them tells where it is informative."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        rng.normal(size=(n, 4)), columns=["density", "max_activation", "cosine", "jaccard"]
    )
    target = table.cosine.to_numpy() + rng.normal(0, 0.5, n)
    if not informative:
        target = rng.normal(size=n)
    chosen = rng.permutation(n)[:steered]
    return table, chosen, target


def tried(table, chosen, target):
    sets = {"all": table, "frequency": table[["density"]]}
    held_out = {
        name: forecast.predictions(part, chosen, target[chosen], 5, 0)[chosen]
        for name, part in sets.items()
    }
    return {s.predictors: s for s in forecast.skills("x", target[chosen], held_out, 500, 0)}


def test_what_statistics_tell_is_forecast_and_leads_the_baseline():
    table, chosen, target = planted()
    skills = tried(table, chosen, target)
    assert skills["all"].spearman > 0.7
    assert skills["all"].low > 0.5
    assert skills["frequency"].lead_low > 0.3
    assert skills["all"].lead == 0
    assert skills["all"].n == 90
    rest = np.setdiff1d(np.arange(200), chosen)
    whole = forecast.predictions(table, chosen, target[chosen], 5, 0)
    assert stats.spearmanr(whole[rest], target[rest])[0] > 0.7, "unsteered ones are forecast too"


def test_noise_is_not_forecast_because_no_feature_is_in_its_own_fit():
    leads, correlations = [], []
    for seed in range(5):
        skills = tried(*planted(informative=False, steered=40, seed=seed))
        correlations.append(skills["all"].spearman)
        leads.append(skills["frequency"].lead_low > 0)
    assert abs(np.mean(correlations)) < 0.25
    assert sum(leads) <= 1


def test_the_skill_is_spearmans():
    rng = np.random.default_rng(0)
    truth, guess = rng.normal(size=30), rng.normal(size=30)
    (skill,) = forecast.skills("x", truth, {"all": guess + truth}, 200, 0)
    assert skill.spearman == pytest.approx(stats.spearmanr(guess + truth, truth)[0])
    assert skill.low < skill.spearman < skill.high


def test_a_baseline_that_runs_against_the_truth_gives_no_lead():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40)
    guess = truth + rng.normal(size=40)
    forecasts = {"all": guess, "frequency": -truth, "magnitude": truth}
    skills = {s.predictors: s for s in forecast.skills("x", truth, forecasts, 200, 0)}
    assert skills["frequency"].spearman == pytest.approx(-1)
    assert skills["frequency"].lead == pytest.approx(skills["all"].spearman)
    assert skills["frequency"].lead_low == pytest.approx(skills["all"].low)
    assert skills["magnitude"].lead_high < 0
    assert skills["all"].lead == skills["all"].lead_high == 0


def test_the_cleanest_is_stable_and_spreads_least():
    clean = forecast.cleanness(np.array([0.9, 0.5, 0.1]), np.array([0.1, 0.2, 0.9]))
    np.testing.assert_allclose(clean, [1, 0.5, 0])


def test_the_predictor_that_tells_has_the_largest_share():
    table, chosen, target = planted()
    shares = forecast.importances(table, chosen, target[chosen], 0)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["cosine"] > 0.6


def test_few_steered_features_are_refused():
    table, chosen, target = planted(steered=10)
    with pytest.raises(BadInput, match="20 steered features, got 10"):
        forecast.predictions(table, chosen, target[chosen], 5, 0)


def test_predictors_know_what_a_feature_lacks_and_are_never_constant():
    first = pd.DataFrame({"density": [1e-5, 1e-3, 0.5], "decoder_norm": [1.0, 1.0, 1.0]})
    near = pd.DataFrame({"cosine": [0.2, np.nan, 0.4], "logit_sd": [1.0, np.nan, 3.0]})
    table = forecast.predictor_table([first, near])
    assert table.cosine.tolist() == [0.2, 0, 0.4]
    assert table.logit_sd.tolist() == [1, 2, 3]
    assert "decoder_norm" not in table
    assert table.density.tolist() == [1e-5, 1e-3, 0.5]
