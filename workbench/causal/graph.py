"""The causal graph among values, found by intervening: linear cyclic interventional inference.

1. A feature f of value i changes rating j by E_f->j [rating points] at its damage-matched strength.
   Features whose effect on their own value is not distinguishable from 0 are left out and counted.
   Where a sweep steered groups of features or directions, one of them is what a feature is here.
2. Total effects: `T[i,j] = median over f of E_f->j / E_f->i`, `T[i,i] = 1`. A ratio needs no common
   strength, and a median survives the minority of features that also push a second value directly.
3. Direct effects: pushing i leaves every other value's own equation alone, so for each j
   `T[K,K] a = T[K,j]`, K = all but j (Hyttinen, Eberhardt & Hoyer 2012). Cycles and latent common
   causes do no harm.
4. Uncertainty: contexts and, within each value, features are resampled together; z is the weight
   over its bootstrap SD (half the distance of the 16 % and 84 % quantiles: ratios have heavy
   tails). Resampling features is what lets a leak into a minority of them widen the interval
   instead of adding an edge. A value's only unit, such as its direction, cannot be resampled: its
   intervals are over contexts alone, and its leak is an edge (`CausalGraph.level` says so).
5. An edge is present when q < 0.05 (Benjamini-Hochberg over all ordered pairs) and |weight| >=
   `SMALLEST`.

Weights are rating points per rating point: both ends share the 1-6 scale, and a planted graph is in
the same unit. Left out: values without usable features, and those that a user leaves out. They act
as latent variables, and are named.
"""

from collections.abc import Collection
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from feature_store.errors import BadInput
from feature_store.records import CausalGraph, Edge
from workbench.statistics.intervals import (
    benjamini_hochberg,
    bootstrap_mean,
    cluster_weights,
    replicate_means,
)
from workbench.sweeps.damage import Matched

SteeredKind = Literal["feature", "group", "direction"]
"""What is steered for a value."""
SMALLEST = 0.15
"""Smallest effect of interest [rating points per rating point]. Ratings driven into the ends of
their scale leave small residues that are significant and no edges: of 1,148 unplanted pairs in
14 such simulations (48 contexts) 8 had q < 0.05, 7 of them below 0.15, while all 112 planted
edges stayed above 0.4."""
WORST_CONDITION = 100.0
"""Largest condition number at which total effects are inverted."""
ENOUGH = 5
"""Features of every value, or groups, from which an edge is one of values and not of features."""


class GraphEstimate(NamedTuple):
    """A causal graph, and what it was estimated from."""

    graph: CausalGraph
    """Every ordered pair of the values that have features."""
    total: Float[np.ndarray, "source target"]
    """T: total effects [rating points per rating point]."""
    replicates: Float[np.ndarray, "replicate source target"]
    """Direct effects in every bootstrap replicate; NaN on the diagonal."""
    features: dict[str, int]
    """Value -> features, groups or directions that were used."""
    dropped: dict[str, int]
    """Value -> those whose effect on their own value could not be told from 0."""
    left_out: tuple[str, ...]
    """Values without a usable one."""


class GraphComparison(NamedTuple):
    """How an estimated graph meets a planted one."""

    shd: int
    """Ordered pairs at which the graphs differ."""
    pairs: int
    """Ordered pairs compared."""
    reversed: int
    """Planted edges of which only the opposite direction was found."""
    wrong_sign: int
    """Planted edges found with the opposite sign."""
    precision: float
    """Share of found edges that are planted [0 to 1]; NaN when none was found."""
    recall: float
    """Share of planted edges that were found [0 to 1]; NaN when none is planted."""
    correlation: float
    """Pearson correlation of found and planted weights over all ordered pairs; NaN without
    variation."""


def total_effects(
    changes: Float[np.ndarray, "*r unit value"],
    groups: list[np.ndarray],
    places: Int[np.ndarray, " source"],
) -> np.ndarray:
    """Estimate total effects from the changes that units make [*r source target].

    `groups[s]` lists the units of source s, [unit] or [*r unit]; `places[s]` is its column. A total
    effect is the median over units of their change of the target per change of their value.
    """
    rows = []
    for units, place in zip(groups, places, strict=True):
        if units.ndim == 1:
            effects = changes[..., units, :]
        else:
            effects = np.take_along_axis(changes, units[..., None], axis=-2)
        pushed = effects[..., place]
        # A replicate in which a feature does nothing gives an infinite ratio on a side of its own:
        # a median takes it.
        ratio = effects[..., places] / np.where(pushed == 0, 1e-12, pushed)[..., None]
        rows.append(np.median(ratio, axis=-2))
    return np.stack(rows, axis=-2)


def direct_effects(
    total: Float[np.ndarray, "*r source target"],
) -> Float[np.ndarray, "*r source target"]:
    """Solve total effects for direct ones, target by target; NaN on the diagonal.

    NaN also where a replicate cannot be inverted.

        direct_effects(np.array([[1.0, 0.5], [0.0, 1.0]]))        # [[nan, 0.5], [0.0, nan]]
    """
    size = total.shape[-1]
    direct = np.full(total.shape, np.nan)
    for j in range(size):
        rest = np.delete(np.arange(size), j)
        square = total[..., rest[:, None], rest]
        good = np.linalg.cond(square) < 1e6
        solved = np.full((*good.shape, size - 1), np.nan)
        solved[good] = np.linalg.solve(square[good], total[..., rest, j][good][..., None])[..., 0]
        direct[..., rest, j] = solved
    return direct


def find(
    matched: Matched,
    values: tuple[str, ...],
    replicates: int,
    seed: int,
    smallest: float = SMALLEST,
    leave_out: Collection[str] = (),
) -> GraphEstimate:
    """Estimate the graph among those of `values` that have features which move them.

    `values` are those of the sweep, in its order; an edge weaker than `smallest` is not present,
    and values in `leave_out` are neither cause nor effect.
    Raises BadInput for fewer than two such values, or values that cannot be told apart.

        estimate = find(match(sweep, 0.1), sweep.values, replicates=1000, seed=0)
        [edge for edge in estimate.graph.edges if edge.present]
    """
    unit = unit_kind(matched)
    moving = _moving_units(matched, values, replicates, seed)
    used = [value for value in values if len(moving[value]) and value not in leave_out]
    if len(used) < 2:
        raise BadInput(
            f"A graph needs two values whose {unit}s move them, got {len(used)}"
            f" ({', '.join(used) or 'none'}). Steer more {unit}s, or at larger doses."
        )
    places = np.array([values.index(value) for value in used])
    units = np.concatenate([moving[value] for value in used])
    bounds = np.cumsum([0, *(len(moving[value]) for value in used)])
    groups = [np.arange(low, high) for low, high in pairwise(bounds)]
    x = matched.changes[units].transpose(1, 0, 2)
    point = total_effects(replicate_means(x, np.ones((1, len(x)))), groups, places)[0]
    _refuse_ill_conditioned(point, used, unit)
    weight = direct_effects(point)
    rng = np.random.default_rng((seed, 1))
    resampled = [group[rng.integers(len(group), size=(replicates, len(group)))] for group in groups]
    drawn = direct_effects(
        total_effects(
            replicate_means(x, cluster_weights(len(x), replicates, seed)), resampled, places
        )
    )
    edges = _edges(weight, drawn, used, smallest)
    sizes = {value: len(moving[value]) for value in used}
    dropped = {value: len(matched.of(value)) - len(moving[value]) for value in values}
    return GraphEstimate(
        graph=CausalGraph(
            values=tuple(used),
            edges=edges,
            level="value" if min(sizes.values()) >= ENOUGH else unit,
            n=len(x),
            seed=seed,
        ),
        total=point,
        replicates=drawn,
        features=sizes,
        dropped={value: n for value, n in dropped.items() if n},
        left_out=tuple(value for value in values if value not in used),
    )


def unit_kind(matched: Matched) -> SteeredKind:
    """Say what was steered for the values: features, groups of features, or directions."""
    kinds: tuple[SteeredKind, ...] = ("group", "direction")
    return next((kind for kind in kinds if (matched.kind == kind).any()), "feature")


def _moving_units(
    matched: Matched, values: tuple[str, ...], replicates: int, seed: int
) -> dict[str, Int[np.ndarray, " unit"]]:
    """Value -> its units that move it, and under which every value was answered."""
    moving = {}
    for j, value in enumerate(values):
        units = matched.of(value)
        moves = np.zeros(len(units), bool)
        if len(units):
            effect = bootstrap_mean(matched.changes[units, :, j].T, replicates, seed)
            # Every target must have been answered, or a ratio would be missing.
            answered = np.isfinite(matched.changes[units]).any(1).all(1)
            moves = ((effect.low > 0) | (effect.high < 0)) & answered
        moving[value] = units[moves]
    return moving


def _refuse_ill_conditioned(total: np.ndarray, used: list[str], unit: SteeredKind) -> None:
    """Raise BadInput, naming two values, where total effects cannot be told apart."""
    worst = float(np.linalg.cond(total))
    if worst < WORST_CONDITION:
        return
    rows = total / np.linalg.norm(total, axis=1, keepdims=True)
    alike = np.abs(rows @ rows.T) - 2 * np.eye(len(rows))
    a, b = np.unravel_index(alike.argmax(), alike.shape)
    raise BadInput(
        f"Steering {used[a]} and {used[b]} moves all values alike (condition number {worst:.0f}, at"
        f" most {WORST_CONDITION:.0f}), so who causes whom cannot be told. Use other {unit}s of one"
        f" of them, or leave one out (--leave-out {used[a]})."
    )


def _edges(
    weight: np.ndarray, drawn: np.ndarray, used: list[str], smallest: float
) -> tuple[Edge, ...]:
    """Every ordered pair of values as an edge, present or not.

    `weight`: direct effects [source target]; `drawn`: the same in every bootstrap replicate.
    """
    source, target = np.nonzero(~np.eye(len(used), dtype=bool))
    w, replicates = weight[source, target], drawn[:, source, target]
    # Half the distance of these quantiles is the SD of a normal, and heavy tails do not move it.
    sixteenth, eighty_fourth = stats.norm.cdf(-1), stats.norm.cdf(1)
    low, lower, upper, high = np.nanquantile(
        replicates, (0.025, sixteenth, eighty_fourth, 0.975), axis=0
    )
    z = w / np.maximum((upper - lower) / 2, 1e-12)
    q = benjamini_hochberg(2 * stats.norm.sf(np.abs(z)))
    large = np.abs(replicates) >= smallest
    frequency = (large & (np.sign(replicates) == np.sign(w))).mean(0)
    present = (q < 0.05) & (np.abs(w) >= smallest)
    return tuple(
        Edge(
            source=used[source[k]],
            target=used[target[k]],
            weight=float(w[k]),
            low=float(low[k]),
            high=float(high[k]),
            z=float(z[k]),
            q=float(q[k]),
            frequency=float(frequency[k]),
            present=bool(present[k]),
        )
        for k in range(len(w))
    )


def weights(graph: CausalGraph, present_only: bool = True) -> Float[np.ndarray, "source target"]:
    """Lay out a graph's direct effects as a matrix [rating points per rating point].

    0 where there is no edge; with `present_only` false, the weights of absent edges as well.
    """
    matrix = np.zeros((len(graph.values),) * 2)
    for edge in graph.edges:
        if edge.present or not present_only:
            matrix[graph.values.index(edge.source), graph.values.index(edge.target)] = edge.weight
    return matrix


def compare(
    graph: CausalGraph, planted: Float[np.ndarray, "value value"], values: tuple[str, ...]
) -> GraphComparison:
    """Compare a graph with a planted one over `values`, on the values that the graph has.

    `planted[i, j]` is the direct effect of value i on value j.
    """
    places = [values.index(value) for value in graph.values]
    true = planted[np.ix_(places, places)]
    present, estimate = weights(graph), weights(graph, present_only=False)
    is_true, is_present = true != 0, present != 0
    both = is_true & is_present
    reversed_only = is_true & ~is_present & is_present.T & ~is_true.T
    off = ~np.eye(len(places), dtype=bool)
    varied = np.ptp(true[off]) > 0 and np.ptp(estimate[off]) > 0
    return GraphComparison(
        shd=int((is_true != is_present)[off].sum()),
        pairs=int(off.sum()),
        reversed=int(reversed_only.sum()),
        wrong_sign=int((both & (np.sign(true) != np.sign(present))).sum()),
        precision=float(both.sum() / is_present.sum()) if is_present.any() else float("nan"),
        recall=float(both.sum() / is_true.sum()) if is_true.any() else float("nan"),
        correlation=float(np.corrcoef(true[off], estimate[off])[0, 1]) if varied else float("nan"),
    )


def joint_r2(
    graph: CausalGraph, changes: Float[np.ndarray, "steering value"], steered: list[tuple[str, str]]
) -> float:
    """Judge how well the graph predicts joint steerings of two values [R2, at most 1].

    `changes` are measured mean changes, `steered` the two values of each, none of which the fit
    saw. The pushes are those that reproduce the two steered values' changes; the changes of all
    others follow from them by `(I - A)^-1`, and are judged.
    """
    spread = np.linalg.inv(np.eye(len(graph.values)) - weights(graph))
    missed = total = 0.0
    for change, pair in zip(changes, steered, strict=True):
        at = np.array([graph.values.index(value) for value in pair])
        others = np.delete(np.arange(len(graph.values)), at)
        push = np.linalg.solve(spread[np.ix_(at, at)].T, change[at])
        missed += float(((change[others] - push @ spread[np.ix_(at, others)]) ** 2).sum())
        total += float((change[others] ** 2).sum())
    return 1 - missed / total if total else float("nan")


def split_half(matched: Matched, values: tuple[str, ...], replicates: int, seed: int) -> float:
    """Compare the edges of two halves that share neither contexts nor features.

    Gives their Jaccard index [0 to 1], NaN without edges. Each half has half the evidence, so this
    is a lower bound of what a repetition would share. A value's only unit, such as its direction,
    stands in both halves: what is left to differ are the contexts.
    """
    rng = np.random.default_rng((seed, 2))
    contexts = rng.permutation(matched.changes.shape[1])
    units = [rng.permutation(matched.of(value)) for value in values]
    edges = []
    for half in (0, 1):
        rows = np.concatenate([of[half::2] if len(of) > 1 else of for of in units])
        part = Matched(*(column[rows] for column in matched))
        part = part._replace(changes=part.changes[:, contexts[half::2]])
        graph = find(part, values, replicates, seed).graph
        edges.append({(edge.source, edge.target) for edge in graph.edges if edge.present})
    union = edges[0] | edges[1]
    return len(edges[0] & edges[1]) / len(union) if union else float("nan")
