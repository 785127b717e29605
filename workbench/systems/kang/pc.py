"""The PC algorithm over scores that were only observed, and what its graph says about descendants.

1. `discover` runs causal-learn's PC (Fisher-Z; Spirtes, Glymour & Scheines 2000) over rows of
   scores. What PC leaves without or with two arrow heads counts in both directions, as in Kang et
   al. (2025).
2. `closure` are all descendants; `reduction` the fewest edges with the same descendants: strongly
   connected values are condensed to one, the reduction of what remains is unique, and the values of
   one component are joined by a ring.
3. `bootstrap` repeats the discovery on resampled clusters. Rows of one role are repeated measures,
   which the test of independence does not know: how often an edge comes back says more than its
   presence.

These graphs are hypotheses: no effect size, no sign, and directions from conditional independence
alone. A value without variation has no edges. Left out: latent causes (FCI), cycles (PC assumes
none; double arrows stand for what it cannot tell).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from feature_store.errors import BadInput

ALPHA = 0.05
"""Level of the independence tests, as published."""


class DiscoveredGraph(NamedTuple):
    """The graph that PC finds."""

    edges: Bool[np.ndarray, "value value"]
    """Row causes column; where PC does not tell, both directions."""
    oriented: Bool[np.ndarray, "value value"]
    """Those of `edges` whose direction PC tells."""
    rows: int
    """Rows without a missing score, the ones that were used."""


def discover(data: Float[np.ndarray, "row value"], alpha: float = ALPHA) -> DiscoveredGraph:
    """Run PC over the rows without a missing score; `alpha` is the level of its tests.

    Raises BadInput where the tests of independence are undefined.

        discover(scores).edges      # [i, j] is true where value i causes value j
    """
    from causallearn.search.ConstraintBased.PC import pc

    data = data[np.isfinite(data).all(1)]
    size = data.shape[1]
    edges, oriented = np.zeros((2, size, size), bool)
    if len(data) <= size + 3:
        raise BadInput(
            f"PC over {size} values needs more than {size + 3} complete rows, got {len(data)}. Ask"
            " more roles, or drop features."
        )
    varied = np.flatnonzero(np.ptp(data, axis=0) > 0)
    if len(varied) < 2:
        return DiscoveredGraph(edges, oriented, len(data))
    try:
        marks = pc(data[:, varied], alpha, indep_test="fisherz", show_progress=False).G.graph
    except ValueError as error:
        raise BadInput(
            f"PC cannot run: {str(error).splitlines()[0]} Leave out a value that is a sum of"
            " others."
        ) from None
    # causal-learn: i -> j is marks[i, j] = -1 (tail at i) and marks[j, i] = 1 (head at j).
    one_way = (marks == -1) & (marks.T == 1)
    both_ways = (marks != 0) & (marks == marks.T)
    oriented[np.ix_(varied, varied)] = one_way
    edges[np.ix_(varied, varied)] = one_way | both_ways
    return DiscoveredGraph(edges, oriented, len(data))


def closure(edges: Bool[np.ndarray, "value value"]) -> Bool[np.ndarray, "value value"]:
    """Find all descendants: entry [i, j] is true where a directed path leads from i to j.

    On a cycle a value descends from itself.
    """
    reach = edges.copy()
    for middle in range(len(reach)):
        reach |= reach[:, [middle]] & reach[[middle]]
    return reach


def reduction(edges: Bool[np.ndarray, "value value"]) -> Bool[np.ndarray, "value value"]:
    """Find the fewest edges whose closure is that of `edges`, self-loops aside."""
    reach = closure(edges)
    mutual = (reach & reach.T) | np.eye(len(reach), dtype=bool)
    leaders = np.unique(mutual.argmax(1))  # the first member speaks for its component
    between = reach[np.ix_(leaders, leaders)] & ~np.eye(len(leaders), dtype=bool)
    # In a DAG, an edge that a path of two steps replaces.
    longer = (between.astype(int) @ between.astype(int)) > 0
    out = np.zeros_like(edges)
    out[np.ix_(leaders, leaders)] = between & ~longer
    for leader in leaders:
        ring = np.flatnonzero(mutual[leader])
        if len(ring) > 1:
            out[ring, np.roll(ring, -1)] = True
    return out


class GraphFrequencies(NamedTuple):
    """How often edges and descents come back when clusters are resampled."""

    edges: Float[np.ndarray, "value value"]
    """Share of the replicates with the edge [0 to 1]."""
    descendants: Float[np.ndarray, "value value"]
    """Share of the replicates in which the column descends from the row [0 to 1]."""
    replicates: int
    """Replicates that ran; one in which PC is undefined is left out."""


def replicate(
    data: Float[np.ndarray, "row value"],
    clusters: Shaped[np.ndarray, " row"],
    seed: int,
    number: int,
    alpha: float = ALPHA,
) -> Bool[np.ndarray, "value value"] | None:
    """Find the edges in replicate `number` of the bootstrap; None where PC is undefined.

    As many clusters as there are are drawn with replacement, by seed and number alone, so that
    replicates can be made in any order.
    """
    names, inverse = np.unique(clusters, return_inverse=True)
    members = [np.flatnonzero(inverse == k) for k in range(len(names))]
    drawn = np.random.default_rng((seed, number)).integers(len(names), size=len(names))
    try:
        return discover(data[np.concatenate([members[k] for k in drawn])], alpha).edges
    except BadInput:
        return None


def frequencies(replicates: Sequence[Bool[np.ndarray, "value value"] | None]) -> GraphFrequencies:
    """Say how often each edge and each descent is there, over the replicates that ran.

    Raises BadInput where none did.
    """
    ran = [edges for edges in replicates if edges is not None]
    if not ran:
        raise BadInput(
            "PC is undefined in every bootstrap replicate. Ask more roles, or more items."
        )
    return GraphFrequencies(
        np.mean(ran, axis=0), np.mean([closure(edges) for edges in ran], axis=0), len(ran)
    )


def bootstrap(
    data: Float[np.ndarray, "row value"],
    clusters: Shaped[np.ndarray, " row"],
    replicates: int,
    seed: int,
    alpha: float = ALPHA,
) -> GraphFrequencies:
    """Say how often each edge comes back when clusters are resampled with replacement.

    `clusters` names the cluster of each row, such as its role.

        bootstrap(scores, roles, replicates=50, seed=0).edges       # shares [0 to 1]
    """
    return frequencies(
        [replicate(data, clusters, seed, number, alpha) for number in range(replicates)]
    )
