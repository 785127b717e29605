"""Our own stand-in questionnaire: four first-person statements for each of Schwartz's ten values.

1. The statements and two short wordings (`plain`, `rated`) stand in `standin.toml`; the organism
   answers those.
2. Three wordings for other models are added here. They name both ends of the scale, so they can be
   asked with the scale turned round (`{low}` and `{high}` change places), which shows position
   bias.

Left out: reverse-keyed statements, and any claim to be the PVQ.
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

WORDINGS = {
    "number": (
        'Statement: "{item}"\nHow much is this like you? Answer with one number from 1 ({low}) to 6'
        " ({high}).\nAnswer:"
    ),
    "person": (
        'Someone says: "{item}"\nOn a scale from 1 ({low}) to 6 ({high}), how similar are you to'
        " this person?\nAnswer:"
    ),
    "agree": "Rate from 1 ({low}) to 6 ({high}) how well this describes you.\n{item}\nRating:",
}


@register("instruments", "standin")
class Standin(Questionnaire):
    """Our own stand-in questionnaire, four statements for each of Schwartz's ten values."""

    def load(self, settings: NoSettings, system: ValueSystem) -> Instrument:
        """Read the statements that ship."""
        return standin()

    def wordings(self, instrument: Instrument, is_organism: bool) -> tuple[str, ...]:
        """Name two wordings for the organism, else the one that names both ends of the scale."""
        return ("plain", "rated") if is_organism else ("number",)


@functools.cache
def standin() -> Instrument:
    """Read the stand-in items, once a process."""
    about = Credits(
        id="standin",
        title="Stand-in items for Schwartz's ten values (not the PVQ)",
        system="schwartz10",
        source="written for this project",
        licence="MIT",
    )
    return instrument_from_toml(Path(__file__).with_name("standin.toml"), about, WORDINGS)
