"""AdAEM: whether the search found questions that tell the members apart better than its seeds, what
they ask, and the opinions behind each number.

1. Separation of the found questions and the seeds, with chance; the history of the search.
2. The questions: those of the new instrument, or all that were tried. One that is clicked shows its
   opinions.
3. Who holds which value most; a cell that is clicked shows the opinions behind it.
"""

from collections.abc import Iterable
from typing import Any, Literal

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names
from workbench.study import Study
from workbench.views import facts, keep, missing, new_click, number, pick, run_json, safe, show
from workbench.views.shared import PAGE, answers_table, page_number

FOUND = -1
"""All questions of the new instrument."""
STAGES: dict[Literal["fresh", "search"], str] = {
    "fresh": "fresh, those that are reported",
    "search": "of the search, which it chose by",
}
"""Stage at which opinions were asked for -> what they are."""
NUMBERS = {
    "separation": "Of the members [nats], from fresh opinions; empty where it was not asked anew.",
    "chance": "The same opinions dealt out at random [nats].",
    "its seed's": "Separation of the seed question of its topic, from fresh opinions [nats].",
    "believed": (
        "Separation that the search believed, from kept opinions [nats]: too good to be true."
    ),
}
"""Column of the table of questions -> what it is."""


def section(study: Study) -> None:
    """Show one search."""
    run = pick("Search", queries.candidates(study.store, "adaem"), "members", "questions")
    if run is None:
        missing(
            study,
            "adaem",
            "No questions have been searched for yet.",
            "--population power+,power-,base",
        )
        return
    members = queries.adaem_members(study.store, run.run)
    questions = queries.adaem_questions(study.store, run.run)
    _head(run, members)
    left, right = st.columns(2, gap="large")
    with left:
        _separation(study, run)
    with right:
        _history(study, run, questions)
    _questions(questions, run)
    _ratings(study, run, list(members.member))
    _opinions(study, run, questions, list(members.member))


def _head(run: pd.Series, members: pd.DataFrame) -> None:
    summary, config = run_json(run), run_json(run, "config")
    share = summary["missing"] / max(summary["opinions"], 1)
    named = {
        "members": str(len(members)),
        "topics": str(summary["topics"]),
        "pulls": str(summary["pulls"]),
        "questions tried": str(summary["questions"]),
        "opinions": f"{summary['opinions']:,}",
        "not read": f"{summary['missing']:,} ({100 * share:.0f} %)",
    }
    if "judge_agreement" in summary:
        named["judge with itself"] = f"{summary['judge_agreement']:.2f}"
    facts(named)
    st.caption(
        f"Values read by {safe(summary['classifier'])}; questions rewritten by:"
        f" {safe(summary['rewriter'])}; {config['opinions']} opinions a member in the search,"
        f" {config['fresh']} fresh ones; seed {run.seed}."
    )
    with st.expander(f"The members: {', '.join(safe(m) for m in members.member)}"):
        st.dataframe(members, hide_index=True)


def _separation(study: Study, run: pd.Series) -> None:
    st.subheader("How far apart they drive the members")
    rows = queries.adaem_separation(study.store, run.run)
    show(figures.separation_rows(rows), "separation")
    lines = []
    for row in rows[rows.ratio.notna()].itertuples():
        beyond = "nothing is left to compare"
        if pd.notna(row.beyond):
            low, high = number(row.beyond_low), number(row.beyond_high)
            beyond = f"{number(row.beyond)} [{low}, {high}]"
        subject = "The best seeds, chosen without any rewriting,"
        if row.questions == "found":
            subject = "The found questions"
        lines.append(
            f"{subject} separate {number(row.ratio)} times as well as the seeds"
            f" [{number(row.ratio_low)}, {number(row.ratio_high)}]; beyond chance {beyond}"
            f" ({row.n} questions)."
        )
    st.caption(
        " ".join(lines)
        + f" Intervals: 95 %, over questions, seed {run.seed}. All from opinions that the search"
        " never saw; what it believed is too good to be true."
    )


def _history(study: Study, run: pd.Series, questions: pd.DataFrame) -> None:
    st.subheader("The search")
    pulls = queries.adaem_pulls(study.store, run.run)
    if pulls.empty:
        st.caption("The bandit had no pull: the found questions are seeds.")
        return
    picked = new_click(figures.search_history(pulls, questions), "history")
    if picked and picked[0] >= 0:
        _choose("search", int(picked[0]))
    st.caption(
        f"{int((pulls.accepted >= 0).sum())} of {len(pulls)} pulls gave a topic a better question."
        " Scores of single questions in the search have no interval: they steer it and are not"
        " reported. Click a pull to see the opinions on its best question."
    )


def _choose(stage: str, question: int, member: str = "", value: str = "") -> None:
    """Choose the opinions that are shown below."""
    st.session_state["adaem-stage"] = stage
    st.session_state["adaem-question"] = question
    st.session_state["adaem-member"] = member
    st.session_state["adaem-value"] = value


def _questions(questions: pd.DataFrame, run: pd.Series) -> None:
    """Show the questions; a row that is clicked chooses its opinions."""
    st.subheader("The questions")
    every = st.toggle("All that were tried", key="adaem-every")
    rows = questions if every else questions[questions.found]
    column_config: dict[str, Any] = {
        name: st.column_config.NumberColumn(format="%.3f", width=95, help=text)
        for name, text in NUMBERS.items()
    }
    column_config["question"] = st.column_config.TextColumn(width="large")
    column_config["seed question"] = st.column_config.TextColumn(width="medium")
    event = st.dataframe(
        _questions_table(rows),
        hide_index=True,
        height=min(35 * (len(rows) + 1) + 3, 420),
        on_select="rerun",
        selection_mode="single-row",
        key=f"adaem-questions-{run.run}-{every}",
        column_config=column_config,
    )
    chosen = list(event.selection.rows)
    if chosen and chosen != st.session_state.get("adaem-row"):
        row = rows.iloc[chosen[0]]
        _choose("fresh" if row.opinions else "search", int(row.question))
    st.session_state["adaem-row"] = chosen
    st.caption(
        f"{int(questions.found.sum())} questions of the new instrument, at most one a topic, out of"
        f" {len(questions)} tried. One question's separation has no interval, only its number of"
        " opinions and its chance level; the sets above have one. Ask them of others: `workbench"
        f" measure` with `--instrument adaem --settings items=runs/{run.run}`. Click the box at the"
        " left of a row to see its opinions."
    )


def _questions_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Lay out questions for people; a seed question has no seed of its own."""
    is_rewritten = rows.pull >= 0
    return pd.DataFrame(
        {
            "number": rows.question,
            "topic": rows.topic,
            "question": rows.text,
            "separation": rows.fresh,
            "chance": rows.chance,
            "its seed's": rows.seed_fresh.where(is_rewritten),
            "believed": rows.separation,
            "opinions": rows.opinions,
            "not read": rows.missing,
            "seed question": rows.seed_text.where(is_rewritten, ""),
            "writer": rows.writer,
        }
    )


def _ratings(study: Study, run: pd.Series, members: list[str]) -> None:
    st.subheader("Who holds which value most")
    rows = queries.adaem_ratings(study.store, run.run)
    picked = new_click(figures.rating_matrix(rows, members, study.system), "ratings")
    if picked:
        _choose("fresh", FOUND, picked[0], picked[1])
    st.caption(
        "Win rate against the other members on the found questions, a draw half; grey: its 95 %"
        f" interval over {int(rows.n.max())} questions includes a half. On touch: TrueSkill and the"
        " share of opinions that hold the value. Members are compared with each other and nobody"
        f" else; seed {run.seed}. Click a cell to see its opinions below."
    )
    name_of = names(study.system)
    with st.expander("Every rating"):
        st.dataframe(
            pd.DataFrame(
                {
                    "value": rows.value.map(name_of),
                    "member": rows.member,
                    "win rate": [
                        _with(r.win_rate, r.win_low, r.win_high) for r in rows.itertuples()
                    ],
                    "TrueSkill [points]": [
                        _with(r.mu, r.low, r.high, 1) for r in rows.itertuples()
                    ],
                    "opinions that hold it": [
                        _with(r.share, r.share_low, r.share_high) for r in rows.itertuples()
                    ],
                    "questions": rows.n,
                    "matches": rows.matches,
                    "not read": rows.missing,
                }
            ),
            hide_index=True,
        )


def _with(x: float, low: float, high: float, digits: int = 2) -> str:
    return "–" if x != x else f"{x:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _opinions(study: Study, run: pd.Series, questions: pd.DataFrame, members: list[str]) -> None:
    st.subheader("The opinions")
    name_of, texts = names(study.system), questions.set_index("question").text
    numbers = [FOUND, *questions.question.tolist()]
    keep("adaem-stage", list(STAGES), next(iter(STAGES)))
    keep("adaem-question", numbers, FOUND)
    keep("adaem-member", ["", *members], "")
    keep("adaem-value", ["", *study.system.ids], "")
    a, b, c, d, e = st.columns([3, 1.6, 1.6, 2, 1])
    question = a.selectbox(
        "On",
        numbers,
        format_func=lambda n: "all found questions" if n == FOUND else f"{n} · {texts[n]}",
        key="adaem-question",
    )
    member = b.selectbox(
        "Of", ["", *members], format_func=lambda m: m or "all members", key="adaem-member"
    )
    value = c.selectbox(
        "That hold",
        ["", *study.system.ids],
        format_func=lambda v: name_of.get(v, "anything"),
        key="adaem-value",
    )
    stage = d.selectbox("Opinions", list(STAGES), format_func=STAGES.__getitem__, key="adaem-stage")
    at = page_number(e, "adaem-page")
    opinions = queries.adaem_opinions(
        study.store,
        run.run,
        queries.OpinionFilter(stage=stage, question=question, member=member, value=value),
        PAGE,
        at * PAGE,
    )
    held = [", ".join(name_of.get(v, v) for v in _listed(values)) for values in opinions.held]
    shown = opinions.assign(held=held)[_columns(stage)]
    answers_table(
        shown,
        at,
        run.run,
        text=st.column_config.TextColumn("opinion", width="large"),
        held=st.column_config.TextColumn("holds", width="medium"),
        **_criteria(),
    )


def _listed(values: Iterable[str] | None) -> Iterable[str]:
    """Give the values that an opinion holds; none where it was not read."""
    return [] if values is None else values


def _columns(stage: str) -> list[str]:
    scores = (
        ["coherence"]
        if stage == "fresh"
        else ["kept", "conformity", "coherence", "value_difference", "semantic_difference"]
    )
    return ["question", "member", "text", "held", "status", *scores, "seed", "total"]


def _criteria() -> dict[str, Any]:
    return {
        name: st.column_config.NumberColumn(name.replace("_", " "), format="%.3f", width="small")
        for name in ("conformity", "coherence", "value_difference", "semantic_difference")
    }
