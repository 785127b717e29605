"""Instruments for tests: those that read the user's file get one here."""

from pathlib import Path

from feature_store import registry
from workbench.instruments import Opened, open_instrument

SYSTEMS: dict[str, str] = {}
"""Instrument -> the value system it is opened for, where that is not Schwartz's ten."""


def settings(name: str, folder: Path) -> tuple[str, ...]:
    """What an instrument needs to be opened, written into `folder`: invented items, never published ones."""
    if name == "value-spectrum":
        return _indexed(folder)
    return ()


def _indexed(folder: Path) -> tuple[str, ...]:
    """A study in `folder` with an index of drawings."""
    from tests.small_vision import drawings, words
    from workbench.study import Study

    study = Study(folder / "study")
    drawings(folder / "drawings", each=2)
    study.index(str(folder / "drawings"), embedder="colour", keywords=words(folder / "words.toml"))
    return ("k=2", "ask=like")


def opened(name: str, folder: Path) -> Opened:
    """The instrument with its invented items."""
    return open_instrument(name, settings(name, folder), registry.get("values", SYSTEMS.get(name, "schwartz10")), folder / "study")
