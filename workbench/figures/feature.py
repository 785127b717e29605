"""Where an SAE's features lie on a map, how strongly one of them fires, and what it does to the
logits.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import SOFT, colours, dress, names, side


def feature_map(points: pd.DataFrame, system: ValueSystem, height: int = 520) -> go.Figure:
    """Draw decoder directions on a plane, coloured by accepted value: a dot holds it, a cross
    rejects it.

    `points`: `queries.feature_map`. `customdata` of a point is the feature's index.
    """
    name_of, hue = names(system), colours(system)
    figure = go.Figure()
    unlabelled = points[points.value.isna()]
    figure.add_scattergl(
        x=unlabelled.x,
        y=unlabelled.y,
        mode="markers",
        marker={"size": 5, "color": "#c8cdd3", "opacity": 0.55},
        name="no label",
        customdata=unlabelled.feature,
        hovertemplate="<b>feature %{customdata}</b><br>no accepted label<extra></extra>",
    )
    for value in system.ids:
        rows = points[points.value == value]
        if rows.empty:
            continue
        texts = [
            f"<b>feature {r.feature}</b><br>{name_of[value]},"
            f" {side(r)}" + ("" if pd.isna(r.score) else f"<br>held-out score {r.score:.2f}")
            for r in rows.itertuples()
        ]
        figure.add_scattergl(
            x=rows.x,
            y=rows.y,
            mode="markers",
            name=name_of[value],
            customdata=rows.feature,
            hovertext=texts,
            hoverinfo="text",
            marker={
                "size": 9,
                "color": hue[value],
                "symbol": ["circle" if p > 0 else "x" for p in rows.polarity],
                "line": {"color": "white", "width": 0.8},
            },
        )
    dress(
        figure,
        height=height,
        clickmode="event+select",
        dragmode="pan",
        legend={"itemsizing": "constant", "orientation": "h", "x": 0, "y": 0, "yanchor": "top"},
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x", scaleratio=1)
    return figure


def activation_histogram(bins: pd.DataFrame, colour: str = SOFT, height: int = 240) -> go.Figure:
    """Draw how often each strength occurs among the tokens on which a feature is active.

    `bins`: `queries.histogram`.
    """
    figure = go.Figure(
        go.Bar(
            x=(bins.low + bins.high) / 2,
            y=bins["count"],
            width=bins.high - bins.low,
            marker={"color": colour, "line": {"color": "white", "width": 0.6}},
            customdata=bins[["low", "high"]],
            hovertemplate=(
                "%{customdata[0]:.2f} to %{customdata[1]:.2f}<br>%{y} tokens<extra></extra>"
            ),
        )
    )
    dress(figure, height=height, bargap=0)
    figure.update_xaxes(title_text="activation", showgrid=False)
    figure.update_yaxes(title_text="tokens (log)", type="log", nticks=4, dtick=1)
    return figure


def logit_histogram(shape: pd.Series, colour: str = SOFT, height: int = 200) -> go.Figure:
    """Draw how a feature's direct effect on the logits is spread over all tokens.

    `shape`: a row of `queries.logit_shape`.
    """
    width = (shape.largest - shape.smallest) / len(shape.bins)
    lows = shape.smallest + width * np.arange(len(shape.bins))
    figure = go.Figure(
        go.Bar(
            x=lows + width / 2,
            y=shape.bins,
            width=width,
            marker={"color": colour, "line": {"color": "white", "width": 0.6}},
            customdata=np.stack([lows, lows + width], 1),
            hovertemplate=(
                "%{customdata[0]:.2f} to %{customdata[1]:.2f}<br>%{y} tokens<extra></extra>"
            ),
        )
    )
    dress(figure, height=height, bargap=0)
    figure.update_xaxes(title_text="logit", showgrid=False)
    figure.update_yaxes(title_text="tokens (log)", type="log", nticks=4, dtick=1)
    return figure
