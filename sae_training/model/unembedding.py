"""How a model turns the residual after its last layer into logits, measured on the model itself.

What a direction of the residual promotes is the change of the logits along it (the logit lens). The
final norm divides by the residual's length, which no direction knows alone; all else of it is
linear and is folded into the unembedding, as TransformerLens and sae-dashboard do. Families write
their last norm under many names and with weights of different meaning (Gemma's is 1 + weight), so:

1. Residuals are put in place of the one that the last layer gives, and one forward pass shows what
   enters the head (the output embedding), and the logits.
2. Signs +1 and -1 have length and mean that are known, so what enters the head for them and for
   their reverse gives the norm's weights. It must then also give what enters for other residuals,
   as an RMSNorm, a LayerNorm or no norm would.
3. The logits must be the head's product, times a factor that is measured; or a soft cap of it,
   which is left out: it changes sizes, and not the order of tokens.

A model that does otherwise is refused in one line. Left out: the layers between a feature and the
end, which change what it writes; biases, which no direction changes.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import Incompatible
from sae_training.model import families
from sae_training.model.families import TOKENS, alike
from sae_training.model.runtime import Runtime

Norm = Literal["LayerNorm", "RMSNorm", "none"]
NORMS: tuple[Norm, ...] = ("RMSNorm", "LayerNorm", "none")
"""Final norms that are told apart, in the order in which they are tried."""
CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Names under which configurations hold a soft cap of the logits."""
TRIED = 3
"""Residuals that the measured norm must get right."""


@dataclass(frozen=True, eq=False)
class Unembedding:
    """The linear part of the way from the last residual to the logits."""

    head: Float[Tensor, "vocab d_model"]
    """The output embedding, in the model's number format."""
    weight: Float[Tensor, " d_model"]
    """What the final norm multiplies each number of the residual by, times the factor of the
    logits."""
    norm: Norm
    """`LayerNorm` takes the mean off the residual and divides, `RMSNorm` divides, `none` does
    neither."""
    cap: float
    """Soft cap of the logits, which is left out here [nats]; 0 without one."""


class _Seen(NamedTuple):
    """What one forward pass shows of some residuals, one a row."""

    entered: Float[Tensor, "row d_head"]
    """What enters the head."""
    logits: Float[Tensor, "row vocab"]
    """The logits [nats]."""


def unembedding(model: Runtime) -> Unembedding:
    """Measure how a model reads its last residual.

    Raises Incompatible, with what it does otherwise, where that is no norm and one product.

        unembedding(model).weight  # [d_model]
    """
    # `nn.Module` knows no output embedding; a Hugging Face model does.
    head = cast(Any, model.module).get_output_embeddings()
    if head is None or not isinstance(head.weight, Tensor) or not head.weight.is_floating_point():
        raise _refusal(model, "has no output embedding of plain numbers")
    source = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (model.d_model,), generator=source) * 2.0 - 1
    others = torch.randn(TRIED, model.d_model, generator=source)
    others[1] += 1  # a mean, which only a LayerNorm takes off
    others[2] *= 3  # a length, which both norms take off
    residuals = torch.cat([signs[None], -signs[None], others])
    seen = _pass(model, head, residuals)
    if seen.entered.shape != residuals.shape:
        raise _refusal(model, f"gives its head {seen.entered.shape[-1]} numbers of another space")
    for norm in NORMS:
        expected = normed(residuals, norm)
        weight = (seen.entered[0] - seen.entered[1]) / (expected[0] - expected[1])
        bias = seen.entered[0] - weight * expected[0]
        if alike(model, expected * weight + bias, seen.entered):
            break
    else:
        raise _refusal(model, "reads its last residual through neither a LayerNorm nor an RMSNorm")
    factor, cap = _factor(model, head, seen)
    return Unembedding(head=head.weight.detach(), weight=factor * weight, norm=norm, cap=cap)


def normed(residuals: Float[Tensor, "row d_model"], norm: Norm) -> Float[Tensor, "row d_model"]:
    """Do what a norm without weights does to residuals."""
    if norm == "none":
        return residuals
    if norm == "LayerNorm":
        residuals = residuals - residuals.mean(-1, keepdim=True)
    return residuals / residuals.square().mean(-1, keepdim=True).sqrt()


def _pass(model: Runtime, head: torch.nn.Module, residuals: Tensor) -> _Seen:
    """Run the model once, its last residual replaced at every token."""
    entered: list[Tensor] = []

    def replace(hidden: Tensor) -> Tensor:
        """Put our residuals in the place of the model's."""
        return residuals[:, None].expand(hidden.shape).to(hidden)

    def keep(_: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        """Keep what enters the head."""
        entered.append(args[0])

    ids = torch.tensor([TOKENS] * len(residuals))
    with model.lock, families.unhooked(model.module), model.hooked(model.n_layers, replace):
        handle = head.register_forward_pre_hook(keep)
        try:
            logits = model.forward(ids, torch.ones_like(ids, dtype=torch.bool)).logits
        finally:
            handle.remove()
    if not entered:
        raise _refusal(model, "does not use its output embedding")
    return _Seen(entered[-1][:, -1].float().cpu(), logits[:, -1].float().cpu())


def _factor(model: Runtime, head: Any, seen: _Seen) -> tuple[float, float]:
    """Find the factor between the head's product and the logits, and their soft cap."""
    product = seen.entered @ head.weight.detach().float().cpu().T
    bias = getattr(head, "bias", None)
    if bias is not None:
        product += bias.detach().float().cpu()
    # A family may give minus infinity, or its like, to tokens that it never writes.
    written = seen.logits.isfinite() & (seen.logits > -1e4)
    product, logits = product[written], seen.logits[written]
    config = cast(Any, model.module).config.get_text_config()
    caps = [getattr(config, name, None) or 0.0 for name in CAPS]
    cap = max(caps)
    if cap:
        logits = cap * (logits / cap).clamp(-1, 1).atanh()
        kept = logits.isfinite()
        product, logits = product[kept], logits[kept]
    factor = float(product @ logits / (product @ product).clamp(min=1e-30))
    if not alike(model, factor * product, logits):
        raise _refusal(model, "changes what its head gives before it is a logit")
    return factor, float(cap)


def _refusal(model: Runtime, why: str) -> Incompatible:
    family = getattr(model.module.config, "model_type", type(model.module).__name__)
    return Incompatible(f"{model.name} is a {family} model, which {why}.")
