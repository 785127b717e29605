"""What stands beside a profile: how many answers are missing, which biases they show, and whether
they repeat.

1. *unparsed, refused, too-long*: shares of all answers, with Wilson's interval.
2. *position*: how far a profile of one order of the answers alone is off. Ratings: half the mean
   difference between the orders of the same question. Choices: how much oftener than by chance the
   answer listed first is chosen.
3. *acquiescence*: mean agreement before reverse-keyed items are turned round, less the middle of
   the scale. Where no item is reverse-keyed it cannot be told from values that are all held, and is
   not given.
4. *split-half*: correlation over values of the profiles of two random halves of each value's items,
   stepped up by Spearman and Brown; the mean of 100 splits, and the range of 95 % of them.
5. *split-half-change*: the same of what a steering changes: the difference to the unsteered answers
   of the same questions.
6. *length*: Spearman correlation over items of mean rating and length of the text, Fisher's
   interval: log-probabilities are known to follow length.
7. *test-retest*, *alternate-form*: correlation over items of mean ratings in one half of the
   repeats and in the other, in one half of the wordings and in the other; Fisher's interval.

What cannot be computed, for want of a second order, repeat or item, has no row. Left out: agreement
with people, and between instruments.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from feature_store.records import Instrument, Response, ValueSystem
from workbench.measuring.profiles import measures
from workbench.statistics.intervals import bootstrap_mean

SPLITS = 100
"""Random splits of each value's items over which the split-half reliability is a mean."""

Row = dict[str, Any]
"""A row of the relation `quality` without its steering: metric, value, low, high, n."""


def quality(
    responses: Sequence[Response],
    instrument: Instrument,
    system: ValueSystem,
    replicates: int,
    seed: int,
) -> list[Row]:
    """Give the rows of the relation `quality` for the responses of one steering.

    A figure that cannot be computed, for want of a second order, repeat or item, has no row.
    """
    rows = [_share(responses, status) for status in ("unparsed", "refused", "too-long")]
    parsed = [r for r in responses if r.status == "parsed"]
    if parsed:
        rows += _position(parsed, instrument, replicates, seed)
        if instrument.answer == "rating":
            means = _item_means(parsed)
            rows += _acquiescence(parsed, instrument, replicates, seed)
            rows += _split_half("split-half", means, instrument, system, seed)
            rows += _length(means, instrument)
        rows += _repeated("test-retest", parsed, [r.seed for r in parsed])
        rows += _repeated("alternate-form", parsed, [r.wording for r in parsed])
    return [{"steering": responses[0].steering, **row} for row in rows]


def change_quality(
    base: Sequence[Response],
    steered: Sequence[Response],
    instrument: Instrument,
    system: ValueSystem,
    seed: int,
) -> list[Row]:
    """Give the rows of `quality` that say how reliable a change is.

    `base` and `steered` are the responses to the same questions, unsteered and steered.
    """
    if instrument.answer != "rating":
        return []
    changes = [
        dataclasses.replace(after, rating=after.rating - before.rating)
        for before, after in zip(base, steered, strict=True)
        if before.status == after.status == "parsed"
    ]
    rows = _split_half("split-half-change", _item_means(changes), instrument, system, seed)
    return [{"steering": steered[0].steering, **row} for row in rows]


def _row(metric: str, value: float, low: float, high: float, n: int) -> Row:
    """Write a figure with its interval and the number of what it was computed from."""
    return {"metric": metric, "value": float(value), "low": float(low), "high": float(high), "n": n}


def _share(responses: Sequence[Response], status: str) -> Row:
    """Give the share of responses with a status, with Wilson's interval."""
    k = sum(r.status == status for r in responses)
    interval = stats.binomtest(k, len(responses)).proportion_ci(method="wilson")
    return _row(status, k / len(responses), interval.low, interval.high, len(responses))


def _mean(
    metric: str, by_cluster: Mapping[Hashable, list[float]], replicates: int, seed: int
) -> list[Row]:
    """Give the mean over clusters with its interval; no row where there is none."""
    if not by_cluster:
        return []
    means = np.array([np.mean(cluster) for cluster in by_cluster.values()])
    interval = bootstrap_mean(means[:, None], replicates, seed)
    return [_row(metric, interval.mean[0], interval.low[0], interval.high[0], int(interval.n[0]))]


def _clusters(responses: Sequence[Response], instrument: Instrument) -> list[Hashable]:
    """Give each response's cluster: its context, or its group of items where one was asked."""
    groups = {item.id: item.group or item.id for item in instrument.items}
    by_context = len({r.context for r in responses}) > 1
    return [r.context if by_context else groups[r.item] for r in responses]


def _position(
    parsed: Sequence[Response], instrument: Instrument, replicates: int, seed: int
) -> list[Row]:
    """Give how far the order of the answers decides what is answered."""
    if instrument.answer == "choice":
        if len({r.order for r in parsed}) < 2:
            return []
        return _mean("position", _first_chosen(parsed, instrument), replicates, seed)
    orders: dict[Hashable, dict[str, tuple[Hashable, float]]] = defaultdict(dict)
    for cluster, r in zip(_clusters(parsed, instrument), parsed, strict=True):
        orders[r.item, r.context, r.wording, r.seed][r.order] = cluster, r.rating
    halves = defaultdict(list)
    for pair in orders.values():
        if len(pair) == 2:
            cluster, ascending = pair["ascending"]
            _, descending = pair["descending"]
            halves[cluster].append((ascending - descending) / 2)
    return _mean("position", halves, replicates, seed)


def _first_chosen(
    parsed: Sequence[Response], instrument: Instrument
) -> dict[Hashable, list[float]]:
    """Give, by cluster, whether the answer listed first was chosen, less its chance."""
    items = {item.id: item for item in instrument.items}
    excess = defaultdict(list)
    for cluster, r in zip(_clusters(parsed, instrument), parsed, strict=True):
        n = len(items[r.item].options)
        if not n:  # a free answer beside the choices
            continue
        first = 0 if r.order == "ascending" else n - 1
        excess[cluster].append(float(r.chosen == first) - 1 / n)
    return excess


def _acquiescence(
    parsed: Sequence[Response], instrument: Instrument, replicates: int, seed: int
) -> list[Row]:
    """Give the mean agreement before reverse-keyed items are turned, less the scale's middle."""
    keys = {item.id: item.key for item in instrument.items}
    if len(set(keys.values())) < 2:
        return []
    n = len(instrument.options)
    agreement = defaultdict(list)
    for cluster, r in zip(_clusters(parsed, instrument), parsed, strict=True):
        rating = r.rating if keys[r.item] > 0 else n + 1 - r.rating
        agreement[cluster].append(rating - (n + 1) / 2)
    return _mean("acquiescence", agreement, replicates, seed)


def _item_means(responses: Iterable[Response]) -> dict[str, float]:
    """Give the mean rating of each item."""
    ratings = defaultdict(list)
    for r in responses:
        ratings[r.item].append(r.rating)
    return {item: float(np.mean(of_item)) for item, of_item in ratings.items()}


def _split_half(
    metric: str, means: Mapping[str, float], instrument: Instrument, system: ValueSystem, seed: int
) -> list[Row]:
    """Give the split-half reliability over values; no row below three values with two items."""
    items = {item.id: item for item in instrument.items}
    by_value = [
        np.array([means[id] for id in means if value in measures(items[id])])
        for value in system.ids
    ]
    halved = [of_value for of_value in by_value if len(of_value) > 1]
    if len(halved) < 3:
        return []
    rng = np.random.default_rng((seed, 7))
    stepped_up = []
    for _ in range(SPLITS):
        halves = np.array([_halves(of_value, rng) for of_value in halved])
        r = _correlation(halves[:, 0], halves[:, 1])
        stepped_up.append(2 * r / (1 + r) if r > -1 else np.nan)
    finite = np.array(stepped_up)[np.isfinite(stepped_up)]
    if not len(finite):
        return []
    low, high = np.quantile(finite, (0.025, 0.975))
    return [_row(metric, finite.mean(), low, high, len(finite))]


def _halves(means: Float[np.ndarray, " item"], rng: np.random.Generator) -> tuple[float, float]:
    """Give the mean of each of two random halves of the items."""
    order = rng.permutation(len(means))
    middle = len(means) // 2
    return float(means[order[:middle]].mean()), float(means[order[middle:]].mean())


def _repeated(metric: str, parsed: Sequence[Response], forms: Sequence[Hashable]) -> list[Row]:
    """Correlate the items' means in one half of the forms with those in the other.

    `forms`: the repeat or wording of each response.
    """
    names = list(dict.fromkeys(forms))
    if len(names) < 2:
        return []
    first_half = set(names[: len(names) // 2])
    first: list[Response] = []
    second: list[Response] = []
    for response, form in zip(parsed, forms, strict=True):
        if np.isfinite(response.rating):
            (first if form in first_half else second).append(response)
    means, others = _item_means(first), _item_means(second)
    shared = [item for item in means if item in others]
    if len(shared) < 4:
        return []
    return _correlated(
        metric,
        np.array([means[item] for item in shared]),
        np.array([others[item] for item in shared]),
    )


def _length(means: Mapping[str, float], instrument: Instrument) -> list[Row]:
    """Correlate the items' means with the length of their texts, by ranks."""
    if len(means) < 4:
        return []
    texts = {item.id: item.text for item in instrument.items}
    lengths = [len(texts[item]) for item in means]
    return _correlated("length", stats.rankdata(list(means.values())), stats.rankdata(lengths))


def _correlated(metric: str, a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> list[Row]:
    """Give a correlation with Fisher's interval; no row where either does not vary."""
    r = _correlation(a, b)
    if not np.isfinite(r):
        return []
    reach = 1.96 / np.sqrt(len(a) - 3)
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    return [_row(metric, r, np.tanh(z - reach), np.tanh(z + reach), len(a))]


def _correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Give Pearson's correlation; NaN where either does not vary."""
    if np.ptp(a) > 0 and np.ptp(b) > 0:
        return float(np.corrcoef(a, b)[0, 1])
    return float("nan")
