"""The fused engine: TopK and BatchTopK SAEs by a hand-written gradient.

The loss is sae-lens': squared error summed over the residual and averaged over tokens, plus the
auxiliary loss of Gao et al. (2024, arXiv:2406.04093, appendix A.2) on dead features; activations
are ranked by their size in the residual (pre-activation x decoder norm); gradients are clipped to
norm 1; Adam. BatchTopK: Bussmann et al. (2024, arXiv:2412.06410). One step:

1. Unit decoder rows D = W / n and the encoder scaled by the norms n; pre-activations in one `addmm`
   into a kept buffer.
2. The k largest of each row (`kernels.select`, or `torch.topk`), never sorted, never scattered into
   a dense matrix. BatchTopK: the `CAP` k largest of each row, then the k x rows largest of those:
   exact as long as no row is cut off by its cap, which is checked; if one is, the cap is doubled.
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
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from feature_store.registry import register
from sae_training.dictionary.sae import SAE
from sae_training.training.config import TrainingSettings
from sae_training.training.engines import refuse_architecture
from sae_training.training.schedule import dead_after, learning_rate

CAP = 3
"""Of BatchTopK: activations looked at per token, as a multiple of k."""
THRESHOLD_RATE = 0.1
"""Of BatchTopK: weight of the newest batch in the running inference threshold."""
CLIP = 1.0
"""Largest norm of the gradient."""


class KeptActivations(NamedTuple):
    """The activations that are kept of each token."""

    feature: Int[Tensor, "tok k"]
    """0-based features."""
    value: Float[Tensor, "tok k"]
    """Their activations [residual units]; 0: not active."""


class Gradients(NamedTuple):
    """Gradient of the loss for every parameter."""

    enc: Float[Tensor, "feat d_model"]
    dec: Float[Tensor, "feat d_model"]
    b_enc: Float[Tensor, " feat"]
    b_dec: Float[Tensor, " d_model"]


class _Forward(NamedTuple):
    """What a step has computed before it goes back."""

    pre: Float[Tensor, "tok feat"]
    """Pre-activations."""
    directions: Float[Tensor, "feat d_model"]
    """Unit direction of each feature."""
    centred: Float[Tensor, "tok d_model"]
    """Residuals less the decoder bias."""
    error: Float[Tensor, "tok d_model"]
    """Gradient of the reconstruction."""


class _WeightGradients(NamedTuple):
    """Gradients before the chain rule through the decoder's norms."""

    directions: Float[Tensor, "feat d_model"]
    """Of the unit directions."""
    encoder: Float[Tensor, "feat d_model"]
    """Of the encoder scaled by the norms."""
    bias: Float[Tensor, " feat"]
    """Of its bias."""


@register("engines", "fused")
class Fused:
    """TopK and BatchTopK by a hand-written gradient; several times faster than autograd."""

    architectures = ("topk", "batchtopk")

    def __init__(self, settings: TrainingSettings, d_model: int, device: torch.device) -> None:
        """Draw the first weights. Raises BadInput for an architecture of the other engine."""
        refuse_architecture(settings)
        self.settings = settings
        self.step_number = 0
        directions = torch.randn(
            settings.n_features, d_model, generator=torch.Generator().manual_seed(settings.seed)
        )
        self.dec = functional.normalize(directions, dim=1).to(device)
        self.enc = self.dec.clone()
        self.b_enc = torch.zeros(settings.n_features, device=device)
        self.b_dec = torch.zeros(d_model, device=device)
        self.silent = torch.zeros(settings.n_features, dtype=torch.int64, device=device)
        self.threshold = 0.0
        parameters = [self.enc, self.dec, self.b_enc, self.b_dec]
        self.optimizer = torch.optim.Adam(parameters, lr=settings.lr, fused=True)
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._pre = torch.empty(0, settings.n_features, device=device)
        self._compiled = device.type == "cpu" and _numba()

    def begin(self, x: Float[Tensor, "tok d_model"]) -> None:
        """Set the decoder bias to the mean of the first tokens."""
        self.b_dec.copy_(x.mean(0))

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
        if self.settings.architecture == "batchtopk" and bool(active.any()):
            smallest = float(kept.value[active].min())
            self.threshold += THRESHOLD_RATE * (smallest - self.threshold)
        fired = torch.zeros(len(self.silent), dtype=torch.bool, device=x.device)
        fired[kept.feature[active].long()] = True
        self.silent.add_(1).masked_fill_(fired, 0)
        return {
            "loss": loss,
            "l0": float(active.sum()) / len(x),
            "dead_share": float((self.silent > dead_after(self.settings)).float().mean()),
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
        dead = self.silent > dead_after(self.settings)
        kept = self._keep(pre)
        error, along, loss = self._decode(kept, directions, x)
        forward = _Forward(pre=pre, directions=directions, centred=x - self.b_dec, error=error)
        weights = self._weight_gradients(kept, along, error, forward.centred)
        g_b_dec = error.sum(0) - weights.bias @ encoder
        if self.settings.aux > 0 and bool(dead.any()):
            loss += self._revive(dead, forward, weights)
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

    def _keep(self, pre: Float[Tensor, "tok feat"]) -> KeptActivations:
        """Choose the activations that are kept, of each token or of the batch."""
        k = self.settings.k
        if self.settings.architecture == "topk":
            return self._largest(pre, k)
        cap = min(CAP * k, pre.shape[1])
        while True:
            kept = self._largest(pre, cap)
            bound = kept.value.flatten().topk(k * len(pre), sorted=False).values.min()
            active = kept.value >= bound
            if cap == pre.shape[1] or not bool((active & (kept.value > 0)).all(1).any()):
                return KeptActivations(kept.feature, kept.value * active)
            cap = min(2 * cap, pre.shape[1])

    def _largest(self, pre: Float[Tensor, "tok feat"], k: int) -> KeptActivations:
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
    ) -> _WeightGradients:
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
            return _WeightGradients(by_value @ error, by_gradient @ centred, bias)

    def _revive(self, dead: Tensor, forward: _Forward, gradients: _WeightGradients) -> float:
        """Let the strongest dead features reconstruct what the living ones left over.

        Adds the gradients of this auxiliary loss, and gives the loss.
        """
        pre, directions, centred, error = forward
        index = dead.nonzero()[:, 0]
        residual = error * (-len(error) / 2)
        k = centred.shape[1] // 2
        scale = self.settings.aux * min(len(index) / k, 1.0)
        dead_pre = pre[:, index]
        value, place = dead_pre.topk(min(k, len(index)), dim=1, sorted=False)
        chosen = torch.zeros_like(dead_pre).scatter_(1, place, value)
        left = chosen @ directions[index] - residual
        gradient = left * (2 * scale / len(left))
        along = (gradient @ directions[index].T).gather(1, place)
        back = torch.zeros_like(dead_pre).scatter_(1, place, along)
        gradients.directions.index_add_(0, index, chosen.T @ gradient)
        gradients.encoder.index_add_(0, index, back.T @ centred)
        gradients.bias.index_add_(0, index, back.sum(0))
        return scale * float(left.square().sum()) / len(left)

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on: parameters, Adam's moments, silence, threshold."""
        moments: dict[str, Any] = {}
        for name, parameter in (
            ("enc", self.enc),
            ("dec", self.dec),
            ("b_enc", self.b_enc),
            ("b_dec", self.b_dec),
        ):
            moments |= {
                f"adam.{name}.{key}": value
                for key, value in self.optimizer.state.get(parameter, {}).items()
            }
        return {
            "enc": self.enc,
            "dec": self.dec,
            "b_enc": self.b_enc,
            "b_dec": self.b_dec,
            "silent": self.silent,
            "step": self.step_number,
            "threshold": self.threshold,
            **moments,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        for name in ("enc", "dec", "b_enc", "b_dec", "silent"):
            parameter = getattr(self, name)
            parameter.copy_(state[name])
            prefix = f"adam.{name}."
            moments = {
                key[len(prefix) :]: value.clone()
                for key, value in state.items()
                if key.startswith(prefix)
            }
            if moments:
                self.optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device)
                    for key, value in moments.items()
                }
        self.step_number = state["step"]
        self.threshold = state["threshold"]

    def export(self) -> SAE:
        """Make the SAE for inference: unit decoder rows, BatchTopK as JumpReLU."""
        norm = self.dec.norm(dim=1)
        tensors = {
            "W_enc": (self.enc * norm[:, None]).T.contiguous(),
            "W_dec": self.dec / norm[:, None],
            "b_enc": self.b_enc * norm,
            "b_dec": self.b_dec.clone(),
        }
        if self.settings.architecture == "topk":
            return SAE(**tensors, architecture="topk", k=self.settings.k)
        # The running mean starts at 0: without this correction a short training would let too many
        # features through
        bound = self.threshold / max(1 - (1 - THRESHOLD_RATE) ** self.step_number, 1e-8)
        return SAE(**tensors, architecture="jumprelu", threshold=torch.full_like(norm, bound))


def _numba() -> bool:
    """Say whether numba is installed."""
    return importlib.util.find_spec("numba") is not None
