"""The causal graph among values, found by intervening: linear cyclic interventional inference.

1. A feature f of value i changes rating j by E_f->j [rating points] at its damage-matched strength.
   Features whose effect on their own value is not distinguishable from 0 are left out and counted.
2. Total effects: `T[i,j] = median over f of E_f->j / E_f->i`, `T[i,i] = 1`. A ratio needs no common
   strength, and a median survives the minority of features that also push a second value directly.
3. Direct effects: pushing i leaves every other value's own equation alone, so for each j
   `T[K,K] a = T[K,j]`, K = all but j (Hyttinen, Eberhardt & Hoyer 2012). Cycles and latent common
   causes do no harm.
4. Uncertainty: contexts and, within each value, features are resampled together; z is the weight
   over its bootstrap SD (half the distance of the 16 % and 84 % quantiles: ratios have heavy
   tails). Resampling features is what lets a leak into a minority of them widen the interval
   instead of adding an edge.
5. An edge is present when q < 0.05 (Benjamini-Hochberg over all ordered pairs) and |weight| >=
   `SMALLEST`.

Weights are rating points per rating point: both ends share the 1-6 scale, and a planted graph is in
the same unit. Left out: values without usable features. They act as latent variables, and are
named.
"""

from itertools import pairwise
from typing import NamedTuple

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

SMALLEST = 0.15
"""Smallest effect of interest [rating points per rating point]. Ratings driven into the ends of
their scale leave small residues that are significant and no edges: of 1,148 unplanted pairs in
14 such simulations (48 contexts) 8 had q < 0.05, 7 of them below 0.15, while all 112 planted
edges stayed above 0.4."""
WORST_CONDITION = 100.0
"""Largest condition number at which total effects are inverted."""
ENOUGH = 5
"""Features of every value from which an edge is one of values and not of features."""


class Found(NamedTuple):
    graph: CausalGraph
    """Every ordered pair of the values that have features."""
    total: Float[np.ndarray, "source target"]
    """T: total effects [rating points per rating point]."""
    replicates: Float[np.ndarray, "replicate source target"]
    """Direct effects in every bootstrap replicate; NaN on the diagonal."""
    features: dict[str, int]
    """Value -> features that were used."""
    dropped: dict[str, int]
    """Value -> features whose effect on their own value could not be told from 0."""
    left_out: tuple[str, ...]
    """Values without a usable feature."""


class Comparison(NamedTuple):
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
    own: Float[np.ndarray, "*r unit value"],
    groups: list[np.ndarray],
    places: Int[np.ndarray, " source"],
) -> np.ndarray:
    """T from effects of units [*r source target]; `groups[s]` lists the units of source s [unit]
    or [*r unit].
    """
    rows = []
    for units, place in zip(groups, places, strict=True):
        if units.ndim == 1:
            effects = own[..., units, :]
        else:
            effects = np.take_along_axis(own, units[..., None], axis=-2)
        pushed = effects[..., place]
        # A replicate in which a feature does nothing gives an infinite ratio on a side of its own:
        # a median takes it.
        ratio = effects[..., places] / np.where(pushed == 0, 1e-12, pushed)[..., None]
        rows.append(np.median(ratio, axis=-2))
    return np.stack(rows, axis=-2)


def direct_effects(
    total: Float[np.ndarray, "*r source target"],
) -> Float[np.ndarray, "*r source target"]:
    """A from T, column by column; NaN on the diagonal and where a replicate cannot be inverted."""
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
) -> Found:
    """The graph among those of `values` (the sweep's own, in their order) that have features."""
    own = _own_effects(matched, values, replicates, seed)
    used = [value for value in values if len(own[value][0])]
    if len(used) < 2:
        raise BadInput(
            f"A graph needs two values whose features move them, got {len(used)}"
            f" ({', '.join(used) or 'none'}). Steer more features, or at larger doses."
        )
    places = np.array([values.index(value) for value in used])
    units = np.concatenate([own[value][0] for value in used])
    bounds = np.cumsum([0, *(len(own[value][0]) for value in used)])
    groups = [np.arange(low, high) for low, high in pairwise(bounds)]
    x = matched.changes[units].transpose(1, 0, 2)
    point = total_effects(replicate_means(x, np.ones((1, len(x)))), groups, places)[0]
    _refuse_ill_conditioned(point, used)
    weight = direct_effects(point)
    rng = np.random.default_rng((seed, 1))
    resampled = [group[rng.integers(len(group), size=(replicates, len(group)))] for group in groups]
    drawn = direct_effects(
        total_effects(
            replicate_means(x, cluster_weights(len(x), replicates, seed)), resampled, places
        )
    )
    edges = _edges(weight, drawn, used, smallest)
    sizes = {value: len(own[value][0]) for value in used}
    level = "value" if min(sizes.values()) >= ENOUGH else "feature"
    return Found(
        graph=CausalGraph(values=tuple(used), edges=edges, level=level, n=len(x), seed=seed),
        total=point,
        replicates=drawn,
        features=sizes,
        dropped={value: own[value][1] for value in values if own[value][1]},
        left_out=tuple(value for value in values if value not in used),
    )


def _own_effects(
    matched: Matched, values: tuple[str, ...], replicates: int, seed: int
) -> dict[str, tuple[np.ndarray, int]]:
    """Value -> its units that move it, and how many do not."""
    found = {}
    for j, value in enumerate(values):
        units = matched.of(value)
        moves = np.zeros(len(units), bool)
        if len(units):
            own = bootstrap_mean(matched.changes[units, :, j].T, replicates, seed)
            # Every target must have been answered, or a ratio would be missing.
            answered = np.isfinite(matched.changes[units]).any(1).all(1)
            moves = ((own.low > 0) | (own.high < 0)) & answered
        found[value] = units[moves], int((~moves).sum())
    return found


def _refuse_ill_conditioned(total: np.ndarray, used: list[str]) -> None:
    worst = float(np.linalg.cond(total))
    if worst < WORST_CONDITION:
        return
    rows = total / np.linalg.norm(total, axis=1, keepdims=True)
    alike = np.abs(rows @ rows.T) - 2 * np.eye(len(rows))
    a, b = np.unravel_index(alike.argmax(), alike.shape)
    raise BadInput(
        f"Steering {used[a]} and {used[b]} moves all values alike (condition number {worst:.0f}, at"
        f" most {WORST_CONDITION:.0f}), so who causes whom cannot be told. Use other features of"
        " one of them, or leave one out."
    )


def _edges(
    weight: np.ndarray, drawn: np.ndarray, used: list[str], smallest: float
) -> tuple[Edge, ...]:
    source, target = np.nonzero(~np.eye(len(used), dtype=bool))
    w, r = weight[source, target], drawn[:, source, target]
    low, lower, upper, high = np.nanquantile(
        r, (0.025, stats.norm.cdf(-1), stats.norm.cdf(1), 0.975), axis=0
    )
    sd = np.maximum((upper - lower) / 2, 1e-12)
    z = w / sd
    q = benjamini_hochberg(2 * stats.norm.sf(np.abs(z)))
    frequency = ((np.abs(r) >= smallest) & (np.sign(r) == np.sign(w))).mean(0)
    present = (q < 0.05) & (np.abs(w) >= smallest)
    return tuple(
        Edge(used[i], used[j], *map(float, figures), bool(is_present))
        for i, j, *figures, is_present in zip(
            source, target, w, low, high, z, q, frequency, present, strict=True
        )
    )


def weights(graph: CausalGraph, present_only: bool = True) -> Float[np.ndarray, "source target"]:
    """A: direct effects as a matrix, 0 where there is no edge [rating points per rating point]."""
    matrix = np.zeros((len(graph.values),) * 2)
    for edge in graph.edges:
        if edge.present or not present_only:
            matrix[graph.values.index(edge.source), graph.values.index(edge.target)] = edge.weight
    return matrix


def compare(
    graph: CausalGraph, planted: Float[np.ndarray, "value value"], values: tuple[str, ...]
) -> Comparison:
    """The graph against a planted one over `values` (row = source), on the values that the graph
    has.
    """
    places = [values.index(value) for value in graph.values]
    true = planted[np.ix_(places, places)]
    found, estimate = weights(graph), weights(graph, present_only=False)
    is_true, is_found = true != 0, found != 0
    both = is_true & is_found
    off = ~np.eye(len(places), dtype=bool)
    varied = np.ptp(true[off]) > 0 and np.ptp(estimate[off]) > 0
    return Comparison(
        shd=int((is_true != is_found)[off].sum()),
        pairs=int(off.sum()),
        reversed=int((is_true & ~is_found & is_found.T & ~is_true.T).sum()),
        wrong_sign=int((both & (np.sign(true) != np.sign(found))).sum()),
        precision=float(both.sum() / is_found.sum()) if is_found.any() else float("nan"),
        recall=float(both.sum() / is_true.sum()) if is_true.any() else float("nan"),
        correlation=float(np.corrcoef(true[off], estimate[off])[0, 1]) if varied else float("nan"),
    )


def joint_r2(
    graph: CausalGraph, changes: Float[np.ndarray, "steering value"], steered: list[tuple[str, str]]
) -> float:
    """How well `(I - A)^-1` predicts joint steerings of two values that the fit never saw [R2, at
    most 1].

    The pushes are those that reproduce the two steered values' own changes; the others are
    predicted.
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
    """Jaccard of the edges found in two halves that share neither contexts nor features [0 to 1];
    NaN without edges.

    Each half has half the evidence, so this is a lower bound of what a repetition would share.
    """
    rng = np.random.default_rng((seed, 2))
    contexts = rng.permutation(matched.changes.shape[1])
    units = [rng.permutation(matched.of(value)) for value in values]
    edges = []
    for half in (0, 1):
        rows = np.concatenate([own[half::2] for own in units])
        part = Matched(*(column[rows] for column in matched))
        part = part._replace(changes=part.changes[:, contexts[half::2]])
        found = find(part, values, replicates, seed).graph
        edges.append({(edge.source, edge.target) for edge in found.edges if edge.present})
    union = edges[0] | edges[1]
    return len(edges[0] & edges[1]) / len(union) if union else float("nan")
