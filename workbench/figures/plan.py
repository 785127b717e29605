"""Predictions and plans: what was predicted against what was measured."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import BAND, ERROR, INK, SOFT, bars, colours, dress, names

SHIFT = {"control": 0.0, "predicted": 0.16, "measured": -0.08}
"""Column of a plan -> how far beside its row it is drawn, so that marks do not hide one another
[rows]."""


def prediction_scatter(
    rows: pd.DataFrame, system: ValueSystem, r2: float, height: int = 460
) -> go.Figure:
    """Draw predicted against measured changes of joint steerings that no fit has seen, a dot a
    steering and value.

    `rows`: `queries.predictions` of one model; `r2`: share of the variance that is explained, over
    all values together.
    """
    name_of, hue, figure = names(system), colours(system), go.Figure()
    reach = float(np.abs(rows[["predicted", "measured"]].to_numpy()).max()) * 1.05
    figure.add_scatter(
        x=[-reach, reach],
        y=[-reach, reach],
        mode="lines",
        line={"color": SOFT, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    for value in system.ids:
        dots = rows[rows.value == value]
        if dots.empty:
            continue
        error = bars(dots.measured, dots.measured_low, dots.measured_high, thickness=0.8)
        error["color"] = None  # that of the dots
        figure.add_scatter(
            x=dots.predicted,
            y=dots.measured,
            mode="markers",
            name=name_of[value],
            marker={"size": 6, "color": hue[value]},
            error_y=error,
            customdata=dots[
                ["intervention", "predicted_low", "predicted_high", "measured_low", "measured_high"]
            ],
            hovertemplate=(
                f"<b>{name_of[value]}</b>, steering %{{customdata[0]}}<br>predicted %{{x:+.2f}}"
                " [%{customdata[1]:+.2f}, %{customdata[2]:+.2f}]<br>measured %{y:+.2f}"
                " [%{customdata[3]:+.2f}, %{customdata[4]:+.2f}]<extra></extra>"
            ),
        )
    dress(
        figure,
        title=f"{rows.intervention.nunique()} joint steerings that no fit has seen, R² = {r2:.3f}",
        height=height,
    )
    figure.update_xaxes(title_text="predicted change [rating points]")
    figure.update_yaxes(
        title_text="measured change [rating points], bars: 95 % interval over contexts"
    )
    return figure


def plan_rows(
    rows: pd.DataFrame, system: ValueSystem, control: str = "random features", height: int = 460
) -> go.Figure:
    """Draw a plan, a row a value: what was allowed as a band, predicted as a line, measured as a
    dot, and the control at the same doses in grey.

    `rows`: `queries.plan_effects`; `control`: what the control is.
    """
    name_of, hue, figure = names(system), colours(system), go.Figure()
    plan = rows.set_index("value").reindex([v for v in system.ids if v in set(rows.value)])
    ends = plan[["predicted_low", "predicted_high", "measured_low", "measured_high"]]
    reach = float(np.nanmax(np.abs(ends.to_numpy()))) * 1.15
    places = list(range(len(plan)))
    _wanted_bands(figure, plan, reach)
    looks = {
        "control": {"size": 7, "color": ERROR, "symbol": "x"},
        "predicted": {"size": 14, "color": SOFT, "symbol": "line-ns-open"},
        "measured": {
            "size": 11,
            "color": [hue[v] for v in plan.index],
            "line": {"color": INK, "width": 0.6},
        },
    }
    for column, look in looks.items():
        name = f"control: {control}" if column == "control" else column
        mean, low, high = plan[column], plan[f"{column}_low"], plan[f"{column}_high"]
        figure.add_scatter(
            x=mean,
            y=[place + SHIFT[column] for place in places],
            mode="markers",
            name=name,
            marker=look,
            error_x=bars(mean, low, high, SOFT, thickness=2 if column == "measured" else 1),
            hovertext=[
                f"<b>{name_of[v]}</b> {name}<br>{m:+.2f} [{a:+.2f}, {b:+.2f}]"
                for v, m, a, b in zip(plan.index, mean, low, high, strict=True)
            ],
            hoverinfo="text",
        )
    dress(figure, height=height, legend={"orientation": "h", "y": 1.1, "x": 0})
    figure.update_yaxes(
        tickmode="array",
        tickvals=places,
        ticktext=[name_of[v] for v in plan.index],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(
        title_text="change [rating points], band: what was asked for, bars: 95 % interval",
        range=[-reach, reach],
    )
    return figure


def _wanted_bands(figure: go.Figure, plan: pd.DataFrame, reach: float) -> None:
    """Draw what the wish allows each value, as far as the figure reaches."""
    for place, row in enumerate(plan.itertuples()):
        if np.isfinite(row.wanted_low) or np.isfinite(row.wanted_high):
            figure.add_shape(
                type="rect",
                x0=max(row.wanted_low, -reach),
                x1=min(row.wanted_high, reach),
                y0=place - 0.38,
                y1=place + 0.38,
                fillcolor=BAND,
                line_width=0,
                layer="below",
            )
