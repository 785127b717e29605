"""Replace the component along a direction: h - (h . u) u + strength * u, u of length 1.

All that is orthogonal to the direction stays; along it every steered token is at the same place, so
a token that already leans that way is not pushed further, as adding would. Strength 0 takes the
component away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feature_store.records import Steering, Where
from feature_store.registry import register
from sae_training.model.edits import Encoder
from workbench.steering.methods import Scale, changes_nothing


@dataclass(frozen=True)
class Orthogonal:
    units: Float[Tensor, "row d_model"]
    """Unit directions; zero in a row that changes nothing."""
    lengths: Float[Tensor, " row"]
    """Component along the direction afterwards [residual units]."""
    positions: tuple[Where, ...]
    """Tokens that each row steers."""

    @property
    def rows(self) -> int:
        return len(self.units)

    def take(self, rows: Int[Tensor, " n"]) -> "Orthogonal":
        return Orthogonal(
            self.units[rows],
            self.lengths[rows],
            tuple(self.positions[row] for row in rows.tolist()),
        )

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        units = self.units.to(hidden)[:, None]
        along = (hidden * units).sum(-1, keepdim=True)
        moved = hidden + (self.lengths.to(hidden)[:, None, None] - along) * units
        return torch.where(where[..., None], moved, hidden)


@register("steerings", "orthogonal")
def build(steerings: Sequence[Steering], sae: Encoder, scale: Scale) -> Orthogonal:
    """Set the residual's component along the direction, leaving what is orthogonal to it."""
    units, lengths = [], []
    for one in steerings:
        whole = (
            torch.zeros_like(sae.W_dec[0]) if changes_nothing(one) else scale.direction(one, sae)
        )
        length = whole.norm()
        units.append(whole / length if length > 0 else whole)
        lengths.append(one.strength * length)
    return Orthogonal(
        torch.stack(units), torch.stack(lengths), tuple(one.positions for one in steerings)
    )
