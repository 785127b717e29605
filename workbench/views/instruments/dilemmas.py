"""Moral dilemmas: which values are chosen, step by step, whether the choices are transitive, and
the answers behind each number.

1. Preference by step, a panel a value; win rates; strengths; cyclic triads. What is clicked chooses
   the answers below.
2. Whether subjects rank the values alike, where a contrast compared them; how far to trust the
   answers.
3. The answers. Which values an item sets against each other is read from the instrument that the
   run asked.
"""

from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names
from workbench.study import Study
from workbench.views import facts, keep, missing, newly, number, run_json, safe, show
from workbench.views.shared import PAGE, answers_table, page_number, quality_table, short_names

FLAGS = "--instrument moral-dilemmas --settings items=FILE.json --contexts none"
ANY = ""
CYCLES = 12
"""Cycles that are named."""


def section(study: Study) -> None:
    """One set of answers."""
    rows = queries.dilemmas(study.store)
    if rows.empty:
        missing(study, "profile", "Nobody has been asked moral dilemmas yet.", FLAGS)
        return
    short = short_names(
        list(dict.fromkeys(rows.steering)), queries.subject_names(study.store, list(rows.run))
    )
    at = st.selectbox(
        "Whose choices", list(rows.index), format_func=lambda k: _called(rows.loc[k], short)
    )
    row = rows.loc[at]
    steps = queries.step_preferences(study.store, row.run, row.steering)
    _steps(study, row, steps)
    left, right = st.columns([1.45, 1], gap="large")
    with left:
        _wins(study, row)
    with right:
        _strengths(study, row)
        _cycles(study, row)
    _agreement(study, row)
    quality_table(
        study,
        pd.DataFrame(
            {"profile": [row.run], "steering": [row.steering]}, index=[short[row.steering]]
        ),
    )
    _answers(study, row, sorted(set(steps.step)))


def _called(row: pd.Series, short: dict[str, str]) -> str:
    config = run_json(row, "config")
    return " · ".join(
        [
            short[row.steering],
            config["model"].rstrip("/").split("/")[-1],
            *config.get("settings", ()),
            f"{row.created:%d %b %H:%M}",
            row.run.split("-")[-1],
        ]
    )


def _choose(step: Any, value: str, against: str) -> None:
    (
        st.session_state["dilemmas-step"],
        st.session_state["dilemmas-value"],
        st.session_state["dilemmas-against"],
    ) = (
        step,
        value,
        against,
    )


def _steps(study: Study, row: pd.Series, steps: pd.DataFrame) -> None:
    st.subheader("Preference by step")
    picked = newly(
        show(
            figures.step_lines(steps, study.system),
            "steps",
            on_select="rerun",
            selection_mode="points",
        ),
        "steps",
    )
    if picked:
        _choose(int(picked[0]), picked[1], ANY)
    config = run_json(row, "config")
    blank = int(steps.preference.isna().sum())
    st.caption(
        "ChosenRuns / offered less a half: 0.5 is always chosen, -0.5 never. Band: 95 % interval over"
        f" dilemmas, {_range(steps.n)} for each point; grey: the other values."
        f" {int(steps.offered.sum()) // 2:,} choices, {int(steps.missing.sum()) // 2} not read;"
        f" both orders where two were asked; seed {config['seed']}, {config['replicates']}"
        " replicates. "
        + (f"{blank} points rest on fewer than five dilemmas and are blank. " if blank else "")
        + "Click a point to see its answers below."
    )


def _range(n: pd.Series) -> str:
    return f"{n.min()} dilemmas" if n.min() == n.max() else f"{n.min()} to {n.max()} dilemmas"


def _wins(study: Study, row: pd.Series) -> None:
    st.subheader("Which value wins")
    rows = queries.win_rates(study.store, row.run, row.steering)
    if rows.empty:
        st.caption("No choice could be read.")
        return
    if rows.rate.notna().any():
        picked = newly(
            show(
                figures.win_matrix(rows, study.system),
                "wins",
                on_select="rerun",
                selection_mode="points",
            ),
            "wins",
        )
        if picked:
            _choose(ANY, picked[0], picked[1])
    known = rows[rows.rate.notna()]
    st.caption(
        "How often the row's value was chosen against the column's, over all steps. Grey: the 95 %"
        " interval over dilemmas includes a half"
        f" ({int(((known.low > 0.5) | (known.high < 0.5)).sum()) // 2} of {len(known) // 2} pairs"
        f" do not); {_range(rows.n)} a pair; blank below five. Click a cell to see its answers"
        " below."
    )


def _strengths(study: Study, row: pd.Series) -> None:
    st.subheader("Strengths")
    rows = queries.value_strengths(study.store, row.run, row.steering)
    if rows.strength.notna().any():
        picked = newly(
            show(
                figures.strength_rows(rows, study.system),
                "strengths",
                on_select="rerun",
                selection_mode="points",
            ),
            "strengths",
        )
        if picked:
            _choose(ANY, picked[0], ANY)
    st.caption(
        "Bradley and Terry's, over all choices between two values (ours, not the paper's);"
        f" {_range(rows.n)} a value."
    )


def _cycles(study: Study, row: pd.Series) -> None:
    st.subheader("Are the choices transitive?")
    found = queries.transitivity(study.store, row.run, row.steering)
    if found.empty or not found.triads.iloc[0]:
        st.caption("No three values met in at least five dilemmas a pair.")
        return
    one = found.iloc[0]
    facts(
        {
            "cyclic triads": f"{one.cycles:.3g} of {one.triads}",
            "share": number(one.cycles / one.triads, 2),
            "dilemmas drawn anew (2.5 to 97.5 %)": f"{one.low:.0f} to {one.high:.0f}",
            "coins": number(one.chance),
        }
    )
    st.caption(
        f"Three values of which each wins against the next; {one.n} dilemmas. A tie counts as a"
        " coin."
    )
    if len(one.found):
        called_values = names(study.system)
        with st.expander(f"The {len(one.found)} cycles without a tie"):
            for cycle in list(one.found)[:CYCLES]:
                st.markdown(
                    "- "
                    + " → ".join(
                        safe(called_values.get(value, value)) for value in cycle.split(" > ")
                    )
                )
            if len(one.found) > CYCLES:
                st.caption(f"and {len(one.found) - CYCLES} more in `transitivity`.")


def _agreement(study: Study, row: pd.Series) -> None:
    st.subheader("Do subjects rank the values alike?")
    rows = queries.step_agreement(study.store, row.run)
    if rows.empty:
        missing(
            study,
            "contrast",
            "These choices have not been compared with another subject's yet.",
            "--subjects base,power+ --instruments moral-dilemmas --settings"
            " moral-dilemmas.items=FILE.json --contexts none",
        )
        return
    show(figures.agreement_lines(rows), "agreement")
    st.caption(
        f"Spearman's correlation of the preferences with those of {safe(rows.reference.iloc[0])} in"
        f" the same dilemmas, {_values(rows.n)} a step, seed {rows.seed.iloc[0]}, from"
        f" {rows.run.iloc[0]}."
    )


def _values(n: pd.Series) -> str:
    return _range(n).replace("dilemmas", "values")


@st.cache_data(show_spinner="Reading the dilemmas …")
def _items(_study: Study, folder: str, run: str) -> pd.DataFrame:
    """Every item of the run: its dilemma, its step and the two values it sets against each other.

    Raises Incompatible where the file has changed.
    """
    from workbench.instruments.moral_dilemmas import metrics
    from workbench.measuring.questionnaire import as_asked

    instrument = as_asked(_study.runs.get(run), _study.system, _study.folder).instrument
    step = metrics.steps(instrument)
    return pd.DataFrame(
        [
            {
                "item": i.id,
                "dilemma": i.group or i.id,
                "step": step[i.id],
                "sides": metrics.sides(i),
            }
            for i in instrument.items
        ]
    )


def _answers(study: Study, row: pd.Series, steps: list[int]) -> None:
    st.subheader("The answers")
    items, value_names = _items(study, str(study.folder), row.run), names(study.system)
    offered = [v for v in study.system.ids if any(v in pair for pair in items.sides)]
    for key, options in (
        ("step", [ANY, *steps]),
        ("value", [ANY, *offered]),
        ("against", [ANY, *offered]),
    ):
        keep(f"dilemmas-{key}", options, ANY)
    a, b, c, d = st.columns([1, 2, 2, 1])
    step = a.selectbox(
        "Step", [ANY, *steps], format_func=lambda s: str(s) if s else "all", key="dilemmas-step"
    )
    value, against = (
        place.selectbox(
            title, [ANY, *offered], format_func=lambda v: value_names.get(v, "any value"), key=key
        )
        for place, title, key in (
            (b, "About", "dilemmas-value"),
            (c, "Against", "dilemmas-against"),
        )
    )
    held = items[
        [
            (step in (ANY, s)) and all(v == ANY or v in pair for v in (value, against))
            for s, pair in zip(items.step, items.sides, strict=True)
        ]
    ]
    at = page_number(d, "dilemmas-page")
    found = queries.item_answers(
        study.store, row.run, row.steering, list(held["item"]), PAGE, at * PAGE
    )
    pairs = held.set_index("item")
    chosen = [pairs.sides[r.item][r.chosen] if r.chosen >= 0 else "" for r in found.itertuples()]
    shown = pd.DataFrame(
        {
            "dilemma": found["item"].map(pairs.dilemma),
            "step": found["item"].map(pairs.step),
            "prompt": found.prompt,
            "chose": found.text,
            "value": [value_names.get(v, "") for v in chosen],
            "against": [
                ", ".join(value_names[v] for v in pairs.sides[r.item] if v != w)
                for r, w in zip(found.itertuples(), chosen, strict=True)
            ],
            "by [nats]": [
                abs(float(r.logprobs[0] - r.logprobs[1])) if len(r.logprobs) == 2 else None
                for r in found.itertuples()
            ],
            "order": found.order,
            "context": found.context,
            "seed": found.seed,
            "status": found.status,
            "total": found.total,
        }
    )
    answers_table(
        shown,
        at,
        row.run,
        **{
            "chose": st.column_config.TextColumn(width="medium"),
            "by [nats]": st.column_config.NumberColumn(
                format="%.2f",
                help=(
                    "Log-probability of the chosen answer less that of the other; empty where it"
                    " was written."
                ),
            ),
        },
    )
