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
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from feature_store.records import Instrument, Response, ValueSystem
from workbench.measuring.profiles import measures
from workbench.statistics.intervals import bootstrap_mean

SPLITS = 100


def quality(
    responses: Sequence[Response],
    instrument: Instrument,
    system: ValueSystem,
    replicates: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the relation `quality`, for the responses of one steering."""
    rows = [_share(responses, status) for status in ("unparsed", "refused", "too-long")]
    parsed = [r for r in responses if r.status == "parsed"]
    if parsed:
        rows += _position(parsed, instrument, replicates, seed)
        if instrument.answer == "rating":
            rows += _acquiescence(parsed, instrument, replicates, seed)
            rows += _split_half(
                "split-half", _item_means(parsed), instrument, system, seed
            ) + _length(parsed, instrument)
        rows += _repeated(parsed, "test-retest", [r.seed for r in parsed]) + _repeated(
            parsed, "alternate-form", [r.wording for r in parsed]
        )
    return [{"steering": responses[0].steering, **row} for row in rows]


def change_quality(
    base: Sequence[Response],
    steered: Sequence[Response],
    instrument: Instrument,
    system: ValueSystem,
    seed: int,
) -> list[dict[str, Any]]:
    """What stands beside a change: rows of `quality`, for the responses to the same questions
    unsteered and steered.
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


def _row(metric: str, value: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"metric": metric, "value": float(value), "low": float(low), "high": float(high), "n": n}


def _share(responses: Sequence[Response], status: str) -> dict[str, Any]:
    k = sum(r.status == status for r in responses)
    interval = stats.binomtest(k, len(responses)).proportion_ci(method="wilson")
    return _row(status, k / len(responses), interval.low, interval.high, len(responses))


def _mean(
    metric: str, by_cluster: dict[Hashable, list[float]], replicates: int, seed: int
) -> list[dict[str, Any]]:
    """A mean over clusters with its interval."""
    if not by_cluster:
        return []
    found = bootstrap_mean(
        np.array([np.mean(told) for told in by_cluster.values()])[:, None], replicates, seed
    )
    return [_row(metric, found.mean[0], found.low[0], found.high[0], int(found.n[0]))]


def _clusters(responses: Sequence[Response], instrument: Instrument) -> list[Hashable]:
    """Contexts, or groups of items where one context was asked."""
    groups = {item.id: item.group or item.id for item in instrument.items}
    by_context = len({r.context for r in responses}) > 1
    return [r.context if by_context else groups[r.item] for r in responses]


def _position(
    parsed: Sequence[Response], instrument: Instrument, replicates: int, seed: int
) -> list[dict[str, Any]]:
    items, found = {item.id: item for item in instrument.items}, defaultdict(list)
    if instrument.answer == "choice":
        for key, r in zip(_clusters(parsed, instrument), parsed, strict=True):
            if not (n := len(items[r.item].options)):  # a free answer beside the choices
                continue
            found[key].append(float(r.chosen == (0 if r.order == "ascending" else n - 1)) - 1 / n)
        return (
            _mean("position", found, replicates, seed)
            if len({r.order for r in parsed}) == 2
            else []
        )
    orders: dict[Hashable, dict[str, tuple[Hashable, float]]] = defaultdict(dict)
    for key, r in zip(_clusters(parsed, instrument), parsed, strict=True):
        orders[r.item, r.context, r.wording, r.seed][r.order] = key, r.rating
    for pair in orders.values():
        if len(pair) == 2:
            (key, up), (_, down) = pair["ascending"], pair["descending"]
            found[key].append((up - down) / 2)
    return _mean("position", found, replicates, seed)


def _acquiescence(
    parsed: Sequence[Response], instrument: Instrument, replicates: int, seed: int
) -> list[dict[str, Any]]:
    keys, n, found = (
        {item.id: item.key for item in instrument.items},
        len(instrument.options),
        defaultdict(list),
    )
    if len(set(keys.values())) < 2:
        return []
    for key, r in zip(_clusters(parsed, instrument), parsed, strict=True):
        found[key].append((r.rating if keys[r.item] > 0 else n + 1 - r.rating) - (n + 1) / 2)
    return _mean("acquiescence", found, replicates, seed)


def _item_means(parsed: Sequence[Response]) -> dict[str, float]:
    told = defaultdict(list)
    for r in parsed:
        told[r.item].append(r.rating)
    return {item: float(np.mean(ratings)) for item, ratings in told.items()}


def _split_half(
    metric: str, means: dict[str, float], instrument: Instrument, system: ValueSystem, seed: int
) -> list[dict[str, Any]]:
    items = {item.id: item for item in instrument.items}
    own = {
        value: [means[id] for id in means if value in measures(items[id])] for value in system.ids
    }
    halved = [np.array(told) for told in own.values() if len(told) > 1]
    if len(halved) < 3:
        return []
    rng, found = np.random.default_rng((seed, 7)), []
    for _ in range(SPLITS):
        halves = np.array([_halves(told, rng) for told in halved])
        r = _correlation(halves[:, 0], halves[:, 1])
        found.append(2 * r / (1 + r) if r > -1 else np.nan)
    known = np.array(found)[np.isfinite(found)]
    return (
        [_row(metric, known.mean(), *np.quantile(known, (0.025, 0.975)), len(known))]
        if len(known)
        else []
    )


def _halves(told: Float[np.ndarray, " item"], rng: np.random.Generator) -> tuple[float, float]:
    order = rng.permutation(len(told))
    return float(told[order[: len(told) // 2]].mean()), float(told[order[len(told) // 2 :]].mean())


def _repeated(
    parsed: Sequence[Response], metric: str, forms: Sequence[Hashable]
) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(forms))
    if len(names) < 2:
        return []
    first = set(names[: len(names) // 2])
    one, other = (
        _item_means(
            [
                r
                for r, form in zip(parsed, forms, strict=True)
                if (form in first) == half and np.isfinite(r.rating)
            ]
        )
        for half in (True, False)
    )
    shared = [item for item in one if item in other]
    if len(shared) < 4:
        return []
    return _correlated(
        metric, np.array([one[item] for item in shared]), np.array([other[item] for item in shared])
    )


def _length(parsed: Sequence[Response], instrument: Instrument) -> list[dict[str, Any]]:
    means, texts = _item_means(parsed), {item.id: item.text for item in instrument.items}
    if len(means) < 4:
        return []
    ranks = [
        stats.rankdata(told)
        for told in (list(means.values()), [len(texts[item]) for item in means])
    ]
    return _correlated("length", ranks[0], ranks[1])


def _correlated(
    metric: str, a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]
) -> list[dict[str, Any]]:
    """A correlation with Fisher's interval; no row where either does not vary."""
    r = _correlation(a, b)
    if not np.isfinite(r):
        return []
    reach = 1.96 / np.sqrt(len(a) - 3)
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    return [_row(metric, r, np.tanh(z - reach), np.tanh(z + reach), len(a))]


def _correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")
