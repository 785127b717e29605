"""A matrix whose cells can be read and clicked: a colour and a number, its interval on touch.

Heat maps cannot be selected in Plotly: an invisible marker on every cell can, and tells its
numbers. A faint cell is grey: its number is shown, but chance gives as much.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import plotly.graph_objects as go

from workbench.figures.style import BAND, CLICKED, DIVERGING, INK, SOFT, dress

Shape = Literal["square", "oblong", "small"]
"""`square`: cells as high as wide; `oblong`: as high as there is room; `small`: square cells
without numbers."""


class MatrixCell(NamedTuple):
    """One cell of a matrix: its place, its colour and what it tells."""

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
    """Whether it is grey: chance gives as much."""
    data: Sequence[str]
    """`customdata` of its point."""


def matrix(
    cells: Sequence[MatrixCell],
    rows: Sequence[str],
    columns: Sequence[str],
    span: float,
    height: int,
    shape: Shape = "square",
) -> go.Figure:
    """Draw a matrix of cells, the first row at the top.

    `rows` and `columns` are the labels in order, `span` is the size at which the colour is
    strongest, `height` is that of the figure [pixels].
    """
    small = shape == "small"
    figure = go.Figure()
    _colour(figure, cells, list(rows), list(columns), span)
    at = {"x": [cell.column for cell in cells], "y": [cell.row for cell in cells]}
    if not small:
        figure.add_scatter(
            **at,
            mode="text",
            hoverinfo="skip",
            text=[cell.text for cell in cells],
            textfont={"size": 11.5, "color": [_ink(cell, span) for cell in cells]},
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
    if shape != "oblong":
        figure.update_yaxes(scaleanchor="x", constrain="domain", constraintoward="top")
    return figure


def _colour(
    figure: go.Figure,
    cells: Sequence[MatrixCell],
    rows: list[str],
    columns: list[str],
    span: float,
) -> None:
    """Draw the ground of every cell: two heat maps, since grey is no colour of the scale."""
    grey = np.full((len(rows), len(columns)), np.nan)
    coloured = grey.copy()
    for cell in cells:
        place = rows.index(cell.row), columns.index(cell.column)
        if cell.faint:
            grey[place] = 0.0
        else:
            coloured[place] = cell.size
    quiet = {"x": columns, "y": rows, "hoverinfo": "skip", "xgap": 2, "ygap": 2, "showscale": False}
    figure.add_heatmap(z=grey, colorscale=[(0, BAND), (1, BAND)], **quiet)
    figure.add_heatmap(z=coloured, colorscale=DIVERGING, zmid=0, zmin=-span, zmax=span, **quiet)


def _ink(cell: MatrixCell, span: float) -> str:
    """Choose the colour of a cell's number, so that it can be read on its ground."""
    if cell.faint:
        return SOFT
    return "white" if abs(cell.size) > 0.62 * span else INK
