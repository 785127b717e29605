"""Bayesian ordinal regression: how much each condition holds each value, by what two conditions
differ, and the contrasts of the circle's two axes.

Marks are posterior means, bars central 95 % intervals. The first condition is hollow.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import CLICKED, WHOLE, bars, dress, faded, looks, names, plain, signed

AXIS = "posterior mean [latent SD], bars: 95 % interval"


def theta_rows(thetas: pd.DataFrame, system: ValueSystem) -> go.Figure:
    """Theta of every condition (`queries.ordinal_thetas`), a row a value.

    `customdata` of a point is [condition, value].
    """
    return _by_value(thetas.assign(key=thetas.value, label=thetas.condition), system)


def change_rows(changes: pd.DataFrame, system: ValueSystem) -> go.Figure:
    """What each value differs by between two conditions (`queries.ordinal_contrasts`), a row a
    value. `customdata` is [condition, value].
    """
    return _by_value(
        changes.assign(key=changes.contrast, label=changes.condition + " less " + changes.other),
        system,
        hollow=False,
    )


def contrast_rows(contrasts: pd.DataFrame) -> go.Figure:
    """Contrasts in conditions, or between two of them (`queries.ordinal_contrasts`), a row a
    contrast. `customdata` is [condition, contrast].
    """
    order = list(dict.fromkeys(contrasts.contrast))
    between = contrasts.other != ""
    label = np.where(between, contrasts.condition + " less " + contrasts.other, contrasts.condition)
    said = [plain(name).replace(" - ", "<br>less ") for name in order]
    return _rows(
        contrasts.assign(label=label, key=contrasts.contrast), order, said, hollow=not between.any()
    )


def _by_value(rows: pd.DataFrame, system: ValueSystem, hollow: bool = True) -> go.Figure:
    called = names(system)
    order = [v for v in system.ids if v in set(rows.key)]
    return _rows(rows, order, [called[v] for v in order], hollow)


def _rows(
    rows: pd.DataFrame, order: list[str], called: list[str], hollow: bool = True
) -> go.Figure:
    figure, subjects = go.Figure(), list(dict.fromkeys(rows.label))
    look = looks(
        subjects if hollow else ["", *subjects]
    )  # differences have no reference among them
    for k, name in enumerate(subjects):
        own = rows[rows.label == name]
        colour, mark = look[name]
        y = [order.index(row) + 0.56 * ((k + 0.5) / len(subjects) - 0.5) for row in own.key]
        figure.add_scatter(
            x=own["mean"],
            y=y,
            mode="markers",
            name=plain(name),
            marker={
                "size": 9,
                "color": colour,
                "symbol": mark,
                "line": {"width": 2 if "open" in mark else 0},
            },
            error_x=bars(own["mean"], own.low, own.high, faded(colour, 0.35)),
            customdata=own[["condition", "key"]].to_numpy(),
            unselected=WHOLE,
            hoverinfo="text",
            hovertext=[
                f"<b>{plain(name)}</b>,"
                f" {called[order.index(r.key)].replace('<br>', ' ')}<br>{signed(r.mean)}"
                f" [{signed(r.low)}, {signed(r.high)}]<br>P(below 0) {r.below:.3f}; R-hat"
                f" {r.r_hat:.3f}, {r.ess:.0f} effective draws, {r.n} answers"
                for r in own.itertuples()
            ],
        )
    dress(
        figure,
        height=150 + len(order) * max(44, 13 * len(subjects)),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        **CLICKED,
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(order))),
        ticktext=called,
        range=[len(order) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(title_text=AXIS, zeroline=True)
    return figure
