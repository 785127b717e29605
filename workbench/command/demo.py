"""The whole story on the shipped model: train, label, measure, effects, graph, and what the planted
truth says.

1. Five verbs with their defaults, each of them resumable; a demo that was stopped goes on where it
   was.
2. The picture of the result is drawn beside the study.
3. What was found is laid beside what was planted, in a few lines.
"""

from typing import Any, NamedTuple

import numpy as np

from feature_store.progress import Progress, part
from feature_store.records import Run
from workbench.study import Study

FAST: dict[str, dict[str, Any]] = {
    "train": {"documents": 3_000, "tokens": 600_000},
    "label": {"limit": 3_000, "n_contexts": 3},
    "measure": {"n_contexts": 8},
    "effects": {
        "n_contexts": 8,
        "features_per_value": 2,
        "doses": (0.5, 1.0),
        "random_features": 4,
        "random_directions": 4,
    },
    "graph": {"replicates": 100},
}
"""A tenth of the work, for tests and a first look; too little data for a graph to be trusted."""


class Outcome(NamedTuple):
    """What the demo made, and what a person reads of it."""

    runs: dict[str, Run]
    """Verb -> its run."""
    lines: list[str]
    """What a person reads at the end."""

    def __str__(self) -> str:
        """Join the lines, as the terminal shows them."""
        return "\n".join(self.lines)


def demo(study: Study, fast: bool, progress: Progress) -> Outcome:
    """Run the verbs on the organism and compare with its planted truth."""
    runs = {}
    for verb in ("train", "label", "measure", "effects", "graph"):
        settings = {"model": "organism"} if verb == "train" else {}
        if fast:
            settings |= FAST[verb]
        runs[verb] = study.do(verb, settings, part(progress, verb))
    return Outcome(runs, _lines(study, runs))


def _lines(study: Study, runs: dict[str, Run]) -> list[str]:
    from workbench.figures import result_picture

    picture = result_picture(study, study.folder / "result.png")
    trained, labelled, graph = (runs[verb].summary for verb in ("train", "label", "graph"))
    return [
        f"SAE: {trained['n_features']} features, FVU {trained['fvu']:.4f}, L0 {trained['l0']:.1f}",
        (
            f"Labels: {labelled['features_labelled']} features carry {labelled['values_labelled']}"
            f" values, median held-out score {labelled['median_held_out_score']:.2f}"
        ),
        (
            "Side effects: correlation with the planted ones, off the diagonal,"
            f" {matrix_agreement(study, runs['effects']):.3f}"
        ),
        (
            f"Graph: {graph['edges']} edges found, {graph['true_edges']} planted, SHD"
            f" {graph['shd']} of {graph['pairs']} ordered pairs"
        ),
        f"Picture: {picture}",
    ]


def matrix_agreement(study: Study, run: Run) -> float:
    """Correlation of measured and planted effects over the off-diagonal cells that were measured
    [-1 to 1].
    """
    from workbench import organism

    truth = organism.truth()
    place = {value: number for number, value in enumerate(truth.values)}
    cells = study.store.sql(
        "SELECT source, target, effect FROM side_effects WHERE run = ? AND source <> target",
        [run.id],
    )
    planted = truth.effects[cells.source.map(place), cells.target.map(place)]
    return float(np.corrcoef(cells.effect, planted)[0, 1])
