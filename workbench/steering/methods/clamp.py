"""Clamp a feature: h + (target - f(h)) * W_dec[f].

Every steered token gets the same activation, whatever it had; with several features each gets its
own target, strength times its weight. In `raw` and `norm_share` the target is the activation whose
decoder row has that length.
"""

from collections.abc import Sequence

from feature_store.records import Steering
from feature_store.registry import register
from sae_training.model.edits import Delta, Encoder
from workbench.steering.methods import Scale, changes_nothing, delta, features


@register("steerings", "clamp")
def build(steerings: Sequence[Steering], sae: Encoder, scale: Scale) -> Delta:
    """Set the feature's activation, leaving the rest of the residual as it is."""
    return delta(steerings, sae, scale, [_targets(one, sae, scale) for one in steerings])


def _targets(steering: Steering, sae: Encoder, scale: Scale) -> list[float]:
    if changes_nothing(steering):
        return []
    if steering.by_direction:
        return [steering.strength * scale.length(steering)]
    return [scale.target(steering, index, weight, sae) for index, weight in features(steering, sae)]
