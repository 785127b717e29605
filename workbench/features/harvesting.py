"""What `train` and `adopt` share: an SAE becomes a run with figures, features, contexts and
activations.

1. `checksum` names texts by content: the same texts are the same input wherever they lie.
2. `harvest_into` harvests in one pass over the tokens of the texts, writes the SAE in sae-lens'
   folder format with the measured density, and writes the tables sorted for their queries.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch

from feature_store.progress import Progress, stage
from feature_store.records import Site
from feature_store.work import Work
from sae_training.dictionary.harvest import HarvestSettings, TokenSource, harvest_tokens
from sae_training.dictionary.loaders import save_sae

if TYPE_CHECKING:
    from sae_training.dictionary.evaluate import Evaluation
    from sae_training.dictionary.sae import SAE
    from sae_training.engine.model import Model


SHOWN = ("fvu", "l0", "dead_share", "loss_recovered", "kl_recovered")
"""Held-out figures in the run's summary; all of them are in the relation `training`."""


@runtime_checkable
class CorpusSettings(Protocol):
    """What the settings of `train` and `adopt` say about the harvest."""

    @property
    def model(self) -> str:
        """Folder or hub id of the model, or `organism`."""

    @property
    def rows(self) -> int:
        """Texts in one forward pass."""

    @property
    def context(self) -> int:
        """Longer texts are read in pieces of this length [tokens]."""

    @property
    def top_contexts(self) -> int:
        """Contexts kept of every feature."""

    @property
    def layout(self) -> str:
        """How features are laid out on the map: `pca` or `umap`."""

    @property
    def seed(self) -> int:
        """Seed of the layout, of the samples, and of which tokens' activations are kept."""


@dataclass(frozen=True, kw_only=True)
class EvaluatedSAE:
    """An SAE whose figures are known."""

    sae: "SAE"
    """Its weights."""
    site: Site
    """Where it reads the model."""
    evaluation: "Evaluation"
    """Figures on texts that are held out, or a sample."""
    rows: Sequence[Mapping[str, Any]]
    """Rows of the relation `training`: its curves and all figures."""


def checksum(texts: Sequence[str]) -> str:
    """Give the SHA-256 of the texts in their order, in hexadecimal."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def context_of(model: "Model", sae: "SAE", settings: CorpusSettings) -> int:
    """Say in pieces of which length texts are read: no longer than model and SAE have seen."""
    return min(settings.context, model.context, sae.reading.context_size)


def harvest_into(
    work: Work,
    model: "Model",
    evaluated: EvaluatedSAE,
    source: TokenSource,
    settings: CorpusSettings,
    progress: Progress,
) -> dict[str, Any]:
    """Harvest an SAE's features on tokens, write its run, and return the run's figures."""
    sae, site = evaluated.sae, evaluated.site
    harvested = harvest_tokens(
        model,
        sae,
        source,
        HarvestSettings(
            top_contexts=settings.top_contexts,
            layout=settings.layout,
            seed=settings.seed,
            scratch=work.state,
        ),
        stage(progress, "harvesting"),
    )
    density = harvested.features["density"].to_numpy()
    save_sae(sae, work.folder / "sae", torch.from_numpy(density.astype(np.float32)))
    work.table("features", harvested.features, sort=("feature",))
    work.table("contexts", harvested.contexts)
    work.table("samples", harvested.samples)
    work.stream("activations", harvested.activations.pieces())
    work.table("histograms", harvested.histograms)
    work.table("training", list(evaluated.rows))
    return {
        "model": settings.model,
        "layer": site.layer,
        "point": site.point,
        "d_model": sae.d_model,
        "n_features": sae.n_features,
        "architecture": sae.architecture,
        **{name: float(getattr(evaluated.evaluation, name)) for name in SHOWN},
        **({} if (usual := evaluated.evaluation.fvu_usual) is None else {"fvu_usual": usual}),
        "live": int((density > 0).sum()),
        "median_norm": harvested.norm_median,
        "tokens": harvested.tokens,
        "documents": harvested.documents,
        "activations_kept": harvested.share,
    }
