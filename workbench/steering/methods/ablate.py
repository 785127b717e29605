"""Ablate a feature: h - f(h) * W_dec[f], a clamp to 0.

What the feature wrote is gone, and where it was silent nothing changes. Strength, unit and weights
play no part.
"""

from collections.abc import Sequence

from feature_store.records import Steering
from feature_store.registry import register
from sae_training.model.edits import Delta, Encoder
from workbench.steering.methods import StrengthScale, delta


@register("steerings", "ablate")
class Ablate:
    """Take the feature's own contribution away."""

    @staticmethod
    def build(steerings: Sequence[Steering], sae: Encoder, scale: StrengthScale) -> Delta:
        """Build the edit that sets every feature of each steering to activation 0."""
        targets = []
        for steering in steerings:
            count = 1 if steering.by_direction else len(steering.features)
            targets.append([0.0] * count)
        return delta(steerings, sae, scale, targets)
