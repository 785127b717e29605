"""Label the SAE's features by values, with evidence.

1. The value-labelled texts pass through the model and the SAE once; each feature keeps its largest activation a text.
2. The labeler compares texts with and without each value and writes one row a feature and value that competes:
   effect size with interval, p after multiplicity control, score on held-out texts, accepted or not.

The questionnaire's items never serve as labelled texts: labels and measurements stay independent.
"""

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from feature_store import registry
from feature_store.records import Run
from workbench import material
from workbench.config import options, plain
from workbench.labelers import LabelledActivations
from workbench.progress import Progress

if TYPE_CHECKING:
    from workbench.study import Study


@dataclasses.dataclass(frozen=True)
class Config:
    sae: str = "latest"
    """Run of the SAE."""
    labelled: str = material.ORGANISM
    """Value-labelled table (.csv, .tsv, .jsonl, .parquet), or `organism`."""
    labels: str = ""
    """Second table with the marks, joined by the columns that both have."""
    text: str = "text"
    """Column with the text."""
    context: str = ""
    """Column within which texts are compared, such as a topic; without it a topic that goes with a value is mistaken for it."""
    ignore: tuple[str, ...] = ()
    """Columns of marks that are no value of this system."""
    limit: int = 0
    """At most this many texts, sampled [texts]; 0: all (12,000 of the organism's)."""
    labeler: str = "contrast"
    """Plug-in that decides."""
    options: tuple[str, ...] = ()
    """The plug-in's own settings, as key=value."""
    max_tokens: int = 256
    """Longer texts are read in pieces of this length [tokens]."""
    rows: int = 128
    """Texts in one forward pass [texts]."""
    seed: int = 0
    """Seed of the sample and of the held-out split."""


def run(study: "Study", config: Config, progress: Progress) -> Run:
    """A run of kind `labels`."""
    from sae_training.harvest import pooled_activations

    sae_run = study.resolve("sae", config.sae)
    labeler = registry.get("labelers", config.labeler)
    settings = options(labeler.config, config.options)
    data = material.labelled(
        config.labelled,
        config.labels,
        config.text,
        config.context,
        config.ignore,
        study.system,
        config.limit,
        config.seed,
    )
    told = hashlib.sha256(repr((data.texts, data.values.tolist(), data.contexts.tolist())).encode()).hexdigest()
    inputs = {"sae": sae_run.id, "labelled": told}
    plainly = plain(dataclasses.replace(config, sae=sae_run.id))
    if study.runs.exists(id := study.runs.find("labels", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("labels", plainly, inputs, config.seed) as work:
        model, sae = study.model_of(sae_run), study.sae(sae_run)
        context = min(config.max_tokens, model.context)
        pooled = pooled_activations(
            model, sae, data.texts, sae_run.summary["layer"], sae_run.summary["point"], config.rows, context,
            lambda done, total: progress("reading labelled texts", done, total),
        )  # fmt: skip
        progress("labelling", 0, 1)
        labels = labeler.label(LabelledActivations(pooled, data.values, data.contexts), study.system, settings)
        progress("labelling", 1, 1)
        accepted = [label for label in labels if label.accepted]
        work.table("labels", labels, sort=("feature", "value"))
        return work.finish({
            "texts": len(data.texts), "features_labelled": len({label.feature for label in accepted}),
            "values_labelled": len({label.value for label in accepted}),
            "median_held_out_score": float(np.median([label.score for label in accepted])) if accepted else float("nan"),
        })  # fmt: skip
