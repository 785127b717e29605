"""Which values an item measures, found from people who rated it and told their values (Han et al.,
ACL 2025).

1. People rate how similar an item is to their own thoughts, and have a value score each, centred on
   their own mean answer (MRAT).
2. An item-value pair is the Spearman correlation, over the people who rated the item, of rating and
   value score, with its p (Student's t).
3. `tags` keeps pairs of r > 0.3 and p < .05. Only agreement counts: an item that people of a value
   reject measures no value here.

`false_discoveries` says what the paper does not: how many of the kept pairs would be kept had
nobody's values anything to do with the ratings. Left out: people's questionnaires. Their value
scores are read as they were computed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from feature_store.errors import BadInput, NotFound
from feature_store.records import ValueSystem

Ratings = Mapping[str, Mapping[str, float]]
"""Item -> person -> rating."""
BLOCKS = {"schwartz10": "pvq", "higher-order": "higher_pvq"}
"""Value system -> its block in a published file of people."""


class Pair(NamedTuple):
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


def tag_items(ratings: Ratings, profiles: Mapping[str, Mapping[str, float]]) -> list[Pair]:
    """Every item-value pair; `profiles` are people's centred value scores. Raises BadInput for a
    person without a profile.
    """
    found: list[Pair] = []
    for item, told in ratings.items():
        if missing := [person for person in told if person not in profiles]:
            raise BadInput(
                f"{missing[0]} rated {item} and has no value scores. Give everyone's, or drop the"
                " rating."
            )
        if len(told) < 3:
            raise BadInput(
                f"{item} was rated by {len(told)}; a correlation needs at least 3 people. Drop the"
                " item."
            )
        values = list(profiles[next(iter(told))])
        if odd := next((person for person in told if set(profiles[person]) != set(values)), None):
            raise BadInput(
                f"{odd} has scores on other values than {next(iter(told))}. Give everyone the same."
            )
        scores = np.array([[profiles[person][value] for value in values] for person in told], float)
        r = _spearman(np.array(list(told.values()), float), scores)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = r * np.sqrt((len(told) - 2) / (1 - r**2))
        p = 2 * special.stdtr(len(told) - 2, -np.abs(t))
        found += [
            Pair(item=item, value=value, r=float(r[at]), p=float(p[at]), n=len(told))
            for at, value in enumerate(values)
        ]
    return found


def _spearman(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, "n value"]
) -> Float[np.ndarray, " value"]:
    a, b = stats.rankdata(x), stats.rankdata(y, axis=0)
    a, b = a - a.mean(), b - b.mean(0)
    length = np.sqrt((a**2).sum() * (b**2).sum(0))
    return np.divide(a @ b, length, out=np.full(b.shape[1], np.nan), where=length > 0)


def tags(pairs: Sequence[Pair], least_r: float, most_p: float) -> dict[str, tuple[str, ...]]:
    """Item -> the values it measures; r alone decides where p is not known."""
    kept: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        if pair.r > least_r and not pair.p >= most_p:
            kept[pair.item] = (*kept.get(pair.item, ()), pair.value)
    return kept


def false_discoveries(pairs: Sequence[Pair], least_r: float, most_p: float) -> tuple[int, float]:
    """How many pairs are kept, and how many of as many pairs without any correlation would be,
    from their p alone.
    """
    kept = sum(map(len, tags(pairs, least_r, most_p).values()))
    chance = 0.0
    for pair in pairs:
        if pair.n > 2:  # the larger of both bounds decides, in the upper tail alone
            t = least_r * np.sqrt((pair.n - 2) / (1 - least_r**2))
            chance += min(float(special.stdtr(pair.n - 2, -t)), most_p / 2)
    return kept, chance


def read_ratings(file: Path) -> dict[str, dict[str, float]]:
    """Ratings in the published form: groups of `{query: [{"option_id": ..., "data": [[rating,
    person], ...]}]}`; items are `query-option`.
    """
    found: dict[str, dict[str, float]] = {}
    try:
        for group in read_json(file):
            for query, answers in group.items():
                for answer in answers:
                    item, told = (
                        f"{query}-{answer['option_id']}",
                        {str(person): float(rating) for rating, person in answer["data"]},
                    )
                    if item in found:
                        raise BadInput(
                            f"{file} rates item {item} twice. Each item belongs to one group of"
                            " people."
                        )
                    if len(told) < len(answer["data"]):
                        raise BadInput(
                            f"{file}: somebody rates item {item} twice. Keep one rating a person."
                        )
                    if not all(np.isfinite(list(told.values()))):
                        raise BadInput(
                            f"{file}: a rating of item {item} is no number. Leave it out."
                        )
                    found[item] = told
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{file} is no file of ratings: expected groups of query -> option_id and data (rating,"
            f" person), got {_said(error)}."
        ) from None
    return found


def read_profiles(file: Path, system: ValueSystem) -> dict[str, dict[str, float]]:
    """People's value scores in the published form: `{person: {"pvq": {value: score},
    "higher_pvq": {...}}}`.
    """
    block, told = BLOCKS.get(system.id, system.id), read_json(file)
    try:
        return {
            str(person): {
                system.resolve(name): float(score) for name, score in known[block].items()
            }
            for person, known in told.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{file} is no file of people's values: expected person -> {block} -> value -> score,"
            f" got {_said(error)}."
        ) from None


def read_json(file: Path) -> Any:
    """The file's JSON. Raises NotFound, or BadInput where it is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound(f"There is no file {file}. Give the path of a JSON file.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not UTF-8. Save it as UTF-8.") from None
    except ValueError as error:
        raise BadInput(f"{file} is not valid JSON: {str(error).splitlines()[0]}.") from None


def _said(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
