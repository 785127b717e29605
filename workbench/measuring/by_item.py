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
from workbench.statistics.intervals import bootstrap_ratio


class ItemScores(NamedTuple):
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
        """Items that enter the mean of all: scored, and tagged with at least one value."""
        return np.isfinite(self.score) & self.tagged.any(1)


def item_scores(
    responses: Sequence[Response], instrument: Instrument, system: ValueSystem
) -> ItemScores:
    """Each item's score, its values and its cluster."""
    items = {item.id: item for item in instrument.items}
    by_context = len({r.context for r in responses}) > 1
    told: dict[tuple[int, str], list[float]] = {}
    for r in responses:
        told.setdefault((r.context, r.item), []).extend([r.rating] if r.status == "parsed" else [])
    named = {value for _, item in told for value in items[item].values}
    values = tuple(value for value in system.ids if value in named)
    keys = [str(context) if by_context else items[item].group or item for context, item in told]
    places = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return ItemScores(
        values=values,
        score=np.array([np.mean(ratings) if ratings else np.nan for ratings in told.values()]),
        tagged=np.array(
            [[value in items[item].values for value in values] for _, item in told], bool
        ).reshape(len(told), len(values)),
        cluster=np.array([places[key] for key in keys]),
    )


def item_profile(
    responses: Sequence[Response],
    instrument: Instrument,
    system: ValueSystem,
    replicates: int,
    seed: int,
) -> list[ValueProfile]:
    """Raw and centred profile of one steering.

    Values without a parsed answer are given as NaN with their counts.
    """
    found, items = (
        item_scores(responses, instrument, system),
        {item.id: item for item in instrument.items},
    )
    marks = found.tagged & found.counted[:, None]
    rated = np.where(found.counted, found.score, 0.0)
    total, count = (
        _by_cluster(rated[:, None] * marks, found.cluster),
        _by_cluster(marks.astype(float), found.cluster),
    )
    everything = (
        _by_cluster(rated[:, None], found.cluster)[:, 0],
        _by_cluster(found.counted[:, None].astype(float), found.cluster)[:, 0],
    )
    answers = [(r.status == "parsed", items[r.item].values) for r in responses]
    rows = []
    for centred in (False, True):
        interval = bootstrap_ratio(total, count, replicates, seed, everything if centred else None)
        for column, value in enumerate(found.values):
            own = [parsed for parsed, values in answers if value in values]
            rows.append(
                ValueProfile(
                    steering=responses[0].steering,
                    value=value,
                    mean=float(interval.mean[column]),
                    low=float(interval.low[column]),
                    high=float(interval.high[column]),
                    n=int(interval.n[column]),
                    parsed=sum(own),
                    missing=len(own) - sum(own),
                    centred=centred,
                )
            )
    return rows


def _by_cluster(
    x: Float[np.ndarray, " cell *value"], cluster: Int[np.ndarray, " cell"]
) -> Float[np.ndarray, " cluster *value"]:
    out = np.zeros((cluster.max(initial=-1) + 1, *x.shape[1:]))
    np.add.at(out, cluster, x)
    return out
