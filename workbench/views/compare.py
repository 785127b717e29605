"""Compare: ways to steer a value beside each other, baselines and controls among them, and behind
each its questions and texts; then whether the labels carry over to text (`transfer.py`).

1. The forest plot and the table of the mean over values.
2. One method for one value: its numbers, the questions with the largest changes, and what it wrote.
"""

from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.compare import arm_order
from workbench.figures.style import names, probability, signed
from workbench.study import Study
from workbench.views import facts, here, next_step, number, pick, run_json, show, transfer
from workbench.views.shared import about_ratings


def page() -> None:
    """Show the methods beside each other, and what is behind each."""
    study, chosen = here()
    st.title("Compare")
    run = None
    if chosen.labels is not None:
        runs = queries.candidates(study.store, "comparison", "labels", chosen.labels.run)
        run = pick("Comparison", runs)
    if run is None or chosen.labels is None:
        next_step(study, chosen, "sae", "labels", "comparison")
        if chosen.labels is not None:
            transfer.section(study, chosen.labels.run)
        return
    config = run_json(run, "config")
    means = queries.arm_means(study.store, run.run)
    arms = queries.arms(study.store, run.run)
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
    about_ratings(run)
    _table(means)
    _cell(study, run, arms, scores, arm_order(means))
    transfer.section(study, chosen.labels.run)


def _table(means: pd.DataFrame) -> None:
    st.subheader("The mean over values")
    rows = means.set_index("arm").loc[arm_order(means)].reset_index()
    shown = pd.DataFrame(
        {
            "method": rows.arm,
            "effect [SD]": [_interval(r.effect, r.low, r.high) for r in rows.itertuples()],
            "against": rows.baseline.fillna("–"),
            "difference [SD]": [
                _interval(r.difference, r.difference_low, r.difference_high, without="baseline")
                for r in rows.itertuples()
            ],
            "q": [probability(q) for q in rows.q],
            "leakage": [
                f"{number(r.leakage, 2)} ({r.leakage_values} values)" for r in rows.itertuples()
            ],
            "damage [nats]": [
                _interval(r.damage, r.damage_low, r.damage_high, 3) for r in rows.itertuples()
            ],
            "within budget": [f"{r.within} of {r.n_values}" for r in rows.itertuples()],
            "text score": [_text_score(r) for r in rows.itertuples()],
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


def _interval(x: float, low: float, high: float, digits: int = 2, without: str = "–") -> str:
    """Write a signed number with its interval; `without` stands where there is none."""
    if pd.isna(x):
        return without
    return f"{signed(x, digits)} [{signed(low, digits)}, {signed(high, digits)}]"


def _text_score(row: Any) -> str:
    if pd.isna(row.harmonic):
        return "–"
    return f"{row.harmonic:.2f} [{row.harmonic_low:.2f}, {row.harmonic_high:.2f}]"


def _cell(
    study: Study, run: pd.Series, arms: pd.DataFrame, scores: pd.DataFrame, order: list[str]
) -> None:
    """Show one method for one value: its numbers, its questions and its texts."""
    st.subheader("One method, one value")
    name_of = names(study.system)
    left, right = st.columns(2)
    value = left.selectbox(
        "Value",
        [v for v in study.system.ids if v in set(arms.value)],
        format_func=name_of.__getitem__,
    )
    arm = right.selectbox("Method", order)
    rows = arms[(arms.value == value) & (arms.arm == arm)]
    if rows.empty:
        st.info("This method was not measured for this value.")
        return
    row = rows.iloc[0]
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
    ratings = queries.arm_ratings(study.store, run.run, int(row.intervention), 10)
    st.dataframe(
        ratings[["context", "prompt", "base", "rating", "change"]],
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
