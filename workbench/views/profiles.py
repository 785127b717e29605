"""Profiles: models and steerings beside each other on any instrument, whether instruments agree, and the answers behind each number.

1. One instrument, one subject: both profiles on the circle, and what differs.
2. What stands beside the profiles: missing answers, biases, reliability.
3. Do the instruments agree? Their validity and, from five subjects on, the multitrait-multimethod matrix.
4. The answers behind a value.
"""

import numpy as np
import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names, signed
from workbench.study import Study
from workbench.views import here, missing, number, pick, safe, show

PAGE = 25
METRICS = {
    "unparsed": "unread answers", "refused": "refused", "too-long": "too long to ask", "position": "bias of place", "acquiescence": "agreement with anything",
    "length": "rating follows length", "split-half": "split-half reliability", "split-half-change": "the same of the change", "test-retest": "test-retest reliability", "alternate-form": "agreement of wordings",
}  # fmt: skip
AGREEMENT = {
    "convergent": "a value with itself, over subjects (convergent)", "discriminant": "a value with the others, over subjects (discriminant)",
    "criterion": "values that agree best with themselves", "profile": "a subject's profile with itself, over values",
}  # fmt: skip


def page() -> None:
    """Who values what, by which instrument."""
    study, _ = here()
    st.title("Profiles")
    run = pick("Comparison of profiles", queries.candidates(study.store, "contrast"))
    if run is None:
        missing(study, "contrast", "No profiles have been compared yet.")
        return
    who = queries.subjects(study.store, run.run)
    left, right = st.columns(2)
    instrument = left.selectbox("Instrument", list(dict.fromkeys(who.instrument)))
    own = who[who.instrument == instrument].set_index("subject")
    reference, others = own.index[0], list(own.index[1:])
    subject = right.selectbox("Subject", others)
    _difference(study, run, instrument, reference, subject, own)
    _quality(study, own.loc[[reference, subject]])
    _agreement(study, run, len(own))
    _answers(study, own, [reference, *others])


def _difference(study: Study, run: pd.Series, instrument: str, reference: str, subject: str, own: pd.DataFrame) -> None:
    told = [queries.profile(study.store, row.profile).query("steering == @row.steering") for row in own.loc[[reference, subject]].itertuples()]
    rows = queries.contrasts(study.store, run.run, instrument)
    mine = rows[rows.subject == subject]
    a, b = st.columns([1, 1.08], gap="large")
    with a:
        show(figures.circumplex(told[1], study.system, before=told[0]), "circle")
    with b:
        show(figures.difference_rows(mine, study.system), "differences")
    fits = queries.circle_fits(study.store, run.run, instrument).set_index("subject")
    called = names(study.system)
    paired = "paired, the same questions" if mine.paired.all() else "not paired: they were asked other questions"
    st.caption(f"{safe(subject)} less {safe(reference)} (grey), {paired}; {mine.n.max()} clusters, seed {run.seed}. {int((mine.q < 0.05).sum())} of {len(mine)} values differ (q < 0.05 over all "
               f"subjects of the instrument).")  # fmt: skip
    if subject in fits.index:  # not where fewer than three places of the circle were measured, or the values have none
        fit = fits.loc[subject]
        st.caption(f"Along the circle it moved towards {called[fit.towards]} by {number(fit.b, 2)}; the circle explains {number(100 * fit.r2, 2)} % of it (permutation p {number(fit.p, 2)}).")


def _quality(study: Study, own: pd.DataFrame) -> None:
    st.subheader("How far to trust them")
    found = []
    for row in own.itertuples():
        told = queries.quality(study.store, row.profile)
        found.append(told[told.steering == row.steering].assign(subject=row.Index))
    rows = pd.concat(found)
    rows["figure"] = [f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}], n {r.n}" for r in rows.itertuples()]
    shown = rows.pivot_table(index="metric", columns="subject", values="figure", aggfunc="first").reindex(index=METRICS, columns=own.index).dropna(how="all")
    st.dataframe(shown.rename(index=METRICS).rename_axis(None), width="stretch")
    st.caption("Shares from 0 to 1 with Wilson's interval; bias of place and agreement with anything in rating points (for choices, share above chance), over clusters; reliabilities are correlations. "
               "What cannot be computed, for want of a second order, repeat or item, has no row.")  # fmt: skip


def _agreement(study: Study, run: pd.Series, subjects: int) -> None:
    rows = queries.validity(study.store, run.run)
    if rows.empty:
        return
    st.subheader("Do the instruments agree?")
    st.dataframe(pd.DataFrame({
        "instruments": rows.instrument + " · " + rows.other_instrument, "what": rows.metric.map(AGREEMENT),
        "figure": [f"{signed(r.value)} [{signed(r.low)}, {signed(r.high)}]" for r in rows.itertuples()], "p": [number(p, 2) for p in rows.p], "subjects": rows.n,
    }), hide_index=True)  # fmt: skip
    matrix = queries.mtmm(study.store, run.run)
    if matrix.empty:
        st.caption(f"{subjects} subjects: correlations over subjects need five (`--subjects values` turns every value up and down).")
        return
    show(figures.mtmm_matrix(matrix, study.system), "mtmm")
    st.caption(f"Correlation over {int(matrix.n.max())} subjects of every value on every instrument with every other. Steered variants of one model are no sample of models: the matrix says whether instruments see the same steering.")


def _answers(study: Study, own: pd.DataFrame, order: list[str]) -> None:
    st.subheader("The answers")
    called = names(study.system)
    a, b, c = st.columns([2, 2, 1])
    subject = a.selectbox("Of", order)
    value = b.selectbox("About", list(study.system.ids), format_func=called.get)
    row = own.loc[subject]
    at = int(c.number_input("Page", 1, 10_000, 1)) - 1
    found = queries.item_responses(study.store, row.profile, row.steering, value, PAGE, at * PAGE)
    if found.empty:
        st.info("No answer here.")
        return
    st.dataframe(found.drop(columns="total").replace({np.nan: None}), hide_index=True, column_config={
        "prompt": st.column_config.TextColumn(width="large"), "rating": st.column_config.NumberColumn(format="%.2f"),
    })  # fmt: skip
    st.caption(f"{PAGE * at + 1} to {PAGE * at + len(found)} of {int(found.total.iloc[0]):,} answers, as they were stored in {row.profile}.")
