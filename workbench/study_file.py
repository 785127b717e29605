"""What `study.json` says about a study: the format of its folder, its value system, and its day.

The day is what chat templates that tell the time are told. It is noted when the first such model is
opened, so that the same command means the same work on every later day.

It stands apart from `study.py`, so that `workbench app` can refuse a wrong folder without loading
the store.
"""

import contextlib
import json
from datetime import date
from pathlib import Path
from typing import Any

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.files import SETTINGS, read_json, write_atomically

FORMAT = 1
"""Version of the folder's format that this code writes, and the newest that it reads."""


def file(folder: Path) -> Path:
    """Give the file that describes the study in a folder."""
    return folder / "study.json"


def text(system: str) -> str:
    """Write the description of a new study."""
    return json.dumps({"format": FORMAT, "system": system}, indent=1)


def system_of(folder: Path) -> str:
    """Read the id of the study's value system.

    Raises NotFound where the folder is not a study, BadInput where its description is damaged and
    Incompatible where it is of a newer version.
    """
    if not file(folder).exists():
        raise NotFound(
            f"{folder} is not a study: it has no study.json. Give a study's folder, or a new one to"
            " `workbench train`."
        )
    description = _read(folder)
    version, system = description["format"], description["system"]
    if version > FORMAT:
        raise Incompatible(
            f"{folder} is a study of format {version}, this version reads up to {FORMAT}. Update"
            " the workbench."
        )
    return system


def day_of(folder: Path) -> str:
    """Give the day that the study's models are told; from now on today where none is noted yet.

    Raises BadInput where the description is damaged.
    """
    description = _read(folder)
    if "today" not in description:
        description["today"] = date.today().isoformat()
        try:
            write_atomically(file(folder), json.dumps(description, indent=1))
        except OSError as error:
            raise BadInput(
                f"The day that models are told cannot be noted in {file(folder)}"
                f" ({error.strerror}). Give it with --today {description['today']}."
            ) from None
    return day(str(description["today"]))


def day(text: str) -> str:
    """Read a day as a user writes it. Raises BadInput for anything else.

    day("2026-11-26")
    """
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise BadInput(
            f"A day is written as year, month and day, such as 2026-11-26; got {text!r}."
        ) from None


def _read(folder: Path) -> dict[str, Any]:
    """Read the description as it stands there. Raises BadInput where it is damaged."""
    with contextlib.suppress(BadInput):
        description: Any = read_json(file(folder), SETTINGS)
        is_one = isinstance(description, dict) and isinstance(description.get("system"), str)
        if is_one and type(description.get("format")) is int:
            return description
    raise BadInput(
        f'{file(folder)} is damaged. It should read {{"format": {FORMAT}, "system": "schwartz10"}}.'
    )
