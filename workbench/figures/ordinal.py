"""Bayesian ordinal regression: how much each condition holds each value, by what two conditions
differ, and the contrasts of the circle's two axes.

Marks are posterior means, bars central 95 % intervals. The first condition is hollow.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import (
    CLICKED,
    LEGEND_ABOVE,
    WHOLE,
    bars,
    dress,
    faded,
    looks,
    names,
    plain,
    signed,
)

AXIS = "posterior mean [latent SD], bars: 95 % interval"


def theta_rows(thetas: pd.DataFrame, system: ValueSystem) -> go.Figure:
    """Draw theta, how much every condition holds each value, a row a value.

    `thetas`: `queries.ordinal_thetas`. `customdata` of a point is [condition, value].
    """
    return _by_value(thetas.assign(key=thetas.value, label=thetas.condition), system)


def change_rows(changes: pd.DataFrame, system: ValueSystem) -> go.Figure:
    """Draw what each value differs by between two conditions, a row a value.

    `changes`: `queries.ordinal_contrasts`. `customdata` of a point is [condition, value].
    """
    return _by_value(
        changes.assign(key=changes.contrast, label=changes.condition + " less " + changes.other),
        system,
        hollow=False,
    )


def contrast_rows(contrasts: pd.DataFrame) -> go.Figure:
    """Draw contrasts of values in conditions, or between two conditions, a row a contrast.

    `contrasts`: `queries.ordinal_contrasts`. `customdata` of a point is [condition, contrast].
    """
    order = list(dict.fromkeys(contrasts.contrast))
    between = contrasts.other != ""
    label = np.where(between, contrasts.condition + " less " + contrasts.other, contrasts.condition)
    titles = [plain(name).replace(" - ", "<br>less ") for name in order]
    return _rows(
        contrasts.assign(label=label, key=contrasts.contrast),
        order,
        titles,
        hollow=not between.any(),
    )


def _by_value(rows: pd.DataFrame, system: ValueSystem, hollow: bool = True) -> go.Figure:
    name_of = names(system)
    order = [v for v in system.ids if v in set(rows.key)]
    return _rows(rows, order, [name_of[v] for v in order], hollow)


def _rows(
    rows: pd.DataFrame, order: list[str], titles: list[str], hollow: bool = True
) -> go.Figure:
    """Draw posterior means, a row a key and a mark a label; `hollow`: the first label is hollow.

    `order` has the keys from the top, `titles` what stands beside them.
    """
    figure, subjects = go.Figure(), list(dict.fromkeys(rows.label))
    # Differences have no reference among them, so nobody takes the first look, which is hollow.
    look = looks(subjects if hollow else ["", *subjects])
    place = {key: number for number, key in enumerate(order)}
    title_of = {key: title.replace("<br>", " ") for key, title in zip(order, titles, strict=True)}
    for k, name in enumerate(subjects):
        marks = rows[rows.label == name]
        colour, symbol = look[name]
        shift = 0.56 * ((k + 0.5) / len(subjects) - 0.5)
        figure.add_scatter(
            x=marks["mean"],
            y=marks.key.map(place) + shift,
            mode="markers",
            name=plain(name),
            marker={
                "size": 9,
                "color": colour,
                "symbol": symbol,
                "line": {"width": 2 if "open" in symbol else 0},
            },
            error_x=bars(marks["mean"], marks.low, marks.high, faded(colour, 0.35)),
            customdata=marks[["condition", "key"]].to_numpy(),
            unselected=WHOLE,
            hoverinfo="text",
            hovertext=[
                f"<b>{plain(name)}</b>, {title_of[r.key]}<br>{signed(r.mean)}"
                f" [{signed(r.low)}, {signed(r.high)}]<br>P(below 0) {r.below:.3f}; R-hat"
                f" {r.r_hat:.3f}, {r.ess:.0f} effective draws, {r.n} answers"
                for r in marks.itertuples()
            ],
        )
    dress(
        figure,
        height=150 + len(order) * max(44, 13 * len(subjects)),
        legend=LEGEND_ABOVE | {"traceorder": "normal"},
        **CLICKED,
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(order))),
        ticktext=titles,
        range=[len(order) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(title_text=AXIS, zeroline=True)
    return figure
