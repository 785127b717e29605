"""The single activations of a harvest: as many as are kept, on disk until they are sorted.

1. Rows go to a file without a name in a scratch folder, 16 bytes each, so that memory does not grow
   with the texts; when the process dies the file is gone.
2. Beyond `most` rows, tokens are thinned out at random, half of them each time. A token's number is
   drawn from the seed, its text and its place in it: what is kept stays an unbiased sample of
   tokens, all features of a token together, in one long text as in many short ones.
3. `pieces` gives them sorted by feature, text and place: the file is read once for every group of
   features that fits into memory.

Left out: a sample of whole texts. One text may hold more activations than all that are kept.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from numpy import ndarray

ROW = np.dtype(
    [
        ("feature", np.int32),
        ("document", np.int32),
        ("position", np.int32),
        ("activation", np.float32),
    ]
)
TOGETHER = 500_000
"""Rows read or sorted at once."""


class Kept:
    """Rows of feature, document, position and activation, thinned out to at most `most`."""

    def __init__(self, features: int, most: int, seed: int, scratch: Path | None) -> None:
        """Begin with none; `scratch` is a folder for the file, by default the system's."""
        self.most = most
        self.seed = seed
        self.scratch = scratch
        self.limit = 1.0
        """A token stays as long as its number is below it."""
        self.seen = 0
        """Activations so far."""
        self.counts = np.zeros(features, np.int64)
        """Rows kept of each feature."""
        self._file = self._opened()

    @property
    def num_rows(self) -> int:
        """Rows that are kept."""
        return int(self.counts.sum())

    @property
    def share(self) -> float:
        """Share of all activations that is kept [0 to 1]."""
        return self.num_rows / self.seen if self.seen else 1.0

    def add(
        self,
        feature: Int[ndarray, " n"],
        document: Int[ndarray, " n"],
        position: Int[ndarray, " n"],
        value: Float[ndarray, " n"],
    ) -> None:
        """Take in the active pairs of a batch."""
        rows = np.empty(len(feature), ROW)
        for name, part in zip(ROW.names or (), (feature, document, position, value), strict=True):
            rows[name] = part
        self.seen += len(rows)
        self._append(rows)
        while self.num_rows > self.most:
            self.limit /= 2
            before, self._file = self._file, self._opened()
            self.counts[:] = 0
            for part in _parts(before):
                self._append(part)
            before.close()

    def pieces(self) -> Iterator[pa.Table]:
        """Give the relation `activations` piece by piece, sorted."""
        ends = np.searchsorted(
            self.counts.cumsum(), np.arange(TOGETHER, self.num_rows + TOGETHER, TOGETHER)
        )
        first = 0
        for last in sorted({*ends.tolist(), len(self.counts)} - {0}):
            chosen = []
            for part in _parts(self._file):
                chosen.append(part[(part["feature"] >= first) & (part["feature"] < last)])
            rows = np.concatenate([*chosen, np.empty(0, ROW)])
            order = np.lexsort((rows["position"], rows["document"], rows["feature"]))
            rows = rows[order]
            yield pa.table({name: np.ascontiguousarray(rows[name]) for name in ROW.names or ()})
            first = last

    def table(self) -> pa.Table:
        """Make the relation `activations`, all at once."""
        return pa.concat_tables(self.pieces()).combine_chunks()

    def _append(self, rows: ndarray) -> None:
        """Write the rows whose token stays."""
        if self.limit < 1:
            rows = rows[_drawn(rows, self.seed) < self.limit]
        self.counts += np.bincount(rows["feature"], minlength=len(self.counts))
        rows.tofile(self._file)

    def _opened(self) -> IO[bytes]:
        """Open a file without a name."""
        return tempfile.TemporaryFile(dir=self.scratch)


def _parts(file: IO[bytes]) -> Iterator[ndarray]:
    """Read a file of rows from its beginning, some at a time."""
    file.flush()
    file.seek(0)
    while len(rows := np.fromfile(file, ROW, TOGETHER)):
        yield rows


def _drawn(rows: ndarray, seed: int) -> Float[ndarray, " n"]:
    """Draw each row's token a number [0 to 1): by splitmix64 of seed, document and position."""
    with np.errstate(over="ignore"):
        mixed = rows["document"].astype(np.uint64) << np.uint64(32)
        mixed = (mixed | rows["position"].astype(np.uint64)) + np.uint64(
            (seed + 1) * 0x9E3779B97F4A7C15 % 2**64
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53
