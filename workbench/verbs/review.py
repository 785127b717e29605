"""Accept or reject a scenario, as a person does: each word on it is a small run of its own.

1. A review names the run, the scenario, the verdict, why, and who says so.
2. Nothing is overwritten: the run's number says how many reviews came before, and the last one
   counts.
"""

import dataclasses
from typing import Literal

from feature_store import queries
from feature_store.errors import BadInput, NotFound, nearest
from feature_store.progress import Progress
from feature_store.records import Run
from workbench.settings import plain
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class ReviewSettings:
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


def run(study: Workspace, config: ReviewSettings, progress: Progress) -> Run:
    """A run of kind `review`."""
    reviewed = study.resolve("scenarios", config.scenarios)
    known = queries.scenarios(study.store, reviewed.id).set_index("scenario")
    if config.scenario not in known.index:
        raise NotFound(
            f"{reviewed.id} has no scenario"
            f" {config.scenario!r}.{nearest(config.scenario, known.index)}"
        )
    if config.verdict == "accept" and known.status[config.scenario] != "parsed":
        raise BadInput(
            f"Scenario {config.scenario} could not be read ({known.status[config.scenario]}), so it"
            " cannot be accepted."
        )
    number = int(known.reviews[config.scenario])
    inputs, plainly = (
        {"scenarios": reviewed.id},
        plain(dataclasses.replace(config, scenarios=reviewed.id)) | {"number": number},
    )
    with study.runs.begin("review", plainly, inputs, 0) as work:
        work.table(
            "reviews",
            [
                {
                    "scenarios": reviewed.id,
                    "scenario": config.scenario,
                    "number": number,
                    "accepted": config.verdict == "accept",
                    "note": config.note,
                    "reviewer": config.reviewer,
                }
            ],
        )
        progress("reviewing", 1, 1)
        return work.finish(
            {"scenario": config.scenario, "verdict": config.verdict, "number": number}
        )
