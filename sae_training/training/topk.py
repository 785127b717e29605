"""What the hand-written engines share: weights, which activations are kept, dead features, state.

1. `TopKTraining` draws the first weights and holds Adam's moments, the steps for which each feature
   was silent, and BatchTopK's running threshold.
2. `keep` chooses the activations of a batch. TopK: the k largest of each token. BatchTopK: the
   `CAP` k largest of each token, then the k x tokens largest of those: exact as long as no token is
   cut off by its cap, which is checked; if one is, the cap is doubled.
3. `revive` is the auxiliary loss on dead features (Gao et al. 2024, arXiv:2406.04093, appendix
   A.2).
4. `state` and `restore` are everything that the next step depends on; `export` is the SAE.

Left out: the arithmetic of a step, which is each engine's.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sae_training.dictionary.sae import SAE
from sae_training.training.config import TrainingSettings
from sae_training.training.engines import refuse_architecture
from sae_training.training.schedule import dead_after

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


class DeadFeatures(NamedTuple):
    """The features that were silent too long, and what they would say."""

    features: Int[Tensor, " dead"]
    """0-based features."""
    pre: Float[Tensor, "tok dead"]
    """Their pre-activations."""
    directions: Float[Tensor, "dead d_model"]
    """Their unit directions."""


class WeightGradients(NamedTuple):
    """Gradients before the chain rule through the decoder's norms."""

    directions: Float[Tensor, "feat d_model"]
    """Of the unit directions."""
    encoder: Float[Tensor, "feat d_model"]
    """Of the encoder scaled by the norms."""
    bias: Float[Tensor, " feat"]
    """Of its bias."""


class ToNorms(NamedTuple):
    """What the chain rule through a decoder row's norm takes."""

    inward: Float[Tensor, " feat"]
    """The direction's gradient along the direction itself."""
    norm: Float[Tensor, " feat"]
    """Gradient of the norm."""


class TopKTraining:
    """The weights of a TopK or BatchTopK SAE in training."""

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

    def begin(self, x: Float[Tensor, "tok d_model"]) -> None:
        """Set the decoder bias to the mean of the first tokens."""
        self.b_dec.copy_(x.mean(0))

    def largest(self, pre: Float[Tensor, "tok feat"], k: int) -> KeptActivations:
        """Choose the k largest of each token."""
        raise NotImplementedError

    def keep(self, pre: Float[Tensor, "tok feat"]) -> KeptActivations:
        """Choose the activations that are kept, of each token or of the batch."""
        k = self.settings.k
        if self.settings.architecture == "topk":
            return self.largest(pre, k)
        cap = min(CAP * k, pre.shape[1])
        while True:
            kept = self.largest(pre, cap)
            bound = kept.value.flatten().topk(k * len(pre), sorted=False).values.min()
            active = kept.value >= bound
            if cap == pre.shape[1] or not bool((active & (kept.value > 0)).all(1).any()):
                return KeptActivations(kept.feature, kept.value * active)
            cap = min(2 * cap, pre.shape[1])

    def revive(
        self,
        dead: DeadFeatures,
        error: Float[Tensor, "tok d_model"],
        centred: Float[Tensor, "tok d_model"],
        gradients: WeightGradients,
    ) -> float:
        """Let the strongest dead features reconstruct what the living ones left over.

        `error` is the gradient of the reconstruction. Adds the gradients of this auxiliary loss,
        and gives the loss.
        """
        residual = error * (-len(error) / 2)
        k = centred.shape[1] // 2
        scale = self.settings.aux * min(len(dead.features) / k, 1.0)
        value, place = dead.pre.topk(min(k, len(dead.features)), dim=1, sorted=False)
        chosen = torch.zeros_like(dead.pre).scatter_(1, place, value)
        left = chosen @ dead.directions - residual
        gradient = left * (2 * scale / len(left))
        along = (gradient @ dead.directions.T).gather(1, place)
        back = torch.zeros_like(dead.pre).scatter_(1, place, along)
        gradients.directions.index_add_(0, dead.features, chosen.T @ gradient)
        gradients.encoder.index_add_(0, dead.features, back.T @ centred)
        gradients.bias.index_add_(0, dead.features, back.sum(0))
        return scale * float(left.square().sum()) / len(left)

    def dead(self) -> Bool[Tensor, " feat"]:
        """Say which features have been silent too long."""
        return self.silent > dead_after(self.settings)

    def note_threshold(self, kept: KeptActivations) -> None:
        """Move BatchTopK's running threshold towards the smallest activation of a batch."""
        active = kept.value > 0
        if self.settings.architecture == "batchtopk" and bool(active.any()):
            smallest = float(kept.value[active].min())
            self.threshold += THRESHOLD_RATE * (smallest - self.threshold)

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
