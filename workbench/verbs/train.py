"""Train an SAE on a model's residual stream and harvest its features.

1. The SAE is trained on the residuals of the texts; a share of the documents is held out, and every
   figure is of those.
2. One pass over the texts harvests every feature: statistics, histogram, top contexts, activations,
   its place on the map.

Stopped at any step, the same command goes on from its checkpoint and ends with the same bits.
"""

import dataclasses
from typing import Annotated, Literal

from feature_store.bounds import Between, CountOfTexts
from feature_store.progress import Progress
from feature_store.records import Run
from sae_training.model import sites
from sae_training.training.config import TrainingSettings
from sae_training.training.train import train_on_model
from workbench import material
from workbench.features.harvesting import checksum, finish
from workbench.settings import plain
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class TrainSettings(TrainingSettings):
    documents: CountOfTexts = 0
    """At most this many texts, sampled [texts]; 0: all (20,000 of the organism's)."""
    top_contexts: Annotated[int, Between(1, 10_000)] = 20
    """Top contexts kept of every feature."""
    layout: Literal["pca", "umap"] = "pca"
    """How features are laid out on the map."""


def run(study: Workspace, config: TrainSettings, progress: Progress) -> Run:
    """A run of kind `sae`."""
    texts = material.texts(config.texts, config.documents, config.seed)
    model = study.model(config.model, config.revision, config.dtype, config.device)
    sites.boundary(config.site, model.n_layers)
    inputs = {"model": model.revision, "texts": checksum(texts)}
    plainly = plain(config)
    if study.runs.exists(id := study.runs.find("sae", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("sae", plainly, inputs, config.seed) as work:
        result = train_on_model(model, texts, config, work.state, progress)
        work.save_time()
        return finish(
            work,
            model,
            result.sae,
            texts,
            config,
            config.site,
            progress,
            result.rows,
            result.evaluation,
        )
