"""What `study.json` says about a study: the format of its folder, and its value system.

It stands apart from `study.py`, so that `workbench app` can refuse a wrong folder without loading
the store.
"""

import json
from pathlib import Path

from feature_store.errors import BadInput, Incompatible, NotFound

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
    try:
        description = json.loads(file(folder).read_text(encoding="utf-8"))
        version, system = int(description["format"]), str(description["system"])
    except (ValueError, KeyError, TypeError):
        raise BadInput(
            f'{file(folder)} is damaged. It should read {{"format": {FORMAT}, "system":'
            ' "schwartz10"}.'
        ) from None
    if version > FORMAT:
        raise Incompatible(
            f"{folder} is a study of format {version}, this version reads up to {FORMAT}. Update"
            " the workbench."
        )
    return system
