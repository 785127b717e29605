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


class Discovered(NamedTuple):
    edges: Bool[np.ndarray, "value value"]
    """Row causes column; where PC does not tell, both directions."""
    oriented: Bool[np.ndarray, "value value"]
    """Those of `edges` whose direction PC tells."""
    rows: int
    """Rows without a missing score, the ones that were used."""


def discover(data: Float[np.ndarray, "row value"], alpha: float = ALPHA) -> Discovered:
    """PC over the complete rows. Raises BadInput where the tests of independence are undefined."""
    from causallearn.search.ConstraintBased.PC import pc

    data = data[np.isfinite(data).all(1)]
    size = data.shape[1]
    edges, oriented = np.zeros((2, size, size), bool)
    varied = np.flatnonzero(np.ptp(data, axis=0) > 0) if len(data) else np.zeros(0, int)
    if len(data) <= size + 3:
        raise BadInput(
            f"PC over {size} values needs more than {size + 3} complete rows, got {len(data)}. Ask"
            " more roles, or drop features."
        )
    if len(varied) < 2:
        return Discovered(edges, oriented, len(data))
    try:
        marks = pc(data[:, varied], alpha, indep_test="fisherz", show_progress=False).G.graph
    except ValueError as error:
        raise BadInput(
            f"PC cannot run: {str(error).splitlines()[0]} Leave out a value that is a sum of"
            " others."
        ) from None
    # causal-learn: i -> j is marks[i, j] = -1 (tail at i) and marks[j, i] = 1 (head at j).
    told = (marks == -1) & (marks.T == 1)
    either = (marks != 0) & (marks == marks.T)
    oriented[np.ix_(varied, varied)] = told
    edges[np.ix_(varied, varied)] = told | either
    return Discovered(edges, oriented, len(data))


def closure(edges: Bool[np.ndarray, "value value"]) -> Bool[np.ndarray, "value value"]:
    """Who descends from whom (row is the ancestor): at least one directed path; on a cycle a
    value descends from itself.
    """
    reach = edges.copy()
    for middle in range(len(reach)):
        reach |= reach[:, [middle]] & reach[[middle]]
    return reach


def reduction(edges: Bool[np.ndarray, "value value"]) -> Bool[np.ndarray, "value value"]:
    """The fewest edges whose closure is that of `edges`, self-loops aside."""
    reach = closure(edges)
    mutual = (reach & reach.T) | np.eye(len(reach), dtype=bool)
    leaders = np.unique(mutual.argmax(1))  # the first member speaks for its component
    between = reach[np.ix_(leaders, leaders)] & ~np.eye(len(leaders), dtype=bool)
    longer = (
        between.astype(int) @ between.astype(int)
    ) > 0  # in a DAG, an edge that a path of two steps replaces
    out = np.zeros_like(edges)
    out[np.ix_(leaders, leaders)] = between & ~longer
    for leader in leaders:
        ring = np.flatnonzero(mutual[leader])
        if len(ring) > 1:
            out[ring, np.roll(ring, -1)] = True
    return out


class Frequencies(NamedTuple):
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
    """The edges of replicate `number`: as many clusters as there are, drawn with replacement;
    None where PC is undefined.
    """
    names, inverse = np.unique(clusters, return_inverse=True)
    members = [np.flatnonzero(inverse == k) for k in range(len(names))]
    drawn = np.random.default_rng((seed, number)).integers(len(names), size=len(names))
    try:
        return discover(data[np.concatenate([members[k] for k in drawn])], alpha).edges
    except BadInput:
        return None


def frequencies(replicates: Sequence[Bool[np.ndarray, "value value"] | None]) -> Frequencies:
    """How often each edge and each descent is found. Raises BadInput when no replicate ran."""
    ran = [edges for edges in replicates if edges is not None]
    if not ran:
        raise BadInput(
            "PC is undefined in every bootstrap replicate. Ask more roles, or more items."
        )
    return Frequencies(
        np.mean(ran, axis=0), np.mean([closure(edges) for edges in ran], axis=0), len(ran)
    )


def bootstrap(
    data: Float[np.ndarray, "row value"],
    clusters: Shaped[np.ndarray, " row"],
    replicates: int,
    seed: int,
    alpha: float = ALPHA,
) -> Frequencies:
    """Edge frequencies over clusters resampled with replacement."""
    return frequencies(
        [replicate(data, clusters, seed, number, alpha) for number in range(replicates)]
    )
