"""Batches of residuals for training, shuffled, that know their place.

1. A seeded share of the documents is held out and never trained on. The rest is read again and
   again, in a new seeded order each time.
2. Tokens are shuffled in shards: read until `buffer_tokens` are there, permute, hand out batches,
   drop the rest. A shard depends on nothing but its number and where it begins, so a place in the
   stream is three integers.

`cached.py` holds the stream that reads residuals from disk. Left out: several SAEs fed from one
stream.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput
from sae_training.dictionary.stream import Tokens, read, residual_tokens
from sae_training.dictionary.texts import Corpus, batches
from sae_training.engine.model import Model
from sae_training.training.config import TrainingSettings
from sae_training.training.residual_files import CorpusSplit

HELD_OUT_TOKENS = 32_768
"""Held-out tokens kept in memory for the evaluations on the way."""


@runtime_checkable
class Stream(Protocol):
    """Endless batches of residuals that know their place.

    For example:

        batch = next(stream)  # [tok, d_model]
        place = stream.state()
    """

    held_out: Float[Tensor, "tok d_model"]
    """Tokens that never occur in the batches."""

    def __next__(self) -> Float[Tensor, "tok d_model"]:
        """Give the next batch; there always is one."""
        ...

    def state(self) -> dict[str, int]:
        """Say where the stream is."""
        ...

    def restore(self, state: dict[str, int]) -> None:
        """Go to a place: the next batch is the one that came after `state()`."""
        ...


class CorpusStream(Stream, Protocol):
    """A stream over the texts of a corpus, which it can also give as they stand."""

    held_out_texts: list[str]
    """Texts that never occur in the batches."""

    def everything(self) -> Iterator[Tokens]:
        """Give every token of the corpus, those of held-out texts included."""
        ...


class ActivationStream:
    """Shuffled residuals of a model over texts, read from the model every epoch."""

    def __init__(self, model: Model, texts: Sequence[str], settings: TrainingSettings) -> None:
        """Hold some of the texts out, and start at the beginning of the rest."""
        self.model = model
        self.settings = settings
        self.texts = texts
        self._split = CorpusSplit.of(texts, settings)
        self.held_out_texts = [texts[i] for i in self._split.held_out]
        self.held_out = self._held_out()
        self._epoch = self._batch = self._given = 0
        self._end = (0, 0)
        self._shard: Tensor | None = None

    def __iter__(self) -> "ActivationStream":
        """Give itself: it is its own iterator."""
        return self

    def __next__(self) -> Float[Tensor, "tok d_model"]:
        """Give the next batch of the shard, or the first one of the next shard."""
        size = self.settings.batch_tokens
        if self._shard is not None and (self._given + 1) * size > len(self._shard):
            self._epoch, self._batch = self._end
            self._given = 0
            self._shard = None
        if self._shard is None:
            self._shard = self._fill()
        self._given += 1
        return self._shard[(self._given - 1) * size : self._given * size]

    def everything(self) -> Iterator[Tokens]:
        """Read every token of the corpus from the model."""
        corpus = Corpus(self.texts, self.settings.rows, self.settings.context)
        return read(self.model, corpus, self.settings.site)

    def state(self) -> dict[str, int]:
        """Say where the stream is: where its shard begins, and batches given of it."""
        return {"epoch": self._epoch, "batch": self._batch, "given": self._given}

    def restore(self, state: dict[str, int]) -> None:
        """Go where `state()` was."""
        self._epoch = state["epoch"]
        self._batch = state["batch"]
        self._given = state["given"]
        self._shard = None

    def _fill(self) -> Float[Tensor, "tok d_model"]:
        """Read the shard that begins here, permute it, and note where the next one begins."""
        wanted = max(self.settings.buffer_tokens, self.settings.batch_tokens)
        parts: list[Tensor] = []
        count = 0
        epoch = self._epoch
        skip = self._batch
        while True:
            before = count
            texts = [self.texts[i] for i in self._split.shuffled(self.settings, epoch)]
            corpus = Corpus(texts, self.settings.rows, self.settings.context)
            for number, batch in enumerate(batches(self.model, corpus)):
                if number < skip:
                    continue
                x = residual_tokens(self.model, batch, self.settings.site).x
                parts.append(x)
                count += len(x)
                if count >= wanted:
                    self._end = (epoch, number + 1)
                    rng = np.random.default_rng([self.settings.seed, 2, self._epoch, self._batch])
                    mixed = torch.from_numpy(rng.permutation(count))
                    return torch.cat(parts)[mixed.to(x.device)]
            if count == before and skip == 0:
                raise BadInput(
                    "The texts hold no token beyond the first of each: nothing to train on. Give"
                    " longer texts."
                )
            epoch, skip = epoch + 1, 0

    def _held_out(self) -> Float[Tensor, "tok d_model"]:
        """Read residuals of the held-out texts, enough for the evaluations on the way."""
        parts: list[Tensor] = []
        count = 0
        corpus = Corpus(self.held_out_texts, self.settings.rows, self.settings.context)
        for tokens in read(self.model, corpus, self.settings.site):
            parts.append(tokens.x)
            count += len(tokens.x)
            if count >= HELD_OUT_TOKENS:
                break
        if count == 0:
            raise BadInput(
                "The held-out documents hold no token beyond the first of each. Give more or longer"
                " texts."
            )
        return torch.cat(parts)[:HELD_OUT_TOKENS]
