"""Predictions of joint steerings: analytic answers on planted linear systems, and intervals that
hold what they promise."""

from dataclasses import replace

import numpy as np
import pytest

from feature_store.errors import BadInput, NotFound
from feature_store.records import CausalGraph, Edge
from tests.causal.test_effects import TEN, simulate
from workbench.causal.joint import turned_weights, with_turned
from workbench.causal.predict import (
    Predictors,
    bounded,
    covered,
    damage,
    dose_curves,
    dose_matrix,
    draw,
    error_of_others,
    linear,
    predict,
    score,
    through_graph,
    widened,
)
from workbench.statistics.intervals import bootstrap_mean
from workbench.sweeps.damage import Sweep

DOSES = (0.1, 0.2, 0.4)


def planted_sweep(
    gain: np.ndarray, seed: int = 0, contexts: int = 12, reaction: float = 0.0, wide: bool = True
) -> Sweep:
    """Feature f changes value j by dose x gain[f, j] (x 1 +- `reaction` in each context); damage
    is 0.2 x dose squared.
    """
    rng = np.random.default_rng(seed)
    features, n = len(gain), len(DOSES)
    base = 3.5 + 0.3 * rng.normal(size=(contexts, 10))
    dose = np.tile(DOSES, features)
    react = 1 + reaction * rng.normal(size=(features, contexts, 1))
    change = dose[:, None, None] * np.repeat(gain[:, None] * react, n, 0)
    unit = np.repeat(np.arange(features), n)
    source = np.array(TEN.ids)[np.abs(gain).argmax(1)]
    return Sweep(
        values=TEN.ids,
        unit_id=unit,
        kind=np.full(len(unit), "feature"),
        feature=unit + 100,
        source=np.repeat(source, n),
        polarity=np.ones(len(unit), int),
        dose=dose,
        ratings=base + change,
        base=base,
        damage=np.tile(0.2 * dose[:, None] ** 2, (1, 4)),
    )


def some_gain(seed: int, features: int = 12, size: float = 1.0) -> np.ndarray:
    return size * np.random.default_rng(seed).normal(size=(features, 10))


def test_a_joint_steering_is_the_sum_of_the_planted_effects():
    gain = some_gain(0)
    fitted = Predictors(curves=dose_curves(planted_sweep(gain), 6))
    said = predict(fitted, ((103, 0.3), (107, -0.2), (100, 0.4)), replicates=200)
    assert said.mean == pytest.approx(0.3 * gain[3] - 0.2 * gain[7] + 0.4 * gain[0])
    # Damage is linear between two doses: at 0.3 it lies midway between those of 0.2 and 0.4; at
    # -0.2 it is that of 0.2.
    assert said.damage == pytest.approx(0.2 * ((0.04 + 0.16) / 2 + 0.04 + 0.16))
    assert said.low == pytest.approx(said.mean)  # no context reacts differently
    assert (said.n, said.held) == (12, None)


def test_what_was_measured_turned_is_predicted_by_that():
    """Effects that partly do not turn with the sign: a line, less a square of the dose."""
    gain, bent = some_gain(0), 2.0

    def at(sign, harm):
        sweep = planted_sweep(sign * gain)
        square = bent * sweep.dose[:, None, None] ** 2
        return replace(sweep, ratings=sweep.ratings - square, damage=harm * sweep.damage)

    curves = dose_curves(at(1, 1.0), np.inf)
    steering = ((103, 0.2), (107, -0.4))
    line = 0.2 * gain[3] - 0.4 * gain[7]
    damage_up, damage_down = 0.2 * 0.04, 0.2 * 0.16
    turned_by_sign = predict(Predictors(curves), steering, replicates=200)
    assert turned_by_sign.mean == pytest.approx(line - bent * 0.04 + bent * 0.16)
    assert turned_by_sign.damage == pytest.approx(damage_up + damage_down)
    known = with_turned(curves, at(-1, 3.0))
    said = predict(Predictors(known), steering, replicates=200)
    assert said.mean == pytest.approx(line - bent * 0.04 - bent * 0.16)
    assert said.damage == pytest.approx(damage_up + 3 * damage_down)
    assert known.slopes() == pytest.approx(gain)
    half = known.of_contexts(np.arange(6))
    assert predict(Predictors(half), steering, replicates=200).mean == pytest.approx(said.mean)
    assert turned_weights(known)[:4] == [((100, -d),) for d in DOSES] + [((101, -DOSES[0]),)]


def test_the_curve_is_kept_and_a_scale_ends():
    sweep = planted_sweep(some_gain(1))
    bent = replace(sweep, ratings=sweep.base + np.sqrt(sweep.dose)[:, None, None])
    told = dose_curves(bent, 6)
    x = dose_matrix(told, [((100, 0.4),), ((100, 0.3),), ((100, -0.3),), ((100, 0.05),)])
    got = linear(told, x).mean((1, 2))
    middle = (np.sqrt(0.2) + np.sqrt(0.4)) / 2
    assert got == pytest.approx([np.sqrt(0.4), middle, -middle, np.sqrt(0.1) / 2])
    assert bounded(np.array([[5.5, 1.5]]), np.array([[2.0, -2.0]]), 6) == pytest.approx(
        np.array([[0.5, -0.5]])
    )
    heap = linear(told, np.full((1, 12), 0.4))
    assert (heap + told.base).max() == 6.0


def test_a_missing_answer_leaves_its_context_out_and_spreads_no_further():
    sweep = planted_sweep(some_gain(2))
    ratings = sweep.ratings.copy()
    ratings[(sweep.unit_id == 0) & (sweep.dose == 0.2), 4, 3] = np.nan
    told = dose_curves(replace(sweep, ratings=ratings), 6)
    for dose, missing in ((0.4, 0), (0.3, 1), (0.2, 1), (0.15, 1), (0.1, 0)):
        assert np.isnan(linear(told, dose_matrix(told, [((100, dose),)]))).sum() == missing
    assert predict(Predictors(curves=told), ((100, 0.3),), replicates=200).mean == pytest.approx(
        0.3 * some_gain(2)[0]
    )


def graph_of(direct: np.ndarray) -> CausalGraph:
    edges = tuple(
        Edge(
            source=TEN.ids[i],
            target=TEN.ids[j],
            weight=float(direct[i, j]),
            low=0.0,
            high=0.0,
            z=9.0,
            q=0.001,
            frequency=1.0,
            present=bool(direct[i, j]),
        )
        for i in range(10)
        for j in range(10)
        if i != j
    )
    return CausalGraph(values=TEN.ids, edges=edges, level="value", n=12, seed=0)


def test_the_graph_carries_pushes_on_through_cycles_and_leaves_leaks_out():
    direct = np.zeros((10, 10))
    direct[0, 1], direct[1, 2], direct[2, 0], direct[4, 9] = 0.5, -0.4, 0.3, 0.6
    spread = np.linalg.inv(np.eye(10) - direct)
    push = np.diag(np.linspace(0.5, 1.4, 10))
    told = dose_curves(planted_sweep(push @ spread), 6)
    # The value of a feature is its label, not its largest effect.
    told = replace(told, source=np.array(TEN.ids))
    x = dose_matrix(told, [((101, 0.3), (104, -0.2)), ((102, 0.4), (100, 0.1))])
    expected = np.array([0.3 * push[1] - 0.2 * push[4], 0.4 * push[2] + 0.1 * push[0]]) @ spread
    assert through_graph(told, graph_of(direct), x).mean(1) == pytest.approx(expected)
    assert linear(told, x).mean(1) == pytest.approx(expected)
    leaky = dose_curves(planted_sweep(push @ spread + 0.2 * (np.arange(10) == 7)), 6)
    leaky = replace(leaky, source=np.array(TEN.ids))
    assert through_graph(leaky, graph_of(direct), x)[0].mean(0)[7] == pytest.approx(expected[0, 7])
    assert linear(leaky, x)[0].mean(0)[7] == pytest.approx(expected[0, 7] + 0.2 * (0.3 - 0.2))


def test_a_graph_recovered_from_a_simulated_sweep_predicts():
    direct = np.zeros((10, 10))
    direct[0, 1], direct[4, 9], direct[5, 6] = 0.7, -0.6, 0.8
    sweep = simulate(3, direct, leaky=0.0, strength=0.5)
    told = dose_curves(sweep, 6)
    x = dose_matrix(told, draw(told, 40, 4, 0))
    both = score(through_graph(told, graph_of(direct), x).mean(1), linear(told, x).mean(1), 200, 0)
    assert both.r2[-1] > 0.9


def test_r2_against_its_definition_and_against_chance():
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(50, 3)) * (1, 2, 0.5) + (5, 0, -1)
    predicted = measured + 0.3 * rng.normal(size=(50, 3))
    held = score(predicted, measured, 500, 0)
    missed = ((measured - predicted) ** 2).sum(0)
    spread = ((measured - measured.mean(0)) ** 2).sum(0)
    assert held.r2 == pytest.approx(np.r_[1 - missed / spread, 1 - missed.sum() / spread.sum()])
    assert held.error[:-1] == pytest.approx(np.sqrt(missed / 50))
    assert held.mae[-1] == pytest.approx(np.abs(measured - predicted).mean())
    assert (held.low < held.r2).all()
    assert (held.r2 < held.high).all()
    assert (held.chance < 0).all()
    assert held.n == 50
    with pytest.raises(BadInput, match="three joint steerings or more, got 2"):
        score(predicted[:2], measured[:2], 200, 0)


def test_the_interval_of_a_mean_that_the_model_misses_covers_19_in_20():
    rng = np.random.default_rng(1)
    inside, fresh, naive = [], [], []
    for _ in range(15):
        truth = rng.normal(size=(40, 10))
        said = truth + 0.15 * rng.normal(size=(40, 10))  # the model's own error
        contexts = rng.normal(size=(24, 40, 10)) * 0.6
        half, rest = (
            bootstrap_mean(x, 200, 0) for x in (contexts[:12] + said, contexts[12:] + truth)
        )
        whole, found = (
            bootstrap_mean(contexts + said, 200, 0),
            bootstrap_mean(contexts + truth, 200, 0),
        )
        error = error_of_others(whole.mean, found.mean)
        inside.append(
            (widened(whole, error, 39).low <= truth) & (truth <= widened(whole, error, 39).high)
        )
        naive.append((half.low <= rest.mean) & (rest.mean <= half.high))
        fresh.append(covered(half, rest, error, True))
    assert 0.93 <= np.mean(inside) <= 0.975
    assert 0.93 <= np.mean(fresh) <= 0.985
    assert np.mean(naive) < 0.88


def test_held_out_error_widens_a_prediction_and_travels_with_it():
    told = dose_curves(planted_sweep(some_gain(4), reaction=0.2), 6)
    x = dose_matrix(told, draw(told, 30, 3, 0))
    said = linear(told, x).mean(1)
    held = score(said, said + 0.1 * np.random.default_rng(0).normal(size=said.shape), 200, 0)
    bare = predict(Predictors(curves=told), ((100, 0.2), (101, 0.2)), replicates=300)
    full = predict(
        Predictors(curves=told, graph=None, held={"linear": held}, damage_error=0.05),
        ((100, 0.2), (101, 0.2)),
        replicates=300,
    )
    assert full.mean == pytest.approx(bare.mean)
    assert (full.high - full.low > bare.high - bare.low + 0.1).all()
    assert full.damage_high - full.damage > 0.09
    assert full.held is held
    with pytest.raises(BadInput, match="needs a causal graph of the same sweep"):
        predict(Predictors(curves=told), ((100, 0.2),), "graph")


def test_joint_steerings_are_seeded_and_inside_what_was_measured():
    told = dose_curves(planted_sweep(some_gain(5)), 6)
    drawn = draw(told, 200, 4, 3)
    assert drawn == draw(told, 200, 4, 3) != draw(told, 200, 4, 4)
    assert {len(one) for one in drawn} == {2, 3, 4}
    size = np.abs([dose for one in drawn for _, dose in one])
    assert size.min() >= 0.1
    assert size.max() <= 0.4
    assert all(len({feature for feature, _ in one}) == len(one) for one in drawn)
    assert 0.4 < np.mean([dose > 0 for one in drawn for _, dose in one]) < 0.6
    assert damage(told, dose_matrix(told, drawn)).min() > 0
    short = draw(told, 200, 4, 3, longest=0.4)
    length = [np.linalg.norm([dose for _, dose in one]) for one in short]
    assert max(length) == pytest.approx(0.4, abs=1e-3)
    for one, other in zip(drawn, short, strict=True):
        whole, cut = (np.array([dose for _, dose in steering]) for steering in (one, other))
        assert [key for key, _ in one] == [key for key, _ in other]
        np.testing.assert_allclose(cut, whole * min(1, 0.4 / np.linalg.norm(whole)), atol=1e-4)
    with pytest.raises(BadInput, match="2 to 12 of the swept features, got 13"):
        draw(told, 5, 13, 0)


def test_groups_and_directions_are_predicted_by_their_names():
    gain = some_gain(7)
    sweep = planted_sweep(gain)
    features = dose_curves(sweep, 6)
    with pytest.raises(BadInput, match="steered no direction"):
        dose_curves(sweep, 6, "direction")
    as_directions = replace(
        sweep, kind=np.full(len(sweep.kind), "direction"), feature=np.full(len(sweep.kind), -1)
    )
    names = tuple(f"{value}/pole" for value in "abcdefghijkl")
    curves_of_directions = replace(dose_curves(as_directions, 6, "direction"), names=names)
    prediction = predict(
        Predictors(curves=curves_of_directions), (("d/pole", 0.3), ("h/pole", -0.2)), replicates=200
    )
    assert prediction.mean == pytest.approx(0.3 * gain[3] - 0.2 * gain[7])
    # The same seed draws the same columns, whatever they are called.
    x = [dose_matrix(curves, draw(curves, 20, 4, 3)) for curves in (features, curves_of_directions)]
    assert (x[0] == x[1]).all()
    with pytest.raises(BadInput, match="2 to 12 of the swept directions, got 13"):
        draw(curves_of_directions, 5, 13, 0)
    with pytest.raises(NotFound, match="Direction z/pole was not swept.*one of a/pole, b/pole"):
        predict(Predictors(curves=curves_of_directions), (("z/pole", 0.2),))
    with pytest.raises(BadInput, match="Direction a/pole was measured up to dose 0.4"):
        predict(Predictors(curves=curves_of_directions), (("a/pole", 0.5),))


def test_what_was_not_measured_is_not_predicted():
    told = dose_curves(planted_sweep(some_gain(6)), 6)
    with pytest.raises(NotFound, match="Feature 7 was not swept"):
        predict(Predictors(curves=told), ((7, 0.2),))
    with pytest.raises(BadInput, match="measured up to dose 0.4, -0.5 lies beyond"):
        predict(Predictors(curves=told), ((100, -0.5),))
    sweep = planted_sweep(some_gain(6))
    dose = sweep.dose.copy()
    dose[:3] = (0.1, 0.2, 0.5)
    with pytest.raises(BadInput, match="at other doses than the first"):
        dose_curves(replace(sweep, dose=dose), 6)
    with pytest.raises(BadInput, match="steered no random-feature"):
        dose_curves(sweep, 6, "random-feature")
