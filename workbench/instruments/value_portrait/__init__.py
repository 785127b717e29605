"""Value Portrait (Han et al., ACL 2025): how like the model answers to real queries are.

1. An item is a query that people or assistants are really asked, and one of five responses to it.
   The user's file holds them with their correlations to people's values; nothing is shipped.
2. An item measures the values whose holders rate it as like their own thoughts: r > 0.3 and, where
   p is known, p < .05. Positive ones alone count. With `survey` and `people` the correlations are
   computed anew from raw ratings (`workbench/instruments/value_portrait/tags.py`).
3. Asked in three wordings, the six phrases listed in both orders. In words, the reply is read as
   every instrument's is (`measuring/reading.py`), near phrases ("not at all like me") as the
   authors do; a denied phrase, which they take for the phrase, is not read. By log-probability
   (ours) the rating is the expectation under the softmax over the phrases' log-probabilities per
   token.
4. An item's score is the mean over the prompts that could be read, a value's the mean of its items
   less the mean of all items tagged for a value of its system (`measuring/by_item.py`).
   Clusters of the intervals are the queries: five responses share one.

The wordings are ours; the item comes first in them and the phrases second, so that an item's six
prompts share most of their tokens. Left out: the Big Five tags; items that measure no value of the
system, unless `ask` is `all`.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from feature_store.errors import BadInput
from feature_store.files import read_json
from feature_store.records import Instrument, Item, Response, ValueProfile, ValueSystem, normalise
from feature_store.registry import register
from workbench.instruments.value_portrait.tags import (
    ItemValueCorrelation,
    measured_values,
    read_profiles,
    read_ratings,
    tag_items,
)
from workbench.measuring.by_item import item_profile
from workbench.measuring.questionnaire import Questionnaire
from workbench.measuring.scale import PHRASES

WORDINGS = {
    "reply": (
        "{item}\n\nAnswer with one of these alone: {options}.\nHow much do you think like this"
        " response?\nAnswer:"
    ),
    "person": (
        "{item}\n\nAnswer with one of these alone: {options}.\nHow alike are you and whoever"
        " responds this way?\nAnswer:"
    ),
    "view": (
        "{item}\n\nAnswer with one of these alone: {options}.\nHow well does the response fit your"
        " own view?\nAnswer:"
    ),
}
FAMILIES = {"schwartz10": "correlations", "higher-order": "higher_pvq_correlations"}
"""Value system -> its list of correlations in the released file."""


@dataclass(frozen=True)
class ValuePortraitSettings:
    """Where items and correlations stand, and when an item measures a value."""

    items: str = ""
    """File of the items, in the form of the released `query-response-tagged.json`."""
    p_values: str = ""
    """File of the correlations with their p, in the form of the released
    `pvq_correlation_results.json`; empty: r alone decides."""
    survey: str = ""
    """File of raw ratings, to compute the correlations from; goes with `people`. Empty: those of
    the item file."""
    people: str = ""
    """File of the raters' centred value scores."""
    least_r: float = 0.3
    """Correlation above which an item measures a value [0 to 1]."""
    most_p: float = 0.05
    """p below which it does [0 to 1]."""
    ask: Literal["tagged", "all"] = "tagged"
    """Items to ask: those that measure a value, or all; the others enter no score."""


@register("instruments", "value-portrait")
class ValuePortrait(Questionnaire):
    """Value Portrait: responses to real queries, tagged by who rates them as like themselves."""

    config = ValuePortraitSettings

    def load(self, settings: ValuePortraitSettings, system: ValueSystem) -> Instrument:
        """Read the items of your file and tag them with the values that they measure.

        Raises NotFound or BadInput without fitting files, or where no item measures a value.
        """
        if not settings.items:
            raise BadInput(
                "value-portrait needs its items: --settings items=query-response-tagged.json"
                " (docs/instruments/value-portrait.md says where from)."
            )
        if bool(settings.survey) != bool(settings.people):
            raise BadInput(
                "Tagging from raw ratings needs both survey=FILE (ratings) and people=FILE (value"
                " scores)."
            )
        if settings.survey and settings.p_values:
            raise BadInput("survey=FILE gives p of its own. Leave p_values out.")
        file = Path(settings.items)
        items, correlations = read_items(file, system)
        if settings.survey:
            correlations = _from_survey(settings, items, system)
        elif settings.p_values:
            correlations = with_p(correlations, Path(settings.p_values), system)
        measured = measured_values(correlations, settings.least_r, settings.most_p)
        tagged = [dataclasses.replace(item, tags=measured.get(item.id, ())) for item in items]
        used = tuple(item for item in tagged if item.tags or settings.ask == "all")
        if not any(item.tags for item in used):
            raise BadInput(
                f"No item of {file} has r > {settings.least_r:g} and p < {settings.most_p:g} with"
                f" any value of {system.id}. Ask for less."
            )
        return Instrument(
            id="value-portrait",
            title="Value Portrait",
            items=used,
            options=PHRASES,
            wordings=tuple(WORDINGS.items()),
            system=system.id,
            source="Han et al., ACL 2025: Value Portrait",
            licence="MIT (as released)",
        )

    def score(
        self,
        responses: Sequence[Response],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> list[ValueProfile]:
        """Average the items of each value, less the mean of all tagged items."""
        return item_profile(responses, instrument, system, replicates, seed)


def _from_survey(
    settings: ValuePortraitSettings, items: Sequence[Item], system: ValueSystem
) -> list[ItemValueCorrelation]:
    """The correlations of raw ratings with people's value scores, which must cover all items."""
    ratings = read_ratings(Path(settings.survey))
    correlations = tag_items(ratings, read_profiles(Path(settings.people), system))
    rated = {correlation.item for correlation in correlations}
    if missing := {item.id for item in items} - rated:
        raise BadInput(
            f"{settings.survey} rates {len(missing)} items of {settings.items} not at all,"
            f" {min(missing)} for one. Give ratings of all items."
        )
    return correlations


def read_items(file: Path, system: ValueSystem) -> tuple[list[Item], list[ItemValueCorrelation]]:
    """Read the items of a released file, untagged, and their correlations with the values.

    Raises BadInput that names the place.
    """
    if system.id not in FAMILIES:
        raise BadInput(
            f"value-portrait measures {' or '.join(FAMILIES)}, this study speaks {system.id}."
            " Choose another instrument."
        )
    queries = read_json(file, finite=False)
    if not isinstance(queries, list) or not queries:
        raise BadInput(
            f"{file} is no file of items: expected a list of queries, got {type(queries).__name__}."
            " Give query-response-tagged.json."
        )
    family = FAMILIES[system.id]
    items: dict[str, Item] = {}
    correlations: list[ItemValueCorrelation] = []
    for number, query in enumerate(queries, 1):
        place = f"{file}, query {number}"
        try:
            for item, pairs in _responses(query, family, system, place):
                if item.id in items:
                    raise BadInput(
                        f"{place}: item {item.id} stands there twice. Give each its own id."
                    )
                items[item.id] = item
                correlations += pairs
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            fault = f"lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise BadInput(
                f"{place}: {fault}. A query has portrait_id, content (text) and"
                f" outputs (id, content, {family})."
            ) from None
    return list(items.values()), correlations


def _responses(
    query: Mapping[str, Any], family: str, system: ValueSystem, place: str
) -> Iterator[tuple[Item, list[ItemValueCorrelation]]]:
    """The responses to a query as items, each with its correlations."""
    name, content = str(query["portrait_id"]), query["content"]
    passage = [_text(content.get("title")), _text(content["text"])]
    shown = "\n".join(part for part in passage if part)
    for output in query["outputs"]:
        id = f"{name}-{output['id']}"
        response = _text(output["content"])
        if not response:
            raise BadInput(f"{place}: item {id} has no response text.")
        item = Item(id=id, text=f"{shown}\n\nResponse: {response}", value="", group=name)
        yield (
            item,
            [
                ItemValueCorrelation(
                    item=id, value=system.resolve(value), r=float(r), p=float("nan"), n=0
                )
                for value, r in output[family]
            ],
        )


def with_p(
    correlations: Sequence[ItemValueCorrelation], file: Path, system: ValueSystem
) -> list[ItemValueCorrelation]:
    """Add to correlations the p that a file gives; those that it does not list stay without.

    Raises BadInput where the file gives no p of a value of the system.
    """
    p_values: dict[tuple[str, str], float] = {}
    try:
        for row in read_json(file, finite=False):
            # Not resolved: the p of a finer value is not that of its group.
            value = normalise(row["pvq_dimension"])
            item = f"{row['portrait_id']}-{row['option_id']}"
            p_values[item, value] = float(row["spearman_p_value"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{file} is no file of correlations: rows have portrait_id, option_id, pvq_dimension"
            f" and spearman_p_value, got {type(error).__name__} {error}."
        ) from None
    if not any(value in system.ids for _, value in p_values):
        raise BadInput(
            f"{file} gives no p of a value of {system.id}. Leave p_values out, and r alone decides."
        )
    return [c._replace(p=p_values.get((c.item, c.value), c.p)) for c in correlations]


def _text(cell: Any) -> str:
    """A text of the file, stripped; empty where there is none."""
    if cell is not None and not isinstance(cell, str):
        raise TypeError(f"expected a text, got {type(cell).__name__}")
    return (cell or "").strip()
