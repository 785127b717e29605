"""Harvest: everything the store shows about an SAE's features, for all features at once, in one
pass.

1. Residuals of the corpus are encoded; only active (token, feature) pairs go on.
2. Per feature: number of active tokens, mean and largest activation, and a histogram over fixed
   bins (four to an octave), so that nothing has to be kept for a second look.
3. Top contexts, and samples from all quantiles of a feature's activation, each with its window of
   tokens (`windows.py`).
4. Single activations are kept up to `ACTIVATIONS`, on disk (`kept.py`). Beyond that tokens are
   thinned out at random; `share` counts how much was kept. Statistics, histograms and top contexts
   are of all tokens.
5. The map is the first two principal components of the unit decoder rows of live features, or UMAP
   of them.

Memory: 500 MB for 65,536 features x 20 contexts and 20 samples, 4 bytes a token. Left out:
correlations between features.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.sparse import coo_matrix, csr_matrix
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.progress import StageProgress, silent_stage
from feature_store.records import Site
from sae_training.dictionary.kept import Kept
from sae_training.dictionary.sae import SAE
from sae_training.dictionary.stream import Tokens, read
from sae_training.dictionary.texts import Corpus
from sae_training.dictionary.windows import (
    ActivePairs,
    ContextSamples,
    TopContexts,
    active_pairs,
    starts,
    strongest,
)
from sae_training.engine.model import Model

ACTIVATIONS = 10_000_000
"""Largest number of rows of the activations table."""
OCTAVES, PER_OCTAVE = 12, 4
"""The histogram's bins reach from 2**-12 to 2**12 activation units, four to an octave; the
outermost take the rest."""


class HarvestSettings(NamedTuple):
    """What of a corpus is kept, and how features are laid out on the map."""

    top_contexts: int = 20
    """Contexts kept of every feature."""
    samples: int = 20
    """Further windows of every feature, an even sample of its active tokens."""
    layout: str = "pca"
    """How features are laid out: `pca` or `umap`."""
    seed: int = 0
    """Seed of the layout, of the samples, and of which tokens' activations are kept."""
    scratch: Path | None = None
    """Folder for activations that wait to be sorted; None: the system's."""


DEFAULTS = HarvestSettings()


class Harvest(NamedTuple):
    """What is known about all features of an SAE after one pass over a corpus."""

    features: pa.Table
    """feature, n_active, density, max_activation, mean_activation, decoder_norm, x, y: one row
    per feature."""
    contexts: pa.Table
    """feature, rank, activation, document, position, tokens, activations, peak: sorted by
    feature and rank."""
    samples: pa.Table
    """feature, draw, quantile, and further columns as in `contexts`: sorted by feature and draw."""
    activations: Kept
    """feature, document, position, activation: as a table or in pieces, sorted by feature,
    document, position."""
    histograms: pa.Table
    """feature, bin, low, high, count: bins that are not empty."""
    tokens: int
    """Tokens read, first ones of each row not counted."""
    documents: int
    """Texts read."""
    share: float
    """Share of all activations that is in `activations`, counted [0 to 1]."""
    norm_median: float
    """Median length of the residual [residual units]: the unit of a steering strength."""
    norm_mean: float
    """Mean length of the residual [residual units]."""
    mean: Float[ndarray, " d_model"]
    """Mean residual [residual units]."""


class Pooled(NamedTuple):
    """What labelers see of texts: one row a text."""

    activations: csr_matrix
    """Largest activation of each feature [text, feature; activation units]."""
    residuals: Float[np.ndarray, "text d_model"]
    """Mean residual over the tokens that the SAE reads [residual units]; 0 of a text without
    any."""


def pooled(
    model: Model,
    sae: SAE,
    corpus: Corpus,
    site: Site,
    progress: StageProgress = silent_stage,
    start: int = 0,
) -> Pooled:
    """Read the largest activation of each feature in each text, and each text's mean residual.

    The first `start` tokens of a text are read over: what stands before every text tells nothing.

    For example:

        pooled(model, sae, Corpus(texts), sae.site()).activations  # sparse [text, feature]
    """
    sae.check_fits(model)
    documents, features, values = [], [], []
    sums, counts = np.zeros((len(corpus.texts), sae.d_model)), np.zeros(len(corpus.texts))
    progress(0, len(corpus.texts))
    for tokens in read(model, corpus, site, sae.reading):
        counted = tokens.position >= start
        document, x = tokens.document[counted].numpy(), tokens.x[counted.to(tokens.x.device)]
        active = active_pairs(sae, x)
        best = strongest(active, document, sae.n_features)
        documents.append(document[active.token[best]])
        features.append(active.feature[best])
        values.append(active.value[best])
        np.add.at(sums, document, x.double().cpu().numpy())
        counts += np.bincount(document, minlength=len(counts))
        progress(int((counts > 0).sum()), len(corpus.texts))
    residuals = sums / np.maximum(counts, 1)[:, None]
    shape = (len(corpus.texts), sae.n_features)
    if not documents:
        return Pooled(csr_matrix(shape, dtype=np.float32), residuals)
    document, feature, value = map(np.concatenate, (documents, features, values))
    # A long text comes in several batches: its largest activation goes first, the rest go.
    order = np.lexsort((-value, feature, document))
    document, feature, value = document[order], feature[order], value[order]
    first = starts(document * sae.n_features + feature)
    entries = (value[first], (document[first], feature[first]))
    return Pooled(coo_matrix(entries, shape=shape, dtype=np.float32).tocsr(), residuals)


def harvest(
    model: Model,
    sae: SAE,
    corpus: Corpus,
    site: Site,
    settings: HarvestSettings = DEFAULTS,
    progress: StageProgress = silent_stage,
) -> Harvest:
    """Gather statistics, top contexts, activations and the map of every feature over a corpus.

    Raises BadInput where the texts hold no token beyond the first of each.

        harvest(model, sae, Corpus(texts), sae.site(), HarvestSettings(top_contexts=10)).features
    """
    source = TokenSource(read(model, corpus, site, sae.reading), len(corpus.texts))
    return harvest_tokens(model, sae, source, settings, progress)


class TokenSource(NamedTuple):
    """The tokens of a corpus, wherever their residuals come from."""

    tokens: Iterable[Tokens]
    """Residuals and places, in pieces."""
    texts: int
    """Texts of the corpus."""


def harvest_tokens(
    model: Model,
    sae: SAE,
    source: TokenSource,
    settings: HarvestSettings = DEFAULTS,
    progress: StageProgress = silent_stage,
) -> Harvest:
    """Do the same over residuals that come from elsewhere; `model` gives the tokens' texts.

    harvest_tokens(model, sae, TokenSource(stream.everything(), len(texts)))
    """
    sae.check_fits(model)
    if settings.layout not in ("pca", "umap"):
        raise BadInput(f"The map's layout is pca or umap, got {settings.layout!r}.")
    statistics = _Statistics(sae.n_features)
    lengths = _Lengths(sae.d_model)
    contexts = TopContexts(sae.n_features, settings.top_contexts)
    samples = ContextSamples(sae.n_features, settings.samples, settings.seed)
    kept = Kept(sae.n_features, ACTIVATIONS, settings.seed, settings.scratch)
    seen = np.zeros(source.texts, bool)
    progress(0, source.texts)
    for tokens in source.tokens:
        document = tokens.document.numpy()
        active = active_pairs(sae, tokens.x)
        lengths.add(tokens.x)
        statistics.add(active)
        contexts.add(active, tokens)
        samples.add(active, tokens)
        position = tokens.position.numpy()[active.token]
        kept.add(active.feature, document[active.token], position, active.value)
        seen[document] = True
        progress(int(seen.sum()), source.texts)
    if lengths.tokens == 0:
        raise BadInput(
            "The texts hold no token beyond the first of each: nothing to harvest. Give longer"
            " texts."
        )
    x, y = _layout(sae, statistics.count > 0, settings.layout, settings.seed)
    length = np.concatenate(lengths.parts)
    return Harvest(
        features=statistics.features(sae, lengths.tokens, x, y),
        contexts=contexts.table(model),
        samples=samples.table(model),
        activations=kept,
        histograms=statistics.histograms(),
        tokens=lengths.tokens,
        documents=int(seen.sum()),
        share=kept.share,
        norm_median=float(np.median(length)),
        norm_mean=float(length.mean()),
        mean=(lengths.total / lengths.tokens).numpy(),
    )


class _Lengths:
    """How long the residuals are, and their sum."""

    def __init__(self, d_model: int) -> None:
        self.parts: list[ndarray] = []
        """Length of each token's residual, batch by batch."""
        self.total = torch.zeros(d_model, dtype=torch.float64)
        """Sum of all residuals."""
        self.tokens = 0
        """Tokens so far."""

    def add(self, x: Float[Tensor, "tok d_model"]) -> None:
        """Take in the residuals of a batch."""
        self.parts.append(x.norm(dim=-1).cpu().numpy())
        self.total += x.sum(0).double().cpu()
        self.tokens += len(x)


class _Statistics:
    """Number, mean, maximum and histogram of each feature's activations."""

    def __init__(self, features: int) -> None:
        self.edges = np.exp2(
            np.arange(-OCTAVES * PER_OCTAVE, OCTAVES * PER_OCTAVE + 1) / PER_OCTAVE
        )
        self.bins = len(self.edges) - 1
        self.count = np.zeros(features, np.int64)
        self.total = np.zeros(features)
        self.largest = np.zeros(features, np.float32)
        self.histogram = np.zeros(features * self.bins, np.int64)

    def add(self, active: ActivePairs) -> None:
        """Take in the active pairs of a batch."""
        features = len(self.count)
        self.count += np.bincount(active.feature, minlength=features)
        self.total += np.bincount(active.feature, active.value, minlength=features)
        np.maximum.at(self.largest, active.feature, active.value)
        place = np.searchsorted(self.edges, active.value, side="right") - 1
        bin = np.clip(place, 0, self.bins - 1)
        self.histogram += np.bincount(
            active.feature * self.bins + bin, minlength=features * self.bins
        )

    def features(self, sae: SAE, tokens: int, x: ndarray, y: ndarray) -> pa.Table:
        """Make the relation `features` of `tokens` tokens; `x` and `y` are places on the map."""
        mean = (self.total / np.maximum(self.count, 1)).astype(np.float32)
        return pa.table(
            {
                "feature": pa.array(np.arange(len(self.count)), pa.int32()),
                "n_active": pa.array(self.count, pa.int64()),
                "density": self.count / tokens,
                "max_activation": self.largest,
                "mean_activation": mean,
                "decoder_norm": sae.W_dec.norm(dim=1).float().cpu().numpy(),
                "x": pa.array(x, pa.float32(), from_pandas=True),
                "y": pa.array(y, pa.float32(), from_pandas=True),
            }
        )

    def histograms(self) -> pa.Table:
        """Make the relation `histograms`, without empty bins."""
        filled = np.flatnonzero(self.histogram)
        bin = filled % self.bins
        return pa.table(
            {
                "feature": pa.array(filled // self.bins, pa.int32()),
                "bin": pa.array(bin, pa.int32()),
                "low": self.edges[bin].astype(np.float32),
                "high": self.edges[bin + 1].astype(np.float32),
                "count": self.histogram[filled],
            }
        )


def _layout(sae: SAE, live: ndarray, layout: str, seed: int) -> tuple[ndarray, ndarray]:
    """Lay the live features out on a map; NaN for the dead."""
    place = np.full((sae.n_features, 2), np.nan, np.float32)
    rows = sae.W_dec[torch.from_numpy(live).to(sae.device)].float().cpu()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8)
    if layout == "umap" and len(rows) > 3:
        from umap import UMAP  # seconds

        neighbours = min(15, len(rows) - 1)
        # The spectral start needs more points than dimensions.
        init = "spectral" if len(rows) > 10 else "random"
        place[live] = UMAP(
            n_neighbors=neighbours, metric="cosine", init=init, random_state=seed, n_jobs=1
        ).fit_transform(rows.numpy())
    elif len(rows):
        centred = rows - rows.mean(0)
        basis = torch.linalg.eigh((centred.T @ centred).double()).eigenvectors[:, -2:].flip(1)
        # The sign of an axis is arbitrary: fix it.
        basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        place[live] = (centred.double() @ basis).float().numpy()
    return place[:, 0], place[:, 1]
