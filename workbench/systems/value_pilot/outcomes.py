"""Which values a model's decisions serve, and what steering changes about that.

1. The outcome of a choice is the score of the chosen action on a value, or the expected score under
   the softmax over the actions. Only parsed answers have one.
2. Steered less base is taken within scenario and order of the actions, then averaged over orders:
   the pairs are exact.
3. A scenario counts for a value where its actions differ on it: elsewhere no decision could change
   the score. The mean over such scenarios carries an interval bootstrapped over scenarios, p, and q
   over the values.
4. Random directions of equal norm go through the same steps; their effects' central 95 % stands
   beside each effect as its null band.

Left out: damage matching. A sweep (`effects`) knows the damage of a dose; the controls here are
matched in norm.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from feature_store.records import Choice, DecisionEffect, Scenario
from workbench.statistics.intervals import (
    Interval,
    benjamini_hochberg,
    bootstrap_mean,
    known_mean,
)
from workbench.systems.value_pilot.scenarios import scores

ORDERS = ("given", "reversed")
OUTCOMES: tuple[Literal["expected", "chosen"], ...] = ("expected", "chosen")


def outcomes(
    choices: Iterable[Choice], scenarios: Sequence[Scenario], values: Sequence[str]
) -> dict[str, Float[np.ndarray, "outcome scenario order value"]]:
    """Score what was decided under each steering, by its name [-1 to 1].

    The outcomes are the expected score and that of the chosen action, as in `OUTCOMES`; NaN where
    there is no answer.
    """
    place = {scenario.id: number for number, scenario in enumerate(scenarios)}
    served = [scores(scenario, values) for scenario in scenarios]
    shape = (len(OUTCOMES), len(scenarios), len(ORDERS), len(values))
    scored: dict[str, np.ndarray] = defaultdict(lambda: np.full(shape, np.nan))
    for choice in choices:
        number = place[choice.scenario]
        order = ORDERS.index(choice.order)
        cells = scored[choice.steering]
        if choice.status == "parsed":
            cells[1, number, order] = served[number][choice.chosen]
            if choice.probabilities:
                cells[0, number, order] = np.array(choice.probabilities) @ served[number]
    return dict(scored)


class _Change(NamedTuple):
    """What one steering changes of one outcome."""

    by_scenario: Float[np.ndarray, "scenario value"]
    """Steered less base; NaN where it could not change or is not known [score points]."""
    before: Float[np.ndarray, " value"]
    """Mean of the base over the same answers [-1 to 1]."""
    after: Float[np.ndarray, " value"]
    """Mean under the steering over the same answers [-1 to 1]."""


def decision_effects(
    choices: Sequence[Choice],
    scenarios: Sequence[Scenario],
    values: Sequence[str],
    replicates: int,
    seed: int,
) -> list[DecisionEffect]:
    """Estimate steered less base for every steering, outcome and value.

    A value that no scenario's actions differ on has no effect, and no row.
    """
    scored = outcomes(choices, scenarios, values)
    kinds: dict[str, Literal["steering", "random-direction"]] = {
        choice.steering: choice.kind for choice in choices if choice.kind != "base"
    }
    base = scored.pop("base")
    differ = np.stack([np.ptp(scores(scenario, values), axis=0) > 0 for scenario in scenarios])
    effects: list[DecisionEffect] = []
    for number, outcome in enumerate(OUTCOMES):
        if outcome == "expected" and not any(choice.probabilities for choice in choices):
            continue  # where answers are generated, nothing is expected
        changes = {
            steering: _change(cells[number], base[number], differ)
            for steering, cells in scored.items()
        }
        controls = [
            known_mean(change.by_scenario, 0)
            for steering, change in changes.items()
            if kinds[steering] == "random-direction"
        ]
        for steering, change in changes.items():
            interval = bootstrap_mean(change.by_scenario, replicates, seed)
            band = np.full((2, len(values)), np.nan)
            if kinds[steering] == "steering" and controls:
                band = np.quantile(np.array(controls), (0.025, 0.975), axis=0)
            rows = _effect_rows(change, interval, band, differ.sum(0), values)
            effects += [
                DecisionEffect(steering=steering, kind=kinds[steering], outcome=outcome, **row)
                for row in rows
            ]
    return effects


def _effect_rows(
    change: _Change,
    interval: Interval,
    band: Float[np.ndarray, "2 value"],
    able: Int[np.ndarray, " value"],
    values: Sequence[str],
) -> list[dict[str, Any]]:
    """Give the fields of an effect for every value on which a scenario's actions differ.

    `able` counts those scenarios, `band` holds the ends of the null band.
    """
    q = benjamini_hochberg(interval.p)
    return [
        {
            "value": value,
            "base": float(change.before[column]),
            "steered": float(change.after[column]),
            "effect": float(interval.mean[column]),
            "low": float(interval.low[column]),
            "high": float(interval.high[column]),
            "p": float(interval.p[column]),
            "q": float(q[column]),
            "null_low": float(band[0, column]),
            "null_high": float(band[1, column]),
            "n": int(interval.n[column]),
            "missing": int(able[column]) - int(interval.n[column]),
        }
        for column, value in enumerate(values)
        if able[column]
    ]


def _change(
    steered: Float[np.ndarray, "scenario order value"],
    base: Float[np.ndarray, "scenario order value"],
    differ: Bool[np.ndarray, "scenario value"],
) -> _Change:
    """Pair steered and unsteered scores by scenario and order, then average over orders."""
    change = known_mean(steered - base, 1)
    change[~differ] = np.nan
    paired = np.isfinite(steered - base) & differ[:, None]
    before, after = (
        known_mean(known_mean(np.where(paired, cells, np.nan), 1), 0) for cells in (base, steered)
    )
    return _Change(change, before, after)


def rankings(choices: Iterable[Choice], steering: str) -> dict[str, Int[np.ndarray, " action"]]:
    """Rank each scenario's actions, most probable first, under one steering; orders averaged."""
    shares: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for choice in choices:
        if choice.steering == steering and choice.probabilities:
            shares[choice.scenario].append(choice.probabilities)
    return {
        scenario: np.argsort(-np.mean(by_order, axis=0), kind="stable")
        for scenario, by_order in shares.items()
    }
