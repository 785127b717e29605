"""Train an SAE on a model's residual stream and harvest its features.

1. The model reads the texts once; the residuals of every layer that is named are kept on disk while
   they are needed (`residual_files.py`). Texts that the model writes itself are read while they are
   written (`features/corpora.py`).
2. An SAE is trained on each layer's residuals; a share of the documents is held out, and every
   figure is of those.
3. One pass over the residuals harvests every feature: statistics, histogram, top contexts,
   activations, its place on the map.
4. Each layer makes a run of its own, with the id that it would have if it were trained alone.
5. In a number format other than float32 a sample is read in both, and the difference is a part of
   the run's figures.

Stopped at any step, the same command goes on where it was and ends with the same bits.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch

from feature_store.bounds import Between, CountOfTexts, TextColumn
from feature_store.files import listed
from feature_store.progress import Progress, stage
from feature_store.records import Run
from feature_store.work import Work
from sae_training.dictionary import memory
from sae_training.dictionary.harvest import TokenSource
from sae_training.dictionary.number_format import format_cost
from sae_training.dictionary.texts import Corpus
from sae_training.model import sites
from sae_training.training.config import DictionarySettings, TrainingSettings
from sae_training.training.engines import refuse_architecture
from sae_training.training.residual_files import file_of, read_residuals
from sae_training.training.train import train_on_model
from workbench import material
from workbench.features.corpora import RESIDUALS, StudyCorpus, open_corpus, source_of
from workbench.features.harvesting import EvaluatedSAE, checksum, harvest_into
from workbench.settings import plain
from workbench.sweeps.survey import surveyed_layer
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model

UNSURVEYED = 1
"""Layer of a model that was not surveyed [0-based]."""
FLOAT = 4
"""Size of a number [bytes]."""
FORMAT_ROWS = 16
"""Texts read together where number formats are compared."""
COPIES = 8
"""Encoder and decoder, the two moments that Adam keeps of each, and what is exported: numbers per
feature and unit of width."""


@dataclasses.dataclass(frozen=True)
class TrainSettings(DictionarySettings):
    """How SAEs are trained, on which texts, and what is kept of their features."""

    layer: tuple[int, ...] = ()
    """0-based decoder layers, each of which gets an SAE of its own; the texts are read once for all
    of them. Empty: the layer that the latest survey of the model advises, without a survey 1."""
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
    top_contexts: Annotated[int, Between(1, 10_000)] = 20
    """Top contexts kept of every feature."""
    layout: Literal["pca", "umap"] = "pca"
    """How features are laid out on the map."""

    def at(self, layer: int) -> TrainingSettings:
        """Give what decides the training at one layer."""
        shared = {field.name for field in dataclasses.fields(TrainingSettings)} - {"layer"}
        return TrainingSettings(layer=layer, **{name: getattr(self, name) for name in shared})


def run(study: Workspace, settings: TrainSettings, progress: Progress) -> Run:
    """Make a run of kind `sae` for each layer, and give the last one."""
    refuse_architecture(settings)
    model = study.model(settings.model, settings.revision, settings.dtype, settings.device)
    layers = list(dict.fromkeys(settings.layer)) or [_advised_layer(study, model.pinned)]
    where = [settings.site_of(layer) for layer in layers]
    for site in where:
        sites.boundary(site, model.n_layers)
    settings = dataclasses.replace(settings, texts=source_of(settings.texts, settings.model))
    kept = where if settings.cache else ()
    corpus = open_corpus(study, model, settings, kept, progress)
    training = _Training(study, settings, model, corpus, progress)
    runs = [training.make(layer, layers) for layer in layers]
    training.forget()
    if len(runs) > 1:
        made = listed([f"{run.id} (layer {run.summary['layer']})" for run in runs])
        warnings.warn(f"{len(runs)} SAEs: {made}. --sae names one of them.", stacklevel=2)
    return runs[-1]


class _Training:
    """What the trainings of one command share."""

    def __init__(
        self,
        study: Workspace,
        settings: TrainSettings,
        model: "Model",
        corpus: StudyCorpus,
        progress: Progress,
    ) -> None:
        """Name the work, and the folder of the residuals while it lasts."""
        self.study, self.settings, self.model, self.corpus = study, settings, model, corpus
        self.texts, self.progress = corpus.texts, progress
        self.inputs = {"model": model.pinned, "texts": checksum(corpus.texts)}
        whole = json.dumps([plain(settings), self.inputs], sort_keys=True)
        name = hashlib.sha256(whole.encode()).hexdigest()[:10]
        self.residuals = study.folder / RESIDUALS / name

    def make(self, layer: int, layers: Sequence[int]) -> Run:
        """Make the run of a layer; the first that is not there yet reads for all such layers."""

        def build(work: Work) -> dict[str, Any]:
            """Train, going on from a checkpoint where there is one, and harvest the features."""
            self._require_memory()
            missing = [other for other in layers if not self._exists(other)]
            if self.settings.cache:
                self._read(missing)
            return self._train(work, layer, len(layers) > 1) | material.reading(self.corpus.account)

        return self.study.make("sae", self._config(layer), self.inputs, build)

    def forget(self) -> None:
        """Remove the residuals."""
        shutil.rmtree(self.residuals, ignore_errors=True)
        self.corpus.forget()
        with contextlib.suppress(OSError):  # another command's lie there
            self.residuals.parent.rmdir()

    def _config(self, layer: int) -> dict[str, Any]:
        """Write the settings of one layer's run: as if it were trained alone."""
        return plain(self.settings) | {"layer": layer}

    def _exists(self, layer: int) -> bool:
        runs = self.study.runs
        return runs.exists(runs.find("sae", self._config(layer), self.inputs, self.settings.seed))

    def _require_memory(self) -> None:
        """Refuse an SAE that does not fit into the memory."""
        settings, model = self.settings, self.model
        memory.require(
            FLOAT * settings.n_features * (COPIES * model.d_model + settings.batch_tokens),
            f"Training an SAE of {settings.n_features} features of width {model.d_model}",
            "Take fewer (--n-features), or a smaller --batch-tokens.",
            model.device,
        )

    def _read(self, layers: Sequence[int]) -> None:
        """Read the texts once, for some layers."""
        where = [self.settings.site_of(layer) for layer in layers]
        read_residuals(
            self.model,
            self.texts,
            self.settings,
            {site: file_of(self.residuals, site) for site in where},
            stage(self.progress, "reading residuals"),
            self.corpus.known,
        )

    def _train(self, work: Work, layer: int, several: bool) -> dict[str, Any]:
        """Train an SAE at a layer and harvest its features; give the run's figures."""

        def progress(name: str, done: int, total: int) -> None:
            """Say which layer it is, where there are several."""
            self.progress(f"layer {layer}: {name}" if several else name, done, total)

        trained = train_on_model(
            self.model, self.texts, self.settings.at(layer), work.state, progress, self.residuals
        )
        work.save_time()
        # Only a training on a bare stream has neither.
        assert trained.evaluation is not None
        assert trained.corpus is not None
        evaluated = EvaluatedSAE(
            sae=trained.sae,
            site=self.settings.site_of(layer),
            evaluation=trained.evaluation,
            rows=trained.rows,
        )
        source = TokenSource(trained.corpus, len(self.texts))
        figures = harvest_into(work, self.model, evaluated, source, self.settings, progress)
        return figures | self._format_cost(layer)

    def _format_cost(self, layer: int) -> dict[str, Any]:
        """Measure what a number format other than float32 costs; nothing for float32."""
        settings, model = self.settings, self.model
        if model.dtype == torch.float32:
            return {}
        weights = sum(part.numel() for part in model.module.parameters())
        if FLOAT * weights > memory.available(model.device):
            return {"dtype": f"{settings.dtype}, its cost not measured: float32 does not fit"}
        whole = self.study.model(settings.model, settings.revision, "float32", settings.device)
        corpus = Corpus(self.texts, FORMAT_ROWS, settings.context)
        cost = format_cost(model, whole, corpus, settings.site_of(layer))
        return {
            "dtype": settings.dtype,
            "dtype_loss": cost.loss,
            "dtype_residuals": cost.residuals,
        }


def _advised_layer(study: Workspace, model: str) -> int:
    """Give the layer that a survey advises, and say so."""
    advice = surveyed_layer(study, model)
    if advice is None:
        return UNSURVEYED
    layer, survey = advice
    warnings.warn(
        f"the SAE reads layer {layer}, as {survey} advises. --layer names another.", stacklevel=2
    )
    return layer
