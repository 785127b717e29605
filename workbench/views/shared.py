"""Parts that several pages share: how far to trust a profile, single answers page by page, buttons
that turn pages, and short names of steerings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from feature_store import queries
from workbench.study import Study
from workbench.views import run_json

PAGE = 25
"""Answers on a page."""
LONGEST = 48
"""Characters above which a name is shown by its ends."""
METRICS = {
    "unparsed": "unread answers",
    "refused": "refused",
    "too-long": "too long to ask",
    "position": "bias of place",
    "acquiescence": "agreement with anything",
    "length": "rating follows length",
    "split-half": "split-half reliability",
    "split-half-change": "the same of the change",
    "test-retest": "test-retest reliability",
    "alternate-form": "agreement of wordings",
}
"""Metric of `quality` -> what it is."""


def about_ratings(run: pd.Series) -> None:
    """Say what a run's ratings are where they are on no scale, and how far they are believed.

    `run` is one of kind `profile` or `effects`, or a contrast of profiles.
    """
    config, summary = run_json(run, "config"), run_json(run)
    if config.get("mode") == "voice":
        st.caption(
            "Asked in mode voice: a rating is how much likelier a statement is than its reversal,"
            " as the model's own words [nats per token]. Where a label says points, read these."
        )
    if summary.get("heard") == "no":
        st.warning(
            "This way of asking does not hear the model: the value that a persona primes does not"
            " rise. No difference here may be claimed, and no cell is starred."
        )
    elif summary.get("heard") == "not tried":
        st.caption(
            "Whether this way of asking hears the model was not tried: `workbench hear` tells."
        )
    elif "resolution" in summary:
        st.caption(
            "Smallest difference between values that priming tells from talk about something else:"
            f" {summary['resolution']:.3g}."
        )


def starred(cells: pd.DataFrame, run: pd.Series) -> pd.DataFrame:
    """Give the cells of a side-effect matrix, without q where the model was not heard."""
    if run_json(run).get("heard") == "no":
        return cells.assign(q=float("nan"))
    return cells


def quality_table(study: Study, subjects: pd.DataFrame) -> None:
    """Show what speaks for and against profiles: missing answers, biases, reliabilities.

    `subjects` has a row a column of the table: named by the subject, with the id of its run
    (`profile`) and its `steering`.
    """
    st.subheader("How far to trust them")
    figures = []
    for subject in subjects.itertuples():
        quality = queries.quality(study.store, subject.profile)
        figures.append(quality[quality.steering == subject.steering].assign(subject=subject.Index))
    rows = pd.concat(figures)
    rows["figure"] = [
        f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}], n {r.n}" for r in rows.itertuples()
    ]
    shown = (
        rows.pivot_table(index="metric", columns="subject", values="figure", aggfunc="first")
        .reindex(index=METRICS, columns=subjects.index)
        .dropna(how="all")
    )
    if shown.empty:
        st.caption(
            "These runs keep none of it; they were made before it was measured. Measure again."
        )
        return
    st.dataframe(shown.rename(index=METRICS).rename_axis(None).fillna("–"), width="stretch")
    st.caption(
        "Shares from 0 to 1 with Wilson's interval; bias of place and agreement with anything in"
        " rating points (for choices, share above chance), over clusters; reliabilities are"
        " correlations. What cannot be computed, for want of a second order, repeat or item, has no"
        " row."
    )


def turn_pages(key: str, length: int, total: int, middle_width: int) -> DeltaGenerator:
    """Draw the buttons that turn the pages of a table; gives the place between them.

    `key` names the page's number in the session, from 0. `length` is that of a page [rows],
    `total` that of the table [rows], `middle_width` that of the place [widths of a button].
    """
    at = st.session_state[key]
    back, middle, on = st.columns([1, middle_width, 1], vertical_alignment="center")
    if back.button("Previous", icon=":material/chevron_left:", disabled=at == 0, width="stretch"):
        st.session_state[key] -= 1
        st.rerun()
    is_last = (at + 1) * length >= total
    if on.button("Next", icon=":material/chevron_right:", disabled=is_last, width="stretch"):
        st.session_state[key] += 1
        st.rerun()
    return middle


def page_number(place: Any, key: str) -> int:
    """Let the user choose a page; gives its number from 0."""
    return int(place.number_input("Page", 1, 10_000, 1, key=key)) - 1


def answers_table(answers: pd.DataFrame, at: int, source: str, **columns: Any) -> None:
    """Show page `at` of single answers.

    `answers` has the rows of the page, and in `total` the number of all. `source`: the run that
    keeps them. `columns`: how some columns look.
    """
    if answers.empty:
        st.info("No answer here.")
        return
    st.dataframe(
        answers.drop(columns="total").replace({np.nan: None}),
        hide_index=True,
        column_config={
            "prompt": st.column_config.TextColumn(width="large"),
            "rating": st.column_config.NumberColumn(format="%.2f"),
            **columns,
        },
    )
    st.caption(
        f"{PAGE * at + 1} to {PAGE * at + len(answers)} of {int(answers.total.iloc[0]):,} answers,"
        f" as they were stored in {source}."
    )


def short_names(states: Sequence[str], subjects: pd.DataFrame) -> dict[str, str]:
    """Give every state a short name, two of them never the same one: state -> name.

    A state is a steering, or words with a steering in them. Steerings are called as a contrast
    calls them (`subjects`: `queries.subject_names`), the rest is shown by its ends.
    """
    steered = subjects[subjects.steering != "base"].drop_duplicates("steering")
    subject_of = dict(zip(steered.steering, steered.subject, strict=True))
    short = {state: _short_name(state, subject_of) for state in states}
    times = Counter(short.values())
    return {state: name if times[name] == 1 else state for state, name in short.items()}


def _short_name(state: str, subject_of: Mapping[str, str]) -> str:
    name = state
    for steering, subject in subject_of.items():
        name = name.replace(steering, subject)
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST // 2 - 2]} … {name[1 - LONGEST // 2 :]}"
