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
    """Say of each change whether it is a rise (+1), a fall (-1) or none (0).

    A change counts that is larger than `smallest` [score]. It is NaN where a score is missing.

        signs(np.array([0.2, -0.3, 0.05]), 0.1)     # [1, -1, 0]
    """
    moved = np.where(np.abs(changes) > smallest + 1e-9, np.sign(changes), 0.0)
    return np.where(np.isfinite(changes), moved, np.nan)


def counts(moved: Float[np.ndarray, " role *cells"]) -> Int[np.ndarray, "*cells 3"]:
    """Count the roles that rose, stayed and fell, from their `signs`."""
    return np.stack([(moved == sign).sum(0) for sign in (1, 0, -1)], axis=-1)


def cosines(
    train: Int[np.ndarray, "*cells 3"], test: Int[np.ndarray, "*cells 3"]
) -> Float[np.ndarray, "*cells"]:
    """Give the cosine of the counts of training and test roles [0 to 1].

    It is NaN where there is no role on one side.
    """
    length = np.linalg.norm(train, axis=-1) * np.linalg.norm(test, axis=-1)
    return np.divide(
        (train * test).sum(-1), length, out=np.full(length.shape, np.nan), where=length > 0
    )


class FeatureAgreement(NamedTuple):
    """Whether features do on test roles what they did on training roles."""

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
) -> FeatureAgreement:
    """Say whether features do on test roles what they did on training roles.

    `train` and `test` are `counts`. The null exchanges the features of the test side: what values
    share whatever is steered is no agreement of features.
    """
    by_cell = cosines(train, test)
    if not np.isfinite(by_cell).any():
        nan = float("nan")
        return FeatureAgreement(mean=nan, null=nan, p=nan, n=0)
    rng = np.random.default_rng(seed)
    null = np.zeros(permutations)
    for number in range(permutations):
        exchanged = test[rng.permutation(len(test))]
        null[number] = known_mean(cosines(train, exchanged).ravel(), 0)
    mean = float(known_mean(by_cell.ravel(), 0))
    return FeatureAgreement(
        mean=mean,
        null=float(null.mean()),
        p=(1 + int((null >= mean - 1e-12).sum())) / (1 + permutations),
        n=int(np.isfinite(by_cell).sum()),
    )


def together(moved: Float[np.ndarray, "row value"]) -> Float[np.ndarray, "2 value value"]:
    """Count for each pair of values the rows in which both changed, and those that could say so.

    `moved` are `signs`. Entry [0, i, j] counts rows in which i and j changed, [1, i, j] those in
    which i changed and the score of j is there.
    """
    scored = np.isfinite(moved)
    changed = (moved != 0) & scored
    return np.stack([changed.T.astype(float) @ changed, changed.T.astype(float) @ scored])


class ChangeFrequency(NamedTuple):
    """How often other values changed where a value did."""

    expected: np.ndarray
    """Mean change frequency of descendants [0 to 1]; NaN without any."""
    unexpected: np.ndarray
    """Mean change frequency of the other values [0 to 1]."""


def change_frequencies(
    pairs: Float[np.ndarray, "*#r 2 value value"], descendants: Bool[np.ndarray, "*#r value value"]
) -> ChangeFrequency:
    """Give how often a changed value's descendants changed, and how often the other values did.

    `pairs` comes from `together`; `descendants` is a closure. Shares are averaged over the values
    j, then over the values i that have such j.
    """
    both, scored = pairs[..., 0, :, :], pairs[..., 1, :, :]
    share = np.divide(both, scored, out=np.full(both.shape, np.nan), where=scored > 0)
    off_diagonal = ~np.eye(both.shape[-1], dtype=bool)
    return ChangeFrequency(
        expected=_mean_of_means(share, descendants & off_diagonal),
        unexpected=_mean_of_means(share, ~descendants & off_diagonal),
    )


def _mean_of_means(share: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Average the chosen shares over columns, then over the rows that have any."""
    use = chosen & np.isfinite(share)
    n = use.sum(-1)
    rows = np.divide(np.where(use, share, 0.0).sum(-1), n, out=np.zeros(n.shape), where=n > 0)
    values = (n > 0).sum(-1)
    return np.divide(rows.sum(-1), values, out=np.full(values.shape, np.nan), where=values > 0)


class SideEffects(NamedTuple):
    """How far a graph's descendants say which values change together."""

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
    """Compare expected with unexpected change of a graph, with an interval and a null.

    `moved` are `signs` [+1, 0, -1, NaN], `descendants` is the graph's closure. The interval
    resamples clusters, the null permutes the nodes of the graph, each `replicates` times. Raises
    BadInput where there are no rows.
    """
    if not len(moved):
        raise BadInput(
            "Side effects need rows of changes, got none. Give roles or steered features."
        )
    names, inverse = np.unique(clusters, return_inverse=True)
    by_cluster = np.stack([together(moved[inverse == k]) for k in range(len(names))])
    pairs = by_cluster.sum(0)
    point = change_frequencies(pairs, descendants)
    gap = float(point.expected - point.unexpected)
    low, high = _gap_interval(by_cluster, descendants, gap, replicates, seed)
    null = _permuted_gaps(pairs, descendants, replicates, seed)
    null_low = null_high = p = float("nan")
    if np.isfinite(gap) and len(null):
        null_low, null_high = (float(end) for end in np.quantile(null, (0.025, 0.975)))
        p = (1 + int((null >= gap - 1e-12).sum())) / (1 + len(null))
    return SideEffects(
        expected=float(point.expected),
        unexpected=float(point.unexpected),
        gap=gap,
        low=low,
        high=high,
        null_low=null_low,
        null_high=null_high,
        p=p,
        rows=int((np.nan_to_num(moved) != 0).any(1).sum()),
        clusters=len(names),
    )


def _gap_interval(
    by_cluster: Float[np.ndarray, "cluster 2 value value"],
    descendants: Bool[np.ndarray, "value value"],
    gap: float,
    replicates: int,
    seed: int,
) -> tuple[float, float]:
    """Give the 95 % interval of the gap over resampled clusters; NaN below two of them."""
    if len(by_cluster) < 2 or not np.isfinite(gap):
        return float("nan"), float("nan")
    weights = cluster_weights(len(by_cluster), replicates, seed)
    resampled = change_frequencies(np.tensordot(weights, by_cluster, 1), descendants)
    gaps = resampled.expected - resampled.unexpected
    low, high = np.nanquantile(gaps, (0.025, 0.975))
    return float(low), float(high)


def _permuted_gaps(
    pairs: Float[np.ndarray, "2 value value"],
    descendants: Bool[np.ndarray, "value value"],
    permutations: int,
    seed: int,
) -> Float[np.ndarray, " defined"]:
    """Give the gap under permuted nodes of the graph, where it is defined."""
    rng, size = np.random.default_rng((seed, 1)), len(descendants)
    orders = np.stack([rng.permutation(size) for _ in range(permutations)])
    permuted = change_frequencies(pairs, descendants[orders[:, :, None], orders[:, None, :]])
    gaps = permuted.expected - permuted.unexpected
    return gaps[np.isfinite(gaps)]


class MovedShares(NamedTuple):
    """Which shares of the roles moved under one treatment."""

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


def moved_shares(moved: Float[np.ndarray, " role"]) -> MovedShares:
    """Give the shares of the roles that rose, stayed and fell, from one column of `signs`.

    The shares are NaN without roles.
    """
    from scipy.stats import binomtest

    up, same, down = (int(x) for x in counts(moved[:, None])[0])
    n = up + same + down
    if not n:
        nan = float("nan")
        return MovedShares(up=nan, same=nan, down=nan, up_low=nan, up_high=nan, n=0)
    interval = binomtest(up, n).proportion_ci(method="wilson")
    return MovedShares(
        up=up / n,
        same=same / n,
        down=down / n,
        up_low=float(interval.low),
        up_high=float(interval.high),
        n=n,
    )


def best(train: Int[np.ndarray, "feature value 3"], direction: int) -> Int[np.ndarray, " value"]:
    """Choose the best feature for each value, as its row in the training roles' `counts`.

    It is the one with the most roles moved in `direction` (+1, -1) beyond those moved against it.
    """
    return ((train[..., 0] - train[..., 2]) * direction).argmax(0)
