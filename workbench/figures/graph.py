"""The causal graph drawn on the circle of values, and a graph laid beside the true one.

1. An edge is an arc that bends towards the centre, always to the same side, so that i -> j and j ->
   i do not hide one another.
2. Width is the weight, colour the sign, opacity the share of bootstrap replicates that found the
   edge.
3. `judge` compares an estimated graph with the true one: an edge is a hit, has the wrong sign, is
   extra, or was missed.

Left out: layouts other than the circle. The order of the values is the theory, so it stays.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import FALL, RISE, SOFT, colours, dress, faded, names, places

NODE = 0.085
"""Radius of a value's disc [circle radii]."""
MISSED, EXTRA = "#9aa3ac", "#b0123f"
"""Colours of an edge that was missed, and of one that is wrong."""
WRONG = ("extra", "missed", "wrong sign")
"""Verdicts of `judge` that count against a graph."""


class Arc(NamedTuple):
    """An edge as it is drawn."""

    x: np.ndarray
    y: np.ndarray
    """Points of the line, from source to arrowhead [circle radii]."""
    head: np.ndarray
    """Corners of the arrowhead [3, 2]."""


def arc(start: tuple[float, float], end: tuple[float, float], width: float) -> Arc:
    """Bend an edge from one value to another, with room for the discs and the arrowhead.

    `start` and `end` are places on the circle [circle radii], `width` is that of the line [pixels].
    The curve is a quadratic Bézier's, whose control point lies towards the centre and to one side.
    """
    a, b = np.array(start), np.array(end)
    along = (b - a) / np.linalg.norm(b - a)
    across = np.array([along[1], -along[0]])
    control = (a + b) / 2 * 0.72 + across * 0.16
    t = np.linspace(0, 1, 81)[:, None]
    points = (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b
    size = 0.05 + 0.006 * width
    near, far = np.linalg.norm(points - a, axis=1), np.linalg.norm(points - b, axis=1)
    tip = points[far >= NODE + 0.012][-1]
    line = points[(near > NODE + 0.012) & (far > NODE + 0.012 + size * 0.8)]
    aim = (tip - line[-1]) / np.linalg.norm(tip - line[-1])
    half = np.array([-aim[1], aim[0]]) * size * 0.5
    back = tip - aim * size
    return Arc(x=line[:, 0], y=line[:, 1], head=np.array([tip, back + half, back - half]))


def judge(edges: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Judge every ordered pair of an estimated graph by the true one.

    Adds `true_weight` (0: no edge) and `verdict`: hit, wrong sign, extra, missed, or empty where
    there is no edge in either graph. Where no truth is known, every verdict is empty.
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
    """Choose the width of an edge [pixels]; `largest` is the weight of the widest one."""
    return 1.2 + 6.0 * abs(weight) / max(largest, 1e-9)


def label_anchors(x: float, y: float) -> tuple[str, str]:
    """Choose where a value's name is anchored, so that it lies outside the circle.

    `x` and `y` are the value's place [circle radii]. Gives the horizontal anchor (left, center or
    right) and the vertical one (top, middle or bottom).
    """
    if abs(x) < 0.2:  # at the top or the bottom of the circle
        return "center", "bottom" if y > 0 else "top"
    return "left" if x > 0 else "right", "middle"


def value_graph(
    edges: pd.DataFrame, system: ValueSystem, largest: float, height: int = 430
) -> go.Figure:
    """Draw a graph of values on their circle, every edge an arrow.

    `edges` has the columns source, target, weight and, where known, low, high, z, q, frequency and
    verdict; all rows are drawn. `largest` is the weight of the widest line, so that two graphs side
    by side share a scale.
    """
    figure = go.Figure()
    for edge in edges.sort_values("weight", key=abs).itertuples():
        _edge(figure, edge, system, largest)
    for id in system.ids:
        _disc(figure, id, system)
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


def _edge(figure: go.Figure, edge: Any, system: ValueSystem, largest: float) -> None:
    """Draw one edge: its line, its arrowhead, and its verdict where it is wrong."""
    place = places(system)
    verdict, frequency = getattr(edge, "verdict", ""), getattr(edge, "frequency", 1.0)
    width = line_width(edge.weight, largest)
    curve = arc(place[edge.source], place[edge.target], width)
    sign = RISE if edge.weight > 0 else FALL
    if verdict == "missed":
        paint, dash = faded(MISSED, 0.95), "dot"
    else:
        paint, dash = faded(sign, 0.25 + 0.7 * frequency), "solid"
    figure.add_scatter(
        x=curve.x,
        y=curve.y,
        mode="lines",
        line={"color": paint, "width": width, "dash": dash},
        hoverinfo="text",
        hovertext=_edge_numbers(edge, names(system)),
    )
    figure.add_scatter(
        x=curve.head[:, 0],
        y=curve.head[:, 1],
        mode="none",
        fill="toself",
        fillcolor=paint,
        hoverinfo="skip",
    )
    if verdict in WRONG:
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


def _edge_numbers(edge: Any, name_of: Mapping[str, str]) -> str:
    """Write what an edge shows on touch: its weight, and what is known of its certainty."""
    text = f"<b>{name_of[edge.source]} → {name_of[edge.target]}</b><br>{edge.weight:+.2f}"
    if hasattr(edge, "low"):
        text += (
            f" [{edge.low:+.2f}, {edge.high:+.2f}]<br>z = {edge.z:.1f}, q = {edge.q:.2g}, in"
            f" {edge.frequency:.0%} of replicates"
        )
    verdict = getattr(edge, "verdict", "")
    return f"{text}<br>{verdict}" if verdict else text


def _disc(figure: go.Figure, id: str, system: ValueSystem) -> None:
    """Draw a value as a disc of its colour, its name outside the circle."""
    x, y = places(system)[id]
    horizontal, vertical = label_anchors(x, y)
    figure.add_shape(
        type="circle",
        x0=x - NODE,
        x1=x + NODE,
        y0=y - NODE,
        y1=y + NODE,
        fillcolor=colours(system)[id],
        line={"color": "white", "width": 2},
    )
    figure.add_annotation(
        x=x * (1 + NODE * 1.5),
        y=y * (1 + NODE * 1.6),
        text=names(system)[id],
        showarrow=False,
        font={"size": 13},
        xanchor=horizontal,
        yanchor=vertical,
    )
