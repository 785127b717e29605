"""Which values an item measures, by people who rated it and whose values are known.

The method is that of Han et al. (ACL 2025).

1. People rate how similar an item is to their own thoughts, and have a value score each, centred on
   their own mean answer (MRAT).
2. An item-value pair is the Spearman correlation, over the people who rated the item, of rating and
   value score, with its p (Student's t).
3. `measured_values` keeps pairs of r > 0.3 and p < .05. Only agreement counts: an item that people
   of a value reject measures no value here.

`false_discoveries` says what the paper does not: how many pairs would be kept if nobody's values
had anything to do with the ratings. Left out: people's questionnaires. Their value scores are read
as they were computed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from feature_store.errors import BadInput
from feature_store.files import read_json
from feature_store.records import ValueSystem

Ratings = Mapping[str, Mapping[str, float]]
"""Item -> person -> rating."""
BLOCKS = {"schwartz10": "pvq", "higher-order": "higher_pvq"}
"""Value system -> its block in a published file of people."""


class ItemValueCorrelation(NamedTuple):
    """How ratings of an item go together with scores on a value."""

    item: str
    """Id of the item."""
    value: str
    """Id of the value."""
    r: float
    """Spearman correlation of ratings and value scores [-1 to 1]; NaN where either is the same
    for everyone."""
    p: float
    """Two-sided p of no correlation; NaN where it is not known [0 to 1]."""
    n: int
    """People; 0 where it is not known."""


def tag_items(
    ratings: Ratings, profiles: Mapping[str, Mapping[str, float]]
) -> list[ItemValueCorrelation]:
    """Correlate the ratings of every item with every value, over the people who rated it.

    `profiles`: person -> value -> centred score. Raises BadInput for a person without a profile, or
    an item that fewer than three people rated.
    """
    correlations: list[ItemValueCorrelation] = []
    for item, rated in ratings.items():
        values = _shared_values(item, rated, profiles)
        scores = np.array(
            [[profiles[person][value] for value in values] for person in rated], float
        )
        n = len(rated)
        r = _spearman(np.array(list(rated.values()), float), scores)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = r * np.sqrt((n - 2) / (1 - r**2))
        p = 2 * special.stdtr(n - 2, -np.abs(t))
        for k, value in enumerate(values):
            correlations.append(
                ItemValueCorrelation(item=item, value=value, r=float(r[k]), p=float(p[k]), n=n)
            )
    return correlations


def _shared_values(
    item: str, rated: Mapping[str, float], profiles: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """The values on which everyone who rated an item has a score."""
    if missing := [person for person in rated if person not in profiles]:
        raise BadInput(
            f"{missing[0]} rated {item} and has no value scores. Give everyone's, or drop the"
            " rating."
        )
    if len(rated) < 3:
        raise BadInput(
            f"{item} was rated by {len(rated)}; a correlation needs at least 3 people. Drop the"
            " item."
        )
    first = next(iter(rated))
    values = list(profiles[first])
    for person in rated:
        if set(profiles[person]) != set(values):
            raise BadInput(
                f"{person} has scores on other values than {first}. Give everyone the same."
            )
    return values


def _spearman(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, "n value"]
) -> Float[np.ndarray, " value"]:
    """Rank correlation of `x` with each column; NaN where either is the same for everyone."""
    a, b = stats.rankdata(x), stats.rankdata(y, axis=0)
    a, b = a - a.mean(), b - b.mean(0)
    length = np.sqrt((a**2).sum() * (b**2).sum(0))
    return np.divide(a @ b, length, out=np.full(b.shape[1], np.nan), where=length > 0)


def measured_values(
    correlations: Sequence[ItemValueCorrelation], least_r: float, most_p: float
) -> dict[str, tuple[str, ...]]:
    """Name the values that each item measures; r alone decides where p is not known."""
    measured: dict[str, tuple[str, ...]] = {}
    for correlation in correlations:
        # An unknown p is NaN, and not at least anything.
        if correlation.r > least_r and not correlation.p >= most_p:
            item = correlation.item
            measured[item] = (*measured.get(item, ()), correlation.value)
    return measured


def false_discoveries(
    correlations: Sequence[ItemValueCorrelation], least_r: float, most_p: float
) -> tuple[int, float]:
    """Count the pairs that are kept, and those that would be if nothing were correlated.

    The second number follows from the number of people alone, in as many pairs.
    """
    count = sum(map(len, measured_values(correlations, least_r, most_p).values()))
    chance = 0.0
    for correlation in correlations:
        n = correlation.n
        if n > 2:  # the larger of both bounds decides, in the upper tail alone
            t = least_r * np.sqrt((n - 2) / (1 - least_r**2))
            chance += min(float(special.stdtr(n - 2, -t)), most_p / 2)
    return count, chance


def read_ratings(file: Path) -> dict[str, dict[str, float]]:
    """Read raw ratings in the published form: item -> person -> rating.

    The file holds groups of `{query: [{"option_id": ..., "data": [[rating, person], ...]}]}`; items
    are called `query-option`. Raises NotFound or BadInput where it does not.
    """
    ratings: dict[str, dict[str, float]] = {}
    try:
        for group in read_json(file, finite=False):
            for query, answers in group.items():
                for answer in answers:
                    item = f"{query}-{answer['option_id']}"
                    if item in ratings:
                        raise BadInput(
                            f"{file} rates item {item} twice. Each item belongs to one group of"
                            " people."
                        )
                    ratings[item] = _ratings_of(answer["data"], item, file)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{file} is no file of ratings: expected groups of query -> option_id and data (rating,"
            f" person), got {_fault(error)}."
        ) from None
    return ratings


def _ratings_of(data: Sequence[Any], item: str, file: Path) -> dict[str, float]:
    """Person -> rating of one item. Raises BadInput for a double one or one that is not finite."""
    ratings = {str(person): float(rating) for rating, person in data}
    if len(ratings) < len(data):
        raise BadInput(f"{file}: somebody rates item {item} twice. Keep one rating a person.")
    if not all(np.isfinite(list(ratings.values()))):
        raise BadInput(f"{file}: a rating of item {item} is no number. Leave it out.")
    return ratings


def read_profiles(file: Path, system: ValueSystem) -> dict[str, dict[str, float]]:
    """Read people's value scores in the published form: person -> value -> score.

    The file holds `{person: {"pvq": {value: score}, "higher_pvq": {...}}}`. Raises NotFound or
    BadInput where it does not.
    """
    block, people = BLOCKS.get(system.id, system.id), read_json(file, finite=False)
    profiles = {}
    try:
        for person, scores in people.items():
            profiles[str(person)] = {
                system.resolve(name): float(score) for name, score in scores[block].items()
            }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{file} is no file of people's values: expected person -> {block} -> value -> score,"
            f" got {_fault(error)}."
        ) from None
    return profiles


def _fault(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
