"""What `study.json` says about a study: the format of its folder, its value system, and its day.

The day is what chat templates that tell the time are told. It is noted when the first such model is
opened, so that the same command means the same work on every later day.

`folder_of` says which folder is meant by what a user names. A folder stays what it is. A `.duckdb`
file that someone published, or the name of a study that ships (`smollm2`), is unfolded once into
the user's cache, in a folder named by the file's content. Such a study is read only
(`Workspace.make` refuses), and says what its publisher said of it (`published`).

It stands apart from `study.py`, so that `workbench app` can refuse a wrong folder without loading
the store.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from feature_store.errors import BadInput, Incompatible, NotFound, of_paths
from feature_store.files import SETTINGS, digest, read_json, write_atomically
from sae_training.model.catalogue import cache

SHIPPED = Path(__file__).parent / "material" / "studies"
"""Folder of the published studies that ship with the workbench."""
FORMAT = 1
"""Version of the folder's format that this code writes, and the newest that it reads."""


class Published(NamedTuple):
    """What a published study says of itself."""

    file: str
    """Name of the file that it came in."""
    note: str
    """What its publisher says of it; may be empty."""
    without: str
    """Relations that were left out; empty where none was."""

    def lacks(self, relation: str) -> bool:
        """Whether a relation was left out, so that no row of it means nothing."""
        return relation in self.without.split(", ")


def file(folder: Path) -> Path:
    """Give the file that describes the study in a folder."""
    return folder / "study.json"


def text(system: str) -> str:
    """Write the description of a new study."""
    return json.dumps({"format": FORMAT, "system": system}, indent=1)


def published(folder: Path) -> Published | None:
    """Read of a study that someone published what stands above it; None for one's own study.

    Raises BadInput where the description is damaged.
    """
    noted = _read(folder).get("published")
    if not isinstance(noted, dict):
        return None
    return Published(**{name: str(noted.get(name, "")) for name in Published._fields})


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


def shipped() -> Mapping[str, Path]:
    """Name the studies that ship with the workbench, each with its file."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.duckdb"))}


def folder_of(place: str | Path) -> Path:
    """Give the folder of a study: the one that is named, or that of a published one.

    Raises BadInput for a file that is no published study.

        folder_of("smollm2")  # a folder in the user's cache
    """
    place = Path(place)
    with of_paths():
        if place.is_file():
            return _unfolded(place)
        if not place.exists() and str(place) in shipped():
            return _unfolded(shipped()[str(place)])
    return place


def _unfolded(file: Path) -> Path:
    """Unfold a file in the cache, unless it is there."""
    from feature_store.published import is_published, unfold

    if not is_published(file):
        raise BadInput(
            f"{file} is a file, and no published study. Give a study's folder, or a .duckdb file"
            " that `workbench publish` wrote."
        )
    name = file.stem or "study"
    folder = cache() / "published" / digest(file)[:16] / name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}-"))
    try:
        about = unfold(file, beside)
        described = _text_of_published(about, file.name)
        (beside / "study.json").write_text(described, encoding="utf-8")
        system_of(beside)
        try:
            os.rename(beside, folder)
        except OSError:  # another process has unfolded it meanwhile
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _text_of_published(about: Mapping[str, str], name: str) -> str:
    """Write the description of a study published as the file `name`, by what that file says."""
    known = {key: about[key] for key in ("system", "today") if key in about}
    published = {"file": name, "note": about.get("note", ""), "without": about.get("without", "")}
    return json.dumps({"format": FORMAT, **known, "published": published}, indent=1)


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
