"""Contexts in rounds: intervals cover however one stops, fewer are asked, and an interrupted sweep
ends alike."""

import shutil

import numpy as np
import pytest

from feature_store.errors import BadInput, Incompatible
from tests.helpers.labels import LAX
from workbench.statistics.intervals import bootstrap_mean, repeated_mean
from workbench.study import Study
from workbench.sweeps.rounds import LOOKS, Stopping, planned_looks, widest

pytestmark = pytest.mark.slow_file


def noise(rng, shape, kind):
    """Mean 0 and SD 1, symmetric or skewed."""
    return rng.normal(size=shape) if kind == "normal" else rng.exponential(size=shape) - 1


def simulated(effect, kind, rule, sweeps=600, n=24):
    """How often the interval at the last look covers the truth, and how many contexts that took."""
    covered, spent = 0, 0
    for seed in range(sweeps):
        x = effect + noise(np.random.default_rng(seed), (n, 1), kind)
        for look in range(1, LOOKS + 1):
            seen = x[: n * look // LOOKS]
            cells = repeated_mean(seen, 1000, seed, LOOKS)
            if rule(cells) or look == LOOKS:
                break
        covered += cells.low[0] <= effect <= cells.high[0]
        spent += len(seen)
    return covered / sweeps, spent / sweeps / n


def narrow(cells):
    return cells.high[0] - cells.low[0] <= 1.4


def decided(cells):
    """The rule of a person who wants a star: looks until 0 is outside."""
    return cells.low[0] > 0 or cells.high[0] < 0


@pytest.mark.parametrize("kind", ["normal", "skewed"])
@pytest.mark.parametrize("effect", [0.0, 0.6])
@pytest.mark.parametrize("rule", [narrow, decided])
def test_intervals_cover_whatever_the_effect_and_whoever_stops(kind, effect, rule):
    coverage, spent = simulated(effect, kind, rule)
    assert coverage >= 0.93
    assert spent <= 1.0


def test_looking_until_it_is_decided_covers_too_little_without_the_correction():
    """The same eager rule with plain 95 % intervals, so that the test above can fail."""
    false, n = 0, 24
    for seed in range(600):
        x = noise(np.random.default_rng(seed), (n, 1), "normal")
        looks = [bootstrap_mean(x[: n * k // LOOKS], 200, seed) for k in range(1, LOOKS + 1)]
        false += any(decided(cells) for cells in looks)
    assert false / 600 > 0.08


def test_a_look_is_a_plain_interval_of_its_level_and_p_goes_with_it():
    x = np.random.default_rng(0).normal(0.4, 1.0, (20, 30))
    outcome, plain = repeated_mean(x, 1000, 3, 2), bootstrap_mean(x, 1000, 3, 0.025)
    np.testing.assert_allclose(outcome.low, plain.low, rtol=1e-9)
    np.testing.assert_array_equal(outcome.p < 0.05, (outcome.low > 0) | (outcome.high < 0))
    single = bootstrap_mean(x, 1000, 3)
    assert (outcome.high - outcome.low > single.high - single.low).all()


def test_cells_are_resampled_over_the_contexts_in_which_they_were_asked():
    x = np.random.default_rng(1).normal(size=(24, 4))
    x[8:, 1] = np.nan
    x[:, 3] = np.nan
    outcome = repeated_mean(x, 400, 0, 3)
    np.testing.assert_array_equal(outcome.n, [24, 8, 24, 0])
    alone = repeated_mean(x[:8, [1]], 400, 0, 3)
    assert outcome.low[1] == pytest.approx(alone.low[0])
    assert np.isnan(outcome.mean[3])
    stopping = Stopping(until=0.1, delta=0.1, replicates=400, seed=0, looks=3)
    assert widest(x[:, [1]], stopping) == pytest.approx(alone.high[0] - alone.low[0])


def test_rounds_are_planned_and_too_few_contexts_refused():
    assert [planned_looks(n, 1000) for n in (16, 23, 24, 100)] == [2, 2, 3, 3]
    with pytest.raises(BadInput, match="16 or more"):
        planned_looks(15, 1000)
    with pytest.raises(BadInput, match="1000 replicates"):
        planned_looks(24, 999)


@pytest.fixture(scope="module")
def labelled(probed_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds") / "study"
    shutil.copytree(probed_study.folder, folder)  # others read the shared one
    study = Study(folder)
    study.label(limit=300, n_contexts=1, scored_per_value=1, options=LAX)
    return study


SMALL = {
    "n_contexts": 16,
    "features_per_value": 1,
    "doses": (0.3, 0.6),
    "random_features": 1,
    "random_directions": 1,
    "n_neutral": 2,
    "replicates": 1000,
}


def test_a_wide_limit_asks_one_round_and_a_narrow_one_all(labelled):
    study = labelled
    full = study.effects(**SMALL)
    wide = study.effects(**SMALL, until=1e5)
    narrow = study.effects(**SMALL, until=1e-9)
    assert "until" not in full.config, "a sweep that asks everything keeps its id"
    assert (wide.summary["asked"], narrow.summary["asked"]) == (0.5, 1.0)
    rows = "SELECT * EXCLUDE (run) FROM side_effects WHERE run = ? ORDER BY source, target"
    cells = {run.id: study.store.sql(rows, [run.id]) for run in (full, wide, narrow)}
    assert set(cells[wide.id].n) == {8}
    assert set(cells[narrow.id].n) == {16}
    np.testing.assert_allclose(cells[narrow.id].effect, cells[full.id].effect, atol=1e-4)
    width = cells[narrow.id].high - cells[narrow.id].low
    assert (width > cells[full.id].high - cells[full.id].low).mean() > 0.95
    with pytest.raises(Incompatible, match="asked in rounds"):
        study.graph(effects=narrow.id)
    with pytest.raises(BadInput, match="too few open questions"):
        study.effects(**SMALL, until=0.1, mode="voice")
    with pytest.raises(BadInput, match="16 or more"):
        study.effects(**SMALL | {"n_contexts": 6}, until=0.1)


def test_an_interrupted_sweep_in_rounds_goes_on_and_ends_alike(labelled, tmp_path):
    import shutil

    from workbench.study import Study

    study = labelled
    before = Study(shutil.copytree(study.folder, tmp_path / "copy"))
    settings = SMALL | {"until": 1e-8}
    whole = study.effects(**settings)

    def stop(stage, done, total):
        if stage.startswith("round 2 of 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        before.effects(stop, **settings)
    again = before.effects(**settings)
    assert again.id == whole.id
    assert again.files["side_effects.parquet"] == whole.files["side_effects.parquet"]
