"""What editing value neurons does to every value, beside a control, and to neutral text.

1. `plan`: every value's own neurons, the same in exchanged roles, and the draws of the control, at
   every gamma.
2. `cells`: change of each rating, paired by context. The draws of the control are pooled before
   contexts are resampled; the spread over draws stands beside it.
3. `effect_rows`: means with intervals over contexts, damage with intervals over texts, and what an
   edit has over the control of the same gamma. The last rows average every value's effect on
   itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from workbench.statistics.intervals import Interval, bootstrap_mean

Condition = Literal["default", "edited", "reversed", "random"]
TOGETHER, OWN = "all", "own"
"""Source and target of the rows that average every value's effect on itself."""


@dataclass(frozen=True)
class PlannedEdit:
    """One edit of value neurons that is to be measured."""

    value: str
    """Value whose neurons are edited."""
    condition: Condition
    """What is edited: its neurons, the same in exchanged roles, or other neurons."""
    gamma: float
    """How far targets are pushed [multiples of u]."""
    draw: int
    """0-based draw of the control; -1 elsewhere."""

    @property
    def name(self) -> str:
        """Say in words what is edited and how far."""
        draw = f" {self.draw}" if self.condition == "random" else ""
        return f"{self.condition}{draw} neurons of {self.value} @{self.gamma:g} gamma"


def plan(values: Sequence[str], gammas: Sequence[float], draws: int) -> list[PlannedEdit]:
    """List every edit, value by value. Raises BadInput unless gammas rise from 0 or more."""
    if not gammas or any(gamma < 0 for gamma in gammas) or list(gammas) != sorted(set(gammas)):
        raise BadInput(
            f"Gammas are rising numbers >= 0, got {', '.join(f'{g:g}' for g in gammas) or 'none'}."
            " The paper goes from 0.1 to 2."
        )
    conditions: list[tuple[Condition, int]] = [("edited", -1), ("reversed", -1)]
    conditions += [("random", draw) for draw in range(draws)]
    return [
        PlannedEdit(value=value, condition=condition, gamma=float(gamma), draw=draw)
        for value in values
        for condition, draw in conditions
        for gamma in gammas
    ]


class EffectCell(NamedTuple):
    """One edit's effect on one value, before contexts are resampled."""

    value: str
    """Value whose neurons are edited; empty where nothing is."""
    condition: Condition
    """What is edited."""
    gamma: float
    """How far targets are pushed [multiples of u]."""
    target: str
    """Value that is measured."""
    base: Float[np.ndarray, " context"]
    """Unedited rating [rating points]."""
    change: Float[np.ndarray, "draw context"]
    """Edited less unedited rating; one draw unless it is the control [rating points]."""
    damage: Float[np.ndarray, "draw text"]
    """Rise of the loss on neutral text [nats per token]."""
    neurons: int
    """Neurons edited."""


@dataclass(frozen=True, eq=False)
class MeasuredEdits:
    """What was measured under every planned edit, and without any."""

    ratings: Float[np.ndarray, "edit context target"]
    """Edited ratings [rating points]."""
    base: Float[np.ndarray, "context target"]
    """Unedited ratings [rating points]."""
    damage: Float[np.ndarray, "edit text"]
    """Rise of the loss on neutral text [nats per token]."""
    neurons: Sequence[int]
    """Neurons that each edit changes."""


def cells(
    planned: Sequence[PlannedEdit], targets: Sequence[str], measured: MeasuredEdits
) -> list[EffectCell]:
    """Pair every edit with every target, draws of the control together.

    The unedited model comes first. The last cells average, edit by edit, every value's effect on
    itself.
    """
    changes = measured.ratings - measured.base
    members: dict[tuple[str, Condition, float], list[int]] = {}
    for number, edit in enumerate(planned):
        members.setdefault((edit.value, edit.condition, edit.gamma), []).append(number)
    made = _unedited_cells(targets, measured)
    for (value, condition, gamma), numbers in members.items():
        made += [
            EffectCell(
                value=value,
                condition=condition,
                gamma=gamma,
                target=target,
                base=measured.base[:, column],
                change=changes[numbers, :, column],
                damage=measured.damage[numbers],
                neurons=measured.neurons[numbers[0]],
            )
            for column, target in enumerate(targets)
        ]
    return made + _together(made)


def _unedited_cells(targets: Sequence[str], measured: MeasuredEdits) -> list[EffectCell]:
    """Write the cells of the model as it is, which changes nothing and damages nothing."""
    return [
        EffectCell(
            value="",
            condition="default",
            gamma=0.0,
            target=target,
            base=measured.base[:, column],
            change=np.zeros((1, len(measured.base))),
            damage=np.zeros((1, measured.damage.shape[1])),
            neurons=0,
        )
        for column, target in enumerate(targets)
    ]


def _together(made: Sequence[EffectCell]) -> list[EffectCell]:
    """Average the effects of values on themselves, for each condition and gamma."""
    on_itself: dict[tuple[Condition, float], list[EffectCell]] = {}
    for cell in made:
        if cell.value == cell.target:
            on_itself.setdefault((cell.condition, cell.gamma), []).append(cell)
    return [
        EffectCell(
            value=TOGETHER,
            condition=condition,
            gamma=gamma,
            target=OWN,
            base=np.mean([cell.base for cell in alike], 0),
            change=np.mean([cell.change for cell in alike], 0),
            damage=np.mean([cell.damage for cell in alike], 0),
            neurons=round(np.mean([cell.neurons for cell in alike])),
        )
        for (condition, gamma), alike in on_itself.items()
    ]


def effect_rows(made: Sequence[EffectCell], replicates: int, seed: int) -> list[dict[str, Any]]:
    """Write the rows of `neuron_effects`, with intervals bootstrapped over contexts and texts.

    `excess` is what an effect has over the control of the same gamma, paired by context.
    """
    controls = {
        (cell.value, cell.gamma, cell.target): cell.change.mean(0)
        for cell in made
        if cell.condition == "random"
    }
    no_control = np.full(len(made[0].base), np.nan)
    base = np.stack([cell.base for cell in made], 1)
    change = np.stack([cell.change.mean(0) for cell in made], 1)
    control = np.stack(
        [controls.get((cell.value, cell.gamma, cell.target), no_control) for cell in made], 1
    )
    intervals = {
        "mean": bootstrap_mean(change + base, replicates, seed),
        "effect": bootstrap_mean(change, replicates, seed),
        "excess": bootstrap_mean(change - control, replicates, seed),
        "damage": bootstrap_mean(
            np.stack([cell.damage.mean(0) for cell in made], 1), replicates, seed
        ),
    }
    return [_effect_row(cell, intervals, number) for number, cell in enumerate(made)]


def _effect_row(cell: EffectCell, intervals: Mapping[str, Interval], number: int) -> dict[str, Any]:
    """Write the row of one cell; its intervals stand at `number`."""
    mean, effect = intervals["mean"], intervals["effect"]
    excess, damage = intervals["excess"], intervals["damage"]
    draws = cell.change.mean(1) if cell.condition == "random" else np.empty(0)
    return {
        "value": cell.value,
        "condition": cell.condition,
        "gamma": cell.gamma,
        "target": cell.target,
        "neurons": cell.neurons,
        "n": int(effect.n[number]),
        "mean": float(mean.mean[number]),
        "mean_low": float(mean.low[number]),
        "mean_high": float(mean.high[number]),
        "effect": float(effect.mean[number]),
        "low": float(effect.low[number]),
        "high": float(effect.high[number]),
        "p": float(effect.p[number]),
        "excess": float(excess.mean[number]),
        "excess_low": float(excess.low[number]),
        "excess_high": float(excess.high[number]),
        "draws": len(draws),
        "draw_sd": float(draws.std(ddof=1)) if len(draws) > 1 else float("nan"),
        "damage": float(damage.mean[number]),
        "damage_low": float(damage.low[number]),
        "damage_high": float(damage.high[number]),
        "damage_n": int(damage.n[number]),
    }
