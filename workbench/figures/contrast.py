"""Profiles of several subjects: what differs, and whether two instruments see the same.

Bars are 95 % intervals; a filled mark has q < 0.05.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import DIVERGING, SOFT, bars, colours, dress, names, plain, signed


def difference_rows(contrasts: pd.DataFrame, system: ValueSystem, height: int = 430) -> go.Figure:
    """Draw one subject's differences from the reference, a row a value.

    `contrasts`: `queries.contrasts` of one subject.
    """
    name_of, hue = names(system), colours(system)
    rows = (
        contrasts.set_index("value")
        .reindex([id for id in system.ids if id in set(contrasts.value)])
        .reset_index()
    )
    y = np.arange(len(rows))[::-1]
    paint = [hue[v] if q < 0.05 else "white" for v, q in zip(rows.value, rows.q, strict=True)]
    texts = [
        f"<b>{name_of[r.value]}</b><br>{signed(r.difference)} [{signed(r.low)},"
        f" {signed(r.high)}]<br>q {r.q:.2g}, {r.n}"
        f" {'pairs of clusters' if r.paired else 'clusters'}"
        for r in rows.itertuples()
    ]
    figure = go.Figure()
    figure.add_scatter(
        x=rows.difference,
        y=y,
        mode="markers",
        marker={
            "size": 11,
            "color": paint,
            "line": {"color": [hue[v] for v in rows.value], "width": 2},
        },
        error_x=bars(rows.difference, rows.low, rows.high),
        hovertext=texts,
        hoverinfo="text",
        showlegend=False,
    )
    dress(figure, height=height)
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(y),
        ticktext=[name_of[v] for v in rows.value],
        range=[-0.6, len(rows) - 0.4],
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(
        title_text=(
            f"difference from {plain(rows.reference.iloc[0])}, centred; bars: 95 % interval,"
            " filled: q < 0.05"
        ),
        zeroline=True,
    )
    return figure


def mtmm_matrix(mtmm: pd.DataFrame, system: ValueSystem, height: int = 620) -> go.Figure:
    """Draw the multitrait-multimethod matrix: correlations over subjects of every value on every
    instrument with every other.

    `mtmm`: `queries.mtmm`. Rows and columns are the same: instruments, and values within them.
    """
    name_of, instruments = names(system), list(dict.fromkeys(mtmm.instrument))
    measured = set(zip(mtmm.instrument, mtmm.value, strict=True))
    order = [
        (instrument, value)
        for instrument in instruments
        for value in system.ids
        if (instrument, value) in measured
    ]
    r = mtmm.set_index(["instrument", "value", "other_instrument", "other_value"]).r
    z = np.array([[r.get((*a, *b), np.nan) for b in order] for a in order], dtype=float)
    labels = [f"{plain(instrument)}: {name_of[value]}" for instrument, value in order]
    texts = [
        [f"{a}<br>{b}<br>r {signed(x)}" for b, x in zip(labels, row, strict=True)]
        for a, row in zip(labels, z, strict=True)
    ]
    places = list(range(len(order)))
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=places,
            y=places,
            zmin=-1,
            zmax=1,
            colorscale=DIVERGING,
            hovertext=texts,
            hoverinfo="text",
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "r"}, "thickness": 12},
        )
    )
    dress(figure, height=height, margin={"l": 8, "r": 8, "t": 36, "b": 8})
    _mark_blocks(figure, [instrument for instrument, _ in order])
    axis = {
        "tickmode": "array",
        "tickvals": places,
        "ticktext": [name_of[value] for _, value in order],
        "showgrid": False,
    }
    figure.update_xaxes(tickangle=-60, **axis)
    figure.update_yaxes(autorange="reversed", **axis)
    return figure


def _mark_blocks(figure: go.Figure, instruments: list[str]) -> None:
    """Name the block of every instrument above the matrix, and draw lines between the blocks.

    `instruments` has the instrument of every column.
    """
    for number, instrument in enumerate(dict.fromkeys(instruments)):
        start = instruments.index(instrument)
        length = instruments.count(instrument)
        figure.add_annotation(
            x=start + (length - 1) / 2,
            y=1,
            yref="paper",
            yanchor="bottom",
            text=f"<b>{plain(instrument)}</b>",
            showarrow=False,
        )
        if number:
            figure.add_hline(y=start - 0.5, line={"color": SOFT, "width": 2})
            figure.add_vline(x=start - 0.5, line={"color": SOFT, "width": 2})
