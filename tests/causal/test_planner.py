"""Wishes and plans: the grammar and its errors, planted sparse answers, nearest feasible
profiles that can be worked out by hand."""

import math

import numpy as np
import pytest

from feature_store.errors import BadInput, NotFound
from tests.causal.test_predict import TEN, planted_sweep, some_gain
from workbench.causal.plan import Unreachable, alike, plan
from workbench.causal.predict import dose_curves
from workbench.causal.wanted import WantedChange, Wish, goal, parse

ONE = np.ones(10)


def wish(text: str):
    return goal(parse(text, TEN), TEN.ids, ONE)


def at(value: str) -> int:
    return TEN.ids.index(value)


def test_a_wish_is_read():
    told = parse(
        "benevolence +0.5, power <= 0; Self-Direction -0.3 ± 0.05, security >= -.1, security <="
        " 0.2, others within 0.2, damage <= 0.1",
        TEN,
    )
    assert told == Wish(
        values=(
            WantedChange(value="benevolence", low=0.4, high=0.6, target=0.5),
            WantedChange(value="power", low=-math.inf, high=0.0),
            WantedChange(value="self-direction", low=-0.3 - 0.05, high=-0.3 + 0.05, target=-0.3),
            WantedChange(value="security", low=-0.1, high=0.2),
        ),
        others=0.2,
        damage=0.1,
    )
    assert parse("power = 0.25 within 0.125", TEN).values == (
        WantedChange(value="power", low=0.125, high=0.375, target=0.25),
    )
    assert parse("power −0.3 +- 0.1", TEN).values[0].target == -0.3
    assert parse("power within 0.1", TEN).values == (
        WantedChange(value="power", low=-0.1, high=0.1),
    )
    asked = goal(parse("power +2, others within 1", TEN, "sd"), TEN.ids, np.linspace(0.1, 1.0, 10))
    assert asked.target[at("power")] == pytest.approx(2 * 0.5)
    assert asked.high[at("universalism")] == pytest.approx(1.0)
    assert asked.low[at("self-direction")] == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("benevolance +0.5", NotFound, "Did you mean 'benevolence'"),
        ("power >= 0.5, power <= 0.2", BadInput, "power contradicts itself at 'power <= 0.2'"),
        ("power +0.5, power <= 0.2", BadInput, "around a target of"),
        ("power +0.5, power +0.7", BadInput, "two targets"),
        ("others within 0.2, damage <= 0.1", BadInput, "names no value to change"),
        ("", BadInput, "names no value to change"),
        ("power up", BadInput, "is no clause of a wish"),
        ("others <= 0.2", BadInput, "have a width only"),
        ("power +1, damage <= -0.2", BadInput, "0 nats or more"),
        ("damage >= 0.2", BadInput, "a largest value only"),
        ("power +0.5 within -0.1", BadInput, "contradicts itself"),
    ],
)
def test_what_cannot_be_read_or_contradicts_itself_is_refused(text, kind, says):
    with pytest.raises(kind, match=says) as caught:
        parse(text, TEN)
    assert "\n" not in str(caught.value)


def test_distance_is_to_targets_and_beyond_bounds():
    asked = wish("power +0.5, hedonism <= 0, others within 0.2")
    change = np.zeros(10)
    assert asked.distance(change) == pytest.approx(math.sqrt(0.25 / 10))
    change[at("power")], change[at("hedonism")], change[at("security")] = 0.5, 0.3, 0.1
    assert asked.distance(change) == pytest.approx(math.sqrt((0.09 + 0.01) / 10))
    assert asked.met(change).sum() == 9
    assert wish("power +0.5").distance(np.full(10, 0.5)) == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_the_planted_sparse_solution_is_found(seed):
    gain = some_gain(seed, features=40, size=2.0)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(40, 2, replace=False)
    dose = rng.uniform(0.15, 0.35, 2) * rng.choice((-1, 1), 2)
    want = dose @ gain[chosen]
    told = dose_curves(planted_sweep(gain), 6)
    found = plan(
        told,
        wish(", ".join(f"{v} {x:+.4f} within 0.05" for v, x in zip(TEN.ids, want, strict=True))),
        8,
    )
    assert dict(found.weights) == pytest.approx(
        {100 + f: d for f, d in zip(chosen, dose, strict=True)}, abs=0.02
    )
    assert found.predicted == pytest.approx(want, abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_constraints_hold_on_the_curves(seed):
    told = dose_curves(planted_sweep(some_gain(10 + seed, features=40, size=1.5), reaction=0.2), 6)
    asked = wish(
        "benevolence +0.5, power <= -0.2, security >= 0.1, others within 0.2, damage <= 0.06"
    )
    found = plan(told, asked, 8)
    assert asked.met(found.predicted, 0.01).all()
    assert found.damage <= 0.06 + 1e-3
    assert len(found.weights) <= 8
    assert max(abs(dose) for _, dose in found.weights) <= 0.4
    assert found.predicted[at("benevolence")] == pytest.approx(0.5, abs=0.06)
    fewer = len(found.weights) - 1
    assert fewer >= 1


def test_a_curve_that_bends_is_followed():
    sweep = planted_sweep(np.eye(10)[[4, 8]] * 2)
    bent = sweep.base + np.sign(sweep.changes()) * np.sqrt(np.abs(sweep.changes()))
    told = dose_curves(type(sweep)(**{**sweep.__dict__, "ratings": bent}), 6)
    found = plan(told, wish("power +0.8 within 0.02, others within 0.1"), 3)
    assert [feature for feature, _ in found.weights] == [100]
    assert found.predicted[at("power")] == pytest.approx(0.8, abs=0.02)


def test_the_nearest_profile_is_the_analytic_one_and_names_who_conflicts():
    gain = np.zeros((1, 10))
    gain[0, at("power")], gain[0, at("security")] = 2.0, 1.0
    told = dose_curves(planted_sweep(gain), 6)
    # power = 2x, security = x: slack (0.6 - 2x) + x falls until 2x = 0.6.
    with pytest.raises(Unreachable) as caught:
        plan(told, wish("power >= 0.6, security <= 0"), 3)
    assert caught.value.nearest.predicted[at("power")] == pytest.approx(0.6, abs=0.01)
    assert caught.value.nearest.predicted[at("security")] == pytest.approx(0.3, abs=0.01)
    assert caught.value.conflicts == ("power", "security")
    assert "security +0.30 (asked at most +0.00)" in str(caught.value)
    assert "in conflict: power, security" in str(caught.value)
    assert "moves power and security alike" in str(caught.value)
    # Too far for the measured doses: nothing conflicts, the nearest is the largest dose.
    with pytest.raises(Unreachable, match="doses up to 0.4") as caught:
        plan(told, wish("power >= 3"), 3)
    assert caught.value.nearest.weights == ((100, 0.4),)
    assert caught.value.conflicts == ("power",)


def test_the_damage_limit_binds_at_the_analytic_dose():
    gain = np.zeros((1, 10))
    gain[0, at("power")] = 2.0
    told = dose_curves(planted_sweep(gain), 6)
    # Damage 0.2 x dose^2 is measured at 0.1, 0.2 and 0.4: 0.02 nats lie on the chord from 0.008 to
    # 0.032, at dose 0.3.
    with pytest.raises(Unreachable, match="damage up to 0.02 nats") as caught:
        plan(told, wish("power >= 0.75, damage <= 0.02"), 3)
    assert caught.value.nearest.weights[0][1] == pytest.approx(0.3, abs=0.01)
    assert plan(told, wish("power >= 0.55, damage <= 0.02"), 3).damage <= 0.021


def test_too_few_features_are_told():
    gain = np.eye(10)[[4, 8]] * 2
    told = dose_curves(planted_sweep(gain), 6)
    asked = wish("power +0.5, benevolence -0.5, others within 0.1")
    assert {feature for feature, _ in plan(told, asked, 2).weights} == {100, 101}
    with pytest.raises(Unreachable, match="within one feature"):
        plan(told, asked, 1)
    with pytest.raises(BadInput, match="at least one feature"):
        plan(told, asked, 0)
    with pytest.raises(BadInput, match="unsteered model meets the wish"):
        plan(told, wish("power <= 0.1"), 2)


def test_values_that_cannot_be_told_apart_are_named():
    gain = some_gain(3, features=30)
    gain[:, at("tradition")] = -0.7 * gain[:, at("conformity")]
    gain[:, at("hedonism")] = 0.0
    told = dose_curves(planted_sweep(gain), 6)
    assert alike(told) == [
        ("hedonism", "hedonism", 0.0),
        ("conformity", "tradition", pytest.approx(-1.0)),
    ]
    assert alike(dose_curves(planted_sweep(some_gain(3, features=30)), 6)) == []
    with pytest.raises(Unreachable, match="every feature moves conformity and tradition alike"):
        plan(told, wish("conformity +0.5, tradition +0.5"), 8)


def test_the_same_wish_gives_the_same_plan():
    told = dose_curves(planted_sweep(some_gain(20, features=40), reaction=0.2), 6)
    asked = wish("benevolence +0.4, others within 0.2")
    assert plan(told, asked, 6).weights == plan(told, asked, 6).weights
