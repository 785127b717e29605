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
from workbench.figures.cells import Cell, matrix
from workbench.figures.style import INK, SOFT, UNITS, colours, dress, faded, names, signed


def inside_null(cells: pd.DataFrame) -> pd.Series:
    """Whether each cell's effect lies within its null band."""
    return (cells.effect >= cells.null_low) & (cells.effect <= cells.null_high)


def effect_matrix(
    cells: pd.DataFrame, system: ValueSystem, height: int = 600, small: bool = False
) -> go.Figure:
    """Rows are steered, columns measured (`queries.matrix`).

    `customdata` of every point is [source, target].
    """
    called = names(system)
    order = [called[v] for v in system.ids if v in set(cells.source) | set(cells.target)]
    drawn = [
        Cell(
            row=called[r.source],
            column=called[r.target],
            size=r.effect,
            text=f"{signed(r.effect)}{'*' if r.q < 0.05 else ''}",
            hover=(
                f"<b>{called[r.source]} on {called[r.target]}</b><br>{r.effect:+.2f} SD, 95 %"
                f" interval [{r.low:+.2f}, {r.high:+.2f}]<br>null band [{r.null_low:+.2f},"
                f" {r.null_high:+.2f}]{', inside' if r.masked else ''}<br>"
            )
            + (f"q = {r.q:.2g}, " if r.q == r.q else "")
            + f"{r.n} contexts, {r.features} features",
            faint=r.masked,
            data=(r.source, r.target),
        )
        for r in cells.assign(masked=inside_null(cells)).itertuples()
    ]
    return matrix(drawn, order, order, float(np.nanmax(np.abs(cells.effect))) or 1.0, height, small)


def _panels() -> go.Figure:
    return make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.76, 0.24], vertical_spacing=0.06
    )


def _axes(figure: go.Figure, unit: str, limit: float | None) -> None:
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
    own: str,
    unit: str,
    limit: float | None = None,
    height: int = 460,
) -> go.Figure:
    """One feature's effect on every value over the dose (`queries.feature_doses`), and the
    damage beneath.
    """
    called, hue, figure = names(system), colours(system), _panels()
    for target in sorted(doses.target.unique(), key=lambda v: (v == own, system.ids.index(v))):
        rows, main = doses[doses.target == target].sort_values("dose"), target == own
        figure.add_scatter(
            x=[*rows.dose, *rows.dose[::-1]],
            y=[*rows.low, *rows.high[::-1]],
            fill="toself",
            mode="none",
            fillcolor=faded(hue[target], 0.22 if main else 0.06),
            hoverinfo="skip",
            showlegend=False,
            legendgroup=target,
            row=1,
            col=1,
        )
        figure.add_scatter(
            x=rows.dose,
            y=rows.effect,
            mode="lines+markers",
            name=called[target] + (" (its own)" if main else ""),
            legendgroup=target,
            row=1,
            col=1,
            line={"color": hue[target], "width": 3.5 if main else 1.6},
            marker={"size": 8 if main else 5},
            customdata=rows[["low", "high", "n"]],
            hovertemplate=(
                f"<b>{called[target]}</b> %{{y:+.2f}} SD [%{{customdata[0]:+.2f}},"
                " %{customdata[1]:+.2f}]<br>dose %{x:g}, %{customdata[2]}"
                " contexts<extra></extra>"
            ),
        )
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


def cell_doses(
    doses: pd.DataFrame,
    system: ValueSystem,
    source: str,
    unit: str,
    limit: float | None = None,
    height: int = 420,
) -> go.Figure:
    """The source's features on one target (`queries.cell_doses`), random features and directions
    in grey behind them.
    """
    hue, figure = colours(system)[source], _panels()
    for kind, colour, label in (
        ("random-direction", "#c3c9cf", "random directions"),
        ("random-feature", "#9aa3ac", "random features"),
        ("feature", hue, "features of the value"),
    ):
        rows = doses[doses.kind == kind]
        if rows.empty:
            continue
        # One trace a kind, its lines broken by a gap after each unit: a trace a line is slow to
        # build and to draw.
        gaps = rows.groupby("unit_id", as_index=False).last().assign(dose=np.inf)
        rows = pd.concat([rows, gaps]).sort_values(["unit_id", "dose"], kind="stable")
        rows = rows.mask(np.isinf(rows.dose))
        line = {
            "color": colour,
            "width": 2 if kind == "feature" else 1.2,
            "dash": "dot" if kind == "random-direction" else "solid",
        }
        who = rows.feature.map(
            lambda f: "random direction" if f < 0 else f"feature {f:.0f}" if f == f else ""
        )
        bars = {
            "type": "data",
            "symmetric": False,
            "array": rows.high - rows.effect,
            "arrayminus": rows.effect - rows.low,
            "thickness": 1,
            "width": 0,
            "color": faded(colour, 0.5),
        }
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
            error_y=bars if kind == "feature" else None,
            customdata=np.column_stack([rows.low, rows.high, rows.n, who]),
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
            customdata=who,
            connectgaps=False,
            hovertemplate="<b>%{customdata}</b><br>%{y:.3f} nats per token<extra></extra>",
            row=2,
            col=1,
        )
    dress(figure, height=height, legend={"orientation": "h", "y": 1.1, "x": 0})
    _axes(figure, unit, limit)
    return figure


def leakage(rows: pd.DataFrame, system: ValueSystem, height: int = 420) -> go.Figure:
    """Leakage of every value that has one (`queries.leakage`), all targets together."""
    called, hue = names(system), colours(system)
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
        error_x={
            "type": "data",
            "symmetric": False,
            "array": known.high - known.leakage,
            "arrayminus": known.leakage - known.low,
            "thickness": 4,
            "width": 0,
            "color": "#c3c9cf",
        },
        hovertext=[
            f"<b>{called[v]}</b><br>{r.leakage:.2f} [{r.low:.2f}, {r.high:.2f}]"
            for v, r in known.iterrows()
        ],
        hoverinfo="text",
    )
    dress(figure, height=height, showlegend=False)
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(order))),
        ticktext=[called[v] for v in order],
        autorange="reversed",
        showgrid=False,
    )
    figure.update_xaxes(
        title_text="side effects over own effect [ratio of RMS], bars: 95 % interval",
        rangemode="tozero",
    )
    return figure
