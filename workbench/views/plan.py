"""Plan: which steering gives a wanted profile, what it was predicted to do and what it did; and how
good such predictions are.

1. A plan's wish, its features, groups or directions and their strengths, and value by value:
   allowed, predicted, measured, beside random features or directions at the same doses.
2. The held-out joint steerings by which predictions of this study are judged.
"""

from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench import figures
from workbench.figures.style import names, signed
from workbench.study import Study
from workbench.views import facts, here, missing, number, pick, run_json, safe, show
from workbench.views.shared import about_ratings


def page() -> None:
    """Show a plan made from the chosen side effects, and how good its predictions are."""
    study, chosen = here()
    st.title("Plan")
    st.caption("What to turn, and how far, for the profile that is wanted; and what it will cost.")
    if chosen.effects is None:
        missing(
            study,
            "effects",
            "A plan is made from what single steerings did, and nothing has been steered yet.",
        )
        return
    run = pick("Plan", queries.candidates(study.store, "plan", "effects", chosen.effects.run))
    if run is None:
        want = "benevolence +0.5, power <= 0, others within 0.2"
        missing(study, "plan", "Nothing has been planned yet.", f'--want "{want}"')
    else:
        _plan(study, run)
        if chosen.effects is not None:
            about_ratings(chosen.effects)
    _record(study, chosen.effects)


def _plan(study: Study, run: pd.Series) -> None:
    """Show one plan: the wish, what came of it, and what is turned for it."""
    summary, config = run_json(run), run_json(run, "config")
    # As code, or Markdown would set a sign for `<=`.
    st.subheader(f"`{config['want'].replace('`', '')}`")
    facts(_outcome(summary))
    left, right = st.columns([1.9, 1], gap="large")
    with left:
        rows = queries.plan_effects(study.store, run.run)
        show(figures.plan_rows(rows, study.system, _control(summary)), "plan")
        st.caption(
            f"Chosen by {summary['contexts_chosen_by']} contexts, measured in {summary['contexts']}"
            f" others, seed {run.seed}; 95 % intervals over contexts. Distance: how far outside the"
            " wish a profile lies, over the values that were asked for."
        )
    with right:
        _turned(study, run, summary)


def _control(summary: dict[str, Any]) -> str:
    """Say what a plan's control is."""
    return "random directions" if "steered" in summary else "random features"


def _outcome(summary: dict[str, Any]) -> dict[str, str]:
    """Name the figures of a plan: distances from the wish [points] and damage [nats]."""
    before, after = number(summary["distance_before"]), number(summary["distance_after"])
    low, high = number(summary["distance_low"]), number(summary["distance_high"])
    damage_low, damage_high = signed(summary["damage_low"], 3), signed(summary["damage_high"], 3)
    what = next(name for name in ("features", "groups", "directions") if name in summary)
    return {
        summary.get("steered", what): str(summary[what]),
        "wishes met": f"{summary['within']} of {summary['asked']}",
        "distance before": f"{before} points",
        "predicted": number(summary["distance_predicted"]),
        "measured": f"{after} [{low}, {high}]",
        _control(summary): number(summary["distance_control"]),
        "damage": f"{signed(summary['damage'], 3)} [{damage_low}, {damage_high}] nats",
        "damage predicted": signed(summary["damage_predicted"], 3),
    }


def _turned(study: Study, run: pd.Series, summary: dict[str, Any]) -> None:
    """Show the features, groups or directions of a plan with their doses, and what limits it."""
    if "steered" in summary:
        parts = queries.joint_units(study.store, run.run)
        what, called = "turned", parts.kind + " " + parts["name"]
    else:
        parts = queries.joint_features(study.store, run.run)
        what, called = "feature", parts.feature
    rejected = parts.polarity.lt(0).map({True: ", rejected", False: ""})
    label = parts.value.map(names(study.system)).fillna("–") + rejected
    st.dataframe(
        pd.DataFrame({what: called, "label": label, "dose": parts.weight}),
        hide_index=True,
        column_config={
            "dose": st.column_config.NumberColumn(
                format="%+.3f", help=f"Signed, in {summary['unit']}."
            )
        },
    )
    if summary["held_out_n"]:
        st.caption(
            f"Predictions of this study explain {summary['held_out_r2']:.1%} of the variance of"
            f" {summary['held_out_n']} joint steerings that no fit has seen."
        )
    else:
        st.caption(
            "How good such predictions are has not been measured. `workbench predict` does it."
        )
    for pair in summary["alike"]:
        st.caption(f"Cannot be moved apart: {safe(pair)}.")


def _record(study: Study, effects: pd.Series) -> None:
    """Show the held-out joint steerings by which predictions of the side effects are judged."""
    st.subheader("How good predictions are")
    run = pick("Predictions", queries.candidates(study.store, "prediction", "effects", effects.run))
    if run is None:
        missing(study, "prediction", "No joint steering has been predicted and measured yet.")
        return
    model = (
        st.segmented_control("Model", ["linear", "graph"], default="linear", key="prediction-model")
        or "linear"
    )
    scores = queries.prediction_scores(study.store, run.run)
    scores = scores[scores.model == model].set_index("value")
    left, right = st.columns([1.4, 1], gap="large")
    with left:
        rows = queries.predictions(study.store, run.run, model)
        show(figures.prediction_scatter(rows, study.system, scores.r2["all"]), "scatter")
    with right:
        _scores_table(study, scores)
    st.caption(
        "linear: the changes of single steerings add up. graph: a single steering moves its own"
        f" value, and the causal graph carries it on. {int(scores.n.max())} joint steerings, seed"
        f" {run.seed}."
    )


def _scores_table(study: Study, scores: pd.DataFrame) -> None:
    """Show how good the predictions of one model are, for all values together and for each."""
    name_of = names(study.system)
    order = ["all", *(v for v in study.system.ids if v in scores.index)]
    rows = scores.loc[order]
    st.dataframe(
        pd.DataFrame(
            {
                "value": [name_of.get(v, "all together") for v in order],
                "R²": [f"{r.r2:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in rows.itertuples()],
                "chance": rows.chance.to_numpy(),
                "error": rows.mae.to_numpy(),
                "covered": rows.fresh_coverage.to_numpy(),
            }
        ),
        hide_index=True,
        height=35 * (len(order) + 1) + 3,
        column_config={
            "chance": st.column_config.NumberColumn(
                format="%.3f",
                help="97.5 % quantile of R² with predictions dealt to the wrong steerings.",
            ),
            "error": st.column_config.NumberColumn(
                format="%.3f", help="Mean absolute error, in rating points."
            ),
            "covered": st.column_config.NumberColumn(
                format="percent",
                help=(
                    "Measured changes inside their 95 % interval, in contexts the prediction"
                    " has not seen."
                ),
            ),
        },
    )
