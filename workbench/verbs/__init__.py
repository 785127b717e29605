"""The verbs of a study, one module each: a frozen class of settings, and a function from it to a
run.

`workbench/verb_table.py` says which verbs there are. A module is imported when its verb is used, so
that `workbench runs` does not load torch. No verb imports another.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from feature_store.progress import Progress
from feature_store.records import Run
from workbench.verb_table import verb_named
from workbench.workspace import Workspace


@runtime_checkable
class VerbFunction(Protocol):
    """What a verb's module calls `run`."""

    def __call__(self, study: Workspace, settings: Any, progress: Progress, *material: Any) -> Run:
        """Do the work, or return the finished run of the same work."""


class LoadedVerb(NamedTuple):
    """A verb whose module is imported."""

    settings: type
    """Frozen dataclass: the verb's flags, its table in a job file, and what `run.json` keeps."""
    run: VerbFunction
    """Does the work, or returns the finished run of the same work."""
    first_lines: Callable[[Workspace, Run], list[str]]
    """Says of a finished run what a person reads first, a line each; none for most verbs."""


def _no_lines(study: Workspace, run: Run) -> list[str]:
    """Say nothing more of a run than its figures."""
    return []


def load(name: str) -> LoadedVerb:
    """Import a verb. Raises NotFound with the nearest name."""
    verb = verb_named(name)
    module = importlib.import_module(f"workbench.verbs.{name}")
    first_lines = getattr(module, "first_lines", _no_lines)
    return LoadedVerb(getattr(module, verb.settings_name), module.run, first_lines)
