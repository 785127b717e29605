"""Groups of features and directions of a run of labels, as units that a sweep steers.

1. `units_that_read` finds the groups, or directions, of the run that tell held-out texts apart, of
   the part of a value that is wanted.
2. `value_units` makes units of them. A group is steered along its features with its weights, a
   direction as it is stored. Both are turned by their polarity, as single features are.

Left out: which texts they are of; see `features/units.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pandas as pd

from feature_store.errors import BadInput
from feature_store.records import Steering
from workbench.sweeps.sweep import Intervention, SteeredPart
from workbench.workspace import Workspace


def what_is_steered(config: Mapping[str, Any]) -> str:
    """Say what a sweep steered, and of which part of a value: `features`, `directions of its pole`.

    `config`: the settings of its run.
    """
    part = config.get("part", "any")
    return config.get("steer", "features") + ("" if part == "any" else f" of its {part}")


def units_that_read(
    study: Workspace,
    label_run: str,
    steered: Literal["groups", "directions"],
    part: SteeredPart,
    unproven: bool = False,
) -> pd.DataFrame:
    """Give the accepted groups, or directions, of a run of labels: rows of `value_units`.

    They come by value, in the system's order, the best told apart first; with `unproven` all of
    them. Raises BadInput where there is none, with the nearest.
    """
    unit = steered.removesuffix("s")
    rows = study.store.sql(
        "SELECT * FROM value_units WHERE run = ? AND unit = ? AND (part = ? OR ? = 'any')",
        [label_run, unit, part, part],
    )
    chosen = rows if unproven else rows[rows.accepted.astype(bool)]
    if chosen.empty:
        raise BadInput(_none_of(rows, label_run, unit, part))
    order = {value: number for number, value in enumerate(study.system.ids)}
    by_score = chosen.sort_values("score", ascending=False)
    return by_score.sort_values("value", key=lambda values: values.map(order), kind="stable")


def unit_name(value: str, polarity: int, part: str) -> str:
    """Name a group or direction of a run of labels, such as `power/pole`.

    One of texts that reject the value is `power/pole/rejected`.
    """
    return f"{value}/{part}" + ("/rejected" if polarity < 0 else "")


def value_units(
    study: Workspace, label_run: str, rows: pd.DataFrame, template: Steering
) -> list[Intervention]:
    """List groups and directions (rows of `value_units`) as units, without a strength."""
    groups = _groups(study, label_run)
    units = []
    for number, row in enumerate(rows.itertuples()):
        if row.unit == "group":
            features = groups[str(row.value), int(row.polarity), str(row.part)]
            steering = replace(template, features=features)
        else:
            steering = replace(template, direction=f"{label_run}/{row.value}/{row.part}")
        units.append(
            Intervention(
                unit_id=number,
                kind=row.unit,
                feature=-1,
                value=str(row.value),
                polarity=int(row.polarity),
                steering=steering,
            )
        )
    return units


def _groups(
    study: Workspace, label_run: str
) -> dict[tuple[str, int, str], tuple[tuple[int, float], ...]]:
    """Gather the groups of a run: (value, polarity, part) -> its (feature, weight) pairs."""
    rows = study.store.sql(
        "SELECT * FROM group_features WHERE run = ? ORDER BY value, polarity, part, feature",
        [label_run],
    )
    return {
        (str(value), int(polarity), str(part)): tuple(
            (int(row.feature), float(row.weight)) for row in members.itertuples()
        )
        for (value, polarity, part), members in rows.groupby(["value", "polarity", "part"])
    }


def _none_of(rows: pd.DataFrame, label_run: str, unit: str, part: str) -> str:
    """Say that nothing can be steered, and what comes nearest."""
    of = "" if part == "any" else f" of a value's {part}"
    if rows.score.notna().any():
        best = rows.loc[rows.score.idxmax()]
        nearest = (
            f" The nearest is that of {best.value}: held-out AUROC {best.score:.2f}"
            f" [{best.low:.2f}, {best.high:.2f}], q {best.q:.2g}."
        )
    else:
        nearest = ""
    return (
        f"{label_run} has no {unit}{of} that tells held-out texts apart.{nearest} Label with more"
        " texts, or with texts in two poles (`workbench label --labelled poles`)."
    )
