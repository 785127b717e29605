"""Add a direction: h + strength * direction.

The plainest steering, and the one whose size is known beforehand: every steered token moves by the
same vector, whatever the feature's activation there.
"""

from collections.abc import Sequence

import torch

from feature_store.records import Steering
from feature_store.registry import register
from sae_training.model.edits import Add, Encoder
from workbench.steering.methods import Scale, changes_nothing


@register("steerings", "add")
def build(steerings: Sequence[Steering], sae: Encoder, scale: Scale) -> Add:
    """Add the direction to every steered token."""
    zero = torch.zeros_like(sae.W_dec[0])
    vectors = [
        zero if changes_nothing(one) else one.strength * scale.direction(one, sae)
        for one in steerings
    ]
    return Add(torch.stack(vectors), tuple(one.positions for one in steerings))
