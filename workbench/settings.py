"""One dataclass is a verb's flags, its job file and what `run.json` keeps.

1. A configuration is a frozen dataclass; the string beneath each field is its help.
2. `add_flags` turns the fields into command-line flags, `from_toml` reads them from a job file (a
   table with the verb's name), and a flag wins over the file, the file over the default.
3. `plain` is the configuration as JSON, which names the run and is kept with it.

Left out: nesting. Options of a plug-in are `key=value` pairs, checked against the plug-in's own
dataclass.
"""

import argparse
import ast
import dataclasses
import functools
import inspect
import itertools
import math
import textwrap
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from feature_store import registry
from feature_store.bounds import Between, Plugin, Replicates, Seed
from feature_store.errors import BadInput, NotFound, nearest, of_paths

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Resampling:
    """Settings of a verb that bootstraps: how often it draws, and from which seed."""

    replicates: Replicates = 2000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed from which every random choice derives."""


@dataclasses.dataclass(frozen=True)
class LocalModelSettings:
    """Settings of a verb that loads a model."""

    model: str = ""
    """Folder or hub id of the model, or `organism`; empty: the model of `sae`."""
    revision: str = ""
    """Revision of a hub model."""
    dtype: str = "float32"
    """Number format of the weights."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, ..."""


@functools.cache
def helps(config: type) -> dict[str, str]:
    """Field -> the string beneath it, base classes included."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def _choices(kind: Any) -> tuple[str, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def _element(kind: Any) -> Any:
    """The element type of a tuple field, None for others."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None


class _Once(argparse.Action):
    """Stores a flag that may be given once: a second one would silently replace the first."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if hasattr(namespace, self.dest):
            parser.error(
                f"{option_string} was given twice. Give it once; commas stand between several parts"
            )
        setattr(namespace, self.dest, values)


def add_flags(parser: argparse.ArgumentParser, config: type) -> None:
    """One `--flag` a field: dashes for underscores, comma-separated tuples, `--no-flag` for
    booleans.
    """
    kinds = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        kind, flag = kinds[field.name], "--" + field.name.replace("_", "-")
        shown = (
            ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        )
        text = helps(config).get(field.name, "").replace("%", "%%")
        text += f" [{shown}]".replace("%", "%%") if shown not in ("", dataclasses.MISSING) else ""
        if kind is bool:
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
        else:
            metavar = (
                "|".join(_choices(kind))
                or getattr(_element(kind) or kind, "__name__", "value").upper()
            )
            parser.add_argument(
                flag, action=_Once, default=argparse.SUPPRESS, metavar=metavar, help=text
            )


def parse(name: str, kind: Any, told: Any) -> Any:
    """`told`, from a flag (text) or a job file, as `kind`. Raises BadInput naming the field."""
    element = _element(kind)
    if element is not None:
        parts = [p for p in told.split(",") if p.strip()] if isinstance(told, str) else list(told)
        return tuple(parse(name, element, part) for part in parts)
    if choices := _choices(kind):
        if told not in choices:
            raise BadInput(f"{_flag(name)} is one of {', '.join(map(str, choices))}, got {told!r}.")
        return told
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    try:
        if kind is bool and not isinstance(told, bool):
            raise ValueError
        number = kind(told.strip() if isinstance(told, str) and kind is not str else told)
    except (TypeError, ValueError):
        raise BadInput(f"{_flag(name)} expects {kind.__name__}, got {told!r}.") from None
    if isinstance(number, float) and not math.isfinite(number):
        raise BadInput(f"{_flag(name)} expects a finite number, got {told!r}.")
    return number


def make(settings: type[T], given: Mapping[str, Any]) -> T:
    """Build settings from flags or a job file's table.

    Raises NotFound for an unknown field, BadInput for a wrong value.
    """
    kinds = typing.get_type_hints(settings, include_extras=True)
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    parsed = {}
    for name, value in given.items():
        name = name.replace("-", "_")
        if name not in defaults:
            raise NotFound(f"There is no setting {name!r} here.{nearest(name, defaults)}")
        kind, marks = _unmarked(kinds[name])
        parsed[name] = parse(name, kind, value)
        if parsed[name] != defaults[name]:  # a default holds whatever its bounds
            _check(name, parsed[name], marks)
    return settings(**parsed)


def _unmarked(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Split `Annotated[int, Between(0, 9)]` into the plain type and its marks."""
    if typing.get_origin(kind) is not typing.Annotated:
        return kind, ()
    return typing.get_args(kind)[0], kind.__metadata__


def _check(name: str, value: Any, marks: Sequence[Any]) -> None:
    """Hold a value, or each part of a tuple, against what its field may hold."""
    for part in value if isinstance(value, tuple) else (value,):
        for mark in marks:
            if isinstance(mark, Plugin):
                registry.get(mark.kind, part)
            if (
                isinstance(mark, Between)
                and part is not None
                and not mark.least <= part <= mark.most
            ):
                raise BadInput(
                    f"{_flag(name)} is between {mark.least} and {mark.most}, got {part}."
                )


def _flag(name: str) -> str:
    """Give the flag of a field, as it is typed on the command line."""
    return "--" + name.replace("_", "-")


def from_toml(file: Path, config: type, verb: str) -> dict[str, Any]:
    """A verb's settings in a job file: its own table, and the file's top-level keys that it
    knows.
    """
    if not file.exists():
        raise NotFound(f"There is no job file {file}. `jobs/` holds examples.")
    try:
        with of_paths():
            job = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} is not valid TOML: {error}.") from None
    known = {field.name for field in dataclasses.fields(config)}
    told = {
        key.replace("-", "_"): value for key, value in job.items() if not isinstance(value, dict)
    }
    if not isinstance(job.get(verb, {}), dict):
        raise BadInput(
            f"{file}: {verb} should be a table of settings, written [{verb}], got {job[verb]!r}."
        )
    own = {key.replace("-", "_"): value for key, value in job.get(verb, {}).items()}
    return {key: value for key, value in told.items() if key in known} | own


def options(config: type[T], pairs: Sequence[str]) -> T:
    """A plug-in's configuration from `key=value` pairs."""
    split = [pair.partition("=") for pair in pairs]
    for key, sign, _ in split:
        if not sign:
            raise BadInput(f"Options are written key=value, got {key!r}.")
    return make(config, {key.strip(): value for key, _, value in split})


def plain(config: Any) -> dict[str, Any]:
    """The configuration as JSON knows it: tuples become lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }
