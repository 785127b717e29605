"""Take an SAE that exists and harvest its features on texts of yours.

1. The SAE is loaded by address: a folder, `saelens:RELEASE/SAE_ID`, `hub:ORG/NAME`; it must fit the
   model.
2. The layer is the one its configuration names, unless another is given.
3. It is evaluated and harvested, and kept with the run in sae-lens' folder format.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from feature_store.bounds import Between, Count, CountOfTexts, Seed, TextColumn
from feature_store.errors import BadInput
from feature_store.progress import Progress, stage
from feature_store.records import Run, Site
from feature_store.runs import Work
from sae_training.model import sites
from workbench import material
from workbench.features.harvesting import EvaluatedSAE, checksum, harvest_into
from workbench.settings import LocalModelSettings
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.dictionary.sae import SAE
    from sae_training.engine.model import Model

EVALUATED = 500
"""Texts on which an adopted SAE is evaluated at most."""


@dataclasses.dataclass(frozen=True)
class AdoptSettings(LocalModelSettings):
    """Which SAE is taken, which model it reads, and on which texts it is harvested."""

    address: str = ""
    """Where the SAE is: a folder in sae-lens' format, saelens:RELEASE/SAE_ID, or
    hub:ORG/NAME[/PATH]."""
    model: str = material.ORGANISM
    """Folder or hub id of the model whose residual stream it reads, or `organism`."""
    layer: int = -1
    """0-based decoder layer; -1: the one that the SAE's configuration names."""
    dtype: str = "float32"
    """Number format of the model's weights."""
    texts: str = material.ORGANISM
    """Folder of .txt files, one .txt, .jsonl, .csv, .tsv or .parquet file, or `organism`."""
    text_column: TextColumn = ""
    """Column of a table that holds the texts, or conversations; empty: `text`, `messages`,
    `conversations`, `prompt` with `chosen`, or the only one."""
    documents: CountOfTexts = 0
    """At most this many texts, sampled [texts]; 0: all (20,000 of the organism's)."""
    context: Count = 128
    """Longer texts are read in pieces of this length [tokens]."""
    rows: Count = 128
    """Texts in one forward pass [texts]."""
    top_contexts: Annotated[int, Between(1, 10_000)] = 20
    """Top contexts kept of every feature."""
    layout: Literal["pca", "umap"] = "pca"
    """How features are laid out on the map."""
    seed: Seed = 0
    """Seed of the sample of texts."""


def run(study: Workspace, settings: AdoptSettings, progress: Progress) -> Run:
    """Make a run of kind `sae`."""
    from sae_training.dictionary.loaders import load_sae

    if not settings.address:
        raise BadInput(
            "Which SAE? Give its address: a folder, saelens:RELEASE/SAE_ID, or hub:ORG/NAME."
        )
    sae = load_sae(settings.address)
    site = _site(sae, settings)
    model = study.model(settings.model, settings.revision, settings.dtype, settings.device)
    texts, account = material.texts(
        settings.texts, settings.documents, settings.seed, settings.text_column, model
    )
    sae.check_fits(model)
    sites.boundary(site, model.n_layers)
    inputs = {"model": model.pinned, "texts": checksum(texts), "sae": _digest(sae)}

    def build(work: Work) -> dict[str, Any]:
        """Evaluate the SAE and harvest its features."""
        evaluated = _evaluate(model, sae.to(model.device), site, texts, settings, progress)
        figures = harvest_into(work, model, evaluated, texts, settings, progress)
        return figures | material.reading(account)

    return study.make("sae", settings, inputs, build)


def _site(sae: "SAE", settings: AdoptSettings) -> Site:
    """Say where the SAE reads: at the layer that is set, or where its configuration says."""
    if settings.layer >= 0:
        return Site(layer=settings.layer)
    site = sae.site()
    return Site(layer=site.layer, point=site.point)


def _evaluate(
    model: "Model",
    sae: "SAE",
    site: Site,
    texts: Sequence[str],
    settings: AdoptSettings,
    progress: Progress,
) -> EvaluatedSAE:
    """Evaluate the SAE on a sample of the texts.

    It may have been trained on these texts, so its figures are of a sample, not of held-out texts.
    """
    from sae_training.dictionary.evaluate import evaluate
    from sae_training.dictionary.texts import Corpus

    sample = material.sample(list(texts), EVALUATED, settings.seed)
    corpus = Corpus(sample, settings.rows, min(settings.context, model.context))
    evaluation = evaluate(model, sae, corpus, site, stage(progress, "evaluating"))
    rows = [
        {"step": 0, "metric": f"final_{name}", "value": float(value)}
        for name, value in dataclasses.asdict(evaluation).items()
    ]
    return EvaluatedSAE(sae=sae, site=site, evaluation=evaluation, rows=rows)


def _digest(sae: "SAE") -> str:
    """Give the SHA-256 of the SAE's weights, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(sae.tensors().items()):
        digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
