"""Control a value by ConVA and judge what it does: control success, fluency and benchmark accuracy,
before and after.

`control.py` does the work and takes any `Judge`, a person too; here a language model judges, by its
address.
"""

import dataclasses

from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from workbench.llm.judges import open_judge
from workbench.systems.conva.control import Control, control
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class ControlSettings(Control):
    judge: str = ""
    """Language model that judges: local:FOLDER-OR-HUB-ID (by log-probability), or
    https://host/v1#model (in words)."""


def run(study: Workspace, config: ControlSettings, progress: Progress) -> Run:
    """A run of kind `control`."""
    if not config.judge:
        raise BadInput(
            "Who judges the answers? Name a language model with --judge: local:FOLDER-OR-HUB-ID, or"
            " https://host/v1#model."
        )
    if not config.value:
        raise BadInput(f"Which value? Name it with --value: {', '.join(study.system.ids)}.")
    judge = open_judge(config.judge, study.model, study.folder / "answers.jsonl")
    settings = Control(
        **{field.name: getattr(config, field.name) for field in dataclasses.fields(Control)}
    )
    return control(study, settings, judge, progress)
