"""Profiles: models and steerings beside each other on any instrument, whether instruments agree,
and the answers behind each number.

1. One instrument, one subject: both profiles on the circle, and what differs.
2. What stands beside the profiles: missing answers, biases, reliability.
3. Do the instruments agree? Their validity and, from five subjects on, the multitrait-multimethod
   matrix.
4. The answers behind a value.
"""

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names, signed
from workbench.study import Study
from workbench.views import here, missing, number, pick, safe, show
from workbench.views.shared import PAGE, about_ratings, answers_table, page_number, quality_table

AGREEMENT = {
    "convergent": "a value with itself, over subjects (convergent)",
    "discriminant": "a value with the others, over subjects (discriminant)",
    "criterion": "values that agree best with themselves",
    "profile": "a subject's profile with itself, over values",
}
"""Metric of `validity` -> what it is."""


def page() -> None:
    """Show who values what, by every instrument that was asked."""
    study, _ = here()
    st.title("Profiles")
    run = pick("Comparison of profiles", queries.candidates(study.store, "contrast"))
    if run is None:
        missing(study, "contrast", "No profiles have been compared yet.")
        return
    subjects = queries.subjects(study.store, run.run)
    left, right = st.columns(2)
    instrument = left.selectbox("Instrument", list(dict.fromkeys(subjects.instrument)))
    subjects = subjects[subjects.instrument == instrument].set_index("subject")
    reference, others = subjects.index[0], list(subjects.index[1:])
    subject = right.selectbox("Subject", others)
    pair = subjects.loc[[reference, subject]]
    _difference(study, run, instrument, pair)
    quality_table(study, pair)
    _agreement(study, run, len(subjects))
    _answers(study, subjects, [reference, *others])


def _difference(study: Study, run: pd.Series, instrument: str, pair: pd.DataFrame) -> None:
    """Show the profiles of the reference and of a subject on one circle, and what differs.

    `pair` has a row for the reference and one for the subject, named by them, with `profile` and
    `steering`.
    """
    reference, subject = pair.index
    before, after = (
        queries.profile(study.store, row.profile).query("steering == @row.steering")
        for row in pair.itertuples()
    )
    rows = queries.contrasts(study.store, run.run, instrument)
    differences = rows[rows.subject == subject]
    a, b = st.columns([1, 1.08], gap="large")
    with a:
        show(figures.circumplex(after, study.system, before=before), "circle")
    with b:
        show(figures.difference_rows(differences, study.system), "differences")
    fits = queries.circle_fits(study.store, run.run, instrument).set_index("subject")
    name_of = names(study.system)
    paired = (
        "paired, the same questions"
        if differences.paired.all()
        else "not paired: they were asked other questions"
    )
    st.caption(
        f"{safe(subject)} less {safe(reference)} (grey), {paired}; {differences.n.max()} clusters,"
        f" seed {run.seed}. {int((differences.q < 0.05).sum())} of {len(differences)} values differ"
        " (q < 0.05 over all subjects of the instrument)."
    )
    about_ratings(run)
    # No fit where fewer than three places of the circle were measured, or the values have none.
    if subject in fits.index:
        fit = fits.loc[subject]
        st.caption(
            f"Along the circle it moved towards {name_of[fit.towards]} by {number(fit.b, 2)}; the"
            f" circle explains {number(100 * fit.r2, 2)} % of it (permutation p"
            f" {number(fit.p, 2)})."
        )


def _agreement(study: Study, run: pd.Series, subjects: int) -> None:
    rows = queries.validity(study.store, run.run)
    if rows.empty:
        return
    st.subheader("Do the instruments agree?")
    st.dataframe(
        pd.DataFrame(
            {
                "instruments": rows.instrument + " · " + rows.other_instrument,
                "what": rows.metric.map(AGREEMENT),
                "figure": [
                    f"{signed(r.value)} [{signed(r.low)}, {signed(r.high)}]"
                    for r in rows.itertuples()
                ],
                "p": [number(p, 2) for p in rows.p],
                "subjects": rows.n,
            }
        ),
        hide_index=True,
    )
    matrix = queries.mtmm(study.store, run.run)
    if matrix.empty:
        st.caption(
            f"{subjects} subjects: correlations over subjects need five (`--subjects values` turns"
            " every value up and down)."
        )
        return
    show(figures.mtmm_matrix(matrix, study.system), "mtmm")
    st.caption(
        f"Correlation over {int(matrix.n.max())} subjects of every value on every instrument with"
        " every other. Steered variants of one model are no sample of models: the matrix says"
        " whether instruments see the same steering."
    )


def _answers(study: Study, subjects: pd.DataFrame, order: list[str]) -> None:
    """Show the answers of one subject about one value, page by page."""
    st.subheader("The answers")
    name_of = names(study.system)
    a, b, c = st.columns([2, 2, 1])
    subject = a.selectbox("Of", order)
    value = b.selectbox("About", list(study.system.ids), format_func=name_of.__getitem__)
    row = subjects.loc[subject]
    at = page_number(c, "answers-page")
    answers_table(
        queries.item_responses(study.store, row.profile, row.steering, value, PAGE, at * PAGE),
        at,
        row.profile,
    )
