"""Control a value by ConVA and judge what it does: control success, fluency and benchmark accuracy,
before and after.

`control.py` does the work and takes any `Judge`, a person too; here a language model judges, by its
address.
"""

from dataclasses import dataclass, fields

from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from workbench.llm.judges import open_judge
from workbench.systems.conva.control import Control, control
from workbench.workspace import Workspace


@dataclass(frozen=True)
class ControlSettings(Control):
    """What is controlled, how, on what it is judged, and by which language model."""

    judge: str = ""
    """Language model that judges: local:FOLDER-OR-HUB-ID (by log-probability), or
    https://host/v1#model (in words)."""


def run(study: Workspace, settings: ControlSettings, progress: Progress) -> Run:
    """Make a run of kind `control`."""
    if not settings.judge:
        raise BadInput(
            "Who judges the answers? Name a language model with --judge: local:FOLDER-OR-HUB-ID, or"
            " https://host/v1#model."
        )
    if not settings.value:
        raise BadInput(f"Which value? Name it with --value: {', '.join(study.system.ids)}.")
    judge = open_judge(settings.judge, study.model, study.folder / "answers.jsonl")
    # The judge is an input of the run, under its full name, and no setting of it.
    shared = {field.name: getattr(settings, field.name) for field in fields(Control)}
    return control(study, Control(**shared), judge, progress)
