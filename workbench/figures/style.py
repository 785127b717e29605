"""How every figure looks: a value's colour, its place on the circle, type and grid.

A value's hue is its place in circle order, in the OKLCH space, where equal steps look equally far;
neighbours differ in lightness too, so that they can be told apart without hue. No figure relies on
colour alone: names or signs stand beside it.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem

INK = "#1f2933"
"""Text."""
SOFT = "#6b7580"
"""Text and marks that stand back."""
GRID = "#e6e9ed"
"""Lines of the grid."""
BAND = "#eef0f2"
"""Cells and bands that stand for chance, or for what is allowed."""
ERROR = "#c3c9cf"
"""Error bars behind a mark."""
RISE, FALL = "#c4561a", "#1f6aa5"
"""Positive and negative effects: an orange and a blue that colour-blind eyes tell apart."""
DIVERGING = [
    (0.0, "#134a78"),
    (0.25, "#5b9cc9"),
    (0.5, "#f7f6f3"),
    (0.75, "#e59a62"),
    (1.0, "#9c3d0a"),
]
"""Effects from negative to positive."""
UNITS = {
    "norm_share": "share of the median residual norm",
    "feature_max": "multiples of the largest activation",
    "raw": "residual units",
}
"""Unit of a strength -> what it is."""
FONT = "Source Sans, Source Sans Pro, Helvetica, Arial, sans-serif"


def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """Convert a colour of the OKLCH space to #rrggbb (Ottosson 2020).

    `lightness` goes from 0 to 1, `chroma` from 0 (grey) to some 0.4, `hue` is an angle [radians].
    """
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
    return "#" + "".join(_channel(light) for light in linear)


def _channel(light: float) -> str:
    """Encode linear light [0 to 1, clipped] as the two digits of an sRGB channel."""
    light = min(max(light, 0.0), 1.0)
    if light <= 0.0031308:
        encoded = 12.92 * light
    else:
        encoded = 1.055 * light ** (1 / 2.4) - 0.055
    return f"{round(255 * encoded):02x}"


def colours(system: ValueSystem) -> dict[str, str]:
    """Give every value its colour, the same in every figure: value id -> #rrggbb."""
    n = len(system.ids)
    return {
        id: _oklch(0.54 if i % 2 else 0.67, 0.135, math.radians(30) + 2 * math.pi * i / n)
        for i, id in enumerate(system.ids)
    }


def places(system: ValueSystem) -> dict[str, tuple[float, float]]:
    """Give every value its place (x, y) on the unit circle, clockwise from the top.

    Even steps, not the values' angles: Tradition and Conformity share an angle and would hide one
    another.
    """
    n = len(system.ids)
    return {
        id: (math.sin(2 * math.pi * i / n), math.cos(2 * math.pi * i / n))
        for i, id in enumerate(system.ids)
    }


def names(system: ValueSystem) -> dict[str, str]:
    """Give every value's name for people: value id -> name."""
    return {value.id: value.name for value in system.values}


def faded(colour: str, opacity: float) -> str:
    """Add an opacity [0 to 1] to a colour #rrggbb."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{opacity:g})"


def plain(text: object) -> str:
    """Escape a text so that Plotly shows it literally: its labels read a little HTML."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def probability(p: float) -> str:
    """Write a p or q for people; a dash where there is none.

    >>> probability(2.7e-302), probability(0.034)
    ('< 0.001', '0.034')
    """
    if p != p:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def signed(x: float, digits: int = 2) -> str:
    """Write a number with its sign; what rounds to zero has none.

    >>> signed(0.125), signed(-0.001)
    ('+0.12', '0.00')
    """
    text = f"{x:+.{digits}f}"
    return text if float(text) else f"{0:.{digits}f}"


def dress(figure: go.Figure, title: str = "", height: int = 420, **layout: object) -> go.Figure:
    """Give a figure the common look: type, white ground, a left-aligned title, quiet axes.

    `height` is in pixels; whatever else of the layout is given wins over the common look.
    """
    figure.update_layout(
        title={
            "text": title,
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "pad": {"l": 2},
            "font": {"size": 15, "color": INK},
        },
        height=height,
        margin={"l": 8, "r": 8, "t": 44 if title else 12, "b": 8},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={
            "bgcolor": "white",
            "bordercolor": GRID,
            "font": {"family": FONT, "size": 13, "color": INK},
            "align": "left",
        },
        legend={"font": {"size": 12, "color": SOFT}},
        modebar={"remove": ["lasso", "select", "zoomin", "zoomout", "autoscale"]},
    )
    axis = {
        "gridcolor": GRID,
        "zerolinecolor": "#c9ced4",
        "linecolor": GRID,
        "automargin": True,
        "tickfont": {"size": 12},
        "title_font": {"size": 12, "color": SOFT},
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_layout(**layout)
    return figure


LEGEND_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
"""Legend in one line above the figure, from its left edge."""
SUBJECTS = [
    ("#6b7580", "circle-open"),
    ("#c4561a", "circle"),
    ("#1f6aa5", "diamond"),
    ("#2f7d4f", "square"),
    ("#7a4fa3", "triangle-up"),
    ("#9c7a1a", "x"),
    ("#b03a6a", "star"),
]
"""Colour and mark of those who are compared, the reference first."""
CLICKED: dict[str, Any] = {"clickmode": "event+select", "dragmode": False}
"""Layout of a figure whose points open something."""
WHOLE = {"marker": {"opacity": 1.0}}
"""How points look that were not clicked: as before."""


def looks(subjects: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Give every subject its colour and its mark; past seven they come again."""
    return {name: SUBJECTS[k % len(SUBJECTS)] for k, name in enumerate(subjects)}


def bars(
    mean: pd.Series, low: pd.Series, high: pd.Series, colour: str = ERROR, thickness: float = 3
) -> dict[str, object]:
    """Draw error bars from a mean to both ends of its interval; `thickness` is in pixels.

    The result is what Plotly calls `error_x` or `error_y`.
    """
    return {
        "type": "data",
        "symmetric": False,
        "array": high - mean,
        "arrayminus": mean - low,
        "thickness": thickness,
        "width": 0,
        "color": colour,
    }


def side(label: Any) -> str:
    """Say in a word what a label is of: its value held or rejected, or talk about it (`part`)."""
    if label.part == "topic":
        return "topic"
    return "held" if label.polarity > 0 else "rejected"
