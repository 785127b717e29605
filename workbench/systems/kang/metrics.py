"""What a value graph predicts about roles and steered features: the metrics of Kang et al. (ACL
Findings 2025).

1. `counts`: for each steered feature and value, how many roles rose, stayed or fell. The cosine of
   these three numbers between training and test roles says whether a feature does on new roles what
   it did on old ones.
2. `change_frequencies`: among the rows in which value i changed, how often value j changed too.
   Averaged over i's descendants in a graph this is the expected change, over the other values the
   unexpected one; then averaged over i.
3. `side_effects` sets the gap of the two beside an interval (clusters of rows resampled) and a
   null: the same graph with its nodes permuted. A graph that says something about side effects lies
   above that null; the published ones mostly do not.
4. `moved`: shares of roles that rose, stayed and fell under one steering, with Wilson intervals:
   the best feature of a value beside a prompt that says outright what to value.

A missing score is no change and no stay: its cell is left out. Everything here is on arrays;
`verbs/kang.py` makes them. Kang et al. take the changes of features from one role; here all roles
may be given, as clusters.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from feature_store.errors import BadInput
from workbench.statistics.intervals import cluster_weights, known_mean


def signs(changes: Float[np.ndarray, "*shape"], smallest: float) -> Float[np.ndarray, "*shape"]:
    """+1 risen, 0 the same, -1 fallen by more than `smallest` [score]; NaN where a score is
    missing.
    """
    moved = np.where(np.abs(changes) > smallest + 1e-9, np.sign(changes), 0.0)
    return np.where(np.isfinite(changes), moved, np.nan)


def counts(moved: Float[np.ndarray, " role *cells"]) -> Int[np.ndarray, "*cells 3"]:
    """Roles that rose, stayed and fell, from their `signs`."""
    return np.stack([(moved == sign).sum(0) for sign in (1, 0, -1)], axis=-1)


def cosines(
    one: Int[np.ndarray, "*cells 3"], other: Int[np.ndarray, "*cells 3"]
) -> Float[np.ndarray, "*cells"]:
    """Cosine of two count vectors [0 to 1]; NaN where one is empty."""
    length = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.divide(
        (one * other).sum(-1), length, out=np.full(length.shape, np.nan), where=length > 0
    )


class Agreement(NamedTuple):
    mean: float
    """Mean cosine of train and test counts over features and values [0 to 1]."""
    null: float
    """The same with the features of the test side permuted: what values share whatever is
    steered [0 to 1]."""
    p: float
    """One-sided permutation p of `mean` above the null [0 to 1]."""
    n: int
    """Features x values."""


def agreement(
    train: Int[np.ndarray, "feature value 3"],
    test: Int[np.ndarray, "feature value 3"],
    permutations: int,
    seed: int,
) -> Agreement:
    """Whether features do on test roles what they did on training roles, against features
    exchanged.
    """
    rng, own = np.random.default_rng(seed), cosines(train, test)
    if not np.isfinite(own).any():
        return Agreement(*[float("nan")] * 3, 0)
    drawn = np.array(
        [
            known_mean(cosines(train, test[rng.permutation(len(test))]).ravel(), 0)
            for _ in range(permutations)
        ]
    )
    mean = float(known_mean(own.ravel(), 0))
    return Agreement(
        mean=mean,
        null=float(drawn.mean()),
        p=(1 + int((drawn >= mean - 1e-12).sum())) / (1 + permutations),
        n=int(np.isfinite(own).sum()),
    )


def together(moved: Float[np.ndarray, "row value"]) -> Float[np.ndarray, "2 value value"]:
    """Rows in which value i changed and j changed too; rows in which i changed and j is known."""
    changed, known = (moved != 0) & np.isfinite(moved), np.isfinite(moved)
    return np.stack([changed.T.astype(float) @ changed, changed.T.astype(float) @ known])


class Frequency(NamedTuple):
    expected: np.ndarray
    """Mean change frequency of descendants [0 to 1]; NaN without any."""
    unexpected: np.ndarray
    """Mean change frequency of the other values [0 to 1]."""


def change_frequencies(
    pairs: Float[np.ndarray, "*#r 2 value value"], descendants: Bool[np.ndarray, "*#r value value"]
) -> Frequency:
    """Expected and unexpected change, from `together`, averaged over values j, then over the
    values i that have such j.
    """
    both, asked = pairs[..., 0, :, :], pairs[..., 1, :, :]
    share = np.divide(both, asked, out=np.full(both.shape, np.nan), where=asked > 0)
    off = ~np.eye(both.shape[-1], dtype=bool)
    return Frequency(
        _mean_of_means(share, descendants & off), _mean_of_means(share, ~descendants & off)
    )


def _mean_of_means(share: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    use = chosen & np.isfinite(share)
    n = use.sum(-1)
    rows = np.divide(np.where(use, share, 0.0).sum(-1), n, out=np.zeros(n.shape), where=n > 0)
    values = (n > 0).sum(-1)
    return np.divide(rows.sum(-1), values, out=np.full(values.shape, np.nan), where=values > 0)


class SideEffects(NamedTuple):
    expected: float
    """How often descendants of a changed value changed [0 to 1]."""
    unexpected: float
    """How often other values did [0 to 1]."""
    gap: float
    """`expected - unexpected` [-1 to 1]."""
    low: float
    """Lower end of its 95 % interval, percentile bootstrap over clusters; NaN below two
    clusters."""
    high: float
    """Upper end of it."""
    null_low: float
    """2.5 % quantile of the gap under permuted nodes."""
    null_high: float
    """97.5 % quantile of it."""
    p: float
    """One-sided p of the gap under permuted nodes [0 to 1]; NaN where the graph divides nothing."""
    rows: int
    """Rows with at least one change."""
    clusters: int
    """Clusters of the bootstrap."""


def side_effects(
    moved: Float[np.ndarray, "row value"],
    clusters: Shaped[np.ndarray, " row"],
    descendants: Bool[np.ndarray, "value value"],
    replicates: int,
    seed: int,
) -> SideEffects:
    """Expected against unexpected change of a graph, with an interval and the node-permutation
    null.

    `moved` are `signs` [+1, 0, -1, NaN]; `descendants` a closure. `replicates` of the bootstrap,
    and permutations of the null.
    """
    if not len(moved):
        raise BadInput(
            "Side effects need rows of changes, got none. Give roles or steered features."
        )
    names, inverse = np.unique(clusters, return_inverse=True)
    by_cluster = np.stack([together(moved[inverse == k]) for k in range(len(names))])
    whole = by_cluster.sum(0)
    point = change_frequencies(whole, descendants)
    gap = float(point.expected - point.unexpected)
    low = high = float("nan")
    if len(names) > 1 and np.isfinite(gap):
        drawn = np.tensordot(cluster_weights(len(names), replicates, seed), by_cluster, 1)
        found = change_frequencies(drawn, descendants)
        low, high = (
            float(x) for x in np.nanquantile(found.expected - found.unexpected, (0.025, 0.975))
        )
    rng, size = np.random.default_rng((seed, 1)), len(descendants)
    orders = np.stack([rng.permutation(size) for _ in range(replicates)])
    permuted = change_frequencies(whole, descendants[orders[:, :, None], orders[:, None, :]])
    null = (permuted.expected - permuted.unexpected)[
        np.isfinite(permuted.expected - permuted.unexpected)
    ]
    band, p = (float("nan"), float("nan")), float("nan")
    if np.isfinite(gap) and len(null):
        band = tuple(map(float, np.quantile(null, (0.025, 0.975))))
        p = (1 + int((null >= gap - 1e-12).sum())) / (1 + len(null))
    changed = int((np.nan_to_num(moved) != 0).any(1).sum())
    return SideEffects(
        float(point.expected),
        float(point.unexpected),
        gap,
        low,
        high,
        *band,
        p,
        changed,
        len(names),
    )


class Moved(NamedTuple):
    up: float
    """Share of the roles that rose [0 to 1]."""
    same: float
    """Share that stayed."""
    down: float
    """Share that fell."""
    up_low: float
    """Lower end of the 95 % Wilson interval of `up`."""
    up_high: float
    """Upper end of it."""
    n: int
    """Roles with both scores."""


def moved_shares(moved: Float[np.ndarray, " role"]) -> Moved:
    """Shares of one column of `signs`; NaN without roles."""
    from scipy.stats import binomtest

    up, same, down = (int(x) for x in counts(moved[:, None])[0])
    n = up + same + down
    if not n:
        return Moved(*[float("nan")] * 5, 0)
    interval = binomtest(up, n).proportion_ci(method="wilson")
    return Moved(
        up=up / n,
        same=same / n,
        down=down / n,
        up_low=float(interval.low),
        up_high=float(interval.high),
        n=n,
    )


def best(train: Int[np.ndarray, "feature value 3"], direction: int) -> Int[np.ndarray, " value"]:
    """For each value, the row of the feature with the most training roles moved in `direction`
    (+1, -1) beyond those moved against it.
    """
    return ((train[..., 0] - train[..., 2]) * direction).argmax(0)
