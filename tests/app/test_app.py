"""The app in a real browser, on a study of invented numbers with hostile texts: no model is
needed."""

import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.helpers.browser import Tab, free_port, served, wait_until_up
from tests.helpers.synthetic import HOSTILE, synthetic
from workbench.command import serve
from workbench.study import Study

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    study = synthetic(tmp_path_factory.mktemp("studies") / "invented <b>")
    with served(study.folder) as address:
        yield address


@pytest.fixture
def tab(browser, address):
    tab = Tab(browser, address)
    yield tab
    tab.well()
    tab.page.close()


def test_every_page_opens_from_the_menu(tab):
    tab.open("", "Value profile")
    tab.see("invented <b>")
    tab.see("was interrupted")
    tab.turn("Features", "of 192 live features")
    tab.turn("Steer", "Strength")
    tab.turn("Side effects", "The prompts behind the number")
    tab.see("Damage matching")
    tab.turn("Compare", "One method, one value")
    tab.see("What it wrote at strength")
    tab.turn("Graph", "Planted in the model")
    tab.see("2 of 90")
    tab.turn("Plan", "How good predictions are")
    tab.see("benevolence +0.5, power <= 0")
    tab.see("linear: the changes of single steerings add up")


def test_a_row_of_the_table_opens_its_feature(tab):
    tab.open("features", "of 192 live features")
    tab.settled()
    box = tab.page.get_by_test_id("stDataFrame").bounding_box()
    tab.page.mouse.click(box["x"] + 17, box["y"] + 52)
    tab.page.get_by_role("heading", name=re.compile(r"^Feature \d+$")).wait_for()
    assert re.search(r"feature=\d+", tab.page.url)
    tab.page.get_by_role("button", name="All features").click()
    tab.see("of 192 live features")


def test_filters_narrow_the_table(tab):
    tab.open("features", "of 192 live features")
    search = tab.page.get_by_role("textbox", name="Words in a context")
    search.fill("script alert")
    search.press("Enter")
    tab.page.get_by_text(re.compile(r"of (?!192)\d+ live features")).wait_for()
    search.fill("nothing-of-the-kind")
    search.press("Enter")
    tab.see("No feature passes these filters")


@pytest.mark.parametrize("feature", [0, 3, 6, 8])
def test_hostile_tokens_are_shown_and_not_run(tab, feature):
    tab.open(f"features?feature={feature}", "What steering it does")
    token = HOSTILE[feature].strip(" ").replace("\n", "↵")
    assert token in tab.page.locator(".context .peak").first.inner_text()
    assert tab.page.locator(".context script, .context img, .context a").count() == 0


@pytest.mark.parametrize("feature", [0, 6])
def test_what_a_feature_writes_is_shown_and_not_run(tab, feature):
    tab.open(f"features?feature={feature}", "Suppresses")
    shown = tab.page.locator(".tokens").first
    for rank in range(4):
        token = HOSTILE[(feature + rank) % len(HOSTILE)].strip(" ").replace("\n", "↵")
        assert token in shown.inner_text()
    assert tab.page.locator(".tokens script, .tokens img, .tokens a").count() == 0
    tab.see("random directions stay below 4.9 and 3.4")


def test_a_feature_links_to_those_that_are_like_it(tab):
    for place in (0, 4, 8):  # the first of each list: nearest, together, beyond chance
        tab.open("features?feature=3", "Together more often than by chance")
        link = tab.page.locator(".related a").nth(place)
        link.wait_for()
        other = link.inner_text()
        link.click()
        tab.page.get_by_role("heading", name=f"Feature {other}", exact=True).wait_for()
        assert tab.page.url.endswith(f"feature={other}")


def test_a_dead_feature_still_says_what_it_would_write(tab):
    tab.open("features?feature=24", "This feature is dead")
    tab.see("Pointwise mutual information")
    tab.settled()
    assert tab.page.locator(".related").count() == 4


def test_a_feature_that_is_not_there_is_one_line(tab):
    for asked in ("99999", "x%3Cscript%3E", "-1"):
        tab.open(f"features?feature={asked}", "There is no such feature")
    tab.open("features?feature=24", "This feature is dead")


def test_a_matrix_cell_opens_what_is_behind_it(tab):
    tab.open("effects", "The prompts behind the number")
    tab.settled()
    # Cells are drawn row by row in the order of the store: source, then target, by name. The tenth
    # is achievement's last.
    cell = (
        tab.page.locator(".js-plotly-plot")
        .first.locator(".scatterlayer .trace")
        .last.locator("path.point")
        .nth(9)
    )
    box = cell.bounding_box()
    tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.page.get_by_role("heading", name="Achievement on Universalism").wait_for()
    tab.see("Outside the null band")


def test_a_feature_that_does_not_exist_is_refused_for_steering(tab):
    tab.open("steer", "Strength")
    box = tab.page.locator('[data-testid="stMultiSelect"] input')
    box.fill("4711")
    box.press("Enter")
    tab.see("is no feature of this SAE")


def test_an_empty_study_says_what_to_run_and_runs_that_finish_appear(browser, tmp_path):
    study = Study(tmp_path / "empty")
    with served(study.folder) as address:
        tab = Tab(browser, address)
        tab.open("", "has no sparse autoencoder yet")
        for title, line in (
            ("Features", "There are no features yet"),
            ("Steer", "no SAE to steer with"),
            ("Side effects", "There is no SAE yet"),
            ("Graph", "There is no SAE yet"),
            ("Plan", "nothing has been steered yet"),
        ):
            tab.turn(title, line)
            tab.see("workbench effects" if title == "Plan" else "workbench train")
        synthetic(study.folder)
        tab.turn("Overview", "CE recovered")
        tab.turn("Graph", "Planted in the model")
        tab.well()
        tab.page.close()


def test_bad_runs_are_named_above_every_page_and_the_rest_is_there(browser, tmp_path):
    study = synthetic(tmp_path / "study")
    (torn,) = study.runs.ids("graph-")
    file = study.runs.folder / torn / "edges.parquet"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-100])
    strange = study.runs.folder / "labels-<b>\x1b"
    strange.mkdir()
    (strange / "run.json").write_text("[" * 100_000)
    with served(study.folder) as address:
        tab = Tab(browser, address)
        tab.open("", "2 runs are left out of every page")
        tab.see(f"The run {torn} is damaged")
        tab.see(r"The run labels-<b>\x1b is damaged")
        tab.see("Value profile")
        tab.turn("Features", "of 192 live features")
        tab.see("2 runs are left out of every page")
        tab.turn("Graph", "No graph has been inferred yet")
        tab.see("2 runs are left out of every page")
        file.unlink()
        file.write_bytes(content)
        tab.turn("Graph", "Planted in the model")
        tab.see("1 run is left out of every page")
        tab.well()
        tab.page.close()


def test_a_study_that_is_gone_is_one_line(browser, tmp_path):
    study = Study(tmp_path / "study")
    with served(study.folder) as address:
        (study.folder / "study.json").unlink()
        tab = Tab(browser, address)
        tab.open("", "is not a study")
        tab.well()
        tab.page.close()


def test_a_study_that_goes_while_the_app_is_open_is_one_line(browser, tmp_path):
    study = Study(tmp_path / "study")
    with served(study.folder) as address:
        tab = Tab(browser, address)
        tab.open("", "have not been measured")
        (study.folder / "study.json").unlink()
        tab.open("", "is not a study")
        tab.well()
        tab.page.close()


def test_a_taken_port_is_said_and_ctrl_c_ends_the_app(tmp_path):
    study = Study(tmp_path / "study")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = (
            "import sys; from pathlib import Path; from workbench.command.serve import serve;"
            f" sys.exit(serve(Path({str(study.folder)!r}), {port}))"
        )
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        told = child.stdout.readline()
        assert f"Port {port} is taken" in told
        used = int(re.search(r":(\d+) ", child.stdout.readline()).group(1))
        wait_until_up(used, child)
        child.send_signal(signal.SIGINT)
        assert child.wait(15) == 0
        end = time.monotonic() + 10
        while not serve.free(used):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_free_port_is_free():
    assert serve.free(free_port())


def test_a_page_fills_itself_when_a_run_lands(browser, tmp_path):
    Study(tmp_path / "later")
    with served(tmp_path / "later") as address:
        tab = Tab(browser, address)
        tab.open("features", "There are no features yet.")
        synthetic(tmp_path / "later")
        tab.see("of 192 live features")
        assert tab.page.title() == "Features · Values workbench"
        tab.well()
        tab.page.close()
