"""Our own stand-in questionnaire for the nineteen refined values: three first-person statements
each.

The statements stand in `standin19.toml`. They are not the PVQ-RR, share no wording with it and have
not been validated on people; they let a study of the nineteen be tried without anyone's texts.

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
        return standin19()

    def wordings(self, instrument: Instrument, own: bool) -> tuple[str, ...]:
        """With both ends of the scale named."""
        return ("number",)


@functools.cache
def standin19() -> Instrument:
    """The stand-in items."""
    about = Credits(
        id="standin19",
        title="Stand-in items for the nineteen refined values (not the PVQ-RR)",
        system="schwartz19",
        source="written for this project",
        licence="MIT",
    )
    return instrument_from_toml(Path(__file__).with_name("standin19.toml"), about)
