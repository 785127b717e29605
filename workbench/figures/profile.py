"""Value profiles: on the motivational circle, and as rows to compare two of them.

Bars are 95 % intervals, bootstrapped over prompt contexts.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import GRID, INK, SOFT, colours, dress, faded, names

BASE = "#8b949e"


def _hover(rows: pd.DataFrame, called: dict[str, str]) -> list[str]:
    return [
        f"<b>{called[r.value]}</b><br>{r.mean:+.2f} points [{r.low:+.2f}, {r.high:+.2f}]<br>{r.n}"
        f" contexts, {r.parsed} answers, {r.missing} missing"
        for r in rows.itertuples(index=False)
    ]


def circumplex(
    profile: pd.DataFrame,
    system: ValueSystem,
    height: int = 470,
    before: pd.DataFrame | None = None,
) -> go.Figure:
    """One profile (`queries.profile`, centred) around the circle: distance from the dashed ring is
    the rating above or below the mean rating of all items. `before`: a profile drawn behind it in
    grey, with its own intervals.
    """
    called, hue = names(system), colours(system)
    rows, n = _in_order(profile, system), len(system.ids)
    turn = _turn(rows, system)
    ends = pd.concat([rows] if before is None else [rows, before])[["low", "high"]].to_numpy()
    reach = max(0.4, float(np.nanmax(np.abs(ends)))) * 1.12
    step = max(s for s in (0.2, 0.5, 1.0, 2.0) if s < reach)
    figure = go.Figure()
    figure.add_scatterpolar(
        r=np.zeros(181),
        theta=np.linspace(0, 360, 181),
        mode="lines",
        line={"color": SOFT, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
    if before is not None:
        was, back = _in_order(before, system), _turn(_in_order(before, system), system)
        figure.add_scatterpolar(
            r=[*was["mean"], was["mean"].iloc[0]],
            theta=[*back, back[0]],
            mode="lines+markers",
            line={"color": BASE, "width": 1.5, "dash": "dash"},
            marker={"size": 6, "color": BASE},
            hovertext=[*_hover(was, called), _hover(was, called)[0]],
            hoverinfo="text",
        )
        figure.add_scatterpolar(
            r=np.column_stack([was.low, was.high, np.full(len(was), np.nan)]).ravel(),
            theta=np.repeat(back, 3),
            mode="lines",
            line={"color": faded(BASE, 0.45), "width": 3},
            connectgaps=False,
            hoverinfo="skip",
        )
    figure.add_scatterpolar(
        r=[*rows["mean"], rows["mean"].iloc[0]],
        theta=[*turn, turn[0]],
        mode="lines",
        fill="toself",
        fillcolor=faded("#64748b", 0.10),
        line={"color": faded("#475569", 0.55), "width": 1.5},
        hoverinfo="skip",
    )
    gap = np.full(len(rows), np.nan)
    figure.add_scatterpolar(
        r=np.column_stack([rows.low, rows.high, gap]).ravel(),
        theta=np.repeat(turn, 3),
        mode="lines",
        line={"color": "#aab3bd", "width": 5},
        connectgaps=False,
        hoverinfo="skip",
    )
    figure.add_scatterpolar(
        r=rows["mean"],
        theta=turn,
        mode="markers",
        marker={
            "size": 13,
            "color": [hue[v] for v in rows.value],
            "line": {"color": "white", "width": 1.5},
        },
        hovertext=_hover(rows, called),
        hoverinfo="text",
    )
    dress(figure, height=height, showlegend=False, margin={"l": 70, "r": 70, "t": 36, "b": 36})
    figure.update_polars(
        bgcolor="rgba(0,0,0,0)",
        angularaxis={
            "tickmode": "array",
            "tickvals": [i * 360 / n for i in range(n)],
            "ticktext": [called[id] for id in system.ids],
            "direction": "clockwise",
            "rotation": 90,
            "gridcolor": GRID,
            "linecolor": GRID,
            "ticks": "",
            "tickfont": {"size": 13, "color": INK},
        },
        radialaxis={
            "range": [-reach, reach],
            "gridcolor": GRID,
            "tickfont": {"size": 10, "color": SOFT},
            "angle": 90 - 180 / n,
            "tickangle": 90 - 180 / n,
            "tickvals": [-step, 0, step],
            "ticktext": [f"{-step:+g}", "0", f"{step:+g}"],
            "linecolor": "rgba(0,0,0,0)",
            "ticks": "",
        },
    )
    return figure


def _in_order(profile: pd.DataFrame, system: ValueSystem) -> pd.DataFrame:
    return (
        profile.set_index("value")
        .reindex([id for id in system.ids if id in set(profile.value)])
        .reset_index()
    )


def _turn(rows: pd.DataFrame, system: ValueSystem) -> np.ndarray:
    """Place of each row's value on the circle [degrees]."""
    return np.array([system.ids.index(v) for v in rows.value]) * 360 / len(system.ids)


def profile_rows(profiles: pd.DataFrame, system: ValueSystem, height: int = 460) -> go.Figure:
    """Profiles of one or two steerings as rows: the unsteered one grey, the other in the values'
    colours.
    """
    called, hue = names(system), colours(system)
    order = [id for id in system.ids if id in set(profiles.value)]
    figure = go.Figure()
    steerings = sorted(profiles.steering.unique(), key=lambda s: s != "base")
    for number, steering in enumerate(steerings):
        rows = (
            profiles[profiles.steering == steering].set_index("value").reindex(order).reset_index()
        )
        shift = 0.0 if len(steerings) == 1 else (0.16 if steering == "base" else -0.16)
        alone = steering == "base" and len(steerings) > 1
        paint = [BASE] * len(rows) if alone else [hue[v] for v in rows.value]
        y = np.arange(len(order))[::-1] + shift
        figure.add_scatter(
            x=rows["mean"],
            y=y,
            mode="markers",
            marker={
                "size": 11,
                "color": paint,
                "symbol": "diamond" if number else "circle",
                "line": {"color": "white", "width": 1},
            },
            name="default" if steering == "base" else "steered",
            error_x={
                "type": "data",
                "symmetric": False,
                "array": rows.high - rows["mean"],
                "arrayminus": rows["mean"] - rows.low,
                "thickness": 3,
                "width": 0,
                "color": "#c3c9cf",
            },
            hovertext=_hover(rows, called),
            hoverinfo="text",
            showlegend=len(steerings) > 1,
        )
    dress(figure, height=height, legend={"orientation": "h", "y": 1.08, "x": 0})
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(order)))[::-1],
        ticktext=[called[v] for v in order],
        range=[-0.6, len(order) - 0.4],
        showgrid=False,
    )
    figure.update_xaxes(
        title_text="rating above the mean of all items [points], bars: 95 % interval over contexts",
        zeroline=True,
    )
    return figure
