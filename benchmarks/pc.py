"""The interventional graph against PC's on the same study, both against the planted one: ordered
pairs that differ.

1. PC runs as Kang et al. (2025) do, over pooled rows: each context unsteered and under each feature
   at its damage-matched dose.
2. Variants: the unsteered rows alone, the changes alone, three levels of the test; edges that PC
   cannot orient count in both directions, as published, or not at all. The interventional graph is
   compared with the best of them, which nobody could have picked beforehand.
"""

import numpy as np
import pandas as pd

from benchmarks._study import made
from feature_store.errors import BadInput
from workbench import organism
from workbench.sweeps.damage import match
from workbench.sweeps.stored import read_sweep
from workbench.systems.kang.pc import bootstrap, discover

NAME = "pc"
LEVELS = (0.05, 0.01, 0.001)


def main() -> dict:
    """Reach: at most a fifth of the differing pairs of PC's best variant."""
    told, truth = made(), organism.truth()
    run, effects = told.runs["graph"], told.runs["effects"]
    sweep = read_sweep(told.study, effects.id)
    places = [truth.values.index(value) for value in sweep.values]
    planted = truth.graph[np.ix_(places, places)] != 0
    matched = match(sweep, effects.config["delta"])
    own = matched.kind == "feature"
    changes = (matched.changes * matched.polarity[:, None, None])[own]
    steered = (sweep.base + changes).reshape(-1, len(sweep.values))
    contexts = np.tile(np.arange(len(sweep.base)), len(changes) + 1)
    pooled = np.concatenate([sweep.base, steered])
    data = {
        "pooled": pooled,
        "unsteered": sweep.base,
        "changes": changes.reshape(-1, len(sweep.values)),
    }
    rows = []
    for name, x in data.items():
        for level in LEVELS:
            try:
                found = discover(x, level)
            except BadInput as error:
                print(f"{name} at {level}: {error}")
                continue
            for ends, edges in (("both", found.edges), ("oriented", found.oriented)):
                rows.append(
                    {
                        "rows": name,
                        "n": found.rows,
                        "alpha": level,
                        "unoriented": ends,
                        "edges": int(edges.sum()),
                        "right": int((edges & planted).sum()),
                        "shd": int((edges != planted).sum()),
                    }
                )
    table = pd.DataFrame(rows)
    often = bootstrap(pooled, contexts, 10, 0)
    print(table.to_string(index=False))
    print(
        "as published, contexts resampled: edges come back in"
        f" {often.edges[discover(pooled).edges].mean():.2f} of 10 replicates"
    )
    published = int(
        table[
            (table["rows"] == "pooled") & (table.alpha == 0.05) & (table.unoriented == "both")
        ].shd.iloc[0]
    )
    best, shd = int(table.shd.min()), run.summary["shd"]
    return {
        "name": NAME,
        "value": shd / best if best else float("inf"),
        "reach": 0.2,
        "holds": shd <= best / 5 and best > 0 and run.summary["pairs"] == 90,
        "shd": shd,
        "shd_pc_best": best,
        "shd_pc_as_published": published,
        "shd_no_edges": int(planted.sum()),
        "pairs": run.summary["pairs"],
        "planted": int(planted.sum()),
        "rows": len(pooled),
        "contexts": len(sweep.base),
        "variants": len(table),
    }
