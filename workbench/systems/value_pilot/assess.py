"""Rate scenarios and actions by an assessor that never saw them: cross-fitting over scenarios.

1. Scenarios are dealt to folds; the assessor that rates a fold is fitted on the texts of the
   others. A scenario's actions stay together, for they share their words.
2. It learns from actions with their scores, and from situations with 1 for a value at stake and 0
   for the others.
3. `r` correlates its ratings of the held-out actions with their written scores: how good a stand-in
   it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.records import Scenario
from workbench.systems.value_pilot.assessors import Assessor, Fitter
from workbench.systems.value_pilot.scenarios import scores, stakes


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Ratings of scenarios by an assessor that was fitted on other scenarios."""

    scenarios: Float[np.ndarray, "scenario value"]
    """Ratings of the situations [-1 to 1]."""
    actions: tuple[Float[np.ndarray, "_ value"], ...]
    """Ratings of each scenario's actions [-1 to 1]."""
    r: float
    """Pearson correlation of held-out ratings and written scores over actions and values; NaN
    without spread."""


def fit(
    fitter: Fitter, scenarios: Sequence[Scenario], values: Sequence[str], settings: Any
) -> Assessor:
    """Fit an assessor on the situations and the actions of these scenarios."""
    situations = [scenario.text for scenario in scenarios]
    actions = [action.text for scenario in scenarios for action in scenario.actions]
    at_stake = [stakes(scenario, values) for scenario in scenarios]
    scored = [scores(scenario, values) for scenario in scenarios]
    return fitter.fit(situations + actions, np.vstack(at_stake + scored), settings)


def cross_fit(
    fitter: Fitter,
    scenarios: Sequence[Scenario],
    values: Sequence[str],
    settings: Any,
    folds: int,
    seed: int,
) -> CrossFit:
    """Rate every scenario by an assessor fitted on the other folds.

    Raises BadInput with fewer scenarios than folds.
    """
    if not 2 <= folds <= len(scenarios):
        raise BadInput(
            f"An assessor is fitted in 2 to {len(scenarios)} folds here, one scenario a fold at"
            f" least; got {folds}."
        )
    fold = np.random.default_rng((seed, 2)).permutation(np.arange(len(scenarios)) % folds)
    situations = np.zeros((len(scenarios), len(values)))
    actions: list[np.ndarray] = [np.empty(0)] * len(scenarios)
    for number in range(folds):
        others = [scenarios[row] for row in np.flatnonzero(fold != number).tolist()]
        assessor = fit(fitter, others, values, settings)
        for row in np.flatnonzero(fold == number).tolist():
            texts = [scenarios[row].text, *(action.text for action in scenarios[row].actions)]
            ratings = assessor.assess(texts).rating
            situations[row] = ratings[0]
            actions[row] = ratings[1:]
    written = np.vstack([scores(scenario, values) for scenario in scenarios])
    r = _pearson(np.vstack(actions).ravel(), written.ravel())
    return CrossFit(situations, tuple(actions), r)


def _pearson(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Correlate two rows of numbers; NaN where one of them is constant."""
    if a.std() > 0 and b.std() > 0:
        return float(np.corrcoef(a, b)[0, 1])
    return float("nan")
