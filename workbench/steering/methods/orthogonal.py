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
from workbench.steering.methods import StrengthScale, dose_vector


@dataclass(frozen=True)
class ReplacedComponent:
    """An edit that replaces each residual's component along a direction."""

    units: Float[Tensor, "row d_model"]
    """Unit directions; zero in a row that changes nothing."""
    lengths: Float[Tensor, " row"]
    """Component along the direction afterwards [residual units]."""
    positions: tuple[Where, ...]
    """Tokens that each row steers."""

    @property
    def rows(self) -> int:
        """Number of interventions; 1 applies to every row of a batch."""
        return len(self.units)

    def take(self, rows: Int[Tensor, " n"]) -> "ReplacedComponent":
        """Give the edit whose row i is row `rows[i]` of this one."""
        return ReplacedComponent(
            units=self.units[rows],
            lengths=self.lengths[rows],
            positions=tuple(self.positions[row] for row in rows.tolist()),
        )

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Give the changed residual; tokens outside `where` keep their exact bits."""
        units = self.units.to(hidden)[:, None]
        along = (hidden * units).sum(-1, keepdim=True)
        moved = hidden + (self.lengths.to(hidden)[:, None, None] - along) * units
        return torch.where(where[..., None], moved, hidden)


@register("steerings", "orthogonal")
class ReplaceComponent:
    """Set the residual's component along the direction, leaving what is orthogonal to it."""

    @staticmethod
    def build(
        steerings: Sequence[Steering], sae: Encoder, scale: StrengthScale
    ) -> ReplacedComponent:
        """Build the edit that sets each component to strength times direction."""
        units, lengths = [], []
        for steering in steerings:
            dose = dose_vector(steering, sae, scale)
            length = dose.norm()
            units.append(dose / length if length > 0 else dose)
            lengths.append(steering.strength * length)
        return ReplacedComponent(
            units=torch.stack(units),
            lengths=torch.stack(lengths),
            positions=tuple(steering.positions for steering in steerings),
        )
