"""Moral dilemmas: preference by step, win rates, strengths, and whether subjects rank values alike.

Bars and bands are 95 % intervals over dilemmas. What is blank rests on too few dilemmas; what is
grey includes chance.
"""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feature_store.records import ValueSystem
from workbench.figures.cells import MatrixCell, matrix
from workbench.figures.style import (
    CLICKED,
    INK,
    LEGEND_ABOVE,
    SOFT,
    WHOLE,
    bars,
    colours,
    dress,
    faded,
    looks,
    names,
    plain,
    signed,
)

ACROSS = 5
"""Panels in a row."""


def step_lines(rows: pd.DataFrame, system: ValueSystem, panel: int = 205) -> go.Figure:
    """Draw the preference for every value by step, a panel a value before the others in grey.

    `rows`: `queries.step_preferences`; `panel`: height of a panel [pixels]. `customdata` of a point
    is [step, value].
    """
    name_of = names(system)
    order = [v for v in system.ids if v in set(rows.value)]
    down = -(-len(order) // ACROSS)
    figure = make_subplots(
        rows=down,
        cols=ACROSS,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.018,
        vertical_spacing=0.34 / (down + 0.2),
        subplot_titles=[name_of[v] for v in order],
    )
    rows = rows.sort_values("step", kind="stable")
    everyone = _with_gaps([rows[rows.value == v] for v in order])
    for k, value in enumerate(order):
        cell = {"row": k // ACROSS + 1, "col": k % ACROSS + 1}
        figure.add_scatter(
            x=everyone.step,
            y=everyone.preference,
            mode="lines",
            line={"color": "#dde1e5", "width": 1},
            hoverinfo="skip",
            connectgaps=False,
            **cell,
        )
        _step_line(figure, rows[rows.value == value], system, cell)
        figure.add_hline(y=0, line={"color": "#c9ced4", "width": 1}, **cell)
    dress(
        figure,
        height=panel * down + 40,
        showlegend=False,
        **CLICKED,
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    figure.update_xaxes(
        dtick=1,
        range=[rows.step.min() - 0.35, rows.step.max() + 0.35],
        showgrid=False,
        zeroline=False,
        showticklabels=True,
    )
    figure.update_xaxes(title_text="step", row=down)
    figure.update_yaxes(range=[-0.55, 0.55], tickvals=[-0.5, 0, 0.5], zeroline=False)
    return figure


def _with_gaps(lines: list[pd.DataFrame]) -> pd.DataFrame:
    """Join lines into one trace, which an empty row after every line breaks."""
    gap = pd.DataFrame({"step": [None], "preference": [None]}, dtype=float)
    pieces = []
    for line in lines:
        pieces += [line[["step", "preference"]], gap]
    return pd.concat(pieces)


def _step_line(
    figure: go.Figure, line: pd.DataFrame, system: ValueSystem, cell: Mapping[str, int]
) -> None:
    """Draw one value's preference by step with its band, in a panel of the figure."""
    value = line.value.iloc[0]
    name, colour = names(system)[value], colours(system)[value]
    known = line.dropna(subset=["preference"])
    figure.add_scatter(
        x=[*known.step, *known.step[::-1]],
        y=[*known.low, *known.high[::-1]],
        fill="toself",
        mode="none",
        fillcolor=faded(colour, 0.18),
        hoverinfo="skip",
        **cell,
    )
    figure.add_scatter(
        x=line.step,
        y=line.preference,
        mode="lines+markers",
        line={"color": colour, "width": 2.5},
        marker={"size": 8, "color": colour},
        connectgaps=False,
        customdata=line[["step", "value"]].to_numpy(),
        unselected=WHOLE,
        hoverinfo="text",
        hovertext=[
            f"<b>{name}</b>, step {r.step}<br>{signed(r.preference)} [{signed(r.low)},"
            f" {signed(r.high)}]<br>{r.n} dilemmas, {r.offered} answers, {r.missing} missing"
            for r in line.itertuples()
        ],
        **cell,
    )


def win_matrix(rows: pd.DataFrame, system: ValueSystem, height: int = 600) -> go.Figure:
    """Draw how often the row's value was chosen against the column's.

    `rows`: `queries.win_rates`. `customdata` of a cell is [value, against].
    """
    name_of = names(system)
    order = [name_of[v] for v in system.ids if v in set(rows.value) | set(rows.against)]
    known = rows[rows.rate.notna()]
    cells = [
        MatrixCell(
            row=name_of[r.value],
            column=name_of[r.against],
            size=r.rate - 0.5,
            text=f"{r.rate:.2f}",
            hover=(
                f"<b>{name_of[r.value]} against {name_of[r.against]}</b><br>chosen {r.rate:.2f}"
                f" [{r.low:.2f}, {r.high:.2f}] of the time<br>{r.n} dilemmas, {r.met} answers"
            ),
            faint=bool(r.low <= 0.5 <= r.high),
            data=(r.value, r.against),
        )
        for r in known.itertuples()
    ]
    return matrix(cells, order, order, span=0.5, height=height)


def strength_rows(rows: pd.DataFrame, system: ValueSystem, height: int = 400) -> go.Figure:
    """Draw Bradley and Terry's strengths of the values, strongest first.

    `rows`: `queries.value_strengths`. `customdata` of a point is [value].
    """
    name_of, hue = names(system), colours(system)
    known = rows[rows.strength.notna()]
    places = list(range(len(known)))
    figure = go.Figure()
    figure.add_scatter(
        x=known.strength,
        y=places,
        mode="markers",
        marker={
            "size": 11,
            "color": [hue[v] for v in known.value],
            "line": {"color": "white", "width": 1},
        },
        hoverinfo="text",
        error_x=bars(known.strength, known.low, known.high),
        customdata=[[v] for v in known.value],
        unselected=WHOLE,
        hovertext=[
            f"<b>{name_of[r.value]}</b><br>{signed(r.strength)} [{signed(r.low)}, {signed(r.high)}]"
            f" nats<br>{r.n} dilemmas"
            for r in known.itertuples()
        ],
    )
    dress(figure, height=height, showlegend=False, **CLICKED)
    figure.update_yaxes(
        tickmode="array",
        tickvals=places,
        ticktext=[name_of[v] for v in known.value],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(
        title_text=(
            "log-odds against a value of mean strength [nats]<br>bars: 95 % interval over dilemmas"
        ),
        zeroline=True,
    )
    return figure


def agreement_lines(rows: pd.DataFrame, height: int = 300) -> go.Figure:
    """Draw how far subjects rank the values as the reference does, at every step.

    `rows`: `queries.step_agreement`.
    """
    figure, subjects = go.Figure(), list(dict.fromkeys(rows.subject))
    look = looks(["", *subjects])  # the reference has the first look, and no line
    for k, name in enumerate(subjects):
        line = rows[rows.subject == name]
        colour, mark = look[name]
        figure.add_scatter(
            x=line.step + 0.12 * (k - (len(subjects) - 1) / 2),  # side by side within a step
            y=line.rho,
            mode="lines+markers",
            name=plain(name),
            line={"color": colour, "width": 2},
            hoverinfo="text",
            marker={"size": 9, "symbol": mark},
            error_y=bars(line.rho, line.low, line.high, faded(colour, 0.4)),
            connectgaps=False,
            hovertext=[
                f"<b>{plain(name)}</b>, step {r.step}<br>rho {signed(r.rho)} [{signed(r.low)},"
                f" {signed(r.high)}]<br>{r.n} values"
                for r in line.itertuples()
            ],
        )
    dress(
        figure,
        height=height,
        legend=LEGEND_ABOVE,
        showlegend=True,
    )
    figure.add_hline(y=0, line={"color": SOFT, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="step", dtick=1, showgrid=False, zeroline=False)
    figure.update_yaxes(
        title_text=(
            f"Spearman's rho with {plain(rows.reference.iloc[0])}<br>bars: 95 % interval over"
            " dilemmas"
        ),
        range=[-1.05, 1.05],
        zeroline=False,
    )
    return figure
