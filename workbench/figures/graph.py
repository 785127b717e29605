"""The causal graph drawn on the value circle, and a graph laid beside the true one.

1. An edge is an arc that bends towards the centre, always to the same side, so that i -> j and j ->
   i do not hide one another.
2. Width is the weight, colour the sign, opacity the share of bootstrap replicates that found the
   edge.
3. `judge` names each edge of a found and a true graph: hit, wrong sign, extra or missed.

Left out: layouts other than the circle. The order of the values is the theory, so it stays.
"""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import FALL, RISE, SOFT, colours, dress, faded, names, places

NODE = 0.085
"""Radius of a value's disc [circle radii]."""
MISSED, EXTRA = "#9aa3ac", "#b0123f"

Verdict = Literal["hit", "wrong sign", "extra", "missed", ""]


class Arc(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    """Points of the line, from source to arrowhead [circle radii]."""
    head: np.ndarray
    """Corners of the arrowhead [3, 2]."""


def arc(start: tuple[float, float], end: tuple[float, float], width: float) -> Arc:
    """The curve from one value to another, with room for the discs and an arrowhead that fits
    its width.
    """
    a, b = np.array(start), np.array(end)
    along = (b - a) / np.linalg.norm(b - a)
    side = np.array([along[1], -along[0]])
    control = (a + b) / 2 * 0.72 + side * 0.16
    t = np.linspace(0, 1, 81)[:, None]
    points = (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b
    size = 0.05 + 0.006 * width
    near, far = np.linalg.norm(points - a, axis=1), np.linalg.norm(points - b, axis=1)
    tip = points[far >= NODE + 0.012][-1]
    line = points[(near > NODE + 0.012) & (far > NODE + 0.012 + size * 0.8)]
    aim = (tip - line[-1]) / np.linalg.norm(tip - line[-1])
    across = np.array([-aim[1], aim[0]]) * size * 0.5
    back = tip - aim * size
    return Arc(line[:, 0], line[:, 1], np.array([tip, back + across, back - across]))


def judge(edges: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Every ordered pair with the planted `true_weight` (0: none) and its `verdict`; without
    truth, no verdict.
    """
    if truth.empty:
        return edges.assign(true_weight=np.nan, verdict="")
    joined = edges.merge(
        truth.rename(columns={"weight": "true_weight"}), on=["source", "target"], how="left"
    ).fillna({"true_weight": 0.0})
    real, same = joined.true_weight != 0, np.sign(joined.weight) == np.sign(joined.true_weight)
    verdict = np.select(
        [joined.present & real & same, joined.present & real, joined.present, real],
        ["hit", "wrong sign", "extra", "missed"],
        "",
    )
    return joined.assign(verdict=verdict)


def line_width(weight: float, largest: float) -> float:
    """Width of an edge [pixels]."""
    return 1.2 + 6.0 * abs(weight) / max(largest, 1e-9)


def value_graph(
    edges: pd.DataFrame, system: ValueSystem, largest: float, height: int = 430
) -> go.Figure:
    """Edges with columns source, target, weight and, where known, low, high, z, q, frequency,
    verdict. All are drawn.

    `largest` is the weight of the widest line, so that two graphs side by side share a scale.
    """
    called, hue, place = names(system), colours(system), places(system)
    figure = go.Figure()
    for edge in edges.sort_values("weight", key=abs).itertuples():
        verdict, frequency = getattr(edge, "verdict", ""), getattr(edge, "frequency", 1.0)
        width = line_width(edge.weight, largest)
        curve = arc(place[edge.source], place[edge.target], width)
        colour = MISSED if verdict == "missed" else RISE if edge.weight > 0 else FALL
        paint = faded(colour, 0.25 + 0.7 * (1.0 if verdict == "missed" else frequency))
        dash = "dot" if verdict == "missed" else "solid"
        tell = f"<b>{called[edge.source]} → {called[edge.target]}</b><br>{edge.weight:+.2f}"
        if hasattr(edge, "low"):
            tell += (
                f" [{edge.low:+.2f}, {edge.high:+.2f}]<br>z = {edge.z:.1f}, q = {edge.q:.2g}, in"
                f" {edge.frequency:.0%} of replicates"
            )
        tell += f"<br>{verdict}" if verdict else ""
        figure.add_scatter(
            x=curve.x,
            y=curve.y,
            mode="lines",
            line={"color": paint, "width": width, "dash": dash},
            hoverinfo="text",
            hovertext=tell,
        )
        figure.add_scatter(
            x=curve.head[:, 0],
            y=curve.head[:, 1],
            mode="none",
            fill="toself",
            fillcolor=paint,
            hoverinfo="skip",
        )
        if verdict in ("extra", "missed", "wrong sign"):
            middle = len(curve.x) // 2
            figure.add_annotation(
                x=curve.x[middle],
                y=curve.y[middle],
                text=verdict,
                showarrow=False,
                bgcolor="white",
                borderpad=2,
                font={"size": 11, "color": SOFT if verdict == "missed" else EXTRA},
            )
    for id in system.ids:
        x, y = place[id]
        figure.add_shape(
            type="circle",
            x0=x - NODE,
            x1=x + NODE,
            y0=y - NODE,
            y1=y + NODE,
            fillcolor=hue[id],
            line={"color": "white", "width": 2},
        )
        figure.add_annotation(
            x=x * (1 + NODE * 1.5),
            y=y * (1 + NODE * 1.6),
            text=called[id],
            showarrow=False,
            font={"size": 13},
            xanchor="center" if abs(x) < 0.2 else "left" if x > 0 else "right",
            yanchor="middle" if abs(x) >= 0.2 else "bottom" if y > 0 else "top",
        )
    dress(
        figure,
        height=height,
        showlegend=False,
        dragmode=False,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
    )
    figure.update_xaxes(visible=False, range=[-1.7, 1.7], fixedrange=True)
    figure.update_yaxes(visible=False, range=[-1.27, 1.27], scaleanchor="x", fixedrange=True)
    return figure
