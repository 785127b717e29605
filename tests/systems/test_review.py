"""The review page in a real browser: hostile scenarios are shown, a verdict is kept, the next
one comes up."""

import pytest

from feature_store import queries
from feature_store.records import Action, Scenario
from tests.helpers.browser import Tab, served
from workbench.study import Study
from workbench.systems.value_pilot.scenarios import write
from workbench.systems.value_pilot.stored import usable

pytestmark = pytest.mark.browser


def test_a_person_rejects_a_scenario_and_accepts_a_filtered_one(browser, tmp_path):
    study = Study(tmp_path / "study")
    actions = tuple(
        Action(text, tuple((v, float(v == "power") * sign) for v in study.system.ids))
        for text, sign in (("I <b>push</b>.", 1), ("I wait.", -1))
    )
    file = tmp_path / "s.jsonl"
    write(
        file,
        [
            Scenario(
                id="first",
                text="A door. <script>alert(1)</script> **bold**",
                values=("power",),
                actions=actions,
                source="us",
            ),
            Scenario(
                id="second",
                text="A powerful door.",
                values=("power",),
                actions=actions,
                source="us",
            ),
        ],
    )
    with served(study.folder) as address:
        tab = Tab(browser, address)
        tab.open("review", "No scenario has been written yet")
        run = study.scenarios(file=str(file))
        tab.open("review", "<script>alert(1)</script> **bold**")
        tab.page.get_by_label("Why").fill("too <i>plain</i>")
        tab.page.get_by_label("Who").fill("me")
        tab.page.get_by_role("button", name="Reject").click()
        tab.see("It names a value: powerful")
        tab.settled()  # before that, the form of the scenario that is gone still stands there
        tab.page.get_by_role("button", name="Accept").click()
        tab.see("No scenario is left")
        tab.page.get_by_text("all", exact=True).click()
        tab.see("Rejected by me: too <i>plain</i>")
        tab.well()
        tab.page.close()
    assert [s.id for s in usable(study.store, run.id)] == ["second"]
    assert queries.scenarios(study.store, run.id).note.tolist() == ["too <i>plain</i>", ""]
