import math

import pytest

from feature_store import records
from feature_store.errors import BadInput, NotFound
from feature_store.records import Steering, Value, ValueSystem, normalise

SYSTEM = ValueSystem(
    id="two",
    values=(
        Value(
            id="self-direction", name="Self-Direction", angle=0.1, definition="Freedom.", parent=""
        ),
        Value(id="power", name="Power", angle=6.2, definition="Status.", parent=""),
    ),
    source="here",
    aliases=(("self-direction-thought", "self-direction"),),
)


def test_distance_goes_the_short_way_round():
    assert SYSTEM.distance("self-direction", "power") == pytest.approx(2 * math.pi - 6.1)


def test_names_are_resolved_whatever_their_spelling():
    assert SYSTEM.resolve("Self-direction: thought") == "self-direction"
    assert normalise("  Universalism: nature ") == "universalism-nature"
    with pytest.raises(NotFound, match="Did you mean 'power'"):
        SYSTEM.resolve("Powr")


@pytest.mark.parametrize("dose", [float("nan"), float("inf"), -float("inf")])
def test_a_dose_must_be_finite(dose):
    with pytest.raises(BadInput, match="finite"):
        Steering(((1, 1.0),), strength=dose)
    with pytest.raises(BadInput, match="finite"):
        Steering(((1, dose),), strength=1.0)


def test_a_steering_that_changes_nothing_is_called_base():
    assert Steering().name == Steering(((3, 1.0),), strength=0).name == "base"
    assert Steering(((3, 1.0), (4, -2.0)), strength=0.5).name == "add f3+f4*-2 @0.5 norm_share"
    assert Steering(random=7, strength=1).name != Steering(random=8, strength=1).name


def test_every_field_of_every_record_is_documented():
    from workbench.settings import helps

    for name in (
        "Value",
        "Site",
        "Feature",
        "Label",
        "Steering",
        "Item",
        "Response",
        "SideEffect",
        "Edge",
        "Run",
    ):
        record = getattr(records, name)
        missing = set(record.__dataclass_fields__) - set(helps(record))
        assert not missing, f"{name}: {missing}"


def test_a_run_s_figures_in_one_line():
    summary = {
        "fvu": 0.0123456,
        "l0": 20,
        "kind": "topk",
        "values": ["power"],
        "counts": {"power": 3},
    }
    assert records.figures(summary) == "fvu 0.01235, l0 20, kind topk"


def test_the_key_of_a_steering_has_every_digit_and_the_shown_name_six():
    shown, near = (
        Steering(((3, 0.5), (4, 1.0)), strength=0.3),
        Steering(((3, 0.5), (4, 1.0)), strength=0.30000001),
    )
    assert shown.name == near.name
    assert shown.key == shown.name
    assert near.key != shown.key
    assert Steering(((3, 0.50000001), (4, 1.0)), strength=0.3).key != shown.key
    assert (
        Steering(((3, 2.0),), strength=0.3, combine="sum").key
        != Steering(((3, 2.0),), strength=0.3).key
    )
    assert Steering(((3, 1.0),)).key == "base"
