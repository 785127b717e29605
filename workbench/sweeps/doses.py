"""Doses from the model at hand: the strength at which text still reads as text, with its curve.

1. A few of the features that a sweep steers, and as many random directions of the same length, are
   steered over neutral texts at a geometric grid of strengths: doubled until the features' mean
   damage passes the limit, or halved until it no longer does.
2. `BISECTIONS` further strengths halve the interval of the crossing, in logarithms. The largest
   strength at which the damage stays within the limit is interpolated on the curve's running
   maximum; a small steering's damage grows like a power of its strength, so logarithms are
   interpolated.
3. The doses of the sweep are `SHARES` of that strength, so that the largest one is where text is at
   the limit.

Strengths are measured one after the other and kept, so an interrupted search goes on. Left out: a
strength for each feature; `damage.match` finds those on the sweep itself.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from feature_store.progress import Progress, StageProgress, silent_stage, stage, step
from feature_store.records import Steering
from feature_store.work import Work
from workbench.statistics.intervals import bootstrap_mean
from workbench.steering.apply import scale_of
from workbench.sweeps.stored import SweepSetup, edited_model
from workbench.sweeps.sweep import Controls, Intervention, neutral_tokens, plan
from workbench.workspace import Workspace

SHARES = (1 / 6, 1 / 3, 1 / 2, 3 / 4, 1.0)
"""Doses as shares of the largest strength: those of the organism, 0.1 to 0.6, over 0.6."""
START = 0.05
"""First strength [share of the median residual norm, or multiple of a feature's maximum]."""
DOUBLINGS = 6
"""Strengths at most on either side of the first one before the search gives up."""
BISECTIONS = 2
"""Strengths measured between the last one within the limit and the first one beyond it."""
UNITS = 10
"""Features steered in the search at most, and random directions beside them."""


class DamageCurve(NamedTuple):
    """Damage over strengths, as it was measured, and where it passes the limit."""

    doses: Float[np.ndarray, " dose"]
    """Measured strengths, rising [the sweep's unit]."""
    damage: Float[np.ndarray, "dose unit text"]
    """Rise of the loss on each neutral text [nats per token]."""
    strength: float
    """Largest strength whose mean damage stays within the limit [the sweep's unit]."""
    reached: bool
    """False: the damage stays within the limit at every measured strength, or passes it at each of
    them; `strength` then is the largest, or the smallest, of them."""


def search(
    measure: Callable[[float], Float[np.ndarray, "unit text"]],
    limit: float,
    start: float,
    leading: int,
    progress: StageProgress = silent_stage,
) -> DamageCurve:
    """Search for the strength at which the mean damage of the first `leading` units is `limit`.

    `measure` gives the damage of every unit on every text at a strength [nats per token]; `start`
    is the first strength that is tried. `progress` counts strengths, and expects as many as it
    takes where damage grows with the square of the strength.

        search(lambda dose: np.full((1, 1), dose**2), 0.09, 0.05, leading=1).strength  # 0.3
    """
    curve = {start: measure(start)}

    def mean(dose: float) -> float:
        """Average the leading units' damage at a measured strength [nats per token]."""
        return float(curve[dose][:leading].mean())

    factor = 2.0 if mean(start) < limit else 0.5
    edge = start
    for tried in range(DOUBLINGS):
        if (mean(edge) < limit) != (factor > 1):
            break
        doublings = min(_doublings(mean(edge), limit), DOUBLINGS - tried)
        progress(len(curve), len(curve) + doublings + BISECTIONS)
        edge *= factor
        curve[edge] = measure(edge)
    reached = (mean(edge) < limit) != (factor > 1)
    if reached:
        low, high = sorted((edge, edge / factor))
        for left in range(BISECTIONS, 0, -1):
            progress(len(curve), len(curve) + left)
            middle = math.sqrt(low * high)
            curve[middle] = measure(middle)
            low, high = (middle, high) if mean(middle) < limit else (low, middle)
    progress(len(curve), len(curve))
    doses = sorted(curve)
    means = np.array([mean(dose) for dose in doses])
    return DamageCurve(
        doses=np.array(doses),
        damage=np.stack([curve[dose] for dose in doses]),
        strength=crossing(np.array(doses), means, limit) if reached else edge,
        reached=reached,
    )


def _doublings(damage: float, limit: float) -> int:
    """Guess how often a strength is doubled or halved until its damage passes the limit."""
    if damage <= 0:
        return DOUBLINGS
    return max(1, math.ceil(abs(math.log2(limit / damage)) / 2))


def crossing(
    doses: Float[np.ndarray, " dose"], damage: Float[np.ndarray, " dose"], limit: float
) -> float:
    """Interpolate a damage curve to the first strength at which it is `limit` [nats per token].

    Logarithms are interpolated where the damage below is positive, else the numbers themselves. The
    largest of the strengths must pass the limit.

        crossing(np.array([0.1, 0.4]), np.array([0.01, 0.16]), 0.04)  # 0.2
    """
    curve = np.maximum.accumulate(damage)
    above = int(np.argmax(curve >= limit))
    high, at_high = float(doses[above]), float(curve[above])
    if not above:
        return high
    low, at_low = float(doses[above - 1]), float(curve[above - 1])
    if at_low <= 0:
        return low + (high - low) * (limit - at_low) / (at_high - at_low)
    share = math.log(limit / at_low) / math.log(at_high / at_low)
    return low * (high / low) ** share


def found_doses(
    work: Work,
    study: Workspace,
    setup: SweepSetup,
    steered: Sequence[Intervention],
    limit: float,
    progress: Progress,
) -> tuple[float, ...]:
    """Search for a sweep's doses, write the relation `dose_curves`, and give the doses.

    `steered`: what the sweep steers, best first of each value; `limit`: largest damage [nats per
    token]. Warns where no strength has that damage.
    """
    units, leading = _units(steered, setup)
    names = [unit.kind for unit in units]
    kept = len(work.done("dose_search"))
    number, expected = 0, 1 + DOUBLINGS + BISECTIONS
    shown = stage(progress, "finding doses")

    def count(strengths: int, total: int) -> None:
        """Show how many units were steered at strengths so far, and how many are expected."""
        nonlocal expected
        expected = total
        if strengths >= kept:
            shown(strengths * len(units), total * len(units))

    def measure(dose: float) -> Float[np.ndarray, "unit text"]:
        """Measure all units at a strength, or find them kept."""
        nonlocal number
        if number >= kept:
            at_dose = [replace(unit.steering, strength=dose) for unit in units]
            inside = step(shown, number * len(units), len(units), expected * len(units))
            damage = _damage(study, setup, at_dose, inside)
            work.part("dose_search", number, pa.table({"damage": list(damage)}))
        damage = np.stack(work.kept("dose_search", number)["damage"].to_pylist())
        number += 1
        return damage

    raw = setup.template.unit == "raw"
    start = START * (scale_of(study, setup.sae_run).median_norm if raw else 1.0)
    curve = search(measure, limit, start, leading, count)
    work.table("dose_curves", curve_rows(curve, names, setup.settings.seed))
    if not curve.reached:
        side = "at most" if curve.strength > start else "at least"
        warnings.warn(
            f"no strength up to {curve.doses[-1]:g} and down to {curve.doses[0]:g} does a damage of"
            f" {limit:g} nats a token: doses reach {curve.strength:g}, where it is"
            f" {side} that. Name other --doses, or another --delta.",
            stacklevel=2,
        )
    return tuple(float(f"{share * curve.strength:.4g}") for share in SHARES)


def curve_rows(curve: DamageCurve, kinds: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Give the rows of `dose_curves`: one a strength and kind of what was steered.

    `kinds` names the kind of each unit; intervals are bootstrapped over neutral texts.
    """
    rows = []
    for kind in dict.fromkeys(kinds):
        members = np.array([other == kind for other in kinds])
        by_text = curve.damage[:, members].mean(1)
        interval = bootstrap_mean(by_text.T, 1000, seed)
        rows += [
            {
                "kind": kind,
                "dose": float(dose),
                "damage": float(interval.mean[k]),
                "low": float(interval.low[k]),
                "high": float(interval.high[k]),
                "units": int(members.sum()),
                "n": int(interval.n[k]),
                "seed": seed,
            }
            for k, dose in enumerate(curve.doses)
        ]
    return rows


def _units(steered: Sequence[Intervention], setup: SweepSetup) -> tuple[list[Intervention], int]:
    """Give the best unit of each value, then as many random directions; and the number of the
    former.
    """
    best = list({unit.value: unit for unit in reversed(steered)}.values())[::-1][:UNITS]
    controls = Controls(unlabelled=(), features=0, directions=len(best), seed=setup.settings.seed)
    return plan(best, controls, setup.template, (1.0,)), len(best)


def _damage(
    study: Workspace,
    setup: SweepSetup,
    steerings: Sequence[Steering],
    progress: StageProgress,
) -> Float[np.ndarray, "unit text"]:
    """Measure the rise of the loss on every neutral text under each steering [nats per token]."""
    from sae_training.engine.losses import losses

    edited = edited_model(study, setup.sae_run, steerings)
    neutral = neutral_tokens(edited.model, setup.material.neutral)
    loss = losses(edited.model, neutral, edited.edit, edited.site, progress)
    return (loss.steered - loss.base).double().numpy()
