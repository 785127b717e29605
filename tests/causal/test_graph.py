"""The interventional graph against planted ones: exact algebra, then simulated sweeps with leaky
features."""

import numpy as np
import pytest

from feature_store.errors import BadInput
from feature_store.records import CausalGraph, Edge
from tests.causal.test_effects import TEN, simulate
from workbench.causal.graph import (
    compare,
    direct_effects,
    find,
    joint_r2,
    split_half,
    total_effects,
    weights,
)
from workbench.sweeps.damage import match


def planted(seed: int, edges: int = 8) -> np.ndarray:
    """An acyclic graph of `edges` direct effects of 0.6-0.8 in size."""
    rng = np.random.default_rng(seed)
    graph, order = np.zeros((10, 10)), rng.permutation(10)
    while np.count_nonzero(graph) < edges:
        a, b = sorted(rng.choice(10, 2, replace=False))
        graph[order[a], order[b]] = rng.choice((0.6, 0.7, 0.8)) * rng.choice((1, -1), p=(0.7, 0.3))
    return graph


def found_on(seed: int, graph: np.ndarray, **settings):
    return find(match(simulate(seed, graph, **settings), 0.1), TEN.ids, 300, 0)


def test_direct_effects_are_exact_for_cycles_too():
    rng = np.random.default_rng(0)
    graph = np.where(rng.random((6, 6)) < 0.4, rng.uniform(-0.5, 0.5, (6, 6)), 0) * (1 - np.eye(6))
    spread = np.linalg.inv(np.eye(6) - graph)
    found = direct_effects(spread / np.diag(spread)[:, None])
    off = ~np.eye(6, dtype=bool)
    assert np.allclose(found[off], graph[off])
    assert np.isnan(np.diag(found)).all()


def test_total_effects_are_medians_of_ratios_whatever_the_strength_and_polarity():
    effects = np.array([[1.0, 0.5], [-2.0, -1.0], [0.5, 0.9], [0.1, 4.0]])
    total = total_effects(effects, [np.arange(3), np.array([3])], np.array([0, 1]))
    assert total == pytest.approx(np.array([[1, 0.5], [0.025, 1]]))
    twice = total_effects(
        np.stack([effects, effects]),
        [np.array([[0, 1, 2], [2, 2, 2]]), np.array([[3], [3]])],
        np.array([0, 1]),
    )
    assert twice[:, 0, 1] == pytest.approx([0.5, 1.8])


@pytest.mark.parametrize(
    ("seed", "features", "leaky"), [(0, 8, 0.5), (1, 6, 0.5), (2, 12, 0.9), (3, 8, 0.1)]
)
def test_a_planted_graph_is_found_through_leaky_features(seed, features, leaky):
    graph = planted(seed)
    found = found_on(seed, graph, features=features, leaky=leaky)
    against = compare(found.graph, graph, TEN.ids)
    assert against.shd <= 2
    assert against.pairs == 90
    assert against.reversed == against.wrong_sign == 0
    assert against.correlation > 0.95
    assert found.graph.level == "value"
    for edge in found.graph.edges:
        assert edge.low <= edge.high
        assert 0 <= edge.frequency <= 1


def test_a_weight_lies_near_the_planted_one_and_its_interval_holds_it():
    graph = planted(4)
    edges = {(e.source, e.target): e for e in found_on(4, graph, leaky=0.0).graph.edges}
    held = []
    for i, j in zip(*np.nonzero(graph), strict=True):
        edge = edges[TEN.ids[i], TEN.ids[j]]
        assert edge.weight == pytest.approx(graph[i, j], abs=0.12)
        held.append(edge.low <= graph[i, j] <= edge.high)
    assert np.mean(held) >= 0.75


def test_one_leaky_feature_a_value_gives_false_edges_and_says_so():
    precision = []
    for seed in range(4):
        graph = planted(seed)
        found = found_on(seed, graph, features=1, leaky=0.9)
        assert found.graph.level == "feature"
        precision.append(compare(found.graph, graph, TEN.ids).precision)
    assert np.mean(precision) < 0.5


@pytest.mark.parametrize("kind", ["group", "direction"])
def test_one_unit_a_value_finds_the_graph_and_is_called_what_it_is(kind):
    graph = planted(0)
    matched = match(simulate(0, graph, features=1, leaky=0.0), 0.1)
    kinds = np.where(matched.is_control, matched.kind, kind)
    matched = matched._replace(kind=kinds, feature=np.full(len(kinds), -1))
    estimate = find(matched, TEN.ids, 300, 0)
    assert estimate.graph.level == kind
    assert compare(estimate.graph, graph, TEN.ids).shd <= 2
    # The only unit of a value stands in both halves, which differ in their contexts.
    assert split_half(matched, TEN.ids, 200, 0) >= 0.6
    nobody = matched._replace(source=np.full(len(kinds), ""))
    with pytest.raises(BadInput, match=f"two values whose {kind}s move them.*Steer more {kind}s"):
        find(nobody, TEN.ids, 200, 0)


def test_saturation_leaves_residues_that_are_no_edges():
    graph = planted(5)
    found = found_on(5, graph, leaky=0.0, strength=2.5, contexts=48, noise=0.05)
    against = compare(found.graph, graph, TEN.ids)
    assert against.shd <= 2


def test_nothing_planted_gives_next_to_no_edges():
    false = [
        sum(
            e.present for e in found_on(seed, np.zeros((10, 10)), features=6, leaky=0.7).graph.edges
        )
        for seed in range(8)
    ]
    assert np.sum(false) <= 0.05 * 90 * 8
    assert np.mean(np.array(false) > 0) <= 0.5


def test_a_feedback_loop_is_found_as_two_edges():
    graph = np.zeros((10, 10))
    graph[0, 1], graph[1, 2], graph[2, 0], graph[4, 5], graph[5, 4] = 0.5, 0.5, -0.5, 0.5, 0.4
    against = compare(found_on(6, graph).graph, graph, TEN.ids)
    assert against.shd <= 1
    assert against.recall >= 0.8


def test_values_without_usable_features_are_left_out_and_counted():
    graph = planted(7)
    sweep = simulate(7, graph, leaky=0.2)
    matched = match(sweep, 0.1)
    changes = matched.changes.copy()
    quiet = matched.of("hedonism")
    rng = np.random.default_rng(0)
    changes[quiet, :, 2] = rng.normal(size=(len(quiet), 24))
    changes[matched.of("power")[:4], :, 4] = rng.normal(size=(4, 24))
    matched = matched._replace(
        changes=changes, source=np.where(matched.source == "tradition", "", matched.source)
    )
    found = find(matched, TEN.ids, 300, 0)
    assert "tradition" in found.left_out
    assert "tradition" not in found.graph.values
    assert found.dropped["hedonism"] >= 6
    assert found.dropped["power"] >= 3
    assert found.features["power"] + found.dropped["power"] == 8
    assert found.graph.level == "feature"
    n = len(found.graph.values)
    assert len(found.graph.edges) == n * (n - 1)


def test_the_seed_decides_the_replicates_and_only_them():
    matched = match(simulate(8, planted(8)), 0.1)
    one, same, other = (find(matched, TEN.ids, 200, seed) for seed in (0, 0, 1))
    assert one.graph == same.graph
    assert [e.weight for e in one.graph.edges] == [e.weight for e in other.graph.edges]
    assert [e.z for e in one.graph.edges] != [e.z for e in other.graph.edges]
    assert one.replicates.shape == (200, 10, 10)


def test_values_moved_alike_are_refused_by_name():
    matched = match(simulate(9, np.zeros((10, 10)), leaky=0.0), 0.1)
    changes = matched.changes.copy()
    changes[matched.of("security")] = changes[matched.of("conformity")]
    changes[..., 5] = changes[..., 6]
    alike = matched._replace(changes=changes)
    with pytest.raises(BadInput, match=r"security and conformity.*--leave-out security"):
        find(alike, TEN.ids, 200, 0)
    left = find(alike, TEN.ids, 200, 0, leave_out=["security"])
    assert left.left_out == ("security",)
    assert len(left.graph.values) == 9
    assert not any("security" in (edge.source, edge.target) for edge in left.graph.edges)
    with pytest.raises(BadInput, match="two values"):
        find(matched._replace(source=np.full(len(matched.source), "")), TEN.ids, 200, 0)


def by_hand(present: dict[tuple[str, str], float]) -> CausalGraph:
    names = ("self-direction", "stimulation", "hedonism")
    edges = tuple(
        Edge(
            source=a,
            target=b,
            weight=present.get((a, b), 0.01),
            low=-1.0,
            high=1.0,
            z=3.0,
            q=0.01,
            frequency=1.0,
            present=(a, b) in present,
        )
        for a in names
        for b in names
        if a != b
    )
    return CausalGraph(values=names, edges=edges, level="value", n=24, seed=0)


def test_comparison_counts_ordered_pairs_reversals_and_signs():
    a, b, c = "self-direction", "stimulation", "hedonism"
    planted = np.array([[0, 0.5, 0.5], [0, 0, 0.5], [0, 0, 0]])
    same = compare(by_hand({(a, b): 0.5, (a, c): 0.5, (b, c): 0.5}), planted, (a, b, c))
    assert (same.shd, same.reversed, same.precision, same.recall) == (0, 0, 1.0, 1.0)
    against = compare(by_hand({(b, a): 0.5, (a, c): -0.5}), planted, (a, b, c))
    assert (against.shd, against.pairs, against.reversed, against.wrong_sign) == (3, 6, 1, 1)
    assert (against.precision, against.recall) == (0.5, pytest.approx(1 / 3))
    assert np.isnan(compare(by_hand({}), planted, (a, b, c)).precision)


def test_joint_steerings_are_predicted_exactly_by_the_true_graph_and_badly_by_a_reversed_one():
    a, b, c = "self-direction", "stimulation", "hedonism"
    graph = by_hand({(a, c): 0.5, (b, c): -0.3, (a, b): 0.4})
    change = np.array([[1.0, 0.5, 0.0]]) @ np.linalg.inv(np.eye(3) - weights(graph))
    assert joint_r2(graph, change, [(a, b)]) == pytest.approx(1.0)
    assert joint_r2(by_hand({(c, a): 0.5}), change, [(a, b)]) < 0.1


def test_two_halves_of_the_evidence_find_mostly_the_same_edges():
    matched = match(simulate(10, planted(10), features=12, leaky=0.3), 0.1)
    assert split_half(matched, TEN.ids, 200, 0) >= 0.6
    nothing = match(simulate(10, np.zeros((10, 10)), features=12, leaky=0.0), 0.1)
    assert not split_half(nothing, TEN.ids, 200, 0) > 0.5
