"""The page of one feature, at `?feature=12`.

Statistics, its strongest contexts with every token shaded by activation, the labels that compete
for it with their evidence, what it writes and which features are like it (`description.py`), and
what steering it does, where a sweep has steered it.
"""

import html
from collections import Counter
from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names, probability, side
from workbench.study import Study
from workbench.views import ChosenRuns, missing, number, run_json, show, show_evidence
from workbench.views.description import show_description
from workbench.views.label_scores import show_forecast, show_label_scores


def open_feature(feature: int) -> None:
    """Go to the page of a feature.

    What was clicked to come here stays chosen where the user turns back before the page is whole,
    and would open the feature again: so the list and the map are other widgets then.
    """
    st.session_state["features-opened"] = opened() + 1
    st.query_params["feature"] = str(feature)
    st.rerun()


def opened() -> int:
    """Count how often a feature was opened in this session."""
    return int(st.session_state.get("features-opened", 0))


def feature_page(study: Study, chosen: ChosenRuns, sae_run: pd.Series, text: str) -> None:
    """Show the feature whose number the address names as `text`, if the SAE has it."""
    store, sae = study.store, sae_run.run
    rows = pd.DataFrame()
    if text.isdecimal() and len(text) < 9:
        rows = queries.feature(store, sae, int(text))
    head, jump = st.columns([5, 1], vertical_alignment="bottom")
    if head.button("All features", icon=":material/arrow_back:", type="tertiary"):
        st.query_params.clear()
        st.rerun()
    if rows.empty:
        st.error(
            "There is no such feature. This SAE has features 0 to"
            f" {run_json(sae_run).get('n_features', 1) - 1}."
        )
        return
    feature, row = int(text), rows.iloc[0]
    other = jump.number_input("Go to feature", 0, value=feature, step=1)
    if other != feature:
        open_feature(other)
    labels = pd.DataFrame({"accepted": []})
    if chosen.labels is not None:
        labels = queries.competing_labels(store, chosen.labels.run, feature)
    accepted = labels[labels.accepted.astype(bool)]
    head.title(f"Feature {feature}")
    head.html(_chips(study, accepted))
    _statistics(row, queries.spread(store, sae, feature).iloc[0])
    if not row.n_active:
        st.info(
            "This feature is dead: it was active on no token of the harvested text.",
            icon=":material/bedtime:",
        )
        show_description(study, chosen, feature, "")
        return
    colour = ""
    if len(accepted):
        colour = figures.colours(study.system)[accepted.value.iloc[0]]
    left, right = st.columns([1.6, 1], gap="large")
    with left:
        st.subheader("Strongest contexts")
        show_contexts(queries.contexts(store, sae, feature), colour or "#c4561a")
    with right:
        st.subheader("How strongly it fires")
        bins = queries.histogram(store, sae, feature)
        if len(bins):
            figure = figures.activation_histogram(bins, colour or "#8b949e")
            show(figure, f"histogram-{feature}")
        st.caption("Tokens at each strength, over the harvested text.")
    st.subheader("Labels that compete for it")
    _labels(study, chosen, labels)
    show_label_scores(study, chosen, feature)
    show_description(study, chosen, feature, colour)
    _doses(study, chosen, feature)


def _chips(study: Study, accepted: pd.DataFrame) -> str:
    """Write a feature's accepted labels as HTML, each in the colour of its value."""
    if accepted.empty:
        return '<span class="chip" style="background:#9aa3ac">no accepted label</span>'
    name_of, hue = names(study.system), figures.colours(study.system)
    chips = [
        f'<span class="chip" style="background:{hue[r.value]}">{name_of[r.value]}, {side(r)}</span>'
        for r in accepted.itertuples()
    ]
    return "".join(chips)


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
    cells[3].metric(
        "Median", number(float(spread["median"])), help="Median of the kept activations."
    )
    cells[4].metric("Strongest", number(float(row.max_activation)), help="Largest activation seen.")
    cells[5].metric(
        "Decoder length",
        number(float(row.decoder_norm)),
        help="Length of its decoder row, in residual units.",
    )


def show_contexts(rows: pd.DataFrame, colour: str, most: int = 20) -> None:
    """Show a feature's contexts, every token shaded by its activation, the peak framed.

    Texts that share a window show it once, with their number; at most `most` windows are shown.
    """
    if rows.empty:
        st.caption("No context was kept.")
        return
    top = max(float(rows.activation.max()), 1e-9)
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    windows = [(tuple(row.tokens), row.peak) for row in rows.itertuples()]
    times = Counter(windows)
    lines = []
    for row in rows[~pd.Series(windows, index=rows.index).duplicated()].head(most).itertuples():
        texts = times[tuple(row.tokens), row.peak]
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
            f' dir="ltr">{row.activation:.2f}{f" ×{texts}" if texts > 1 else ""}</span>'
            f"{''.join(spans)}</div>"
        )
    st.html("".join(lines))
    st.caption(
        "One context a text, strongest first, ×n where n texts share it; the shade is the"
        " activation on each token, the frame its peak."
    )


def _labels(study: Study, chosen: ChosenRuns, labels: pd.DataFrame) -> None:
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
                "value": labels.value.map(names(study.system)),
                "of": [side(r) for r in labels.itertuples()],
                "effect [SD]": [_effect(r) for r in labels.itertuples()],
                "input score": labels.score,
                "output score": [_output(r) for r in labels.itertuples()],
                "q": labels.q.map(probability),
                "specificity": labels.gain.map(number),
                "texts": labels.n,
                "labeler": labels.method,
                "evidence": [show_evidence(e) for e in labels.evidence],
            }
        ),
        hide_index=True,
        column_config={
            "input score": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.2f")
        },
    )
    st.caption(
        "Of: texts that hold the value or that reject it, or the topic: texts that speak of it on"
        " either side, or on the only one that the labelled texts have. Effect: difference between"
        " texts with and without it, within contexts, with its 95 % interval; of labelers that read"
        " contexts, how far they stand out among all features, without interval and input score."
        " q: after Benjamini-Hochberg over all that the labeler tests. Input score: held-out area"
        " under the ROC curve. Output score: change of the value's rating [points]"
        " under a light steering, turned by polarity, in contexts that no sweep of the same seed"
        " asks (n), with its 95 % interval; a random direction stays below the null. Beside: root"
        f" mean square of the other values' changes. Seed {chosen.labels.seed}."
    )


def _effect(row: Any) -> str:
    """Write an effect with its interval, where it has one."""
    interval = "" if pd.isna(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]"
    return f"{row.effect:+.2f}{interval}"


def _output(row: Any) -> str:
    if pd.isna(row.output):
        return "not measured"
    return (
        f"{row.output:+.2f} [{row.output_low:+.2f}, {row.output_high:+.2f}], null"
        f" {row.null_high:.2f}, beside {row.beside:.2f}, n {row.output_n:.0f}"
    )


def _doses(study: Study, chosen: ChosenRuns, feature: int) -> None:
    st.subheader("What steering it does")
    show_forecast(study, chosen, feature)
    if chosen.effects is None:
        missing(study, "effects", "Nothing has been steered yet.")
        return
    doses = queries.feature_doses(study.store, chosen.effects.run, feature)
    config = run_json(chosen.effects, "config")
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
