"""What editing value neurons does to every value, beside a control, and to neutral text.

1. `plan`: every value's own neurons, the same in exchanged roles, and the draws of the control, at
   every gamma.
2. `cells`: change of each rating, paired by context. The draws of the control are pooled before
   contexts are resampled; the spread over draws stands beside it.
3. `effect_rows`: means with intervals over contexts, damage with intervals over texts, and what an
   edit has over the control of the same gamma. The last rows average every value's effect on
   itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from workbench.statistics.intervals import bootstrap_mean

Condition = Literal["default", "edited", "reversed", "random"]
TOGETHER, OWN = "all", "own"
"""Source and target of the rows that average every value's effect on itself."""


@dataclass(frozen=True)
class Planned:
    value: str
    """Value whose neurons are edited."""
    condition: Condition
    """What is edited: its neurons, the same in exchanged roles, or other neurons."""
    gamma: float
    """How far targets are pushed [multiples of u]."""
    draw: int
    """0-based draw of the control; -1 elsewhere."""


def plan(values: Sequence[str], gammas: Sequence[float], draws: int) -> list[Planned]:
    """Every edit of every value, value by value."""
    if not gammas or any(gamma < 0 for gamma in gammas) or list(gammas) != sorted(set(gammas)):
        raise BadInput(
            f"Gammas are rising numbers >= 0, got {', '.join(f'{g:g}' for g in gammas) or 'none'}."
            " The paper goes from 0.1 to 2."
        )
    kinds: list[tuple[Condition, int]] = [
        ("edited", -1),
        ("reversed", -1),
        *(("random", k) for k in range(draws)),
    ]
    return [
        Planned(value=value, condition=kind, gamma=float(gamma), draw=draw)
        for value in values
        for kind, draw in kinds
        for gamma in gammas
    ]


class Cell(NamedTuple):
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


def cells(
    planned: Sequence[Planned],
    edited: Sequence[int],
    targets: Sequence[str],
    ratings: Float[np.ndarray, "edit context target"],
    base: Float[np.ndarray, "context target"],
    damage: Float[np.ndarray, "edit text"],
) -> list[Cell]:
    """Every edit x target, draws of the control together; `edited` counts the neurons of each edit.

    The unedited model comes first. The last cells average, edit by edit, every value's effect on
    itself.
    """
    changes, members = ratings - base, {}
    for number, one in enumerate(planned):
        members.setdefault((one.value, one.condition, one.gamma), []).append(number)
    found = [
        Cell(
            value="",
            condition="default",
            gamma=0.0,
            target=target,
            base=base[:, c],
            change=np.zeros((1, len(base))),
            damage=np.zeros((1, damage.shape[1])),
            neurons=0,
        )
        for c, target in enumerate(targets)
    ]
    found += [
        Cell(*key, target, base[:, c], changes[rows, :, c], damage[rows], edited[rows[0]])
        for key, rows in members.items()
        for c, target in enumerate(targets)
    ]
    own: dict[tuple[Condition, float], list[Cell]] = {}
    for cell in found:
        if cell.value == cell.target:
            own.setdefault((cell.condition, cell.gamma), []).append(cell)
    return found + [
        Cell(
            TOGETHER,
            *key,
            OWN,
            *(np.mean([cell[field] for cell in alike], 0) for field in (4, 5, 6)),
            round(np.mean([cell.neurons for cell in alike])),
        )
        for key, alike in own.items()
    ]


def effect_rows(made: Sequence[Cell], replicates: int, seed: int) -> list[dict[str, Any]]:
    """Rows of `neuron_effects`.

    `excess` is what an effect has over the control of the same gamma, paired by context.
    """
    control = {
        (cell.value, cell.gamma, cell.target): cell.change.mean(0)
        for cell in made
        if cell.condition == "random"
    }
    unknown = np.full(len(made[0].base), np.nan)
    change = np.stack([cell.change.mean(0) for cell in made], 1)
    over = change - np.stack(
        [control.get((cell.value, cell.gamma, cell.target), unknown) for cell in made], 1
    )
    means = bootstrap_mean(change + np.stack([cell.base for cell in made], 1), replicates, seed)
    effects, excess = (
        bootstrap_mean(change, replicates, seed),
        bootstrap_mean(over, replicates, seed),
    )
    harm = bootstrap_mean(np.stack([cell.damage.mean(0) for cell in made], 1), replicates, seed)
    rows = []
    for k, cell in enumerate(made):
        draws = cell.change.mean(1) if cell.condition == "random" else np.empty(0)
        rows.append(
            {
                "value": cell.value,
                "condition": cell.condition,
                "gamma": cell.gamma,
                "target": cell.target,
                "neurons": cell.neurons,
                "n": int(effects.n[k]),
                "mean": float(means.mean[k]),
                "mean_low": float(means.low[k]),
                "mean_high": float(means.high[k]),
                "effect": float(effects.mean[k]),
                "low": float(effects.low[k]),
                "high": float(effects.high[k]),
                "p": float(effects.p[k]),
                "excess": float(excess.mean[k]),
                "excess_low": float(excess.low[k]),
                "excess_high": float(excess.high[k]),
                "draws": len(draws),
                "draw_sd": float(draws.std(ddof=1)) if len(draws) > 1 else float("nan"),
                "damage": float(harm.mean[k]),
                "damage_low": float(harm.low[k]),
                "damage_high": float(harm.high[k]),
                "damage_n": int(harm.n[k]),
            }
        )
    return rows
