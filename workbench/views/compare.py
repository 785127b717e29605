"""Compare: ways to steer a value beside each other, baselines and controls among them, and behind
each its questions and texts.

1. The forest plot and the table of the mean over values.
2. One method for one value: its numbers, the questions with the largest changes, and what it wrote.
"""

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.compare import arm_order
from workbench.figures.style import names, signed
from workbench.study import Study
from workbench.views import facts, here, missing, number, pick, run_json, show


def page() -> None:
    """The methods and what is behind them."""
    study, chosen = here()
    st.title("Compare")
    run = (
        None
        if chosen.labels is None
        else pick(
            "Comparison", queries.candidates(study.store, "comparison", "labels", chosen.labels.run)
        )
    )
    if run is None:
        kind, what = (
            ("sae", "There is no SAE yet.")
            if chosen.sae is None
            else (
                ("labels", "No feature carries a value yet.")
                if chosen.labels is None
                else ("comparison", "No methods have been compared yet.")
            )
        )
        missing(study, kind, what)
        return
    config, means, arms = (
        run_json(run, "config"),
        queries.arm_means(study.store, run.run),
        queries.arms(study.store, run.run),
    )
    scores = queries.arm_scores(study.store, run.run)
    st.caption(
        "Ways to make the model hold a value: same questions, same strengths, damage of at most"
        f" {number(config.get('delta'))} nats per token. Strengths are chosen on half of the"
        " contexts, all numbers come from the other half."
    )
    points = arms.merge(scores[["value", "arm", "harmonic"]], on=["value", "arm"], how="left")
    show(figures.arm_forest(means, points, study.system), "arms")
    st.caption(
        f"Diamonds: mean over {int(means.n_values.max())} values with 95 % intervals over contexts"
        " (damage: neutral texts; text score: openings); dots: single values. Grey: controls."
        f" {int(means.n.max())} contexts report, seed {run.seed}."
    )
    _table(means)
    _one(study, run, arms, scores, arm_order(means))


def _table(means: pd.DataFrame) -> None:
    st.subheader("The mean over values")
    rows = means.set_index("arm").loc[arm_order(means)].reset_index()
    shown = pd.DataFrame(
        {
            "method": rows.arm,
            "effect [SD]": [
                f"{signed(r.effect)} [{signed(r.low)}, {signed(r.high)}]" for r in rows.itertuples()
            ],
            "against": rows.baseline.fillna("–"),
            "difference [SD]": [
                (
                    f"{signed(r.difference)} [{signed(r.difference_low)},"
                    f" {signed(r.difference_high)}]"
                    if r.difference == r.difference
                    else "baseline"
                )
                for r in rows.itertuples()
            ],
            "q": [number(q, 2) for q in rows.q],
            "leakage": [
                f"{number(r.leakage, 2)} ({r.leakage_values} values)" for r in rows.itertuples()
            ],
            "damage [nats]": [
                f"{signed(r.damage, 3)} [{signed(r.damage_low, 3)}, {signed(r.damage_high, 3)}]"
                for r in rows.itertuples()
            ],
            "within budget": [f"{r.within} of {r.n_values}" for r in rows.itertuples()],
            "text score": [
                (
                    f"{r.harmonic:.2f} [{r.harmonic_low:.2f}, {r.harmonic_high:.2f}]"
                    if r.harmonic == r.harmonic
                    else "–"
                )
                for r in rows.itertuples()
            ],
            "extra tokens": rows.tokens.round(1),
            "seconds": rows.seconds,
            "needs": rows.needs,
        }
    )
    st.dataframe(
        shown,
        hide_index=True,
        height=35 * (len(shown) + 1) + 3,
        column_config={
            "seconds": st.column_config.NumberColumn(
                format="%.4f", help="A full forward pass a question, on the machine that compared."
            )
        },
    )
    st.caption(
        "Differences are paired by context, against the baseline that did best where strengths were"
        " chosen; q after Benjamini-Hochberg over methods. They hold for these halves and"
        " strengths: a small one can turn with another seed. A text score is the harmonic mean of"
        " concept, instruct and fluency, 0 to 2 each."
    )


def _one(
    study: Study, run: pd.Series, arms: pd.DataFrame, scores: pd.DataFrame, order: list[str]
) -> None:
    st.subheader("One method, one value")
    name_of = names(study.system)
    left, right = st.columns(2)
    value = left.selectbox(
        "Value", [v for v in study.system.ids if v in set(arms.value)], format_func=name_of.get
    )
    arm = right.selectbox("Method", order)
    found = arms[(arms.value == value) & (arms.arm == arm)]
    if found.empty:
        st.info("This method was not measured for this value.")
        return
    row = found.iloc[0]
    facts(
        {
            "strength": f"{row.dose:g}",
            "effect": f"{signed(row.effect)} SD",
            "95 % interval": f"{signed(row.low)} to {signed(row.high)}",
            "damage": f"{signed(row.damage, 3)} nats",
            "leakage": number(row.leakage, 2),
            "contexts": str(row.n),
        }
    )
    if row.prompt:
        st.text(f"Before each question: {row.prompt}")
    rows = queries.arm_ratings(study.store, run.run, int(row.intervention), 10)
    st.dataframe(
        rows[["context", "prompt", "base", "rating", "change"]],
        hide_index=True,
        column_config={
            "prompt": st.column_config.TextColumn(width="large"),
            "base": st.column_config.NumberColumn("unsteered", format="%.2f"),
            "rating": st.column_config.NumberColumn("steered", format="%.2f"),
            "change": st.column_config.NumberColumn(format="%+.2f"),
        },
    )
    st.caption("Questions about the value with the largest changes, over all contexts.")
    best = scores[(scores.value == value) & (scores.arm == arm)]
    if len(best):
        st.dataframe(
            queries.arm_texts(study.store, run.run, int(best.intervention.iloc[0])),
            hide_index=True,
            column_config={
                name: st.column_config.TextColumn(width="medium")
                for name in ("prompt", "text", "unsteered")
            },
        )
        st.caption(
            f"What it wrote at strength {best.dose.iloc[0]:g}, which was chosen for texts; rated by"
            f" {best.judge.iloc[0]}."
        )
