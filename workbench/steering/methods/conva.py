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
from workbench.steering.methods import Scale, changes_nothing


@dataclass(frozen=True)
class MinimumShift:
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
        return len(self.units)

    def take(self, rows: Int[Tensor, " n"]) -> "MinimumShift":
        return MinimumShift(
            units=self.units[rows],
            targets=self.targets[rows],
            signs=self.signs[rows],
            positions=tuple(self.positions[row] for row in rows.tolist()),
        )

    def shifts(
        self, residual: Float[Tensor, "row tok d_model"]
    ) -> Float[Tensor, "row tok d_model"]:
        """The smallest vectors that bring each residual to its row's target; zero where it is
        there [residual units].
        """
        exact = torch.promote_types(residual.dtype, torch.float32)
        units, targets, signs = (
            one.to(residual.device, exact) for one in (self.units, self.targets, self.signs)
        )
        gap = targets[:, None] - torch.einsum(
            "rtd,rd->rt", residual.to(exact), units.expand(len(residual), -1)
        )
        amount = signs[:, None] * (signs[:, None] * gap).clamp(min=0)
        return amount[..., None] * units[:, None]

    def settle(self, last: Float[Tensor, "row d_model"]) -> Add:
        """The shift of each prompt, to be added wherever its row steers."""
        vectors = self.shifts(last[:, None])[:, 0]
        return Add(
            vectors, self.positions if self.rows == len(vectors) else self.positions * len(vectors)
        )

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        return torch.where(where[..., None], hidden + self.shifts(hidden).to(hidden), hidden)


@register("steerings", "conva")
def build(steerings: Sequence[Steering], sae: Encoder, scale: Scale) -> MinimumShift:
    """Shift just as far as the prompt's last token needs to reach the strength along the
    direction.
    """
    units, targets = [], []
    for one in steerings:
        whole = (
            torch.zeros_like(sae.W_dec[0]) if changes_nothing(one) else scale.direction(one, sae)
        )
        length = whole.norm()
        units.append(whole / length if length > 0 else whole)
        targets.append(one.strength * length)
    signs = [-1.0 if one.strength < 0 else 1.0 for one in steerings]
    return MinimumShift(
        units=torch.stack(units),
        targets=torch.stack(targets),
        signs=torch.tensor(signs).to(sae.W_dec),
        positions=tuple(one.positions for one in steerings),
    )
