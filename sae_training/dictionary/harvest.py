"""Harvest: everything the store shows about an SAE's features, for all features at once, in one
pass.

1. Residuals of the corpus are encoded; only active (token, feature) pairs go on.
2. Per feature: number of active tokens, mean and largest activation, and a histogram over fixed
   bins (four to an octave), so that nothing has to be kept for a second look.
3. Top contexts: of each feature and document the strongest token is a candidate with its window;
   candidates below the feature's n-th best are dropped at once, the rest are pruned when they pile
   up.
4. Single activations are kept up to `ACTIVATIONS`. Beyond that whole documents are thinned out at
   random (half of them each time), so that what is kept stays an unbiased sample of documents;
   `share` says how much was kept.
5. The map is the first two principal components of the unit decoder rows of live features, or UMAP
   of them.

Memory: 250 MB for 65,536 features x 20 contexts, 16 bytes an activation, 4 bytes a token. Left out:
contexts from the lower quantiles of a feature, correlations between features.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import coo_matrix, csr_matrix
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.records import Site
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
    """Seed of the layout and of which documents' activations are kept."""


DEFAULTS = HarvestSettings()


class Harvest(NamedTuple):
    features: pa.Table
    """feature, n_active, density, max_activation, mean_activation, decoder_norm, x, y: one row
    per feature."""
    contexts: pa.Table
    """feature, rank, activation, document, position, tokens, activations, peak: sorted by
    feature and rank."""
    activations: pa.Table
    """feature, document, position, activation: sorted by feature, document, position."""
    histograms: pa.Table
    """feature, bin, low, high, count: bins that are not empty."""
    tokens: int
    """Tokens read, first ones of each row not counted."""
    documents: int
    """Texts read."""
    share: float
    """Share of the documents whose activations are in `activations` [0 to 1]."""
    norm_median: float
    """Median length of the residual [residual units]: the unit of a steering strength."""
    norm_mean: float
    """Mean length of the residual [residual units]."""
    mean: Float[ndarray, " d_model"]
    """Mean residual [residual units]."""


class Active(NamedTuple):
    token: Int[ndarray, " n"]
    """Index into the batch's tokens, ascending."""
    feature: Int[ndarray, " n"]
    value: Float[ndarray, " n"]
    """Activation [activation units, > 0]."""


def active_pairs(sae: SAE, x: Float[Tensor, "tok d_model"]) -> Active:
    """The active features of each token, by token and then by feature."""
    parts = []
    step = max(1, DENSE // sae.n_features)
    for start in range(0, len(x), step):
        code = sae.encode_sparse(x[start : start + step])
        token, slot = (code.value > 0).nonzero(as_tuple=True)
        parts.append((token + start, code.index[token, slot], code.value[token, slot]))
    if not parts:
        return Active(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    token, feature, value = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    order = np.argsort(token * sae.n_features + feature, kind="stable")
    return Active(token[order], feature[order], value[order])


def pooled_activations(
    model: Model,
    sae: SAE,
    corpus: Corpus,
    site: Site,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> csr_matrix:
    """Largest activation of each feature in each text [text, feature]; what labelers compare."""
    sae.check_fits(model)
    documents, features, values = [], [], []
    seen = np.zeros(len(corpus.texts), bool)
    for tokens in read(model, corpus, site):
        best = _strongest(active_pairs(sae, tokens.x), tokens.document.numpy(), sae.n_features)
        documents.append(best.document)
        features.append(best.feature)
        values.append(best.value)
        seen[tokens.document.numpy()] = True
        progress(int(seen.sum()), len(corpus.texts))
    if not documents:
        return csr_matrix((len(corpus.texts), sae.n_features), dtype=np.float32)
    document, feature, value = (
        np.concatenate(documents),
        np.concatenate(features),
        np.concatenate(values),
    )
    order = np.lexsort(
        (-value, feature, document)
    )  # a long text comes in several batches: its largest first, the rest go
    document, feature, value = document[order], feature[order], value[order]
    first = _starts(document * sae.n_features + feature)
    shape = (len(corpus.texts), sae.n_features)
    return coo_matrix(
        (value[first], (document[first], feature[first])), shape=shape, dtype=np.float32
    ).tocsr()


def harvest(
    model: Model,
    sae: SAE,
    corpus: Corpus,
    site: Site,
    settings: HarvestSettings = DEFAULTS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Harvest:
    """Statistics, top contexts, activations and map of every feature over the texts."""
    sae.check_fits(model)
    layout, seed = settings.layout, settings.seed
    if layout not in ("pca", "umap"):
        raise BadInput(f"The map's layout is pca or umap, got {layout!r}.")
    F, edges = (
        sae.n_features,
        np.exp2(np.arange(-OCTAVES * PER_OCTAVE, OCTAVES * PER_OCTAVE + 1) / PER_OCTAVE),
    )
    bins = len(edges) - 1
    count, total, largest = np.zeros(F, np.int64), np.zeros(F), np.zeros(F, np.float32)
    histogram = np.zeros(F * bins, np.int64)
    top, kept = _Top(F, settings.top_contexts), _Kept(len(corpus.texts), seed)
    norms, mean, seen = (
        [],
        torch.zeros(sae.d_model, dtype=torch.float64),
        np.zeros(len(corpus.texts), bool),
    )
    for tokens in read(model, corpus, site):
        document, position = tokens.document.numpy(), tokens.position.numpy()
        norms.append(tokens.x.norm(dim=-1).cpu().numpy())
        mean += tokens.x.sum(0).double().cpu()
        active = active_pairs(sae, tokens.x)
        count += np.bincount(active.feature, minlength=F)
        total += np.bincount(active.feature, active.value, minlength=F)
        np.maximum.at(largest, active.feature, active.value)
        bin = np.clip(np.searchsorted(edges, active.value, side="right") - 1, 0, bins - 1)
        histogram += np.bincount(active.feature * bins + bin, minlength=F * bins)
        top.add(active, tokens, F)
        kept.add(active, document, position)
        seen[document] = True
        progress(int(seen.sum()), len(corpus.texts))
    n = sum(map(len, norms))
    if n == 0:
        raise BadInput(
            "The texts hold no token beyond the first of each: nothing to harvest. Give longer"
            " texts."
        )
    x, y = _layout(sae, count > 0, layout, seed)
    features = pa.table(
        {
            "feature": pa.array(np.arange(F), pa.int32()),
            "n_active": pa.array(count, pa.int64()),
            "density": count / n,
            "max_activation": largest,
            "mean_activation": (total / np.maximum(count, 1)).astype(np.float32),
            "decoder_norm": sae.W_dec.norm(dim=1).float().cpu().numpy(),
            "x": pa.array(x, pa.float32(), from_pandas=True),
            "y": pa.array(y, pa.float32(), from_pandas=True),
        }
    )
    filled = np.flatnonzero(histogram)
    histograms = pa.table(
        {
            "feature": pa.array(filled // bins, pa.int32()),
            "bin": pa.array(filled % bins, pa.int32()),
            "low": edges[filled % bins].astype(np.float32),
            "high": edges[filled % bins + 1].astype(np.float32),
            "count": histogram[filled],
        }
    )
    length = np.concatenate(norms)
    return Harvest(
        features=features,
        contexts=top.table(model),
        activations=kept.table(),
        histograms=histograms,
        tokens=n,
        documents=int(seen.sum()),
        share=kept.share,
        norm_median=float(np.median(length)),
        norm_mean=float(length.mean()),
        mean=(mean / n).numpy(),
    )


class _Best(NamedTuple):
    feature: Int[ndarray, " n"]
    document: Int[ndarray, " n"]
    token: Int[ndarray, " n"]
    value: Float[ndarray, " n"]


def _starts(key: Int[ndarray, " n"]) -> Int[ndarray, " m"]:
    """Index of the first of each run of equal keys."""
    return np.flatnonzero(np.diff(key, prepend=-1))


def _strongest(active: Active, document: Int[ndarray, " tok"], features: int) -> _Best:
    """Of each feature and document of the batch the strongest token."""
    key = document[active.token].astype(np.int64) * features + active.feature
    order = np.lexsort((-active.value, key))
    first = order[_starts(key[order])]
    return _Best(
        feature=active.feature[first],
        document=document[active.token[first]],
        token=active.token[first],
        value=active.value[first],
    )


class _Top:
    """The strongest contexts of each feature, at most one a document."""

    def __init__(self, features: int, per_feature: int) -> None:
        self.per_feature = per_feature
        self.floor = np.zeros(features, np.float32)
        self.limit = max(100_000, features * per_feature // 2)
        self.parts: list[tuple[ndarray, ...]] = []
        self.pending = 0

    def add(self, active: Active, tokens: Tokens, features: int) -> None:
        best = _strongest(active, tokens.document.numpy(), features)
        good = best.value > self.floor[best.feature]
        feature, document, token, value = (part[good] for part in best)
        row, peak = tokens.row.numpy()[token], tokens.column.numpy()[token]
        # activation of the feature on each token of the window: look (token, feature) up among the
        # active pairs
        where = np.full(tokens.ids.shape, -1, np.int64)
        where[tokens.row.numpy(), tokens.column.numpy()] = np.arange(len(tokens.row))
        column = peak[:, None] + np.arange(-BEFORE, AFTER + 1)
        inside = (column >= 0) & (column < tokens.ids.shape[1])
        around = np.where(inside, where[row[:, None], np.where(inside, column, 0)], -1)
        known = active.token * features + active.feature
        wanted = around * features + feature[:, None]
        at = np.searchsorted(known, wanted).clip(max=max(len(known) - 1, 0))
        found = (
            (around >= 0) & (known[at] == wanted) if len(known) else np.zeros(around.shape, bool)
        )
        values = (
            np.where(found, active.value[at], 0).astype(np.float32)
            if len(known)
            else np.zeros(around.shape, np.float32)
        )
        ids = np.where(
            around >= 0, tokens.ids.numpy()[row[:, None], np.where(inside, column, 0)], -1
        ).astype(np.int32)
        self.parts.append((feature, document, tokens.position.numpy()[token], value, values, ids))
        self.pending += len(feature)
        if self.pending > self.limit:
            self._prune()
            self.limit = max(self.limit, 2 * self.pending)

    def _prune(self) -> None:
        if not self.parts:
            return
        whole = tuple(np.concatenate(part) for part in zip(*self.parts, strict=True))
        feature, document, _, value = whole[:4]
        order = np.lexsort((-value, document, feature))  # one a document: the strongest
        key = (
            feature[order].astype(np.int64) * (int(document.max()) + 1 if len(document) else 1)
            + document[order]
        )
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
        self._prune()
        empty = (np.zeros(0, np.int64),) * 3 + (
            np.zeros(0, np.float32),
            np.zeros((0, 1), np.float32),
            np.zeros((0, 1), np.int32),
        )
        feature, document, position, value, values, ids = self.parts[0] if self.parts else empty
        starts = _starts(feature)
        rank = np.arange(len(feature)) - np.repeat(starts, np.diff(np.append(starts, len(feature))))
        real = ids >= 0
        offsets = pa.array(np.concatenate([[0], real.sum(1).cumsum()]), pa.int32())
        vocabulary, index = np.unique(ids[real], return_inverse=True)
        texts = pa.array(strings(model, vocabulary.tolist()), pa.string()).take(pa.array(index))
        return pa.table(
            {
                "feature": pa.array(feature, pa.int32()),
                "rank": pa.array(rank, pa.int32()),
                "activation": value,
                "document": pa.array(document, pa.int32()),
                "position": pa.array(position, pa.int32()),
                "tokens": pa.ListArray.from_arrays(offsets, texts),
                "activations": pa.ListArray.from_arrays(
                    offsets, pa.array(values[real], pa.float32())
                ),
                "peak": pa.array(real[:, :BEFORE].sum(1), pa.int32()),
            }
        )


class _Kept:
    """Single activations of all documents, or of a random part of them."""

    def __init__(self, documents: int, seed: int) -> None:
        self.draw = np.random.default_rng(seed).random(documents)
        self.share = 1.0
        self.parts: list[tuple[ndarray, ...]] = []
        self.rows = 0

    def add(
        self, active: Active, document: Int[ndarray, " tok"], position: Int[ndarray, " tok"]
    ) -> None:
        kept = self.draw[document[active.token]] < self.share
        token = active.token[kept]
        self.parts.append(
            (
                active.feature[kept].astype(np.int32),
                document[token].astype(np.int32),
                position[token].astype(np.int32),
                active.value[kept],
            )
        )
        self.rows += len(token)
        while self.rows > ACTIVATIONS:
            self.share /= 2
            whole = tuple(np.concatenate(part) for part in zip(*self.parts, strict=True))
            stay = self.draw[whole[1]] < self.share
            self.parts = [tuple(part[stay] for part in whole)]
            self.rows = int(stay.sum())

    def table(self) -> pa.Table:
        feature, document, position, value = (
            np.concatenate(part) for part in zip(*self.parts, strict=True)
        )
        order = np.lexsort((position, document, feature))
        return pa.table(
            {
                "feature": feature[order],
                "document": document[order],
                "position": position[order],
                "activation": value[order],
            }
        )


def _layout(sae: SAE, live: ndarray, layout: str, seed: int) -> tuple[ndarray, ndarray]:
    """Map coordinates of the live features; NaN for the dead."""
    place = np.full((sae.n_features, 2), np.nan, np.float32)
    rows = sae.W_dec[torch.from_numpy(live).to(sae.device)].float().cpu()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8)
    if layout == "umap" and len(rows) > 3:
        from umap import UMAP  # seconds

        neighbours = min(15, len(rows) - 1)
        init = (
            "spectral" if len(rows) > 10 else "random"
        )  # the spectral start needs more points than dimensions
        place[live] = UMAP(
            n_neighbors=neighbours, metric="cosine", init=init, random_state=seed, n_jobs=1
        ).fit_transform(rows.numpy())
    elif len(rows):
        centred = rows - rows.mean(0)
        basis = torch.linalg.eigh((centred.T @ centred).double()).eigenvectors[:, -2:].flip(1)
        basis = (
            basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        )  # the sign of an axis is arbitrary: fix it
        place[live] = (centred.double() @ basis).float().numpy()
    return place[:, 0], place[:, 1]
