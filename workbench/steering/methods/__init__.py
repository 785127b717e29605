"""Steering methods: what one dose of a feature does to the residual stream.

A plug-in is one file with one function, `build(steerings, sae, scale) -> Edit`, registered under
`steerings`. This module holds what they share:

1. `Scale`, the one place where a strength in its unit becomes a length in the residual stream.
2. `unit_direction`: the weighted sum of a steering's decoder rows, a seeded random one, or a stored
   one (a probe's, a difference of means), at length 1. Every method takes all three, so that one
   sweep compares them.
3. `delta`: the edit of the methods that read a feature before they change it.
4. `build_edit`: a batch of steerings of any methods as one `Edit`, row by row.

Left out: where to steer and at which tokens; the engine knows (`sae_training/model/edits.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store import registry
from feature_store.errors import BadInput, NotFound, nearest
from feature_store.records import Steering
from sae_training.model.edits import Delta, Edit, Encoder, Stack


@dataclass(frozen=True)
class Scale:
    median_norm: float
    """Median length of the residual at the site over the training text [residual units]."""
    max_activation: Float[Tensor, " feat"]
    """Largest activation seen of each feature [activation units]."""
    directions: Mapping[str, Float[Tensor, " d_model"]] = field(default_factory=dict)
    """Stored directions at the site, by the name that a steering calls them [any length]."""

    def direction(self, steering: Steering, sae: Encoder) -> Float[Tensor, " d_model"]:
        """What one unit of strength adds [residual units].

        `raw` and `norm_share` scale the unit direction; `feature_max` moves each feature by its own
        maximum. Combined as a `sum`, each feature has its own full length and its weight is a dose:
        doses that were measured one by one mean the same vectors when they are given together, to
        the bit.
        """
        if steering.combine == "sum" and not steering.by_direction:
            alone = [
                (weight, replace(steering, features=((index, 1.0),), combine="direction"))
                for index, weight in features(steering, sae)
            ]
            return sum(
                (weight * self.direction(one, sae) for weight, one in alone),
                torch.zeros_like(sae.W_dec[0]),
            )
        if steering.unit == "feature_max" and not steering.by_direction:
            return _sum(
                [
                    (index, weight * self._maximum(index))
                    for index, weight in features(steering, sae)
                ],
                sae,
            )
        return unit_direction(steering, sae, self.directions) * self.length(steering)

    def length(self, steering: Steering) -> float:
        """Length of one unit of strength along a unit direction [residual units].

        A random or stored direction has no maximum of its own: there `feature_max` is the median
        maximum of all features.
        """
        if steering.unit == "raw":
            return 1.0
        if steering.unit == "norm_share":
            return self.median_norm
        return float(self.max_activation[self.max_activation > 0].median())

    def target(self, steering: Steering, index: int, weight: float, sae: Encoder) -> float:
        """The activation that a clamp of one feature aims at [activation units]."""
        if steering.unit == "feature_max":
            return steering.strength * weight * self._maximum(index)
        return steering.strength * weight * self.length(steering) / float(sae.W_dec[index].norm())

    def _maximum(self, index: int) -> float:
        found = float(self.max_activation[index])
        if not found > 0:
            raise BadInput(
                f"Feature {index} was never active, so it has no maximum to scale by. "
                "Give its strength as norm_share, or choose another feature."
            )
        return found


def features(steering: Steering, sae: Encoder) -> tuple[tuple[int, float], ...]:
    """The steering's (index, weight) pairs, each index checked against the SAE."""
    for index, _ in steering.features:
        if not 0 <= index < sae.n_features:
            raise BadInput(f"The SAE has features 0 to {sae.n_features - 1}, got feature {index}.")
    return steering.features


def unit_direction(
    steering: Steering, sae: Encoder, directions: Mapping[str, Tensor] | None = None
) -> Float[Tensor, " d_model"]:
    """The steering's direction at length 1, the same on every device."""
    if steering.random >= 0:
        found = torch.randn(
            sae.d_model, generator=torch.Generator().manual_seed(steering.random)
        ).to(sae.W_dec)
    elif steering.direction:
        if steering.direction not in (known := directions or {}):
            raise NotFound(
                f"There is no direction {steering.direction!r} at this"
                f" site.{nearest(steering.direction, known)}"
            )
        found = known[steering.direction].to(sae.W_dec)
    else:
        found = _sum(features(steering, sae), sae)
    length = found.norm()
    if not length > 0:
        raise BadInput(
            f"The direction of steering {steering.name!r} has length 0: its decoder rows cancel or"
            " are empty. Choose other features or weights."
        )
    return found / length


def changes_nothing(steering: Steering) -> bool:
    """Whether the steering is the base: nothing to steer with, or nothing to add."""
    return steering.name == "base"


def delta(
    steerings: Sequence[Steering], sae: Encoder, scale: Scale, targets: Sequence[Sequence[float]]
) -> Delta:
    """The edit that sets each steering's features (or its random or stored direction) to
    `targets` [activation units].
    """
    slots = max([1, *map(len, targets)])
    edit = Delta(
        sae=sae,
        index=torch.zeros(len(steerings), slots, dtype=torch.long, device=sae.W_dec.device),
        target=sae.W_dec.new_zeros(len(steerings), slots),
        used=sae.W_dec.new_zeros(len(steerings), slots),
        random=sae.W_dec.new_zeros(len(steerings), sae.d_model),
        positions=tuple(one.positions for one in steerings),
    )
    for row, (one, wanted) in enumerate(zip(steerings, targets, strict=True)):
        if changes_nothing(one):
            continue
        edit.target[row, : len(wanted)] = torch.tensor(wanted).to(edit.target)
        edit.used[row, : len(wanted)] = 1
        if one.by_direction:
            edit.random[row] = unit_direction(one, sae, scale.directions)
        else:
            edit.index[row, : len(wanted)] = torch.tensor(
                [index for index, _ in features(one, sae)]
            ).to(edit.index)
    return edit


def build_edit(steerings: Sequence[Steering], sae: Encoder, scale: Scale) -> Edit:
    """One edit whose row i is `steerings[i]`, whatever their methods."""
    if not steerings:
        raise BadInput("A steering edit needs at least one steering, got none.")
    methods = list(dict.fromkeys(steering.method for steering in steerings))
    members = {
        method: [i for i, one in enumerate(steerings) if one.method == method] for method in methods
    }
    parts = [
        registry.get("steerings", method)([steerings[i] for i in members[method]], sae, scale)
        for method in methods
    ]
    if len(parts) == 1:
        return parts[0]
    part = torch.tensor([methods.index(one.method) for one in steerings])
    row = torch.tensor([members[one.method].index(i) for i, one in enumerate(steerings)])
    return Stack(parts, part, row)


def _sum(weights: Sequence[tuple[int, float]], sae: Encoder) -> Float[Tensor, " d_model"]:
    out = torch.zeros_like(sae.W_dec[0])
    for index, weight in weights:
        out = out + weight * sae.W_dec[index]
    return out
