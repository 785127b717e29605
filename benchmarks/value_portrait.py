"""Value Portrait's released score tables and item-value correlations, computed again from its
released answers and ratings.

1. Eight models' answers, six prompts an item, become responses; the instrument's own score is set
   beside the released table in every cell: centred and original mean, standard deviation over
   items, and number of items, of the ten values and the four higher-order ones.
2. Raw ratings and value scores of the survey's people become correlations
   (`workbench/instruments/value_portrait/tags.py`), compared with the released ones.

The tags are those of the answers' own file where they differ from the item file: one model's lacks
the tags of one item, and so does its table. Group 0 of the survey is known to differ from what was
published, and is not counted.
"""

import json
from pathlib import Path
from typing import NamedTuple

from feature_store import registry
from feature_store.errors import NotFound
from feature_store.files import read_json
from feature_store.records import Instrument, Response, ValueSystem
from workbench.instruments.value_portrait import FAMILIES
from workbench.instruments.value_portrait.tags import (
    BLOCKS,
    false_discoveries,
    read_profiles,
    read_ratings,
    tag_items,
)
from workbench.measuring.by_item import item_profile, item_scores
from workbench.measuring.questionnaire import open_instrument

NAME = "value_portrait"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "value_portrait"
SETTINGS = (0.3, 0.05)
"""Least r and most p of a tag."""


class Cell(NamedTuple):
    model: str
    """Who answered."""
    value: str
    """Id of the value."""
    figure: str
    """centered_mean, original_mean, std_dev or n."""
    difference: float
    """Between ours and the released one [rating points, or items]."""


class Difference(NamedTuple):
    r: float
    """Largest difference of a correlation [0 to 2]."""
    p: float
    """Largest difference of its p [0 to 1]."""
    pairs: int
    """Item-value pairs compared."""


def instrument(folder: Path, system: ValueSystem, p: bool = True) -> Instrument:
    """The released items; `p`: those whose p is not below .05 are dropped."""
    told = [f"items={folder / 'query-response-tagged.json'}"]
    return open_instrument(
        "value-portrait",
        [*told, f"p_values={folder / 'pvq_correlation_results.json'}"] if p else told,
        system,
    ).instrument


def scores(folder: Path) -> list[Cell]:
    """Every cell of the released tables."""
    found = []
    for name, family in FAMILIES.items():
        system = registry.get("values", name)
        made = instrument(folder, system, p=name == "schwartz10")
        known = {item.id: item for item in made.items}
        for file in sorted((folder / "answers").glob("*.json")):
            told = read_json(file)
            # An answer file repeats the tags; an item that lacks them there is in no score of that
            # model.
            own = {f"{a['portrait_id']}-{a['option_id']}" for a in told if a.get(family)}
            answers = [
                a
                for a in told
                if (id := f"{a['portrait_id']}-{a['option_id']}") in known and id in own
            ]
            responses = [
                Response(
                    item=f"{a['portrait_id']}-{a['option_id']}",
                    value="",
                    context=0,
                    wording=prompt.removesuffix("_reversed"),
                    order="descending" if prompt.endswith("_reversed") else "ascending",
                    seed=0,
                    steering=file.stem,
                    text="",
                    logprobs=(),
                    rating=rating,
                    status="parsed",
                )
                for a in answers
                for prompt, rating in a["version_responses"].items()
            ]
            ours = item_scores(responses, made, system)
            means = {
                (row.value, row.centred): row.mean
                for row in item_profile(responses, made, system, 100, 0)
            }
            table = json.loads((folder / "scores" / file.name).read_text())["scores"][BLOCKS[name]]
            for value, cells in table.items():
                id = system.resolve(value)
                own_items = ours.score[ours.tagged[:, ours.values.index(id)]]
                figures = {
                    "centered_mean": means[id, True],
                    "original_mean": means[id, False],
                    "std_dev": float(own_items.std()),
                    "n": len(own_items),
                }
                found += [
                    Cell(
                        model=file.stem,
                        value=id,
                        figure=figure,
                        difference=abs(figures[figure] - told),
                    )
                    for figure, told in cells.items()
                ]
    return found


def correlations(folder: Path) -> dict[int, Difference]:
    """Survey group -> how far its correlations are from the released ones."""
    system = registry.get("values", "schwartz10")
    pairs = {
        (pair.item, pair.value): pair
        for pair in tag_items(
            read_ratings(folder / "survey.json"), read_profiles(folder / "value.json", system)
        )
    }
    released = {
        (f"{row['portrait_id']}-{row['option_id']}", system.resolve(row["pvq_dimension"])): row
        for row in read_json(folder / "pvq_correlation_results.json")
    }
    found = {}
    for number, group in enumerate(read_json(folder / "survey.json")):
        rows = [(pairs[key], row) for key, row in released.items() if key[0].split("-")[0] in group]
        r, p = (
            max(abs(getattr(pair, own) - row[theirs]) for pair, row in rows)
            for own, theirs in (("r", "spearman_corr"), ("p", "spearman_p_value"))
        )
        found[number] = Difference(r, p, len(rows))
    return found


def main() -> dict:
    """Reach: every cell to 1e-6."""
    if not DATA.exists():
        raise NotFound(
            f"This needs Value Portrait's released files in {DATA}. See"
            " docs/instruments/value-portrait.md."
        )
    cells, groups = scores(DATA), correlations(DATA)
    largest, counted = (
        max(cell.difference for cell in cells),
        {k: one for k, one in groups.items() if k},
    )
    by_r = max(one.r for one in counted.values())
    system = registry.get("values", "schwartz10")
    pairs = tag_items(
        read_ratings(DATA / "survey.json"), read_profiles(DATA / "value.json", system)
    )
    kept, chance = false_discoveries(pairs, *SETTINGS)
    items = instrument(DATA, system).items
    print(
        f"{len(cells)} cells of {len({cell.model for cell in cells})} tables: largest difference"
        f" {largest:.1e}"
    )
    print(
        f"{sum(one.pairs for one in counted.values())} correlations of groups 1 to 11: {by_r:.1e};"
        f" group 0: {groups[0].r:.3f}"
    )
    print(
        f"{kept} tags from raw ratings; {chance:.0f} of as many pairs would be kept if nobody's"
        " values had to do with the ratings"
    )
    return {
        "name": NAME,
        "value": max(largest, by_r),
        "reach": 1e-6,
        "holds": max(largest, by_r, *(one.p for one in counted.values())) <= 1e-6,
        "cells": len(cells),
        "scores": largest,
        "correlations": by_r,
        "pairs": sum(one.pairs for one in counted.values()),
        "group_0": groups[0].r,
        "items": len(items),
        "tags": sum(len(item.tags) for item in items),
        "tags_raw": kept,
        "tags_by_chance": chance,
    }
