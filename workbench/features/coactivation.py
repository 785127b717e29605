"""Which features are active on the same tokens, counted over the activations that a harvest kept.

1. The store's relation `activations` becomes a sparse matrix of tokens by features. A token is a
   text and a place in it.
2. The product of its transpose with itself counts, for a block of features at a time, on how many
   tokens two features are active together.
3. Of every feature the partners with the largest Jaccard index are kept (active on the same tokens
   and on no others), and those with the largest pointwise mutual information (PMI: together more
   often than chance would have it, also where one of them is rare and the other is not).

A PMI of a single shared token is large and says nothing: pairs need `least` shared tokens. What
chance gives is a PMI of 0. Where the harvest thinned out its tokens, counts are of those that it
kept, and their number is estimated from the share of activations. Memory: 300 MB at 10,000,000
activations, the most that a harvest keeps, whatever the number of features. Left out: how strongly
features are active together; partners on neighbouring tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

from feature_store.progress import StageProgress, silent_stage

Measure = Literal["jaccard", "pmi"]
MEASURES: tuple[Measure, ...] = ("jaccard", "pmi")
"""What partners are ranked by."""
HELD = 2**22
"""Most pairs of features counted at once."""


@dataclass(frozen=True, eq=False)
class TokenSets:
    """On which tokens each feature is active."""

    active: csc_matrix
    """1 where a feature is active [token feature]."""
    tokens: float
    """Tokens among which they were found; those without any active feature count [tokens]."""

    @classmethod
    def of(cls, rows: pd.DataFrame, n_features: int, tokens: float) -> "TokenSets":
        """Build them from feature, document and position, sorted by feature.

        `tokens` is the number of tokens that were read [tokens]; an estimate below the tokens that
        are there becomes their number.
        """
        document = rows.document.to_numpy(np.int64)
        position = rows.position.to_numpy(np.int64)
        place = document * (int(position.max(initial=0)) + 1) + position
        number = np.unique(place, return_inverse=True)[1].astype(np.int32)
        seen = int(number.max(initial=-1)) + 1
        starts = np.searchsorted(rows.feature.to_numpy(), np.arange(n_features + 1))
        ones = np.ones(len(rows), np.int32)
        active = csc_matrix((ones, number, starts), shape=(seen, n_features))
        return cls(active, max(tokens, float(seen)))

    def partners(
        self, top: int, least: int, progress: StageProgress = silent_stage
    ) -> Iterator[pa.Table]:
        """Give rows of `coactivations`, block by block: at most `top` partners by each measure.

        Pairs share at least `least` tokens.
        """
        n_features = self.active.shape[1]
        counts = np.diff(self.active.indptr).astype(np.int64)
        by_token = self.active.tocsr()
        step = max(1, HELD // max(n_features, 1))
        for start in range(0, n_features, step):
            block = self.active[:, start : start + step]
            pairs = _pairs(block.T.tocsr() @ by_token, start, least)
            yield self._ranked(pairs, counts, top)
            progress(min(start + step, n_features), n_features)

    def _ranked(self, pairs: coo_matrix, counts: Int[np.ndarray, " feature"], top: int) -> pa.Table:
        """Rank the partners of each feature by both measures, and keep the first of them."""
        feature, other, together = pairs.row, pairs.col, pairs.data.astype(np.int64)
        first, second = counts[feature], counts[other]
        measured: dict[Measure, Float[np.ndarray, " pair"]] = {
            "jaccard": together / (first + second - together),
            "pmi": np.log(together * self.tokens / (first * second.astype(float))),
        }
        parts = []
        for measure in MEASURES:
            # The one with the smaller number comes first among equals.
            order = np.lexsort((other, -measured[measure], feature))
            rank = _rank(feature[order])
            order, rank = order[rank < top], rank[rank < top]
            parts.append(
                pa.table(
                    {
                        "feature": pa.array(feature[order], pa.int32()),
                        "measure": pa.array([measure] * len(order), pa.string()),
                        "rank": pa.array(rank, pa.int32()),
                        "partner": pa.array(other[order], pa.int32()),
                        "together": pa.array(together[order], pa.int64()),
                        "jaccard": pa.array(measured["jaccard"][order], pa.float32()),
                        "pmi": pa.array(measured["pmi"][order], pa.float32()),
                    }
                )
            )
        keys = ("feature", "measure", "rank")
        return pa.concat_tables(parts).sort_by([(key, "ascending") for key in keys])


def _pairs(together: csr_matrix, start: int, least: int) -> coo_matrix:
    """List pairs with at least `least` shared tokens; rows are the features from `start` on."""
    pairs = together.tocoo()
    feature = pairs.row.astype(np.int64) + start
    kept = (pairs.data >= least) & (feature != pairs.col)
    shape = (start + together.shape[0], together.shape[1])
    return coo_matrix((pairs.data[kept], (feature[kept], pairs.col[kept])), shape=shape)


def _rank(feature: Int[np.ndarray, " pair"]) -> Int[np.ndarray, " pair"]:
    """Number the pairs of each feature from 0 on; those of one feature stand together."""
    first = np.flatnonzero(np.diff(feature, prepend=-1))
    lengths = np.diff(np.append(first, len(feature)))
    return np.arange(len(feature)) - np.repeat(first, lengths)
