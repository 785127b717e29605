"""From scenarios to a run's rows and back, people's reviews included.

1. `rows` writes what became of one request: the scenario, or why there is none, and what each
   filter said.
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
class Asked:
    """What was asked for, and what came."""

    number: int
    """0-based number within the run."""
    id: str
    """Id of the scenario."""
    values: tuple[str, ...]
    """The values it was to be about."""
    source: str
    """Who was asked."""
    scenario: Scenario | None
    """What came; None where it could not be read."""
    answer: str = ""
    """The raw answer, where a language model gave one."""
    status: Status = "parsed"
    """How the answer could be read."""
    reason: str = ""
    """Why it could not."""
    reader: str = ""
    """Who read it blind; empty where nobody did."""
    inferred: tuple[str, ...] = ()
    """What the blind reader found."""
    inference: str = ""
    """The blind reader's raw answer."""
    inference_status: Status | None = None
    """How that could be read; None where nobody was asked."""


def rows(
    asked: Asked, system: ValueSystem, agreement: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of `scenarios` and the rows of `actions`.

    `agreement`: the least Jaccard index that passes [0 to 1].
    """
    leaked = leaks(asked.scenario, system) if asked.scenario else ()
    met = (
        jaccard(asked.values, asked.inferred)
        if asked.inference_status == "parsed"
        else float("nan")
    )
    # Where no one read it blind, as on the organism whose truth is planted, the other filter
    # decides alone.
    about = asked.inference_status is None or met >= agreement
    row = {
        "number": asked.number,
        "scenario": asked.id,
        "text": asked.scenario.text if asked.scenario else "",
        "at_stake": asked.values,
        "source": asked.source,
        "answer": asked.answer,
        "status": asked.status,
        "reason": asked.reason,
        "leaks": leaked,
        "reader": asked.reader,
        "inferred": asked.inferred,
        "inference": asked.inference,
        "inference_status": asked.inference_status or "",
        "agreement": met,
        "passed": bool(asked.scenario is not None and not leaked and about),
    }
    actions = [
        {
            "scenario": asked.id,
            "action": number,
            "text": action.text,
            "scored": [v for v, _ in action.scores],
            "scores": [s for _, s in action.scores],
        }
        for number, action in enumerate(asked.scenario.actions if asked.scenario else ())
    ]
    return row, actions


def usable(store: Store, run: str) -> list[Scenario]:
    """The scenarios of a run that may be used, in its order.

    Raises BadInput where there is none.
    """
    kept = queries.scenarios(store, run)
    kept = kept[kept.usable]
    if kept.empty:
        raise BadInput(
            f"No scenario of {run} may be used: every one was filtered or rejected. Review them in"
            " the app, or write others."
        )
    actions = queries.actions(store, run).groupby("scenario")
    return [
        Scenario(
            id=s.scenario,
            text=s.text,
            values=tuple(s.at_stake),
            actions=tuple(
                Action(a.text, tuple(zip(a.scored, map(float, a.scores), strict=True)))
                for a in actions.get_group(s.scenario).itertuples()
            ),
            source=s.source,
        )
        for s in kept.itertuples()
    ]
