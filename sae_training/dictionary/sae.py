"""SAE: the sparse autoencoder as the workbench uses it, to read features and to write directions.

1. Plain tensors, no sae-lens (its import takes 5 s and 510 MB). The numbers are those of sae-lens
   6: a test lays both side by side.
2. Four ways from pre-activations to activations, which are all that sae-lens saves for inference on
   a residual stream: `standard` (ReLU), `topk` (Gao et al. 2024, arXiv:2406.04093), `jumprelu`
   (Rajamanoharan et al. 2024, arXiv:2407.14435; BatchTopK and Matryoshka are saved as it) and
   `gated` (arXiv:2404.16014).
3. A TopK SAE that ranks by activation x decoder norm is folded when it is read: unit decoder rows,
   the norm in the encoder. The features are the same.
4. What its metadata say of the activations is followed or refused (`reading.py`). An SAE of
   centred residuals takes the mean off each residual before it reads it, and puts it back when it
   rebuilds one.
5. `load_sae(address)` and `save_sae(sae, folder)` in `sae_training.dictionary.loaders` read and
   write one.

Left out: training (`train.py`), transcoders, attention-head inputs and other architectures: refused
by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Site
from sae_training.dictionary import claims
from sae_training.dictionary.claims import Claims
from sae_training.dictionary.configuration import ARCHITECTURES
from sae_training.dictionary.reading import ModelReading, reading
from sae_training.engine.model import Model
from sae_training.model import sites

EXTRA: dict[str, tuple[str, ...]] = {"jumprelu": ("threshold",), "gated": ("r_mag", "b_mag")}
"""Architecture -> the tensors that it has besides encoder, decoder and their biases."""
LARGE = 1e15
"""Largest weight that is no damage: encoded and decoded, larger ones leave float32."""
LARGEST = {"r_mag": 40.0}
"""The same of a weight that is a logarithm."""
NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
EPSILON = 1e-5
"""Added to a token's standard deviation before `layer_norm` divides by it, as sae-lens does."""


class SparseCode(NamedTuple):
    """The active features of some tokens."""

    feature: Int[Tensor, "tok k"]
    """Features, strongest or first k; where fewer are active the rest have value 0."""
    value: Float[Tensor, "tok k"]
    """Their activations [activation units, >= 0]."""


class TokenScale(NamedTuple):
    """How each token is normalised before it is encoded, and back."""

    shift: Float[Tensor, "... 1"]
    """Subtracted from each token [residual units]."""
    size: Float[Tensor, "... 1"]
    """Each token is then divided by it [residual units]."""


@dataclass(frozen=True, eq=False)
class SAE:
    """A sparse autoencoder: reads features of a residual, and holds what each writes.

    For example:

        sae = load_sae("folder")
        sae.encode(model.residuals(ids, mask, sae.site()))  # [row, tok, feat]
    """

    W_enc: Float[Tensor, "d_model feat"]
    """Encoder."""
    W_dec: Float[Tensor, "feat d_model"]
    """Direction that each feature writes [residual units per activation unit]."""
    b_enc: Float[Tensor, " feat"]
    """Encoder bias; of a gated SAE the bias of the gate."""
    b_dec: Float[Tensor, " d_model"]
    """What is reconstructed when no feature is active [residual units]."""
    architecture: str = "standard"
    """`standard`, `topk`, `jumprelu` or `gated`."""
    k: int = 0
    """Features active on a token, of `topk` [>= 1]."""
    threshold: Float[Tensor, " feat"] | None = None
    """Smallest pre-activation that counts, of `jumprelu`, exclusive [activation units]."""
    r_mag: Float[Tensor, " feat"] | None = None
    """Logarithm of the magnitude path's scale, of `gated`."""
    b_mag: Float[Tensor, " feat"] | None = None
    """Bias of the magnitude path, of `gated`."""
    apply_b_dec_to_input: bool = True
    """Whether `b_dec` is subtracted before encoding."""
    normalize_activations: str = "none"
    """Per-token scaling of the input: `none`, `layer_norm`, `constant_norm_rescale`."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """sae-lens' metadata: model_name, hook_name, context_size, neuronpedia_id, ..."""
    claims: Claims = claims.NONE
    """Figures that its makers state; they are not saved with it."""

    def __post_init__(self) -> None:
        """Raises Incompatible for an SAE of another kind, BadInput for a damaged one."""
        _ = self.reading  # what cannot be followed is refused here
        if self.architecture not in ARCHITECTURES:
            raise Incompatible(
                f"SAEs on a residual stream are {', '.join(ARCHITECTURES)}; got"
                f" {self.architecture!r}."
            )
        if self.normalize_activations not in NORMALISATIONS:
            raise Incompatible(
                f"The SAE's inputs are normalised by {self.normalize_activations!r}, which is not"
                f" stored with its weights; supported are {', '.join(NORMALISATIONS)}. Fold the"
                " scale into the weights with sae-lens and save again."
            )
        if self.architecture == "topk" and not 1 <= self.k <= self.n_features:
            raise BadInput(
                f"A TopK SAE keeps 1 to {self.n_features} features a token, got k={self.k}."
            )
        for name in EXTRA.get(self.architecture, ()):
            if getattr(self, name) is None:
                raise BadInput(
                    f"A {self.architecture} SAE needs {name}, which is missing. Take a complete"
                    " SAE."
                )
        for name, tensor in self.tensors().items():
            if not bool(tensor.isfinite().all()):
                raise BadInput(
                    f"The SAE's {name} holds NaN or infinite numbers. Take an undamaged copy, or"
                    " train again."
                )
            low, high = (float(end) for end in tensor.aminmax())
            if max(-low, high) > LARGEST.get(name, LARGE):
                raise BadInput(
                    f"The SAE's {name} holds {max(-low, high):.3g}, which makes its activations"
                    " overflow. Take an undamaged copy, or train again."
                )

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.W_dec.shape[1]

    @property
    def n_features(self) -> int:
        """Features of the dictionary."""
        return self.W_dec.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.W_dec.device

    @cached_property
    def reading(self) -> ModelReading:
        """How its makers read the model."""
        return reading(self.metadata)

    def tensors(self) -> dict[str, Tensor]:
        """List the weights by field name, those that this architecture has."""
        names = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "r_mag", "b_mag")
        return {name: tensor for name in names if (tensor := getattr(self, name)) is not None}

    @property
    def hook(self) -> str:
        """Name of the place that it reads, as its metadata write it; empty where they do not."""
        return self.metadata.get("hook_name") or self.metadata.get("hf_hook_name") or ""

    def site(self) -> Site:
        """Say on which residual stream it was trained: model, layer and point.

        Raises BadInput where its metadata do not say.
        """
        if not self.hook:
            raise BadInput("The SAE's cfg.json names no hook_name. Give the layer it belongs to.")
        place = sites.parse(self.hook)
        return Site(
            model=self.metadata.get("model_name") or "",
            layer=place.layer,
            point=place.point,
            revision=self.metadata.get("model_revision") or "",
        )

    def to(self, device: torch.device | str) -> "SAE":
        """Copy the SAE to another device; itself where it is there already."""
        if torch.device(device) == self.device:
            return self
        return self.with_tensors(
            {name: tensor.to(device) for name, tensor in self.tensors().items()}
        )

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "SAE":
        """Make the same SAE with other weights, given by field name."""
        changed: dict[str, Any] = dict(tensors)
        return replace(self, **changed)

    def check_fits(self, model: Model) -> None:
        """Raise Incompatible unless the model's residual stream is the SAE's.

        It must be as wide, and of a model whose norms subtract the mean where the SAE reads
        residuals without it.
        """
        if model.d_model != self.d_model:
            raise Incompatible(
                f"SAE expects d_model {self.d_model}, the model gives {model.d_model}. "
                "Load the SAE made for this model (`workbench plugins loaders` lists the ways)."
            )
        if self.reading.centred and not model.centres:
            raise Incompatible(
                "The SAE was made on centred writing weights (center_writing_weights), which only"
                f" a model whose norms are all LayerNorm can have; {model.name} has others, and"
                " TransformerLens leaves it as it is. Take that argument out of cfg.json if the SAE"
                " was made on this model."
            )

    def centre(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """Take off a residual what the SAE does not read: its mean where that was taken off."""
        return x - x.mean(-1, keepdim=True) if self.reading.centred else x

    def encode(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... feat"]:
        """Read the activations of all features [activation units]; most of them are 0."""
        pre = self._pre(x)
        if self.architecture == "topk":
            value, index = pre.topk(self.k, dim=-1, sorted=False)
            return torch.zeros_like(pre).scatter_(-1, index, value.relu())
        return self._activate(pre)

    def encode_sparse(self, x: Float[Tensor, "tok d_model"]) -> SparseCode:
        """Read the activations of the active features only.

        The width of the result is the largest number of features that are active on one token.
        """
        pre = self._pre(x)
        if self.architecture == "topk":
            value, index = pre.topk(self.k, dim=-1, sorted=False)
            return SparseCode(index, value.relu())
        features = self._activate(pre)
        most = max(1, int((features > 0).sum(-1).max())) if len(features) else 1
        value, index = features.topk(most, dim=-1, sorted=False)
        return SparseCode(index, value)

    def decode(
        self, features: Float[Tensor, "... feat"], x: Float[Tensor, "... d_model"] | None = None
    ) -> Float[Tensor, "... d_model"]:
        """Rebuild the residual that activations stand for.

        `x`, what was encoded, is needed where the SAE normalises each token.
        """
        out = features @ self.W_dec + self.b_dec
        if self.normalize_activations == "none" and not self.reading.centred:
            return out
        if x is None:
            how = "takes the mean off each token"
            if self.normalize_activations != "none":
                how = f"normalises each token ({self.normalize_activations})"
            raise BadInput(f"This SAE {how}: decode needs the residual too.")
        scale = self._scale(x)
        return out * scale.size + scale.shift

    def reconstruct(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """Encode and decode a residual, in its own number format."""
        return self.decode(self.encode(x), x).to(x.dtype)

    def directions(self, indices: Int[Tensor, " n"] | list[int]) -> Float[Tensor, "n d_model"]:
        """Look up what features write [residual units per activation unit].

        Raises BadInput where there is no such feature.
        """
        rows = torch.as_tensor(indices, dtype=torch.long, device=self.device)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.n_features:
            raise BadInput(f"The SAE has features 0 to {self.n_features - 1}, got {rows.tolist()}.")
        return self.W_dec[rows]

    def _scale(self, x: Float[Tensor, "... d_model"]) -> TokenScale:
        """Find what each token is normalised by."""
        x = x.to(self.W_enc)
        shift = torch.zeros_like(x[..., :1])
        if self.normalize_activations == "layer_norm" or self.reading.centred:
            shift = x.mean(-1, keepdim=True)
        if self.normalize_activations == "layer_norm":
            return TokenScale(shift, x.std(-1, keepdim=True))
        if self.normalize_activations == "none":
            return TokenScale(shift, torch.ones_like(shift))
        return TokenScale(shift, (x - shift).norm(dim=-1, keepdim=True) / self.d_model**0.5)

    def _pre(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... feat"]:
        """Compute pre-activations; of a gated SAE those of the gate without its bias."""
        x = x.to(self.W_enc)
        if self.normalize_activations != "none" or self.reading.centred:
            scale = self._scale(x)
            x = (x - scale.shift) / (
                scale.size + (EPSILON if self.normalize_activations == "layer_norm" else 0)
            )
        if self.apply_b_dec_to_input:
            x = x - self.b_dec
        pre = x @ self.W_enc
        return pre if self.architecture == "gated" else pre + self.b_enc

    def _activate(self, pre: Float[Tensor, "... feat"]) -> Float[Tensor, "... feat"]:
        """Turn pre-activations into activations, for all architectures but TopK."""
        if self.architecture == "gated":
            assert self.r_mag is not None
            assert self.b_mag is not None
            return (pre * self.r_mag.exp() + self.b_mag).relu() * (pre + self.b_enc > 0)
        if self.architecture == "jumprelu":
            assert self.threshold is not None
            return pre.relu() * (pre > self.threshold)
        return pre.relu()
