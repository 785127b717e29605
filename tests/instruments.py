"""Instruments for tests: those that read the user's file get one here."""

import json
from pathlib import Path

from feature_store import registry
from workbench.instruments import Opened, open_instrument

SYSTEMS: dict[str, str] = {}
"""Instrument -> the value system it is opened for, where that is not Schwartz's ten."""


def settings(name: str, folder: Path) -> tuple[str, ...]:
    """What an instrument needs to be opened, written into `folder`: invented items, never published ones."""
    if name == "adaem":
        told = [{"id": f"q{k}", "text": text} for k, text in enumerate(("A bridge is closed.", "A friend asks for money.", "Two roads lead home."))]
        (folder / "items.json").write_text(json.dumps({"format": 1, "system": "schwartz10", "questions": told}))
        return (f"items={folder}",)
    return ()


def opened(name: str, folder: Path) -> Opened:
    """The instrument with its invented items."""
    return open_instrument(name, settings(name, folder), registry.get("values", SYSTEMS.get(name, "schwartz10")))
