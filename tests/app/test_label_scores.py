"""What the app says of labels' scores and of forecasts, and where it says nothing."""

import pytest
from streamlit.testing.v1 import AppTest

from feature_store import queries
from tests.helpers.synthetic import synthetic

SCORE = {
    "feature": 3,
    "value": "power",
    "polarity": 1,
    "score": "causal",
    "figure": 0.8,
    "low": 0.5,
    "high": 1.1,
    "n": 12,
    "chance": 0.2,
    "passed": True,
    "source": "effects-1",
}


def _page(folder: str) -> None:
    import streamlit as st

    from workbench import views
    from workbench.study import Study
    from workbench.views.label_scores import (
        show_forecast,
        show_forecast_skills,
        show_label_scores,
        show_method_scores,
    )

    study = Study(folder, create=False)
    chosen = views.choose(study)
    show_label_scores(study, chosen, st.session_state["wanted"])
    show_method_scores(study, chosen.sae.run)
    show_forecast_skills(study, chosen.sae.run)
    show_forecast(study, chosen, st.session_state["wanted"])


def page_of(folder, feature: int) -> AppTest:
    page = AppTest.from_function(_page, args=(str(folder),), default_timeout=60)
    page.session_state["wanted"] = feature
    page.run()
    assert not page.exception, page.exception[0].message
    return page


@pytest.fixture
def study(tmp_path):
    return synthetic(tmp_path / "study")


def add_scores(study):
    sae = queries.candidates(study.store, "sae").run[0]
    labels = queries.candidates(study.store, "labels").run[0]
    output = SCORE | {"score": "output", "figure": 0.1, "low": None, "high": None, "n": 1}
    with study.runs.begin("scores", {}, {"sae": sae}, 0) as work:
        work.table("label_scores", [{"labels": labels} | row for row in (SCORE, output)])
        mean = {"figure": 0.8, "low": 0.5, "high": 1.1, "share": 0.5, "share_low": 0.2}
        mean |= {"share_high": 0.8, "chance_share": 0.1, "n": 1, "accepted": 4}
        row = {"labels": labels, "method": "contrast", "score": "causal"} | mean
        work.table("method_scores", [row, row | {"score": "output", "chance_share": None}])
        work.finish({})


def add_forecast(study):
    sae = queries.candidates(study.store, "sae").run[0]
    with study.runs.begin("forecast", {}, {"sae": sae}, 0) as work:
        known = {"stability": 0.5, "collateral": 0.2}
        known |= {"measured_stability": None, "measured_collateral": None}
        rows = [known | {"feature": f, "clean": (f * 7 % 200) / 200} for f in range(200)]
        work.table("forecasts", rows, sort=("feature",))
        skill = {"spearman": 0.4, "low": 0.1, "high": 0.6, "n": 90, "target": "stability"}
        skill |= {"lead": 0.1, "lead_low": -0.1, "lead_high": 0.3}
        work.table("forecast_skills", [skill | {"predictors": p} for p in ("all", "frequency")])
        work.table(
            "forecast_weights", [{"target": "stability", "predictor": "density", "share": 0.1}]
        )
        return work.finish({}).id


def test_a_study_without_scores_shows_none_and_one_with_scores_shows_them(study):
    assert len(page_of(study.folder, 3).dataframe) == 0
    add_scores(study)
    page = page_of(study.folder, 3)
    of_label, of_methods = (frame.value for frame in page.dataframe)
    assert list(of_label.figure) == ["+0.80 [+0.50, +1.10]", "+0.10"]
    assert list(of_methods["pass"]) == ["50% [20%, 80%]"] * 2
    assert list(of_methods["with another value"]) == ["10%", "–"]
    assert any("the controls stay below" in caption.value for caption in page.caption)
    assert len(page_of(study.folder, 199).dataframe) == 1, "a feature without a label has no table"


def test_the_skill_of_a_forecast_is_shown_with_what_may_be_none(study):
    add_forecast(study)
    page = page_of(study.folder, 3)
    (skills,) = (frame.value for frame in page.dataframe)
    assert list(skills["all lead it by"]) == ["–", "+0.10 [-0.10, +0.30]"]
    assert any("the lead may be none" in caption.value for caption in page.caption)
    assert any("cleanness 0.10" in caption.value for caption in page.caption)
    assert not any("Measured:" in caption.value for caption in page.caption)


def test_features_are_listed_by_their_forecast(study):
    run = add_forecast(study)
    sae = queries.candidates(study.store, "sae").run[0]
    order = queries.FeatureOrder(sort="clean", limit=10)
    rows = queries.features(study.store, sae, order=order, forecast=run).rows
    assert rows.clean.is_monotonic_decreasing
    assert len(rows) == 10
    without = queries.features(study.store, sae, order=order).rows
    assert without.clean.isna().all()
