"""Features: a table to sort and search, a map, and one feature's page at `?feature=12`.

Filters stand above, then one page of the table from the store and the map beside it. A row or a
point that is clicked opens its feature (`feature.py`).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import streamlit as st

from feature_store import queries, words
from workbench import figures
from workbench.figures.style import names, side
from workbench.study import Study
from workbench.views import clicked, here, missing, show
from workbench.views.feature import feature_page, open_feature, opened
from workbench.views.label_scores import (
    newest_forecast,
    show_forecast_skills,
    show_method_scores,
)
from workbench.views.search import show_search
from workbench.views.shared import turn_pages

ROWS = 25
"""Rows on a page of the table."""
SORTS: dict[str, tuple[queries.Sort, bool]] = {
    "Input score": ("score", True),
    "Output score": ("output", True),
    "Effect, largest first": ("effect", True),
    "Effect, smallest first": ("effect", False),
    "Number": ("feature", False),
    "Most frequent": ("density", True),
    "Rarest": ("density", False),
    "Strongest": ("max_activation", True),
    "Cleanest steering, forecast": ("clean", True),
}
"""What the table can be sorted by -> its column, and whether the largest comes first."""
POLARITY = {"any": 0, "held": 1, "rejected": -1}
"""What a label says of its value -> its polarity; 0: any."""
COLUMNS = {
    "feature": st.column_config.NumberColumn("feature", width=60, format="%d"),
    "value": st.column_config.TextColumn(width=150, help="Value it holds, or rejects."),
    "score": st.column_config.ProgressColumn(
        "input score",
        min_value=0,
        max_value=1,
        format="%.2f",
        width=95,
        help="How well it tells texts with the value: held-out area under the ROC curve.",
    ),
    "output": st.column_config.NumberColumn(
        "output score",
        format="%+.2f",
        width=80,
        help=(
            "How much a light steering along it raises the value's rating [points]; its"
            " interval is on the feature's page."
        ),
    ),
    "fires on": st.column_config.TextColumn(
        width=205, help="Tokens at which it is most active, strongest first."
    ),
    "effect": st.column_config.NumberColumn(
        "effect [SD]",
        format="%+.2f",
        width=75,
        help=(
            "Difference between texts with and without the value; its interval is on the"
            " feature's page."
        ),
    ),
    "density": st.column_config.NumberColumn(
        "density [%]",
        format="%.3f",
        width=80,
        help="Share of tokens on which it is active.",
    ),
    "strongest": st.column_config.NumberColumn(
        format="%.2f", width=70, help="Largest activation seen."
    ),
    "clean": st.column_config.NumberColumn(
        format="%.2f",
        width=60,
        help=(
            "Forecast of how cleanly it steers, as a rank [0 to 1]; how good the forecast is stands"
            " below."
        ),
    ),
}
"""Column of the table -> how it looks."""

AGREEMENT = {
    "of": st.column_config.TextColumn("value"),
    "named_by_any": st.column_config.NumberColumn("any", format="%d"),
    "named_by_all": st.column_config.NumberColumn("all", format="%d"),
    "jaccard": st.column_config.NumberColumn("Jaccard", format="%.2f"),
    "alpha": st.column_config.NumberColumn(format="%.2f"),
}
"""Column of the table of agreement -> how it looks."""


def page() -> None:
    """Show the list, or one feature where the address names one."""
    study, chosen = here()
    if chosen.sae is None:
        st.title("Features")
        missing(study, "sae", "There are no features yet.")
        return
    feature = st.query_params.get("feature", "")
    if feature:
        feature_page(study, chosen, chosen.sae, feature)
    else:
        _list(study, chosen.sae.run, "" if chosen.labels is None else chosen.labels.run)


def _list(study: Study, sae: str, labels: str) -> None:
    """Show the filters, and the features that pass them as a table and on a map.

    `sae` and `labels` are ids of runs; `labels` is empty where there is no such run.
    """
    st.title("Features")
    store = study.store
    if not words.ready(store, sae):
        with st.spinner("Reading the words of all contexts, once for this SAE …"):
            words.ensure(store, sae)
    if not labels:
        missing(study, "labels", "No feature carries a value yet.")
    wanted, order = _choose(study, labels)
    show_search(study, wanted)
    filters = (sae, labels, tuple(wanted.values), wanted.polarity, wanted.score, wanted.text, order)
    if st.session_state.get("features-filters") != filters:
        st.session_state["features-filters"], st.session_state["features-page"] = filters, 0
    at = st.session_state["features-page"]
    sort, descending = SORTS[order]
    listed = queries.features(
        store,
        sae,
        labels,
        wanted,
        queries.FeatureOrder(sort=sort, descending=descending, limit=ROWS, offset=at * ROWS),
        newest_forecast(study, sae),
    )
    left, right = st.columns([1.75, 1], gap="medium")
    with left:
        _table(listed, names(study.system), at)
    with right:
        _map(study, sae, labels)
    _agreement(study, sae)
    show_method_scores(study, sae)
    show_forecast_skills(study, sae)


def _agreement(study: Study, sae: str) -> None:
    """Show how the SAE's runs of labels agree, where there are two of different labelers."""
    runs = queries.label_runs(study.store, sae).drop_duplicates("labeler")
    if len(runs) < 2:
        return
    agreement = queries.label_agreement(study.store, sae, list(runs.run))
    labeler_of = dict(zip(runs.run, runs.labeler, strict=True))
    counts = agreement.counts.assign(labeler=agreement.counts.run.map(labeler_of))
    table = counts.pivot(index="value", columns="labeler", values="features")
    table = table.reindex(columns=list(runs.labeler)).fillna(0).astype(int)
    table = (
        table.join(agreement.overlap.set_index("value")).reindex(study.system.ids).dropna(how="all")
    )
    table.insert(0, "of", table.index.map(names(study.system)))
    st.subheader("How labelers agree")
    st.dataframe(table, hide_index=True, column_config=AGREEMENT)
    st.caption(
        "Features with an accepted label of each value, by labeler (its newest run of this SAE);"
        " how many any and all of them name; Jaccard: features that two of them name over those"
        " that either names, the mean over pairs; alpha: Krippendorff's over all live features,"
        f" 1 is agreement, 0 chance. {', '.join(runs.run)}."
    )


def _choose(study: Study, labels: str) -> tuple[queries.FeatureFilter, str]:
    """Let the user choose which features are listed and in which order, a key of `SORTS`.

    Without a run of labels only words and order can be chosen.
    """
    name_of = names(study.system)
    a, b, c, d, e = st.columns([2, 2, 1.7, 2, 1.7], gap="medium", vertical_alignment="bottom")
    values = a.multiselect(
        "Value",
        study.system.ids,
        format_func=name_of.__getitem__,
        placeholder="all",
        disabled=not labels,
    )
    polarity = b.segmented_control(
        "Polarity",
        list(POLARITY),
        default="any",
        required=True,
        disabled=not labels,
        help="held: active where the value is held; rejected: where it is rejected",
    )
    score = c.slider("Score at least", 0.0, 1.0, 0.0, 0.05, disabled=not labels)
    text = d.text_input(
        "Words in a context",
        placeholder="locked doors",
        help=(
            "Features one of whose strongest contexts holds all these words; the last one may be"
            " its beginning."
        ),
    )
    order = e.selectbox("Sort by", list(SORTS))
    wanted = queries.FeatureFilter(
        values=values, polarity=POLARITY[polarity], score=score, text=text
    )
    return wanted, order


def _table(listed: queries.FeaturesPage, name_of: Mapping[str, str], at: int) -> None:
    """Show page `at` of the features; a row that is clicked opens its feature."""
    if not listed.total:
        st.info("No feature passes these filters. Take one away.", icon=":material/filter_alt_off:")
        return
    rows = listed.rows
    of = [f", {side(r)}" if pd.notna(r.value) else "" for r in rows.itertuples()]
    table = pd.DataFrame(
        {
            "feature": rows.feature,
            "value": rows.value.map(name_of).fillna("")
            + pd.Series(of, index=rows.index, dtype=str),
            "score": rows.score,
            "output": rows.output,
            "fires on": rows.fires_on.fillna(""),
            "effect": rows.effect,
            "density": rows.density * 100,
            "strongest": rows.max_activation,
        }
    )
    if rows.clean.notna().any():
        table["clean"] = rows.clean
    event = st.dataframe(
        table,
        hide_index=True,
        height=35 * (len(table) + 1) + 3,
        on_select="rerun",
        selection_mode="single-row",
        key=f"features-{st.session_state['features-filters']}-{at}-{opened()}",
        column_config=COLUMNS,
    )
    turn_pages("features-page", ROWS, listed.total, middle_width=3).caption(
        f"{at * ROWS + 1}–{at * ROWS + len(table)} of {listed.total:,} live features. Click the box"
        " at the left of a row to open it.",
        text_alignment="center",
    )
    if event.selection.rows:
        open_feature(int(table.feature.iloc[event.selection.rows[0]]))


@st.cache_data(max_entries=8, show_spinner=False)
def _points(_study: Study, sae: str, labels: str) -> pd.DataFrame:
    return queries.feature_map(_study.store, sae, labels)


def _map(study: Study, sae: str, labels: str) -> None:
    """Show the map; a point that is clicked opens its feature."""
    points = _points(study, sae, labels)
    if points.empty:
        st.caption("This SAE has no map.")
        return
    figure = figures.feature_map(points, study.system)
    picked = show(figure, f"map-{opened()}", on_select="rerun", selection_mode="points")
    point = clicked(picked)
    alive = (
        "Every live feature"
        if len(points) <= queries.MAP_POINTS
        else "Labelled features and an even sample of the others"
    )
    st.caption(
        f"{alive}, placed by its decoder direction: near means similar. A disc holds the value, a"
        " cross rejects it. Click a point to open it."
    )
    if point is not None:
        open_feature(int(np.ravel(point)[0]))
