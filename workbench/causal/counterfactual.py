"""What would it have been, had these values counted so: abduction, action, prediction (Pearl 2009,
chapter 7).

1. *Abduction*: a structural model takes from what was observed the exogenous terms, those that the
   values do not explain, and the values' scores v' that it showed.
2. *Action*: if `sum |s - s'|` over the objective is more than theta, do(V = s). Otherwise nothing
   is changed.
3. *Prediction*: the model runs again with the objective's values set and the abducted terms kept.
   With other exogenous terms the same would be an interventional answer, about somebody else.

Two models fit behind it: `linear_scm.py` (numbers, over the graph that our interventions estimated)
and `couple.py` (text, simulated by a language model; Guo et al., "Counterfactual reasoning for
steerable pluralistic value alignment", 2025). Theta is not given in the paper: it is a parameter.
`mae` and `spearman` compare scores with an objective.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from scipy import stats

from feature_store.errors import BadInput

MOST = 5
"""Values that one objective may set; the paper's limit on relevant dimensions."""
LOWEST, HIGHEST = 1.0, 5.0
"""Ends of the rubric."""


@dataclass(frozen=True)
class Objective:
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
        """Ids of the values that are set."""
        return tuple(value for value, _ in self.targets)

    def distance(self, scores: Mapping[str, float]) -> float:
        """`sum |s - s'|` over the values that are set [unit of the scores]."""
        return float(sum(abs(target - scores[value]) for value, target in self.targets))


@runtime_checkable
class StructuralModel(Protocol):
    """Values and exogenous terms in, an outcome out."""

    def abduct(self, observed: Sequence[Any]) -> Sequence[Any]:
        """The exogenous terms of each observation, with its `scores` (value -> score); None
        where it could not be read.
        """
        ...

    def predict(self, exogenous: Sequence[Any], objectives: Sequence[Objective]) -> Sequence[Any]:
        """The outcome under do(objective) with these exogenous terms; None where it could not be
        read.
        """
        ...


class Counterfactual(NamedTuple):
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
    """Abduction, action and prediction for each observation and its objective."""
    if not theta >= 0:
        raise BadInput(f"theta is a distance >= 0, got {theta:g}.")
    terms = model.abduct(observed)
    distances = [
        float("nan") if e is None else o.distance(e.scores)
        for e, o in zip(terms, objectives, strict=True)
    ]
    acted = [number for number, distance in enumerate(distances) if distance > theta]
    outcomes = dict(
        zip(
            acted,
            model.predict([terms[i] for i in acted], [objectives[i] for i in acted]),
            strict=True,
        )
    )
    return [
        Counterfactual(
            exogenous=term,
            distance=distance,
            intervened=number in outcomes,
            outcome=None if term is None else outcomes.get(number, seen),
        )
        for number, (seen, term, distance) in enumerate(
            zip(observed, terms, distances, strict=True)
        )
    ]


def mae(scores: Mapping[str, float], objective: Objective) -> float:
    """Mean absolute difference to the objective, over the values that it sets [rubric points]."""
    return objective.distance(scores) / len(objective.targets)


def spearman(scores: Mapping[str, float], objective: Objective) -> float:
    """Rank correlation with the objective, ties sharing the mean of their ranks; NaN where
    either side has one rank only.
    """
    ranks = [
        stats.rankdata(side)
        for side in ([scores[v] for v in objective.values], [t for _, t in objective.targets])
    ]
    a, b = (side - side.mean() for side in ranks)
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > 0 else float("nan")
