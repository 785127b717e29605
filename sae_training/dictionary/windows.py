"""Windows of text around a feature's activations, kept for all features at once in bounded memory.

1. `active_pairs` encodes residuals and lists which features are active on which tokens.
2. `KeptWindows` keeps, of each feature, the windows of at most so many tokens, one a document:
   those with the largest key. Tokens below the feature's n-th best are dropped at once, the rest
   are pruned when they pile up.
3. `TopContexts` has the activation as its key. `ContextSamples` has a random number that the seed,
   the document, the position and the feature decide, so that what is kept is an even sample of the
   feature's active tokens, whatever the batches; each has its quantile among them.

Memory: 8 bytes a token of every window, twice while it is pruned. Left out: tokens on which a
feature is silent.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int, Shaped, UInt64
from numpy import ndarray
from torch import Tensor

from sae_training.dictionary.sae import SAE
from sae_training.dictionary.stream import Tokens
from sae_training.engine.model import Model
from sae_training.model.tokens import strings

BEFORE, AFTER = 16, 8
"""Tokens of a window before and after the peak."""
DENSE = 2**25
"""Dense activations held at once while encoding [numbers]."""
QUANTILES = 10
"""Quantiles that the samples of a feature are cut into."""


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


def starts(key: Int[ndarray, " n"]) -> Int[ndarray, " m"]:
    """Find the first of each run of equal keys."""
    return np.flatnonzero(np.diff(key, prepend=-1))


def strongest(
    active: ActivePairs,
    document: Int[ndarray, " tok"],
    features: int,
    key: Shaped[ndarray, " n"] | None = None,
) -> Int[ndarray, " m"]:
    """Choose of each feature and document of the batch the pair with the largest key.

    `key` is by default the activation; indices into the pairs, by document and feature.
    """
    group = document[active.token].astype(np.int64) * features + active.feature
    order = np.lexsort((-(active.value if key is None else key), group))
    return order[starts(group[order])]


class _Windows(NamedTuple):
    """Windows that are kept, one a row."""

    feature: Int[ndarray, " n"]
    document: Int[ndarray, " n"]
    position: Int[ndarray, " n"]
    activation: Float[ndarray, " n"]
    activations: Float[ndarray, "n window"]
    ids: Int[ndarray, "n window"]
    key: Float[ndarray, " n"]

    def take(self, rows: Int[ndarray, " row"]) -> "_Windows":
        """Keep some rows."""
        return _Windows(*(part[rows] for part in self))


def _no_windows() -> _Windows:
    """Give windows of which there are none."""
    none, nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
    width = BEFORE + AFTER + 1
    return _Windows(
        feature=none,
        document=none,
        position=none,
        activation=nothing,
        activations=np.zeros((0, width), np.float32),
        ids=np.zeros((0, width), np.int32),
        key=nothing,
    )


class KeptWindows:
    """Of each feature the windows with the largest keys, at most one a document."""

    def __init__(self, features: int, per_feature: int) -> None:
        self.features = features
        self.per_feature = per_feature
        self.floor: ndarray = np.zeros(features, np.float32)
        """Key that a candidate must exceed."""
        self.limit = max(100_000, features * per_feature // 2)
        """Candidates that may pile up."""
        self.parts: list[_Windows] = []
        """Candidates."""
        self.pending = 0

    def keys(self, active: ActivePairs, tokens: Tokens) -> Float[ndarray, " n"]:
        """Give the key of every pair [> 0]."""
        raise NotImplementedError

    def add(self, active: ActivePairs, tokens: Tokens) -> None:
        """Take in the candidates of a batch, each with its window of tokens."""
        key = self.keys(active, tokens)
        # Few pass once the floors have risen: the sort is of these alone.
        passing = np.flatnonzero(key > self.floor[active.feature])
        candidates = ActivePairs(*(part[passing] for part in active))
        document = tokens.document.numpy()
        best = passing[strongest(candidates, document, self.features, key[passing])]
        feature, token = active.feature[best], active.token[best]
        row = tokens.row.numpy()[token]
        ids, around = _window(tokens, row, tokens.column.numpy()[token])
        self.parts.append(
            _Windows(
                feature=feature,
                document=document[token],
                position=tokens.position.numpy()[token],
                activation=active.value[best],
                activations=self._activations(active, around, feature),
                ids=ids,
                key=key[best],
            )
        )
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
        """Keep of the candidates the best of each feature, one a document."""
        if not self.parts:
            return
        whole = _Windows(*(np.concatenate(part) for part in zip(*self.parts, strict=True)))
        feature, document, key = whole.feature, whole.document, whole.key
        # One a document: the best.
        order = np.lexsort((-key, document, feature))
        documents = int(document.max()) + 1 if len(document) else 1
        group = feature[order].astype(np.int64) * documents + document[order]
        order = order[starts(group)]
        order = order[np.lexsort((document[order], -key[order], feature[order]))]
        rank = _rank(feature[order])
        order, rank = order[rank < self.per_feature], rank[rank < self.per_feature]
        self.parts = [whole.take(order)]
        self.pending = len(order)
        last = order[rank == self.per_feature - 1]
        self.floor[feature[last]] = key[last]

    def kept(self) -> _Windows:
        """Give what is kept, by feature, the largest key first."""
        self._prune()
        return self.parts[0] if self.parts else _no_windows()


class TopContexts(KeptWindows):
    """The strongest contexts of each feature."""

    def keys(self, active: ActivePairs, tokens: Tokens) -> Float[ndarray, " n"]:
        """Give the activation of every pair."""
        return active.value

    def table(self, model: Model) -> pa.Table:
        """Make the relation `contexts`."""
        windows = self.kept()
        rank = pa.array(_rank(windows.feature), pa.int32())
        return _table(model, windows, {"feature": _features(windows), "rank": rank})


class ContextSamples(KeptWindows):
    """An even sample of each feature's active tokens, with the quantile of each."""

    def __init__(self, features: int, per_feature: int, seed: int) -> None:
        super().__init__(features, per_feature)
        self.floor = np.zeros(features, np.float64)
        self.seed = seed

    def keys(self, active: ActivePairs, tokens: Tokens) -> Float[ndarray, " n"]:
        """Draw a number for every pair, which nothing but its place and the seed decides."""
        place = tokens.document.numpy().astype(np.uint64) << np.uint64(32)
        place |= tokens.position.numpy().astype(np.uint64)
        shift = np.uint64(self.seed * 0x9E3779B97F4A7C15 % 2**64)
        mixed = _mixed(place + shift)
        drawn = _mixed(mixed[active.token] ^ _mixed(active.feature.astype(np.uint64)))
        return ((drawn >> np.uint64(11)).astype(np.float64) + 1) / 2**53

    def table(self, model: Model) -> pa.Table:
        """Make the relation `samples`."""
        windows = self.kept()
        draw = _rank(windows.feature)
        counts = np.bincount(windows.feature, minlength=1)
        weakest_first = np.lexsort((windows.activation, windows.feature))
        place = np.empty(len(draw), np.int64)
        place[weakest_first] = _rank(windows.feature[weakest_first])
        quantile = place * QUANTILES // counts[windows.feature]
        columns = {
            "feature": _features(windows),
            "draw": pa.array(draw, pa.int32()),
            "quantile": pa.array(quantile, pa.int32()),
        }
        return _table(model, windows, columns)


def _mixed(x: UInt64[ndarray, " n"]) -> UInt64[ndarray, " n"]:
    """Mix the bits of numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _rank(feature: Int[ndarray, " n"]) -> Int[ndarray, " n"]:
    """Number the windows of each feature from 0 on; those of a feature stand together."""
    first = starts(feature)
    return np.arange(len(feature)) - np.repeat(first, np.diff(np.append(first, len(feature))))


def _features(windows: _Windows) -> pa.Array:
    return pa.array(windows.feature, pa.int32())


def _table(model: Model, windows: _Windows, columns: dict[str, pa.Array]) -> pa.Table:
    """Lay windows out as rows: `columns`, then activation, place, tokens and their activations."""
    real = windows.ids >= 0
    offsets = pa.array(np.concatenate([[0], real.sum(1).cumsum()]), pa.int32())
    vocabulary, index = np.unique(windows.ids[real], return_inverse=True)
    texts = pa.array(strings(model, vocabulary.tolist()), pa.string()).take(pa.array(index))
    activations = pa.array(windows.activations[real], pa.float32())
    return pa.table(
        {
            **columns,
            "activation": pa.array(windows.activation, pa.float32()),
            "document": pa.array(windows.document, pa.int32()),
            "position": pa.array(windows.position, pa.int32()),
            "tokens": pa.ListArray.from_arrays(offsets, texts),
            "activations": pa.ListArray.from_arrays(offsets, activations),
            "peak": pa.array(real[:, :BEFORE].sum(1), pa.int32()),
        }
    )


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
