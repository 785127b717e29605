"""The page Features says how an SAE's labelers agree, and shows labels without held-out scores."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.synthetic import synthetic


@pytest.fixture
def study(tmp_path):
    return synthetic(tmp_path / "invented")


def label_by_words(study):
    """Label those features of power again that the study labels, by a labeler without scores."""
    sae = study.runs.latest("sae").id
    first = study.store.sql("SELECT * EXCLUDE (run) FROM labels WHERE accepted AND value = 'power'")
    unknown = dict.fromkeys(("score", "gain", "low", "high"), np.nan)
    rows = first.assign(method="lexicon", **unknown).to_dict("records")
    with study.runs.begin("labels", {"labeler": "lexicon"}, {"sae": sae}, 0) as work:
        work.table("labels", rows, sort=("feature", "value"))
        work.table("output_scores", [])
        figures = {"texts": 0, "features_labelled": len(rows), "values_labelled": 1}
        work.finish({**figures, "median_held_out_score": float("nan")})
    return [row["feature"] for row in rows]


def agreement(folder: str) -> None:
    """Show the table of agreement alone."""
    from workbench.study import Study
    from workbench.views.features import _agreement

    study = Study(folder)
    _agreement(study, study.runs.latest("sae").id)


def page(folder: str, name: str, feature: str) -> None:
    """Show a page of the app with the newest labels of the study."""
    import importlib

    import streamlit as st

    from feature_store import queries
    from workbench import views

    study = views.open_study(folder)
    sae = queries.candidates(study.store, "sae").iloc[0]
    labels = queries.candidates(study.store, "labels", "sae", sae.run).iloc[0]
    if feature:
        st.query_params["feature"] = feature
    st.session_state["study"], st.session_state["chosen"] = (
        study,
        views.ChosenRuns(sae=sae, labels=labels, profile=None, effects=None, graph=None),
    )
    importlib.import_module(f"workbench.views.{name}").page()


def shown(function, *args):
    app = AppTest.from_function(function, args=args, default_timeout=60).run()
    assert not app.exception, app.exception[0].message
    return app


def test_one_labeler_agrees_with_nobody(study):
    assert not shown(agreement, str(study.folder)).dataframe


def test_two_labelers_stand_side_by_side_value_by_value(study):
    features = label_by_words(study)
    table = shown(agreement, str(study.folder)).dataframe[0].value.set_index("of")
    assert table.loc["Power", "lexicon"] == table.loc["Power", "contrast"] == len(features) > 0
    assert table.loc["Power", "alpha"] == table.loc["Power", "jaccard"] == 1
    assert table.loc["Security", "lexicon"] == 0
    assert table.loc["Security", "named_by_all"] == 0
    assert table.loc["Security", "alpha"] < 0.1


def test_labels_without_held_out_scores_are_listed_first_and_shown_without_an_interval(study):
    features = label_by_words(study)
    app = shown(page, str(study.folder), "features", "")
    table = app.dataframe[0].value
    assert set(table.feature[: len(features)]) == set(features)
    assert table.effect[: len(features)].is_monotonic_decreasing
    assert table.score.isna().all()
    one = shown(page, str(study.folder), "features", str(features[0])).dataframe[0].value
    assert one.labeler.tolist() == ["lexicon"]
    assert "nan" not in one["effect [SD]"][0]
    assert "[" not in one["effect [SD]"][0]
    for name in ("steer", "overview"):
        shown(page, str(study.folder), name, "")
