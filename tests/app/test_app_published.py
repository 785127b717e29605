"""A published study in a real browser: every page without a model, and what it lacks is said."""

import os
import re

import pytest

from tests.helpers.browser import Tab, served
from tests.helpers.synthetic import synthetic

pytestmark = pytest.mark.browser

NOTE = "<b>Ask</b> `them` for [weights](javascript:alert(1))"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    file = synthetic(folder / "study").publish(
        folder / "theirs.duckdb", ["activations", "coactivations"], NOTE
    )
    before = os.environ.get("WORKBENCH_CACHE")
    os.environ["WORKBENCH_CACHE"] = str(folder / "cache")
    try:
        with served(file) as address:
            yield address
    finally:
        os.environ.pop("WORKBENCH_CACHE")
        if before is not None:
            os.environ["WORKBENCH_CACHE"] = before


@pytest.fixture
def tab(browser, address):
    tab = Tab(browser, address)
    yield tab
    tab.well()
    tab.page.close()


def test_every_page_opens_and_says_that_it_is_read_only(tab):
    tab.open("", "Value profile")
    for title, text in (
        ("Features", "of 192 live features"),
        ("Side effects", "The prompts behind the number"),
        ("Compare", "One method, one value"),
        ("Graph", "Planted in the model"),
        ("Plan", "How good predictions are"),
        ("Profiles", "profiles"),
        ("Instruments", "Ordinal regression"),
        ("Review", "Review"),
        ("Overview", "Value profile"),
    ):
        tab.turn(title, text)
        tab.settled()
        tab.see("is a published study: read only, without weights and activations, coactivations.")
        assert "<b>Ask</b>" in tab.page.get_by_test_id("stAlert").first.inner_text()
        assert tab.page.locator("a[href^=javascript]").count() == 0


def test_a_feature_shows_no_figure_of_what_was_left_out(tab):
    tab.open("features?feature=3", "What steering it does")
    texts = tab.page.get_by_test_id("stMetric").filter(has_text="Texts")
    assert re.search(r"Texts\s*–", texts.inner_text())
    tab.see("Left out when the study was published.")


def test_steer_says_what_is_lacking_and_what_to_do(tab):
    tab.open("steer", "was published without its weights")
    tab.see("for [weights](javascript:alert(1))")
    assert tab.page.get_by_text("Strength").count() == 0
