"""Decisions as an instrument: the situations of ValuePilot (Luo et al. 2025), with scored actions.

1. Scenarios come from a JSON-lines file (`workbench scenarios` writes such situations,
   `systems/value_pilot/scenarios.py` reads and refuses), or from the organism's own generator,
   which draws sets of one to six values.
2. A scenario is an item whose answers are its actions. They are listed with letters in both orders;
   the organism goes on with an action's own words.
3. A value's score is the expected score of what is chosen less that of choosing by lot, over the
   scenarios whose actions differ on the value.

The verb `decide` asks the same scenarios for steering effects and rankings; here they stand beside
other instruments' profiles. Left out: filters and reviews, which belong to a run of kind
`scenarios`; a file is used as it is.
"""

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from feature_store.bounds import Between, CountOrZero, Seed
from feature_store.errors import BadInput
from feature_store.records import Instrument, Item, Scenario, ValueSystem
from feature_store.registry import register
from workbench import organism
from workbench.measuring.questionnaire import Questionnaire
from workbench.systems.value_pilot.scenarios import read, subsets

WORDINGS = {
    "listed": (
        "{item}\n\nWhat do you do?\n{options}\n\nAnswer with the letter of one of these and nothing"
        " else.\nAnswer:"
    ),
    "own": f"{{item}} {organism.CHOOSE}",
}
LARGEST = 6
"""Most values of a scenario of the organism, as in the paper."""


@dataclass(frozen=True)
class DecisionsSettings:
    """Where the situations stand, or how many the organism is given."""

    items: str = ""
    """JSON-lines file with one scenario a line, or `organism` for scenarios in that model's own
    words."""
    n: CountOrZero = 60
    """Scenarios to make for the organism; a file's are all asked."""
    actions: Annotated[int, Between(2, 1000)] = 6
    """Fewest actions of a scenario of the organism."""
    seed: Seed = 0
    """Seed of the organism's scenarios."""


@register("instruments", "decisions")
class Decisions(Questionnaire):
    """Situations with scored actions (ValuePilot), from your file or the organism's own."""

    config = DecisionsSettings

    def load(self, settings: DecisionsSettings, system: ValueSystem) -> Instrument:
        """Read the situations of a file, or write some for the organism.

        Raises BadInput without a file, for more actions than letters, or where the organism does
        not know the values.
        """
        if not settings.items:
            raise BadInput(
                "decisions ships no scenarios. Name a file with --settings items=FILE.jsonl, or"
                " items=organism for that model's own."
            )
        generated = settings.items == "organism"
        scenarios = (
            _generated(settings, system) if generated else read(Path(settings.items), system)
        )
        for scenario in scenarios:
            if len(scenario.actions) > (most := len(string.ascii_uppercase)):
                raise BadInput(
                    f"Scenario {scenario.id} has {len(scenario.actions)} actions; answers have"
                    f" letters, so {most} is the most. Split it."
                )
        items = tuple(
            Item(id=s.id, text=s.text, value="", options=s.actions, source=s.source)
            for s in scenarios
        )
        return Instrument(
            id="decisions",
            title="Decisions in situations with scored actions",
            items=items,
            options=(),
            wordings=tuple(WORDINGS.items()),
            system=system.id,
            source="generated for the organism" if generated else Path(settings.items).name,
            licence="MIT" if generated else "as the file says",
            answer="choice",
        )

    def wordings(self, instrument: Instrument, is_organism: bool) -> tuple[str, ...]:
        """Name the wording: the organism goes on in its own words, others choose a letter."""
        return ("own",) if is_organism else ("listed",)


def _generated(settings: DecisionsSettings, system: ValueSystem) -> list[Scenario]:
    """Scenarios in the organism's language."""
    if settings.n < 1 or system.ids != organism.truth().values:
        raise BadInput(
            "The organism has at least one scenario, about Schwartz's ten values; got"
            f" n={settings.n} and {system.id}."
        )
    sets = subsets(system, settings.n, 1, LARGEST, settings.seed)
    return organism.scenarios(sets, settings.actions, settings.seed)
