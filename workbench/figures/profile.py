"""Value profiles: on the motivational circle, and as rows to compare two of them.

Bars are 95 % intervals, bootstrapped over prompt contexts.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.style import GRID, INK, SOFT, bars, colours, dress, faded, names

BASE = "#8b949e"
"""Colour of a profile that another one is compared with."""


def circumplex(
    profile: pd.DataFrame,
    system: ValueSystem,
    height: int = 470,
    before: pd.DataFrame | None = None,
) -> go.Figure:
    """Draw a profile around the circle of values.

    The distance from the dashed ring is the rating above or below the mean rating of all items.
    `profile`: `queries.profile`, centred; `before`: a profile drawn behind it in grey, with
    intervals of its own.
    """
    rows = _in_order(profile, system)
    ends = pd.concat([rows] if before is None else [rows, before])[["low", "high"]].to_numpy()
    reach = max(0.4, float(np.nanmax(np.abs(ends)))) * 1.12
    figure = go.Figure()
    figure.add_scatterpolar(
        r=np.zeros(181),
        theta=np.linspace(0, 360, 181),
        mode="lines",
        line={"color": SOFT, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
    if before is not None:
        _draw_before(figure, _in_order(before, system), system)
    _draw_profile(figure, rows, system)
    dress(figure, height=height, showlegend=False, margin={"l": 70, "r": 70, "t": 36, "b": 36})
    _polar_axes(figure, reach, system)
    return figure


def _draw_profile(figure: go.Figure, rows: pd.DataFrame, system: ValueSystem) -> None:
    """Draw a profile as an area, an interval and a disc a value."""
    hue, angles = colours(system), _angles(rows, system)
    figure.add_scatterpolar(
        r=[*rows["mean"], rows["mean"].iloc[0]],
        theta=[*angles, angles[0]],
        mode="lines",
        fill="toself",
        fillcolor=faded("#64748b", 0.10),
        line={"color": faded("#475569", 0.55), "width": 1.5},
        hoverinfo="skip",
    )
    _draw_intervals(figure, rows, angles, {"color": "#aab3bd", "width": 5})
    figure.add_scatterpolar(
        r=rows["mean"],
        theta=angles,
        mode="markers",
        marker={
            "size": 13,
            "color": [hue[v] for v in rows.value],
            "line": {"color": "white", "width": 1.5},
        },
        hovertext=_numbers(rows, names(system)),
        hoverinfo="text",
    )


def _draw_before(figure: go.Figure, rows: pd.DataFrame, system: ValueSystem) -> None:
    """Draw a profile in grey, as a dashed line with its intervals."""
    angles, texts = _angles(rows, system), _numbers(rows, names(system))
    figure.add_scatterpolar(
        r=[*rows["mean"], rows["mean"].iloc[0]],
        theta=[*angles, angles[0]],
        mode="lines+markers",
        line={"color": BASE, "width": 1.5, "dash": "dash"},
        marker={"size": 6, "color": BASE},
        hovertext=[*texts, texts[0]],
        hoverinfo="text",
    )
    _draw_intervals(figure, rows, angles, {"color": faded(BASE, 0.45), "width": 3})


def _draw_intervals(
    figure: go.Figure, rows: pd.DataFrame, angles: np.ndarray, line: Mapping[str, object]
) -> None:
    """Draw every value's interval along its spoke: one trace, broken by a gap after each."""
    gap = np.full(len(rows), np.nan)
    figure.add_scatterpolar(
        r=np.column_stack([rows.low, rows.high, gap]).ravel(),
        theta=np.repeat(angles, 3),
        mode="lines",
        line=dict(line),
        connectgaps=False,
        hoverinfo="skip",
    )


def _polar_axes(figure: go.Figure, reach: float, system: ValueSystem) -> None:
    """Name the values around the circle, and number one spoke up to `reach` [points]."""
    name_of, n = names(system), len(system.ids)
    step = max(s for s in (0.2, 0.5, 1.0, 2.0) if s < reach)
    between = 90 - 180 / n  # the numbers stand between two values
    figure.update_polars(
        bgcolor="rgba(0,0,0,0)",
        angularaxis={
            "tickmode": "array",
            "tickvals": [i * 360 / n for i in range(n)],
            "ticktext": [name_of[id] for id in system.ids],
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
            "angle": between,
            "tickangle": between,
            "tickvals": [-step, 0, step],
            "ticktext": [f"{-step:+g}", "0", f"{step:+g}"],
            "linecolor": "rgba(0,0,0,0)",
            "ticks": "",
        },
    )


def _in_order(profile: pd.DataFrame, system: ValueSystem) -> pd.DataFrame:
    """Sort a profile's rows along the circle."""
    order = [id for id in system.ids if id in set(profile.value)]
    return profile.set_index("value").reindex(order).reset_index()


def _angles(rows: pd.DataFrame, system: ValueSystem) -> np.ndarray:
    """Place of each row's value on the circle [degrees]."""
    return np.array([system.ids.index(v) for v in rows.value]) * 360 / len(system.ids)


def _numbers(rows: pd.DataFrame, name_of: Mapping[str, str]) -> list[str]:
    """Write what each row shows on touch: its mean, its interval and what it rests on."""
    return [
        f"<b>{name_of[r.value]}</b><br>{r.mean:+.2f} points [{r.low:+.2f}, {r.high:+.2f}]<br>{r.n}"
        f" contexts, {r.parsed} answers, {r.missing} missing"
        for r in rows.itertuples(index=False)
    ]


def profile_rows(profiles: pd.DataFrame, system: ValueSystem, height: int = 460) -> go.Figure:
    """Draw the profiles of one or two steerings, a row a value: where there are two, the unsteered
    one is grey and the other has the values' colours.
    """
    name_of, hue = names(system), colours(system)
    order = [id for id in system.ids if id in set(profiles.value)]
    figure = go.Figure()
    steerings = sorted(profiles.steering.unique(), key=lambda s: s != "base")
    for number, steering in enumerate(steerings):
        rows = _in_order(profiles[profiles.steering == steering], system)
        shift = 0.0
        if len(steerings) > 1:
            shift = 0.16 if steering == "base" else -0.16
        grey = steering == "base" and len(steerings) > 1
        paint = [BASE] * len(rows) if grey else [hue[v] for v in rows.value]
        height_of = {value: place for place, value in enumerate(reversed(order))}
        figure.add_scatter(
            x=rows["mean"],
            y=rows.value.map(height_of) + shift,
            mode="markers",
            marker={
                "size": 11,
                "color": paint,
                "symbol": "diamond" if number else "circle",
                "line": {"color": "white", "width": 1},
            },
            name="default" if steering == "base" else "steered",
            error_x=bars(rows["mean"], rows.low, rows.high),
            hovertext=_numbers(rows, name_of),
            hoverinfo="text",
            showlegend=len(steerings) > 1,
        )
    dress(figure, height=height, legend={"orientation": "h", "y": 1.08, "x": 0})
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(order)))[::-1],
        ticktext=[name_of[v] for v in order],
        range=[-0.6, len(order) - 0.4],
        showgrid=False,
    )
    figure.update_xaxes(
        title_text="rating above the mean of all items [points], bars: 95 % interval over contexts",
        zeroline=True,
    )
    return figure
