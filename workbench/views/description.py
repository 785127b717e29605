"""What a feature writes, and which features are like it: the part of its page that the verb
`describe` fills.

1. The tokens that it promotes and suppresses, straight from its decoder row, and the shape of all
   its logits beside that of random directions.
2. The features whose decoder rows are nearest, and those that are active on the same tokens. Each
   is a link to its own page, with what it fires on and its best label.

Tokens are a stranger's: they are escaped, and shown with a sign for a line break.
"""

import html
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names, side
from workbench.study import Study
from workbench.views import ChosenRuns, missing, number, run_json, safe, show

SHOWN = 10
"""Tokens of a side, and features of a list, that are shown."""
_JACCARD = "Jaccard index: shared tokens over the tokens on which either is active."
_PMI = (
    "Pointwise mutual information, of pairs that share enough tokens; 0 is as often as by chance."
)


def show_description(study: Study, chosen: ChosenRuns, feature: int, colour: str) -> None:
    """Show what a feature writes and which are like it; one line where nobody described it.

    `colour` is that of its label; empty: none.
    """
    st.subheader("What it writes, and which features are like it")
    if chosen.descriptions is None or chosen.sae is None:
        missing(study, "descriptions", "Features are not described yet.")
        return
    run = chosen.descriptions.run
    _tokens(study, chosen.descriptions, feature, colour)
    near = queries.decoder_neighbours(study.store, run, feature).head(SHOWN)
    together = queries.coactivations(study.store, run, feature)
    together = together[together["rank"] < SHOWN]
    labels = "" if chosen.labels is None else chosen.labels.run
    others = pd.concat([near.neighbour, together.partner]).unique().tolist()
    known = queries.features_at(study.store, chosen.sae.run, labels, others).set_index("feature")
    lists = st.columns(3, gap="large")
    with lists[0]:
        st.markdown("**Nearest by decoder**")
        figures_of = [f"cosine {r.cosine:.2f}" for r in near.itertuples()]
        _related(study, near.neighbour.tolist(), figures_of, known)
        if len(near):
            st.caption(
                f"Cosine of decoder rows. The nearest of as many random rows stays below"
                f" {near.null_high.iloc[0]:.2f} (97.5 %)."
            )
    for place, measure, title, caption in (
        (lists[1], "jaccard", "Active on the same tokens", _JACCARD),
        (lists[2], "pmi", "Together more often than by chance", _PMI),
    ):
        with place:
            st.markdown(f"**{title}**")
            if study.published is not None and study.published.lacks("coactivations"):
                st.caption("Left out when the study was published.")
                continue
            rows = together[together.measure == measure]
            figures_of = [
                f"{r.jaccard:.2f}" if measure == "jaccard" else f"{r.pmi:+.1f} nats"
                for r in rows.itertuples()
            ]
            _related(study, rows.partner.tolist(), figures_of, known)
            st.caption(caption)
    for line in ("no_tokens", "no_partners"):
        if reason := run_json(chosen.descriptions).get(line):
            st.caption(safe(reason))


def _tokens(study: Study, run: pd.Series, feature: int, colour: str) -> None:
    """Show the promoted and the suppressed tokens, and the histogram of all logits."""
    rows = queries.token_logits(study.store, run.run, feature)
    shape = queries.logit_shape(study.store, run.run, feature)
    if rows.empty or shape.empty:
        st.caption("It promotes no token.")
        return
    left, right = st.columns([1.6, 1], gap="large")
    with left:
        for side_of, title in (("promoted", "Promotes"), ("suppressed", "Suppresses")):
            st.markdown(f"**{title}**")
            st.html(token_chips(rows[rows.side == side_of].head(SHOWN)))
    with right:
        show(figures.logit_histogram(shape.iloc[0], colour or "#8b949e"), f"logits-{feature}")
    summary, peak = run_json(run), shape.largest.iloc[0] / shape.sd.iloc[0]
    cap = summary.get("soft_cap", 0)
    capped = f" The model's soft cap of {number(cap)} is left out." if cap else ""
    st.caption(
        "Its decoder row through the final norm and the unembedding, less the average token"
        " [logits per activation unit]; the layers in between are left out. The first token stands"
        f" {peak:.1f} SD out, kurtosis {shape['kurtosis'].iloc[0]:.1f}; random directions stay"
        f" below {number(summary.get('null_peak'))} and {number(summary.get('null_kurtosis'))}"
        f" (97.5 %).{capped}"
    )


def token_chips(rows: pd.DataFrame) -> str:
    """Write tokens and their logits as HTML; a token is shown, never run."""
    chips = [
        f'<span dir="auto">{html.escape(r.token).replace(chr(10), "↵") or "∅"}'
        f'<small dir="ltr">{r.logit:+.2f}</small></span>'
        for r in rows.itertuples()
    ]
    return f'<div class="tokens">{"".join(chips)}</div>'


def _related(
    study: Study, features: Sequence[int], figures_of: Sequence[str], known: pd.DataFrame
) -> None:
    """List features as links, each with its figure, its label and what it fires on.

    `known`: `queries.features_at`, by feature.
    """
    if not features:
        st.caption("None.")
        return
    lines = []
    for feature, figure in zip(features, figures_of, strict=True):
        about = _about(study, known.loc[feature]) if feature in known.index else ""
        lines.append(
            f'<div class="related" dir="auto"><a href="?feature={feature}" target="_self">'
            f'{feature}</a><small dir="ltr">{html.escape(figure)}</small>{about}</div>'
        )
    st.html("".join(lines))


def _about(study: Study, row: Any) -> str:
    """Write a feature's label and what it fires on as HTML."""
    parts = []
    if pd.notna(row.value):
        hue = figures.colours(study.system)[row.value]
        label = f"{names(study.system)[row.value]}, {side(row)}"
        parts.append(f'<span class="chip" style="background:{hue}">{label}</span>')
    if pd.notna(row.fires_on):
        parts.append(html.escape(row.fires_on))
    return " ".join(parts)
