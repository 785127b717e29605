"""Prediction and plan: what was said beforehand against what was measured."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import BAND, INK, SOFT, colours, dress, names


def prediction_scatter(
    rows: pd.DataFrame, system: ValueSystem, r2: float, height: int = 460
) -> go.Figure:
    """Held-out joint steerings, one dot a steering and value (`predictions` of one model); `r2`:
    of all values together.
    """
    called, hue, figure = names(system), colours(system), go.Figure()
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
        own = rows[rows.value == value]
        if own.empty:
            continue
        bars = {
            "type": "data",
            "symmetric": False,
            "array": own.measured_high - own.measured,
            "arrayminus": own.measured - own.measured_low,
            "thickness": 0.8,
            "width": 0,
        }
        figure.add_scatter(
            x=own.predicted,
            y=own.measured,
            mode="markers",
            name=called[value],
            marker={"size": 6, "color": hue[value]},
            error_y=bars,
            customdata=own[
                ["intervention", "predicted_low", "predicted_high", "measured_low", "measured_high"]
            ],
            hovertemplate=(
                f"<b>{called[value]}</b>, steering %{{customdata[0]}}<br>predicted %{{x:+.2f}}"
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


def plan_rows(rows: pd.DataFrame, system: ValueSystem, height: int = 460) -> go.Figure:
    """A wish value by value (`plan_effects`): what was allowed as a band, predicted as a line,
    measured as a dot, the control in grey.
    """
    called, hue, figure = names(system), colours(system), go.Figure()
    known = rows.set_index("value").reindex([v for v in system.ids if v in set(rows.value)])
    reach = (
        float(
            np.nanmax(
                np.abs(
                    known[
                        ["predicted_low", "predicted_high", "measured_low", "measured_high"]
                    ].to_numpy()
                )
            )
        )
        * 1.15
    )
    places = list(range(len(known)))
    for place, row in zip(places, known.itertuples(), strict=True):
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
    for name, mean, low, high, look in (
        (
            "control: random features",
            known.control,
            known.control_low,
            known.control_high,
            {"size": 7, "color": "#c3c9cf", "symbol": "x"},
        ),
        (
            "predicted",
            known.predicted,
            known.predicted_low,
            known.predicted_high,
            {"size": 14, "color": SOFT, "symbol": "line-ns-open"},
        ),
        (
            "measured",
            known.measured,
            known.measured_low,
            known.measured_high,
            {
                "size": 11,
                "color": [hue[v] for v in known.index],
                "line": {"color": INK, "width": 0.6},
            },
        ),
    ):
        shift = {"predicted": 0.16, "measured": -0.08}.get(name, 0.0)
        bars = {
            "type": "data",
            "symmetric": False,
            "array": high - mean,
            "arrayminus": mean - low,
            "thickness": 2 if name == "measured" else 1,
            "width": 0,
            "color": SOFT,
        }
        figure.add_scatter(
            x=mean,
            y=[place + shift for place in places],
            mode="markers",
            name=name,
            marker=look,
            error_x=bars,
            hovertext=[
                f"<b>{called[v]}</b> {name}<br>{m:+.2f} [{a:+.2f}, {b:+.2f}]"
                for v, m, a, b in zip(known.index, mean, low, high, strict=True)
            ],
            hoverinfo="text",
        )
    dress(figure, height=height, legend={"orientation": "h", "y": 1.1, "x": 0})
    figure.update_yaxes(
        tickmode="array",
        tickvals=places,
        ticktext=[called[v] for v in known.index],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(
        title_text="change [rating points], band: what was asked for, bars: 95 % interval",
        range=[-reach, reach],
    )
    return figure
