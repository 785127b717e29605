"""Harvest: everything the store shows about an SAE's features, for all features at once, in one
pass.

1. Residuals of the corpus are encoded; only active (token, feature) pairs go on.
2. Per feature: number of active tokens, mean and largest activation, and a histogram over fixed
   bins (four to an octave), so that nothing has to be kept for a second look.
3. Top contexts: of each feature and document the strongest token is a candidate with its window;
   candidates below the feature's n-th best are dropped at once, the rest are pruned when they pile
   up.
4. Single activations are kept up to `ACTIVATIONS`, on disk (`kept.py`). Beyond that tokens are
   thinned out at random; `share` counts how much was kept. Statistics, histograms and top contexts
   are of all tokens.
5. The map is the first two principal components of the unit decoder rows of live features, or UMAP
   of them.

Memory: 250 MB for 65,536 features x 20 contexts, 4 bytes a token. Left out: contexts from the lower
quantiles of a feature, correlations between features.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
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
from sae_training.engine.model import Model
from sae_training.model.tokens import strings

BEFORE, AFTER = 16, 8
"""Tokens of a context's window before and after the peak."""
ACTIVATIONS = 10_000_000
"""Largest number of rows of the activations table."""
DENSE = 2**25
"""Dense activations held at once while encoding [numbers]."""
OCTAVES, PER_OCTAVE = 12, 4
"""The histogram's bins reach from 2**-12 to 2**12 activation units, four to an octave; the
outermost take the rest."""


class HarvestSettings(NamedTuple):
    """What of a corpus is kept, and how features are laid out on the map."""

    top_contexts: int = 20
    """Contexts kept of every feature."""
    layout: str = "pca"
    """How features are laid out: `pca` or `umap`."""
    seed: int = 0
    """Seed of the layout and of which tokens' activations are kept."""
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


class ActivePairs(NamedTuple):
    """The pairs of token and feature where the feature is active, by token and then by feature."""

    token: Int[ndarray, " n"]
    """Index into the batch's tokens, ascending."""
    feature: Int[ndarray, " n"]
    """0-based feature."""
    value: Float[ndarray, " n"]
    """Activation [activation units, > 0]."""


def active_pairs(sae: SAE, x: Float[Tensor, "tok d_model"]) -> ActivePairs:
    """Encode residuals, and list the active features of each token.

    For example:

        active_pairs(sae, tokens.x).feature
    """
    parts = []
    step = max(1, DENSE // sae.n_features)
    for start in range(0, len(x), step):
        code = sae.encode_sparse(x[start : start + step])
        token, slot = (code.value > 0).nonzero(as_tuple=True)
        parts.append((token + start, code.feature[token, slot], code.value[token, slot]))
    if not parts:
        return ActivePairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    tokens, features, values = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    order = np.argsort(tokens * sae.n_features + features, kind="stable")
    return ActivePairs(tokens[order], features[order], values[order])


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
        best = _strongest(active_pairs(sae, x), document, sae.n_features)
        documents.append(best.document)
        features.append(best.feature)
        values.append(best.value)
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
    first = _starts(document * sae.n_features + feature)
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
    contexts = _TopContexts(sae.n_features, settings.top_contexts)
    kept = Kept(sae.n_features, ACTIVATIONS, settings.seed, settings.scratch)
    seen = np.zeros(source.texts, bool)
    progress(0, source.texts)
    for tokens in source.tokens:
        document = tokens.document.numpy()
        active = active_pairs(sae, tokens.x)
        lengths.add(tokens.x)
        statistics.add(active)
        contexts.add(active, tokens)
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


class _Best(NamedTuple):
    """The strongest token of each feature and document."""

    feature: Int[ndarray, " n"]
    document: Int[ndarray, " n"]
    token: Int[ndarray, " n"]
    value: Float[ndarray, " n"]


def _window(
    tokens: Tokens, row: Int[ndarray, " n"], peak: Int[ndarray, " n"]
) -> tuple[Int[ndarray, "n window"], Int[ndarray, "n window"]]:
    """Look up the ids and the tokens' numbers in the windows around some peaks.

    A peak is a row and a column of the batch. -1 stands where there is no token.
    """
    number = np.full(tokens.ids.shape, -1, np.int64)
    number[tokens.row.numpy(), tokens.column.numpy()] = np.arange(len(tokens.row))
    column = peak[:, None] + np.arange(-BEFORE, AFTER + 1)
    inside = (column >= 0) & (column < tokens.ids.shape[1])
    place = row[:, None], np.where(inside, column, 0)
    around = np.where(inside, number[place], -1)
    return np.where(around >= 0, tokens.ids.numpy()[place], -1).astype(np.int32), around


def _starts(key: Int[ndarray, " n"]) -> Int[ndarray, " m"]:
    """Find the first of each run of equal keys."""
    return np.flatnonzero(np.diff(key, prepend=-1))


def _strongest(active: ActivePairs, document: Int[ndarray, " tok"], features: int) -> _Best:
    """Choose of each feature and document of the batch the strongest token."""
    key = document[active.token].astype(np.int64) * features + active.feature
    order = np.lexsort((-active.value, key))
    first = order[_starts(key[order])]
    return _Best(
        feature=active.feature[first],
        document=document[active.token[first]],
        token=active.token[first],
        value=active.value[first],
    )


class _TopContexts:
    """The strongest contexts of each feature, at most one a document."""

    def __init__(self, features: int, per_feature: int) -> None:
        self.features = features
        self.per_feature = per_feature
        self.floor = np.zeros(features, np.float32)
        """Activation that a candidate must exceed."""
        self.limit = max(100_000, features * per_feature // 2)
        """Candidates that may pile up."""
        self.parts: list[tuple[ndarray, ...]] = []
        """Candidates: feature, document, position, activation, the window's activations and ids."""
        self.pending = 0

    def add(self, active: ActivePairs, tokens: Tokens) -> None:
        """Take in the candidates of a batch, each with its window of tokens."""
        best = _strongest(active, tokens.document.numpy(), self.features)
        good = best.value > self.floor[best.feature]
        feature, document, token, value = (part[good] for part in best)
        row = tokens.row.numpy()[token]
        ids, around = _window(tokens, row, tokens.column.numpy()[token])
        values = self._activations(active, around, feature)
        self.parts.append((feature, document, tokens.position.numpy()[token], value, values, ids))
        self.pending += len(feature)
        if self.pending > self.limit:
            self._prune()
            self.limit = max(self.limit, 2 * self.pending)

    def _activations(
        self, active: ActivePairs, around: Int[ndarray, "n window"], feature: Int[ndarray, " n"]
    ) -> Float[ndarray, "n window"]:
        """Look up the feature's activation on each token of its window among the active pairs."""
        pairs = active.token * self.features + active.feature
        if not len(pairs):
            return np.zeros(around.shape, np.float32)
        wanted = around * self.features + feature[:, None]
        at = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
        is_active = (around >= 0) & (pairs[at] == wanted)
        return np.where(is_active, active.value[at], 0).astype(np.float32)

    def _prune(self) -> None:
        """Keep of the candidates the strongest of each feature, one a document."""
        if not self.parts:
            return
        whole = tuple(np.concatenate(part) for part in zip(*self.parts, strict=True))
        feature, document, _, value = whole[:4]
        # One a document: the strongest.
        order = np.lexsort((-value, document, feature))
        documents = int(document.max()) + 1 if len(document) else 1
        key = feature[order].astype(np.int64) * documents + document[order]
        order = order[_starts(key)]
        order = order[np.lexsort((document[order], -value[order], feature[order]))]
        starts = _starts(feature[order])
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        order = order[rank < self.per_feature]
        self.parts = [tuple(part[order] for part in whole)]
        self.pending = len(order)
        last = rank[rank < self.per_feature] == self.per_feature - 1
        self.floor[feature[order][last]] = value[order][last]

    def table(self, model: Model) -> pa.Table:
        """Make the relation `contexts`."""
        self._prune()
        none = np.zeros(0, np.int64)
        empty = (none, none, none, np.zeros(0, np.float32))
        windows = (np.zeros((0, 1), np.float32), np.zeros((0, 1), np.int32))
        part = self.parts[0] if self.parts else (*empty, *windows)
        feature, document, position, value, values, ids = part
        starts = _starts(feature)
        rank = np.arange(len(feature)) - np.repeat(starts, np.diff(np.append(starts, len(feature))))
        real = ids >= 0
        offsets = pa.array(np.concatenate([[0], real.sum(1).cumsum()]), pa.int32())
        vocabulary, index = np.unique(ids[real], return_inverse=True)
        texts = pa.array(strings(model, vocabulary.tolist()), pa.string()).take(pa.array(index))
        activations = pa.array(values[real], pa.float32())
        return pa.table(
            {
                "feature": pa.array(feature, pa.int32()),
                "rank": pa.array(rank, pa.int32()),
                "activation": value,
                "document": pa.array(document, pa.int32()),
                "position": pa.array(position, pa.int32()),
                "tokens": pa.ListArray.from_arrays(offsets, texts),
                "activations": pa.ListArray.from_arrays(offsets, activations),
                "peak": pa.array(real[:, :BEFORE].sum(1), pa.int32()),
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
