"""What is known before anything is steered in earnest: where values are read and written, layer by
layer, and damage over strength.

Bars are 95 % intervals.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feature_store.records import ValueSystem
from workbench.figures.style import (
    BAND,
    INK,
    LEGEND_ABOVE,
    SOFT,
    UNITS,
    bars,
    colours,
    dress,
    names,
)

MEAN = "all"
"""What stands for the mean over values in a survey's rows."""

KINDS = {
    "feature": ("labelled features", INK, "solid"),
    "random-direction": ("random directions", SOFT, "dot"),
}
"""Kind of what was steered -> its name, colour and line."""


def dose_curve(
    rows: pd.DataFrame, unit: str, limit: float, strength: float, height: int = 300
) -> go.Figure:
    """Draw the search for a sweep's doses: damage over strength, and where it meets the limit.

    `rows`: `queries.dose_curves`; `limit`: largest damage [nats per token]; `strength`: the largest
    dose that was taken [`unit`].
    """
    figure = go.Figure()
    for kind, (name, colour, dash) in KINDS.items():
        of_kind = rows[rows.kind == kind]
        figure.add_scatter(
            x=of_kind.dose,
            y=of_kind.damage,
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash, "width": 2},
            error_y=bars(of_kind.damage, of_kind.low, of_kind.high, thickness=2),
            hovertemplate=f"{name}<br>%{{x:.3g}}: %{{y:.3f}} nats per token<extra></extra>",
        )
    dress(figure, height=height, legend=LEGEND_ABOVE)
    figure.add_hline(y=limit, line={"color": SOFT, "width": 1, "dash": "dot"})
    figure.add_vline(x=strength, line={"color": SOFT, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text=f"strength [{UNITS[unit]}], 95 % intervals", type="log")
    figure.update_yaxes(title_text="damage [nats per token]", rangemode="tozero")
    return figure


def survey_layers(
    reading: pd.DataFrame, writing: pd.DataFrame, system: ValueSystem, height: int = 460
) -> go.Figure:
    """Draw how well values are read at each layer, and beneath it how far they are written.

    `reading`, `writing`: `queries.survey_reading` and `queries.survey_writing`. A thin line is a
    value, the thick one their mean; grey reaches as far as chance does.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.09)
    for row, (rows, column) in enumerate(((reading, "auroc"), (writing, "effect")), 1):
        for value in [id for id in system.ids if id in set(rows.value)]:
            of_value = rows[rows.value == value]
            _line(figure, of_value, column, row, names(system)[value], colours(system)[value], 1.2)
        mean = rows[rows.value == MEAN]
        if len(mean):
            _chance(figure, mean, 0.5 if column == "auroc" else 0.0, row)
            _line(figure, mean, column, row, "mean over values", INK, 3)
    dress(figure, height=height)
    figure.update_yaxes(title_text="read<br>[held-out AUROC]", row=1, col=1)
    figure.update_yaxes(title_text="written<br>[own less others]", row=2, col=1)
    figure.update_xaxes(title_text="layer; bars of the mean: 95 % intervals", row=2, col=1)
    return figure


def _line(
    figure: go.Figure, rows: pd.DataFrame, column: str, row: int, name: str, *style: str | float
) -> None:
    """Draw one value, or their mean, over the layers; `style` is its colour and width [pixels]."""
    colour, width = style
    mean = rows.value.iloc[0] == MEAN
    figure.add_scatter(
        x=rows.layer,
        y=rows[column],
        mode="lines+markers",
        name=name,
        legendgroup=name,
        showlegend=row == 1,
        line={"color": colour, "width": width},
        marker={"size": 8 if mean else 4},
        error_y=bars(rows[column], rows.low, rows.high, thickness=2) if mean else None,
        customdata=rows[["low", "high", "null_high"]],
        hovertemplate=(
            f"<b>{name}</b>, layer %{{x}}: %{{y:.3f}} [%{{customdata[0]:.3f}},"
            " %{customdata[1]:.3f}]<br>chance reaches %{customdata[2]:.3f}<extra></extra>"
        ),
        row=row,
        col=1,
    )


def _chance(figure: go.Figure, mean: pd.DataFrame, middle: float, row: int) -> None:
    """Draw how far chance reaches on either side of its middle."""
    figure.add_scatter(
        x=[*mean.layer, *mean.layer[::-1]],
        y=[*mean.null_high, *(2 * middle - mean.null_high)[::-1]],
        fill="toself",
        mode="none",
        fillcolor=BAND,
        name="chance (mean)",
        legendgroup="chance",
        showlegend=row == 1,
        hoverinfo="skip",
        row=row,
        col=1,
    )
