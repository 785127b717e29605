"""The residual at the last token of each text, at many layers in one forward pass.

1. Texts are padded on the right to the longest of their batch; one hook a layer keeps its last real
   token.
2. The pass goes through the model as it is: inside a `steered` block these are the residuals of the
   steered model.

A probe of a whole text reads this token (Jin et al., ACL 2025): in a decoder it alone has seen the
text. Left out: texts that are longer than the model reads; they lose their beginning, because what
is read stands at their end.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.progress import StageProgress
from sae_training.model.runtime import Runtime


def last_residuals(
    model: Runtime,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    rows: int = 32,
    progress: StageProgress | None = None,
) -> Float[Tensor, "text layer d_model"]:
    """Read what layers write at the last token of each text, in double precision on the CPU.

    Texts are token ids, `layers` are 0-based and read at resid_post; `rows` texts go through
    together. Row i of an edit whose `steered` block is open steers text i.

        last_residuals(model, model.tokenize(texts), [3, 7])  # [text, 2, d_model]
    """
    ends = [list(ids)[-model.context :] for ids in texts]
    if empty := [number for number, ids in enumerate(ends, 1) if not ids]:
        raise BadInput(
            f"Text {empty[0]} has no tokens, so it has no last one. Drop it, or give it a word."
        )
    out = torch.empty(len(ends), len(layers), model.d_model, dtype=torch.float64)
    for first in range(0, len(ends), rows):
        batch = ends[first : first + rows]
        width = max(map(len, batch))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in batch])
        mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in batch])
        last = torch.tensor([len(row) - 1 for row in batch])
        with model.lock, ExitStack() as hooks:
            for column, layer in enumerate(layers):

                def keep(
                    hidden: Tensor, column: int = column, first: int = first, last: Tensor = last
                ) -> Tensor:
                    """Copy the last tokens of the batch into their place of `out`."""
                    at = last.to(hidden.device)
                    residuals = hidden[torch.arange(len(at), device=hidden.device), at]
                    out[first : first + len(at), column] = residuals.double().cpu()
                    return hidden

                hooks.enter_context(model.hooked(layer + 1, keep))
            model.forward(ids, mask, slice(first, first + len(batch)), logits_to_keep=1)
        if progress:
            progress(min(first + rows, len(ends)), len(ends))
    return out
