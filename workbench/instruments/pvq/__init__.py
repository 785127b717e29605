"""The Portrait Values Questionnaires `pvq21`, `pvq40` and `pvq-rr`, with items from your file.

    workbench measure STUDY --instrument pvq40 --settings items=items.csv

1. Keys are shipped (`workbench/instruments/pvq/keys.py`), texts are not: they are free for academic
   research only. The file `items` holds them (`workbench/instruments/pvq/item_files.py`).
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

from feature_store.errors import BadInput
from feature_store.records import Instrument, Item, Response, ValueSystem
from feature_store.registry import register
from workbench.instruments.pvq.item_files import read_items, read_reversals
from workbench.instruments.pvq.keys import KEYS, OPTIONS
from workbench.measuring.profiles import Cells, per_cluster
from workbench.measuring.questionnaire import Questionnaire
from workbench.values import VALUES

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
"""The one of the nineteen that belongs to none of the ten."""


@dataclasses.dataclass(frozen=True)
class PvqSettings:
    """Where the texts of the items stand."""

    items: str = ""
    """CSV, TSV, JSON, JSONL or TOML file with `number` and `text` of every item."""


class Portraits(Questionnaire):
    """What the three Portrait Values Questionnaires have in common."""

    config = PvqSettings
    id = ""
    """Registered name, and name of the key."""
    title = ""
    """Name for people."""
    source = ""
    """The publication."""

    def load(self, settings: PvqSettings, system: ValueSystem) -> Instrument:
        """Read the items of your file. Raises BadInput or NotFound without a fitting one."""
        key = KEYS[self.id]
        measured = self._measured(system)
        finer = VALUES["schwartz19"] if FACE in key else measured
        of = {number: value for value, numbers in key.items() for number in numbers}
        if not settings.items:
            raise BadInput(
                f"{self.title} ships without its {len(of)} items, which are free for academic"
                " research only. Name your file of them with --settings items=ITEMS.csv (columns"
                " number and text), or ask our own `standin`."
            )
        texts = read_items(Path(settings.items), of, OPTIONS, finer.resolve)
        reversals = read_reversals(Path(settings.items))
        values = dict(of)
        if measured is not finer:
            values = {number: finer[value].parent for number, value in of.items()}
        items = tuple(
            Item(
                id=f"{self.id}-{number}",
                text=text,
                value=values[number],
                reversal=reversals.get(number, ""),
            )
            for number, text in texts.items()
        )
        return Instrument(
            id=self.id,
            title=self.title,
            items=items,
            options=tuple("123456"),
            wordings=tuple(WORDINGS.items()),
            system=measured.id,
            source=self.source,
            licence="free for academic research; not shipped",
        )

    def _measured(self, system: ValueSystem) -> ValueSystem:
        """The value system that is measured in a study which speaks `system`."""
        return VALUES["schwartz10"]

    def wordings(self, instrument: Instrument, is_organism: bool) -> tuple[str, ...]:
        """Name the question of the questionnaire itself."""
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

    def _measured(self, system: ValueSystem) -> ValueSystem:
        return system if system.id in ("schwartz10", "schwartz19") else VALUES["schwartz19"]

    def cells(
        self, responses: Sequence[Response], instrument: Instrument, system: ValueSystem
    ) -> Cells:
        """Average the answers by cluster.

        Folded into ten, items of Face count in the mean of all items and make no column.
        """
        if instrument.system == "schwartz19":
            return per_cluster(responses, instrument, system)
        face = VALUES["schwartz19"][FACE]
        items = tuple(
            item if item.value else dataclasses.replace(item, value=FACE)
            for item in instrument.items
        )
        with_face = per_cluster(
            responses,
            dataclasses.replace(instrument, items=items),
            dataclasses.replace(system, values=(*system.values, face)),
        )
        return with_face._replace(
            values=with_face.values[:-1],
            raw=with_face.raw[:, :-1],
            centred=with_face.centred[:, :-1],
        )
