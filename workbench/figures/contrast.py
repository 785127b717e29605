"""Profiles of several subjects: what differs, and whether two instruments see the same.

Bars are 95 % intervals; a filled mark has q < 0.05.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import DIVERGING, SOFT, colours, dress, names, plain, signed


def difference_rows(contrasts: pd.DataFrame, system: ValueSystem, height: int = 430) -> go.Figure:
    """One subject's differences from the reference (`queries.contrasts`), a row a value."""
    called, hue = names(system), colours(system)
    rows = (
        contrasts.set_index("value")
        .reindex([id for id in system.ids if id in set(contrasts.value)])
        .reset_index()
    )
    y = np.arange(len(rows))[::-1]
    paint = [hue[v] if q < 0.05 else "white" for v, q in zip(rows.value, rows.q, strict=True)]
    said = [
        f"<b>{called[r.value]}</b><br>{signed(r.difference)} [{signed(r.low)},"
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
        error_x={
            "type": "data",
            "symmetric": False,
            "array": rows.high - rows.difference,
            "arrayminus": rows.difference - rows.low,
            "thickness": 3,
            "width": 0,
            "color": "#c3c9cf",
        },
        hovertext=said,
        hoverinfo="text",
        showlegend=False,
    )
    dress(figure, height=height)
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(y),
        ticktext=[called[v] for v in rows.value],
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
    """The multitrait-multimethod matrix (`queries.mtmm`): correlations over subjects,
    instruments by values both ways.
    """
    called, instruments = names(system), list(dict.fromkeys(mtmm.instrument))
    order = [
        (one, value)
        for one in instruments
        for value in system.ids
        if ((mtmm.instrument == one) & (mtmm.value == value)).any()
    ]
    r = mtmm.set_index(["instrument", "value", "other_instrument", "other_value"]).r
    z = np.array([[r.get((*a, *b), np.nan) for b in order] for a in order], dtype=float)
    said = [
        [
            f"{plain(a[0])}: {called[a[1]]}<br>{plain(b[0])}: {called[b[1]]}<br>r {signed(x)}"
            for b, x in zip(order, row, strict=True)
        ]
        for a, row in zip(order, z, strict=True)
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
            hovertext=said,
            hoverinfo="text",
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "r"}, "thickness": 12},
        )
    )
    dress(figure, height=height, margin={"l": 8, "r": 8, "t": 36, "b": 8})
    for one in instruments:
        own = [place for place, (name, _) in zip(places, order, strict=True) if name == one]
        figure.add_annotation(
            x=sum(own) / len(own),
            y=1,
            yref="paper",
            yanchor="bottom",
            text=f"<b>{plain(one)}</b>",
            showarrow=False,
        )
    for number in range(1, len(instruments)):
        edge = sum(one in instruments[:number] for one, _ in order) - 0.5
        figure.add_hline(y=edge, line={"color": SOFT, "width": 2})
        figure.add_vline(x=edge, line={"color": SOFT, "width": 2})
    ticks = [called[value] for _, value in order]
    figure.update_xaxes(
        tickmode="array", tickvals=places, ticktext=ticks, tickangle=-60, showgrid=False
    )
    figure.update_yaxes(
        tickmode="array", tickvals=places, ticktext=ticks, autorange="reversed", showgrid=False
    )
    return figure
