"""A profile of item scores, for instruments whose items are tagged with several values and share
passages (Han et al., ACL 2025).

1. An item's score is the mean of its answers that could be read: over wordings, orders and repeats.
   Where several contexts were asked, an item has a score in each.
2. A value's score is the mean of the items tagged with it, an item counting once however many of
   its answers could be read.
3. Centred: less the mean of all items tagged with at least one value, each once (MRAT).
4. Intervals: clusters are the contexts, or the groups of items where one context was asked; a
   cluster of many items weighs more, and the mean that is subtracted is drawn anew with the
   clusters.

`profiles` does it the other way round: there every cluster counts the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from feature_store.records import Instrument, Response, ValueProfile, ValueSystem
from workbench.measuring.profiles import parsed_and_missing
from workbench.statistics.intervals import bootstrap_ratio


class ItemScores(NamedTuple):
    """Each item's score in each context, with its values and its cluster; a cell is one of them."""

    values: tuple[str, ...]
    """Ids of the values that were measured, in circle order."""
    score: Float[np.ndarray, " cell"]
    """Mean rating of each item in each context; NaN where nothing was parsed [1 to number of
    options]."""
    tagged: Bool[np.ndarray, "cell value"]
    """Whether the item measures the value."""
    cluster: Int[np.ndarray, " cell"]
    """0-based number of the cluster."""

    @property
    def counted(self) -> Bool[np.ndarray, " cell"]:
        """Cells that enter the mean of all: scored, and tagged with at least one value."""
        return np.isfinite(self.score) & self.tagged.any(1)


def item_scores(
    responses: Sequence[Response], instrument: Instrument, system: ValueSystem
) -> ItemScores:
    """Score each item in each context by the mean of its answers that could be read."""
    items = {item.id: item for item in instrument.items}
    by_context = len({r.context for r in responses}) > 1
    ratings: dict[tuple[int, str], list[float]] = {}
    for r in responses:
        cell = ratings.setdefault((r.context, r.item), [])
        if r.status == "parsed":
            cell.append(r.rating)
    measured = {value for _, item in ratings for value in items[item].values}
    values = tuple(value for value in system.ids if value in measured)
    keys = [str(context) if by_context else items[item].group or item for context, item in ratings]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    tagged = [[value in items[item].values for value in values] for _, item in ratings]
    return ItemScores(
        values=values,
        score=np.array([np.mean(cell) if cell else np.nan for cell in ratings.values()]),
        tagged=np.array(tagged, bool).reshape(len(ratings), len(values)),
        cluster=np.array([numbers[key] for key in keys]),
    )


def item_profile(
    responses: Sequence[Response],
    instrument: Instrument,
    system: ValueSystem,
    replicates: int,
    seed: int,
) -> list[ValueProfile]:
    """Give the raw and the centred profile of one steering, items counting once.

    Values without a parsed answer are given as NaN with their counts.
    """
    scores = item_scores(responses, instrument, system)
    items = {item.id: item for item in instrument.items}
    counted = scores.counted
    ratings = np.where(counted, scores.score, 0.0)
    marks = scores.tagged & counted[:, None]
    total = _by_cluster(ratings[:, None] * marks, scores.cluster)
    count = _by_cluster(marks.astype(float), scores.cluster)
    everything = (
        _by_cluster(ratings[:, None], scores.cluster)[:, 0],
        _by_cluster(counted[:, None].astype(float), scores.cluster)[:, 0],
    )
    answers = [(r.status == "parsed", items[r.item].values) for r in responses]
    rows = []
    for centred in (False, True):
        interval = bootstrap_ratio(total, count, replicates, seed, everything if centred else None)
        for column, value in enumerate(scores.values):
            parsed, missing = parsed_and_missing(answers, value)
            rows.append(
                ValueProfile(
                    steering=responses[0].steering,
                    value=value,
                    mean=float(interval.mean[column]),
                    low=float(interval.low[column]),
                    high=float(interval.high[column]),
                    n=int(interval.n[column]),
                    parsed=parsed,
                    missing=missing,
                    centred=centred,
                )
            )
    return rows


def _by_cluster(
    x: Float[np.ndarray, " cell *value"], cluster: Int[np.ndarray, " cell"]
) -> Float[np.ndarray, " cluster *value"]:
    """Sum the cells of each cluster."""
    out = np.zeros((cluster.max(initial=-1) + 1, *x.shape[1:]))
    np.add.at(out, cluster, x)
    return out
