"""Leakage: how much of a value's steering goes to other values.

`L_i = RMS_{j != i} M[i,j] / |M[i,i]|`, where M[i,j] is the mean effect of steering value i on value
j. It is undefined unless the interval of M[i,i] excludes 0. It is taken over all other values, and
over the adjacent (up to 60 degrees on the circle of values), the orthogonal and the opposed ones
(from 120 degrees). RMS of noise is positive, so an interval that begins near the null's own leakage
says nothing.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from feature_store.records import ValueSystem
from workbench.statistics.circle import distances
from workbench.statistics.intervals import Interval

PARTS = ("all", "adjacent", "orthogonal", "opposed")
"""Places of the other values on the circle."""


class EffectMatrix(NamedTuple):
    """Mean effects of sources on values, with their intervals and bootstrap replicates."""

    cells: Interval
    """Mean effect of each source on each value [source value]."""
    replicates: Float[np.ndarray, "replicate source value"]
    """The same in every bootstrap replicate."""
    sources: tuple[str, ...]
    """Value that is steered in each row; may occur more than once."""
    values: tuple[str, ...]
    """Value of each column."""
    looks: int = 1
    """How often one looked before the sweep ended; intervals have the level 1 - 0.05 / looks."""


def leakage(matrix: EffectMatrix, system: ValueSystem) -> list[dict[str, Any]]:
    """Compute the leakage of every source over each part of the circle, with 95 % intervals.

    Rows of `leakage`, source by source in the order of `PARTS`; NaN with the reason where it is
    undefined.
    """
    gap = np.degrees(distances(system, matrix.values))
    rows = []
    for row, source in enumerate(matrix.sources):
        column = matrix.values.index(source)
        others = (np.arange(len(gap)) != column) & np.isfinite(matrix.cells.mean[row])
        places = _places(gap[column], others)
        for part in PARTS:
            reason = _undefined(matrix.cells, row, column, places[part])
            figures = [float("nan")] * 3
            if not reason:
                figures = _ratio(matrix, row, column, places[part])
            rows.append(
                {
                    "source": source,
                    "part": part,
                    "leakage": figures[0],
                    "low": figures[1],
                    "high": figures[2],
                    "reason": reason,
                }
            )
    return rows


def _places(
    gap: Float[np.ndarray, " value"], others: Bool[np.ndarray, " value"]
) -> dict[str, Bool[np.ndarray, " value"]]:
    """Part of the circle -> the other values there; `gap`: degrees from the steered value."""
    # A system without a circle has no angles: NaN is in none of the three parts.
    return {
        "all": others,
        "adjacent": others & (gap <= 60 + 1e-9),
        "orthogonal": others & (gap > 60 + 1e-9) & (gap < 120 - 1e-9),
        "opposed": others & (gap >= 120 - 1e-9),
    }


def _undefined(cells: Interval, row: int, column: int, place: Bool[np.ndarray, " value"]) -> str:
    """Why a leakage is undefined; empty where it is defined."""
    if not (cells.low[row, column] > 0 or cells.high[row, column] < 0):
        return "the interval of the value's own effect includes 0"
    return "" if place.any() else "no value with answers lies there"


def _ratio(
    matrix: EffectMatrix, row: int, column: int, place: Bool[np.ndarray, " value"]
) -> list[float]:
    """Leakage with the ends of its 95 % interval."""
    cells, drawn = matrix.cells.mean, matrix.replicates
    square = (cells[row, place] ** 2).mean() / cells[row, column] ** 2
    drawn_squares = (drawn[:, row, place] ** 2).mean(1) / drawn[:, row, column] ** 2
    # A replicate holds the sampling noise once more than the estimate, and squares add it up:
    # centre them.
    centred = np.maximum(drawn_squares - np.nanmean(drawn_squares) + square, 0.0)
    ends = np.nanquantile(centred, (0.025 / matrix.looks, 1 - 0.025 / matrix.looks))
    return [float(x) for x in np.sqrt([square, *ends])]
