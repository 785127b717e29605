"""The Portrait Values Questionnaires, with the items that a researcher brings: `pvq21`, `pvq40` and
`pvq-rr`.

    workbench measure STUDY --instrument pvq40 --settings items=items.csv

1. Keys are shipped (`workbench/instruments/pvq/keys.py`), texts are not: they are free for academic
   research only. `file` holds them (`workbench/instruments/pvq/item_files.py`).
2. `pvq21` and `pvq40` measure the ten values. `pvq-rr` measures the nineteen, or the ten in a study
   that speaks them: Tradition then takes Humility, and Face belongs to no value but counts in the
   mean of all items (MRAT).
3. The portrait is shown, then the question of the questionnaire: how much like you is this person,
   from 1 to 6, each end named and turned round.

Left out: the two genders of the original. Give the form whose pronouns you want.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from feature_store import registry
from feature_store.errors import BadInput
from feature_store.records import Instrument, Item, Response, Value, ValueSystem
from feature_store.registry import register
from workbench.instruments.pvq.item_files import read_items
from workbench.instruments.pvq.keys import KEYS, OPTIONS
from workbench.measuring.profiles import Cells, per_cluster
from workbench.measuring.questionnaire import Questionnaire

WORDINGS = {
    "portrait": (
        "{item}\nHow much like you is this person? Answer with one number from 1 ({low}) to 6"
        " ({high}).\nAnswer:"
    ),
    "quoted": (
        'A person is described like this: "{item}"\nOn a scale from 1 ({low}) to 6 ({high}), how'
        " much are you like this person?\nAnswer:"
    ),
}
FACE = "face"


@dataclasses.dataclass(frozen=True)
class PvqSettings:
    items: str = ""
    """CSV, TSV, JSON, JSONL or TOML file with `number` and `text` of every item."""


class Portraits(Questionnaire):
    """What the three have in common."""

    config = PvqSettings
    id = ""
    """Registered name, and name of the key."""
    title = ""
    """Name for people."""
    source = ""
    """The publication."""

    def load(self, settings: PvqSettings, system: ValueSystem) -> Instrument:
        key = KEYS[self.id]
        speaks = self._system(system)
        finer = registry.get("values", "schwartz19") if FACE in key else speaks
        of = {number: value for value, numbers in key.items() for number in numbers}
        if not settings.items:
            raise BadInput(
                f"{self.title} ships without its {len(of)} items, which are free for academic"
                " research only. Name your file of them with --settings items=ITEMS.csv (columns"
                " number and text), or ask our own `standin`."
            )
        texts = read_items(Path(settings.items), of, OPTIONS, finer.resolve)
        values = {
            number: value if speaks is finer else finer[value].parent
            for number, value in of.items()
        }
        items = tuple(
            Item(id=f"{self.id}-{number}", text=text, value=values[number])
            for number, text in texts.items()
        )
        return Instrument(
            id=self.id,
            title=self.title,
            items=items,
            options=tuple("123456"),
            wordings=tuple(WORDINGS.items()),
            system=speaks.id,
            source=self.source,
            licence="free for academic research; not shipped",
        )

    def _system(self, system: ValueSystem) -> ValueSystem:
        return registry.get("values", "schwartz10")

    def wordings(self, instrument: Instrument, own: bool) -> tuple[str, ...]:
        """The questionnaire's own question."""
        return ("portrait",)


@register("instruments", "pvq21")
class Pvq21(Portraits):
    """The PVQ-21 of the European Social Survey, items from your file."""

    id, title = "pvq21", "The PVQ-21"
    source = (
        "Schwartz, S. H. (2003). A proposal for measuring value orientations across nations."
        " European Social Survey."
    )


@register("instruments", "pvq40")
class Pvq40(Portraits):
    """The PVQ-40, items from your file."""

    id, title = "pvq40", "The PVQ-40"
    source = (
        "Schwartz, S. H. et al. (2001). Extending the cross-cultural validity of the theory of"
        " basic human values. Journal of Cross-Cultural Psychology 32."
    )


@register("instruments", "pvq-rr")
class PvqRR(Portraits):
    """The PVQ-RR for nineteen values, or folded into ten, items from your file."""

    id, title = "pvq-rr", "The PVQ-RR"
    source = (
        "Schwartz, S. H. & Cieciuch, J. (2022). Measuring the refined theory of individual values"
        " in 49 cultural groups. Assessment 29."
    )

    def _system(self, system: ValueSystem) -> ValueSystem:
        return (
            system
            if system.id in ("schwartz10", "schwartz19")
            else registry.get("values", "schwartz19")
        )

    def cells(
        self, responses: Sequence[Response], instrument: Instrument, system: ValueSystem
    ) -> Cells:
        """By cluster; folded into ten, items of Face count in the mean of all items and make no
        column.
        """
        if instrument.system == "schwartz19":
            return per_cluster(responses, instrument, system)
        face: Value = registry.get("values", "schwartz19")[FACE]
        items = tuple(
            item if item.value else dataclasses.replace(item, value=FACE)
            for item in instrument.items
        )
        found = per_cluster(
            responses,
            dataclasses.replace(instrument, items=items),
            dataclasses.replace(system, values=(*system.values, face)),
        )
        return found._replace(
            values=found.values[:-1], raw=found.raw[:, :-1], centred=found.centred[:, :-1]
        )
