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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.files import digest, write_atomically
from feature_store.progress import StageProgress, silent_stage
from sae_training.dictionary.stream import read
from sae_training.dictionary.texts import Corpus
from sae_training.engine.model import Model
from sae_training.training.config import TrainingSettings
from sae_training.training.streams import ActivationStream

FILE, DESCRIPTION = "residuals.f32", "residuals.json"


class CachedStream(ActivationStream):
    """Shuffled residuals of a model over texts, from a file that is made on first use."""

    def __init__(
        self,
        model: Model,
        texts: Sequence[str],
        settings: TrainingSettings,
        folder: Path,
        progress: StageProgress = silent_stage,
    ) -> None:
        """Open the file in `folder`, or make it."""
        super().__init__(model, texts, settings)
        self._order: Tensor | None = None
        count = self._tokens(folder, progress)
        flat = torch.from_file(
            str(folder / FILE), shared=False, size=count * model.d_model, dtype=torch.float32
        )
        self._all = flat.view(count, model.d_model)

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

    def state(self) -> dict[str, int]:
        """Say where the stream is: epoch and batch."""
        return {"epoch": self._epoch, "batch": self._batch}

    def restore(self, state: dict[str, int]) -> None:
        """Go where `state()` was."""
        self._epoch = state["epoch"]
        self._batch = state["batch"]
        self._order = None

    def _tokens(self, folder: Path, progress: StageProgress) -> int:
        """Count the tokens in the file, which is made unless it is there, whole and undamaged."""
        description = folder / DESCRIPTION
        file = folder / FILE
        written = _described(description)
        if written and file.exists() and digest(file) == written.get("sha256"):
            return written["tokens"]
        folder.mkdir(parents=True, exist_ok=True)
        count, sha256 = self._write(file, progress)
        if count == 0:
            raise BadInput(
                "The texts hold no token beyond the first of each: nothing to train on. Give longer"
                " texts."
            )
        progress(count, count)
        write_atomically(description, json.dumps({"tokens": count, "sha256": sha256}))
        return count

    def _write(self, file: Path, progress: StageProgress) -> tuple[int, str]:
        """Append the residuals to the file until there are enough: tokens, and the checksum."""
        settings = self.settings
        order = np.random.default_rng([settings.seed, 1, 0]).permutation(len(self.texts))
        texts = [self.texts[i] for i in order]
        count = 0
        checksum = hashlib.sha256()
        with file.open("wb") as opened:
            corpus = Corpus(texts, settings.rows, settings.context)
            for tokens in read(self.model, corpus, settings.site):
                piece = tokens.x.cpu().numpy().tobytes()
                if shutil.disk_usage(file.parent).free < 2 * len(piece):
                    raise BadInput(
                        f"The residuals of {count} tokens fill the disk at {file.parent}. Make"
                        " room, take fewer documents, or stream from the model with --no-cache."
                    )
                opened.write(piece)
                checksum.update(piece)
                count += len(tokens.x)
                # A small corpus ends before the training's tokens are there.
                read_texts = 1 + int(tokens.document.max()) if len(tokens.x) else 1
                whole = count * len(texts) / read_texts
                progress(count, max(count, min(settings.tokens, round(whole))))
                if count >= settings.tokens:
                    break
            opened.flush()
            os.fsync(opened.fileno())
        return count, checksum.hexdigest()


def _described(description: Path) -> dict[str, Any]:
    """Read the description of the residuals; empty where none can be read."""
    if not description.exists():
        return {}
    try:
        written = json.loads(description.read_text(encoding="utf-8"))
    except ValueError:
        return {}  # torn by a loss of power: the residuals are read anew
    return written if isinstance(written, dict) else {}
