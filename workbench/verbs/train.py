"""Train an SAE on a model's residual stream and harvest its features.

1. The SAE is trained on the residuals of the texts; a share of the documents is held out, and every
   figure is of those.
2. One pass over the texts harvests every feature: statistics, histogram, top contexts, activations,
   its place on the map.

Stopped at any step, the same command goes on from its checkpoint and ends with the same bits.
"""

import dataclasses
import warnings
from typing import Annotated, Any, Literal

from feature_store.bounds import Between, CountOfTexts, TextColumn
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.work import Work
from sae_training.dictionary import memory
from sae_training.model import sites
from sae_training.training.config import TrainingSettings
from sae_training.training.engines import refuse_architecture
from sae_training.training.train import train_on_model
from workbench import material
from workbench.features.harvesting import EvaluatedSAE, checksum, harvest_into
from workbench.sweeps.survey import surveyed_layer
from workbench.workspace import Workspace

UNSURVEYED = 1
"""Layer of a model that was not surveyed [0-based]."""
FLOAT = 4
"""Size of a number [bytes]."""
COPIES = 8
"""Encoder and decoder, the two moments that Adam keeps of each, and what is exported: numbers per
feature and unit of width."""


@dataclasses.dataclass(frozen=True)
class TrainSettings(TrainingSettings):
    """How an SAE is trained, on which texts, and what is kept of its features."""

    layer: int = -1
    """0-based decoder layer; -1: the one that the latest survey of the model advises, without a
    survey 1."""
    text_column: TextColumn = ""
    """Column of a table that holds the texts, or conversations; empty: `text`, `messages`,
    `conversations`, `prompt` with `chosen`, or the only one."""
    documents: CountOfTexts = 0
    """At most this many texts, sampled [texts]; 0: all (20,000 of the organism's)."""
    top_contexts: Annotated[int, Between(1, 10_000)] = 20
    """Top contexts kept of every feature."""
    layout: Literal["pca", "umap"] = "pca"
    """How features are laid out on the map."""


def run(study: Workspace, settings: TrainSettings, progress: Progress) -> Run:
    """Make a run of kind `sae`."""
    refuse_architecture(settings)
    model = study.model(settings.model, settings.revision, settings.dtype, settings.device)
    texts, account = material.texts(
        settings.texts, settings.documents, settings.seed, settings.text_column, model
    )
    settings = dataclasses.replace(settings, layer=_layer(study, settings, model.pinned))
    sites.boundary(settings.site, model.n_layers)
    inputs = {"model": model.pinned, "texts": checksum(texts)}

    def build(work: Work) -> dict[str, Any]:
        """Train, going on from a checkpoint where there is one, and harvest the features."""
        memory.require(
            FLOAT * settings.n_features * (COPIES * model.d_model + settings.batch_tokens),
            f"Training an SAE of {settings.n_features} features of width {model.d_model}",
            "Take fewer (--n-features), or a smaller --batch-tokens.",
            model.device,
        )
        trained = train_on_model(model, texts, settings, work.state, progress)
        work.save_time()
        assert trained.evaluation is not None  # only a training on a bare stream has none
        evaluated = EvaluatedSAE(
            sae=trained.sae, site=settings.site, evaluation=trained.evaluation, rows=trained.rows
        )
        figures = harvest_into(work, model, evaluated, texts, settings, progress)
        return figures | material.reading(account)

    return study.make("sae", settings, inputs, build)


def _layer(study: Workspace, settings: TrainSettings, model: str) -> int:
    """Give the layer that is named, or else that which a survey advises, and say so."""
    if settings.layer != -1:
        return settings.layer
    advice = surveyed_layer(study, model)
    if advice is None:
        return UNSURVEYED
    layer, survey = advice
    warnings.warn(
        f"the SAE reads layer {layer}, as {survey} advises. --layer names another.", stacklevel=2
    )
    return layer
