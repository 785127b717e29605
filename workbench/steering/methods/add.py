"""Add a direction: h + strength * direction.

The plainest steering, and the one whose size is known beforehand: every steered token moves by the
same vector, whatever the feature's activation there.
"""

from collections.abc import Sequence

import torch

from feature_store.records import Steering
from feature_store.registry import register
from sae_training.model.edits import Add, Encoder
from workbench.steering.methods import StrengthScale, changes_nothing


@register("steerings", "add")
class AddDirection:
    """Add the direction to every steered token."""

    @staticmethod
    def build(steerings: Sequence[Steering], sae: Encoder, scale: StrengthScale) -> Add:
        """Build the edit that adds strength times direction [residual units]."""
        vectors = []
        for steering in steerings:
            if changes_nothing(steering):
                vectors.append(torch.zeros_like(sae.W_dec[0]))
            else:
                vectors.append(steering.strength * scale.direction(steering, sae))
        return Add(torch.stack(vectors), tuple(steering.positions for steering in steerings))
