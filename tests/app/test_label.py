"""The page Label in a real browser: judged by keys alone, blind to others, hostile notes shown."""

import re

import pytest

from feature_store import queries
from tests.helpers.browser import Tab, served
from tests.helpers.synthetic import synthetic
from workbench.features import verdicts
from workbench.study import Study

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv(verdicts.DESK, "here")
    yield synthetic(tmp_path_factory.mktemp("label") / "study")
    patch.undo()


@pytest.fixture(scope="module")
def address(study):
    with served(study.folder) as address:
        yield address


@pytest.fixture
def tab(browser, address):
    tab = Tab(browser, address)
    yield tab
    tab.well()
    tab.page.close()


def begin(tab, name):
    tab.open("label", "Your name")
    tab.page.get_by_label("Your name").fill(name)
    tab.page.get_by_label("Your name").press("Enter")


def feature(tab, other_than=None):
    """The number of the feature that is shown, once it is another one."""
    heading = tab.page.locator("h3", has_text=re.compile(r"^Feature \d+"))
    if other_than is not None:
        tab.page.locator("h3", has_text=re.compile(rf"^Feature (?!{other_than}\b)\d+")).wait_for()
    heading.wait_for()
    tab.settled()
    return int(re.search(r"Feature (\d+)", heading.inner_text())[1])


def said_by(study, name):
    log = queries.verdict_log(study.store)
    return log[log.labeller == name]


def test_ten_features_are_judged_by_keys_alone(study, tab):
    begin(tab, "Ada <b>")
    queue = queries.label_queue(
        study.store, study.runs.latest("sae").id, [study.runs.latest("labels").id]
    )
    at = feature(tab)
    assert at == queue.feature[0]
    tab.see("verdicts given")
    judged = []
    for key in ("a", "x", "b", "u", "a", "j"):
        judged.append(at)
        tab.page.keyboard.press(key)
        at = feature(tab, at)
    judged.append(at)
    tab.page.keyboard.press("v")
    tab.see("Which value does the feature carry?")
    tab.page.keyboard.press("s")
    tab.see("Side: rejected")
    tab.settled()
    tab.page.keyboard.press("3")
    at = feature(tab, at)
    rows = said_by(study, "Ada <b>")
    assert rows.feature.tolist() == [*judged[:5], judged[6]]
    assert rows.verdict.tolist() == ["accept", "reject", "both", "unsure", "accept", "change"]
    last = rows.iloc[-1]
    assert (last.value, last.polarity) == (study.system.ids[2], -1)
    assert rows.polarity.tolist()[2] == 0
    tab.page.keyboard.press("z")  # back to the one that was judged last
    assert feature(tab, at) == judged[6]
    assert said_by(study, "Ada <b>").verdict.tolist()[-1] == "undo"
    assert tab.page.url.endswith(f"feature={judged[6]}")


def test_a_note_goes_with_the_next_verdict_and_is_shown_as_text(study, tab):
    begin(tab, "Noting")
    at = feature(tab)
    tab.page.keyboard.press("n")
    field = tab.page.get_by_label("Why")
    field.wait_for()
    field.fill("<img src=x onerror=alert(1)> **a** x j u")
    field.press("Enter")
    tab.see("Note of your next verdict")
    assert feature(tab) == at  # the letters of the note were no keys
    tab.page.keyboard.press("x")
    feature(tab, at)
    rows = said_by(study, "Noting")
    assert rows.note.tolist() == ["<img src=x onerror=alert(1)> **a** x j u"]


def test_what_another_says_is_shown_after_ones_own_verdict(study, tab, address, browser):
    begin(tab, "Ben")
    at = feature(tab)
    study.verdict("reject", feature=at, labeller="Cy", note="no <i>doubt</i>")
    tab.page.reload()  # in a tab that was loaded anew, the name is asked about
    assert tab.page.get_by_text("Cy said").count() == 0
    begin(tab, "Ben")
    at = feature(tab)
    assert tab.page.get_by_text("Cy said").count() == 0
    tab.page.keyboard.press("a")
    tab.see("Cy said no value")
    tab.see("<i>doubt</i>")
    tab.see("features that two people or more judged are judged alike")


def test_a_name_that_is_in_use_is_asked_about(study, tab):
    study.verdict("reject", feature=3, labeller="Dee")
    begin(tab, "dee")
    tab.see("in use already")
    tab.page.get_by_role("button", name="I am this Dee").click()
    at = feature(tab)
    tab.page.keyboard.press("u")
    feature(tab, at)
    assert said_by(study, "Dee").desk.tolist() == ["here", "here"]


def test_a_link_names_the_feature_and_one_that_is_not_there_is_said(tab):
    tab.open("label?feature=7", "Your name")
    tab.page.get_by_label("Your name").fill("Eve")
    tab.page.get_by_label("Your name").press("Enter")
    assert feature(tab) == 7
    tab.open("label?feature=99999", "Your name")
    tab.page.get_by_label("Your name").fill("Eve 2")
    tab.page.get_by_label("Your name").press("Enter")
    tab.see("There is no such feature")


def test_a_published_study_says_that_it_cannot_be_labelled(browser, study, tmp_path):
    file = study.publish(tmp_path / "s.duckdb", ["activations"])
    with served(file) as address:
        tab = Tab(browser, address)
        tab.open("label", "A published study is read only")
        tab.see("--import FILE")
        tab.well()
        tab.page.close()


def test_a_study_without_labels_says_which_command_comes_first(browser, tmp_path):
    with served(Study(tmp_path / "study").folder) as address:
        tab = Tab(browser, address)
        tab.open("label", "There are no features to label yet")
        tab.well()
        tab.page.close()
