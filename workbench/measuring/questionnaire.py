"""What every instrument is, and how one is opened.

A plug-in (`workbench/instruments`, one file each) is registered under kind `instruments` and is a
`Questionnaire`: `load` gives its items (shipped, or read from the user's file that `settings`
names). The rest is asked, read and scored as `workbench/measuring` does, unless its paper does
otherwise:

- `read` turns words into one of the answers;
- `rate` turns free texts into ratings, by a judge;
- `cells` turns stored responses into what a profile is the mean of; a pure function;
- `tables` turns them into what else the paper reports: rows of relations of its own; `between` does
  so for several subjects. Pure too.

Left out: people. What a model answers measures it only in so far as its answers to such items mean
anything.
"""

import dataclasses
import hashlib
import itertools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store import registry
from feature_store.errors import BadInput, Incompatible
from feature_store.records import Instrument, Item, Response, Run, ValueProfile, ValueSystem
from feature_store.registry import Registry
from workbench.measuring import profiles, reading
from workbench.measuring.profiles import Cells
from workbench.measuring.questions import Question
from workbench.measuring.reading import Reading
from workbench.settings import options

if TYPE_CHECKING:
    from workbench.llm import Judge


@dataclasses.dataclass(frozen=True)
class NoSettings:
    """Settings of an instrument that ships whole: none."""


class Questionnaire:
    """What every instrument is; a plug-in overrides what its paper does otherwise.

    The smallest plug-in, `workbench/instruments/mine.py`:

        @registry.register("instruments", "mine")
        class Mine(Questionnaire):
            def load(self, settings, system):
                return instrument_from_toml(Path(__file__).with_suffix(".toml"), ABOUT)
    """

    config: type = NoSettings
    """Frozen dataclass of the settings, each with a default."""
    judged = False
    """Whether free answers are rated by a judge; one then has to be named."""
    contexts = True
    """Whether short texts stand before the items unless others are named; they are the clusters
    of intervals, else the items are."""
    home: Path | None = None
    """Folder of the study that asks, for an instrument whose items come from its runs; None
    outside a study."""

    def load(self, settings: Any, system: ValueSystem) -> Instrument:
        """Give the instrument's items, answers and wordings.

        `settings` is an instance of `config`. Raises BadInput or NotFound where a file is needed
        and none, or a wrong one, is named.
        """
        raise NotImplementedError

    def wordings(self, instrument: Instrument, is_organism: bool) -> tuple[str, ...]:
        """Name the wordings that are asked unless others are named.

        `is_organism`: the shipped model is asked, for which an instrument may have its own.
        """
        return tuple(name for name, _ in instrument.wordings)

    def read(self, text: str, question: Question) -> Reading:
        """Tell which answer a text gives."""
        return reading.read(text, question)

    def rate(
        self, responses: Sequence[Response], instrument: Instrument, judge: "Judge"
    ) -> list[Response]:
        """Rate free answers by a judge; give one response a text, or one a text and value.

        Raises BadInput where the instrument's answers are not free.
        """
        raise BadInput(
            f"{instrument.id} needs no judge: its answers are {instrument.answer}s. Leave --judge"
            " out."
        )

    def score(
        self,
        responses: Sequence[Response],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> list[ValueProfile]:
        """Give the raw and the centred profile of one steering."""
        return profiles.profile(
            responses, instrument, self.cells(responses, instrument, system), replicates, seed
        )

    def cells(
        self, responses: Sequence[Response], instrument: Instrument, system: ValueSystem
    ) -> Cells:
        """Give what the profile is the mean of, by cluster; profiles are compared by it.

        A pure function of the responses.
        """
        return profiles.per_cluster(responses, instrument, system)

    def tables(
        self,
        responses: Sequence[Response],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Give what the paper reports besides the profile of one steering: relation -> rows."""
        return {}

    def between(
        self,
        responses: Mapping[str, Sequence[Response]],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Give what the paper reports of subjects beside each other: relation -> rows.

        `responses`: subject -> its answers, the reference first.
        """
        return {}


ITEM_LAST = {
    "first": (
        "Rate a statement by how much it is like you. Answer with one number from 1 ({low}) to 6"
        ' ({high}).\nStatement: "{item}"\nAnswer:'
    ),
}
"""Wordings of the six-point scale whose instruction and scale come first and the item last: what
all items share is read once under an intervention, and a sweep costs less."""
INSTRUMENTS: Registry[type[Questionnaire]] = registry.of("instruments")
"""The instruments by name."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """An instrument with its items, ready to be asked."""

    plugin: Questionnaire
    """How it is read, rated and scored."""
    instrument: Instrument
    """Its items."""


def open_instrument(
    name: str, settings: Sequence[str], system: ValueSystem, home: Path | None = None
) -> Opened:
    """Open an instrument with `key=value` settings, for the study in `home`.

    Raises Incompatible where it measures another value system.
    """
    plugin = INSTRUMENTS[name]()
    plugin.home = home
    if settings and plugin.config is NoSettings:
        raise BadInput(
            f"{name} ships whole and has nothing to set, got {', '.join(settings)}. Leave"
            " --settings out."
        )
    instrument = plugin.load(options(plugin.config, settings), system)
    if instrument.system != system.id:
        raise Incompatible(
            f"{name} measures {instrument.system}, this study speaks {system.id}. Choose another"
            " instrument."
        )
    return Opened(plugin, instrument)


def as_asked(run: Run, system: ValueSystem, home: Path | None = None) -> Opened:
    """Open the instrument with the items that a profile run asked.

    Raises Incompatible where they have changed since.
    """
    opened = open_instrument(run.config["instrument"], run.config.get("settings", ()), system, home)
    if hashlib.sha256(repr(opened.instrument).encode()).hexdigest() != run.inputs.get("items"):
        raise Incompatible(
            f"The items of {run.config['instrument']} are not those that {run.id} asked. Restore"
            " their file, or measure again."
        )
    return opened


def one_scale(name: str, system: ValueSystem) -> Instrument:
    """Open an instrument that a sweep can ask: every item alone, on one scale.

    Raises BadInput where it is not made of such items.
    """
    instrument = open_instrument(name, (), system).instrument
    if instrument.answer != "rating" or any(
        item.after or item.image or not item.value for item in instrument.items
    ):
        raise BadInput(
            f"A sweep asks single questions of one value on one scale, {name} is not made of those."
            " Measure with it (`workbench measure`), or sweep with `standin`."
        )
    return instrument


@dataclasses.dataclass(frozen=True, kw_only=True)
class Credits:
    """What an instrument is called and where it comes from."""

    id: str
    """Name of the plug-in."""
    title: str
    """Its name in words."""
    system: str
    """Id of the value system that it measures."""
    source: str
    """Where its items come from."""
    licence: str
    """Under which licence they may be used."""


def instrument_from_toml(
    file: Path, about: Credits, wordings: Mapping[str, str] | None = None
) -> Instrument:
    """Read an instrument on the six-point scale from a TOML file.

    The file holds `[items.<value>] texts = [...]`, beside them `reversals` in the same order where
    it gives any, and `[wordings] name = template`; `wordings` are added to its own, and
    `ITEM_LAST` as later ones.
    """
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    items = tuple(
        Item(id=f"{value}-{number}", text=text, value=value, reversal=reversal)
        for value, group in content["items"].items()
        for number, (text, reversal) in enumerate(
            itertools.zip_longest(group["texts"], group.get("reversals", ()), fillvalue=""), 1
        )
    )
    templates = content["wordings"] | dict(wordings or {})
    return Instrument(
        id=about.id,
        title=about.title,
        items=items,
        options=tuple("123456"),
        wordings=tuple(templates.items()),
        later_wordings=tuple(ITEM_LAST.items()),
        system=about.system,
        source=about.source,
        licence=about.licence,
    )
