"""What the value profile would be if some values were set: counterfactuals over the graph that
interventions estimated.

1. Every context of the sweep behind the graph gives one observed profile, unsteered. A target on
   the rubric of 1 to 5 is laid linearly on the instrument's scale.
2. Abduction, action and prediction context by context (`causal/counterfactual.py`,
   `causal/linear_scm.py`). Beside each stands the interventional profile, with the exogenous terms
   of another context.
3. The mean change of every value carries three ranges: over contexts (bootstrap), over the weights
   of the edges (drawn with their bootstrap SD, independently), and under the same graph with its
   values' names exchanged (the null).

Left out: whether the graph is right. `graph` says how far it is to be believed.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from feature_store.bounds import NotNegative, Replicates, Seed
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.work import Work
from workbench.causal import targets
from workbench.causal.counterfactual import (
    HIGHEST,
    LOWEST,
    Counterfactual,
    Objective,
    counterfactuals,
)
from workbench.causal.linear_scm import LinearSCM, fresh, read_scm
from workbench.measuring.questionnaire import one_scale
from workbench.statistics.intervals import bootstrap_mean
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class CounterfactualSettings:
    """Which values are set to which scores, and over which graph."""

    graph: str = "latest"
    """Run of the graph."""
    target: tuple[str, ...] = ()
    """Wanted scores, each as value=score [1 to 5]; none: those of `preset`."""
    presets: str = ""
    """TOML or CSV file of presets; empty: the shipped ones."""
    preset: str = "caring"
    """Name of the preset, where no target is given."""
    values: tuple[str, ...] = ()
    """Values of the target that are set, at most five; none: all of it."""
    theta: NotNegative = 1.0
    """Nothing is set where the observed profile is this near to the target [rating points,
    summed over the values set]."""
    replicates: Replicates = 1000
    """Bootstrap replicates, draws of edge weights, and draws of the null."""
    seed: Seed = 0
    """Seed of all of them."""


def run(study: Workspace, settings: CounterfactualSettings, progress: Progress) -> Run:
    """Set values in every observed profile; make a run of kind `counterfactual`."""
    graph_run = study.resolve("graph", settings.graph)
    sweep_run = study.resolve("effects", graph_run.inputs["effects"])
    options = len(one_scale(sweep_run.config["instrument"], study.system).options)
    objective = _objective(study, settings, options)
    inputs = {
        "graph": graph_run.id,
        "effects": sweep_run.id,
        "target": repr(objective.targets),
    }
    observed = _observe(study, graph_run)
    observed.scm.check(objective)
    pinned = dataclasses.replace(settings, graph=graph_run.id)
    build = partial(_predict, observed, pinned, objective, options, progress)
    return study.make("counterfactual", pinned, inputs, build)


def _objective(study: Workspace, settings: CounterfactualSettings, options: int) -> Objective:
    """The target on the instrument's scale of 1 to `options`, the highest scores first."""
    scores = targets.target_scores(settings.target, settings.presets, settings.preset, study.system)
    values = [study.system.resolve(value) for value in settings.values] or list(scores)
    absent = [value for value in values if value not in scores]
    if absent:
        raise BadInput(
            f"The target says nothing about {', '.join(absent)}; it sets {', '.join(scores)}. Name"
            " some of those."
        )
    stretch = (options - 1) / (HIGHEST - LOWEST)
    ordered = sorted(values, key=lambda value: -scores[value])
    return Objective(tuple((value, 1 + (scores[value] - LOWEST) * stretch) for value in ordered))


class _Observed(NamedTuple):
    """The profiles that counterfactuals begin from, and the model behind them."""

    scm: LinearSCM
    """Structural model, from the graph."""
    sd: Float[np.ndarray, "source target"]
    """SD of each weight of the graph."""
    profiles: pd.DataFrame
    """Unsteered ratings, one row a context, one column a value of the model."""
    left_out: int
    """Contexts in which a value went unanswered."""


def _observe(study: Workspace, graph_run: Run) -> _Observed:
    """Read the graph and the profiles. Raises BadInput for fewer than two complete ones."""
    scm, sd = read_scm(study, graph_run)
    rows = study.store.sql(
        "SELECT context, value, avg(base) AS base FROM ratings WHERE run = ? AND isfinite(base)"
        " GROUP BY ALL",
        [graph_run.inputs["effects"]],
    )
    profiles = rows.pivot(index="context", columns="value", values="base").sort_index()
    profiles = profiles.astype(float).reindex(columns=list(scm.values))
    complete = profiles.dropna()
    if len(complete) < 2:
        raise BadInput(
            f"Counterfactuals need two contexts with every value answered, got {len(complete)}."
            " Measure more contexts."
        )
    left_out = len(profiles) - len(complete)
    return _Observed(scm=scm, sd=sd, profiles=complete, left_out=left_out)


def _predict(
    observed: _Observed,
    settings: CounterfactualSettings,
    objective: Objective,
    options: int,
    progress: Progress,
    work: Work,
) -> dict[str, Any]:
    """Predict every profile into a run, and return its figures."""
    scm = observed.scm
    profiles = [row.to_numpy() for _, row in observed.profiles.iterrows()]
    results = counterfactuals(scm, profiles, [objective] * len(profiles), settings.theta)
    acted = np.array([result.intervened for result in results])
    terms = [result.exogenous for result in results]
    others = scm.predict(fresh(terms, settings.seed), [objective] * len(terms))
    outcome = np.stack([result.outcome for result in results])
    interventional = np.where(acted[:, None], np.stack(others), np.stack(profiles))
    work.table(
        "counterfactual_profiles",
        _profile_rows(observed, results, interventional),
        sort=("value", "context"),
    )
    ranges = _ranges(observed, acted, objective, settings, progress)
    change = outcome - np.stack(profiles)
    work.table(
        "counterfactual_changes", _change_rows(observed, change, ranges, objective, settings)
    )
    free = np.array([value not in objective.values for value in scm.values])
    gap = (outcome - interventional)[np.ix_(acted, free)]
    return {
        "target": ", ".join(f"{value} {score:g}" for value, score in objective.targets),
        "contexts": len(results),
        "left_out": int(observed.left_out),
        "intervened": int(acted.sum()),
        "fresh_noise_rms": float(np.sqrt((gap**2).mean())) if gap.size else None,
        "outside_scale": int(((outcome < 1) | (outcome > options)).sum()),
        "cells": outcome.size,
    }


def _profile_rows(
    observed: _Observed,
    results: list[Counterfactual],
    interventional: Float[np.ndarray, "context value"],
) -> list[dict[str, Any]]:
    """Rows of `counterfactual_profiles`: every context and value."""
    return [
        {
            "context": int(context),
            "value": value,
            "observed": profile[value],
            "exogenous": results[p].exogenous.u[j],
            "counterfactual": results[p].outcome[j],
            "interventional": interventional[p, j],
            "distance": results[p].distance,
            "intervened": results[p].intervened,
        }
        for p, (context, profile) in enumerate(observed.profiles.iterrows())
        for j, value in enumerate(observed.scm.values)
    ]


def _change_rows(
    observed: _Observed,
    change: Float[np.ndarray, "context value"],
    ranges: Float[np.ndarray, "kind end value"],
    objective: Objective,
    settings: CounterfactualSettings,
) -> list[dict[str, Any]]:
    """Rows of `counterfactual_changes`: the mean change of every value, with its ranges."""
    interval = bootstrap_mean(change, settings.replicates, settings.seed)
    scores = dict(objective.targets)
    return [
        {
            "value": value,
            "target": scores.get(value),
            "observed": observed.profiles[value].mean(),
            "change": interval.mean[j],
            "low": interval.low[j],
            "high": interval.high[j],
            "graph_low": ranges[0, 0, j],
            "graph_high": ranges[0, 1, j],
            "null_low": ranges[1, 0, j],
            "null_high": ranges[1, 1, j],
            "n": int(interval.n[j]),
        }
        for j, value in enumerate(observed.scm.values)
    ]


def _ranges(
    observed: _Observed,
    acted: Bool[np.ndarray, " context"],
    objective: Objective,
    settings: CounterfactualSettings,
    progress: Progress,
) -> Float[np.ndarray, "kind end value"]:
    """95 % ranges of the mean change: edge weights drawn anew, and the nodes' names exchanged."""
    scm, sd, profiles = observed.scm, observed.sd, observed.profiles.to_numpy()
    rng = np.random.default_rng((settings.seed, 1))
    drawn = np.empty((2, settings.replicates, len(scm.values)))
    for replicate in range(settings.replicates):
        order = rng.permutation(len(scm.values))
        redrawn = scm.direct + sd * rng.standard_normal(sd.shape)
        renamed = scm.direct[np.ix_(order, order)]
        for kind, direct in enumerate((redrawn, renamed)):
            model = LinearSCM(scm.values, direct)
            drawn[kind, replicate] = _mean_change(model, profiles, acted, objective)
        if not (replicate + 1) % 100:
            progress("drawing", replicate + 1, settings.replicates)
    return np.quantile(drawn, (0.025, 0.975), axis=1).swapaxes(0, 1)


def _mean_change(
    scm: LinearSCM,
    profiles: Float[np.ndarray, "context value"],
    acted: Bool[np.ndarray, " context"],
    objective: Objective,
) -> Float[np.ndarray, " value"]:
    """Mean change over contexts [rating points].

    The model is linear, so the contexts in which it acts are predicted as one, their mean.
    """
    if not acted.any():
        return np.zeros(len(scm.values))
    middle = profiles[acted].mean(0)
    return (scm.predict(scm.abduct([middle]), [objective])[0] - middle) * acted.mean()
