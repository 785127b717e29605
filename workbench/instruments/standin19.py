"""Our own stand-in questionnaire for the nineteen refined values, three statements each.

The first-person statements stand in `standin19.toml`. They are not the PVQ-RR, share no wording
with it and have not been validated on people; they let a study of the nineteen be tried without
anyone's texts.

Left out: reverse-keyed statements, and wordings of the organism, which knows the ten values alone.
"""

import functools
from pathlib import Path

from feature_store.records import Instrument, ValueSystem
from feature_store.registry import register
from workbench.measuring.questionnaire import (
    Credits,
    NoSettings,
    Questionnaire,
    instrument_from_toml,
)


@register("instruments", "standin19")
class Standin19(Questionnaire):
    """Our own stand-in questionnaire, three statements for each of the nineteen refined values."""

    def load(self, settings: NoSettings, system: ValueSystem) -> Instrument:
        """Read the statements that ship."""
        return standin19()

    def wordings(self, instrument: Instrument, is_organism: bool) -> tuple[str, ...]:
        """Name the wording that names both ends of the scale."""
        return ("number",)


@functools.cache
def standin19() -> Instrument:
    """Read the stand-in items, once a process."""
    about = Credits(
        id="standin19",
        title="Stand-in items for the nineteen refined values (not the PVQ-RR)",
        system="schwartz19",
        source="written for this project",
        licence="MIT",
    )
    return instrument_from_toml(Path(__file__).with_name("standin19.toml"), about)
