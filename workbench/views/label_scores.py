"""What labels are worth beyond their labeler's own evidence: scores of the verb `score`.

1. On the page of a feature: each score of each of its labels, with interval and chance, and how
   cleanly it should steer.
2. On the list of features: how each method's labels do, method beside method, and how good the
   forecast of clean steering is.
"""

from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench.figures.style import names
from workbench.study import Study
from workbench.views import ChosenRuns, number

MEANINGS = {
    "causal": (
        "change of the label's value when the feature is steered, at equal damage [SD]; 97.5 % of"
        " the controls stay below the chance"
    ),
    "beside": (
        "root mean square of the other values' changes [SD]; it passes where it is no larger than"
        " that of 97.5 % of the controls"
    ),
    "embedding": "held-out contexts ranked by likeness with the value's definition [AUROC]",
    "detection": "held-out contexts told from others by the label [balanced accuracy]",
    "fuzzing": "active tokens told from others by the label [balanced accuracy]",
    "intruder": "how often the one silent context among five is named; the label is not shown",
    "output": "rank times probability of the feature's promoted tokens, raised on one prompt",
}
"""Score -> what a person reads of it."""


def show_label_scores(study: Study, chosen: ChosenRuns, feature: int) -> None:
    """Show every score of a feature's labels; nothing where none was made."""
    if chosen.labels is None:
        return
    scores = queries.label_scores(study.store, chosen.labels.run, feature)
    if scores.empty:
        return
    st.markdown("**How its labels score**")
    st.dataframe(
        pd.DataFrame(
            {
                "value": scores.value.map(names(study.system)),
                "score": scores.score,
                "figure": [_with_interval(r) for r in scores.itertuples()],
                "chance": scores.chance.map(number),
                "passed": scores.passed,
                "n": scores.n,
                "by": scores.source,
                "run": scores.run,
            }
        ),
        hide_index=True,
    )
    st.caption(_meanings(scores))


def show_method_scores(study: Study, sae: str) -> None:
    """Show how methods do by the newest scores of an SAE's labels; nothing without any."""
    runs = queries.candidates(study.store, "scores", "sae", sae)
    if runs.empty:
        return
    scores = queries.method_scores(study.store, runs.run[0])
    scores = scores[scores.n > 0]
    if scores.empty:
        return
    st.subheader("How methods do by independent scores")
    st.dataframe(
        pd.DataFrame(
            {
                "score": scores.score,
                "labeler": scores.method,
                "pass": [
                    f"{r.share:.0%} [{r.share_low:.0%}, {r.share_high:.0%}]"
                    for r in scores.itertuples()
                ],
                "with another value": [
                    "–" if pd.isna(share) else f"{share:.0%}" for share in scores.chance_share
                ],
                "mean": [_with_interval(r) for r in scores.itertuples()],
                "scored": scores.n,
                "accepted": scores.accepted,
            }
        ),
        hide_index=True,
    )
    st.caption(f"{_meanings(scores)} {runs.run[0]}, seed {runs.seed[0]}.")


def show_forecast(study: Study, chosen: ChosenRuns, feature: int) -> None:
    """Say how cleanly a feature should steer, and did; nothing where nobody forecast it."""
    run = "" if chosen.sae is None else newest_forecast(study, chosen.sae.run)
    rows = queries.forecast_of(study.store, run, feature)
    if rows.empty:
        return
    row = rows.iloc[0]
    measured = ""
    if pd.notna(row.measured_stability):
        measured = (
            f" Measured: stability {row.measured_stability:.2f}, collateral"
            f" {row.measured_collateral:.2f}."
        )
    st.caption(
        f"Forecast without steering: stability {row.stability:.2f}, collateral"
        f" {row.collateral:.2f}; cleanness {row.clean:.2f} among all live features [0 to 1]."
        f"{measured} How good forecasts are stands on the list of features. {run}."
    )


def newest_forecast(study: Study, sae: str) -> str:
    """Id of the newest forecast of an SAE's features; empty where there is none."""
    runs = queries.candidates(study.store, "forecast", "sae", sae)
    return "" if runs.empty else str(runs.run[0])


def show_forecast_skills(study: Study, sae: str) -> None:
    """Show how good the newest forecast of clean steering is; nothing where there is none."""
    run = newest_forecast(study, sae)
    if not run:
        return
    skills = queries.forecast_skills(study.store, run)
    st.subheader("How good the forecast of clean steering is")
    st.dataframe(
        pd.DataFrame(
            {
                "forecast": skills.target,
                "from": skills.predictors,
                "Spearman": [
                    f"{r.spearman:+.2f} [{r.low:+.2f}, {r.high:+.2f}]" for r in skills.itertuples()
                ],
                "all lead it by": [
                    "–"
                    if r.predictors == "all"
                    else f"{r.lead:+.2f} [{r.lead_low:+.2f}, {r.lead_high:+.2f}]"
                    for r in skills.itertuples()
                ],
                "features": skills.n,
            }
        ),
        hide_index=True,
    )
    weights = queries.forecast_weights(study.store, run)
    first = [
        f"{target}: {', '.join(part.predictor.head(3))}"
        for target, part in weights.groupby("target", sort=False)
    ]
    surely = skills[skills.predictors != "all"].lead_low.gt(0).all()
    verdict = "" if surely else " An interval that holds 0 says that the lead may be none."
    st.caption(
        "Stability: how alike a feature's effect is from context to context; collateral: how much"
        " of it falls beside the value that moves most. Rank correlation with what steering did, on"
        f" features that the fit did not see.{verdict} Goes by most, {'; '.join(first)}. {run}."
    )


def _with_interval(row: Any) -> str:
    """Write a figure with its interval, where it has one."""
    interval = "" if pd.isna(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]"
    return f"{row.figure:+.2f}{interval}"


def _meanings(scores: pd.DataFrame) -> str:
    """Say what the scores that are shown mean."""
    shown = [name for name in MEANINGS if (scores.score == name).any()]
    return " ".join(f"{name}: {MEANINGS[name]}." for name in shown)
