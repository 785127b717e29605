"""A study: its workspace, with one method a verb.

    study = Study("studies/first")
    study.train(model="organism")
    study.label()
    study.effects()
    study.graph()
    study.store.sql("SELECT * FROM side_effects")

The methods are written from the table of verbs (`verb_table.py`): each takes the settings of its
verb by name, shows its progress where it is told how, and returns the run. Asked again, a verb
returns the finished run; after an interruption the same call resumes it.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from feature_store.errors import of_paths
from feature_store.progress import Progress, silent
from feature_store.records import Run
from workbench import verbs
from workbench.settings import make
from workbench.verb_table import VERBS, Verb
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from workbench.llm import Judge


class Study(Workspace):
    """A folder of runs, the store over them, and a method for every verb that makes runs."""

    def do(self, verb: str, settings: Mapping[str, Any], progress: Progress = silent) -> Run:
        """Run a verb with settings as flags or a job file give them."""
        module = verbs.load(verb)
        with of_paths():
            return module.run(self, make(module.settings, settings), progress)

    def neurons(
        self, progress: Progress = silent, judge: "Judge | str" = "", **settings: Any
    ) -> Run:
        """Find, edit and measure value neurons; a judge, named or given, scores samples besides."""
        if isinstance(judge, str):
            return self.do("neurons", settings | {"judge": judge}, progress)
        module = verbs.load("neurons")
        return module.run(self, make(module.settings, settings), progress, judge)

    if TYPE_CHECKING:  # the methods that `_method` writes below

        def __getattr__(self, verb: str) -> Callable[..., Run]: ...


def _method(verb: Verb) -> Callable[..., Run]:
    """Write the method of a verb; its first setting may be given by position, where the verb has
    one.
    """

    def run(self: Study, *first: Any, progress: Progress = silent, **settings: Any) -> Run:
        if len(first) > bool(verb.first):
            raise TypeError(f"{verb.name}() takes its settings by name, got {first!r}.")
        return self.do(
            verb.name,
            dict.fromkeys([verb.first], *first) | settings if first else settings,
            progress,
        )

    run.__name__, run.__doc__ = verb.name, f"{verb.summary} (`verbs/{verb.name}.py`)"
    run.__qualname__ = f"Study.{verb.name}"
    return run


for _verb in VERBS.values():
    if _verb.name not in vars(Study):
        setattr(Study, _verb.name, _method(_verb))
