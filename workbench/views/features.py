"""Features: a table to sort and search, a map, and one feature's page at `?feature=12`.

1. The list: filters, one page of the table from the store, the map. A row or a point that is
   clicked opens its feature.
2. One feature: statistics, its strongest contexts with every token shaded by activation, the labels
   that compete for it with their evidence, and what steering it does, where a sweep has it.
"""

import html
import json

import numpy as np
import pandas as pd
import streamlit as st

from feature_store import queries, words
from workbench import figures
from workbench.figures.style import names
from workbench.study import Study
from workbench.views import ChosenRuns, clicked, here, missing, number, run_json, show

ROWS = 25
"""Rows on a page of the table."""
SORTS = {
    "Input score": ("score", True),
    "Output score": ("output", True),
    "Effect, largest first": ("effect", True),
    "Effect, smallest first": ("effect", False),
    "Number": ("feature", False),
    "Most frequent": ("density", True),
    "Rarest": ("density", False),
    "Strongest": ("max_activation", True),
}
POLARITY = {"any": 0, "held": 1, "rejected": -1}


def page() -> None:
    """The list, or one feature where the address names one."""
    study, chosen = here()
    if chosen.sae is None:
        st.title("Features")
        missing(study, "sae", "There are no features yet.")
        return
    asked = st.query_params.get("feature", "")
    if asked:
        _one(study, chosen, asked)
    else:
        _list(study, chosen)


def _open(feature: int) -> None:
    st.query_params["feature"] = str(feature)
    st.rerun()


def _list(study: Study, chosen: ChosenRuns) -> None:
    st.title("Features")
    store, labels = study.store, chosen.labels.run if chosen.labels is not None else ""
    if not words.ready(store, chosen.sae.run):
        with st.spinner("Reading the words of all contexts, once for this SAE …"):
            words.ensure(store, chosen.sae.run)
    if not labels:
        missing(study, "labels", "No feature carries a value yet.")
    name_of = names(study.system)
    a, b, c, d, e = st.columns([2, 2, 1.7, 2, 1.7], gap="medium", vertical_alignment="bottom")
    values = a.multiselect(
        "Value", study.system.ids, format_func=name_of.get, placeholder="all", disabled=not labels
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
    sort, descending = SORTS[order]
    told_filters = (chosen.sae.run, labels, tuple(values), polarity, score, text, order)
    if st.session_state.get("features-filters") != told_filters:
        st.session_state["features-filters"], st.session_state["features-page"] = told_filters, 0
    at = st.session_state["features-page"]
    found = queries.features(
        store,
        chosen.sae.run,
        labels,
        queries.FeatureFilter(values=values, polarity=POLARITY[polarity], score=score, text=text),
        queries.FeatureOrder(sort=sort, descending=descending, limit=ROWS, offset=at * ROWS),
    )
    left, right = st.columns([1.75, 1], gap="medium")
    with left:
        _table(found, name_of, at)
    with right:
        _map(study, chosen, labels)


def _table(found: queries.FeaturesPage, name_of: dict[str, str], at: int) -> None:
    if not found.total:
        st.info("No feature passes these filters. Take one away.", icon=":material/filter_alt_off:")
        return
    rows = found.rows
    polarity = rows.polarity.map({1: "", -1: ", rejected"}).fillna("")
    table = pd.DataFrame(
        {
            "feature": rows.feature,
            "value": rows.value.map(name_of).fillna("") + polarity,
            "score": rows.score,
            "output": rows.output,
            "fires on": rows.fires_on.fillna(""),
            "effect": rows.effect,
            "density": rows.density * 100,
            "strongest": rows.max_activation,
        }
    )
    event = st.dataframe(
        table,
        hide_index=True,
        height=35 * (len(table) + 1) + 3,
        on_select="rerun",
        selection_mode="single-row",
        key=f"features-{st.session_state['features-filters']}-{at}",
        column_config={
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
        },
    )
    back, said, on = st.columns([1, 3, 1], vertical_alignment="center")
    if back.button("Previous", icon=":material/chevron_left:", disabled=at == 0, width="stretch"):
        st.session_state["features-page"] -= 1
        st.rerun()
    said.caption(
        f"{at * ROWS + 1}–{at * ROWS + len(table)} of {found.total:,} live features. Click the box"
        " at the left of a row to open it.",
        text_alignment="center",
    )
    if on.button(
        "Next",
        icon=":material/chevron_right:",
        disabled=(at + 1) * ROWS >= found.total,
        width="stretch",
    ):
        st.session_state["features-page"] += 1
        st.rerun()
    if event.selection.rows:
        _open(int(table.feature.iloc[event.selection.rows[0]]))


@st.cache_data(max_entries=8, show_spinner=False)
def _points(_study: Study, sae: str, labels: str) -> pd.DataFrame:
    return queries.feature_map(_study.store, sae, labels)


def _map(study: Study, chosen: ChosenRuns, labels: str) -> None:
    points = _points(study, chosen.sae.run, labels)
    if points.empty:
        st.caption("This SAE has no map.")
        return
    found = clicked(
        show(
            figures.feature_map(points, study.system),
            "map",
            on_select="rerun",
            selection_mode="points",
        )
    )
    alive = (
        "Every live feature"
        if len(points) <= queries.MAP_POINTS
        else "Labelled features and an even sample of the others"
    )
    st.caption(
        f"{alive}, placed by its decoder direction: near means similar. A disc holds the value, a"
        " cross rejects it. Click a point to open it."
    )
    if found is not None:
        _open(int(np.ravel(found)[0]))


def _one(study: Study, chosen: ChosenRuns, asked: str) -> None:
    store, sae = study.store, chosen.sae.run
    row = (
        queries.feature(store, sae, int(asked))
        if asked.isdecimal() and len(asked) < 9
        else pd.DataFrame()
    )
    head, jump = st.columns([5, 1], vertical_alignment="bottom")
    if head.button("All features", icon=":material/arrow_back:", type="tertiary"):
        st.query_params.clear()
        st.rerun()
    if row.empty:
        st.error(
            "There is no such feature. This SAE has features 0 to"
            f" {run_json(chosen.sae).get('n_features', 1) - 1}."
        )
        return
    feature, row = int(asked), row.iloc[0]
    other = jump.number_input("Go to feature", 0, value=feature, step=1)
    if other != feature:
        _open(other)
    labels = (
        queries.competing_labels(store, chosen.labels.run, feature)
        if chosen.labels is not None
        else pd.DataFrame()
    )
    accepted = labels[labels.accepted] if len(labels) else labels
    name_of, hue = names(study.system), figures.colours(study.system)
    head.title(f"Feature {feature}")
    head.html(
        "".join(
            f'<span class="chip" style="background:{hue[r.value]}">{name_of[r.value]},'
            f" {'held' if r.polarity > 0 else 'rejected'}</span>"
            for r in accepted.itertuples()
        )
        or '<span class="chip" style="background:#9aa3ac">no accepted label</span>'
    )
    _statistics(row, queries.spread(store, sae, feature).iloc[0])
    if not row.n_active:
        st.info(
            "This feature is dead: it was active on no token of the harvested text.",
            icon=":material/bedtime:",
        )
        return
    left, right = st.columns([1.6, 1], gap="large")
    with left:
        st.subheader("Strongest contexts")
        _contexts(
            queries.contexts(store, sae, feature),
            hue[accepted.value.iloc[0]] if len(accepted) else "#c4561a",
        )
    with right:
        st.subheader("How strongly it fires")
        bins = queries.histogram(store, sae, feature)
        if len(bins):
            show(
                figures.activation_histogram(
                    bins, hue[accepted.value.iloc[0]] if len(accepted) else "#8b949e"
                ),
                f"histogram-{feature}",
            )
        st.caption("Tokens at each strength, over the harvested text.")
    st.subheader("Labels that compete for it")
    _labels(study, chosen, labels, name_of)
    _doses(study, chosen, feature)


def _statistics(row: pd.Series, spread: pd.Series) -> None:
    cells = st.columns(6)
    cells[0].metric("Density", f"{row.density:.3%}", help="Share of tokens on which it is active.")
    cells[1].metric("Tokens", f"{row.n_active:,}", help="Harvested tokens on which it is active.")
    cells[2].metric(
        "Texts",
        f"{int(spread.texts):,}" if spread.tokens else "–",
        help=(
            f"Texts in which it is active, among the {int(spread.tokens):,} activations that are"
            " kept."
        ),
    )
    cells[3].metric("Median", number(spread["median"]), help="Median of the kept activations.")
    cells[4].metric("Strongest", number(row.max_activation), help="Largest activation seen.")
    cells[5].metric(
        "Decoder length",
        number(row.decoder_norm),
        help="Length of its decoder row, in residual units.",
    )


def _contexts(rows: pd.DataFrame, colour: str) -> None:
    if rows.empty:
        st.caption("No context was kept.")
        return
    top = max(float(rows.activation.max()), 1e-9)
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    lines = []
    for row in rows.itertuples():
        spans = []
        for place, (token, activation) in enumerate(zip(row.tokens, row.activations, strict=True)):
            shade = 0.75 * max(float(activation), 0.0) / top
            peak = " peak" if place == row.peak else ""
            shown = html.escape(token).replace("\n", "↵")
            spans.append(
                f'<span class="token{peak}" style="background:rgba({r},{g},{b},{shade:.2f})"'
                f' title="{activation:.2f}">{shown}</span>'
            )
        lines.append(
            '<div class="context" dir="auto"><span class="said"'
            f' dir="ltr">{row.activation:.2f}</span>{"".join(spans)}</div>'
        )
    st.html("".join(lines))
    st.caption(
        "One context a text, strongest first; the shade is the activation on each token, the frame"
        " its peak."
    )


def _labels(
    study: Study, chosen: ChosenRuns, labels: pd.DataFrame, name_of: dict[str, str]
) -> None:
    if chosen.labels is None:
        missing(study, "labels", "No feature carries a value yet.")
        return
    if labels.empty:
        st.caption(
            "No value competes for it: it does not differ between texts with and without any of"
            " them."
        )
        return
    st.dataframe(
        pd.DataFrame(
            {
                "accepted": labels.accepted,
                "value": labels.value.map(name_of),
                "polarity": labels.polarity.map({1: "held", -1: "rejected"}),
                "effect [SD]": [
                    f"{r.effect:+.2f} [{r.low:+.2f}, {r.high:+.2f}]" for r in labels.itertuples()
                ],
                "input score": labels.score,
                "output score": [_output(r) for r in labels.itertuples()],
                "q": labels.q.map(number),
                "specificity": labels.gain.map(number),
                "texts": labels.n,
                "labeler": labels.method,
                "evidence": [_evidence(e) for e in labels.evidence],
            }
        ),
        hide_index=True,
        column_config={
            "input score": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.2f")
        },
    )
    st.caption(
        "Effect: difference between texts with and without the value, within contexts, with its 95"
        " % interval. q: after Benjamini-Hochberg over all features and values. Input score:"
        " held-out area under the ROC curve. Output score: change of the value's rating [points]"
        " under a light steering, turned by polarity, in contexts that no sweep of the same seed"
        " asks (n), with its 95 % interval; a random direction stays below the null. Beside: root"
        f" mean square of the other values' changes. Seed {chosen.labels.seed}."
    )


def _output(row) -> str:
    if pd.isna(row.output):
        return "not measured"
    return (
        f"{row.output:+.2f} [{row.output_low:+.2f}, {row.output_high:+.2f}], null"
        f" {row.null_high:.2f}, beside {row.beside:.2f}, n {row.output_n:.0f}"
    )


def _evidence(told_evidence: str) -> str:
    try:
        return ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in json.loads(told_evidence).items()
        )
    except (json.JSONDecodeError, AttributeError):
        return told_evidence


def _doses(study: Study, chosen: ChosenRuns, feature: int) -> None:
    st.subheader("What steering it does")
    if chosen.effects is None:
        missing(study, "effects", "Nothing has been steered yet.")
        return
    doses, config = (
        queries.feature_doses(study.store, chosen.effects.run, feature),
        run_json(chosen.effects, "config"),
    )
    if doses.empty:
        st.caption(
            "The sweep did not steer this feature; it takes each value's best ones. The Steer page"
            " steers any."
        )
        return
    show(
        figures.feature_doses(
            doses, study.system, doses.value.iloc[0], config["unit"], config.get("delta")
        ),
        f"doses-{feature}",
    )
    st.caption(
        f"Change of every value's rating in unsteered SD, bands: 95 % interval over {doses.n.max()}"
        f" contexts, seed {chosen.effects.seed}. Below, the damage; the dotted line is where"
        " features are compared."
    )
