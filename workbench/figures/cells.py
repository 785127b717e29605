"""A matrix whose cells can be read and clicked: colour, a number in each, its interval on touch.

Heat maps cannot be selected in Plotly: an invisible marker on every cell can, and tells its
numbers. A faint cell is grey: its number is shown, but chance gives as much.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from workbench.figures.style import BAND, CLICKED, DIVERGING, INK, SOFT, dress


class Cell(NamedTuple):
    row: str
    """Label of its row."""
    column: str
    """Label of its column."""
    size: float
    """What its colour shows, around 0."""
    text: str
    """What is written in it."""
    hover: str
    """Its numbers."""
    faint: bool
    """Whether it is grey."""
    data: Sequence[str]
    """`customdata` of its point."""


def matrix(
    cells: Sequence[Cell],
    rows: Sequence[str],
    columns: Sequence[str],
    span: float,
    height: int,
    small: bool = False,
    square: bool = True,
) -> go.Figure:
    """Cells in rows, first at the top, and columns; `span`: size of the strongest colour;
    `small`: without numbers; `square`: as high as wide.
    """
    place = {
        (row, column): (i, j) for i, row in enumerate(rows) for j, column in enumerate(columns)
    }
    grey, shown = (np.full((len(rows), len(columns)), np.nan) for _ in range(2))
    for cell in cells:
        (grey if cell.faint else shown)[place[cell.row, cell.column]] = (
            0.0 if cell.faint else cell.size
        )
    quiet = {"hoverinfo": "skip", "xgap": 2, "ygap": 2, "showscale": False}
    figure = go.Figure()
    figure.add_heatmap(
        z=grey, x=list(columns), y=list(rows), colorscale=[(0, BAND), (1, BAND)], **quiet
    )
    figure.add_heatmap(
        z=shown,
        x=list(columns),
        y=list(rows),
        colorscale=DIVERGING,
        zmid=0,
        zmin=-span,
        zmax=span,
        **quiet,
    )
    at = {"x": [cell.column for cell in cells], "y": [cell.row for cell in cells]}
    if not small:
        paint = [
            SOFT if cell.faint else "white" if abs(cell.size) > 0.62 * span else INK
            for cell in cells
        ]
        figure.add_scatter(
            **at,
            mode="text",
            hoverinfo="skip",
            text=[cell.text for cell in cells],
            textfont={"size": 11.5, "color": paint},
        )
    figure.add_scatter(
        **at,
        mode="markers",
        marker={"symbol": "square", "size": 12 if small else 38, "opacity": 0.0},
        customdata=[list(cell.data) for cell in cells],
        hoverinfo="text",
        hovertext=[cell.hover for cell in cells],
        selected={"marker": {"opacity": 0.0}},
        unselected={"marker": {"opacity": 0.0}},
    )
    dress(figure, height=height, showlegend=False, **CLICKED)
    axis = {
        "categoryorder": "array",
        "showgrid": False,
        "fixedrange": True,
        "ticks": "",
        "showline": False,
        "zeroline": False,
        "tickfont": {"size": 11 if small else 13},
    }
    figure.update_xaxes(
        side="top", tickangle=-38, categoryarray=list(columns), constrain="domain", **axis
    )
    figure.update_yaxes(autorange="reversed", categoryarray=list(rows), **axis)
    if square:
        figure.update_yaxes(scaleanchor="x", constrain="domain", constraintoward="top")
    return figure
