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
    """What a profile is the mean of: one row a cluster, one column a value."""

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
    """Give the raw and the centred profile of one steering, with intervals.

    Values without a parsed answer are given as NaN with their counts.
    """
    items = {item.id: item for item in instrument.items}
    answers = [(r.status == "parsed", measures(items[r.item])) for r in responses]
    rows = []
    for centred, ratings in ((False, cells.raw), (True, cells.centred)):
        interval = bootstrap_mean(ratings, replicates, seed)
        for column, value in enumerate(cells.values):
            parsed, missing = parsed_and_missing(answers, value)
            rows.append(
                ValueProfile(
                    steering=responses[0].steering,
                    value=value,
                    mean=float(interval.mean[column]),
                    low=float(interval.low[column]),
                    high=float(interval.high[column]),
                    n=int(np.isfinite(ratings[:, column]).sum()),
                    parsed=parsed,
                    missing=missing,
                    centred=centred,
                )
            )
    return rows


def parsed_and_missing(
    answers: Sequence[tuple[bool, Sequence[str]]], value: str
) -> tuple[int, int]:
    """Count the answers on a value that could be read and those that could not.

    `answers`: whether each was parsed, and the values that it speaks of.
    """
    parsed = [is_parsed for is_parsed, values in answers if value in values]
    return sum(parsed), len(parsed) - sum(parsed)


def per_cluster(
    responses: Sequence[Response], instrument: Instrument, system: ValueSystem
) -> Cells:
    """Give the mean rating, or the mean score of what was chosen, of each value in each cluster.

    Clusters are the contexts where several were asked, else the items, those of one group together.
    """
    items = {item.id: item for item in instrument.items}
    measured = {value for r in responses for value in measures(items[r.item])}
    values = tuple(value for value in system.ids if value in measured)
    by_context = len({r.context for r in responses}) > 1
    keys = [str(r.context) if by_context else items[r.item].group or r.item for r in responses]
    sums = _Sums(values, tuple(dict.fromkeys(keys)))
    for key, response in zip(keys, responses, strict=True):
        if response.status != "parsed":
            continue
        item = items[response.item]
        if item.options:
            sums.add_choice(key, item, response)
        else:
            sums.add_rating(key, item, response.rating)
    if instrument.answer == "choice":
        return sums.cells(centre=_ratio(sums.chance, sums.count))
    rated, count = sums.rated, sums.rated_count
    if not by_context:
        # Items as clusters measure few values each: what is subtracted is the mean of all of them.
        rated, count = rated.sum(keepdims=True), count.sum(keepdims=True)
    return sums.cells(centre=_ratio(rated, count)[:, None])


class _Sums:
    """Sums of ratings and scores over the answers of each cluster."""

    def __init__(self, values: tuple[str, ...], clusters: tuple[str, ...]) -> None:
        self.values = values
        self.clusters = clusters
        self._row = {cluster: row for row, cluster in enumerate(clusters)}
        self._column = {value: column for column, value in enumerate(values)}
        shape = (len(clusters), len(values))
        self.total = np.zeros(shape)
        """Ratings, or scores of what was chosen [cluster, value]."""
        self.chance = np.zeros(shape)
        """Scores that choosing by lot would give [cluster, value]."""
        self.count = np.zeros(shape)
        """Answers [cluster, value]."""
        self.rated = np.zeros(len(clusters))
        """Ratings of all items, each once however many values it is tagged with [cluster]."""
        self.rated_count = np.zeros(len(clusters))
        """Answers behind them [cluster]."""

    def add_choice(self, key: str, item: Item, response: Response) -> None:
        """Count a choice, by its probabilities where they are known."""
        row = self._row[key]
        if response.logprobs:
            shares = softmax(np.array(response.logprobs))
        else:
            shares = np.eye(len(item.options))[response.chosen]
        for value, scores in served(item).items():
            column = self._column[value]
            self.total[row, column] += shares @ scores
            self.chance[row, column] += scores.mean()
            self.count[row, column] += 1

    def add_rating(self, key: str, item: Item, rating: float) -> None:
        """Count a rating for every value that the item is tagged with."""
        row = self._row[key]
        for value in item.values:
            self.total[row, self._column[value]] += rating
            self.count[row, self._column[value]] += 1
        if item.values:
            self.rated[row] += rating
            self.rated_count[row] += 1

    def cells(self, centre: np.ndarray) -> Cells:
        """Give the means, raw and less `centre` [cluster or 1, value or 1]."""
        raw = _ratio(self.total, self.count)
        return Cells(values=self.values, clusters=self.clusters, raw=raw, centred=raw - centre)


def measures(item: Item) -> tuple[str, ...]:
    """Name the values that an answer to the item speaks of, by id."""
    return tuple(served(item)) if item.options else item.values


def served(item: Item) -> dict[str, Float[np.ndarray, " answer"]]:
    """Give what each of the item's answers scores on every value that they tell apart.

    Value -> scores, in the order of the answers. A value on which all answers score the same says
    nothing about a choice and is left out.
    """
    answers = [dict(option.scores) for option in item.options]
    values = dict.fromkeys(value for scores in answers for value in scores)
    by_value = {}
    for value in values:
        scores = np.array([answer.get(value, 0.0) for answer in answers])
        if np.ptp(scores) > 0:
            by_value[value] = scores
    return by_value


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Divide, with NaN where nothing was counted."""
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
