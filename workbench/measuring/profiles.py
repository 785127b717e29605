"""What stored responses add up to: a value profile, raw and centred, with intervals. Pure functions
of responses and the instrument.

1. Clusters are the contexts; where one context was asked they are the items, those of one `group`
   together.
2. *Ratings*: the mean over a value's items, by cluster, then over clusters. Centred: less the mean
   rating of all items (MRAT, Schwartz 2003), each once however many values it is tagged with;
   within the context where contexts are the clusters. Never divided by the spread.
3. *Choices*: an answer's score on a value counts where the item's answers differ on it; expected
   under the softmax where they were scored by log-probability. Centred: less what choosing by lot
   gives. A value that one of two answers serves has chosen / offered - 1/2.
4. A response that is not parsed enters no mean and is counted beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.records import Instrument, Item, Response, ValueProfile, ValueSystem
from workbench.measuring.questions import softmax
from workbench.statistics.intervals import bootstrap_mean


class Cells(NamedTuple):
    values: tuple[str, ...]
    """Ids of the values that were measured, in circle order."""
    clusters: tuple[str, ...]
    """Contexts, or groups of items: what the rows are."""
    raw: Float[np.ndarray, "cluster value"]
    """Mean of each cluster's answers; NaN where nothing was parsed."""
    centred: Float[np.ndarray, "cluster value"]
    """The same, centred."""


def profile(
    responses: Sequence[Response], instrument: Instrument, cells: Cells, replicates: int, seed: int
) -> list[ValueProfile]:
    """Raw and centred profile of one steering.

    Values without a parsed answer are given as NaN with their counts.
    """
    items = {item.id: item for item in instrument.items}
    measured = [(r.status == "parsed", measures(items[r.item])) for r in responses]
    rows = []
    for centred, ratings in ((False, cells.raw), (True, cells.centred)):
        interval = bootstrap_mean(ratings, replicates, seed)
        for column, value in enumerate(cells.values):
            own = [parsed for parsed, values in measured if value in values]
            rows.append(
                ValueProfile(
                    steering=responses[0].steering,
                    value=value,
                    mean=float(interval.mean[column]),
                    low=float(interval.low[column]),
                    high=float(interval.high[column]),
                    n=int(np.isfinite(ratings[:, column]).sum()),
                    parsed=sum(own),
                    missing=len(own) - sum(own),
                    centred=centred,
                )
            )
    return rows


def per_cluster(
    responses: Sequence[Response], instrument: Instrument, system: ValueSystem
) -> Cells:
    """Mean rating, or score of what was chosen, of each value in each cluster."""
    items = {item.id: item for item in instrument.items}
    named = {value for r in responses for value in measures(items[r.item])}
    values = tuple(value for value in system.ids if value in named)
    by_context = len({r.context for r in responses}) > 1
    keys = [str(r.context) if by_context else items[r.item].group or r.item for r in responses]
    place = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    column = {value: number for number, value in enumerate(values)}
    total, chance, count = (np.zeros((len(place), len(values))) for _ in range(3))
    all_total, all_count = np.zeros(len(place)), np.zeros(len(place))
    for key, r in zip(keys, responses, strict=True):
        if r.status != "parsed":
            continue
        row, item = place[key], items[r.item]
        if item.options:
            shares = (
                softmax(np.array(r.logprobs)) if r.logprobs else np.eye(len(item.options))[r.chosen]
            )
            for value, scores in served(item).items():
                total[row, column[value]] += shares @ scores
                chance[row, column[value]] += scores.mean()
                count[row, column[value]] += 1
        else:
            for value in item.values:
                total[row, column[value]] += r.rating
                count[row, column[value]] += 1
            if item.values:
                all_total[row] += r.rating
                all_count[row] += 1
    raw = _ratio(total, count)
    if instrument.answer == "choice":
        return Cells(
            values=values, clusters=tuple(place), raw=raw, centred=raw - _ratio(chance, count)
        )
    # Items as clusters measure few values each: what is subtracted is then the mean of all of them.
    if not by_context:
        all_total, all_count = all_total.sum(keepdims=True), all_count.sum(keepdims=True)
    return Cells(
        values=values,
        clusters=tuple(place),
        raw=raw,
        centred=raw - _ratio(all_total, all_count)[:, None],
    )


def measures(item: Item) -> tuple[str, ...]:
    """Ids of the values that an answer to the item speaks of."""
    return tuple(served(item)) if item.options else item.values


def served(item: Item) -> dict[str, Float[np.ndarray, " answer"]]:
    """Value -> score of each of the item's answers on it, where they differ."""
    told = [dict(option.scores) for option in item.options]
    names = dict.fromkeys(value for scores in told for value in scores)
    found = {value: np.array([scores.get(value, 0.0) for scores in told]) for value in names}
    return {value: scores for value, scores in found.items() if np.ptp(scores) > 0}


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
