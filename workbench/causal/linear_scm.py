"""Counterfactual profiles over the graph that interventions estimated.

1. A profile x obeys `x = x A + u`: A[source, target] are the direct effects (`graph.py`), u is what
   they do not explain: the level of each value and all that makes this context differ from others.
   Cycles are allowed, `x = u (I - A)^-1`.
2. Abduction: `u = x (I - A)`, exactly.
3. do(x_K = s) cuts what points into K: their columns of A become 0 and their u becomes s.
4. Prediction with the abducted u changes only what follows from K. `fresh` hands every context
   another one's u: the interventional answer, for comparison.

Linear: a profile may leave the ends of its scale. It is not cut off, so that one sees it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.records import Run
from workbench.causal.counterfactual import Objective
from workbench.workspace import Workspace

WORST_CONDITION = 1e6
"""Largest condition number of `I - A` at which profiles are solved for."""


@dataclass(frozen=True, eq=False)
class Noise:
    """What the values do not explain of one profile, beside its observed ratings."""

    u: Float[np.ndarray, " value"]
    """Exogenous term of each value [rating points]."""
    scores: Mapping[str, float]
    """Value -> its observed rating [rating points]."""


@dataclass(frozen=True, eq=False)
class LinearSCM:
    """Linear structural model of the values: `x = x A + u`."""

    values: tuple[str, ...]
    """Ids, in the order of the matrix."""
    direct: Float[np.ndarray, "source target"]
    """A: direct effects, 0 on the diagonal [rating points per rating point]."""

    def check(self, objective: Objective) -> None:
        """Raise BadInput for an objective that sets a value which the model lacks."""
        strange = [value for value in objective.values if value not in self.values]
        if strange:
            raise BadInput(
                f"The graph has no {', '.join(strange)}; it has {', '.join(self.values)}. Leave the"
                " others out of the target."
            )

    def abduct(self, observed: Sequence[Float[np.ndarray, " value"]]) -> list[Noise]:
        """Infer the exogenous terms of each profile: `u = x (I - A)`."""
        cut = np.eye(len(self.values)) - self.direct
        return [
            Noise(x @ cut, dict(zip(self.values, map(float, x), strict=True))) for x in observed
        ]

    def predict(
        self, exogenous: Sequence[Noise], objectives: Sequence[Objective]
    ) -> list[Float[np.ndarray, " value"]]:
        """Predict each profile under do(objective) with these exogenous terms [rating points]."""
        return [
            self._run(noise.u, objective)
            for noise, objective in zip(exogenous, objectives, strict=True)
        ]

    def _run(
        self, u: Float[np.ndarray, " value"], objective: Objective
    ) -> Float[np.ndarray, " value"]:
        """One profile under do(objective)."""
        self.check(objective)
        at = [self.values.index(value) for value in objective.values]
        direct, set_to = self.direct.copy(), u.copy()
        direct[:, at] = 0.0
        set_to[at] = [target for _, target in objective.targets]
        cut = np.eye(len(u)) - direct
        if np.linalg.cond(cut) > WORST_CONDITION:
            raise BadInput(
                "The graph's cycles feed themselves (I - A has no inverse), so no profile follows."
                " Estimate it from more contexts."
            )
        return np.linalg.solve(cut.T, set_to)


def read_scm(
    study: Workspace, graph_run: Run
) -> tuple[LinearSCM, Float[np.ndarray, "source target"]]:
    """Read the edges of a graph run as a structural model, with the standard deviation of each
    weight.

    Weight and deviation are 0 where there is no edge [rating points per rating point].
    """
    rows = study.store.sql(
        "SELECT source, target, weight, z, present FROM edges WHERE run = ?", [graph_run.id]
    )
    named = set(rows.source) | set(rows.target)
    values = tuple(value for value in study.system.ids if value in named)
    direct, sd = np.zeros((2, len(values), len(values)))
    for edge in rows[rows.present].itertuples():
        cell = values.index(edge.source), values.index(edge.target)
        direct[cell] = edge.weight
        sd[cell] = abs(edge.weight / edge.z)
    return LinearSCM(values, direct), sd


def fresh(exogenous: Sequence[Noise], seed: int) -> list[Noise]:
    """Give every context the exogenous terms of another one, at random.

    None gets back its terms. Raises BadInput for a single context.
    """
    if len(exogenous) < 2:
        raise BadInput(
            "Fresh noise comes from another context, and there is one only. Measure more contexts."
        )
    order = np.random.default_rng(seed).permutation(len(exogenous))
    given = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [exogenous[given[number]] for number in range(len(exogenous))]
