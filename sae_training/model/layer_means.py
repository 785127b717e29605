"""The mean residual of each text at many layers, in one forward pass, and how long residuals are.

1. Texts are padded on the right to the longest of their batch; one hook a layer averages over the
   tokens but the first one, which is a sink in most models and never steered.
2. The norms of those tokens are kept as one number a text and layer, their median; the median over
   texts is the layer's.

Left out: texts longer than the model reads; they lose their end.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.progress import StageProgress
from sae_training.model.runtime import Runtime


class LayerMeans(NamedTuple):
    """What texts look like at layers."""

    mean: Float[Tensor, "text layer d_model"]
    """Mean residual over a text's tokens but the first [residual units]."""
    norm: Float[Tensor, " layer"]
    """Median length of a token's residual, over the texts' medians [residual units]."""


def layer_means(
    model: Runtime,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    rows: int = 32,
    progress: StageProgress | None = None,
    start: int = 1,
) -> LayerMeans:
    """Average what layers write over the tokens of each text, in double precision on the CPU.

    Texts are token ids of two tokens or more, `layers` are 0-based and read at resid_post; `rows`
    texts go through together. The first `start` tokens of each text are read over.

        layer_means(model, model.tokenize(texts), [3, 7]).mean  # [text, 2, d_model]
    """
    cut = [list(ids)[: model.context] for ids in texts]
    if short := [number for number, ids in enumerate(cut, 1) if len(ids) <= start]:
        raise BadInput(
            f"Text {short[0]} has fewer than {start + 1} tokens. Drop it, or write more of it."
        )
    mean = torch.empty(len(cut), len(layers), model.d_model, dtype=torch.float64)
    norm = torch.empty(len(cut), len(layers), dtype=torch.float64)
    for first in range(0, len(cut), rows):
        batch = cut[first : first + rows]
        lengths = [len(row) for row in batch]
        width = max(lengths)
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in batch])
        mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in batch])
        with model.lock, ExitStack() as hooks:
            for column, layer in enumerate(layers):

                def keep(
                    hidden: Tensor,
                    column: int = column,
                    first: int = first,
                    lengths: Sequence[int] = lengths,
                ) -> Tensor:
                    """Average the texts of the batch into their place."""
                    for row, length in enumerate(lengths):
                        tokens = hidden[row, start:length].double().cpu()
                        mean[first + row, column] = tokens.mean(0)
                        norm[first + row, column] = tokens.norm(dim=-1).median()
                    return hidden

                hooks.enter_context(model.hooked(layer + 1, keep))
            model.forward(ids, mask, slice(first, first + len(batch)), logits_to_keep=1)
        if progress:
            progress(min(first + rows, len(cut)), len(cut))
    return LayerMeans(mean, norm.median(0).values)
