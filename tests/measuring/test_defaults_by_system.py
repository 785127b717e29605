"""Where no instrument is named, the one that speaks the study's value system is asked."""

import pytest

from workbench.measuring.defaults import in_system
from workbench.verbs import contrast, effects, hear, kang, label, measure


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (measure, "MeasureSettings"),
        (effects, "EffectsSettings"),
        (label, "LabelSettings"),
        (kang, "KangSettings"),
    ],
)
def test_nineteen_values_are_asked_by_their_own_statements(module, name):
    settings = getattr(module, name)
    assert in_system("schwartz19", settings, {}) == {"instrument": "standin19"}
    assert in_system("schwartz10", settings, {}) == {}
    assert in_system("higher-order", settings, {}) == {}
    named = {"instrument": "pvq-rr"}
    assert in_system("schwartz19", settings, named) == named


def test_a_list_of_instruments_is_suited_and_a_verb_that_asks_nothing_is_left_alone():
    given = in_system("schwartz19", contrast.ContrastSettings, {"seed": 3})
    assert given == {"instruments": ("standin19",), "seed": 3}
    assert in_system("schwartz19", hear.HearSettings, {}) == {}
