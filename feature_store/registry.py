"""One registry for every plug-in: a labeler, a steering method, an instrument, a value system.

1. A plug-in is a file of its kind's package, and its name is the file's, with hyphens for
   underscores. `SEVERAL` lists the files that hold several plug-ins, or one by another name.
2. `@register("labelers", "contrast")` above a class or function files it under a kind and a name.
3. `names(kind)` reads the names of the files, and imports none of them; `get(kind, name)` imports
   the one file that holds the plug-in. An unknown name is answered with the nearest one.
4. `of(kind)` is the registry of one kind. The module that knows what its plug-ins can do gives it a
   type, so that a type checker knows what comes out:

       METHODS: Registry[SteeringMethod] = registry.of("steerings")
       METHODS["add"]

A plug-in outside this project announces itself through the entry-point group `workbench.plugins`:
each entry point names a module, and importing the module runs its decorators.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from feature_store.errors import NotFound, nearest

PACKAGES = {
    "values": "workbench.values",
    "labelers": "workbench.features.labelers",
    "steerings": "workbench.steering.methods",
    "detectors": "workbench.steering.gates",
    "instruments": "workbench.instruments",
    "assessors": "workbench.systems.value_pilot.assessors",
    "embedders": "workbench.vision.embedders",
    "exports": "workbench.exchange.exports",
    "loaders": "sae_training.dictionary.loaders",
    "engines": "sae_training.training.engines",
}
"""Kind of plug-in -> the package that holds it. Text, so that this floor imports nothing above
it."""

SEVERAL: dict[str, dict[str, tuple[str, ...]]] = {
    "instruments": {"pvq": ("pvq21", "pvq40", "pvq-rr")},
    "loaders": {"saelens": ("saelens", "hub")},
}
"""Kind of plug-in -> file -> the names it registers, where they are not the file's own."""

Plugin = TypeVar("Plugin")
Decorated = TypeVar("Decorated")


class Origin(NamedTuple):
    """Where a plug-in is defined."""

    file: str
    """Source file of the plug-in."""
    line: int
    """1-based line of its definition; 1 where it is an instance."""
    summary: str
    """First line of its docstring, or of its module's where it is an instance."""


class Registry(Generic[Plugin]):
    """The plug-ins of one kind, by name.

    `registry[name]` is a plug-in, `name in registry` asks for one, and iterating gives the names.
    """

    def __init__(self, kind: str, package: str, several: Mapping[str, tuple[str, ...]] = {}):
        """Hold the plug-ins of `package`; `several` as in `SEVERAL`, for this kind."""
        self.kind = kind
        self.package = package
        self._several = several
        self._registered: dict[str, Plugin] = {}

    def register(self, name: str) -> Callable[[Decorated], Decorated]:
        """File the decorated object under a name. Raises ValueError where the name is taken."""

        def decorate(plugin: Decorated) -> Decorated:
            """File one object, and give it back as it is."""
            if name in self._registered:
                place = self.origin(name).file
                raise ValueError(
                    f"{self.kind} already has a plug-in named {name!r}, defined in {place}."
                )
            self._registered[name] = plugin  # type: ignore[assignment]
            return plugin

        return decorate

    def names(self) -> tuple[str, ...]:
        """The names of all plug-ins, sorted. Imports only plug-ins from outside this project."""
        _import_entry_points()
        return tuple(sorted({*self._modules(), *self._registered}))

    def origin(self, name: str) -> Origin:
        """Where a plug-in is defined, and the first line of its docstring."""
        return _origin(self[name], self.package)

    def __getitem__(self, name: str) -> Plugin:
        """The plug-in of a name. Raises NotFound and suggests the nearest name."""
        if name not in self._registered:
            if name not in self.names():
                raise NotFound(f"{self.kind} has no {name!r}.{nearest(name, self.names())}")
            self._import(name)
        return self._registered[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is a plug-in of this name."""
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        """The names of all plug-ins, sorted."""
        return iter(self.names())

    def _import(self, name: str) -> None:
        """Import the file that holds a plug-in, unless an entry point has brought it already."""
        if name in self._registered:
            return
        module = f"{self.package}.{self._modules()[name]}"
        importlib.import_module(module)
        if name not in self._registered:
            raise ValueError(
                f"{module} registers no {name!r} among {self.kind}. A plug-in has the name of its "
                "file, or stands in `SEVERAL` of feature_store/registry.py."
            )

    def _modules(self) -> dict[str, str]:
        """Name of a plug-in -> the file of the package that registers it."""
        modules = {}
        for module in pkgutil.iter_modules([str(_folder(self.package))]):
            default = (module.name.replace("_", "-"),)
            for name in self._several.get(module.name, default):
                modules[name] = module.name
        return modules


def of(kind: str) -> Registry[Any]:
    """The registry of one kind. Raises NotFound for an unknown kind, and suggests the nearest."""
    if kind not in _registries:
        raise NotFound(f"There is no plug-in kind {kind!r}.{nearest(kind, _registries)}")
    return _registries[kind]


def register(kind: str, name: str) -> Callable[[Decorated], Decorated]:
    """File the decorated object under a kind and a name. Raises ValueError where it is taken."""
    if kind not in _registries:
        kinds = ", ".join(_registries)
        raise ValueError(f"Plug-in kind {kind!r} does not exist; kinds are {kinds}.")
    return _registries[kind].register(name)


def names(kind: str) -> tuple[str, ...]:
    """The names registered under a kind, sorted. Raises NotFound for an unknown kind."""
    return of(kind).names()


def get(kind: str, name: str) -> Any:
    """The plug-in of a kind and a name. Raises NotFound and suggests the nearest name."""
    return of(kind)[name]


def origin(kind: str, name: str) -> Origin:
    """Where a plug-in is defined, and the first line of its docstring."""
    return of(kind).origin(name)


_registries: dict[str, Registry[Any]] = {
    kind: Registry(kind, package, SEVERAL.get(kind, {})) for kind, package in PACKAGES.items()
}


def _folder(package: str) -> Path:
    """The folder of a package, found without importing the package."""
    root, *rest = package.split(".")
    spec = importlib.util.find_spec(root)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No package named {root!r}", name=root)
    return Path(spec.submodule_search_locations[0], *rest)


@functools.cache
def _import_entry_points() -> None:
    for point in importlib.metadata.entry_points(group="workbench.plugins"):
        point.load()


def _origin(plugin: object, package: str) -> Origin:
    if inspect.isclass(plugin) or inspect.isfunction(plugin):
        file = inspect.getsourcefile(plugin)
        line = inspect.getsourcelines(plugin)[1]
        return Origin(file or "?", line, _first_line(inspect.getdoc(plugin)))
    # An instance carries no place of its own: it is that of the module which holds it.
    modules = list(sys.modules.values())
    holders = [module for module in modules if _holds(module, plugin)]
    holder = min(holders, key=lambda module: not module.__name__.startswith(package))
    return Origin(holder.__file__ or "?", 1, _first_line(holder.__doc__))


def _holds(module: object, plugin: object) -> bool:
    return any(value is plugin for value in list(vars(module).values()))


def _first_line(text: str | None) -> str:
    return (text or "").split("\n")[0]
