"""Graph: what causes what among the values, estimated by intervening, beside the planted graph
where one is known."""

from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.graph import WRONG, judge
from workbench.figures.style import names, probability
from workbench.study import Study
from workbench.views import here, next_step, run_json, show
from workbench.views.shared import about_ratings


def page() -> None:
    """Show the estimated graph, the true one, and every pair in a table."""
    study, chosen = here()
    st.title("Graph")
    if chosen.graph is None:
        next_step(study, chosen, "sae", "labels", "effects", "graph")
        return
    truth = queries.true_edges(study.store, chosen.graph.run)
    judged = judge(queries.edges(study.store, chosen.graph.run), truth)
    summary = run_json(chosen.graph)
    st.caption(
        f"Direct effects between values, each steered by {summary.get('steered', 'features')}: an"
        " arrow says what follows when its source alone is moved."
    )
    level = summary.get("level", "value")
    if level != "value":
        st.warning(
            f"{level.capitalize()}-level graph: some value has fewer than five {level}s, so an edge"
            f" may be one {level}'s leak and not an effect of the value.",
            icon=":material/warning:",
        )
    _numbers(judged, truth)
    _drawn(study, judged, truth)
    st.caption(
        "Orange raises, blue lowers; width: direct effect; opacity: share of bootstrap replicates"
        f" with the edge. 95 % intervals over {summary.get('contexts', '?')} contexts"
        f"{_resampled(summary)}, seed {chosen.graph.seed}. Point at an edge for its numbers."
    )
    if chosen.effects is not None:
        about_ratings(chosen.effects)
    _table(study, judged, truth)


def _resampled(summary: dict[str, Any]) -> str:
    """Say what is resampled beside contexts; nothing where each value was steered by one unit."""
    for steered in ("features", "groups", "directions"):
        if max(summary.get(steered, {}).values(), default=0) > 1:
            return f" and each value's {steered}"
    return ""


def _numbers(judged: pd.DataFrame, truth: pd.DataFrame) -> None:
    cells = st.columns(5)
    cells[0].metric("Edges", int(judged.present.sum()), help=f"Of {len(judged)} ordered pairs.")
    if truth.empty:
        return
    count = judged.verdict.value_counts().reindex(["hit", *WRONG], fill_value=0)
    extra = int(count["extra"] + count["wrong sign"])
    cells[1].metric("Hits", int(count["hit"]), help="Planted, and found with the same sign.")
    cells[2].metric("Missed", int(count["missed"]), help="Planted, and not found.")
    cells[3].metric("Extra", extra, help="Found, and not planted so.")
    cells[4].metric(
        "SHD",
        f"{extra + int(count['missed'])} of {len(judged)}",
        help="Structural Hamming distance: ordered pairs that are wrong.",
    )


def _drawn(study: Study, judged: pd.DataFrame, truth: pd.DataFrame) -> None:
    drawn = judged[judged.present | (judged.verdict == "missed")]
    largest = max([abs(w) for w in [*drawn.weight, *truth.weight]] or [1.0])
    if truth.empty:
        show(figures.value_graph(drawn, study.system, largest, height=620), "found")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Found by intervening")
        show(figures.value_graph(drawn, study.system, largest), "found")
    with right:
        st.subheader("Planted in the model")
        show(figures.value_graph(truth, study.system, largest), "truth")


def _table(study: Study, judged: pd.DataFrame, truth: pd.DataFrame) -> None:
    st.subheader("Every pair")
    name_of = names(study.system)
    rows = judged
    if not st.toggle("Show pairs without an edge, too"):
        rows = judged[judged.present | (judged.verdict == "missed")]
    table = pd.DataFrame(
        {
            "from": rows.source.map(name_of),
            "to": rows.target.map(name_of),
            "direct effect": rows.weight,
            "95 % interval": [f"{r.low:+.2f} … {r.high:+.2f}" for r in rows.itertuples()],
            "z": rows.z,
            "q": rows.q.map(probability),
            "replicates": rows.frequency,
            "edge": rows.present,
        }
    )
    if len(truth):
        table = table.assign(planted=rows.true_weight.to_numpy(), verdict=rows.verdict.to_numpy())
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "direct effect": st.column_config.NumberColumn(
                format="%+.2f",
                help="Change of the target's rating per unit change of the source's.",
            ),
            "z": st.column_config.NumberColumn(
                format="%.1f", help="Direct effect over its bootstrap standard deviation."
            ),
            "q": st.column_config.TextColumn(
                help="After Benjamini-Hochberg over all ordered pairs."
            ),
            "replicates": st.column_config.ProgressColumn(
                min_value=0,
                max_value=1,
                format="percent",
                help="Share of bootstrap replicates with the edge.",
            ),
            "planted": st.column_config.NumberColumn(format="%+.2f"),
        },
    )
