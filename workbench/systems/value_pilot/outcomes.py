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

import numpy as np
from jaxtyping import Float, Int

from feature_store.records import Choice, DecisionEffect, Scenario
from workbench.statistics.intervals import benjamini_hochberg, bootstrap_mean, known_mean
from workbench.systems.value_pilot.scenarios import scores

ORDERS = ("given", "reversed")
OUTCOMES = ("expected", "chosen")


def outcomes(
    choices: Iterable[Choice], scenarios: Sequence[Scenario], values: Sequence[str]
) -> dict[str, Float[np.ndarray, "outcome scenario order value"]]:
    """Steering name -> score of what was decided, expected and chosen [-1 to 1]; NaN where there
    is no answer.
    """
    place = {scenario.id: number for number, scenario in enumerate(scenarios)}
    served = [scores(scenario, values) for scenario in scenarios]
    found: dict[str, np.ndarray] = defaultdict(
        lambda: np.full((2, len(scenarios), 2, len(values)), np.nan)
    )
    for choice in choices:
        at, order = place[choice.scenario], ORDERS.index(choice.order)
        cells = found[choice.steering]
        if choice.status == "parsed":
            cells[1, at, order] = served[at][choice.chosen]
            if choice.probabilities:
                cells[0, at, order] = np.array(choice.probabilities) @ served[at]
    return dict(found)


def decision_effects(
    choices: Sequence[Choice],
    scenarios: Sequence[Scenario],
    values: Sequence[str],
    replicates: int,
    seed: int,
) -> list[DecisionEffect]:
    """Steered less base for every steering, outcome and value that some scenario's actions
    differ on.
    """
    found = outcomes(choices, scenarios, values)
    kinds = {choice.steering: choice.kind for choice in choices}
    base = found.pop("base")
    differ = np.stack([np.ptp(scores(scenario, values), axis=0) > 0 for scenario in scenarios])
    rows: list[DecisionEffect] = []
    for outcome, name in enumerate(OUTCOMES):
        if name == "expected" and not any(choice.probabilities for choice in choices):
            continue  # where answers are generated, nothing is expected
        changes = {
            steering: _paired(cells[outcome], base[outcome], differ)
            for steering, cells in found.items()
        }
        controls = np.array(
            [
                known_mean(change[0], 0)
                for steering, change in changes.items()
                if kinds[steering] == "random-direction"
            ]
        )
        for steering, (change, before, after) in changes.items():
            interval = bootstrap_mean(change, replicates, seed)
            q = benjamini_hochberg(interval.p)
            null = kinds[steering] == "steering" and len(controls) > 0
            for column, value in enumerate(values):
                if not differ[:, column].any():
                    continue
                band = (
                    np.quantile(controls[:, column], (0.025, 0.975)) if null else (np.nan, np.nan)
                )
                n = int(interval.n[column])
                rows.append(
                    DecisionEffect(
                        steering=steering,
                        kind=kinds[steering],
                        outcome=name,
                        value=value,
                        base=float(before[column]),
                        steered=float(after[column]),
                        effect=float(interval.mean[column]),
                        low=float(interval.low[column]),
                        high=float(interval.high[column]),
                        p=float(interval.p[column]),
                        q=float(q[column]),
                        null_low=float(band[0]),
                        null_high=float(band[1]),
                        n=n,
                        missing=int(differ[:, column].sum()) - n,
                    )
                )
    return rows


def _paired(
    steered: Float[np.ndarray, "scenario order value"],
    base: Float[np.ndarray, "scenario order value"],
    differ: np.ndarray,
) -> tuple[
    Float[np.ndarray, "scenario value"], Float[np.ndarray, " value"], Float[np.ndarray, " value"]
]:
    """Change by scenario, NaN where it could not change or is not known; means before and after
    over the same answers.
    """
    change = known_mean(steered - base, 1)
    change[~differ] = np.nan
    known = np.isfinite(steered - base) & differ[:, None]
    before, after = (
        known_mean(known_mean(np.where(known, cells, np.nan), 1), 0) for cells in (base, steered)
    )
    return change, before, after


def rankings(choices: Iterable[Choice], steering: str) -> dict[str, Int[np.ndarray, " action"]]:
    """Scenario -> its actions, most probable first, under one steering; orders averaged."""
    shares: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for choice in choices:
        if choice.steering == steering and choice.probabilities:
            shares[choice.scenario].append(choice.probabilities)
    return {
        scenario: np.argsort(-np.mean(told, axis=0), kind="stable")
        for scenario, told in shares.items()
    }
