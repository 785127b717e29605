"""Effects from a sweep: exact answers on hand-made arrays, planted ones on a simulated linear
SCM."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from feature_store import registry
from feature_store.errors import BadInput
from workbench.causal.effects import analyse, dose_effects, null_band
from workbench.statistics.circle import angles, distances, fit
from workbench.sweeps.damage import Sweep, damage_rows, match

TEN = registry.get("values", "schwartz10")


def simulate(
    seed: int,
    graph: np.ndarray,
    features: int = 8,
    contexts: int = 24,
    leaky: float = 0.5,
    leaks: tuple[int, int] = (1, 2),
    controls: int = 10,
    strength: float = 1.0,
    noise: float = 0.3,
) -> Sweep:
    """A sweep on a linear SCM over ten values: ratings bounded to 1.1-5.9, items nested in
    contexts, reactions that differ by context with a long tail, features of either polarity, some
    of which push other values at 0.3-0.5 x.
    """
    rng = np.random.default_rng(seed)
    spread, items, doses = np.linalg.inv(np.eye(10) - graph), 6, (0.5, 1.0, 1.5)
    push = np.zeros((10, features, 10))
    for value in range(10):
        push[value, :, value] = rng.uniform(0.6, 1.2, features)
        for feature in np.flatnonzero(rng.random(features) < leaky):
            others = rng.choice(
                np.delete(np.arange(10), value), rng.integers(leaks[0], leaks[1] + 1), replace=False
            )
            push[value, feature, others] = (
                push[value, feature, value]
                * rng.uniform(0.3, 0.5)
                * rng.choice((-1, 1), len(others))
            )
    polarity = np.r_[rng.choice((-1, 1), 10 * features), np.ones(controls, int)]
    push = (
        np.vstack([push.reshape(-1, 10), 0.03 * rng.normal(size=(controls, 10))])
        * polarity[:, None]
        * strength
    )
    units, n = len(push), len(doses)
    latent = 0.5 * rng.normal(size=(contexts, 1, 10)) @ spread + 0.3 * rng.normal(
        size=(contexts, items, 10)
    )
    steered = []
    for dose in doses:
        reaction = 1 + 0.25 * (rng.gamma(2, 0.5, (units, contexts, 1)) - 1)
        moved = (dose * push[:, None] * reaction) @ spread
        error = noise * rng.normal(size=(units, contexts, items, 10))
        steered.append(np.clip(3.5 + latent + moved[:, :, None] + error, 1.1, 5.9).mean(2))
    kind = np.array(["feature"] * (10 * features) + ["random-feature"] * controls)
    dose = np.repeat(doses, units)
    return Sweep(
        values=TEN.ids,
        unit_id=np.tile(np.arange(units), n),
        kind=np.tile(kind, n),
        feature=np.tile(np.arange(units), n),
        source=np.tile(np.r_[np.repeat(TEN.ids, features), [""] * controls], n),
        polarity=np.tile(polarity, n),
        dose=dose,
        ratings=np.concatenate(steered),
        base=np.clip(3.5 + latent, 1.1, 5.9).mean(1),
        damage=0.08 * dose[:, None] ** 2 + 0.01 * rng.normal(size=(n * units, 12)),
    )


def hand_made() -> Sweep:
    """Two features of power (of opposite polarity) and one control, two doses, exact changes."""
    rng = np.random.default_rng(0)
    base = 3.5 + rng.normal(size=(12, 10)) * np.linspace(0.5, 1.5, 10)
    change = np.zeros((6, 12, 10))
    change[[0, 1], :, 4] = np.array([0.5, 1.0])[:, None]
    change[[2, 3], :, 4] = np.array([-0.25, -0.5])[:, None]
    change[[0, 1], :, 8] = np.array([-0.2, -0.4])[:, None]
    hurt = np.array([0.05, 0.15, 0.02, 0.04, 0.2, 0.3])
    return Sweep(
        values=TEN.ids,
        unit_id=np.repeat([7, 3, 9], 2),
        kind=np.repeat(["feature", "feature", "random-direction"], 2),
        feature=np.repeat([70, 30, -1], 2),
        source=np.repeat(["power", "power", ""], 2),
        polarity=np.repeat([1, -1, 1], 2),
        dose=np.tile([1.0, 2.0], 3),
        ratings=base + change,
        base=base,
        damage=np.tile(hurt[:, None], (1, 4)),
    )


def test_dose_effects_are_paired_changes_over_the_unsteered_sd():
    sweep = hand_made()
    rows = dose_effects(sweep, 200, 0)
    assert len(rows) == 60
    row = next(r for r in rows if r["unit_id"] == 7 and r["dose"] == 2 and r["target"] == "power")
    assert row["effect"] == pytest.approx(1.0 / sweep.base[:, 4].std(ddof=1))
    assert row["points"] == pytest.approx(1.0)
    assert (row["low"], row["high"]) == pytest.approx(
        (row["effect"], row["effect"])
    )  # no context differs
    assert (row["n"], row["damage"], row["kind"], row["value"]) == (
        12,
        pytest.approx(0.15),
        "feature",
        "power",
    )


def test_strength_is_matched_on_damage_and_flagged_where_it_is_never_reached():
    matched = match(hand_made(), 0.1)
    assert matched.unit_id.tolist() == [7, 3, 9]
    assert matched.strength == pytest.approx([1.5, 2.0, 0.5])
    assert matched.reached.tolist() == [True, False, True]
    assert matched.damage == pytest.approx([0.1, 0.04, 0.1])
    assert matched.changes[0, :, 4] == pytest.approx(0.75)
    assert matched.changes[1, :, 4] == pytest.approx(0.5)  # turned by its polarity
    assert matched.rows()[1] == {
        "unit_id": 3,
        "kind": "feature",
        "feature": 30,
        "value": "power",
        "polarity": -1,
        "strength": 2.0,
        "reached": False,
        "damage": pytest.approx(0.04),
    }


def test_a_curve_that_dips_is_matched_where_it_first_crosses():
    sweep = hand_made()
    damage = sweep.damage.copy()
    damage[0], damage[1] = 0.12, 0.02
    assert match(replace(sweep, damage=damage), 0.1).strength[0] == pytest.approx(0.1 / 0.12)


def test_order_of_interventions_does_not_matter():
    sweep, order = hand_made(), np.array([1, 0, 3, 2, 5, 4])
    columns = ("unit_id", "kind", "feature", "source", "polarity", "dose", "ratings", "damage")
    shuffled = replace(sweep, **{name: getattr(sweep, name)[order] for name in columns})
    assert np.allclose(match(sweep, 0.1).changes, match(shuffled, 0.1).changes)


def test_without_a_circle_what_needs_one_is_blank():
    effects = analyse(hand_made(), replace(TEN, circular=False), 0.1, 200, 0)
    assert np.isnan(effects.circle.r)
    assert np.isnan(effects.circumplex["power"].r2)
    reasons = {row["part"]: row["reason"] for row in effects.leakage}
    assert reasons == {"all": ""} | dict.fromkeys(
        ("adjacent", "orthogonal", "opposed"), "no value with answers lies there"
    )


def test_the_matrix_is_the_mean_over_features_at_matched_strength():
    sweep = hand_made()
    effects = analyse(sweep, TEN, 0.1, 200, 0)
    assert {row.source for row in effects.side_effects} == {"power"}
    cell = {row.target: row for row in effects.side_effects}
    sd = sweep.unsteered_sd()
    assert cell["power"].effect == pytest.approx((0.75 + 0.5) / 2 / sd[4])
    assert cell["benevolence"].effect == pytest.approx(-0.3 / 2 / sd[8])
    assert cell["power"].features == 2
    assert np.isnan(cell["power"].q)  # multiplicity is counted off the diagonal
    # Certain over contexts; but of the two features one moves it and the other does not: t = 1 on
    # one degree of freedom.
    assert cell["benevolence"].p == pytest.approx(0.5)
    assert cell["power"].p == pytest.approx(2 * stats.t.sf((0.75 + 0.5) / 2 / 0.125, 1))
    assert cell["hedonism"].q == 1
    leak = {row["part"]: row for row in effects.leakage}
    ratio = abs(cell["benevolence"].effect) / cell["power"].effect
    assert leak["all"]["leakage"] == pytest.approx(ratio / 3)
    assert leak["opposed"]["leakage"] == pytest.approx(
        ratio / np.sqrt(4)
    )  # ST, SD, UN and BE lie opposite
    assert leak["adjacent"]["leakage"] == 0


def test_planted_effects_are_found_inside_their_intervals_and_controls_make_the_null_band():
    graph = np.zeros((10, 10))
    graph[0, 5], graph[4, 8] = 0.8, -0.6
    sweep = simulate(1, graph, leaky=0.0)
    effects = analyse(sweep, TEN, 0.1, 500, 0)
    cell = {(row.source, row.target): row for row in effects.side_effects}
    assert len(cell) == 100
    for source, target, sign in (("self-direction", "security", 1), ("power", "benevolence", -1)):
        row = cell[source, target]
        assert row.q < 0.001
        assert sign * row.effect > max(abs(row.null_low), row.null_high)
    elsewhere = [
        row
        for (i, j), row in cell.items()
        if i != j and graph[TEN.ids.index(i), TEN.ids.index(j)] == 0
    ]
    assert np.mean([row.q < 0.05 for row in elsewhere]) <= 0.05
    assert np.mean([row.low <= 0 <= row.high for row in elsewhere]) >= 0.9
    assert all(row.null_low < 0 < row.null_high for row in effects.side_effects)
    assert all(row["reason"] == "" for row in effects.leakage)
    assert all(
        row["low"] <= row["leakage"] * 1.01 and row["leakage"] < 1 for row in effects.leakage
    )


def test_features_that_leak_each_elsewhere_star_no_value():
    """Every feature moves two other values, none moves them by its value: over contexts alone
    most cells would be certain.
    """
    starred, certain = [], []
    for seed in range(8):
        sweep = simulate(seed, np.zeros((10, 10)), leaky=1.0, leaks=(2, 2))
        off = [
            cell
            for cell in analyse(sweep, TEN, 0.1, 200, seed).side_effects
            if cell.source != cell.target
        ]
        starred += [cell.q < 0.05 for cell in off]
        certain += [cell.low > 0 or cell.high < 0 for cell in off]
    assert np.mean(certain) > 0.4
    assert np.mean(starred) < 0.03


def test_one_feature_a_value_speaks_for_itself():
    sweep = simulate(3, np.zeros((10, 10)), features=1, leaky=1.0)
    off = [
        cell for cell in analyse(sweep, TEN, 0.1, 200, 0).side_effects if cell.source != cell.target
    ]
    assert {cell.features for cell in off} == {1}
    assert any(cell.q < 0.05 for cell in off)


def test_the_null_band_narrows_with_more_features_and_is_missing_without_controls():
    matched = match(simulate(2, np.zeros((10, 10)), controls=30), 0.1)
    one, many = null_band(matched, 1, 0), null_band(matched, 12, 0)
    assert (np.diff(many, axis=0) < 0.6 * np.diff(one, axis=0)).all()
    assert np.isfinite(null_band(matched, 40, 0)).all()
    assert np.isnan(null_band(match(simulate(2, np.zeros((10, 10)), controls=0), 0.1), 4, 0)).all()


def test_leakage_is_undefined_where_the_own_effect_is_not_there():
    sweep = simulate(3, np.zeros((10, 10)), leaky=0.0, strength=1e-9)
    effects = analyse(sweep, TEN, 0.1, 300, 0)
    undefined = [row for row in effects.leakage if row["reason"]]
    assert len(undefined) >= 28  # of 40: a few of ten intervals may miss 0 by chance
    assert all(np.isnan([row["leakage"], row["low"], row["high"]]).all() for row in undefined)


def test_missing_answers_leave_their_context_out_and_nothing_else():
    sweep = simulate(4, np.zeros((10, 10)), features=3, leaky=0.0)
    ratings = sweep.ratings.copy()
    ratings[:, 5, 2] = np.nan
    effects = analyse(replace(sweep, ratings=ratings), TEN, 0.1, 300, 0)
    assert {row.n for row in effects.side_effects if row.target == "hedonism"} == {23}
    assert {row.n for row in effects.side_effects if row.target != "hedonism"} == {24}
    ratings[:, :, 2] = np.nan
    effects = analyse(replace(sweep, ratings=ratings), TEN, 0.1, 300, 0)
    assert all(np.isnan(row.effect) for row in effects.side_effects if row.target == "hedonism")
    assert all(np.isfinite(row.effect) for row in effects.side_effects if row.target != "hedonism")


def test_bad_sweeps_are_refused_with_what_to_do():
    sweep = hand_made()
    flat = sweep.base.copy()
    flat[:, 3] = 2.0
    with pytest.raises(BadInput, match=r"achievement.*no unit"):
        replace(sweep, base=flat).unsteered_sd()
    with pytest.raises(BadInput, match="does not fit"):
        replace(sweep, values=TEN.ids[:9])
    with pytest.raises(BadInput, match="Doses"):
        replace(sweep, dose=sweep.dose - 1)
    with pytest.raises(BadInput, match="Damage"):
        replace(sweep, damage=sweep.damage * np.nan)
    with pytest.raises(BadInput, match="envy"):
        replace(sweep, source=np.where(sweep.source == "", "", "envy"))
    with pytest.raises(BadInput, match="positive"):
        match(sweep, float("nan"))
    with pytest.raises(BadInput, match="No labelled feature"):
        analyse(
            replace(sweep, kind=np.full(6, "random-feature"), source=np.full(6, "")),
            TEN,
            0.1,
            200,
            0,
        )


def test_damage_has_an_interval_over_texts():
    rows = damage_rows(simulate(5, np.zeros((10, 10)), features=1), 300, 0)
    assert all(
        row["damage_low"] < row["damage"] < row["damage_high"] and row["damage_n"] == 12
        for row in rows
    )


def test_the_circle_is_fitted_exactly_and_noise_is_not_taken_for_one():
    theta = angles(TEN, TEN.ids)
    exact = fit(0.3 + 0.5 * np.cos(theta - 1.2), theta, 999, 0)
    assert (exact.a, exact.b, exact.phi, exact.r2) == pytest.approx((0.3, 0.5, 1.2, 1.0))
    assert exact.p < 0.01
    rng = np.random.default_rng(0)
    null = [fit(rng.normal(size=10), theta, 199, k) for k in range(200)]
    assert np.mean([found.r2 for found in null]) > 0.15  # two free parameters on ten points
    assert 0.01 <= np.mean([found.p <= 0.05 for found in null]) <= 0.1
    assert np.isnan(fit(np.full(10, 0.4), theta, 99, 0).p)
    with pytest.raises(BadInput, match="three different angles"):
        fit(np.array([1.0, 2.0]), theta[6:8], 99, 0)
    assert distances(TEN, ("power", "self-direction"))[0, 1] == pytest.approx(np.radians(160))


def test_a_matrix_that_follows_the_circle_is_recognised():
    theta = angles(TEN, TEN.ids)
    follows = 0.4 * np.cos(theta[:, None] - theta)
    np.fill_diagonal(follows, 0)
    effects = analyse(
        simulate(6, np.linalg.inv(np.eye(10) + follows) @ follows, leaky=0.0), TEN, 0.1, 300, 0
    )
    assert effects.circle.r > 0.8
    assert effects.circle.p < 0.01
    circle = effects.circumplex["power"]
    assert circle.b > 0
    assert abs(np.remainder(circle.phi - TEN["power"].angle + np.pi, 2 * np.pi) - np.pi) < 0.4
