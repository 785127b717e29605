"""What a real chat model's values are moved by: directions of texts in two poles, and groups of SAE
features chosen by labels alone, in a study of SmolLM2.

1. `SMOLLM2_STUDY` names the folder of its study, with an SAE. Labels come from the built-in texts
   in two poles (`workbench label --labelled poles`), without any question of the questionnaire.
2. Four sweeps in mode `voice`: pole directions, topic directions, groups of features and single
   features that read the topic (too few read the pole). Of directions and groups every value is
   steered, whatever its evidence; 24 random directions stand beside.
3. Figures of each: the rank of the own value (rows and columns centred; 0.5 is chance) with an
   interval over the open questions, the same of random directions in the values' places and the
   share of them that rank as high (p), values whose own effect leaves the null band, every value's
   own effect, the off-diagonal against the circle, and the topic's part.

Reach, by pole directions: rank 0.85, six of ten values outside the null band.
"""

import os
from typing import Any

import numpy as np

from feature_store.progress import in_terminal
from workbench.causal.effects import own_rank
from workbench.statistics.intervals import known_mean
from workbench.study import Study
from workbench.sweeps.damage import Matched, match
from workbench.sweeps.stored import read_sweep

NAME = "poles"
DRAWS = 2_000
ASKED: dict[str, Any] = {
    "mode": "voice",
    "random_features": 0,
    "random_directions": 24,
    "doses": (0.1, 0.2),
}
SWEEPS: dict[str, dict[str, Any]] = {
    "pole directions": {"steer": "directions", "part": "pole", "unproven": True},
    "topic directions": {"steer": "directions", "part": "topic", "unproven": True},
    "groups of topics": {"steer": "groups", "part": "topic", "unproven": True},
    "features of topics": {"steer": "features", "part": "topic"},
}


def main() -> dict:
    """Reach: pole directions rank their value at 0.85, and six values leave the null band."""
    folder = os.environ.get("SMOLLM2_STUDY", "")
    if not folder:
        raise SystemExit("Name a study of SmolLM2 with an SAE in SMOLLM2_STUDY.")
    study = Study(folder, create=False)
    figures: dict[str, Any] = {}
    with in_terminal("poles") as progress:
        labels = study.label(labelled="poles", mode="voice", n_contexts=0, progress=progress)
        for name, settings in SWEEPS.items():
            run = study.effects(labels=labels.id, **ASKED, **settings, progress=progress)
            figures[name] = _figures(study, run.id)
            print(name, figures[name], flush=True)
    pole = figures["pole directions"]
    return {
        "name": NAME,
        "value": pole["rank"],
        "reach": 0.85,
        "holds": pole["rank"] >= 0.85 and pole["outside_null"] >= 6,
        "labels": labels.summary,
        "sweeps": figures,
    }


def _figures(study: Study, run: str) -> dict[str, Any]:
    """What one sweep says of the values that it steered."""
    summary = study.runs.get(run).summary
    sweep = read_sweep(study, run)
    matched = match(sweep, summary["delta"])
    sources = [value for value in sweep.values if len(matched.of(value))]
    cells = study.store.sql("SELECT * FROM side_effects WHERE run = ? AND source = target", [run])
    outside = cells[(cells.effect > cells.null_high) & (cells.low > 0)]
    ranked = _rank(matched, sources, sweep.values)
    own = cells.set_index("source")[["effect", "low", "high", "null_low", "null_high"]]
    return {
        "values": len(sources),
        **ranked,
        "own_effects": own.T.to_dict("list"),
        "outside_null": len(outside),
        "values_outside_null": sorted(outside.source),
        "own_held": summary["own_held"],
        "own_topic": summary["own_topic"],
        "topic_rank": summary["own_topic_rank"],
        "circle": summary["circle_spearman"],
        "circle_p": summary["circle_p"],
        "damage": float(matched.damage[~matched.is_control].mean()),
        "strength": float(np.median(matched.strength[~matched.is_control])),
        "reached": int(matched.reached[~matched.is_control].sum()),
        "contexts": summary["contexts"],
    }


def _rank(matched: Matched, sources: list[str], values: tuple[str, ...]) -> dict[str, float]:
    """The rank of the own value, and how often random directions in its place rank as high."""
    diagonal = np.array([values.index(source) for source in sources])
    rng = np.random.default_rng(0)

    def ranked(rows: np.ndarray) -> float:
        """The rank in some of the open questions."""
        means = known_mean(matched.changes[:, rows], 1)
        return own_rank(
            np.stack([means[matched.of(source)].mean(0) for source in sources]), diagonal
        )

    questions = matched.changes.shape[1]
    rank = ranked(np.arange(questions))
    again = [ranked(rng.integers(0, questions, questions)) for _ in range(DRAWS)]
    low, high = np.quantile(again, [0.025, 0.975])
    means = known_mean(matched.changes, 1)
    controls = np.flatnonzero(matched.is_control)
    drawn = []
    for _ in range(DRAWS):
        rows = means[rng.choice(controls, len(sources), replace=False)]
        signs = rng.choice((-1.0, 1.0), size=(len(sources), 1))
        drawn.append(own_rank(rows * signs, diagonal))
    p = float((1 + (np.array(drawn) >= rank).sum()) / (1 + DRAWS))
    return {"rank": rank, "rank_low": float(low), "rank_high": float(high), "p": p}
