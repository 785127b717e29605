import json
import re

import numpy as np
import pandas as pd
import pytest

from feature_store import queries, registry
from tests.helpers.synthetic import PLANTED, synthetic
from workbench import figures
from workbench.comparing.validity import mtmm
from workbench.figures.graph import judge
from workbench.figures.style import places, plain, signed

SYSTEM = registry.get("values", "schwartz10")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("study") / "invented")


def run(study, kind):
    return study.resolve(kind, "latest").id


@pytest.mark.parametrize("system", ["schwartz10", "schwartz19", "higher-order"])
def test_every_value_has_a_colour_and_a_place_of_its_own(system):
    values = registry.get("values", system)
    hue, place = figures.colours(values), places(values)
    assert len(set(hue.values())) == len(set(place.values())) == len(values.ids)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in hue.values())


def test_every_figure_is_drawn(study):
    store, effects = study.store, run(study, "effects")
    cells = queries.matrix(store, effects)
    feature = int(queries.matched(store, effects).feature.iloc[0])
    drawn = [
        figures.circumplex(queries.profile(store, run(study, "profile")), SYSTEM),
        figures.profile_rows(queries.profile(store, run(study, "profile")), SYSTEM),
        figures.effect_matrix(cells, SYSTEM),
        figures.effect_matrix(cells, SYSTEM, small=True),
        figures.cell_doses(
            queries.cell_doses(store, effects, "power", "universalism"),
            SYSTEM,
            "power",
            "norm_share",
            0.1,
        ),
        figures.feature_doses(
            queries.feature_doses(store, effects, feature), SYSTEM, "power", "norm_share"
        ),
        figures.circumplex(
            queries.profile(store, run(study, "profile")),
            SYSTEM,
            before=queries.profile(store, run(study, "profile"), False),
        ),
        figures.arm_forest(
            queries.arm_means(store, run(study, "comparison")),
            queries.arms(store, run(study, "comparison")),
            SYSTEM,
        ),
        figures.leakage(queries.leakage(store, effects), SYSTEM),
        figures.feature_map(
            queries.feature_map(store, run(study, "sae"), run(study, "labels")), SYSTEM
        ),
        figures.activation_histogram(queries.histogram(store, run(study, "sae"), 3)),
        figures.value_graph(
            queries.edges(store, run(study, "graph")).query("present"), SYSTEM, 0.5
        ),
    ]
    for figure in drawn:
        assert json.loads(figure.to_json())["data"]


def test_predictions_and_plans_are_drawn():
    rng, rows = np.random.default_rng(0), []
    for value in SYSTEM.ids:
        for number in range(5):
            predicted, measured = rng.normal(size=2)
            rows.append(
                {
                    "intervention": number,
                    "value": value,
                    "predicted": predicted,
                    "predicted_low": predicted - 0.1,
                    "predicted_high": predicted + 0.1,
                    "measured": measured,
                    "measured_low": measured - 0.1,
                    "measured_high": measured + 0.2,
                }
            )
    frame = pd.DataFrame(rows)
    scatter = figures.prediction_scatter(frame, SYSTEM, 0.9)
    assert "5 joint steerings" in scatter.layout.title.text
    assert sum(len(trace.x) for trace in scatter.data[1:]) == 50
    wanted = frame[frame.intervention == 0].assign(
        wanted_low=-np.inf, wanted_high=np.inf, control=0.0, control_low=-0.1, control_high=0.1
    )
    wanted.loc[wanted.value == "power", ["wanted_low", "wanted_high"]] = (0.4, 0.6)
    plan = figures.plan_rows(wanted, SYSTEM)
    assert [trace.name for trace in plan.data] == [
        "control: random features",
        "predicted",
        "measured",
    ]
    (band,) = plan.layout.shapes
    assert (band.x0, band.x1) == (0.4, 0.6)
    assert json.loads(plan.to_json())["data"]


def test_cells_inside_the_null_band_are_masked(study):
    cells = queries.matrix(study.store, run(study, "effects"))
    figure = figures.effect_matrix(cells, SYSTEM)
    grey, shown = np.array(figure.data[0].z, float), np.array(figure.data[1].z, float)
    assert (np.isnan(grey) != np.isnan(shown)).all()
    inside = ((cells.effect >= cells.null_low) & (cells.effect <= cells.null_high)).sum()
    assert np.isnan(shown).sum() == inside


def test_the_forest_plot_has_controls_last_and_columns_of_what_is_known(study):
    means, arms = (
        ask(study.store, run(study, "comparison")) for ask in (queries.arm_means, queries.arms)
    )
    figure = figures.arm_forest(means, arms, SYSTEM)
    assert list(figure.layout.yaxis.ticktext) == [
        "prompt",
        "sae-add",
        "difference-of-means",
        "random-feature",
        "wrong-sign",
    ]
    assert sum(trace.marker.symbol == "diamond" for trace in figure.data) == 4
    unjudged = figures.arm_forest(means.assign(harmonic=np.nan), arms, SYSTEM)
    assert sum(trace.marker.symbol == "diamond" for trace in unjudged.data) == 3
    diamond = next(trace for trace in figure.data if trace.marker.symbol == "diamond")
    assert list(diamond.x) == pytest.approx([1.2, 1.0, 0.9, 0.02, -1.1])
    assert list(diamond.error_x.array) == pytest.approx([0.1] * 5)


def test_the_verdicts_on_a_graph(study):
    edges, truth = (
        queries.edges(study.store, run(study, "graph")),
        queries.true_edges(study.store, run(study, "graph")),
    )
    count = judge(edges, truth).verdict.value_counts()
    assert (count["hit"], count["missed"], count["extra"]) == (len(PLANTED) - 1, 1, 1)
    assert set(judge(edges, truth.head(0)).verdict) == {""}
    turned = truth.assign(weight=-truth.weight)
    assert judge(edges, turned).verdict.value_counts()["wrong sign"] == len(PLANTED) - 1


def test_the_overview_picture(study, tmp_path):
    file = figures.result_picture(study, tmp_path / "result.png")
    assert file.read_bytes().startswith(b"\x89PNG")
    assert file.stat().st_size > 50_000


def test_numbers_and_text_for_people():
    assert [signed(x) for x in (-0.001, 0.5, -0.256)] == ["0.00", "+0.50", "-0.26"]
    assert plain("<b>&") == "&lt;b&gt;&amp;"


def test_a_profile_with_unmeasured_values(study):
    rows = queries.profile(study.store, run(study, "profile")).head(4)
    assert len(figures.circumplex(rows, SYSTEM).data) == 4
    assert isinstance(
        figures.profile_rows(pd.concat([rows, rows.assign(steering="add f1")]), SYSTEM).to_json(),
        str,
    )


def test_the_mtmm_matrix_names_its_instruments_and_keeps_every_correlation():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        mtmm({"one": rng.standard_normal((8, 10)), "two": rng.standard_normal((8, 10))}, SYSTEM.ids)
    )
    drawn = figures.mtmm_matrix(rows, SYSTEM)
    assert drawn.data[0].z.shape == (20, 20)
    np.testing.assert_allclose(np.diag(drawn.data[0].z), 1)
    assert drawn.data[0].z[3, 14] == pytest.approx(
        rows[
            (rows.instrument == "one")
            & (rows.other_instrument == "two")
            & (rows.value == SYSTEM.ids[3])
            & (rows.other_value == SYSTEM.ids[4])
        ].r.iloc[0]
    )
    assert [a.text for a in drawn.layout.annotations] == ["<b>one</b>", "<b>two</b>"]


def test_differences_are_filled_where_they_are_found():
    rows = pd.DataFrame(
        {
            "instrument": "one",
            "reference": "base",
            "subject": "power+",
            "value": ["power", "security"],
            "before": 0.0,
            "difference": [1.0, 0.1],
            "low": [0.8, -0.1],
            "high": [1.2, 0.3],
            "p": [0.001, 0.4],
            "q": [0.002, 0.4],
            "n": 8,
            "paired": True,
        }
    )
    drawn = figures.difference_rows(rows, SYSTEM)
    assert list(drawn.data[0].x) == [1.0, 0.1]
    assert [colour == "white" for colour in drawn.data[0].marker.color] == [False, True]
