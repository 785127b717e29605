"""A sparse-autoencoder workbench for human values in language models.

    from workbench import Study
    study = Study("studies/first")
    study.train(model="organism")

Names are imported when they are used: `import workbench` loads neither torch nor Streamlit.
"""

import importlib
from typing import Any

import sae_training  # noqa: F401 - before torch, which reads once how its threads are to wait

_PUBLIC = {
    "Study": "workbench.study",
    "Steering": "feature_store.records",
    "WorkbenchError": "feature_store.errors",
    "register": "feature_store.registry",
    "steer": "workbench.steering.apply",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
