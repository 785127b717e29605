"""Take an SAE that exists and harvest its features on texts of yours.

1. The SAE is loaded by address: a folder, `saelens:RELEASE/SAE_ID`, `hub:ORG/NAME`; it must fit the
   model.
2. The layer is the one its configuration names, unless another is given.
3. It is evaluated and harvested, and kept with the run in sae-lens' folder format.
"""

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Annotated, Literal

from feature_store.bounds import Between, Count, CountOfTexts, Seed
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run, Site
from sae_training.model import sites
from workbench import material
from workbench.features.harvesting import checksum, finish
from workbench.settings import plain
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.dictionary.sae import SAE

EVALUATED = 500
"""Texts on which an adopted SAE is evaluated at most."""


@dataclasses.dataclass(frozen=True)
class AdoptSettings:
    address: str = ""
    """Where the SAE is: a folder in sae-lens' format, saelens:RELEASE/SAE_ID, or
    hub:ORG/NAME[/PATH]."""
    model: str = material.ORGANISM
    """Folder or hub id of the model whose residual stream it reads, or `organism`."""
    revision: str = ""
    """Revision of a hub model."""
    layer: int = -1
    """0-based decoder layer; -1: the one that the SAE's configuration names."""
    dtype: str = "float32"
    """Number format of the model's weights."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, ..."""
    texts: str = material.ORGANISM
    """Folder of .txt files, one .txt, .jsonl, .csv, .tsv or .parquet file, or `organism`."""
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


def run(study: Workspace, config: AdoptSettings, progress: Progress) -> Run:
    """A run of kind `sae`."""
    from sae_training.dictionary.evaluate import evaluate
    from sae_training.dictionary.loaders import load_sae
    from sae_training.dictionary.texts import Corpus

    if not config.address:
        raise BadInput(
            "Which SAE? Give its address: a folder, saelens:RELEASE/SAE_ID, or hub:ORG/NAME."
        )
    sae = load_sae(config.address)
    site = sae.site() if config.layer < 0 else None
    layer, point = (site.layer, site.point) if site else (config.layer, "resid_post")
    texts = material.texts(config.texts, config.documents, config.seed)
    model = study.model(config.model, config.revision, config.dtype, config.device)
    sae.check_fits(model)
    sites.boundary(Site(layer, point), model.n_layers)
    inputs = {"model": model.revision, "texts": checksum(texts), "sae": _digest(sae)}
    plainly = plain(config)
    if study.runs.exists(id := study.runs.find("sae", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("sae", plainly, inputs, config.seed) as work:
        sae, context = sae.to(model.device), min(config.context, model.context)
        # The SAE may have been trained on these texts: its figures are of a sample, not of held-out
        # texts.
        sample = material.sample(texts, EVALUATED, config.seed)
        figures = evaluate(
            model,
            sae,
            Corpus(sample, config.rows, context),
            Site(layer, point),
            lambda done, total: progress("evaluating", done, total),
        )
        rows = [
            {"step": 0, "metric": f"final_{name}", "value": float(value)}
            for name, value in dataclasses.asdict(figures).items()
        ]
        return finish(work, model, sae, texts, config, Site(layer, point), progress, rows, figures)


def _digest(sae: "SAE") -> str:
    """SHA-256 of the weights, in hexadecimal."""
    told = hashlib.sha256()
    for name, tensor in sorted(sae.tensors().items()):
        told.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return told.hexdigest()
