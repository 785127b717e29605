"""One dataclass is a verb's flags, its job file and what `run.json` keeps.

1. Settings are a frozen dataclass; the string beneath each field is its help.
2. `add_flags` turns the fields into command-line flags, `from_toml` reads them from a job file (a
   table with the verb's name), and a flag wins over the file, the file over the default.
3. `plain` writes settings as JSON, which names the run and is kept with it.
4. `Resampling` and `LocalModelSettings` are fields that several verbs share.

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
import os
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from feature_store import registry
from feature_store.bounds import Between, KeptAs, Later, NoneAs, Plugin, Replicates, Seed
from feature_store.errors import BadInput, NotFound, nearest
from feature_store.files import digest, read_toml, shown

T = TypeVar("T")
SWITCHES = {"true": True, "yes": True, "false": False, "no": False}
"""Words for a boolean, in options written key=value."""


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
    """Give the string beneath each field of a class of settings, base classes included."""
    texts: dict[str, str] = {}
    for cls in reversed(config.__mro__[:-1]):
        definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                texts[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return texts


def _choices(kind: Any) -> tuple[str, ...]:
    """List what a literal type allows; nothing for other types."""
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def _element(kind: Any) -> Any:
    """Give the element type of a tuple field; None for other fields."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None


class _Once(argparse.Action):
    """A flag that may be given once: a second one would silently replace the first."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the flag's value, or end with a message where it has one already."""
        if hasattr(namespace, self.dest):
            parser.error(
                f"{option_string} was given twice. Give it once; commas stand between several parts"
            )
        setattr(namespace, self.dest, values)


def add_flags(parser: argparse.ArgumentParser, config: type) -> None:
    """Add one `--flag` a field to a parser.

    Underscores become dashes, tuples are separated by commas, and a boolean has a `--no-flag` too.
    """
    kinds = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        kind, flag = kinds[field.name], _flag(field.name)
        text = _help(config, field).replace("%", "%%")
        if kind is bool:
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
        else:
            name = getattr(_element(kind) or kind, "__name__", "value").upper()
            parser.add_argument(
                flag,
                action=_Once,
                default=argparse.SUPPRESS,
                metavar="|".join(_choices(kind)) or name,
                help=text,
            )


def _help(config: type, field: "dataclasses.Field[Any]") -> str:
    """Write the help of a field: what it is, and its default in brackets."""
    text = helps(config).get(field.name, "")
    default = field.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if default in ("", dataclasses.MISSING):
        return text
    return f"{text} [{default}]"


def parse(name: str, kind: Any, value: Any) -> Any:
    """Turn a value of a flag (text) or of a job file into a field's type.

    Raises BadInput naming the field.

        parse("doses", tuple[float, ...], "0.1,0.2")  # (0.1, 0.2)
    """
    element, is_text = _element(kind), isinstance(value, str)
    if element is not None:
        parts = [part for part in value.split(",") if part.strip()] if is_text else _parts(value)
        return tuple(parse(name, element, part) for part in parts)
    choices = _choices(kind)
    if choices:
        if value not in choices:
            listed = ", ".join(map(str, choices))
            raise BadInput(f"{_flag(name)} is one of {listed}, got {shown(value)}.")
        return value
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if kind is bool and is_text:
        value = SWITCHES.get(value.strip().lower(), value)
    try:
        if not _may_become(kind, value):
            raise ValueError
        parsed = kind(value.strip() if is_text and kind not in (bool, str) else value)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{_flag(name)} expects {kind.__name__}, got {shown(value)}.") from None
    if isinstance(parsed, str) and not _is_text(parsed):
        raise BadInput(f"{_flag(name)} expects text in UTF-8 without NUL, got {parsed!r}.")
    if isinstance(parsed, float) and not math.isfinite(parsed):
        raise BadInput(f"{_flag(name)} expects a finite number, got {value!r}.")
    return parsed


def _parts(value: Any) -> list[Any]:
    """Give the parts of a list; a single value of a job file is a list of one."""
    is_list = isinstance(value, Iterable) and not isinstance(value, Mapping)
    return list(value) if is_list else [value]


def _may_become(kind: Any, value: Any) -> bool:
    """Whether a value says what a type holds: 1.5 is no whole number, a list is no text."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is int and isinstance(value, float):
        return value.is_integer()
    return not isinstance(value, list | tuple | set | dict | types.NoneType)


def _is_text(text: str) -> bool:
    """Whether text can be a path, be written and be digested: no NUL, no half of a character."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def make(settings: type[T], given: Mapping[str, Any]) -> T:
    """Build settings from flags or a job file's table.

    Raises NotFound for an unknown field, BadInput for a wrong value.
    """
    kinds = typing.get_type_hints(settings, include_extras=True)
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(cast(Any, settings))
    defaults = {field.name: field.default for field in fields}
    parsed = {}
    for name, value in given.items():
        name = name.replace("-", "_")
        if name not in defaults:
            raise NotFound(f"There is no setting {name!r} here.{nearest(name, defaults)}")
        kind, marks = _unmarked(kinds[name])
        if any(isinstance(mark, NoneAs) and mark.word == value for mark in marks):
            value = ()
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
                _check_plugin(name, mark.kind, part)
            if (
                isinstance(mark, Between)
                and part is not None
                and not mark.least <= part <= mark.most
            ):
                raise BadInput(
                    f"{_flag(name)} is between {mark.least} and {mark.most}, got {part}."
                )


def _check_plugin(name: str, kind: str, plugin: str) -> None:
    """Refuse a plug-in that does not exist, by the flag that named it."""
    try:
        registry.get(kind, plugin)
    except NotFound as error:
        raise NotFound(f"{_flag(name)}: {error} `workbench plugins {kind}` lists them.") from None


def _flag(name: str) -> str:
    """Give the flag of a field, as it is typed on the command line."""
    return "--" + name.replace("_", "-")


def from_toml(file: Path, config: type, verb: str) -> dict[str, Any]:
    """Read a verb's settings from a job file.

    They are the verb's own table, and the top-level keys of the file that the verb knows. Raises
    NotFound where there is no such file, BadInput where it cannot be read.
    """
    if not file.exists():
        raise NotFound(f"There is no job file {file}. `jobs/` holds examples.")
    job = read_toml(file)
    table = job.get(verb, {})
    if not isinstance(table, dict):
        raise BadInput(
            f"{file}: {verb} should be a table of settings, written [{verb}], got {table!r}."
        )
    fields = {field.name for field in dataclasses.fields(config)}
    tables = [name for name, value in table.items() if isinstance(value, dict)]
    if parts := [name for name in tables if name.replace("-", "_") not in fields]:
        raise BadInput(
            f"{file} runs {verb} several times ({', '.join(parts)}). `workbench study STUDY --job"
            f" {file}` runs them all; or give the settings as flags."
        )
    shared = {
        key.replace("-", "_"): value for key, value in job.items() if not isinstance(value, dict)
    }
    settings = {key: value for key, value in shared.items() if key in fields}
    return settings | {key.replace("-", "_"): value for key, value in table.items()}


def options(config: type[T], pairs: Sequence[str]) -> T:
    """Build a plug-in's settings from `key=value` pairs."""
    split = [pair.partition("=") for pair in pairs]
    for key, sign, _ in split:
        if not sign:
            raise BadInput(f"Options are written key=value, got {key!r}.")
    return make(config, {key.strip(): value for key, _, value in split})


def contents(pairs: Sequence[str]) -> dict[str, str]:
    """Sum up the files and folders that `key=value` pairs name: pair -> checksum of what is there.

    A run pins them beside the pairs, since a file may be edited where it stands.

        contents(["labelled=texts.csv", "held=true"])  # {"labelled=texts.csv": "0f3a..."}
    """
    from sae_training.model.folders import checksum

    made = {}
    for pair in pairs:
        place = pair.partition("=")[2]
        if place and os.path.isfile(place):
            made[pair] = digest(place)
        elif place and os.path.isdir(place):
            made[pair] = checksum(Path(place))
    return made


def plain(config: Any) -> dict[str, Any]:
    """Write settings as JSON knows them: tuples become lists.

    Fields that came later stand there only where they say something (`bounds.Later`).
    """
    kinds = typing.get_type_hints(type(config), include_extras=True)
    values = dataclasses.asdict(config)
    written = {}
    for field in dataclasses.fields(config):
        marks = _unmarked(kinds[field.name])[1]
        value = values[field.name]
        later = [mark for mark in marks if isinstance(mark, Later)]
        if any(value == (mark.before or field.default) for mark in later):
            continue
        names = [mark.name for mark in marks if isinstance(mark, KeptAs)]
        name = names[0] if names else field.name
        written[name] = list(value) if isinstance(value, tuple) else value
    return written
