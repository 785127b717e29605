"""Measure a model's value profile with an instrument, steered or not.

What is asked, steered and kept stands in `comparing/profile_run.py`, which the verb `contrast` asks
for the profiles of its subjects as well.
"""

from feature_store.progress import Progress
from feature_store.records import Run
from workbench.comparing.profile_run import MeasureSettings, measure_profile
from workbench.workspace import Workspace

__all__ = ["MeasureSettings", "run"]


def run(study: Workspace, settings: MeasureSettings, progress: Progress) -> Run:
    """Make a run of kind `profile`."""
    return measure_profile(study, settings, progress)
