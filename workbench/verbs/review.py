"""Accept or reject a scenario, as a person does: each word on it is a small run of its own.

1. A review names the run, the scenario, the verdict, why, and who says so.
2. Nothing is overwritten: the run's number says how many reviews came before, and the last one
   counts.
"""

import dataclasses
from typing import Any, Literal

from feature_store import queries
from feature_store.errors import BadInput, NotFound, nearest
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.work import Work
from workbench.settings import plain
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class ReviewSettings:
    """Settings of `review`: the scenario, and what a person says of it."""

    scenarios: str = "latest"
    """Run of the scenarios."""
    scenario: str = ""
    """Id of the scenario."""
    verdict: Literal["accept", "reject"] = "accept"
    """Whether it may be used, whatever the filters say."""
    note: str = ""
    """Why."""
    reviewer: str = ""
    """Who says so."""


def run(study: Workspace, settings: ReviewSettings, progress: Progress) -> Run:
    """Make a run of kind `review`: what one person says of one scenario."""
    reviewed = study.resolve("scenarios", settings.scenarios)
    scenarios = queries.scenarios(study.store, reviewed.id).set_index("scenario")
    if settings.scenario not in scenarios.index:
        raise NotFound(
            f"{reviewed.id} has no scenario"
            f" {settings.scenario!r}.{nearest(settings.scenario, scenarios.index)}"
        )
    status = scenarios.status[settings.scenario]
    if settings.verdict == "accept" and status != "parsed":
        raise BadInput(
            f"Scenario {settings.scenario} could not be read ({status}), so it cannot be accepted."
        )
    number = int(scenarios.reviews[settings.scenario])

    def build(work: Work) -> dict[str, Any]:
        """Write the review."""
        row = {
            "scenarios": reviewed.id,
            "scenario": settings.scenario,
            "number": number,
            "accepted": settings.verdict == "accept",
            "note": settings.note,
            "reviewer": settings.reviewer,
        }
        work.table("reviews", [row])
        progress("reviewing", 1, 1)
        return {"scenario": settings.scenario, "verdict": settings.verdict, "number": number}

    pinned = plain(dataclasses.replace(settings, scenarios=reviewed.id)) | {"number": number}
    return study.make("review", pinned, {"scenarios": reviewed.id}, build, seed=0)
