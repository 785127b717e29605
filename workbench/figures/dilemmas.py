"""Moral dilemmas: preference by step, win rates, strengths, and whether subjects rank values alike.

Bars and bands are 95 % intervals over dilemmas. What is blank rests on too few dilemmas; what is
grey includes chance.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feature_store.records import ValueSystem
from workbench.figures.cells import Cell, matrix
from workbench.figures.style import (
    CLICKED,
    INK,
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
    """Preference by step (`queries.step_preferences`), a panel a value before the others in grey.

    `customdata` is [step, value].
    """
    called, hue = names(system), colours(system)
    order = [v for v in system.ids if v in set(rows.value)]
    down = -(-len(order) // ACROSS)
    figure = make_subplots(
        rows=down,
        cols=ACROSS,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.018,
        vertical_spacing=0.34 / (down + 0.2),
        subplot_titles=[called[v] for v in order],
    )
    lines = {v: rows[rows.value == v].sort_values("step") for v in order}
    gaps = pd.concat(
        [
            pd.concat(
                [
                    one[["step", "preference"]],
                    pd.DataFrame({"step": [None], "preference": [None]}, dtype=float),
                ]
            )
            for one in lines.values()
        ]
    )
    for k, value in enumerate(order):
        at, own = {"row": k // ACROSS + 1, "col": k % ACROSS + 1}, lines[value]
        known = own.dropna(subset=["preference"])
        figure.add_scatter(
            x=gaps.step,
            y=gaps.preference,
            mode="lines",
            line={"color": "#dde1e5", "width": 1},
            hoverinfo="skip",
            connectgaps=False,
            **at,
        )
        figure.add_scatter(
            x=[*known.step, *known.step[::-1]],
            y=[*known.low, *known.high[::-1]],
            fill="toself",
            mode="none",
            fillcolor=faded(hue[value], 0.18),
            hoverinfo="skip",
            **at,
        )
        figure.add_scatter(
            x=own.step,
            y=own.preference,
            mode="lines+markers",
            line={"color": hue[value], "width": 2.5},
            marker={"size": 8, "color": hue[value]},
            connectgaps=False,
            customdata=own[["step", "value"]].to_numpy(),
            unselected=WHOLE,
            hoverinfo="text",
            hovertext=[
                f"<b>{called[value]}</b>, step {r.step}<br>{signed(r.preference)} [{signed(r.low)},"
                f" {signed(r.high)}]<br>{r.n} dilemmas, {r.offered} answers, {r.missing} missing"
                for r in own.itertuples()
            ],
            **at,
        )
        figure.add_hline(y=0, line={"color": "#c9ced4", "width": 1}, **at)
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


def win_matrix(rows: pd.DataFrame, system: ValueSystem, height: int = 600) -> go.Figure:
    """How often the row's value was chosen against the column's (`queries.win_rates`).

    `customdata` is [value, against].
    """
    called = names(system)
    order = [called[v] for v in system.ids if v in set(rows.value) | set(rows.against)]
    known = rows[rows.rate.notna()]
    cells = [
        Cell(
            row=called[r.value],
            column=called[r.against],
            size=r.rate - 0.5,
            text=f"{r.rate:.2f}",
            hover=(
                f"<b>{called[r.value]} against {called[r.against]}</b><br>chosen {r.rate:.2f}"
                f" [{r.low:.2f}, {r.high:.2f}] of the time<br>{r.n} dilemmas, {r.met} answers"
            ),
            faint=bool(r.low <= 0.5 <= r.high),
            data=(r.value, r.against),
        )
        for r in known.itertuples()
    ]
    return matrix(cells, order, order, 0.5, height)


def strength_rows(rows: pd.DataFrame, system: ValueSystem, height: int = 400) -> go.Figure:
    """Bradley and Terry's strengths (`queries.value_strengths`), strongest first.

    `customdata` is the value.
    """
    called, hue = names(system), colours(system)
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
            f"<b>{called[r.value]}</b><br>{signed(r.strength)} [{signed(r.low)}, {signed(r.high)}]"
            f" nats<br>{r.n} dilemmas"
            for r in known.itertuples()
        ],
    )
    dress(figure, height=height, showlegend=False, **CLICKED)
    figure.update_yaxes(
        tickmode="array",
        tickvals=places,
        ticktext=[called[v] for v in known.value],
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
    """Rank agreement of subjects with the reference at each step (`queries.step_agreement`)."""
    figure, subjects = go.Figure(), list(dict.fromkeys(rows.subject))
    look = looks(["", *subjects])  # the reference has the first look, and no line
    for k, name in enumerate(subjects):
        own, (colour, mark) = rows[rows.subject == name], look[name]
        figure.add_scatter(
            x=own.step + 0.12 * (k - (len(subjects) - 1) / 2),
            y=own.rho,
            mode="lines+markers",
            name=plain(name),
            line={"color": colour, "width": 2},
            hoverinfo="text",
            marker={"size": 9, "symbol": mark},
            error_y=bars(own.rho, own.low, own.high, faded(colour, 0.4)),
            connectgaps=False,
            hovertext=[
                f"<b>{plain(name)}</b>, step {r.step}<br>rho {signed(r.rho)} [{signed(r.low)},"
                f" {signed(r.high)}]<br>{r.n} values"
                for r in own.itertuples()
            ],
        )
    dress(
        figure,
        height=height,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
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
