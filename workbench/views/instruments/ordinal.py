"""The Bayesian ordinal regression: what each condition values, the contrasts of the circle's axes,
whether the chains agree, and the answers.

1. Theta of every condition and value, and its difference from the first condition; contrasts in
   conditions and between them. A mark that is clicked chooses the answers.
2. Every number in a table, with R-hat and effective sample size; thresholds; the circle.
3. How far to trust the answers, and the answers behind a value.
"""

from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names, signed
from workbench.study import Study
from workbench.views import facts, keep, missing, new_click, number, pick, run_json, safe
from workbench.views.shared import PAGE, answers_table, page_number, quality_table, short_names

AGREE = 1.01
"""R-hat above which the chains disagree."""
MEASURES = {
    "congruence": "plane of the values on the circle (Procrustes)",
    "agreement": "correlations that angles explain",
    "change": "change that one direction explains",
}
"""Measure of `ordinal_circle` -> what it is."""


def section(study: Study) -> None:
    """Show one regression."""
    run = pick("Ordinal regression", queries.candidates(study.store, "ordinal"), "instrument")
    if run is None:
        missing(
            study,
            "ordinal",
            "No answers have been compared by an ordinal regression yet. It needs profile runs that"
            " asked the same items.",
            "--runs PROFILE_RUN,PROFILE_RUN",
        )
        return
    inputs, summary = run_json(run, "inputs"), run_json(run)
    profiles = [id for role, id in inputs.items() if role.startswith("profile_")]
    thetas = queries.ordinal_thetas(study.store, run.run, _centred())
    short = short_names(
        list(dict.fromkeys(thetas.condition)), queries.subject_names(study.store, profiles)
    )
    _head(run, summary)
    contrasts = queries.ordinal_contrasts(study.store, run.run)
    contrasts = contrasts.assign(
        condition=contrasts.condition.map(short),
        other=contrasts.other.map(lambda name: short.get(name, "")),
        axis=contrasts.contrast.str.contains(" - "),
    )
    # The axes come before the single values.
    contrasts = contrasts.sort_values("axis", ascending=False, kind="stable")
    _figures(study, thetas, contrasts, short)
    _numbers(study, thetas, contrasts, short)
    _fit(study, run, short)
    _answers(study, run, profiles, short)


def _centred() -> bool:
    return bool(
        st.toggle(
            "Centred",
            True,
            key="ordinal-centred",
            help=(
                "Each condition's mean over its values is subtracted; off: as it is, agreement with"
                " anything included."
            ),
        )
    )


def _head(run: pd.Series, summary: dict[str, Any]) -> None:
    config = run_json(run, "config")
    facts(
        {
            "conditions": str(summary["conditions"]),
            "items": str(summary["items"]),
            "answers": f"{summary['answers']:,}",
            "not read": str(summary["missing"]),
            "worst R-hat": f"{summary['worst_r_hat']:.3f}",
            "fewest effective draws": f"{summary['least_ess']:.0f}",
        }
    )
    st.caption(
        f"{safe(summary['instrument'])}: {config['chains']} chains of {config['draws']} draws after"
        f" {config['warmup']}, seed {run.seed}. Answers that were scored by log-probability are"
        f" drawn from the probabilities of their options, at least {config['answers']} an item."
    )
    if summary["worst_r_hat"] > AGREE:
        st.warning(
            f"The chains disagree on some of these numbers (R-hat above {AGREE}). Run `workbench"
            " ordinal` with more `--warmup` and `--draws`.",
            icon=":material/warning:",
        )
    if not summary["asked_alike"]:
        st.warning(
            "The runs asked the same items in other contexts, wordings or orders: a difference may"
            " be that of the questions.",
            icon=":material/warning:",
        )


def _figures(study: Study, thetas: pd.DataFrame, rows: pd.DataFrame, short: dict[str, str]) -> None:
    back = {name: state for state, name in short.items()}

    def clickable(figure: Any, key: str) -> None:
        """Show a figure whose marks choose the answers below: a condition's, and a value's where
        the mark belongs to a single value.
        """
        picked = new_click(figure, key)
        if picked:
            condition, subject = picked
            st.session_state["ordinal-condition"] = back[condition]
            st.session_state["ordinal-value"] = subject if subject in study.system.ids else ""

    first = next(iter(short.values()))
    axes, changes = rows[rows.axis], rows[~rows.axis & (rows.other == first)]
    left, right = st.columns([1.35, 1], gap="large")
    with left:
        clickable(
            figures.theta_rows(thetas.assign(condition=thetas.condition.map(short)), study.system),
            "thetas",
        )
        st.caption(
            "How much each condition holds each value. Click a mark to see its answers below."
        )
    with right:
        if len(changes):
            clickable(figures.change_rows(changes, study.system), "changes")
            st.caption(f"What each value, centred, differs by from {safe(first)}.")
        elif len(short) == 1:
            st.info("One condition alone: nothing to compare it with.")
    for column, key, part, text in (
        (
            left,
            "contrasts",
            axes[axes.other == ""],
            "The two axes of the circle in each condition. A click shows the condition's answers.",
        ),
        (
            right,
            "contrasts-between",
            axes[axes.other != ""],
            "The difference between two conditions.",
        ),
    ):
        with column:
            if len(part):
                clickable(figures.contrast_rows(part), key)
                st.caption(text)
    if axes.empty:
        st.info(
            "The items do not cover the four higher-order values, so there is no contrast of them."
        )


def _posterior_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Lay out posterior rows for people: `what`, `of` where there is one, and every number."""
    columns = {name: rows[name] for name in ("what", "of") if name in rows}
    columns |= {
        "mean [95 % interval]": [
            f"{signed(r.mean)} [{signed(r.low)}, {signed(r.high)}]" for r in rows.itertuples()
        ],
        "P(below 0)": [f"{x:.3f}" for x in rows.below],
        "R-hat": [f"{x:.3f}" + (" ⚠" if x > AGREE else "") for x in rows.r_hat],
        "effective draws": rows.ess.round(),
        "answers": rows.n,
    }
    if "missing" in rows:
        columns["not read"] = rows.missing
    return pd.DataFrame(columns)


def _numbers(
    study: Study, thetas: pd.DataFrame, contrasts: pd.DataFrame, short: dict[str, str]
) -> None:
    st.subheader("The numbers")
    one_by_one = _posterior_table(
        thetas.assign(what=thetas.value.map(names(study.system)), of=thetas.condition.map(short))
    )
    axes = _posterior_table(
        contrasts.assign(
            what=contrasts.contrast.replace(names(study.system)).str.replace(" - ", " less "),
            of=[_pair(r.condition, r.other) for r in contrasts.itertuples()],
        )
    )
    one_by_one["not read"] = one_by_one["not read"].astype(str)
    st.dataframe(
        pd.concat([axes.assign(**{"not read": "–"}), one_by_one]) if len(axes) else one_by_one,
        hide_index=True,
        height=420,
    )
    st.caption(
        f"Latent SD: the noise of one answer is 1. R-hat: rank-normalised, split; above {AGREE} (⚠)"
        " the chains disagree. Effective draws: the smaller one of bulk and tails."
    )


def _fit(study: Study, run: pd.Series, short: dict[str, str]) -> None:
    left, right = st.columns([1, 1.5], gap="large")
    with left:
        st.subheader("Thresholds")
        rows = queries.ordinal_parameters(study.store, run.run)
        st.dataframe(
            _posterior_table(rows.assign(what=[_parameter(name) for name in rows.parameter])),
            hide_index=True,
        )
    with right:
        st.subheader("The circle in the answers")
        rows = queries.ordinal_circle(study.store, run.run)
        if rows.empty:
            st.caption(
                "Not judged: it takes ten contexts, or a second condition, and more than three"
                " values."
            )
            return
        st.dataframe(
            pd.DataFrame(
                {
                    "condition": [
                        _pair(short.get(r.condition, r.condition), short.get(r.other, r.other))
                        for r in rows.itertuples()
                    ],
                    "what": rows.measure.map(MEASURES),
                    "estimate": rows.estimate.round(3),
                    "by chance": rows["null"].round(3),
                    "p": [number(p, 2) for p in rows.p],
                    "n": [
                        f"{r.n} {'values' if r.measure == 'change' else 'contexts'}"
                        for r in rows.itertuples()
                    ],
                }
            ),
            hide_index=True,
        )
        st.caption(f"Chance and p by permuting the values' places, seed {run.seed}.")


def _pair(condition: str, other: str) -> str:
    """Name a condition, or the difference between it and another one."""
    return f"{condition} less {other}" if other else condition


def _parameter(name: str) -> str:
    if name == "sigma_u":
        return "spread of the items (SD)"
    place = int(name.removeprefix("tau_"))
    return f"between options {place} and {place + 1}"


@st.cache_data(show_spinner="Looking up who answered …")
def _answerers(_study: Study, folder: str, profiles: tuple[str, ...]) -> pd.DataFrame:
    """Find the profile run and the steering that hold each condition's answers.

    Conditions are called as the verb calls them. `folder` tells studies apart in the cache.
    """
    from workbench.comparing import conditions

    runs = {id: _study.resolve("profile", id) for id in profiles}
    rows = conditions.marked(queries.answerers(_study.store, profiles), runs)
    rows = rows.drop_duplicates(list(conditions.MARKS)).reset_index(drop=True)
    return rows.assign(condition=conditions.names(rows), profile=rows.run).set_index("condition")[
        ["profile", "steering"]
    ]


def _answers(study: Study, run: pd.Series, profiles: list[str], short: dict[str, str]) -> None:
    """Show how far to trust the answers, and those of one condition about a value."""
    answerers = _answerers(study, str(study.folder), tuple(profiles))
    answerers = answerers.loc[[state for state in short if state in answerers.index]]
    if answerers.empty:
        st.info("The answers behind these conditions are not in this study's runs any more.")
        return
    quality_table(study, answerers.rename(index=short))
    st.subheader("The answers")
    name_of = names(study.system)
    keep("ordinal-condition", list(answerers.index), answerers.index[0])
    keep("ordinal-value", ["", *study.system.ids], study.system.ids[0])
    a, b, c = st.columns([2, 2, 1])
    state = a.selectbox(
        "Of", list(answerers.index), format_func=short.__getitem__, key="ordinal-condition"
    )
    value = b.selectbox(
        "About",
        ["", *study.system.ids],
        format_func=lambda v: name_of.get(v, "any value"),
        key="ordinal-value",
    )
    row, at = answerers.loc[state], page_number(c, "ordinal-page")
    answers_table(
        queries.item_responses(study.store, row.profile, row.steering, value, PAGE, at * PAGE),
        at,
        row.profile,
    )
