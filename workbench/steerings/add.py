"""Add a direction: h + strength * direction.

The plainest steering, and the one whose size is known beforehand: every steered token moves by the same vector,
whatever the feature's activation there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feature_store.records import Steering, Where
from feature_store.registry import register
from sae_training.edits import Encoder
from workbench.steerings import Scale, changes_nothing


@dataclass(frozen=True)
class Add:
    vectors: Float[Tensor, "row d_model"]
    """Added to every steered token [residual units]."""
    positions: tuple[Where, ...]
    """Tokens that each row steers."""

    @property
    def rows(self) -> int:
        return len(self.vectors)

    def take(self, rows: Int[Tensor, "n"]) -> "Add":
        return Add(self.vectors[rows], tuple(self.positions[row] for row in rows.tolist()))

    def __call__(self, hidden: Float[Tensor, "row tok d_model"],
                 where: Bool[Tensor, "row tok"]) -> Float[Tensor, "row tok d_model"]:
        moved = hidden + self.vectors.to(hidden)[:, None]
        return moved if where.all() else torch.where(where[..., None], moved, hidden)


@register("steerings", "add")
def build(steerings: Sequence[Steering], sae: Encoder, scale: Scale) -> Add:
    """Add the direction to every steered token."""
    zero = torch.zeros_like(sae.W_dec[0])
    vectors = [zero if changes_nothing(one) else one.strength * scale.direction(one, sae) for one in steerings]
    return Add(torch.stack(vectors), tuple(one.positions for one in steerings))
