"""Units steered both ways at equal damage to neutral text, without a questionnaire.

1. `plan` lists the units: each value's features as one direction, its stored directions, groups of
   random features and random directions.
2. Every unit goes up and down over the doses; the damage of each
   is measured on neutral texts.
3. Between the last dose within the budget and the first beyond it the strength is sought, by
   interpolation and halving in turn.
4. The strongest dose that was measured within the budget is taken; a unit that never leaves it
   keeps its largest dose, and says so.

Left out: what else the steering does; that is read in texts or asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.progress import Progress, missing_chunks, part, stage
from feature_store.records import Steering
from feature_store.work import Work
from workbench.sweeps.arms import CONTROL_KINDS, PlannedArm, random_features
from workbench.sweeps.doses import crossing
from workbench.sweeps.sweep import (
    CHUNK,
    EditedModel,
    as_direction,
    damage_table,
    neutral_tokens,
)

ROUNDS = 4
"""Strengths that are tried between two doses of the damage curve."""
AIM = 0.95
"""Share of the budget that interpolation aims at, so that it lands within."""
Edited = Callable[[Sequence[Steering]], EditedModel]
"""Gives a model with one row of an edit for every steering."""


@dataclass(frozen=True, eq=False)
class MatchedArm:
    """An arm at its strength of equal damage."""

    planned: PlannedArm
    """The arm; a negative dose steers down."""
    reached: bool
    """False: the damage stays below the budget at every dose, and the largest is taken."""
    damage: Float[np.ndarray, " text"]
    """Rise of the loss on each neutral text, as measured at that strength [nats per token]."""


@dataclass(frozen=True)
class DamageBudget:
    """Up to which damage units are steered, and how it is measured."""

    delta: float
    """Damage at which units are compared [nats per token, > 0]."""
    doses: tuple[float, ...]
    """Strengths of the damage curve, positive and rising [unit of the steerings]."""
    neutral: tuple[str, ...]
    """Texts on which damage is measured."""

    def __post_init__(self) -> None:
        rising = self.doses == tuple(sorted(set(self.doses)))
        if not self.doses or not rising or any(dose <= 0 for dose in self.doses):
            raise BadInput(
                "Doses are positive, rising numbers, got"
                f" {', '.join(f'{dose:g}' for dose in self.doses) or 'none'}. Give them as 0.1,0.3."
            )


@dataclass(frozen=True, eq=False)
class UnitSources:
    """What the units are made of."""

    chosen: pd.DataFrame
    """Features of the values: feature, value, polarity."""
    directions: dict[str, dict[str, str]]
    """Arm -> value -> stored direction, as `run/value/kind`."""
    unlabelled: Sequence[int]
    """Live features without a label, from which controls are drawn."""
    controls: int
    """Groups of random features, and as many random directions."""
    seed: int
    """Seed of both."""


def plan(sources: UnitSources, values: Sequence[str], template: Steering) -> list[PlannedArm]:
    """List the units of the values, in their order, then the controls; none has a strength yet.

    Method, unit and positions are those of `template`. A group of random features is as large as
    the values' groups are in the median.
    """
    planned: list[PlannedArm] = []

    def add(arm: str, value: str, **along: Any) -> None:
        """Plan a unit; `along` names what its steering goes along."""
        planned.append(
            PlannedArm(
                arm=arm,
                value=value,
                kind=CONTROL_KINDS.get(arm, "direction"),
                unit_id=len(planned),
                dose=0.0,
                steering=replace(template, **along),
            )
        )

    groups = [as_direction(sources.chosen, value) for value in values]
    for value, features in zip(values, groups, strict=True):
        add(f"sae-{template.method}", value, features=features)
    for arm, by_value in sources.directions.items():
        for value, direction in by_value.items():
            add(arm, value, direction=direction)
    rng = np.random.default_rng((sources.seed, 19))
    size = int(np.median([len(features) for features in groups]))
    for _ in range(sources.controls):
        if features := random_features(sources.unlabelled, size, rng):
            add("random-feature", "", features=features)
    for number in range(sources.controls):
        add("random-direction", "", random=sources.seed * 100_000 + number)
    return planned


def match(
    work: Work,
    edited: Edited,
    units: Sequence[PlannedArm],
    budget: DamageBudget,
    progress: Progress,
) -> list[MatchedArm]:
    """Find the strength of equal damage of every unit, up and down; two arms a unit, up first.

    Chunks that an earlier, interrupted call kept are not measured again.
    """
    curves = [_Curve(unit=unit, sign=sign, measured={}) for unit in units for sign in (1, -1)]
    for number in range(ROUNDS + 1):
        planned = [
            (curve, dose)
            for curve in curves
            for dose in (curve.between(budget.delta, number % 2 == 0) if number else budget.doses)
        ]
        arms = [curve.at(dose) for curve, dose in planned]
        shown = part(progress, f"round {number + 1} of {ROUNDS + 1}")
        damage = _measure(work, f"damages_{number}", edited, arms, budget, shown)
        for (curve, dose), row in zip(planned, damage, strict=True):
            curve.measured[dose] = row
    return [curve.within(budget.delta) for curve in curves]


class _Curve(NamedTuple):
    """The damage of one unit steered one way, as far as it was measured."""

    unit: PlannedArm
    """What is steered."""
    sign: int
    """1 up, -1 down."""
    measured: dict[float, Float[np.ndarray, " text"]]
    """Strength [unit of the steering, > 0] -> damage to each neutral text [nats per token]."""

    def at(self, dose: float) -> PlannedArm:
        """Give the unit a strength its way; a negative one steers it down."""
        strength = self.sign * dose
        steering = replace(self.unit.steering, strength=strength)
        return replace(self.unit, dose=strength, steering=steering)

    def _beyond(self, delta: float) -> tuple[list[float], np.ndarray, int]:
        """The measured doses in order, their damage, and the place of the first one beyond."""
        doses = sorted(self.measured)
        damage = np.array([self.measured[dose].mean() for dose in doses])
        is_beyond = damage > delta
        return doses, damage, int(np.argmax(is_beyond)) if is_beyond.any() else len(doses)

    def between(self, delta: float, is_halved: bool) -> list[float]:
        """Choose the next strength to measure; none where `delta` is never passed."""
        doses, damage, beyond = self._beyond(delta)
        if beyond == len(doses):
            return []
        if beyond == 0:
            return [doses[0] / 2]
        if is_halved:
            return [(doses[beyond - 1] + doses[beyond]) / 2]
        return [crossing(np.array(doses), damage, AIM * delta)]

    def within(self, delta: float) -> MatchedArm:
        """Give the strongest measured dose whose damage, and that of all below it, is in budget.

        Where the smallest is beyond it already, that one is taken.
        """
        doses, _, beyond = self._beyond(delta)
        dose = doses[max(beyond - 1, 0)]
        return MatchedArm(
            planned=self.at(dose), reached=beyond < len(doses), damage=self.measured[dose]
        )


def _measure(
    work: Work,
    relation: str,
    edited: Edited,
    arms: Sequence[PlannedArm],
    budget: DamageBudget,
    progress: Progress,
) -> Float[np.ndarray, "arm text"]:
    """Measure the damage of arms to each neutral text [nats per token], chunk by chunk."""
    if not arms:
        return np.empty((0, len(budget.neutral)))
    import torch

    from sae_training.engine.losses import losses

    model, edit, site = edited([arm.steering for arm in arms])
    tokens = neutral_tokens(model, budget.neutral)
    done, shown = work.done(relation), stage(progress, "matching damage")
    for number, chunk, chunk_shown in missing_chunks(done, len(arms), CHUNK, shown):
        rows = np.array(chunk)
        loss = losses(model, tokens, edit.take(torch.from_numpy(rows)), site, chunk_shown)
        damage = (loss.steered - loss.base).double().numpy()
        if not np.isfinite(damage).all():
            strange = arms[chunk[np.argwhere(~np.isfinite(damage))[0][0]]]
            raise BadInput(f"Under {strange.steering.name} the model gives NaN. Use smaller doses.")
        work.part(relation, number, damage_table(rows, damage))
    return work.parts(relation)["damage"].to_numpy().reshape(len(arms), len(tokens))
