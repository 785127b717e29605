"""What `run.json` says of a run: written when the run begins and when it finishes, and read with
suspicion, since a run's folder may come from anyone.

1. `write` replaces the description in one step.
2. `read` gives the run, or refuses in one line that names the run: a newer format (update), or a
   description that no version of this code writes (make the run again).
3. What is refused: what `files.read_json` refuses, and a field of another type than `Run` declares.

Left out: whether the files of the run are as they were written (`Runs.damaged`).
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from feature_store.errors import BadInput, Incompatible
from feature_store.files import read_json, shown, write_atomically
from feature_store.records import Run
from feature_store.terminal import visible

FORMAT = 1
"""Version of the layout of run folders."""
FILE = "run.json"
"""Name of the description within a run's folder."""
LARGEST = 64 * 2**20
"""A description is at most so large [bytes]; most have a few thousand."""


def write(run: Run, folder: Path) -> None:
    """Write the description of a run into its folder, in one step and flushed to the disk."""
    write_atomically(folder / FILE, json.dumps(asdict(run), indent=1))


def read(folder: Path) -> Run:
    """Read the description of the run in a folder.

    Raises Incompatible for a newer layout, BadInput for a damaged file, and NotFound where the file
    is gone: a run may finish, or be removed, while it is looked at.
    """
    name = visible(folder.name)
    try:
        described = read_json(folder / FILE, LARGEST, finite=False)
        if not isinstance(described, dict):
            raise BadInput(f"{FILE} is a table of fields, got {shown(described)}.")
        version = described.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise Incompatible(
                f"The run {name} was written in format {shown(version)}, this version reads up to"
                f" {FORMAT}. Update the workbench."
            )
        return _run_of(described)
    except BadInput as error:
        raise BadInput(
            f"The run {name} is damaged. {error} Remove the folder {name} and make the run again."
        ) from None


def start(run: Run) -> datetime:
    """Give the time at which a run was begun [UTC; without a zone, as the store keeps it]."""
    time = datetime.fromisoformat(run.created)
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def _run_of(described: dict[str, Any]) -> Run:
    if unknown := sorted(set(described) - {field.name for field in fields(Run)}):
        raise BadInput(f"{FILE} has a field {shown(unknown[0])}, which no run has.")
    for name, (expected, holds) in _FIELDS.items():
        if name not in described:
            raise BadInput(f"{FILE} has no field {name!r}.")
        if not holds(described[name]):
            raise BadInput(f"{name} in {FILE} is {expected}, got {shown(described[name])}.")
    return Run(**described)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_format(value: object) -> bool:
    return type(value) is int and value == FORMAT


def _is_status(value: object) -> bool:
    return value in ("finished", "interrupted")


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_table_of_texts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_seed(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1e12


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and 1970 <= datetime.fromisoformat(value).year < 9999
    except ValueError:
        return False


def _is_checksums(value: Any) -> bool:
    return _is_table_of_texts(value) and all(map(_is_checksum, value.items()))


def _is_checksum(entry: tuple[str, str]) -> bool:
    """Whether a path stays within the run's folder, and its checksum is one."""
    path, checksum = entry
    is_inside = not PurePosixPath(path).is_absolute() and ".." not in path.split("/")
    return is_inside and re.fullmatch("[0-9a-f]{64}", checksum) is not None


_FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "id": ("a text", _is_text),
    "kind": ("a text", _is_text),
    "status": ("finished or interrupted", _is_status),
    "config": ("a table", _is_table),
    "inputs": ("a table of texts", _is_table_of_texts),
    "seed": ("a whole number of 64 bits", _is_seed),
    "created": ("a time as ISO 8601 writes it", _is_time),
    "seconds": ("a number from 0", _is_duration),
    "summary": ("a table", _is_table),
    "environment": ("a table of texts", _is_table_of_texts),
    "files": ("a table of paths with their SHA-256", _is_checksums),
    "format": (f"a whole number up to {FORMAT}", _is_format),
}
"""Field of a description -> what it should be, and whether a value is that."""
