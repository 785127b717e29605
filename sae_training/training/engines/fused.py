"""The fused engine: TopK and BatchTopK SAEs by a hand-written gradient.

The loss is sae-lens': squared error summed over the residual and averaged over tokens, plus the
auxiliary loss of Gao et al. (2024, arXiv:2406.04093, appendix A.2) on dead features; activations
are ranked by their size in the residual (pre-activation x decoder norm); gradients are clipped to
norm 1; Adam. BatchTopK: Bussmann et al. (2024, arXiv:2412.06410). One step:

1. Unit decoder rows D = W / n and the encoder scaled by the norms n; pre-activations in one `addmm`
   into a kept buffer.
2. The k largest of each row (`kernels.select`, or `torch.topk`), never sorted, never scattered into
   a dense matrix; `topk.py` makes BatchTopK of them.
3. Decode from the kept pairs; the error's product with their directions is the gradient of the kept
   activations.
4. Both weight gradients are one sparse [feature, token] x dense [token, d_model] product each.
5. The chain rule back to W and its norm, then clipping and Adam.

On a CPU steps 2-4 run in numba; elsewhere, or without numba, in torch: the numbers are the same up
to rounding. Left out: mixed precision, several devices, other architectures (the `sae-lens` engine
has them).
"""

import importlib.util
import warnings
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from feature_store.registry import register
from sae_training.training.config import TrainingSettings
from sae_training.training.schedule import learning_rate
from sae_training.training.topk import (
    CLIP,
    DeadFeatures,
    KeptActivations,
    TopKTraining,
    WeightGradients,
)


class Gradients(NamedTuple):
    """Gradient of the loss for every parameter."""

    enc: Float[Tensor, "feat d_model"]
    dec: Float[Tensor, "feat d_model"]
    b_enc: Float[Tensor, " feat"]
    b_dec: Float[Tensor, " d_model"]


@register("engines", "fused")
class Fused(TopKTraining):
    """TopK and BatchTopK by a hand-written gradient; several times faster than autograd."""

    def __init__(self, settings: TrainingSettings, d_model: int, device: torch.device) -> None:
        """Draw the first weights. Raises BadInput for an architecture of the other engine."""
        super().__init__(settings, d_model, device)
        self._pre = torch.empty(0, settings.n_features, device=device)
        self._compiled = device.type == "cpu" and _numba()

    @torch.no_grad()
    def step(self, x: Float[Tensor, "tok d_model"]) -> dict[str, float]:
        """Take one optimiser step, and report loss, l0 and dead_share."""
        loss, kept, gradients = self.gradients(x)
        for parameter, gradient in zip(
            (self.enc, self.dec, self.b_enc, self.b_dec), gradients, strict=True
        ):
            parameter.grad = gradient
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        shrink = (CLIP / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(shrink)
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.settings, self.step_number)
        self.optimizer.step()
        self.step_number += 1
        active = kept.value > 0
        self.note_threshold(kept)
        fired = torch.zeros(len(self.silent), dtype=torch.bool, device=x.device)
        fired[kept.feature[active].long()] = True
        self.silent.add_(1).masked_fill_(fired, 0)
        return {
            "loss": loss,
            "l0": float(active.sum()) / len(x),
            "dead_share": float(self.dead().float().mean()),
        }

    def gradients(
        self, x: Float[Tensor, "tok d_model"]
    ) -> tuple[float, KeptActivations, Gradients]:
        """Compute loss, kept activations and the gradient of the loss for every parameter."""
        norm = self.dec.norm(dim=1)
        directions = self.dec / norm[:, None]
        encoder = self.enc * norm[:, None]
        if len(self._pre) < len(x):
            self._pre = torch.empty(len(x), len(norm), device=x.device)
        pre = self._pre[: len(x)]
        torch.addmm(self.b_enc * norm - encoder @ self.b_dec, x, encoder.T, out=pre)
        dead = self.dead()
        kept = self.keep(pre)
        error, along, loss = self._decode(kept, directions, x)
        centred = x - self.b_dec
        weights = self._weight_gradients(kept, along, error, centred)
        g_b_dec = error.sum(0) - weights.bias @ encoder
        if self.settings.aux > 0 and bool(dead.any()):
            index = dead.nonzero()[:, 0]
            silent = DeadFeatures(index, pre[:, index], directions[index])
            loss += self.revive(silent, error, centred, weights)
            g_b_dec = error.sum(0) - weights.bias @ encoder
        g_norm = (weights.encoder * self.enc).sum(1) + weights.bias * self.b_enc
        inward = (weights.directions * directions).sum(1)
        across = (weights.directions - directions * inward[:, None]) / norm[:, None]
        gradients = Gradients(
            enc=weights.encoder * norm[:, None],
            dec=across + g_norm[:, None] * directions,
            b_enc=weights.bias * norm,
            b_dec=g_b_dec,
        )
        return loss, kept, gradients

    def largest(self, pre: Float[Tensor, "tok feat"], k: int) -> KeptActivations:
        """Choose the k largest of each token."""
        if not self._compiled:
            value, index = pre.topk(k, dim=1, sorted=False)
            return KeptActivations(index, value.relu())
        from sae_training.training import kernels

        index = torch.empty(len(pre), k, dtype=torch.int32)
        value = torch.empty(len(pre), k)
        kernels.select(pre.numpy(), k, index.numpy(), value.numpy())
        return KeptActivations(index, value)

    def _decode(
        self,
        kept: KeptActivations,
        directions: Float[Tensor, "feat d_model"],
        x: Float[Tensor, "tok d_model"],
    ) -> tuple[Float[Tensor, "tok d_model"], Float[Tensor, "tok k"], float]:
        """Reconstruct, and go back to the kept activations.

        Gives the gradient of the reconstruction, that of each kept activation, and the mean
        squared error a token.
        """
        scale = 2 / len(x)
        if not self._compiled:
            decoded = functional.embedding_bag(
                kept.feature, directions, per_sample_weights=kept.value, mode="sum"
            )
            error = decoded + self.b_dec - x
            loss = float(error.square().sum()) / len(x)
            error.mul_(scale)
            # The gathered directions of all tokens would not fit.
            rows = max(1, 2**24 // (kept.feature.shape[1] * x.shape[1]))
            along = torch.cat(
                [
                    torch.bmm(directions[index], part[..., None])[..., 0]
                    for index, part in zip(kept.feature.split(rows), error.split(rows), strict=True)
                ]
            )
            return error, along * (kept.value > 0), loss
        from sae_training.training import kernels

        error = torch.empty_like(x)
        along = torch.empty_like(kept.value)
        losses = torch.empty(len(x))
        kernels.decode(
            kernels.KeptArrays(kept.feature.numpy(), kept.value.numpy()),
            kernels.DecoderArrays(directions.numpy(), self.b_dec.numpy()),
            x.numpy(),
            scale,
            kernels.DecodedArrays(error.numpy(), along.numpy(), losses.numpy()),
        )
        return error, along, float(losses.double().mean())

    def _weight_gradients(
        self, kept: KeptActivations, along: Tensor, error: Tensor, centred: Tensor
    ) -> WeightGradients:
        """Compute the gradients of the unit directions, of the scaled encoder and of its bias."""
        features = len(self.silent)
        tokens = len(centred)
        if self._compiled:
            from sae_training.training import kernels

            start = torch.empty(features + 1, dtype=torch.int64)
            token = torch.empty(kept.feature.numel(), dtype=torch.int64)
            value = torch.empty(kept.feature.numel())
            gradient = torch.empty(kept.feature.numel())
            n = kernels.group(
                kernels.KeptArrays(kept.feature.numpy(), kept.value.numpy()),
                along.numpy(),
                kernels.GroupedArrays(
                    start=start.numpy(),
                    row=token.numpy(),
                    value=value.numpy(),
                    gradient=gradient.numpy(),
                ),
            )
            token, value, gradient = token[:n], value[:n], gradient[:n]
        else:
            order = kept.feature.flatten().argsort(stable=True)
            count = torch.bincount(kept.feature.flatten(), minlength=features)
            start = functional.pad(count.cumsum(0), (1, 0))
            token = order // kept.feature.shape[1]
            value = kept.value.flatten()[order]
            gradient = along.flatten()[order]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls its CSR layout a beta
            by_value = torch.sparse_csr_tensor(start, token, value, (features, tokens))
            by_gradient = torch.sparse_csr_tensor(start, token, gradient, (features, tokens))
            bias = (by_gradient @ torch.ones(tokens, 1, device=centred.device))[:, 0]
            return WeightGradients(by_value @ error, by_gradient @ centred, bias)


def _numba() -> bool:
    """Say whether numba is installed."""
    return importlib.util.find_spec("numba") is not None
