"""The verb `forecast`, and a sweep that begins with the cleanest features."""

import numpy as np
import pytest

from feature_store import queries
from feature_store.errors import BadInput, Incompatible, NotFound
from workbench.command.cli import main
from workbench.study import Study

SWEEP = {
    "n_contexts": 6,
    "features_per_value": 2,
    "doses": (0.4,),
    "random_features": 24,
    "random_directions": 2,
    "n_neutral": 2,
    "replicates": 100,
}


@pytest.fixture(scope="module")
def forecast(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("forecast") / "study")
    study.train(model="organism", documents=200, tokens=16_384, n_features=96, k=8, cache=False)
    study.describe(top=5)
    study.label(limit=300, n_contexts=0, options=("max_chance=1", "min_score=0", "min_texts=2"))
    study.effects(**SWEEP)
    return study, study.forecast(replicates=200, folds=3)


def test_every_live_feature_is_forecast(forecast):
    study, run = forecast
    rows = study.store.sql("SELECT * FROM forecasts WHERE run = ?", [run.id])
    live = study.store.sql("SELECT feature FROM features WHERE n_active > 0").feature
    assert sorted(rows.feature) == sorted(live)
    assert rows[["stability", "collateral", "clean"]].notna().all(axis=None)
    assert rows.clean.between(0, 1).all()
    steered = study.store.sql("SELECT DISTINCT feature FROM matched WHERE feature >= 0").feature
    assert set(rows.feature[rows.measured_stability.notna()]) == set(steered)
    one = queries.forecast_of(study.store, run.id, int(steered[0])).iloc[0]
    assert one.measured_collateral == pytest.approx(
        rows.set_index("feature").measured_collateral[steered[0]]
    )


def test_skills_stand_beside_both_baselines(forecast):
    study, run = forecast
    skills = queries.forecast_skills(study.store, run.id)
    assert len(skills) == 6
    assert set(skills.predictors) == {"all", "frequency", "magnitude"}
    assert (skills.low <= skills.high).all()
    assert (skills.n == run.summary["steered"]).all()
    assert run.summary["baselines"] == 4
    weights = queries.forecast_weights(study.store, run.id)
    assert {"density", "cosine", "jaccard", "logit_kurtosis"} <= set(weights.predictor)


def test_a_measured_axis_is_that_of_the_sweep(forecast):
    """Beside the stored ratings: one dose, so equal damage is that dose or part of the way."""
    study, run = forecast
    rows = study.store.sql(
        """
        SELECT f.feature, measured_collateral, d.effect FROM forecasts f
        JOIN dose_effects d USING (feature)
        JOIN matched m ON m.run = d.run AND m.unit_id = d.unit_id
        WHERE f.run = ? AND measured_collateral IS NOT NULL""",
        [run.id],
    )
    for _, part in rows.groupby("feature"):
        squares = part.effect.to_numpy() ** 2
        expected = 1 - squares.max() / squares.sum()
        assert part.measured_collateral.iloc[0] == pytest.approx(expected, abs=1e-5)


def test_a_sweep_can_begin_with_the_cleanest(forecast):
    study, run = forecast
    chosen = study.effects(**{**SWEEP, "features_per_value": 1, "choose": "clean"})
    assert chosen.summary["chosen_by"] == "clean"
    assert chosen.inputs["forecast"] == run.id == chosen.config["forecast"]
    steered = study.store.sql(
        "SELECT DISTINCT feature, value FROM matched WHERE run = ? AND kind = 'feature'",
        [chosen.id],
    )
    labels = study.store.sql(
        """
        SELECT value, feature, clean FROM labels JOIN forecasts USING (feature)
        WHERE accepted AND forecasts.run = ?""",
        [run.id],
    )
    best = labels.groupby("feature").clean.max()
    for row in steered.itertuples():
        assert best[row.feature] >= labels[labels.value == row.value].clean.median() - 1e-9
    without = study.runs.get(queries.candidates(study.store, "effects").run[1])
    assert "forecast" not in without.config, "earlier runs keep their ids"


def test_what_does_not_go_together_is_refused(forecast, tmp_path):
    study, run = forecast
    with pytest.raises(BadInput, match="--choose clean"):
        study.effects(**SWEEP, forecast=run.id)
    with pytest.raises(NotFound, match="no finished run 'forecast-0'"):
        study.effects(**SWEEP, choose="clean", forecast="forecast-0")
    with study.runs.begin("descriptions", {}, {"sae": "sae-other"}, 0) as work:
        other = work.finish({}).id
    with pytest.raises(Incompatible, match="sae-other"):
        study.forecast(descriptions=other)


def test_the_command_line_says_what_leads_what(forecast, capsys):
    study, run = forecast
    described = run.config["descriptions"]
    words = ["--folds", "3", "--replicates", "200", "--descriptions"]
    assert main(["forecast", str(study.folder), *words, described]) == 0
    out = capsys.readouterr().out
    assert "stability by all: Spearman" in out
    assert "collateral by magnitude" in out
    assert np.all([line.count("[") >= 1 for line in out.splitlines()[:6]])
