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

import numpy as np
import pandas as pd
from jaxtyping import Float

from feature_store.bounds import Replicates, Seed
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from workbench.causal import targets
from workbench.causal.counterfactual import HIGHEST, LOWEST, Objective, counterfactuals
from workbench.causal.linear_scm import LinearSCM, fresh, read_scm
from workbench.measuring.questionnaire import one_scale
from workbench.settings import plain
from workbench.statistics.intervals import bootstrap_mean
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class CounterfactualSettings:
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
    theta: float = 1.0
    """Nothing is set where the observed profile is this near to the target [rating points,
    summed over the values set]."""
    replicates: Replicates = 1000
    """Bootstrap replicates, draws of edge weights, and draws of the null."""
    seed: Seed = 0
    """Seed of all of them."""


def _profiles(study: Workspace, run: str) -> pd.DataFrame:
    """Unsteered mean rating of every value in every context of a sweep [context, value]; NaN
    where nothing was parsed.
    """
    rows = study.store.sql(
        "SELECT context, value, avg(base) AS base FROM ratings WHERE run = ? AND isfinite(base)"
        " GROUP BY ALL",
        [run],
    )
    return rows.pivot(index="context", columns="value", values="base").sort_index().astype(float)


def run(study: Workspace, config: CounterfactualSettings, progress: Progress) -> Run:
    """A run of kind `counterfactual`."""
    graph_run = study.resolve("graph", config.graph)
    effects_run = study.runs.get(graph_run.inputs["effects"])
    scores = targets.target_scores(config.target, config.presets, config.preset, study.system)
    keep = [study.system.resolve(value) for value in config.values] or list(scores)
    if absent := [value for value in keep if value not in scores]:
        raise BadInput(
            f"The target says nothing about {', '.join(absent)}; it sets {', '.join(scores)}. Name"
            " some of those."
        )
    options = len(one_scale(effects_run.config["instrument"], study.system).options)
    stretch = (options - 1) / (HIGHEST - LOWEST)
    objective = Objective(
        tuple(
            (value, 1 + (scores[value] - LOWEST) * stretch)
            for value in sorted(keep, key=lambda v: -scores[v])
        )
    )
    inputs = {"graph": graph_run.id, "effects": effects_run.id, "target": repr(objective.targets)}
    plainly = plain(dataclasses.replace(config, graph=graph_run.id))
    if study.runs.exists(id := study.runs.find("counterfactual", plainly, inputs, config.seed)):
        return study.runs.get(id)
    scm, sd = read_scm(study, graph_run)
    base = _profiles(study, effects_run.id).reindex(columns=list(scm.values))
    whole = base.dropna()
    contexts, observed = list(whole.index), [row.to_numpy() for _, row in whole.iterrows()]
    if len(observed) < 2:
        raise BadInput(
            f"Counterfactuals need two contexts with every value answered, got {len(observed)}."
            " Measure more contexts."
        )
    with study.runs.begin("counterfactual", plainly, inputs, config.seed) as work:
        found = counterfactuals(scm, observed, [objective] * len(observed), config.theta)
        terms, acted = [c.exogenous for c in found], np.array([c.intervened for c in found])
        others = scm.predict(fresh(terms, config.seed), [objective] * len(terms))
        own, other = (
            np.stack([c.outcome for c in found]),
            np.where(acted[:, None], np.stack(others), np.stack(observed)),
        )
        change = own - np.stack(observed)
        interval = bootstrap_mean(change, config.replicates, config.seed)
        ranges = _ranges(scm, sd, np.stack(observed), acted, objective, config, progress)
        is_set = dict(objective.targets)
        work.table(
            "counterfactual_profiles",
            [
                {
                    "context": int(contexts[p]),
                    "value": value,
                    "observed": observed[p][j],
                    "exogenous": terms[p].u[j],
                    "counterfactual": own[p, j],
                    "interventional": other[p, j],
                    "distance": found[p].distance,
                    "intervened": found[p].intervened,
                }
                for p in range(len(found))
                for j, value in enumerate(scm.values)
            ],
            sort=("value", "context"),
        )
        work.table(
            "counterfactual_changes",
            [
                {
                    "value": value,
                    "target": is_set.get(value),
                    "observed": whole[value].mean(),
                    "change": interval.mean[j],
                    "low": interval.low[j],
                    "high": interval.high[j],
                    "graph_low": ranges[0, 0, j],
                    "graph_high": ranges[0, 1, j],
                    "null_low": ranges[1, 0, j],
                    "null_high": ranges[1, 1, j],
                    "n": int(interval.n[j]),
                }
                for j, value in enumerate(scm.values)
            ],
        )
        free = [j for j, value in enumerate(scm.values) if value not in is_set]
        gap = (own - other)[np.ix_(acted, free)]
        return work.finish(
            {
                "target": ", ".join(f"{v} {s:g}" for v, s in objective.targets),
                "contexts": len(found),
                "left_out": int(len(base) - len(found)),
                "intervened": int(acted.sum()),
                "fresh_noise_rms": float(np.sqrt((gap**2).mean())) if gap.size else None,
                "outside_scale": int(((own < 1) | (own > options)).sum()),
                "cells": own.size,
            }
        )


def _ranges(
    scm: LinearSCM,
    sd: np.ndarray,
    observed: np.ndarray,
    acted: np.ndarray,
    objective: Objective,
    config: CounterfactualSettings,
    progress: Progress,
) -> Float[np.ndarray, "kind end value"]:
    """95 % ranges of the mean change: edge weights drawn anew, and the nodes' names exchanged."""
    rng = np.random.default_rng((config.seed, 1))
    drawn = np.empty((2, config.replicates, len(scm.values)))
    for replicate in range(config.replicates):
        order = rng.permutation(len(scm.values))
        models = (scm.direct + sd * rng.standard_normal(sd.shape), scm.direct[np.ix_(order, order)])
        for kind, direct in enumerate(models):
            drawn[kind, replicate] = _mean_change(
                LinearSCM(scm.values, direct), observed, acted, objective
            )
        if not (replicate + 1) % 100:
            progress("drawing", replicate + 1, config.replicates)
    return np.quantile(drawn, (0.025, 0.975), axis=1).swapaxes(0, 1)


def _mean_change(
    scm: LinearSCM, observed: np.ndarray, acted: np.ndarray, objective: Objective
) -> np.ndarray:
    """Mean over contexts; the model is linear, so those in which it acts are predicted as one,
    their mean.
    """
    if not acted.any():
        return np.zeros(len(scm.values))
    middle = observed[acted].mean(0)
    return (scm.predict(scm.abduct([middle]), [objective])[0] - middle) * acted.mean()
