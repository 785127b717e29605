"""The paper's assessor: a frozen T5 encoder, attention, mean pooling, and a perceptron with two
heads.

1. A T5 encoder from a local folder reads each text; its weights stay as they are, so its states are
   computed once.
2. One layer of self-attention over the states, the mean over tokens, one hidden layer.
3. Two heads: rate (tanh) and label (sigmoid). Loss: squared error of their product against the
   rating, plus the cross-entropy of the label against whether the value is in the text.

The paper gives no sizes, rates or losses; these are ours. Left out: fine-tuning the encoder,
downloading one. Luo et al. (2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from feature_store.bounds import Count, Seed
from feature_store.errors import BadInput, NotFound
from feature_store.registry import register
from workbench.systems.value_pilot.assessors import PRESENT, Assessment, check


@dataclass(frozen=True)
class T5AssessorSettings:
    """Settings of the assessor that reads texts through a frozen T5 encoder."""

    folder: str = ""
    """Folder of a T5 model with its tokenizer; it must be given."""
    hidden: int = 128
    """Width of the hidden layer."""
    heads: int = 4
    """Heads of the attention; they divide the encoder's width."""
    epochs: int = 30
    """Passes over the texts."""
    rows: Count = 32
    """Texts in one step."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    max_tokens: Count = 128
    """Longer texts are cut [tokens]."""
    seed: Seed = 0
    """Seed of the weights and of the order of texts."""


class Head(nn.Module):
    """The part that is trained: attention, mean over tokens, one hidden layer, rate and label."""

    def __init__(self, width: int, values: int, settings: T5AssessorSettings):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.hidden = nn.Linear(width, settings.hidden)
        self.rate = nn.Linear(settings.hidden, values)
        self.label = nn.Linear(settings.hidden, values)

    def forward(
        self, states: Float[Tensor, "row tok d"], mask: Bool[Tensor, "row tok"]
    ) -> tuple[Float[Tensor, "row value"], Float[Tensor, "row value"]]:
        """Give the rate [-1 to 1] and the label [log-odds] of each row."""
        seen, _ = self.attention(states, states, states, key_padding_mask=~mask, need_weights=False)
        pooled = (seen * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        inner = torch.relu(self.hidden(pooled))
        return torch.tanh(self.rate(inner)), self.label(inner)


@register("assessors", "t5")
class T5Assessor:
    """Frozen T5 encoder, attention, mean pooling, perceptron: rate (tanh) and label (sigmoid)."""

    config = T5AssessorSettings

    @staticmethod
    def fit(
        texts: Sequence[str], ratings: Float[np.ndarray, "text value"], settings: T5AssessorSettings
    ) -> "FittedT5":
        """Train the head; the encoder stays as it is.

        Raises NotFound without a folder that holds one.
        """
        check(texts, ratings)
        tokenizer, encoder = _load(settings.folder)
        if encoder.config.d_model % settings.heads:
            raise BadInput(
                f"The encoder is {encoder.config.d_model} wide, which {settings.heads} heads do not"
                " divide. Choose another number."
            )
        states = [_read(tokenizer, encoder, text, settings.max_tokens) for text in texts]
        target = torch.tensor(ratings, dtype=torch.float32)
        order = np.random.default_rng(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            head = Head(encoder.config.d_model, ratings.shape[1], settings)
        steps = torch.optim.Adam(head.parameters(), lr=settings.learning_rate)
        for _ in range(settings.epochs):
            shuffled = order.permutation(len(texts))
            for start in range(0, len(texts), settings.rows):
                batch = shuffled[start : start + settings.rows]
                rate, odds = head(*_padded([states[i] for i in batch]))
                wanted = target[torch.as_tensor(batch)]
                present = (wanted.abs() > PRESENT).float()
                loss = nn.functional.mse_loss(rate * torch.sigmoid(odds), wanted)
                loss = loss + nn.functional.binary_cross_entropy_with_logits(odds, present)
                steps.zero_grad()
                loss.backward()
                steps.step()
        return FittedT5(tokenizer=tokenizer, encoder=encoder, head=head.eval(), settings=settings)


@dataclass(frozen=True, eq=False)
class FittedT5:
    """A trained head on top of the frozen encoder."""

    tokenizer: Any
    """Tokenizer of the encoder."""
    encoder: nn.Module
    """The frozen encoder."""
    head: Head
    """The trained part."""
    settings: T5AssessorSettings
    """Settings of the fit."""

    def assess(self, texts: Sequence[str]) -> Assessment:
        """Rate texts, some `rows` of them at a time."""
        rates, labels = [], []
        with torch.no_grad():
            for start in range(0, len(texts), self.settings.rows):
                states = [
                    _read(self.tokenizer, self.encoder, text, self.settings.max_tokens)
                    for text in texts[start : start + self.settings.rows]
                ]
                rate, odds = self.head(*_padded(states))
                rates.append(rate.double().numpy())
                labels.append(torch.sigmoid(odds).double().numpy())
        return Assessment(np.concatenate(rates), np.concatenate(labels))


def _load(folder: str) -> tuple[Any, Any]:
    """Load the tokenizer and the encoder of a local T5 model."""
    from transformers import AutoTokenizer, T5EncoderModel

    if not folder or not (Path(folder) / "config.json").is_file():
        raise NotFound(
            "The t5 assessor needs a local folder with a T5 model and its tokenizer, got"
            f" {folder!r}. Give folder=PATH."
        )
    try:
        return (
            AutoTokenizer.from_pretrained(folder, local_files_only=True),
            T5EncoderModel.from_pretrained(folder, local_files_only=True).eval(),
        )
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{folder} cannot be loaded as a T5 encoder: {str(error).splitlines()[0]}"
        ) from None


def _read(tokenizer: Any, encoder: nn.Module, text: str, longest: int) -> Float[Tensor, "tok d"]:
    ids = tokenizer(text, truncation=True, max_length=longest)["input_ids"] or [0]
    with torch.no_grad():
        return encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]


def _padded(
    states: Sequence[Float[Tensor, "_ d"]],
) -> tuple[Float[Tensor, "row tok d"], Bool[Tensor, "row tok"]]:
    lengths = torch.tensor([len(row) for row in states])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    return nn.utils.rnn.pad_sequence(list(states), batch_first=True), mask
