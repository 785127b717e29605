"""The graph found by intervening, against the planted one: structural Hamming distance over
ordered pairs."""

from benchmarks._study import made
from workbench import organism

NAME = "graph"


def main() -> dict:
    """Reach: SHD <= 2 of 90, and no edge found where only a leaky facet leads."""
    told = made()
    run = told.runs["graph"]
    edges = told.study.store.sql(
        "SELECT source, target, weight, q, frequency, present FROM edges WHERE run = ?", [run.id]
    )
    truth = organism.truth()
    planted = {
        (truth.values[i], truth.values[j]) for i, j in zip(*truth.graph.nonzero(), strict=True)
    }
    leaks = {(facet.value, facet.leak_to) for facet in truth.facets if facet.leak_to} - planted
    edges["planted"] = [(e.source, e.target) in planted for e in edges.itertuples()]
    print(edges[edges.present | edges.planted].round(3).to_string(index=False))
    found = {(e.source, e.target) for e in edges[edges.present].itertuples()}
    leaked = sorted(found & leaks)
    shd = run.summary["shd"]
    return {
        "name": NAME,
        "value": shd,
        "reach": 2,
        "holds": shd <= 2 and not leaked and run.summary["pairs"] == 90,
        "pairs": run.summary["pairs"],
        "edges": len(found),
        "planted": len(planted),
        "edges_by_leak": leaked,
        "level": run.summary["level"],
        "weight_correlation": run.summary["weight_correlation"],
        "features": run.summary["features"],
        "seconds": run.seconds,
    }
