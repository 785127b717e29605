"""What `train` and `adopt` share: an SAE becomes a run with figures, features, contexts and
activations.

1. `checksum` names texts by content: the same texts are the same input wherever they lie.
2. `finish` harvests in one pass over the texts, writes the SAE in sae-lens' folder format with the
   measured density, writes the tables sorted for their queries, and closes the run.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch

from feature_store.progress import Progress
from feature_store.records import Run, Site
from feature_store.runs import Work
from sae_training.dictionary.harvest import HarvestSettings, harvest
from sae_training.dictionary.loaders import save_sae
from sae_training.dictionary.texts import Corpus

if TYPE_CHECKING:
    from sae_training.dictionary.evaluate import Evaluation
    from sae_training.dictionary.sae import SAE
    from sae_training.engine.model import Model


SHOWN = ("fvu", "l0", "dead_share", "loss_recovered", "kl_recovered")
"""Held-out figures in the run's summary; all of them are in the relation `training`."""


@runtime_checkable
class CorpusSettings(Protocol):
    """What the settings of `train` and `adopt` say about the harvest."""

    model: str
    rows: int
    context: int
    top_contexts: int
    layout: str
    seed: int


def checksum(texts: Sequence[str]) -> str:
    """SHA-256 of the texts in their order, in hexadecimal."""
    told = hashlib.sha256()
    for text in texts:
        told.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return told.hexdigest()


def finish(
    work: Work,
    model: "Model",
    sae: "SAE",
    texts: Sequence[str],
    settings: CorpusSettings,
    site: Site,
    progress: Progress,
    training: Sequence[Mapping[str, Any]],
    figures: "Evaluation",
) -> Run:
    """Harvest the features and close the run."""
    found = harvest(
        model,
        sae,
        Corpus(texts, settings.rows, min(settings.context, model.context)),
        site,
        HarvestSettings(settings.top_contexts, settings.layout, settings.seed),
        lambda done, total: progress("harvesting", done, total),
    )
    density = found.features["density"].to_numpy()
    save_sae(sae, work.folder / "sae", torch.from_numpy(density.astype(np.float32)))
    work.table("features", found.features, sort=("feature",))
    work.table("contexts", found.contexts)
    work.table("activations", found.activations)
    work.table("histograms", found.histograms)
    work.table("training", list(training))
    return work.finish(
        {
            "model": settings.model,
            "layer": site.layer,
            "point": site.point,
            "d_model": sae.d_model,
            "n_features": sae.n_features,
            "architecture": sae.architecture,
            **{name: float(getattr(figures, name)) for name in SHOWN},
            "live": int((density > 0).sum()),
            "median_norm": found.norm_median,
            "tokens": found.tokens,
            "documents": found.documents,
            "activations_kept": found.share,
        }
    )
