"""Training engines: what turns a batch of residuals into a better SAE.

An engine is one module with one class, registered under its name; `train.py` feeds it, evaluates
it, saves it. All engines see the same batches, use the same learning-rate schedule and give the
same loss (tests say so):

- `fused`: TopK and BatchTopK, hand-written gradient, several times faster;
- `triton`: the same step on an NVIDIA GPU, compiled, with products of bfloat16;
- `sae-lens`: every architecture sae-lens trains on a residual stream.
"""

from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store import registry
from feature_store.errors import BadInput, nearest
from feature_store.files import shown
from feature_store.registry import Registry
from sae_training.dictionary.sae import SAE
from sae_training.training.config import DictionarySettings, TrainingSettings


@runtime_checkable
class Engine(Protocol):
    """One optimisation of one SAE.

    For example:

        engine = ENGINES[settings.engine](settings, model.d_model, device)
        engine.begin(x)
        metrics = engine.step(x)
    """

    architectures: ClassVar[tuple[str, ...]]
    """Architectures that it trains."""

    def __init__(self, settings: TrainingSettings, d_model: int, device: torch.device) -> None:
        """Make the first weights, drawn from the settings' seed."""

    def begin(self, x: Float[Tensor, "tok d_model"]) -> None:
        """Set the decoder bias to the mean of the first tokens; once, before the first step."""

    def step(self, x: Float[Tensor, "tok d_model"]) -> dict[str, float]:
        """Take one optimiser step, and report on the batch before it.

        The keys are loss [squared residual units a token], l0 and dead_share.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on: tensors, and numbers that JSON can hold."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`; the next step gives the same bits as if nothing had happened."""

    def export(self) -> SAE:
        """Make the SAE as it is now, for inference, without metadata."""
        ...


ENGINES: Registry[type[Engine]] = registry.of("engines")


def refuse_architecture(settings: DictionarySettings) -> None:
    """Raise BadInput for an architecture that the engine does not train, before it has work."""
    known = ENGINES[settings.engine].architectures
    if settings.architecture not in known:
        hint = nearest(settings.architecture, known)
        if settings.engine == "fused" and not hint:
            hint = " The engine sae-lens trains more."
        raise BadInput(
            f"The {settings.engine} engine trains {', '.join(known)}; got"
            f" {shown(settings.architecture)}.{hint}"
        )
