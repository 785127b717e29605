"""Labelers against what is planted in the text: F1 of each, and how they agree.

1. The organism's SAE with the demo's defaults, and a run of labels of every labeler with its own
   defaults. The sentence encoder is the one that was fetched; where none is there, `embedding` is
   left out and said so.
2. Planted meanings as in the benchmark `labels`. Precision: accepted labels that name the feature's
   value and side. Recall: live features that one value and side explains, so labelled.
   `f1_of_value` lets the side go: labelers of contexts cannot tell it.
3. `consensus` over those runs, by Dawid and Skene, and nobody's verdict. `human` is left out: it
   repeats what people say, and here nobody does.
4. Beside them Krippendorff's alpha over all labelers, the mean over values, and the seconds each
   labeler's run took, reading of the texts included.

The weak baseline is `lexicon`, with the words of the values' definitions.
"""

from typing import Any

from benchmarks._planted import PlantedMeanings, planted_meanings
from benchmarks._study import trained
from feature_store import queries, registry
from feature_store.errors import NotFound
from feature_store.progress import silent
from feature_store.records import Run
from workbench.study import Study

NAME = "labelers"
BEHIND = 0.01
"""Most by which the consensus may stand behind the best labeler [F1]."""


def _f1(right: int, named: int, wanted: int, found: int) -> dict[str, float]:
    """Precision over what is named, recall over what is wanted, and their harmonic mean."""
    precision = right / named if named else 0.0
    recall = found / wanted if wanted else 0.0
    both = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / both if both else 0.0,
    }


def _against(planted: PlantedMeanings, study: Study, run: Run) -> dict[str, Any]:
    """Hold the accepted labels of a run against the planted meanings."""
    rows = queries.labelled_features(study.store, run.id)
    named = {row.feature: ("value", row.value, row.polarity) for row in rows.itertuples()}
    meaning = {feature: planted.meanings[planted.best[feature]] for feature in named}
    wanted = {feature: planted.meanings[planted.best[feature]] for feature in planted.wanted}

    def score(parts: int) -> dict[str, float]:
        """Compare the first parts of a meaning: kind and name, or the side as well."""
        right = sum(named[f][:parts] == meaning[f][:parts] for f in named)
        found = sum(named.get(f, ())[:parts] == wanted[f][:parts] for f in wanted)
        return _f1(right, len(named), len(wanted), found)

    topics = sum(meaning[f][0] == "topic" for f in named)
    return {
        **score(3),
        "f1_of_value": score(2)["f1"],
        "labelled": len(named),
        "topics_labelled": topics,
        "seconds": run.seconds,
    }


def main() -> dict:
    """Reach: F1 of the best labeler >= 0.95, of the consensus at most 0.01 less."""
    study, sae = trained()
    planted = planted_meanings(study, sae)
    runs: dict[str, Run] = {}
    missing: dict[str, str] = {}
    for name in registry.names("labelers"):
        if name in queries.JUDGED:
            continue
        try:
            runs[name] = study.do("label", {"labeler": name, "n_contexts": 0}, silent)
        except NotFound as error:
            missing[name] = str(error)
    agreement = queries.label_agreement(study.store, sae.id, [run.id for run in runs.values()])
    runs["consensus"] = study.do("label", {"labeler": "consensus"}, silent)
    figures = {name: _against(planted, study, run) for name, run in runs.items()}
    for name, row in figures.items():
        print(name, row, flush=True)
    single = {name: row["f1"] for name, row in figures.items() if name != "consensus"}
    best = max(single, key=single.__getitem__)
    behind = single[best] - figures["consensus"]["f1"]
    return {
        "name": NAME,
        "value": single[best],
        "reach": 0.95,
        "holds": single[best] >= 0.95 and behind <= BEHIND,
        "best": best,
        "consensus_behind": behind,
        "labelers": figures,
        "asked_for": len(planted.wanted),
        "missing": missing,
        "alpha": float(agreement.overlap.alpha.mean()),
        "jaccard": float(agreement.overlap.jaccard.mean()),
    }
