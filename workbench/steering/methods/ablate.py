"""Ablate a feature: h - f(h) * W_dec[f], a clamp to 0.

What the feature wrote is gone, and where it was silent nothing changes. Strength, unit and weights
play no part.
"""

from collections.abc import Sequence

from feature_store.records import Steering
from feature_store.registry import register
from sae_training.model.edits import Delta, Encoder
from workbench.steering.methods import Scale, delta


@register("steerings", "ablate")
def build(steerings: Sequence[Steering], sae: Encoder, scale: Scale) -> Delta:
    """Take the feature's own contribution away."""
    return delta(
        steerings,
        sae,
        scale,
        [[0.0] * (1 if one.by_direction else len(one.features)) for one in steerings],
    )
