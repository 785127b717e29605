"""The value systems: angles, parents, and names as they are published."""

import math

import pytest

from feature_store import registry
from feature_store.errors import NotFound
from feature_store.records import normalise

TEN, NINETEEN, FOUR = (
    registry.get("values", id) for id in ("schwartz10", "schwartz19", "higher-order")
)
TOUCHE = (
    "Self-direction: thought",
    "Self-direction: action",
    "Stimulation",
    "Hedonism",
    "Achievement",
    "Power: dominance",
    "Power: resources",
    "Security: personal",
    "Security: societal",
    "Tradition",
    "Conformity: rules",
    "Conformity: interpersonal",
    "Humility",
    "Benevolence: caring",
    "Benevolence: dependability",
    "Universalism: concern",
    "Universalism: nature",
    "Universalism: tolerance",
)


def test_the_systems_are_registered_with_ten_nineteen_and_four_values():
    assert {"higher-order", "schwartz10", "schwartz19"} <= set(registry.names("values"))
    assert [len(s.values) for s in (TEN, NINETEEN, FOUR)] == [10, 19, 4]
    for system in (TEN, NINETEEN, FOUR):
        assert len(set(system.ids)) == len(system.ids)
        assert all(value.definition and value.id == normalise(value.id) for value in system.values)
        angles = [value.angle for value in system.values]
        assert angles == sorted(angles)
        assert angles[0] >= 0
        assert angles[-1] < 2 * math.pi


def test_tradition_and_conformity_share_a_wedge_and_steps_are_equal():
    assert TEN.distance("tradition", "conformity") == 0
    assert TEN.distance("self-direction", "stimulation") == pytest.approx(math.radians(40))
    assert TEN.distance("universalism", "self-direction") == pytest.approx(math.radians(40))
    assert TEN.distance("self-direction", "security") == pytest.approx(math.radians(160))


def test_the_four_stand_in_two_opposed_pairs():
    assert FOUR.distance("openness-to-change", "conservation") == pytest.approx(math.pi)
    assert FOUR.distance("self-enhancement", "self-transcendence") == pytest.approx(math.pi)
    assert FOUR.distance("openness-to-change", "self-enhancement") == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("name", TOUCHE)
def test_published_names_of_the_nineteen_resolve_everywhere(name):
    value = NINETEEN[name]
    parent = TEN[name].id
    assert value.parent == parent
    assert FOUR.resolve(name) == TEN[parent].parent


def test_humility_is_tradition_face_is_unused_and_objectivity_is_universalism():
    assert TEN.resolve("Humility") == "tradition"
    assert NINETEEN["Face"].parent == ""
    for system in (TEN, FOUR):
        with pytest.raises(NotFound, match="Face"):
            system.resolve("Face")
    assert TEN.resolve("Universalism: objectivity") == "universalism"
    assert FOUR.resolve("Openness to change") == "openness-to-change"
    assert TEN.resolve("Self Direction") == "self-direction"


def test_a_split_value_is_not_guessed_and_a_misspelling_is_answered_with_the_nearest():
    with pytest.raises(NotFound, match="Did you mean 'power-"):
        NINETEEN.resolve("Power")
    with pytest.raises(NotFound, match="Did you mean 'benevolence'"):
        TEN.resolve("benevolance")


def test_a_parent_is_a_value_of_the_coarser_system_and_the_circle_agrees():
    for value in TEN.values:
        assert value.parent in FOUR.ids
        assert (
            abs(math.remainder(value.angle - FOUR[value.parent].angle, 2 * math.pi))
            <= math.pi / 4 + 1e-9
        )
    for value in NINETEEN.values:
        assert value.parent in (*TEN.ids, "")


def test_moral_foundations_are_no_circle():
    six = registry.get("values", "moral-foundations")
    assert [six.resolve(name) for name in ("Care/Harm", "liberty/oppression", "purity")] == [
        "care",
        "liberty",
        "sanctity",
    ]
    assert six.distance("care", "care/harm") == 0
    assert math.isnan(six.distance("care", "liberty"))
