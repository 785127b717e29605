"""The triton engine: the fused engine's step on one NVIDIA GPU, with products of bfloat16.

1. Decoder directions, scaled encoder, centred residuals and the error are rounded to bfloat16; they
   are multiplied with float32 sums. Parameters, moments, pre-activations and kept activations stay
   float32.
2. One dense product gives the pre-activations; `triton_kernels.py` selects, decodes, and makes the
   weight gradients from the kept pairs alone.
3. An activation v scales with its direction's length and its encoder's alike. So with g its
   gradient, the sum of g v over a feature's tokens is its direction's gradient along itself, and,
   over the decoder's norm n, the norm's gradient. With raw gradients G of the directions and H of
   the scaled encoder the gradient's norm is then the root of the sums of |G|^2 / n^2 and n^2 |H|^2,
   and clipping costs no pass over the weights. Features with an auxiliary loss take the long way.
4. One pass over the weights takes the chain rule, Adam's step, and prepares the next step's
   operands.

The loss is the fused engine's; weights differ by the rounding. Left out: processors (the `fused`
engine), several devices.
"""

import importlib.util
import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.registry import register
from sae_training.training.config import TrainingSettings
from sae_training.training.schedule import learning_rate
from sae_training.training.topk import (
    CLIP,
    DeadFeatures,
    KeptActivations,
    ToNorms,
    TopKTraining,
    WeightGradients,
)

BETAS = (0.9, 0.999)
"""Adam's decay of its moments; the kernels hold the same."""


class _Forward(NamedTuple):
    """What a step has computed before it goes back."""

    pre: Float[Tensor, "tok feat"]
    """Pre-activations, without the encoder's bias."""
    error: Float[Tensor, "tok d_model"]
    """Gradient of the reconstruction."""
    centred: Float[Tensor, "tok d_model"]
    """Residuals less the decoder bias."""


@register("engines", "triton")
class Triton(TopKTraining):
    """TopK and BatchTopK on an NVIDIA GPU, with products of bfloat16 and sums of float32."""

    products = torch.bfloat16
    """Format of what is multiplied."""

    def __init__(self, settings: TrainingSettings, d_model: int, device: torch.device) -> None:
        """Draw the first weights.

        Raises BadInput for an architecture of another engine, for another device than an NVIDIA
        GPU, and where Triton is not installed.
        """
        if device.type != "cuda" or importlib.util.find_spec("triton") is None:
            raise BadInput(
                f"The triton engine needs an NVIDIA GPU and Triton, got the device {device.type}."
                " Take --engine fused."
            )
        super().__init__(settings, d_model, device)
        self._prepare(self.dec.norm(dim=1))

    def _prepare(self, norms: Float[Tensor, " feat"]) -> None:
        """Make the operands of the first step, and room for what every step writes."""
        from sae_training.training import triton_kernels as kernels

        features, d_model = self.dec.shape
        self._operands = kernels.Prepared(
            norms=norms,
            directions=(self.dec / norms[:, None]).to(self.products),
            encoder=(self.enc * norms[:, None]).to(self.products),
            offset=self.b_enc * norms,
        )
        self._raw = kernels.RawGradients.empty(features, d_model, norms.device)
        self._pre = torch.empty(0, features, device=norms.device)
        self._any_dead = bool(self.dead().any())

    def largest(self, pre: Float[Tensor, "tok feat"], k: int) -> KeptActivations:
        """Choose the k largest of each token, its bias added."""
        from sae_training.training import triton_kernels as kernels

        return KeptActivations(*kernels.select(pre, self._operands.offset, k))

    @torch.no_grad()
    def step(self, x: Float[Tensor, "tok d_model"]) -> dict[str, float]:
        """Take one optimiser step, and report loss, l0 and dead_share."""
        from sae_training.training import triton_kernels as kernels

        operands, raw = self._operands, self._raw
        centred = (x - self.b_dec).to(self.products)
        pre = self._pre_activations(centred)
        kept = self.keep(pre)
        decoded = kernels.decode(kept, operands.directions, self.b_dec, x, 2 / len(x))
        kernels.gradients(kept, decoded, centred, raw)
        area = operands.norms.square()
        squares = raw.squares.sum(1)
        weighted = squares[:, 0] / area + (squares[:, 1] + raw.bias.square()) * area
        through = ToNorms(raw.scale.clone(), raw.scale / operands.norms)
        revived = 0.0
        if self.settings.aux > 0 and self._any_dead:
            revived = self._revive_dead(_Forward(pre, decoded.error, centred), through, weighted)
        g_b_dec = decoded.error.sum(0) - (raw.bias.to(self.products) @ operands.encoder)
        norm = (weighted.sum() + g_b_dec.square().sum()).sqrt()
        self._optimise((CLIP / (norm + 1e-6)).clamp(max=1.0), through, g_b_dec)
        return self._report(kept, decoded.losses, revived)

    def _pre_activations(self, centred: Float[Tensor, "tok d_model"]) -> Float[Tensor, "tok feat"]:
        """Multiply with the encoder, without its bias; the sums are float32."""
        if len(self._pre) < len(centred):
            self._pre = torch.empty(len(centred), len(self.silent), device=centred.device)
        pre = self._pre[: len(centred)]
        if self.products is torch.float32:
            return torch.mm(centred, self._operands.encoder.T, out=pre)
        return torch.mm(centred, self._operands.encoder.T, out_dtype=torch.float32, out=pre)

    def _revive_dead(
        self, forward: _Forward, through: ToNorms, weighted: Float[Tensor, " feat"]
    ) -> float:
        """Add the auxiliary loss of dead features, and mend what was taken from the pairs alone."""
        operands, raw = self._operands, self._raw
        index = self.dead().nonzero()[:, 0]
        silent = DeadFeatures(
            features=index,
            pre=forward.pre[:, index] + operands.offset[index],
            directions=operands.directions[index].float(),
        )
        unwritten = index[~raw.active[index]]
        raw.directions[unwritten] = 0
        raw.encoder[unwritten] = 0
        raw.active[index] = True
        gradients = WeightGradients(raw.directions, raw.encoder, raw.bias)
        loss = self.revive(silent, forward.error, forward.centred.float(), gradients)
        norms = operands.norms[index]
        to_directions, to_encoder = raw.directions[index], raw.encoder[index]
        inward = (to_directions * silent.directions).sum(1)
        to_norm = (to_encoder * self.enc[index]).sum(1) + raw.bias[index] * self.b_enc[index]
        through.inward[index] = inward
        through.norm[index] = to_norm
        weighted[index] = (
            (to_directions.square().sum(1) - inward.square()) / norms.square()
            + to_norm.square()
            + (to_encoder.square().sum(1) + raw.bias[index].square()) * norms.square()
        )
        return loss

    def _optimise(
        self, shrink: Float[Tensor, ""], through: ToNorms, g_b_dec: Float[Tensor, " d_model"]
    ) -> None:
        """Take Adam's step of every parameter."""
        from sae_training.training import triton_kernels as kernels

        lr = learning_rate(self.settings, self.step_number)
        moments = []
        for parameter in (self.enc, self.dec, self.b_enc):
            parameter.grad = None
            state = self.optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] += 1
            moments.append(kernels.Weights(parameter, state["exp_avg"], state["exp_avg_sq"]))
        enc, dec, b_enc = moments
        taken = self.step_number + 1
        rate = kernels.Rate(shrink, lr / (1 - BETAS[0] ** taken), math.sqrt(1 - BETAS[1] ** taken))
        kernels.update((enc, dec, b_enc), self._raw, through, self._operands, rate)
        self.b_dec.grad = g_b_dec * shrink
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.step_number = taken

    def _report(
        self, kept: KeptActivations, losses: Float[Tensor, " tok"], revived: float
    ) -> dict[str, float]:
        """Count silence, and read the step's figures from the device at once."""
        active = kept.value > 0
        self.note_threshold(kept)
        fired = torch.zeros(len(self.silent) + 1, dtype=torch.bool, device=losses.device)
        fired[torch.where(active, kept.feature, len(self.silent)).long()] = True
        self.silent.add_(1).masked_fill_(fired[:-1], 0)
        figures = torch.stack(
            [losses.mean(), active.sum() / len(losses), self.dead().float().mean()]
        )
        loss, l0, dead = figures.tolist()
        self._any_dead = dead > 0
        return {"loss": loss + revived, "l0": l0, "dead_share": dead}

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on, the decoder's norms to the last bit among it."""
        return super().state() | {"norms": self._operands.norms}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        super().restore(state)
        self._prepare(state["norms"].to(self.dec.device, copy=True))
