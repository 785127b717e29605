"""Review: a run's scenarios and what the filters make of them, for a person to accept or reject."""

import html
from collections.abc import Collection, Mapping

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names
from workbench.study import Study
from workbench.views import here, missing, number, run_json, safe

SHOWN = {
    "not reviewed": lambda s: s.reviews == 0,
    "passed": lambda s: s.passed,
    "filtered": lambda s: ~s.passed,
    "all": lambda s: s.number >= 0,
}
"""What can be listed -> which rows those are."""


def page() -> None:
    """Show the list, one scenario of it, and the form for a verdict."""
    study, _ = here()
    st.title("Review")
    runs = queries.candidates(study.store, "scenarios")
    if runs.empty:
        missing(study, "scenarios", "No scenario has been written yet.")
        return
    by_id = runs.set_index("run", drop=False)
    run = runs.run.iloc[0]
    if len(runs) > 1:
        run = st.selectbox(
            "Run", list(runs.run), format_func=lambda id: f"{by_id.created[id]:%d %b %H:%M} · {id}"
        )
    scenarios = queries.scenarios(study.store, run)
    st.caption(
        f"Situations and scored actions by {safe(run_json(by_id.loc[run]).get('source', '?'))}. A"
        " review is kept beside the earlier ones; the last one counts, whatever the filters say."
    )
    _numbers(scenarios)
    shown = st.radio("Show", list(SHOWN), horizontal=True, index=0)
    rows = scenarios[SHOWN[shown](scenarios)].set_index("scenario", drop=False)
    if rows.empty:
        st.info(f"No scenario is left under “{shown}”.", icon=":material/done_all:")
        return
    picked = st.selectbox(
        "Scenario",
        list(rows.scenario),
        format_func=lambda id: f"{id} · {_standing(rows.loc[id])} · {str(rows.text[id])[:70]}",
    )
    _scenario(study, run, rows.loc[picked])
    _verdict(study, run, rows.loc[picked])


def _numbers(scenarios: pd.DataFrame) -> None:
    names_value = scenarios.leaks.str.len() > 0
    not_inferred = (scenarios.inference_status != "") & ~scenarios.passed & ~names_value
    cells = st.columns(6)
    cells[0].metric("Scenarios", len(scenarios))
    cells[1].metric(
        "Unread",
        int((scenarios.status != "parsed").sum()),
        help="Answers that were refused or are no scenario as asked.",
    )
    cells[2].metric(
        "Name a value",
        int(names_value.sum()),
        help="A value's name, or a form of it, stands in the text or an action.",
    )
    cells[3].metric(
        "Not re-inferred",
        int(not_inferred.sum()),
        help="The blind reader found other values, or could not be read.",
    )
    cells[4].metric("Reviewed", int((scenarios.reviews > 0).sum()))
    cells[5].metric(
        "Usable", int(scenarios.usable.sum()), help="Passed and not rejected, or accepted."
    )


def _standing(row: pd.Series) -> str:
    """Say how a scenario stands: by the last review, else by what the filters made of it."""
    if pd.notna(row.accepted):
        return "accepted" if row.accepted else "rejected"
    if row.status != "parsed":
        return row.status
    return "passed" if row.passed else "filtered"


def _scenario(study: Study, run: str, row: pd.Series) -> None:
    """Show one scenario: its values, its text, how it stands, and its scored actions."""
    hue, name_of = figures.colours(study.system), names(study.system)
    chips = [
        f'<span class="chip" style="background:{hue[v]}">{html.escape(name_of[v])}</span>'
        for v in row.at_stake
    ]
    st.html("".join(chips))
    st.html(f'<div class="written" dir="auto">{html.escape(row.text or row.answer)}</div>')
    for line in _findings(row, name_of):
        st.markdown(f"- {safe(line)}")
    actions = queries.actions(study.store, run, row.scenario)
    if len(actions):
        _actions(actions, row.at_stake, name_of)


def _findings(row: pd.Series, name_of: Mapping[str, str]) -> list[str]:
    """Say what the filters and the reviewers found in a scenario, a line a finding."""
    lines = []
    if row.status != "parsed":
        lines.append(f"The answer is {row.status}: {row.reason}")
    if len(row.leaks):
        lines.append(f"It names a value: {', '.join(row.leaks)}.")
    if row.inference_status == "parsed":
        inferred = ", ".join(name_of[v] for v in row.inferred) or "none"
        lines.append(f"A blind reader found {inferred} (agreement {number(row.agreement)}).")
    elif row.inference_status:
        lines.append(f"The blind reader's answer is {row.inference_status}: {row.inference}")
    if pd.notna(row.accepted):
        verdict = "Accepted" if row.accepted else "Rejected"
        note = f": {row.note}" if row.note else ""
        reviewer = row.reviewer or "someone"
        lines.append(f"{verdict} by {reviewer}{note} ({int(row.reviews)} reviews).")
    return lines


def _actions(actions: pd.DataFrame, at_stake: Collection[str], name_of: Mapping[str, str]) -> None:
    """Show the actions with their scores on the values at stake, and the largest other score."""
    rows = []
    for action in actions.itertuples():
        score_of = dict(zip(action.scored, action.scores, strict=True))
        others = [abs(score) for value, score in score_of.items() if value not in at_stake]
        scores = {name_of[v]: score for v, score in score_of.items() if v in at_stake}
        rows.append({"action": action.text, **scores, "largest other": max(others, default=0.0)})
    table = pd.DataFrame(rows)
    table["largest other"] = table.pop("largest other")  # the last column, whatever comes before
    st.dataframe(
        table,
        hide_index=True,
        column_config={"action": st.column_config.TextColumn(width="large")},
    )
    st.caption(
        "Scores from -1 (goes against the value) to 1 (serves it); the last column is the"
        " largest size of a score on any other value."
    )


def _verdict(study: Study, run: str, row: pd.Series) -> None:
    with st.form(f"review-{row.scenario}-{int(row.reviews)}", border=True):
        note = st.text_input("Why", max_chars=500)
        reviewer = st.text_input("Who", value=st.session_state.get("reviewer", ""), max_chars=80)
        left, right, _ = st.columns([1, 1, 6])
        accept = left.form_submit_button(
            "Accept", icon=":material/check:", disabled=row.status != "parsed"
        )
        reject = right.form_submit_button("Reject", icon=":material/close:")
    if accept or reject:
        st.session_state["reviewer"] = reviewer
        study.review(
            scenarios=run,
            scenario=row.scenario,
            verdict="accept" if accept else "reject",
            note=note,
            reviewer=reviewer,
        )
        st.toast(f"{safe(row.scenario)} {'accepted' if accept else 'rejected'}")
        st.rerun()
