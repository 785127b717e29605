"""Side effects: the value x value matrix, dose-responses with their damage, leakage.

Effects are changes in unsteered SD of the target, bars and bands 95 % intervals over prompt
contexts (paired). A cell inside the null band of random features and directions is grey: chance
moves the target as much.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feature_store.records import ValueSystem
from workbench.figures.cells import MatrixCell, Shape, matrix
from workbench.figures.style import (
    INK,
    SOFT,
    UNITS,
    bars,
    colours,
    dress,
    faded,
    names,
    probability,
    signed,
)


def inside_null(cells: pd.DataFrame) -> pd.Series:
    """Say of every cell whether its effect lies within its null band."""
    return (cells.effect >= cells.null_low) & (cells.effect <= cells.null_high)


def effect_matrix(
    cells: pd.DataFrame, system: ValueSystem, height: int = 600, small: bool = False
) -> go.Figure:
    """Draw the side-effect matrix: rows are steered, columns measured.

    `cells`: `queries.matrix`; `small`: without numbers. `customdata` of a cell is [source, target].
    """
    name_of = names(system)
    order = [name_of[v] for v in system.ids if v in set(cells.source) | set(cells.target)]
    drawn = [
        MatrixCell(
            row=name_of[r.source],
            column=name_of[r.target],
            size=r.effect,
            text=f"{signed(r.effect)}{'*' if r.q < 0.05 else ''}",
            hover=(
                f"<b>{name_of[r.source]} on {name_of[r.target]}</b><br>{r.effect:+.2f} SD, 95 %"
                f" interval [{r.low:+.2f}, {r.high:+.2f}]<br>null band [{r.null_low:+.2f},"
                f" {r.null_high:+.2f}]{', inside' if r.masked else ''}<br>"
            )
            + (f"q {probability(r.q)}, " if r.q == r.q else "")
            + f"{r.n} contexts, {r.features} features",
            faint=r.masked,
            data=(r.source, r.target),
        )
        for r in cells.assign(masked=inside_null(cells)).itertuples()
    ]
    strongest = float(np.nanmax(np.abs(cells.effect))) or 1.0
    shape: Shape = "small" if small else "square"
    return matrix(drawn, order, order, span=strongest, height=height, shape=shape)


def _panels() -> go.Figure:
    """Make an empty figure of two panels: the effect above, the damage beneath."""
    return make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.76, 0.24], vertical_spacing=0.06
    )


def _axes(figure: go.Figure, unit: str, limit: float | None) -> None:
    """Name the axes of both panels, and mark the damage at which features are compared."""
    if limit is not None:
        figure.add_hline(y=limit, row=2, col=1, line={"color": SOFT, "width": 1, "dash": "dot"})
    figure.update_yaxes(title_text="effect [SD]", row=1, col=1, zeroline=True)
    figure.update_yaxes(
        title_text="damage<br>[nats/token]", row=2, col=1, rangemode="tozero", nticks=3
    )
    figure.update_xaxes(title_text=f"dose [{UNITS[unit]}]", row=2, col=1)


def feature_doses(
    doses: pd.DataFrame,
    system: ValueSystem,
    labelled: str,
    unit: str,
    limit: float | None = None,
    height: int = 460,
) -> go.Figure:
    """Draw one feature's effect on every value over the dose, and its damage beneath.

    `doses`: `queries.feature_doses`; `labelled`: the value that the feature is labelled with, drawn
    last and strongest; `limit`: the damage at which features are compared [nats per token].
    """
    name_of, hue, figure = names(system), colours(system), _panels()
    targets = [v for v in system.ids if v in set(doses.target) and v != labelled]
    if labelled in set(doses.target):
        targets.append(labelled)
    for target in targets:
        rows = doses[doses.target == target].sort_values("dose")
        _dose_line(figure, rows, name_of[target], hue[target], main=target == labelled)
    rows = doses.drop_duplicates("dose").sort_values("dose")
    figure.add_scatter(
        x=rows.dose,
        y=rows.damage,
        mode="lines+markers",
        line={"color": INK, "width": 1.6},
        showlegend=False,
        hovertemplate="%{y:.3f} nats per token<extra></extra>",
        row=2,
        col=1,
    )
    dress(figure, height=height, legend={"traceorder": "reversed"})
    _axes(figure, unit, limit)
    return figure


def _dose_line(figure: go.Figure, rows: pd.DataFrame, name: str, colour: str, main: bool) -> None:
    """Draw one value's effect over the dose with its band; `main`: the feature's value, strong."""
    figure.add_scatter(
        x=[*rows.dose, *rows.dose[::-1]],
        y=[*rows.low, *rows.high[::-1]],
        fill="toself",
        mode="none",
        fillcolor=faded(colour, 0.22 if main else 0.06),
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=rows.dose,
        y=rows.effect,
        mode="lines+markers",
        name=name + (" (its own)" if main else ""),
        legendgroup=name,
        row=1,
        col=1,
        line={"color": colour, "width": 3.5 if main else 1.6},
        marker={"size": 8 if main else 5},
        customdata=rows[["low", "high", "n"]],
        hovertemplate=(
            f"<b>{name}</b> %{{y:+.2f}} SD [%{{customdata[0]:+.2f}},"
            " %{customdata[1]:+.2f}]<br>dose %{x:g}, %{customdata[2]}"
            " contexts<extra></extra>"
        ),
    )


CONTROLS = ("random-feature", "random-direction")
"""Kinds of units that are steered for no value."""


def cell_doses(
    doses: pd.DataFrame,
    system: ValueSystem,
    source: str,
    unit: str,
    limit: float | None = None,
    height: int = 420,
) -> go.Figure:
    """Draw what the source's features do to one target over the dose, and their damage beneath.

    Random features and directions stand in grey behind them. `doses`: `queries.cell_doses`;
    `limit`: the damage at which features are compared [nats per token].
    """
    figure = _panels()
    for kind, colour, label in (
        ("random-direction", "#c3c9cf", "random directions"),
        ("random-feature", "#9aa3ac", "random features"),
        ("feature", colours(system)[source], "features of the value"),
        ("group", colours(system)[source], "groups of the value"),
        ("direction", colours(system)[source], "directions of the value"),
    ):
        rows = doses[doses.kind == kind]
        if len(rows):
            _kind_of_unit(figure, rows, colour, label)
    dress(figure, height=height, legend={"orientation": "h", "y": 1.1, "x": 0})
    _axes(figure, unit, limit)
    return figure


def _kind_of_unit(figure: go.Figure, rows: pd.DataFrame, colour: str, label: str) -> None:
    """Draw all units of one kind (features, or a kind of control), a line a unit.

    They are one trace, whose lines are broken by a gap after each unit: a trace a line is slow to
    build and to draw.
    """
    kind = rows.kind.iloc[0]
    gaps = rows.groupby("unit_id", as_index=False).last().assign(dose=np.inf)
    rows = pd.concat([rows, gaps]).sort_values(["unit_id", "dose"], kind="stable")
    rows = rows.mask(np.isinf(rows.dose))
    line = {
        "color": colour,
        "width": 1.2 if kind in CONTROLS else 2,
        "dash": "dot" if kind == "random-direction" else "solid",
    }
    units = [_unit_name(kind, feature) for feature in rows.feature]
    error = None
    if kind not in CONTROLS:
        error = bars(rows.effect, rows.low, rows.high, faded(colour, 0.5), thickness=1)
    figure.add_scatter(
        x=rows.dose,
        y=rows.effect,
        mode="lines+markers",
        line=line,
        marker={"size": 5},
        name=label,
        legendgroup=kind,
        row=1,
        col=1,
        error_y=error,
        customdata=np.column_stack([rows.low, rows.high, rows.n, units]),
        connectgaps=False,
        hovertemplate=(
            "<b>%{customdata[3]}</b><br>%{y:+.2f} SD [%{customdata[0]:+.2f},"
            " %{customdata[1]:+.2f}]<br>dose %{x:g}, %{customdata[2]} contexts<extra></extra>"
        ),
    )
    figure.add_scatter(
        x=rows.dose,
        y=rows.damage,
        mode="lines",
        line=line,
        showlegend=False,
        legendgroup=kind,
        customdata=units,
        connectgaps=False,
        hovertemplate="<b>%{customdata}</b><br>%{y:.3f} nats per token<extra></extra>",
        row=2,
        col=1,
    )


def _unit_name(kind: str, feature: float) -> str:
    """Name what was steered: a feature by its number, other things by their kind; a gap in a line
    has no name.
    """
    if np.isnan(feature):
        return ""
    return kind.replace("-", " ") if feature < 0 else f"feature {feature:.0f}"


def leakage(rows: pd.DataFrame, system: ValueSystem, height: int = 420) -> go.Figure:
    """Draw the leakage of every value that has one, over all targets together.

    `rows`: `queries.leakage`.
    """
    name_of, hue = names(system), colours(system)
    known = rows[(rows.part == "all") & rows.leakage.notna()].set_index("source")
    order = [v for v in system.ids if v in known.index]
    known = known.reindex(order)
    figure = go.Figure()
    figure.add_scatter(
        x=known.leakage,
        y=list(range(len(order))),
        mode="markers",
        marker={
            "size": 12,
            "color": [hue[v] for v in order],
            "line": {"color": "white", "width": 1},
        },
        error_x=bars(known.leakage, known.low, known.high, thickness=4),
        hovertext=[
            f"<b>{name_of[v]}</b><br>{r.leakage:.2f} [{r.low:.2f}, {r.high:.2f}]"
            for v, r in known.iterrows()
        ],
        hoverinfo="text",
    )
    dress(figure, height=height, showlegend=False)
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(order))),
        ticktext=[name_of[v] for v in order],
        autorange="reversed",
        showgrid=False,
    )
    figure.update_xaxes(
        title_text="side effects over own effect [ratio of RMS], bars: 95 % interval",
        rangemode="tozero",
    )
    return figure
