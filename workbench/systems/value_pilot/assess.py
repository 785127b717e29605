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
class Assessed:
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
    """An assessor that learned from these scenarios."""
    texts = [s.text for s in scenarios] + [a.text for s in scenarios for a in s.actions]
    ratings = np.vstack(
        [stakes(s, values) for s in scenarios] + [scores(s, values) for s in scenarios]
    )
    return fitter.fit(texts, ratings, settings)


def cross_fit(
    fitter: Fitter,
    scenarios: Sequence[Scenario],
    values: Sequence[str],
    settings: Any,
    folds: int,
    seed: int,
) -> Assessed:
    """Every scenario rated by an assessor fitted on the other folds.

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
        known = fit(
            fitter,
            [s for s, f in zip(scenarios, fold, strict=True) if f != number],
            values,
            settings,
        )
        for row in np.flatnonzero(fold == number):
            one = scenarios[row]
            rated = known.assess([one.text, *(action.text for action in one.actions)]).rating
            situations[row], actions[row] = rated[0], rated[1:]
    found, written = (
        np.vstack(actions).ravel(),
        np.vstack([scores(s, values) for s in scenarios]).ravel(),
    )
    r = (
        float(np.corrcoef(found, written)[0, 1])
        if found.std() > 0 and written.std() > 0
        else float("nan")
    )
    return Assessed(situations, tuple(actions), r)
