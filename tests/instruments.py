"""Instruments for tests: those that read the user's file get one here."""

from pathlib import Path

from feature_store import registry
from workbench import pvq
from workbench.instruments import Opened, open_instrument

SYSTEMS: dict[str, str] = {"standin19": "schwartz19"}
"""Instrument -> the value system it is opened for, where that is not Schwartz's ten."""


def settings(name: str, folder: Path) -> tuple[str, ...]:
    """What an instrument needs to be opened, written into `folder`: invented items, never published ones."""
    if name in pvq.KEYS:
        file = folder / f"{name}.csv"
        numbers = sorted(number for numbers in pvq.KEYS[name].values() for number in numbers)
        file.write_text("number,text\n" + "".join(f"{number},Invented portrait {number}.\n" for number in numbers), encoding="utf-8")
        return (f"file={file}",)
    return ()


def opened(name: str, folder: Path) -> Opened:
    """The instrument with its invented items."""
    return open_instrument(name, settings(name, folder), registry.get("values", SYSTEMS.get(name, "schwartz10")))
