"""The causal graph among values, from a sweep's interventions; beside the planted one where there
is one.

1. The sweep's ratings are read back from the store and matched by damage again, so the graph has
   exactly its inputs.
2. `causal/graph.py` inverts the total effects and bootstraps contexts and features together.
3. On the organism the found graph is compared with the planted graph.
"""

import dataclasses

import numpy as np

from feature_store.bounds import Replicates, Seed
from feature_store.progress import Progress
from feature_store.records import Run
from workbench import material, organism
from workbench.causal.graph import compare, find
from workbench.settings import plain
from workbench.sweeps.damage import match
from workbench.verbs.effects import read_sweep
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class GraphSettings:
    effects: str = "latest"
    """Run of the sweep."""
    replicates: Replicates = 1000
    """Bootstrap replicates over contexts and features."""
    seed: Seed = 0
    """Seed of the bootstrap."""


def run(study: Workspace, config: GraphSettings, progress: Progress) -> Run:
    """A run of kind `graph`."""
    effects_run = study.resolve("effects", config.effects)
    sae_run = study.runs.get(effects_run.inputs["sae"])
    inputs = {"effects": effects_run.id, "sae": sae_run.id}
    plainly = plain(dataclasses.replace(config, effects=effects_run.id))
    if study.runs.exists(id := study.runs.find("graph", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("graph", plainly, inputs, config.seed) as work:
        progress("resampling", 0, 1)
        sweep = read_sweep(study, effects_run.id)
        found = find(
            match(sweep, effects_run.config["delta"]), sweep.values, config.replicates, config.seed
        )
        progress("resampling", 1, 1)
        present = [edge for edge in found.graph.edges if edge.present]
        work.table("edges", found.graph.edges)
        summary = {
            "values": len(found.graph.values),
            "edges": len(present),
            "level": found.graph.level,
            "contexts": found.graph.n,
            "features": dict(found.features),
            "dropped": dict(found.dropped),
            "left_out": list(found.left_out),
        }
        if sae_run.config["model"] == material.ORGANISM:
            truth = organism.truth()
            told = compare(found.graph, truth.graph, truth.values)
            pairs = [(i, j) for i, j in zip(*np.nonzero(truth.graph), strict=True)]
            edges = [
                {
                    "source": truth.values[i],
                    "target": truth.values[j],
                    "weight": float(truth.graph[i, j]),
                }
                for i, j in pairs
            ]
            work.table("true_edges", edges)
            summary |= {
                "true_edges": len(edges),
                "shd": told.shd,
                "pairs": told.pairs,
                "precision": told.precision,
                "recall": told.recall,
                "weight_correlation": told.correlation,
            }
        return work.finish(summary)
