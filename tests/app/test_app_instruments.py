"""The page Instruments, on runs of invented numbers with hostile texts: what it asks, what it
draws, and what a click opens."""

import itertools

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from feature_store import queries, registry
from tests.helpers.browser import Tab, served
from tests.helpers.synthetic import HOSTILE
from tests.helpers.synthetic_instruments import MEMBERS, NOISE, SEPARATION, STEERING, instruments
from workbench import figures
from workbench.study import Study
from workbench.views.shared import LONGEST, short_names

SYSTEM = registry.get("values", "schwartz10")
FIRST = SYSTEM.ids[:4]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return instruments(tmp_path_factory.mktemp("studies") / "invented <b>")


def run(study, kind):
    return study.resolve(kind, "latest").id


def dilemmas(study, steering="base"):
    return next(
        row.run for row in queries.dilemmas(study.store).itertuples() if row.steering == steering
    )


def test_an_empty_study_answers_every_question_with_no_row(tmp_path):
    store = Study(tmp_path / "empty").store
    for answer in (
        queries.ordinal_thetas(store, "none", True),
        queries.ordinal_contrasts(store, "none"),
        queries.ordinal_parameters(store, "none"),
        queries.ordinal_circle(store, "none"),
        queries.answerers(store, ["none"]),
        queries.subject_names(store, []),
        queries.dilemmas(store),
        queries.step_preferences(store, "none", "base"),
        queries.win_rates(store, "none", "base"),
        queries.transitivity(store, "none", "base"),
        queries.value_strengths(store, "none", "base"),
        queries.step_agreement(store, "none"),
        queries.item_answers(store, "none", "base", ["a"]),
        queries.adaem_separation(store, "none"),
        queries.adaem_questions(store, "none"),
        queries.adaem_pulls(store, "none"),
        queries.adaem_members(store, "none"),
        queries.adaem_ratings(store, "none"),
        queries.adaem_opinions(store, "none", queries.OpinionFilter(stage="fresh")),
    ):
        assert answer.empty


def test_opinions_are_those_behind_a_number(study):
    store, id = study.store, run(study, "adaem")
    every = queries.adaem_opinions(store, id, queries.OpinionFilter(stage="fresh"))
    assert set(every.question) == {2}, "only the found question, unless one is named"
    assert len(every) == every.total[0] == 2 * 3
    behind = queries.adaem_opinions(
        store, id, queries.OpinionFilter(stage="fresh", member="power+", value="power")
    )
    assert [list(held) for held in behind.held] == [["power"]] * 2
    assert (
        len(
            queries.adaem_opinions(
                store, id, queries.OpinionFilter(stage="search", question=3), limit=3
            )
        )
        == 3
    )
    found = queries.adaem_questions(store, id)
    assert found.question[0] == 2
    assert (found.opinions[0], found.missing[0], found.seed_fresh[0]) == (4, 2, 0.2)
    assert found.seed_text[0] == f"{HOSTILE[0]} seed"
    assert queries.adaem_pulls(store, id).question.tolist() == [2, 3]


def test_answers_come_in_the_order_of_their_items_and_cut_into_pages(study):
    id, items = dilemmas(study), ["3-2", "1-1", "2-1"]
    whole = queries.item_answers(study.store, id, "base", items)
    assert whole["item"].tolist() == items
    assert set(whole.total) == {3}
    assert queries.item_answers(study.store, id, "base", items, 2, 2)["item"].tolist() == ["2-1"]
    assert queries.step_agreement(study.store, id).subject.tolist() == ["power+"] * 2


def test_steerings_are_called_as_contrasts_call_them_and_never_alike(study):
    known = queries.subject_names(study.store, [dilemmas(study)])
    assert short_names(["base", STEERING], known) == {"base": "base", STEERING: "power+"}
    assert short_names([f"a model, {STEERING}"], known) == {
        f"a model, {STEERING}": "a model, power+"
    }
    middle = [f"{'a' * 40}{k}{'b' * 40}" for k in range(2)]
    assert short_names(middle, known) == {name: name for name in middle}, (
        "two that differ in the middle keep their names"
    )
    assert len(short_names(["x" * 99], known)["x" * 99]) <= LONGEST


def test_every_condition_has_its_row_of_marks(study):
    thetas = queries.ordinal_thetas(study.store, run(study, "ordinal"), True)
    drawn = figures.theta_rows(thetas, SYSTEM)
    assert [trace.name for trace in drawn.data] == ["base", STEERING]
    mark = list(map(tuple, drawn.data[1].customdata)).index((STEERING, "power"))
    assert drawn.data[1].x[mark] == 2.0
    assert drawn.data[1].error_x.array[mark] == pytest.approx(0.2)
    assert drawn.layout.yaxis.ticktext[round(drawn.data[1].y[mark])] == "Power"
    assert "R-hat 1.002, 900 effective draws, 40 answers" in drawn.data[1].hovertext[mark]
    rows = queries.ordinal_contrasts(study.store, run(study, "ordinal"))
    value = rows.contrast.isin(SYSTEM.ids)
    (changed,) = figures.change_rows(rows[value], SYSTEM).data
    mark = list(map(tuple, changed.customdata)).index((STEERING, "power"))
    assert (changed.x[mark], changed.name) == (2.0, f"{STEERING} less base")
    (between,) = figures.contrast_rows(rows[(rows.other != "") & ~value]).data
    assert between.name == f"{STEERING} less base"
    assert between.marker.symbol == "circle", "a difference is not drawn as the reference"


def test_the_planted_order_of_values_is_in_every_figure_of_dilemmas(study):
    id = dilemmas(study)
    rates = figures.win_matrix(queries.win_rates(study.store, id, "base"), SYSTEM)
    grey, shown = (np.array(trace.z, float) for trace in rates.data[:2])
    assert grey.shape == (4, 4)
    told = {
        tuple(pair): float(text)
        for pair, text in zip(rates.data[-1].customdata, rates.data[2].text, strict=True)
    }
    upper, pairs = np.triu_indices(4, 1), list(itertools.combinations(FIRST, 2))
    assert np.mean([told[pair] for pair in pairs]) == pytest.approx(1 - NOISE, abs=0.08), (
        "earlier values win"
    )
    assert all(told[pair] + told[pair[::-1]] == pytest.approx(1, abs=0.011) for pair in pairs)
    np.testing.assert_array_equal(np.isnan(grey) & np.isnan(shown), np.eye(4, dtype=bool))
    turned = figures.win_matrix(queries.win_rates(study.store, id, STEERING), SYSTEM)
    assert np.nanmean(np.array(turned.data[1].z, float)[upper]) < -0.3
    strengths = figures.strength_rows(queries.value_strengths(study.store, id, "base"), SYSTEM)
    assert [row[0] for row in strengths.data[0].customdata] == list(FIRST)
    lines = figures.step_lines(queries.step_preferences(study.store, id, "base"), SYSTEM)
    assert [a.text for a in lines.layout.annotations] == [SYSTEM[v].name for v in FIRST]
    own = [trace for trace in lines.data if trace.customdata is not None]
    assert [list(trace.customdata[0]) for trace in own] == [[1, v] for v in FIRST]
    assert own[0].y[0] > 0.3 > 0 > -0.3 > own[3].y[0]
    agreement = figures.agreement_lines(queries.step_agreement(study.store, id))
    assert agreement.data[0].y[0] < 0, "the steered model turns the order round"


def test_cells_of_too_few_dilemmas_are_blank_and_those_that_include_a_half_grey(study):
    rows = queries.win_rates(study.store, dilemmas(study), "base")
    first = (rows.value == "self-direction") & (rows.against == "stimulation")
    changed = rows.assign(
        rate=rows.rate.where(~first),
        low=rows.low.where(rows.value != "hedonism", 0.4),
        high=rows.high.where(rows.value != "hedonism", 0.6),
    )
    drawn = figures.win_matrix(changed, SYSTEM)
    grey, shown = (np.array(trace.z, float) for trace in drawn.data[:2])
    assert np.isnan(grey[0, 1])
    assert np.isnan(shown[0, 1])
    assert np.isfinite(grey[2]).sum() == 3
    assert len(drawn.data[-1].customdata) == 11


def test_the_search_and_its_separation_are_drawn_as_they_were(study):
    id = run(study, "adaem")
    drawn = figures.separation_rows(queries.adaem_separation(study.store, id))
    believed, chance, fresh = drawn.data
    order = ["found", "best-seed", "seed"]
    assert list(fresh.x) == [SEPARATION[name] for name in order]
    assert list(believed.x) == [2 * SEPARATION[name] for name in order]
    assert list(chance.x) == [0.1] * 3
    history = figures.search_history(
        queries.adaem_pulls(study.store, id), queries.adaem_questions(study.store, id)
    )
    assert list(history.data[0].y) == pytest.approx([0.35, 0.65, 0.65]), (
        "the mean of the topics' best: 0.3 and 0.4, then 0.9 and 0.4"
    )
    assert [list(trace.customdata[0]) for trace in history.data[1:]] == [[2], [3]]
    ratings = figures.rating_matrix(queries.adaem_ratings(study.store, id), list(MEMBERS), SYSTEM)
    shown = np.array(ratings.data[1].z, float)
    power = SYSTEM.ids.index("power")
    np.testing.assert_allclose(shown[:, power], [0.4, -0.4])
    assert np.isfinite(shown).sum() == 2, "the rest includes a half and is grey"
    assert list(ratings.data[0].y) == ["power+", "&lt;b&gt;base&lt;/b&gt;"]


def page(folder: str, show: str):
    import streamlit as st

    from workbench import views
    from workbench.views import instruments

    st.query_params["show"] = show
    st.session_state["study"], st.session_state["chosen"] = (
        views.open_study(folder),
        views.ChosenRuns(sae=None, labels=None, profile=None, effects=None, graph=None),
    )
    instruments.page()


def opened(folder, show: str) -> AppTest:
    app = AppTest.from_function(page, args=(str(folder), show), default_timeout=60).run()
    assert not app.exception, app.exception[0].message
    return app


@pytest.mark.parametrize(
    ("show", "verb"),
    [
        ("ordinal", "workbench ordinal"),
        ("dilemmas", "--instrument moral-dilemmas"),
        ("adaem", "workbench adaem"),
    ],
)
def test_what_has_not_run_says_what_to_type(tmp_path, show, verb):
    (line,) = opened(Study(tmp_path / "empty").folder, show).info
    assert verb in line.value


def test_an_ordinal_regression_names_its_chains_its_control_and_its_answers(study):
    app = opened(study.folder, "ordinal")
    assert [line.value.split(" (")[0] for line in app.warning][:1] == [
        "The chains disagree on some of these numbers"
    ]
    assert "other contexts" in app.warning[1].value
    numbers, _, _, quality, answers = (frame.value for frame in app.dataframe)
    assert (numbers["R-hat"] == "1.030 ⚠").sum() == 3
    assert (
        numbers.set_index(["what", "of"]).loc[("Power", "power+"), "mean [95 % interval]"]
        == "+2.00 [+1.80, +2.20]"
    )
    assert quality.loc["refused", "power+"] == "0.100 [0.050, 0.200], n 40"
    assert set(answers.text) <= set(HOSTILE)
    app.selectbox(key="ordinal-condition").select(STEERING).run()
    assert not app.exception


def test_a_cell_of_dilemmas_leads_to_the_answers_behind_it(study):
    app = opened(study.folder, "dilemmas")
    app.selectbox[0].select(1).run()
    for key, choice in (("step", 2), ("value", "stimulation"), ("against", "self-direction")):
        app.selectbox(key=f"dilemmas-{key}").select(choice)
    app.run()
    assert not app.exception
    shown = app.dataframe[-1].value
    assert len(shown) == 6, "as many dilemmas as set the two against each other"
    assert set(shown.step) == {2}
    assert {frozenset(pair) for pair in zip(shown.value, shown.against, strict=True)} == {
        frozenset({"Stimulation", "Self-Direction"})
    }
    rates = (
        queries.win_rates(study.store, dilemmas(study), "base").set_index(["value", "against"]).rate
    )
    both = [*shown.value]
    app.selectbox(key="dilemmas-step").select(1).run()
    both += [*app.dataframe[-1].value.value]
    assert both.count("Stimulation") / len(both) == pytest.approx(
        rates["stimulation", "self-direction"]
    ), "the answers add up to the number"


def test_dilemmas_that_changed_since_are_not_shown_as_those_that_were_asked(tmp_path):
    from feature_store.errors import Incompatible
    from workbench.measuring.questionnaire import as_asked

    study = instruments(tmp_path / "study")
    asked = study.runs.get(dilemmas(study))
    assert as_asked(asked, study.system).instrument.id == "moral-dilemmas"
    file = study.folder / "dilemmas.json"
    file.write_text(file.read_text().replace("dilemma 3", "another"))
    with pytest.raises(Incompatible, match="not those that"):
        as_asked(asked, study.system)


def test_a_search_tells_its_ratio_and_shows_its_opinions(study):
    app = opened(study.folder, "adaem")
    said = " ".join(line.value for line in app.caption)
    assert (
        "The found questions separate 2.5 times as well as the seeds \\[1.1, 4\\]"
        in said.replace("[1.1, 4]", "\\[1.1, 4\\]")
    )
    assert "nothing is left to compare" in said
    for key, choice in (("member", "power+"), ("value", "power")):
        app.selectbox(key=f"adaem-{key}").select(choice)
    app.run()
    assert not app.exception
    assert app.dataframe[-1].value.held.tolist() == ["Power", "Power"]


@pytest.fixture(scope="module")
def address(study):
    with served(study.folder) as address:
        yield address


@pytest.mark.browser
def test_hostile_texts_are_shown_and_a_click_opens_the_answers(browser, address):
    tab = Tab(browser, address)
    tab.open("", "invented <b>")
    tab.turn("Instruments", "fewest effective draws")
    tab.see("as they were stored in")
    tab.page.get_by_test_id("stButtonGroup").get_by_text("Moral dilemmas").click()
    tab.see("Are the choices transitive?")
    tab.see("as they were stored in")
    tab.settled()
    # Cells are drawn by row and column of the store: achievement against hedonism is the first.
    cell = (
        tab.page.locator(".js-plotly-plot")
        .nth(1)
        .locator(".scatterlayer .trace")
        .last.locator("path.point")
        .first
    )
    cell.scroll_into_view_if_needed()
    box = cell.bounding_box()
    tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.see("1 to 12 of 12 answers")  # six dilemmas of two steps set the two against each other
    tab.page.get_by_test_id("stButtonGroup").get_by_text("AdAEM").click()
    tab.see("Who holds which value most")
    tab.see("as they were stored in")
    assert "show=adaem" in tab.page.url
    tab.well()
    tab.page.close()
