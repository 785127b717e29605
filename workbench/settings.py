"""One dataclass is a verb's flags, its job file and what `run.json` keeps.

1. A configuration is a frozen dataclass; the string beneath each field is its help.
2. `add_flags` turns the fields into command-line flags, `from_toml` reads them from a job file (a table with
   the verb's name), and a flag wins over the file, the file over the default.
3. `plain` is the configuration as JSON, which names the run and is kept with it.

Left out: nesting. Options of a plug-in are `key=value` pairs, checked against the plug-in's own dataclass.
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
from feature_store.errors import BadInput, NotFound, nearest, of_paths

C = TypeVar("C")
MANY, HUGE = 1_000_000, 10**12
LIMITS: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "replicates": (1, 100_000),
    "permutations": (1, MANY),
    "features_per_value": (1, MANY),
    "steerings": (1, MANY),
    "new_tokens": (1, MANY),
    "max_new_tokens": (1, MANY),
    "llm_tokens": (1, MANY),
    "controls": (0, MANY),
    "random_features": (0, MANY),
    "random_directions": (0, MANY),
    "draws": (0, MANY),
    "concurrency": (1, 1000),
    "scored_per_value": (1, MANY),
    "documents": (0, HUGE),
    "limit": (0, HUGE),
    "context": (1, MANY),
    "rows": (1, MANY),
    "max_tokens": (1, MANY),
    "top_contexts": (1, 10_000),
    "n_features": (1, 100 * MANY),
    "warmup": (0, MANY),
    "dead_tokens": (1, HUGE),
    "n_contexts": (0, MANY),
    "n_neutral": (1, MANY),
    "n_texts": (0, MANY),
    "n_pairs": (1, MANY),
    "n_answers": (1, MANY),
    "n_seeds": (0, MANY),
    "n": (0, MANY),
    "top_features": (0, MANY),
    "repeats": (1, 10_000),
    "answers": (1, 10_000),
    "chains": (2, 1000),
    "max_features": (1, MANY),
    "temperature": (0, 100),
    "llm_temperature": (0, 100),
    "shared": (0, 1),
    "min_accuracy": (0, 1),
    "agreement": (0, 1),
    "train_share": (0, 1),
    "per_minute": (0, MANY),
    "timeout": (0.001, MANY),
    "input_price": (0, MANY),
    "output_price": (0, MANY),
    "strength": (-MANY, MANY),
    "delta": (1e-9, MANY),
    "dose": (1e-9, MANY),
    "lr": (0, 1000),
    "lr_end": (0, 1000),
    "aux": (0, MANY),
    "coefficient": (0, MANY),
    "doses": (0, MANY),
    "strengths": (0, MANY),
    "gammas": (0, MANY),
    "judged_gamma": (0, MANY),
    "alpha": (1e-9, 1 - 1e-9),
    "sample": (1e-9, 1),
    "roles": (1, MANY),
    "test_roles": (1, MANY),
    "top": (0, MANY),
    "steps": (1, 100),
    "actions": (2, 1000),
    "batch": (1, MANY),
    "folds": (2, MANY),
}
"""Smallest and largest of what every verb means alike, where another number is a slip: generators take no negative seed, replicates are drawn in
memory, a negative count would leave the last ones out. A verb may ask for more. A default holds whatever stands here."""

PLUGINS = {
    "method": "steerings",
    "methods": "steerings",
    "instrument": "instruments",
    "instruments": "instruments",
    "labeler": "labelers",
    "assessor": "assessors",
    "embedder": "embedders",
    "engine": "engines",
    "gate": "detectors",
    "detector": "detectors",
}
"""Field that names a plug-in -> its kind: a name that does not exist is refused before anything is read or measured."""


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
    """One `--flag` a field: dashes for underscores, comma-separated tuples, `--no-flag` for booleans."""
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
            raise BadInput(
                f"--{name.replace('_', '-')} is one of {', '.join(map(str, choices))}, got {told!r}."
            )
        return told
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    try:
        if kind is bool and not isinstance(told, bool):
            raise ValueError
        number = kind(told.strip() if isinstance(told, str) and kind is not str else told)
    except (TypeError, ValueError):
        raise BadInput(
            f"--{name.replace('_', '-')} expects {kind.__name__}, got {told!r}."
        ) from None
    if isinstance(number, float) and not math.isfinite(number):
        raise BadInput(f"--{name.replace('_', '-')} expects a finite number, got {told!r}.")
    return number


def make(config: type[C], told: Mapping[str, Any]) -> C:
    """A configuration from flags or a job file's table. Raises NotFound for an unknown field."""
    kinds = typing.get_type_hints(config)
    known = {field.name: field.default for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    fields = {name.replace("-", "_"): value for name, value in told.items()}
    for name in fields:
        if name not in known:
            raise NotFound(f"{config.__name__} has no setting {name!r}.{nearest(name, known)}")
    parsed = {name: parse(name, kinds[name], value) for name, value in fields.items()}
    for name, told in parsed.items():
        for number in told if isinstance(told, tuple) else (told,):
            least, most = LIMITS.get(name, (-HUGE, HUGE))
            if (
                isinstance(number, int | float)
                and told != known[name]
                and not least <= number <= most
            ):
                raise BadInput(
                    f"--{name.replace('_', '-')} is between {least} and {most}, got {number}."
                )
            if name in PLUGINS and told != known[name]:
                registry.get(PLUGINS[name], number)
    return config(**parsed)


def from_toml(file: Path, config: type, verb: str) -> dict[str, Any]:
    """A verb's settings in a job file: its own table, and the file's top-level keys that it knows."""
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


def options(config: type[C], pairs: Sequence[str]) -> C:
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
