"""Training engines: what turns a batch of residuals into a better SAE.

An engine is one module with one class, registered under its name; `train.py` feeds it, evaluates it, saves it.
Both engines see the same batches, use the same learning-rate schedule and give the same loss (a test says so):

- `fused`: TopK and BatchTopK, hand-written gradient, several times faster;
- `sae-lens`: every architecture sae-lens trains on a residual stream.
"""

from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from sae_training.dictionary.sae import SAE

if TYPE_CHECKING:
    from sae_training.training.train import TrainConfig

DECAY = 0.2
"""Share of the steps at the end over which the learning rate falls to `lr_end`, linearly."""


class Engine(Protocol):
    """One optimisation of one SAE."""

    def __init__(self, config: "TrainConfig", d_model: int, device: torch.device) -> None: ...

    def begin(self, x: Float[Tensor, "tok d_model"]) -> None:
        """Set the decoder bias to the mean of the first tokens; once, before the first step."""

    def step(self, x: Float[Tensor, "tok d_model"]) -> dict[str, float]:
        """One optimiser step; what it reports: loss [squared residual units a token], l0, dead_share."""

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on: tensors, and numbers that JSON can hold."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`; the next step gives the same bits as if nothing had happened."""

    def export(self) -> SAE:
        """The SAE as it is now, for inference, without metadata."""


def steps(config: "TrainConfig") -> int:
    """Optimiser steps of the whole training."""
    return max(1, config.tokens // config.batch_tokens)


def learning_rate(config: "TrainConfig", step: int) -> float:
    """Learning rate of a 0-based step: linear warm-up, constant, linear decay."""
    total = steps(config)
    fall = max(1, int(total * DECAY))
    rate = config.lr * min(1.0, (step + 1) / max(1, config.warmup))
    late = max(0.0, (step - (total - fall) + 1) / fall)
    return rate + (config.lr_end - rate) * late if late else rate


def dead_after(config: "TrainConfig") -> int:
    """Steps without firing after which a feature counts as dead."""
    return max(1, config.dead_tokens // config.batch_tokens)
