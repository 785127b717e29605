"""The causal graph among values, from a sweep's interventions; beside the planted one where there
is one.

1. The sweep's ratings are read back from the store and matched by damage again, so the graph has
   exactly its inputs.
2. `causal/graph.py` inverts the total effects and bootstraps contexts and features together.
3. On the organism the estimated graph is compared with the planted graph.
"""

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from feature_store.bounds import Replicates, Seed
from feature_store.progress import Progress
from feature_store.records import CausalGraph, Run
from feature_store.work import Work
from workbench import material, organism
from workbench.causal.graph import compare, find
from workbench.sweeps.damage import match
from workbench.sweeps.stored import read_sweep
from workbench.sweeps.units import what_is_steered
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class GraphSettings:
    """Which sweep the graph is estimated from, and how its uncertainty is resampled."""

    effects: str = "latest"
    """Run of the sweep."""
    replicates: Replicates = 1000
    """Bootstrap replicates over contexts and features, or groups."""
    leave_out: tuple[str, ...] = ()
    """Values that are left out of the graph: those that no direction tells from another."""
    seed: Seed = 0
    """Seed of the bootstrap."""


def run(study: Workspace, settings: GraphSettings, progress: Progress) -> Run:
    """Estimate the causal graph of a sweep; make a run of kind `graph`."""
    sweep_run = study.resolve("effects", settings.effects)
    inputs = {"effects": sweep_run.id, "sae": sweep_run.inputs["sae"]}
    left_out = sorted({study.system.resolve(value) for value in settings.leave_out})
    pinned = dataclasses.replace(settings, effects=sweep_run.id, leave_out=tuple(left_out))
    return study.make(
        "graph", pinned, inputs, partial(_estimate, study, pinned, sweep_run, progress)
    )


def _estimate(
    study: Workspace, settings: GraphSettings, sweep_run: Run, progress: Progress, work: Work
) -> dict[str, Any]:
    """Estimate the graph, write its edges into a run, and return its figures."""
    progress("resampling", 0, 1)
    sweep = read_sweep(study, sweep_run.id)
    matched = match(sweep, sweep_run.config["delta"])
    estimate = find(
        matched,
        sweep.values,
        settings.replicates,
        settings.seed,
        leave_out=settings.leave_out,
    )
    progress("resampling", 1, 1)
    graph = estimate.graph
    work.table("edges", graph.edges)
    steered = what_is_steered(sweep_run.config)
    summary = {
        "values": len(graph.values),
        "edges": sum(edge.present for edge in graph.edges),
        "level": graph.level,
        "contexts": graph.n,
        **({} if steered == "features" else {"steered": steered}),
        sweep_run.config.get("steer", "features"): dict(estimate.features),
        "dropped": dict(estimate.dropped),
        "left_out": list(estimate.left_out),
    }
    sae_run = study.resolve("sae", sweep_run.inputs["sae"])
    if sae_run.config["model"] == material.ORGANISM:
        summary |= _beside_the_planted_graph(graph, work)
    return summary


def _beside_the_planted_graph(graph: CausalGraph, work: Work) -> dict[str, Any]:
    """Write the edges planted in the organism, and return how the estimated graph meets them."""
    truth = organism.truth()
    comparison = compare(graph, truth.graph, truth.values)
    edges = [
        {
            "source": truth.values[i],
            "target": truth.values[j],
            "weight": float(truth.graph[i, j]),
        }
        for i, j in zip(*np.nonzero(truth.graph), strict=True)
    ]
    work.table("true_edges", edges)
    return {
        "true_edges": len(edges),
        "shd": comparison.shd,
        "pairs": comparison.pairs,
        "precision": comparison.precision,
        "recall": comparison.recall,
        "weight_correlation": comparison.correlation,
    }
