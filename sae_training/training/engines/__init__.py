"""Training engines: what turns a batch of residuals into a better SAE.

An engine is one module with one class, registered under its name; `train.py` feeds it, evaluates
it, saves it. Both engines see the same batches, use the same learning-rate schedule and give the
same loss (a test says so):

- `fused`: TopK and BatchTopK, hand-written gradient, several times faster;
- `sae-lens`: every architecture sae-lens trains on a residual stream.
"""

from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from sae_training.dictionary.sae import SAE
from sae_training.training.config import TrainingSettings


class Engine(Protocol):
    """One optimisation of one SAE."""

    def __init__(self, config: TrainingSettings, d_model: int, device: torch.device) -> None: ...

    def begin(self, x: Float[Tensor, "tok d_model"]) -> None:
        """Set the decoder bias to the mean of the first tokens; once, before the first step."""

    def step(self, x: Float[Tensor, "tok d_model"]) -> dict[str, float]:
        """One optimiser step; what it reports: loss [squared residual units a token], l0,
        dead_share.
        """

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on: tensors, and numbers that JSON can hold."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`; the next step gives the same bits as if nothing had happened."""

    def export(self) -> SAE:
        """The SAE as it is now, for inference, without metadata."""
