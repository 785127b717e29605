"""What several pages show alike: how far to trust a profile, single answers page by page, and
short names of steerings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from feature_store import queries
from workbench.study import Study

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


def quality_table(study: Study, own: pd.DataFrame) -> None:
    """What stands beside profiles (`quality`); a column for each row of `own`, which is named by
    its subject and holds `profile` and `steering`.
    """
    st.subheader("How far to trust them")
    found = []
    for row in own.itertuples():
        told = queries.quality(study.store, row.profile)
        found.append(told[told.steering == row.steering].assign(subject=row.Index))
    rows = pd.concat(found)
    rows["figure"] = [
        f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}], n {r.n}" for r in rows.itertuples()
    ]
    shown = (
        rows.pivot_table(index="metric", columns="subject", values="figure", aggfunc="first")
        .reindex(index=METRICS, columns=own.index)
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


def page_number(place: Any, key: str) -> int:
    """The chosen page, from 0."""
    return int(place.number_input("Page", 1, 10_000, 1, key=key)) - 1


def answers_table(found: pd.DataFrame, at: int, source: str, **columns: Any) -> None:
    """Page `at` of single answers; `total` counts all. `columns`: how some of them look."""
    if found.empty:
        st.info("No answer here.")
        return
    st.dataframe(
        found.drop(columns="total").replace({np.nan: None}),
        hide_index=True,
        column_config={
            "prompt": st.column_config.TextColumn(width="large"),
            "rating": st.column_config.NumberColumn(format="%.2f"),
            **columns,
        },
    )
    st.caption(
        f"{PAGE * at + 1} to {PAGE * at + len(found)} of {int(found.total.iloc[0]):,} answers, as"
        f" they were stored in {source}."
    )


def short_names(states: Sequence[str], known: pd.DataFrame) -> dict[str, str]:
    """State -> a short name: steerings as a contrast calls them (`queries.subject_names`), the
    rest by its ends. Two never share one.
    """
    said = known[known.steering != "base"].drop_duplicates("steering").set_index("steering").subject
    short = {}
    for state in states:
        name = state
        for steering, subject in said.items():
            name = name.replace(steering, subject)
        short[state] = (
            name
            if len(name) <= LONGEST
            else f"{name[: LONGEST // 2 - 2]} … {name[1 - LONGEST // 2 :]}"
        )
    taken = list(short.values())
    return {state: name if taken.count(name) == 1 else state for state, name in short.items()}
