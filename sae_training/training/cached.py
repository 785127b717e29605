"""Shuffled residuals from disk: the model reads the corpus once, training reads the file as often
as it likes.

1. The file is made on first use, or was made for several layers at once (`residual_files.py`).
2. It is mapped into memory. Each epoch has a seeded permutation of all its tokens: shuffled over
   the whole corpus, not in shards. A place in the stream is two integers.

Left out: a file larger than the disk. `--no-cache` streams from the model.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.progress import StageProgress, silent_stage
from sae_training.dictionary.stream import Tokens
from sae_training.engine.model import Model
from sae_training.training.config import TrainingSettings
from sae_training.training.residual_files import (
    CorpusSplit,
    file_of,
    open_residuals,
    read_residuals,
)
from sae_training.training.streams import HELD_OUT_TOKENS


class CachedStream:
    """Shuffled residuals of a model over texts, from a file that is made on first use."""

    def __init__(
        self,
        model: Model,
        texts: Sequence[str],
        settings: TrainingSettings,
        folder: Path,
        progress: StageProgress = silent_stage,
    ) -> None:
        """Open the site's file in `folder`, or make it."""
        self.model, self.texts, self.settings = model, texts, settings
        self.held_out_texts = [texts[i] for i in CorpusSplit.of(texts, settings).held_out]
        file = file_of(folder, settings.site)
        read_residuals(model, texts, settings, {settings.site: file}, progress)
        self._file = open_residuals(file, model.d_model)
        self._all = self._file.x[self._file.held_out :]
        self.held_out = self._file.x[: min(self._file.held_out, HELD_OUT_TOKENS)].to(model.device)
        self._epoch = self._batch = 0
        self._order: Tensor | None = None

    def __next__(self) -> Float[Tensor, "tok d_model"]:
        """Give the next batch of the epoch's permutation."""
        size = min(self.settings.batch_tokens, len(self._all))
        if (self._batch + 1) * size > len(self._all):
            self._epoch += 1
            self._batch = 0
            self._order = None
        if self._order is None:
            rng = np.random.default_rng([self.settings.seed, 3, self._epoch])
            self._order = torch.from_numpy(rng.permutation(len(self._all)))
        rows = self._order[self._batch * size : (self._batch + 1) * size]
        self._batch += 1
        return self._all[rows].to(self.held_out.device)

    def everything(self) -> Iterator[Tokens]:
        """Give every token of the corpus: from the file as far as it goes, then from the model."""
        return self._file.everything(self.model, self.texts, self.settings, self.settings.site)

    def state(self) -> dict[str, int]:
        """Say where the stream is: epoch and batch."""
        return {"epoch": self._epoch, "batch": self._batch}

    def restore(self, state: dict[str, int]) -> None:
        """Go where `state()` was."""
        self._epoch = state["epoch"]
        self._batch = state["batch"]
        self._order = None
