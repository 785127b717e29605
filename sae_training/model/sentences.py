"""A sentence encoder: the mean of a small transformer's last states, at length one.

It reads a folder of the kind that sentence-transformers writes (a model with its tokenizer), or a
named model that was fetched (`minilm`). Left out: other ways to pool, and prompts before a text.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput, NotFound
from sae_training.model import catalogue

ROWS = 64
"""Texts that go through together."""


class SentenceEncoder:
    """A map of texts into one space, in which the cosine says how alike they are."""

    def __init__(self, address: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = catalogue.place(address, "embedder")
        if not (Path(folder) / "config.json").is_file():
            raise NotFound(
                f"There is no sentence encoder in {folder!r}. Give its folder, or minilm."
            )
        self.name = f"encoder {Path(address).name}"
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{folder} cannot be loaded as a sentence encoder: {str(error).splitlines()[0]}"
            ) from None

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Embed texts: a row of length one for each."""
        import torch

        rows = []
        longest = min(self._tokenizer.model_max_length, 512)
        for start in range(0, len(texts), ROWS):
            batch = self._tokenizer(
                list(texts[start : start + ROWS]),
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
            with torch.no_grad():
                states = self._model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            pooled = (states * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(pooled, dim=-1).double().numpy())
        return np.concatenate(rows)
