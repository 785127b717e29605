"""One registry for every plug-in: a labeler, a steering, an instrument, a loader, a value system.

1. `@register("labelers", "contrast")` above a class or function files it under a kind and a name.
2. `get(kind, name)` imports the package of that kind on first use and returns it; an unknown name is
   answered with the nearest one.
3. `names(kind)` lists them; `origin(kind, name)` says in which file and line it was defined.

A plug-in outside this project announces itself through the entry-point group `workbench.plugins`: each
entry point names a module, and importing the module runs its decorators.
"""

import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from feature_store.errors import NotFound, nearest

PACKAGES = {
    "values": "workbench.values",
    "labelers": "workbench.features.labelers",
    "steerings": "workbench.steering.methods",
    "detectors": "workbench.steering.gates",
    "instruments": "workbench.instruments",
    "assessors": "workbench.systems.value_pilot.assessors",
    "embedders": "workbench.vision.embedders",
    "loaders": "sae_training.dictionary.loaders",
    "engines": "sae_training.training.engines",
}
"""Kind of plug-in -> the package whose modules register it. A string, so that this floor imports nothing above it."""


class Origin(NamedTuple):
    file: str
    """Source file of the plug-in."""
    line: int
    """1-based line of its definition; 1 where it is an instance."""
    summary: str
    """First line of its docstring, or of its module's where it is an instance."""


_registered: dict[str, dict[str, Any]] = {kind: {} for kind in PACKAGES}
T = TypeVar("T")


def register(kind: str, name: str) -> Callable[[T], T]:
    """File the decorated object under `kind` and `name`. Raises ValueError on a second one of the same name."""
    if kind not in _registered:
        raise ValueError(f"Plug-in kind {kind!r} does not exist; kinds are {', '.join(PACKAGES)}.")

    def decorate(plugin: T) -> T:
        if name in _registered[kind]:
            raise ValueError(
                f"{kind} already has a plug-in named {name!r}, defined in {origin(kind, name).file}."
            )
        _registered[kind][name] = plugin
        return plugin

    return decorate


@functools.cache
def _discover(kind: str) -> None:
    package = importlib.import_module(PACKAGES[kind])
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    for point in importlib.metadata.entry_points(group="workbench.plugins"):
        point.load()


def names(kind: str) -> tuple[str, ...]:
    """The names registered under `kind`, sorted. Raises NotFound for an unknown kind."""
    if kind not in PACKAGES:
        raise NotFound(f"There is no plug-in kind {kind!r}.{nearest(kind, PACKAGES)}")
    _discover(kind)
    return tuple(sorted(_registered[kind]))


def get(kind: str, name: str) -> Any:
    """The plug-in `name` of `kind`. Raises NotFound and suggests the nearest name."""
    known = names(kind)
    if name not in known:
        raise NotFound(
            f"{kind} has no {name!r}.{nearest(name, known)} (`workbench plugins {kind}` lists them.)"
        )
    return _registered[kind][name]


def origin(kind: str, name: str) -> Origin:
    """Where the plug-in was defined, and its docstring's first line."""
    plugin = _registered[kind][name]
    if inspect.isclass(plugin) or inspect.isfunction(plugin):
        summary = (inspect.getdoc(plugin) or "").split("\n")[0]
        return Origin(
            inspect.getsourcefile(plugin) or "?", inspect.getsourcelines(plugin)[1], summary
        )
    # An instance carries no place of its own: it is that of the module which holds it.
    modules = [
        m
        for m in list(sys.modules.values())
        if any(value is plugin for value in list(vars(m).values()))
    ]
    holder = min(modules, key=lambda m: not m.__name__.startswith(PACKAGES[kind]))
    return Origin(holder.__file__ or "?", 1, (holder.__doc__ or "").split("\n")[0])
