"""Minimum shift (ConVA): h + max(0, t - e . u) u, e the residual at the prompt's last token, u of
length 1.

Jin et al. (ACL 2025) move the residual just so far along a probe's normal that the probe says P0.
Along the unit direction that is a component t to be reached: for a probe (w, b) it is t = (logit P0
- b) / |w|, and here

1. a steering's strength says t in its unit, for features, random and stored directions alike: a
   positive strength raises the component to at least t, a negative one lowers it to at most t, and
   a prompt that is there already stays as it is;
2. the shift is worked out once, where the prompt ends, and then added at every steered position,
   also of what is generated;
3. an edit that no prompt has settled moves each token by that token's own shift.

`workbench/systems/conva/shift.py` builds the same edit from a probe and P0, over one layer or
several.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feature_store.records import Steering, Where
from feature_store.registry import register
from sae_training.model.edits import Add, Encoder
from workbench.steering.methods import StrengthScale, dose_vector


@dataclass(frozen=True)
class MinimumShift:
    """An edit that moves each residual just as far along a direction as it needs to go."""

    units: Float[Tensor, "row d_model"]
    """Unit directions; zero in a row that changes nothing."""
    targets: Float[Tensor, " row"]
    """Component along the direction to be reached [residual units]."""
    signs: Float[Tensor, " row"]
    """+1: raise to at least the target; -1: lower to at most."""
    positions: tuple[Where, ...]
    """Tokens that each row steers."""

    by_prompt = True

    @property
    def rows(self) -> int:
        """Number of interventions; 1 applies to every row of a batch."""
        return len(self.units)

    def take(self, rows: Int[Tensor, " n"]) -> "MinimumShift":
        """Give the edit whose row i is row `rows[i]` of this one."""
        return MinimumShift(
            units=self.units[rows],
            targets=self.targets[rows],
            signs=self.signs[rows],
            positions=tuple(self.positions[row] for row in rows.tolist()),
        )

    def shifts(
        self, residual: Float[Tensor, "row tok d_model"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Give the smallest vectors that bring each residual to its row's target [residual units].

        They are zero where a residual is there already, and worked out in single precision at
        least: in half precision a small gap would be lost in a large component.
        """
        exact = torch.promote_types(residual.dtype, torch.float32)
        device = residual.device
        units = self.units.to(device, exact)
        targets = self.targets.to(device, exact)
        signs = self.signs.to(device, exact)
        along = torch.einsum("rtd,rd->rt", residual.to(exact), units.expand(len(residual), -1))
        gap = targets[:, None] - along
        amount = signs[:, None] * (signs[:, None] * gap).clamp(min=0)
        return amount[..., None] * units[:, None]

    def settle(self, last: Float[Tensor, "row d_model"]) -> Add:
        """Give the edit that adds each prompt's own shift wherever its row steers.

        `last` is the residual at the last token of each prompt. A single intervention is spread
        over all of them.
        """
        vectors = self.shifts(last[:, None])[:, 0]
        positions = self.positions
        if self.rows != len(vectors):
            positions = positions * len(vectors)
        return Add(vectors, positions)

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Move each token by that token's own shift, as long as no prompt has settled the edit."""
        return torch.where(where[..., None], hidden + self.shifts(hidden).to(hidden), hidden)


@register("steerings", "conva")
class MinimumShiftMethod:
    """Shift just as far as the prompt's last token needs to reach the strength."""

    @staticmethod
    def build(steerings: Sequence[Steering], sae: Encoder, scale: StrengthScale) -> MinimumShift:
        """Build the edit that brings each prompt to strength times direction, and no further."""
        units, targets, signs = [], [], []
        for steering in steerings:
            dose = dose_vector(steering, sae, scale)
            length = dose.norm()
            units.append(dose / length if length > 0 else dose)
            targets.append(steering.strength * length)
            signs.append(-1.0 if steering.strength < 0 else 1.0)
        return MinimumShift(
            units=torch.stack(units),
            targets=torch.stack(targets),
            signs=torch.tensor(signs).to(sae.W_dec),
            positions=tuple(steering.positions for steering in steerings),
        )
