"""The features' strongest contexts, as a labeler sees them: tokens, activations, the peak.

1. `read` takes them from the relation `contexts` of a finished SAE. Tokens are kept as numbers of a
   vocabulary, one behind the other, since an SAE of 65,536 features has tens of millions of them.
2. `strongest` keeps the first contexts of each feature; `words` gives the tokens of one,
   `around_peak` a window of it with the peak marked.

Left out: what is read in them; that is the labelers'.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int

from feature_store.store import Store


@dataclass(frozen=True, eq=False)
class FeatureContexts:
    """The strongest contexts of features, by feature, the strongest of each first."""

    features: Int[np.ndarray, " context"]
    """0-based feature of each context, never falling."""
    peaks: Int[np.ndarray, " context"]
    """0-based place of the peak among the context's tokens."""
    starts: Int[np.ndarray, " edge"]
    """Where each context's tokens begin in `tokens`, and, at last, where they end."""
    tokens: Int[np.ndarray, " token"]
    """Number of each token in `vocabulary`, context after context."""
    activations: Float32[np.ndarray, " token"]
    """The feature's activation on each token [activation units, >= 0]."""
    vocabulary: tuple[str, ...]
    """The distinct tokens."""

    def __len__(self) -> int:
        """Count the contexts."""
        return len(self.features)

    def words(self, context: int) -> list[str]:
        """Give a context's tokens."""
        span = slice(self.starts[context], self.starts[context + 1])
        return [self.vocabulary[token] for token in self.tokens[span]]

    def around_peak(self, context: int, reach: int) -> str:
        """Write the tokens within `reach` of the peak, the peak in brackets."""
        words, peak = self.words(context), int(self.peaks[context])
        first, last = max(peak - reach, 0), peak + 1 + reach
        before, after = "".join(words[first:peak]), "".join(words[peak + 1 : last])
        return f"{before} [{words[peak].strip()}] {after}".strip()

    def strongest(self, most: int) -> "FeatureContexts":
        """Keep at most so many contexts of each feature, the strongest."""
        first = np.searchsorted(self.features, self.features)
        kept = np.flatnonzero(np.arange(len(self)) - first < most)
        lengths = np.diff(self.starts)[kept]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        shift = np.repeat(self.starts[kept] - starts[:-1], lengths)
        places = np.arange(starts[-1]) + shift
        return FeatureContexts(
            features=self.features[kept],
            peaks=self.peaks[kept],
            starts=starts,
            tokens=self.tokens[places],
            activations=self.activations[places],
            vocabulary=self.vocabulary,
        )


def read(store: Store, sae: str) -> FeatureContexts:
    """Read the contexts of an SAE's run from the store; none where it kept none."""
    table = store.arrow(
        "SELECT feature, peak, tokens, activations FROM contexts WHERE run = ?"
        " ORDER BY feature, rank",
        [sae],
    )
    lists = table["tokens"].combine_chunks()
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    words = lists.flatten().dictionary_encode()
    return FeatureContexts(
        features=table["feature"].to_numpy().astype(np.int64),
        peaks=table["peak"].to_numpy().astype(np.int64),
        starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        tokens=words.indices.to_numpy(zero_copy_only=False).astype(np.int32),
        activations=_flat(table["activations"]),
        vocabulary=tuple(words.dictionary.to_pylist()),
    )


def _flat(lists: pa.ChunkedArray) -> Float32[np.ndarray, " token"]:
    """Give the numbers of a column of lists, one behind the other."""
    numbers = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.float32)
