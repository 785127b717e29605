"""Search beside the filters of Features: by meaning, and by a text of one's own.

1. A question is answered by the features whose contexts are about it (`features/meaning.py`), the
   nearest first; the filters above narrow the answer.
2. A text is read by the model, token by token (`features/firing.py`): which features fire, how
   strongly beside the strongest activation ever seen, and which values they carry.

A row that is clicked opens its feature. Left out: words in a context, which is one of the filters.
"""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from feature_store import queries
from feature_store.errors import WorkbenchError
from workbench.figures.style import names, side
from workbench.study import Study
from workbench.views.feature import open_feature, opened

NEAREST = 25
"""Features of an answer that are shown."""
PER_TOKEN = 3
"""Features of a token that are shown, the strongest beside their own largest activation."""
LONGEST = 2_000
"""Characters of a text that is read."""
COLUMNS = {
    "feature": st.column_config.NumberColumn("feature", width=60, format="%d"),
    "likeness": st.column_config.NumberColumn(
        "likeness [SD]",
        width=90,
        format="%.2f",
        help="How much nearer its contexts are to the question than the mean feature's.",
    ),
    "share": st.column_config.NumberColumn(
        "of its strongest",
        width=105,
        format="%.2f",
        help="Activation over the feature's largest on the harvested text.",
    ),
    "activation": st.column_config.NumberColumn("activation", width=75, format="%.2f"),
    "value": st.column_config.TextColumn("value", width=130),
}
"""Column of a table -> how it looks."""


def show_search(study: Study, wanted: queries.FeatureFilter) -> None:
    """Show both ways to search, folded until one is used."""
    with st.expander("Search by meaning, or by what fires on a text", icon=":material/search:"):
        left, right = st.columns(2, gap="large")
        with left:
            _by_meaning(study, wanted)
        with right:
            _by_text(study)


def _by_meaning(study: Study, wanted: queries.FeatureFilter) -> None:
    """Ask a question, and list the features that are about it."""
    question = st.text_input(
        "Question", placeholder="Where is loyalty to family?", key="search-question"
    )
    if not question.strip():
        st.caption("Features whose contexts are about it; the filters above narrow them.")
        return
    bar = st.empty()

    def embedding(done: int, total: int) -> None:
        """Show how many contexts are embedded; the first question of an SAE waits for it."""
        bar.progress(done / max(total, 1), f"Embedding contexts, once for this SAE: {done:,}")

    try:
        answer = study.search(question, "meaning", wanted, NEAREST, embedding)
    except WorkbenchError as error:
        st.info(str(error))
        return
    finally:
        bar.empty()
    st.caption(f"{answer.how} Filters leave {answer.total:,} of the nearest.")
    rows = answer.rows
    table = pd.DataFrame(
        {
            "feature": rows.feature,
            "likeness": rows.likeness,
            "value": _values(rows, names(study.system)),
            "fires on": rows.fires_on.fillna(""),
        }
    )
    _open_row(table, f"search-meaning-{opened()}")


def _by_text(study: Study) -> None:
    """Read a text, and list what fires on each token."""
    text = st.text_area(
        "Your own text",
        placeholder="I would never betray my family for money.",
        max_chars=LONGEST,
        height=68,
        key="search-text",
    )
    if not text.strip():
        st.caption("Features that fire on it, token by token, and the values they carry.")
        return
    try:
        with st.spinner("Reading; the model is loaded once for this app …"):
            fired = study.firing(text)
    except WorkbenchError as error:
        st.info(str(error))
        return
    rows = fired.rows.groupby("position", sort=True).head(PER_TOKEN)
    read = int(fired.tokens.counted.sum())
    st.caption(
        f"{read} of {len(fired.tokens)} tokens are read (the first never is);"
        f" {fired.rows.feature.nunique():,} features fire. The {PER_TOKEN} strongest of each token:"
    )
    table = pd.DataFrame(
        {
            "token": rows.token,
            "feature": rows.feature,
            "share": rows.share,
            "activation": rows.activation,
            "value": _values(rows, names(study.system)),
        }
    )
    _open_row(table, f"search-text-{opened()}")


def _values(rows: pd.DataFrame, name_of: Mapping[str, str]) -> list[str]:
    """Name the value that each feature carries, with its side; empty where it carries none."""
    return [
        f"{name_of.get(row.value, row.value)}, {side(row)}" if pd.notna(row.value) else ""
        for row in rows.itertuples()
    ]


def _open_row(table: pd.DataFrame, key: str) -> None:
    """Show a table of features; a row that is clicked opens its feature."""
    event = st.dataframe(
        table.reset_index(drop=True),
        hide_index=True,
        height=min(35 * (len(table) + 1) + 3, 400),
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_config=COLUMNS,
    )
    if event.selection.rows:
        open_feature(int(table.feature.iloc[event.selection.rows[0]]))
