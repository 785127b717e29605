"""Review: scenarios of a run with what the filters said, for a person to accept or reject."""

import html

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
    """The list, one scenario of it, and the verdict."""
    study, _ = here()
    st.title("Review")
    runs = queries.candidates(study.store, "scenarios")
    if runs.empty:
        missing(study, "scenarios", "No scenario has been written yet.")
        return
    by_id = runs.set_index("run", drop=False)
    run = (
        st.selectbox(
            "Run", list(runs.run), format_func=lambda id: f"{by_id.created[id]:%d %b %H:%M} · {id}"
        )
        if len(runs) > 1
        else runs.run.iloc[0]
    )
    found = queries.scenarios(study.store, run)
    st.caption(
        f"Situations and scored actions by {safe(run_json(by_id.loc[run]).get('source', '?'))}. A"
        " review is kept beside the earlier ones; the last one counts, whatever the filters say."
    )
    _numbers(found)
    shown = st.radio("Show", list(SHOWN), horizontal=True, index=0)
    rows = found[SHOWN[shown](found)].set_index("scenario", drop=False)
    if rows.empty:
        st.info(f"No scenario is left under “{shown}”.", icon=":material/done_all:")
        return
    picked = st.selectbox(
        "Scenario",
        list(rows.scenario),
        format_func=lambda id: f"{id} · {_standing(rows.loc[id])} · {str(rows.text[id])[:70]}",
    )
    _one(study, run, rows.loc[picked])
    _verdict(study, run, rows.loc[picked])


def _numbers(found: pd.DataFrame) -> None:
    cells = st.columns(6)
    cells[0].metric("Scenarios", len(found))
    cells[1].metric(
        "Unread",
        int((found.status != "parsed").sum()),
        help="Answers that were refused or are no scenario as asked.",
    )
    cells[2].metric(
        "Name a value",
        int((found.leaks.str.len() > 0).sum()),
        help="A value's name, or a form of it, stands in the text or an action.",
    )
    cells[3].metric(
        "Not re-inferred",
        int(((found.inference_status != "") & ~found.passed & (found.leaks.str.len() == 0)).sum()),
        help="The blind reader found other values, or could not be read.",
    )
    cells[4].metric("Reviewed", int((found.reviews > 0).sum()))
    cells[5].metric("Usable", int(found.usable.sum()), help="Passed and not rejected, or accepted.")


def _standing(row: pd.Series) -> str:
    if pd.notna(row.accepted):
        return "accepted" if row.accepted else "rejected"
    return row.status if row.status != "parsed" else "passed" if row.passed else "filtered"


def _one(study: Study, run: str, row: pd.Series) -> None:
    hue, name_of = figures.colours(study.system), names(study.system)
    st.html(
        "".join(
            f'<span class="chip" style="background:{hue[v]}">{html.escape(name_of[v])}</span>'
            for v in row.at_stake
        )
    )
    st.html(f'<div class="written" dir="auto">{html.escape(row.text or row.answer)}</div>')
    lines = []
    if row.status != "parsed":
        lines.append(f"The answer is {row.status}: {row.reason}")
    if len(row.leaks):
        lines.append(f"It names a value: {', '.join(row.leaks)}.")
    if row.inference_status == "parsed":
        lines.append(
            f"A blind reader found {', '.join(name_of[v] for v in row.inferred) or 'none'}"
            f" (agreement {number(row.agreement)})."
        )
    elif row.inference_status:
        lines.append(f"The blind reader's answer is {row.inference_status}: {row.inference}")
    if pd.notna(row.accepted):
        lines.append(
            f"{'Accepted' if row.accepted else 'Rejected'} by"
            f" {row.reviewer or 'someone'}{f': {row.note}' if row.note else ''} ({int(row.reviews)}"
            " reviews)."
        )
    for line in lines:
        st.markdown(f"- {safe(line)}")
    actions = queries.actions(study.store, run, row.scenario)
    if len(actions):
        scored = [
            {"action": a.text}
            | {name_of[v]: s for v, s in zip(a.scored, a.scores, strict=True) if v in row.at_stake}
            for a in actions.itertuples()
        ]
        others = [
            max(
                (abs(s) for v, s in zip(a.scored, a.scores, strict=True) if v not in row.at_stake),
                default=0.0,
            )
            for a in actions.itertuples()
        ]
        st.dataframe(
            pd.DataFrame(scored).assign(**{"largest other": others}),
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
        study.do(
            "review",
            {
                "scenarios": run,
                "scenario": row.scenario,
                "verdict": "accept" if accept else "reject",
                "note": note,
                "reviewer": reviewer,
            },
        )
        st.toast(f"{safe(row.scenario)} {'accepted' if accept else 'rejected'}")
        st.rerun()
