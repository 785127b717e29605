"""Side effects: the value x value matrix, and behind each cell its doses, its features and the
single prompts.

1. The matrix; a cell that is clicked (or chosen by name) opens.
2. The cell: numbers, the dose-response of its features beside random ones, and the prompts and
   ratings they come from.
3. Leakage of each value, and the features whose damage never reached the common level.
4. How the doses were found, where they were searched for.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.effects import inside_null
from workbench.figures.style import names, probability, signed
from workbench.study import Study
from workbench.sweeps.units import what_is_steered
from workbench.views import (
    facts,
    here,
    keep,
    new_click,
    next_step,
    number,
    run_json,
    show,
)
from workbench.views.shared import about_ratings, starred, turn_pages

ROWS = 15
"""Prompts on a page."""
PARTS = {
    "all": "all targets",
    "adjacent": "adjacent",
    "orthogonal": "orthogonal",
    "opposed": "opposed",
}
"""Part of the circle -> its name."""


def page() -> None:
    """Show the matrix, and what is behind the cell that was chosen."""
    study, chosen = here()
    st.title("Side effects")
    run = chosen.effects
    if run is None:
        next_step(study, chosen, "sae", "labels", "effects")
        return
    cells = starred(queries.matrix(study.store, run.run), run)
    if cells.empty:
        st.info("The sweep steered no value, so there is no matrix.")
        return
    config = run_json(run, "config")
    st.caption(
        f"What else moves when a value is steered. Each value's {what_is_steered(config)} are"
        f" steered {_how_far(study, run, config)}."
    )
    left, right = st.columns([1.5, 1], gap="large")
    with left:
        _matrix(study, run, cells)
    with right:
        source, target = _choose_cell(study, cells)
        _cell(study, run, cells[(cells.source == source) & (cells.target == target)])
    _prompts(study, run, source, target)
    left, right = st.columns(2, gap="large")
    with left:
        leaks = _leakage(study, run)
    with right:
        _matched(study, run)
    if len(leaks):
        _leakage_table(study, run, leaks)
    _dose_search(study, run)


def _how_far(study: Study, run: pd.Series, config: Mapping[str, Any]) -> str:
    """Say to which damage things were steered, and how many never did so much."""
    rows = queries.matched(study.store, run.run)
    common = f"{number(config.get('delta'))} nats per token on neutral text"
    short = int((~rows.reached).sum())
    if not short:
        return f"up to the same damage ({common})"
    if short == len(rows):
        return f"at their largest dose: none of the {short} does the common damage of {common}"
    return (
        f"up to the same damage ({common}); {short} of {len(rows)} do less even at their largest"
        " dose, and stand at that dose"
    )


def _matrix(study: Study, run: pd.Series, cells: pd.DataFrame) -> None:
    picked = new_click(figures.effect_matrix(cells, study.system, height=640), "matrix")
    if picked:
        st.session_state["cell-source"], st.session_state["cell-target"] = picked
    off = cells[cells.source != cells.target]
    st.caption(
        f"Steered: {what_is_steered(run_json(run, 'config'))}. Row steered, column measured; mean"
        " change in unsteered SD, turned so that the steered value rises. Grey: inside the null"
        " band of random features and directions of equal norm."
        " \\*: q < 0.05, over contexts and over the value's features alike, after"
        f" Benjamini-Hochberg over the {len(off)} cells off the diagonal. {cells.n.max()} contexts,"
        f" seed {run.seed}. Click a cell to see what is behind it."
    )
    about_ratings(run)


def _choose_cell(study: Study, cells: pd.DataFrame) -> tuple[str, str]:
    """Let the user choose a cell by name; gives what is steered and what is measured."""
    name_of = names(study.system)
    sources = [v for v in study.system.ids if v in set(cells.source)]
    targets = [v for v in study.system.ids if v in set(cells.target)]
    strongest = cells[cells.source != cells.target].sort_values("effect", key=abs, ascending=False)
    first = strongest.iloc[0] if len(strongest) else cells.iloc[0]
    keep("cell-source", sources, first.source)
    keep("cell-target", targets, first.target)
    a, b = st.columns(2)
    source = a.selectbox("Steered", sources, format_func=name_of.__getitem__, key="cell-source")
    target = b.selectbox("Measured", targets, format_func=name_of.__getitem__, key="cell-target")
    return source, target


def _cell(study: Study, run: pd.Series, cells: pd.DataFrame) -> None:
    """Show one cell: its numbers, and the dose-response of its features beside the controls.

    `cells` has the row of the cell, or none where the pair was not measured.
    """
    if cells.empty:
        st.info("This pair was not measured.")
        return
    cell, name_of = cells.iloc[0], names(study.system)
    st.subheader(f"{name_of[cell.source]} on {name_of[cell.target]}")
    facts(
        {
            "effect": f"{signed(cell.effect)} SD",
            "95 % interval": f"{signed(cell.low)} to {signed(cell.high)}",
            "null band": f"{signed(cell.null_low)} to {signed(cell.null_high)}",
        }
    )
    verdict = (
        "Inside the null band: random steering moves it as much"
        if inside_null(cells).iloc[0]
        else "Outside the null band"
    )
    q = "" if pd.isna(cell.q) else f"q {probability(cell.q)}, "
    st.caption(
        f"{verdict}. {q}p {probability(cell.p)}, {cell.n} contexts, {cell.features}"
        f" {what_is_steered(run_json(run, 'config'))}, seed {run.seed}."
    )
    config = run_json(run, "config")
    doses = queries.cell_doses(study.store, run.run, cell.source, cell.target)
    if len(doses):
        figure = figures.cell_doses(
            doses, study.system, cell.source, config["unit"], config.get("delta")
        )
        show(figure, "cell-doses")
        st.caption(
            "One line for each that was steered, turned so that the value rises; bars: 95 %"
            " interval over contexts. Grey: the controls. Below, damage and the level of"
            " comparison."
        )


def _prompts(study: Study, run: pd.Series, source: str, target: str) -> None:
    st.subheader("The prompts behind the number")
    cell = (run.run, source, target)
    if st.session_state.get("prompts-cell") != cell:
        st.session_state["prompts-cell"], st.session_state["prompts-page"] = cell, 0
    at = st.session_state["prompts-page"]
    rows = queries.cell_ratings(study.store, run.run, source, target, ROWS, at * ROWS)
    if rows.empty:
        st.caption("No single ratings were kept for this cell.")
        return
    st.dataframe(
        pd.DataFrame(
            {
                "what": _steered(rows),
                "dose": rows.dose,
                "context": rows.context,
                "prompt": rows.prompt.fillna(""),
                "wording": rows.wording,
                "order": rows.order,
                "unsteered": rows.base,
                "steered": rows.rating,
                "change": rows.change,
            }
        ),
        hide_index=True,
        height=35 * (len(rows) + 1) + 3,
        column_config={
            "prompt": st.column_config.TextColumn(width="large"),
            "unsteered": st.column_config.NumberColumn(format="%.2f"),
            "steered": st.column_config.NumberColumn(format="%.2f"),
            "change": st.column_config.NumberColumn(format="%+.2f"),
        },
    )
    total = int(rows.total.iloc[0])
    middle = turn_pages("prompts-page", ROWS, total, middle_width=4)
    middle.caption(
        f"{at * ROWS + 1}–{at * ROWS + len(rows)} of {total:,} pairs, largest change first:"
        " expected rating on the scale, each steering at the measured dose nearest its"
        " damage-matched strength. What is labelled as rejecting the value lowers it, so its"
        " changes count with the opposite sign."
    )


def _leakage(study: Study, run: pd.Series) -> pd.DataFrame:
    st.subheader("Leakage")
    rows = queries.leakage(study.store, run.run)
    if rows.empty:
        st.caption("None was computed.")
    elif rows[rows.part == "all"].leakage.notna().any():
        show(figures.leakage(rows, study.system), "leakage")
    return rows


def _leakage_table(study: Study, run: pd.Series, rows: pd.DataFrame) -> None:
    intervals = [f"{r.leakage:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in rows.itertuples()]
    shown = rows.assign(interval=intervals)
    shown.loc[rows.leakage.isna(), "interval"] = "–"
    order = [v for v in study.system.ids if v in set(rows.source)]
    parts = [part for part in PARTS if part in set(rows.part)]
    table = shown.pivot(index="source", columns="part", values="interval")
    table = table.reindex(index=order)[parts]
    reasons = rows[rows.part == "all"].set_index("source").reason.reindex(order)
    table = (
        table.assign(undefined=reasons.fillna(""))
        .rename(index=names(study.system))
        .rename_axis("value")
        .rename(columns=PARTS | {"undefined": "why undefined"})
    )
    st.dataframe(table, height=35 * (len(table) + 1) + 3)
    summary = run_json(run)
    circle = ""
    if "circle_spearman" in summary:
        circle = (
            " Spearman correlation of the matrix with the circle"
            f" {number(summary['circle_spearman'], 2)} (permutation p ="
            f" {number(summary.get('circle_p'), 2)})."
        )
    st.caption(
        "Side effects relative to the value's own effect, by the target's place on the circle,"
        f" with 95 % intervals, seed {run.seed}.{circle}"
    )


def _steered(rows: pd.DataFrame) -> list[str]:
    """Name what was steered: a feature by its number, a group or direction by its kind."""
    return [
        str(row.feature) if row.feature >= 0 else row.kind.replace("-", " ")
        for row in rows.itertuples()
    ]


def _matched(study: Study, run: pd.Series) -> None:
    st.subheader("Damage matching")
    rows = queries.matched(study.store, run.run)
    short = rows[~rows.reached]
    if short.empty:
        st.caption(f"All {len(rows)} that were steered reached the common damage.")
    else:
        st.caption(
            f"{len(short)} of {len(rows)} that were steered did less damage than the common level"
            " even at the largest dose; they enter at that dose."
        )
    name_of = names(study.system)
    st.dataframe(
        pd.DataFrame(
            {
                "what": _steered(rows),
                "value": rows.value.map(name_of),
                "polarity": rows.polarity.map({1: "held", -1: "rejected"}),
                "strength": rows.strength,
                "damage [nats/token]": rows.damage,
                "matched": rows.reached,
            }
        ),
        hide_index=True,
        height=420,
        column_config={
            "strength": st.column_config.NumberColumn(format="%.2f"),
            "damage [nats/token]": st.column_config.NumberColumn(format="%.3f"),
        },
    )


def _dose_search(study: Study, run: pd.Series) -> None:
    """Show damage over strength where the sweep's doses were searched for."""
    rows = queries.dose_curves(study.store, run.run)
    doses = run_json(run).get("doses")
    if rows.empty or not doses:
        return
    st.subheader("How the doses were found")
    config = run_json(run, "config")
    show(figures.dose_curve(rows, config["unit"], config["delta"], doses[-1]), "dose-search")
    st.caption(
        f"The largest dose, {doses[-1]:g}, is where the best features of the values do"
        f" {config['delta']:g} nats of damage a token on average over {rows.n.max()} neutral texts,"
        " interpolated between measured strengths; beside them as many random directions of the"
        f" same length. Seed {run.seed}."
    )
