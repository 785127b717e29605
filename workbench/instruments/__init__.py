"""Instruments: questionnaires that measure values, one file each.

`standin.toml` holds statements of our own. It is not the PVQ nor a translation of it, has not been validated on
people, and measures a model only in so far as its answers to such statements mean anything.
"""

import tomllib
from pathlib import Path

from feature_store.records import Instrument, Item

LIKENESS = ("not like me at all", "very much like me")
"""The ends of the six-point answer scale, least agreement first."""


def from_toml(
    file: Path, id: str, title: str, system: str, source: str, licence: str, wordings: dict[str, str]
) -> Instrument:
    """An instrument whose items stand in a TOML file: `[items.<value>] texts = [...]`, `[wordings] name = template`."""
    told = tomllib.loads(file.read_text(encoding="utf-8"))
    items = tuple(
        Item(f"{value}-{number}", text, value)
        for value, group in told["items"].items()
        for number, text in enumerate(group["texts"], 1)
    )
    templates = told["wordings"] | wordings
    return Instrument(id, title, items, tuple("123456"), tuple(templates.items()), system, source, licence)
