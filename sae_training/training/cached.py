"""Residuals on disk: the model reads the corpus once, training reads the file as often as it likes.

1. The training documents are read in a seeded order until the training's tokens are there, or the
   corpus ends, and their residuals are appended to one file of float32. A description with the
   checksum is written last; without it the file is made again.
2. The file is mapped into memory. Each epoch has a seeded permutation of all its tokens: shuffled
   over the whole corpus, not in shards. A place in the stream is two integers.

Left out: sharing the file among trainings. It lies with the run's checkpoints and goes when the run
is finished.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput
from sae_training.dictionary.stream import read
from sae_training.dictionary.texts import Corpus
from sae_training.engine.model import Model
from sae_training.training.config import TrainingSettings
from sae_training.training.streams import ActivationStream

FILE, TOLD = "residuals.f32", "residuals.json"


class CachedStream(ActivationStream):
    """Shuffled residuals of a model over texts, from a file that is made on first use."""

    def __init__(
        self,
        model: Model,
        texts: Sequence[str],
        config: TrainingSettings,
        folder: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        super().__init__(model, texts, config)
        self._order: Tensor | None = None
        count = self._tokens(folder, progress)
        flat = torch.from_file(
            str(folder / FILE), shared=False, size=count * model.d_model, dtype=torch.float32
        )
        self._all = flat.view(count, model.d_model)

    def __next__(self) -> Float[Tensor, "tok d_model"]:
        size = min(self.config.batch_tokens, len(self._all))
        if (self._batch + 1) * size > len(self._all):
            self._epoch, self._batch, self._order = self._epoch + 1, 0, None
        if self._order is None:
            rng = np.random.default_rng([self.config.seed, 3, self._epoch])
            self._order = torch.from_numpy(rng.permutation(len(self._all)))
        rows = self._order[self._batch * size : (self._batch + 1) * size]
        self._batch += 1
        return self._all[rows].to(self.held_out.device)

    def state(self) -> dict[str, int]:
        return {"epoch": self._epoch, "batch": self._batch}

    def restore(self, state: dict[str, int]) -> None:
        self._epoch, self._batch, self._order = state["epoch"], state["batch"], None

    def _tokens(self, folder: Path, progress: Callable[[int, int], None]) -> int:
        """Tokens in the file, which is made unless it is there, whole and undamaged."""
        told, file = folder / TOLD, folder / FILE
        if told.exists():
            known = json.loads(told.read_text())
            with file.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() == known["sha256"]:
                    return known["tokens"]
        folder.mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng([self.config.seed, 1, 0]).permutation(len(self.texts))
        texts = [self.texts[i] for i in order]
        count, sha = 0, hashlib.sha256()
        config = self.config
        with file.open("wb") as opened:
            corpus = Corpus(texts, config.rows, config.context)
            for tokens in read(self.model, corpus, config.site):
                piece = tokens.x.cpu().numpy().tobytes()
                if shutil.disk_usage(folder).free < 2 * len(piece):
                    raise BadInput(
                        f"The residuals of {count} tokens fill the disk at {folder}. Make room,"
                        " take fewer documents, or stream them from the model with --no-cache."
                    )
                opened.write(piece)
                sha.update(piece)
                count += len(tokens.x)
                progress(min(count, config.tokens), config.tokens)
                if count >= config.tokens:
                    break
            opened.flush()
            os.fsync(opened.fileno())
        if count == 0:
            raise BadInput(
                "The texts hold no token beyond the first of each: nothing to train on. Give longer"
                " texts."
            )
        progress(
            config.tokens, config.tokens
        )  # a small corpus ends earlier, and is read again and again
        told.write_text(json.dumps({"tokens": count, "sha256": sha.hexdigest()}))
        return count
