"""What would it have been, had these values counted so: abduction, action, prediction (Pearl 2009,
chapter 7).

1. *Abduction*: a structural model takes from what was observed the exogenous terms, those that the
   values do not explain, and the values' scores v' that it showed.
2. *Action*: if `sum |s - s'|` over the objective is more than theta, do(V = s). Otherwise nothing
   is changed.
3. *Prediction*: the model runs again with the objective's values set and the abducted terms kept.
   With other exogenous terms the same would be an interventional answer, about somebody else.

Two models fit behind it: `causal/linear_scm.py` (numbers, over the graph that our interventions
estimated) and `systems/couple/text_scm.py` (text, simulated by a language model; Guo et al.,
"Counterfactual reasoning for steerable pluralistic value alignment", 2025). Theta is not given in
the paper: it is a parameter. `mae` and `spearman` compare scores with an objective.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from scipy import stats

from feature_store.errors import BadInput

MOST = 5
"""Values that one objective may set; the paper's limit on relevant dimensions."""
LOWEST = 1.0
"""Lower end of the rubric."""
HIGHEST = 5.0
"""Upper end of the rubric."""


@dataclass(frozen=True)
class Objective:
    """The scores that values are set to, the most important value first."""

    targets: tuple[tuple[str, float], ...]
    """(value id, wanted score) pairs, the most important first [1 to 5 on the rubric, or the
    model's own scale]."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.targets) <= MOST:
            raise BadInput(
                f"An objective sets 1 to {MOST} values, got {len(self.targets)}. Name the ones that"
                " matter."
            )
        names = [value for value, _ in self.targets]
        if len(set(names)) < len(names):
            raise BadInput(f"An objective names each value once, got {', '.join(names)}.")

    @property
    def values(self) -> tuple[str, ...]:
        """Ids of the values that are set, the most important first."""
        return tuple(value for value, _ in self.targets)

    def distance(self, scores: Mapping[str, float]) -> float:
        """Add up `|s - s'|` over the values that are set [unit of the scores]."""
        return float(sum(abs(target - scores[value]) for value, target in self.targets))


@runtime_checkable
class StructuralModel(Protocol):
    """Values and exogenous terms in, an outcome out.

    model = LinearSCM(("power", "security"), direct)
    terms = model.abduct([profile])
    model.predict(terms, [Objective((("power", 1.0),))])        # the profile under do(power = 1)
    """

    def abduct(self, observed: Sequence[Any]) -> Sequence[Any]:
        """Infer the exogenous terms of each observation, with its `scores` (value -> score).

        None where it could not be read.
        """
        ...

    def predict(self, exogenous: Sequence[Any], objectives: Sequence[Objective]) -> Sequence[Any]:
        """Predict each outcome under do(objective) with these exogenous terms.

        None where it could not be read.
        """
        ...


class Counterfactual(NamedTuple):
    """What one observation would have been, and how it was found out."""

    exogenous: Any
    """What was abducted; None where it could not be read."""
    distance: float
    """Of the observed scores to the objective; NaN without them."""
    intervened: bool
    """Whether the distance is more than theta."""
    outcome: Any
    """What would have been; the observation itself where nothing was changed; None where it
    could not be read."""


def counterfactuals(
    model: StructuralModel, observed: Sequence[Any], objectives: Sequence[Objective], theta: float
) -> list[Counterfactual]:
    """Infer what each observation would have been under its objective.

    `theta`: nothing is set where the observed scores are this near to the objective [unit of the
    scores, summed over its values].

        counterfactuals(scm, profiles, [objective] * len(profiles), theta=1.0)[0].outcome
    """
    if not theta >= 0:
        raise BadInput(f"theta is a distance >= 0, got {theta:g}.")
    terms = model.abduct(observed)
    distances = [
        float("nan") if term is None else objective.distance(term.scores)
        for term, objective in zip(terms, objectives, strict=True)
    ]
    acted = [number for number, distance in enumerate(distances) if distance > theta]
    predicted = model.predict([terms[i] for i in acted], [objectives[i] for i in acted])
    outcomes = dict(zip(acted, predicted, strict=True))
    results = []
    for number, observation in enumerate(observed):
        outcome = outcomes.get(number, observation)
        results.append(
            Counterfactual(
                exogenous=terms[number],
                distance=distances[number],
                intervened=number in outcomes,
                outcome=None if terms[number] is None else outcome,
            )
        )
    return results


def mae(scores: Mapping[str, float], objective: Objective) -> float:
    """Average the absolute difference to the objective over the values it sets [rubric points]."""
    return objective.distance(scores) / len(objective.targets)


def spearman(scores: Mapping[str, float], objective: Objective) -> float:
    """Correlate ranks with those of the objective, ties sharing the mean of their ranks.

    NaN where either side has one rank only [-1 to 1].
    """
    observed = stats.rankdata([scores[value] for value in objective.values])
    wanted = stats.rankdata([target for _, target in objective.targets])
    a, b = observed - observed.mean(), wanted - wanted.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > 0 else float("nan")
