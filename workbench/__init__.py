"""Find the directions of a language model that carry human values, turn them, and see what moves.

    from workbench import Study

    study = Study("studies/first")
    sae = study.train(model="organism")
    study.label()
    study.effects()

Public names: `Study`, a folder of runs with one method a verb; `Steering`, which says what to turn
and how far; `steer`, which turns it for the length of a `with` block; `Model` and `SAE`, the live
handles; `register`, which adds a plug-in; `WorkbenchError`, the base class of every error that a
user can mend.

Each name is imported when it is first used: `import workbench` loads neither torch nor Streamlit.
"""

import importlib
from typing import TYPE_CHECKING, Any

import sae_training  # noqa: F401 - before torch, which reads once how its threads are to wait

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from feature_store.errors import WorkbenchError
    from feature_store.records import Steering
    from feature_store.registry import register
    from sae_training.dictionary.sae import SAE
    from sae_training.engine.model import Model
    from workbench.steering.apply import steer
    from workbench.study import Study

__all__ = ["SAE", "Model", "Steering", "Study", "WorkbenchError", "register", "steer"]

_MODULES = {
    "SAE": "sae_training.dictionary.sae",
    "Model": "sae_training.engine.model",
    "Steering": "feature_store.records",
    "Study": "workbench.study",
    "WorkbenchError": "feature_store.errors",
    "register": "feature_store.registry",
    "steer": "workbench.steering.apply",
}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """List the public names, for completion in a notebook."""
    return __all__
