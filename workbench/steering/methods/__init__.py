"""Steering methods: what one dose of a feature does to the residual stream.

A plug-in is one file with one class, a `SteeringMethod`, registered under `steerings`. This module
holds what they share:

1. `StrengthScale`, the one place where a strength in its unit becomes a length in the residual
   stream.
2. `unit_direction`: the weighted sum of a steering's decoder rows, a seeded random one, or a stored
   one (a probe's, a difference of means), at length 1. Every method takes all three, so that one
   sweep compares them.
3. `delta`: the edit of the methods that read a feature before they change it.
4. `build_edit`: a batch of steerings of any methods as one `Edit`, row by row.

Left out: where to steer and at which tokens; the engine knows (`sae_training/model/edits.py`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store import registry
from feature_store.errors import BadInput, NotFound, nearest
from feature_store.records import Steering
from feature_store.registry import Registry
from sae_training.model.edits import Delta, Edit, Encoder, Stack


@dataclass(frozen=True)
class StrengthScale:
    """What turns a steering's strength into residual units at one site of one model."""

    median_norm: float
    """Median length of the residual at the site over the training text [residual units]."""
    max_activation: Float[Tensor, " feat"]
    """Largest activation seen of each feature [activation units]."""
    directions: Mapping[str, Float[Tensor, " d_model"]] = field(default_factory=dict)
    """Stored directions at the site, by the name that a steering calls them [any length]."""

    def direction(self, steering: Steering, sae: Encoder) -> Float[Tensor, " d_model"]:
        """Give what one unit of strength adds [residual units].

        `raw` and `norm_share` scale the unit direction; `feature_max` moves each feature by its own
        maximum. Combined as a `sum`, each feature has its own full length and its weight is a dose:
        doses that were measured one by one mean the same vectors when they are given together, to
        the bit. So it is with steerings that are given together.
        """
        if steering.together:
            parts = [part.strength * self.direction(part, sae) for part in steering.together]
            return torch.stack(parts).sum(0)
        if steering.combine == "sum" and not steering.by_direction:
            return self._sum_of_single_features(steering, sae)
        if steering.unit == "feature_max" and not steering.by_direction:
            by_maximum = []
            for index, weight in features(steering, sae):
                written_length(index, sae)
                by_maximum.append((index, weight * self._maximum(index)))
            return _weighted_sum(by_maximum, sae)
        return unit_direction(steering, sae, self.directions) * self.length(steering)

    def length(self, steering: Steering) -> float:
        """Give the length of one unit of strength along a unit direction [residual units].

        A random or stored direction has no maximum of its own: there `feature_max` is the median
        maximum of all features.
        """
        if steering.unit == "raw":
            return 1.0
        if steering.unit == "norm_share":
            return self.median_norm
        return float(self.max_activation[self.max_activation > 0].median())

    def target(self, steering: Steering, index: int, weight: float, sae: Encoder) -> float:
        """Give the activation at which a clamp of one feature aims [activation units]."""
        if steering.unit == "feature_max":
            return steering.strength * weight * self._maximum(index)
        return steering.strength * weight * self.length(steering) / written_length(index, sae)

    def _sum_of_single_features(
        self, steering: Steering, sae: Encoder
    ) -> Float[Tensor, " d_model"]:
        vector = torch.zeros_like(sae.W_dec[0])
        for index, weight in features(steering, sae):
            single = replace(steering, features=((index, 1.0),), combine="direction")
            vector = vector + weight * self.direction(single, sae)
        return vector

    def _maximum(self, index: int) -> float:
        maximum = float(self.max_activation[index])
        if not maximum > 0:
            raise BadInput(
                f"Feature {index} was never active, so it has no maximum to scale by. "
                "Give its strength as norm_share, or choose another feature."
            )
        return maximum


@runtime_checkable
class SteeringMethod(Protocol):
    """What a plug-in of kind `steerings` can do.

    A method of your own is a file of this folder:

        @register("steerings", "halve")
        class Halve:
            \"\"\"Clamp every feature to half of what was asked for.\"\"\"

            @staticmethod
            def build(steerings, sae, scale):
                halves = [replace(s, strength=s.strength / 2) for s in steerings]
                return METHODS["clamp"].build(halves, sae, scale)
    """

    def build(self, steerings: Sequence[Steering], sae: Encoder, scale: StrengthScale) -> Edit:
        """Build one edit; its row i does what `steerings[i]` says, and a base changes nothing."""
        ...


METHODS: Registry[SteeringMethod] = registry.of("steerings")
"""Every steering method, by name."""


def build_edit(steerings: Sequence[Steering], sae: Encoder, scale: StrengthScale) -> Edit:
    """Build one edit whose row i is `steerings[i]`, whatever their methods.

        edit = build_edit([Steering(features=((12, 1.0),), strength=0.5)], sae, scale)
        with model.steered(edit, Site(8)):
            model.generate(["What matters to you?"])

    Raises BadInput for no steering at all.
    """
    if not steerings:
        raise BadInput("A steering edit needs at least one steering, got none.")
    rows_of: dict[str, list[int]] = {}
    for row, steering in enumerate(steerings):
        rows_of.setdefault(steering.method, []).append(row)
    parts = [
        METHODS[method].build([steerings[row] for row in rows], sae, scale)
        for method, rows in rows_of.items()
    ]
    if len(parts) == 1:
        return parts[0]
    methods = list(rows_of)
    part = [methods.index(steering.method) for steering in steerings]
    row_in_part = [rows_of[steering.method].index(row) for row, steering in enumerate(steerings)]
    return Stack(parts, torch.tensor(part), torch.tensor(row_in_part))


def features(steering: Steering, sae: Encoder) -> tuple[tuple[int, float], ...]:
    """Give the steering's (0-based index, weight) pairs.

    Raises BadInput where the SAE has no feature of such an index.
    """
    for index, _ in steering.features:
        if not 0 <= index < sae.n_features:
            raise BadInput(f"The SAE has features 0 to {sae.n_features - 1}, got feature {index}.")
    return steering.features


def written_length(index: int, sae: Encoder) -> float:
    """Give the length of a feature's decoder row [residual units per activation unit].

    Raises BadInput for a feature that writes nothing, which no activation steers.
    """
    length = float(sae.W_dec[index].norm())
    if not 0 < length < math.inf:
        raise BadInput(
            f"Feature {index} writes nothing: its decoder row has length {length:g}. Choose another"
            " feature."
        )
    return length


def unit_direction(
    steering: Steering, sae: Encoder, directions: Mapping[str, Tensor] | None = None
) -> Float[Tensor, " d_model"]:
    """Give the direction of a steering at length 1.

    `directions` are the stored ones, by name. A random direction is drawn on the CPU, so that it is
    the same on every device. Raises NotFound for a stored direction that is not there, BadInput for
    a direction of length 0.
    """
    vector = _direction(steering, sae, directions or {})
    length = vector.norm()
    if not 0 < float(length) < math.inf:
        raise BadInput(
            f"The direction of steering {steering.name!r} has length {float(length):g}: its decoder"
            " rows cancel or are empty. Choose other features or weights."
        )
    return vector / length


def changes_nothing(steering: Steering) -> bool:
    """Say whether the steering is the base: nothing to steer with, or nothing to add."""
    return steering.name == "base"


def dose_vector(
    steering: Steering, sae: Encoder, scale: StrengthScale
) -> Float[Tensor, " d_model"]:
    """Give what one unit of strength adds [residual units]; zeros for the base.

    Methods multiply it by the strength: `add` adds the product, others aim at its length.
    """
    if changes_nothing(steering):
        return torch.zeros_like(sae.W_dec[0])
    return scale.direction(steering, sae)


def delta(
    steerings: Sequence[Steering],
    sae: Encoder,
    scale: StrengthScale,
    targets: Sequence[Sequence[float]],
) -> Delta:
    """Build the edit that sets each steering's features to activations of its own.

    `targets[i]` holds one activation a feature of `steerings[i]`, or a single one for a random or
    stored direction [activation units]. A base has none.
    """
    slots = max([1, *map(len, targets)])
    edit = Delta(
        sae=sae,
        index=torch.zeros(len(steerings), slots, dtype=torch.long, device=sae.W_dec.device),
        target=sae.W_dec.new_zeros(len(steerings), slots),
        used=sae.W_dec.new_zeros(len(steerings), slots),
        random=sae.W_dec.new_zeros(len(steerings), sae.d_model),
        positions=tuple(steering.positions for steering in steerings),
    )
    for row, (steering, activations) in enumerate(zip(steerings, targets, strict=True)):
        if changes_nothing(steering):
            continue
        filled = slice(0, len(activations))
        edit.target[row, filled] = torch.tensor(activations).to(edit.target)
        edit.used[row, filled] = 1
        if steering.by_direction:
            edit.random[row] = unit_direction(steering, sae, scale.directions)
        else:
            indices = [index for index, _ in features(steering, sae)]
            for index in indices:
                written_length(index, sae)
            edit.index[row, filled] = torch.tensor(indices).to(edit.index)
    return edit


def _direction(
    steering: Steering, sae: Encoder, directions: Mapping[str, Tensor]
) -> Float[Tensor, " d_model"]:
    """Give the direction of a steering at whatever length it comes."""
    if steering.random >= 0:
        generator = torch.Generator().manual_seed(steering.random)
        return torch.randn(sae.d_model, generator=generator).to(sae.W_dec)
    if not steering.direction:
        return _weighted_sum(features(steering, sae), sae)
    if steering.direction not in directions:
        raise NotFound(
            f"There is no direction {steering.direction!r} at this"
            f" site.{nearest(steering.direction, directions)}"
        )
    return directions[steering.direction].to(sae.W_dec)


def _weighted_sum(weights: Sequence[tuple[int, float]], sae: Encoder) -> Float[Tensor, " d_model"]:
    """Sum the decoder rows of (index, weight) pairs, in their order."""
    vector = torch.zeros_like(sae.W_dec[0])
    for index, weight in weights:
        vector = vector + weight * sae.W_dec[index]
    return vector
