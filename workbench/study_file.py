"""What `study.json` says about a study: the format of its folder and the value system in which it
speaks.

Apart from `study.py`, so that `workbench app` can refuse a wrong folder without loading the store.
"""

import json
from pathlib import Path

from feature_store.errors import BadInput, Incompatible, NotFound

FORMAT = 1


def file(folder: Path) -> Path:
    """Where a study is described."""
    return folder / "study.json"


def text(system: str) -> str:
    """The description of a new study."""
    return json.dumps({"format": FORMAT, "system": system}, indent=1)


def system_of(folder: Path) -> str:
    """Id of the study's value system.

    Raises where the folder is no study, or one of a newer version.
    """
    if not file(folder).exists():
        raise NotFound(
            f"{folder} is no study: it has no study.json. Give a study's folder, or a new one to"
            " `workbench train`."
        )
    try:
        told = json.loads(file(folder).read_text(encoding="utf-8"))
        version, system = int(told["format"]), str(told["system"])
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
