"""Moral dilemmas: which values are chosen, step by step, whether the choices are transitive, and
the answers behind each number.

1. Preference by step, a panel a value; win rates; strengths; cyclic triads. What is clicked chooses
   the answers below.
2. Whether subjects rank the values alike, where a contrast compared them; how far to trust the
   answers.
3. The answers. Which values an item sets against each other is read from the instrument that the
   run asked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names
from workbench.study import Study
from workbench.views import facts, keep, missing, new_click, number, run_json, safe, show
from workbench.views.shared import PAGE, answers_table, page_number, quality_table, short_names

FLAGS = "--instrument moral-dilemmas --settings items=FILE.json --contexts none"
"""Flags with which `workbench measure` asks dilemmas."""
ANY = ""
"""Choice that leaves steps, or values, as they are."""
CYCLES = 12
"""Cycles that are named."""


def section(study: Study) -> None:
    """Show the choices of one subject."""
    rows = queries.dilemmas(study.store)
    if rows.empty:
        missing(study, "profile", "Nobody has been asked moral dilemmas yet.", FLAGS)
        return
    short = short_names(
        list(dict.fromkeys(rows.steering)), queries.subject_names(study.store, list(rows.run))
    )
    at = st.selectbox(
        "Whose choices", list(rows.index), format_func=lambda k: _title(rows.loc[k], short)
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


def _title(row: pd.Series, short: Mapping[str, str]) -> str:
    """Write what tells one subject's answers apart from others'."""
    config = run_json(row, "config")
    model = config["model"].rstrip("/").split("/")[-1]
    settings = config.get("settings", ())
    run = row.run.split("-")[-1]
    return " · ".join([short[row.steering], model, *settings, f"{row.created:%d %b %H:%M}", run])


def _choose(step: Any, value: str, against: str) -> None:
    """Choose the answers that are shown below."""
    st.session_state["dilemmas-step"] = step
    st.session_state["dilemmas-value"] = value
    st.session_state["dilemmas-against"] = against


def _steps(study: Study, row: pd.Series, steps: pd.DataFrame) -> None:
    st.subheader("Preference by step")
    picked = new_click(figures.step_lines(steps, study.system), "steps")
    if picked:
        _choose(int(picked[0]), picked[1], ANY)
    config = run_json(row, "config")
    blank = int(steps.preference.isna().sum())
    few = f"{blank} points rest on fewer than five dilemmas and are blank. " if blank else ""
    st.caption(
        "Chosen / offered less a half: 0.5 is always chosen, -0.5 never. Band: 95 % interval over"
        f" dilemmas, {_range(steps.n)} for each point; grey: the other values."
        f" {int(steps.offered.sum()) // 2:,} choices, {int(steps.missing.sum()) // 2} not read;"
        f" both orders where two were asked; seed {config['seed']}, {config['replicates']}"
        f" replicates. {few}Click a point to see its answers below."
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
        picked = new_click(figures.win_matrix(rows, study.system), "wins")
        if picked:
            _choose(ANY, picked[0], picked[1])
    known = rows[rows.rate.notna()]
    decided = int(((known.low > 0.5) | (known.high < 0.5)).sum()) // 2
    st.caption(
        "How often the row's value was chosen against the column's, over all steps. Grey: the 95 %"
        " interval over dilemmas includes a half"
        f" ({decided} of {len(known) // 2} pairs do not); {_range(rows.n)} a pair; blank below"
        " five. Click a cell to see its answers below."
    )


def _strengths(study: Study, row: pd.Series) -> None:
    st.subheader("Strengths")
    rows = queries.value_strengths(study.store, row.run, row.steering)
    if rows.strength.notna().any():
        picked = new_click(figures.strength_rows(rows, study.system), "strengths")
        if picked:
            _choose(ANY, picked[0], ANY)
    st.caption(
        "Bradley and Terry's, over all choices between two values (ours, not the paper's);"
        f" {_range(rows.n)} a value."
    )


def _cycles(study: Study, row: pd.Series) -> None:
    """Show how many triads of values are cyclic, beside chance, and name some of them."""
    st.subheader("Are the choices transitive?")
    rows = queries.transitivity(study.store, row.run, row.steering)
    if rows.empty or not rows.triads.iloc[0]:
        st.caption("No three values met in at least five dilemmas a pair.")
        return
    result = rows.iloc[0]
    facts(
        {
            "cyclic triads": f"{result.cycles:.3g} of {result.triads}",
            "share": number(result.cycles / result.triads, 2),
            "dilemmas drawn anew (2.5 to 97.5 %)": f"{result.low:.0f} to {result.high:.0f}",
            "coins": number(result.chance),
        }
    )
    st.caption(
        f"Three values of which each wins against the next; {result.n} dilemmas. A tie counts as a"
        " coin."
    )
    cycles = list(result.found)
    if cycles:
        with st.expander(f"The {len(cycles)} cycles without a tie"):
            _list_cycles(cycles, names(study.system))


def _list_cycles(cycles: Sequence[str], name_of: Mapping[str, str]) -> None:
    for cycle in cycles[:CYCLES]:
        path = [safe(name_of.get(value, value)) for value in cycle.split(" > ")]
        st.markdown(f"- {' → '.join(path)}")
    if len(cycles) > CYCLES:
        st.caption(f"and {len(cycles) - CYCLES} more in `transitivity`.")


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

    instrument = as_asked(_study.resolve("profile", run), _study.system, _study.folder).instrument
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
    """Show the answers, of one step or about some values where that was chosen, page by page."""
    st.subheader("The answers")
    items, name_of = _items(study, str(study.folder), row.run), names(study.system)
    offered = [v for v in study.system.ids if any(v in pair for pair in items.sides)]
    keep("dilemmas-step", [ANY, *steps], ANY)
    keep("dilemmas-value", [ANY, *offered], ANY)
    keep("dilemmas-against", [ANY, *offered], ANY)
    a, b, c, d = st.columns([1, 2, 2, 1])
    step = a.selectbox(
        "Step", [ANY, *steps], format_func=lambda s: str(s) if s else "all", key="dilemmas-step"
    )
    value = b.selectbox(
        "About",
        [ANY, *offered],
        format_func=lambda v: name_of.get(v, "any value"),
        key="dilemmas-value",
    )
    against = c.selectbox(
        "Against",
        [ANY, *offered],
        format_func=lambda v: name_of.get(v, "any value"),
        key="dilemmas-against",
    )
    wanted = [v for v in (value, against) if v != ANY]
    is_shown = items.sides.map(lambda pair: all(v in pair for v in wanted)).astype(bool)
    if step != ANY:
        is_shown &= items.step == step
    items = items[is_shown].set_index("item")
    at = page_number(d, "dilemmas-page")
    answers = queries.item_answers(
        study.store, row.run, row.steering, list(items.index), PAGE, at * PAGE
    )
    answers_table(
        _answers_rows(answers, items, name_of),
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


def _answers_rows(
    answers: pd.DataFrame, items: pd.DataFrame, name_of: Mapping[str, str]
) -> pd.DataFrame:
    """Lay out answers for people: what was chosen, and which value against which others.

    `items` has each item's dilemma, step and two sides, and is named by the item.
    """
    chosen, others, margins = [], [], []
    for answer in answers.itertuples():
        sides = items.sides[answer.item]
        value = sides[answer.chosen] if answer.chosen >= 0 else ""
        chosen.append(name_of.get(value, ""))
        others.append(", ".join(name_of[side] for side in sides if side != value))
        margin = None
        if len(answer.logprobs) == 2:
            margin = abs(float(answer.logprobs[0] - answer.logprobs[1]))
        margins.append(margin)
    return pd.DataFrame(
        {
            "dilemma": answers["item"].map(items.dilemma),
            "step": answers["item"].map(items.step),
            "prompt": answers.prompt,
            "chose": answers.text,
            "value": chosen,
            "against": others,
            "by [nats]": margins,
            "order": answers.order,
            "context": answers.context,
            "seed": answers.seed,
            "status": answers.status,
            "total": answers.total,
        }
    )
