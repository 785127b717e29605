"""How often the analysis finds an effect or an edge between values where none is: 100 sweeps
without any, through the code that users run.

Nothing is simulated from a formula. Each run takes the demo's measured sweep at its matched doses,
keeps what every feature does to its own value (without that there is no graph to find), and makes
what it does to other values null. Three nulls:

1. *Noise*: the deviations from their mean over contexts remain, each context's with a sign by coin.
   What is left is how much contexts really differ, and no effect.
2. *Contexts*: the whole effect remains and a coin for each context and value, common to all
   features, decides its sign. Steering does much in every context and nothing on average: contexts
   that are taken for independent rows would be starred.
3. *Features*: the whole effect remains and a coin for each feature and value decides its sign. Each
   feature leaks, none by its value. An edge and a star are claims about a value, so they must not
   follow from such leaks. (It is the hardest null: as much leaks as really is caused.)

The same sweep unchanged is analysed as well: a procedure that never finds anything would pass the
rest.
"""

from dataclasses import replace

import numpy as np

from benchmarks._study import made
from feature_store.errors import BadInput
from feature_store.records import ValueSystem
from workbench.causal.effects import analyse
from workbench.causal.graph import find
from workbench.sweeps.damage import Matched, Sweep, match
from workbench.sweeps.stored import read_sweep

NAME = "false_discoveries"
RUNS, REPLICATES, DELTA = 100, 400, 1.0


def at_matched_dose(sweep: Sweep, matched: Matched) -> Sweep:
    """The sweep with one dose a unit, the matched one, at which every unit's damage is DELTA."""
    units = len(matched.unit_id)
    return replace(
        sweep,
        unit_id=matched.unit_id,
        kind=matched.kind,
        feature=matched.feature,
        source=matched.source,
        polarity=np.ones(units, int),
        dose=np.ones(units),
        ratings=sweep.base + matched.changes,
        damage=np.full((units, 1), DELTA),
    )


def null(sweep: Sweep, kind: str, rng: np.random.Generator) -> Sweep:
    """`sweep` with the effects on other values made null; controls, which have no value of their
    own, wholly so.
    """
    changes = sweep.changes()
    units, contexts, values = changes.shape
    shape = {
        "noise": (1, contexts, 1),
        "contexts": (1, contexts, values),
        "features": (units, 1, values),
    }[kind]
    signs = rng.choice((-1.0, 1.0), size=shape)
    if kind == "noise":
        turned = (
            signs * (changes - changes.mean(1, keepdims=True)) * np.sqrt(contexts / (contexts - 1))
        )
    else:
        turned = signs * changes
    own = sweep.source[:, None] == np.array(sweep.values)
    return replace(sweep, ratings=sweep.base + np.where(own[:, None], changes, turned))


def discoveries(sweep: Sweep, system: ValueSystem, seed: int) -> tuple[int, int, int, int]:
    """(starred cells, cells, edges, ordered pairs) off the diagonal; where no graph can be found
    there is no edge.
    """
    cells = [
        cell
        for cell in analyse(sweep, system, DELTA, REPLICATES, seed).side_effects
        if cell.source != cell.target
    ]
    pairs = len(sweep.values) * (len(sweep.values) - 1)
    try:
        edges = sum(
            edge.present
            for edge in find(match(sweep, DELTA), sweep.values, REPLICATES, seed).graph.edges
        )
    except BadInput:
        edges = 0
    return sum(cell.q < 0.05 for cell in cells), len(cells), edges, pairs


def main() -> dict:
    """Reach: at most 5 % of cells starred and of pairs joined by an edge, in every null.

    Runs with any are shown beside.
    """
    told = made()
    effects = told.runs["effects"]
    sweep = read_sweep(told.study, effects.id)
    real = at_matched_dose(sweep, match(sweep, effects.config["delta"]))
    system = told.study.system
    starred, cells, edges, pairs = discoveries(real, system, 0)
    print(f"as measured: {starred} of {cells} cells starred, {edges} edges of {pairs} pairs")
    figures, judged = {}, []
    for kind in ("noise", "contexts", "features"):
        runs = np.array(
            [
                discoveries(null(real, kind, np.random.default_rng((run, 17))), system, run)
                for run in range(RUNS)
            ]
        )
        share = {
            "starred": runs[:, 0].sum() / runs[:, 1].sum(),
            "edges": runs[:, 2].sum() / runs[:, 3].sum(),
        }
        any_of = {
            "starred": float((runs[:, 0] > 0).mean()),
            "edges": float((runs[:, 2] > 0).mean()),
        }
        print(
            f"{kind}: {share['starred']:.4f} of cells starred (in {any_of['starred']:.2f} of runs),"
            f" {share['edges']:.4f} of pairs joined (in {any_of['edges']:.2f} of runs)"
        )
        for what in share:
            figures |= {f"{what}_{kind}": share[what], f"runs_with_{what}_{kind}": any_of[what]}
            judged.append(share[what])
    worst = max(judged)
    return {
        "name": NAME,
        "value": worst,
        "reach": 0.05,
        "holds": bool(worst <= 0.05 and starred > 0.1 * cells and edges >= 5),
        "runs": RUNS,
        **figures,
        "starred_as_measured": starred,
        "edges_as_measured": edges,
        "cells": cells,
        "contexts": len(sweep.base),
    }
