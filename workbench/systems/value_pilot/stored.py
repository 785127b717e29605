"""From scenarios to a run's rows and back, people's reviews included.

1. `scenario_row` and `action_rows` write what became of one request: the scenario, or why there is
   none, and what each filter says.
2. `usable` reads the scenarios that may be used: those that passed every filter and nobody
   rejected, and those that somebody accepted although a filter did not. A later review counts.
"""

import dataclasses
from typing import Any

from feature_store import queries
from feature_store.errors import BadInput
from feature_store.records import Action, Scenario, Status, ValueSystem
from feature_store.store import Store
from workbench.systems.value_pilot.filters import jaccard, leaks


@dataclasses.dataclass(frozen=True)
class ScenarioRequest:
    """What one scenario was to be about, what came, and how a blind reader took it."""

    number: int
    """0-based number within the run."""
    id: str
    """Id of the scenario."""
    values: tuple[str, ...]
    """Ids of the values it was to be about."""
    source: str
    """Name of the writer."""
    scenario: Scenario | None
    """What came; None where it could not be read."""
    answer: str = ""
    """The raw answer, where a language model gave one."""
    status: Status = "parsed"
    """How the answer could be read."""
    reason: str = ""
    """Why it could not."""
    reader: str = ""
    """Name of the blind reader; empty where nobody read it."""
    inferred: tuple[str, ...] = ()
    """Ids of the values that the blind reader named."""
    inference: str = ""
    """The blind reader's raw answer."""
    inference_status: Status | None = None
    """How that could be read; None where nobody was asked."""


def scenario_row(request: ScenarioRequest, system: ValueSystem, agreement: float) -> dict[str, Any]:
    """Write the row of the relation `scenarios`, with what each filter says.

    `agreement`: the least Jaccard index that passes [0 to 1].
    """
    scenario = request.scenario
    leaked = leaks(scenario, system) if scenario else ()
    index = float("nan")
    if request.inference_status == "parsed":
        index = jaccard(request.values, request.inferred)
    # Where nobody read it blind, as on the organism whose truth is planted, the other filter
    # decides alone.
    is_about_values = request.inference_status is None or index >= agreement
    return {
        "number": request.number,
        "scenario": request.id,
        "text": scenario.text if scenario else "",
        "at_stake": request.values,
        "source": request.source,
        "answer": request.answer,
        "status": request.status,
        "reason": request.reason,
        "leaks": leaked,
        "reader": request.reader,
        "inferred": request.inferred,
        "inference": request.inference,
        "inference_status": request.inference_status or "",
        "agreement": index,
        "passed": scenario is not None and not leaked and is_about_values,
    }


def action_rows(request: ScenarioRequest) -> list[dict[str, Any]]:
    """Write a scenario's rows of the relation `actions`; none where it could not be read."""
    actions = request.scenario.actions if request.scenario else ()
    return [
        {
            "scenario": request.id,
            "action": number,
            "text": action.text,
            "scored": [value for value, _ in action.scores],
            "scores": [score for _, score in action.scores],
        }
        for number, action in enumerate(actions)
    ]


def usable(store: Store, run: str) -> list[Scenario]:
    """Read the scenarios of a run that may be used, in its order.

    Raises BadInput where there is none.
    """
    rows = queries.scenarios(store, run)
    rows = rows[rows.usable]
    if rows.empty:
        raise BadInput(
            f"No scenario of {run} may be used: every one was filtered or rejected. Review them in"
            " the app, or write others."
        )
    actions = queries.actions(store, run).groupby("scenario")
    return [
        Scenario(
            id=row.scenario,
            text=row.text,
            values=tuple(row.at_stake),
            actions=tuple(map(_action, actions.get_group(row.scenario).itertuples())),
            source=row.source,
        )
        for row in rows.itertuples()
    ]


def _action(row: Any) -> Action:
    """Read an action from a row of `actions`."""
    return Action(row.text, tuple(zip(row.scored, map(float, row.scores), strict=True)))
