"""Clamp a feature: h + (target - f(h)) * W_dec[f].

Every steered token gets the same activation, whatever it had; with several features each gets its
own target, strength times its weight. In `raw` and `norm_share` the target is the activation whose
decoder row has that length.
"""

from collections.abc import Sequence

from feature_store.records import Steering
from feature_store.registry import register
from sae_training.model.edits import Delta, Encoder
from workbench.steering.methods import StrengthScale, changes_nothing, delta, features


@register("steerings", "clamp")
class Clamp:
    """Set the feature's activation, leaving the rest of the residual as it is."""

    @staticmethod
    def build(steerings: Sequence[Steering], sae: Encoder, scale: StrengthScale) -> Delta:
        """Build the edit that sets each steering's features to their targets."""
        targets = [_targets(steering, sae, scale) for steering in steerings]
        return delta(steerings, sae, scale, targets)


def _targets(steering: Steering, sae: Encoder, scale: StrengthScale) -> list[float]:
    """Give one activation a feature, or a single one along a direction [activation units]."""
    if changes_nothing(steering):
        return []
    if steering.by_direction:
        return [steering.strength * scale.length(steering)]
    return [scale.target(steering, index, weight, sae) for index, weight in features(steering, sae)]
