"""Take an SAE that exists and harvest its features on texts of yours.

1. The SAE is loaded by address: a folder, `saelens:RELEASE/SAE_ID`, `hub:ORG/NAME`,
   `sparsify:PLACE`, `dictionary-learning:PLACE`; it must fit the model. `workbench saes` lists what
   sae-lens' registry has.
2. Its configuration says where it reads; a layer is given only where it does not. It also says how
   its makers read the model (a BOS token, centred weights, tokens left out): that is followed here
   and by every verb that reads the run, or refused.
3. It is evaluated and harvested, and kept with the run in sae-lens' folder format.
4. FVU and L0 on these texts are compared with what its makers state: a warning says where it does
   not seem to get the activations that it was made for.
"""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from feature_store.bounds import Between, Count, CountOfTexts, Seed, TextColumn
from feature_store.errors import BadInput, Incompatible
from feature_store.files import shown
from feature_store.progress import Progress, stage
from feature_store.records import Run, Site
from feature_store.work import Work
from sae_training.model import sites
from workbench import material
from workbench.features.corpora import open_corpus, source_of
from workbench.features.harvesting import EvaluatedSAE, checksum, context_of, harvest_into
from workbench.settings import LocalModelSettings
from workbench.sweeps.survey import surveyed_layer
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.dictionary.sae import SAE
    from sae_training.engine.model import Model

EVALUATED = 500
"""Texts on which an adopted SAE is evaluated at most."""
VERSIONS = ("sae_lens_version", "sae_lens_training_version")
"""Metadata that say which version wrote or read the SAE, and decide nothing."""


@dataclasses.dataclass(frozen=True)
class AdoptSettings(LocalModelSettings):
    """Which SAE is taken, which model it reads, and on which texts it is harvested."""

    address: str = ""
    """Where the SAE is: a folder in sae-lens' format, saelens:RELEASE/SAE_ID, hub:ORG/NAME[/PATH],
    or sparsify:PLACE and dictionary-learning:PLACE, where PLACE is a folder or
    hub:ORG/NAME/PATH."""
    model: str = material.ORGANISM
    """Folder or hub id of the model whose residual stream it reads, or `organism`."""
    layer: int = -1
    """0-based decoder layer, for an SAE whose configuration names no place; -1: the one that it
    names."""
    dtype: str = "float32"
    """Number format of the model's weights."""
    texts: str = ""
    """Corpus: a folder of .txt files, a .txt, .jsonl, .csv, .tsv or .parquet file; `self`: what the
    model writes when it is asked; `hub:ORG/NAME[/CONFIGURATION][:SPLIT][#COLUMN]`: rows of a
    dataset of the hub; `organism`: what its generator writes. Empty: `organism` for it, else
    `self`."""
    text_column: TextColumn = ""
    """Column of a table that holds the texts, or conversations; empty: `text`, `messages`,
    `conversations`, `prompt` with `chosen`, or the only one."""
    documents: CountOfTexts = 0
    """At most this many texts, sampled [texts]; 0: all (20,000 of the organism's, 800 that a model
    writes itself, the first 20,000 rows of the hub)."""
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
    from sae_training.dictionary.harvest import TokenSource
    from sae_training.dictionary.loaders import load_sae
    from sae_training.dictionary.stream import read
    from sae_training.dictionary.texts import Corpus

    if not settings.address:
        raise BadInput(
            "Which SAE? Give its address: a folder, saelens:RELEASE/SAE_ID, hub:ORG/NAME,"
            " sparsify:PLACE or dictionary-learning:PLACE. `workbench saes` lists sae-lens' ones."
        )
    sae = load_sae(settings.address)
    model = study.model(settings.model, settings.revision, settings.dtype, settings.device)
    sae.check_fits(model)
    site = _site(sae, settings)
    sites.boundary(site, model.n_layers)
    settings = dataclasses.replace(settings, texts=source_of(settings.texts, settings.model))
    texts, account, *_ = open_corpus(study, model, settings, (), progress)
    _check_revision(sae, model, settings)
    _warn_of_context(sae, settings)
    _warn_of_layer(study, site, model)
    model = study.beginning(model, sae.reading.prepend_bos)
    inputs = {"model": model.pinned, "texts": checksum(texts), "sae": _digest(sae)}

    def build(work: Work) -> dict[str, Any]:
        """Evaluate the SAE and harvest its features."""
        evaluated = _evaluate(model, sae.to(model.device), site, texts, settings, progress)
        corpus = Corpus(texts, settings.rows, context_of(model, sae, settings))
        source = TokenSource(read(model, corpus, site, sae.reading), len(texts))
        figures = harvest_into(work, model, evaluated, source, settings, progress)
        return figures | _compared(sae, evaluated) | material.reading(account)

    return study.make("sae", settings, inputs, build)


def _site(sae: "SAE", settings: AdoptSettings) -> Site:
    """Say where the SAE reads: where its configuration says, or at the layer that is set.

    Raises BadInput where the two contradict each other.
    """
    if settings.layer >= 0 and not sae.hook:
        return Site(layer=settings.layer)
    site = sae.site()
    if settings.layer not in (-1, site.layer):
        raise BadInput(
            f"The SAE's cfg.json says that it reads {shown(sae.hook)}, got"
            f" --layer {settings.layer}. Leave --layer out; an SAE of another layer has an address"
            " of its own."
        )
    return Site(layer=site.layer, point=site.point)


def _check_revision(sae: "SAE", model: "Model", settings: AdoptSettings) -> None:
    """Hold the model's revision against the one that the SAE was made on, where that is said.

    Raises Incompatible where another commit is asked for. A folder has no commit to compare, and a
    folder's checksum changes with its tokenizer too: both are warned of.
    """
    wanted = sae.reading.revision
    if wanted and wanted != settings.revision and not Path(settings.model).is_dir():
        raise Incompatible(
            f"The SAE was made on revision {shown(wanted)} of its model, got"
            f" {settings.revision or 'none'}. Give it as --revision."
        )
    stated = wanted or sae.metadata.get("model_revision")
    if stated and stated not in (settings.revision, model.revision):
        warnings.warn(
            f"the SAE was made on revision {shown(stated)} of its model, {settings.model} is at"
            f" {model.revision[:12]}. FVU and L0 tell whether that matters.",
            stacklevel=2,
        )


def _warn_of_layer(study: Workspace, site: Site, model: "Model") -> None:
    """Say where the SAE reads another layer than a survey of its model advises."""
    advice = surveyed_layer(study, model.pinned)
    if advice and advice[0] != site.layer:
        layer, survey = advice
        warnings.warn(
            f"the SAE reads layer {site.layer}, {survey} advises layer {layer}: values may be read"
            " or written less well here.",
            stacklevel=2,
        )


def _warn_of_context(sae: "SAE", settings: AdoptSettings) -> None:
    """Say where texts are read in shorter pieces than is set, because the SAE knows no longer."""
    if sae.reading.context_size < settings.context:
        warnings.warn(
            f"the SAE was made on pieces of {sae.reading.context_size} tokens, so texts are read in"
            f" such pieces, not in those of {settings.context} (--context).",
            stacklevel=2,
        )


def _compared(sae: "SAE", evaluated: EvaluatedSAE) -> dict[str, Any]:
    """Give what the makers state beside what was measured, and warn where they are far apart."""
    from sae_training.dictionary.claims import doubts

    measured = evaluated.evaluation
    doubt = doubts(sae.claims, measured.l0, measured.fvu)
    if doubt:
        warnings.warn(doubt, stacklevel=2)
    figures = {
        "l0_stated": sae.claims.l0,
        "fvu_stated": sae.claims.fvu,
        "prepend_bos": sae.reading.prepend_bos,
        "activations_of": str(sae.reading),
        "warning": doubt,
    }
    return {name: value for name, value in figures.items() if value not in (None, "")}


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
    corpus = Corpus(sample, settings.rows, context_of(model, sae, settings))
    evaluation = evaluate(model, sae, corpus, site, stage(progress, "evaluating"))
    rows = [
        {"step": 0, "metric": f"final_{name}", "value": float(value)}
        for name, value in dataclasses.asdict(evaluation).items()
        if value is not None
    ]
    return EvaluatedSAE(sae=sae, site=site, evaluation=evaluation, rows=rows)


def _digest(sae: "SAE") -> str:
    """Give the SHA-256 of all that decides the SAE's features and what is said of them."""
    metadata = {name: value for name, value in sae.metadata.items() if name not in VERSIONS}
    kind = [
        *(sae.architecture, sae.k, sae.apply_b_dec_to_input, sae.normalize_activations),
        *(metadata, dataclasses.asdict(sae.claims)),
    ]
    digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode())
    for name, tensor in sorted(sae.tensors().items()):
        digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
