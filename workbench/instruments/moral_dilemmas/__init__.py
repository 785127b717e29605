"""Moral dilemmas in steps that escalate; each answer is a choice between two values.

They are those of Wu et al. (2025, "The Staircase of Ethics").

1. A file in the format of the released ones is read strictly (`read`): a list of dilemmas with
   `idx` and, for each step, `step 1_situation`, `step 1_dilemma`, `step 1_choiceA`, `step
   1_choiceA_value` and the same for B. The two values of a step differ, and are values of the
   study's system.
2. A step is an item that follows the one before it. `memory` says what is shown of earlier steps:
   `full`, every situation with what was chosen; `causal`, the choices alone; `none`. The paper
   names these three without their prompts: that `causal` means the choices is our reading.
3. Each step is asked with A and B in both orders, whose answers count alike.
4. Besides the profile: preferences by step, win rates, cycles, strengths; between subjects
   (`workbench contrast`), how far they rank values alike at each step
   (`workbench/instruments/moral_dilemmas/metrics.py`).

The released Schwartz file calls self-direction "self". A released dilemma that stands in its file
twice, word for word, is asked once, and that is said; the same `idx` with other words is refused.
Left out: the paper's models, and how its values were annotated (see the verb `dilemmas` for writing
new ones).
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_store.bounds import CountOrZero
from feature_store.errors import BadInput, NotFound
from feature_store.files import read_json
from feature_store.records import Action, Instrument, Item, Memory, Response, ValueSystem
from feature_store.registry import register
from workbench import organism
from workbench.instruments.moral_dilemmas import metrics
from workbench.measuring.questionnaire import Questionnaire

ALIASES = {"self": "self-direction"}
"""Names of values in the released files that no value system knows."""
WORDINGS = {
    "choose": (
        "{item}\n\n{options}\n\nWhich do you choose? Answer with its letter and nothing"
        " else.\nAnswer:"
    ),
    "would": "{item}\nWhat would you do?\n{options}\nI would choose option",
    "own": f"{{item}} {organism.CHOOSE}",
}


@dataclass(frozen=True)
class MoralDilemmasSettings:
    """Where the dilemmas stand, and what a step shows of those before it."""

    items: str = ""
    """JSON file of dilemmas in the released format, or `organism` for dilemmas in that model's
    own words."""
    n: CountOrZero = 45
    """Dilemmas to make for the organism; with 45 every two values meet once at each step."""
    memory: Memory = "full"
    """What a step is told of the earlier ones: `full`, `causal` (the choices alone) or `none`."""


@register("instruments", "moral-dilemmas")
class MoralDilemmas(Questionnaire):
    """Moral dilemmas in escalating steps, from your file or the organism's own."""

    config = MoralDilemmasSettings

    def load(self, settings: MoralDilemmasSettings, system: ValueSystem) -> Instrument:
        """Read the dilemmas of a file, or write some for the organism.

        Raises NotFound or BadInput without a fitting file.
        """
        if not settings.items:
            raise BadInput(
                "moral-dilemmas ships no items. Name a file with --settings items=FILE.json, or"
                " items=organism for that model's own."
            )
        if settings.n < 1:
            raise BadInput(f"At least one dilemma is asked, got n={settings.n}.")
        generated = settings.items == "organism"
        file = Path(settings.items)
        dilemmas = organism.dilemmas(settings.n, 0) if generated else _json(file)
        return Instrument(
            id="moral-dilemmas",
            title="Multi-step moral dilemmas",
            items=read(dilemmas, system, settings.items),
            options=(),
            wordings=tuple(WORDINGS.items()),
            system=system.id,
            source=(
                "generated for the organism"
                if generated
                else f"{file.name}, in the format of Wu et al. (2025)"
            ),
            licence="MIT" if generated else "as the file says; the released dilemmas: CC BY-SA 4.0",
            answer="choice",
            memory=settings.memory,
        )

    def wordings(self, instrument: Instrument, is_organism: bool) -> tuple[str, ...]:
        """Name the wording: the organism goes on in its own words, others choose a letter."""
        return ("own",) if is_organism else ("choose",)

    def tables(
        self,
        responses: Sequence[Response],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Count preferences by step, win rates, cycles and strengths: relation -> rows."""
        tally, name = metrics.tally(responses, instrument, system), responses[0].steering
        return {
            "step_preferences": metrics.step_preferences(tally, name, replicates, seed),
            "win_rates": metrics.win_rates(tally, name, replicates, seed),
            "transitivity": [metrics.transitivity(tally, name, replicates, seed)],
            "value_strengths": metrics.strengths(tally, name, replicates, seed),
        }

    def between(
        self,
        responses: Mapping[str, Sequence[Response]],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Compare how subjects rank the values at each step with the first subject."""
        first, *others = responses
        tallies = {
            name: metrics.tally(answers, instrument, system) for name, answers in responses.items()
        }
        rows = [
            {"subject": name, "reference": first, **row}
            for name in others
            for row in metrics.rank_agreement(tallies[first], tallies[name], replicates, seed)
        ]
        return {"step_agreement": rows}


def _json(file: Path) -> Any:
    """What a JSON file holds."""
    if not file.is_file():
        raise NotFound(
            f"There is no file {file}. Give a JSON file of dilemmas;"
            " docs/instruments/moral-dilemmas.md says where to get one."
        )
    return read_json(file)


def read(dilemmas: Any, system: ValueSystem, name: str) -> tuple[Item, ...]:
    """Turn the steps of all dilemmas of a file into items.

    `dilemmas` is what its JSON holds, `name` what it is called. Raises BadInput that names the
    dilemma, the step and what is wrong. A dilemma that stands twice is asked once, with a warning.
    """
    if not _are_objects(dilemmas):
        raise BadInput(
            f"{name} should hold a JSON list of dilemmas, one object each, and at least one."
        )
    seen: dict[str, tuple[Item, ...]] = {}
    repeated = []
    for number, dilemma in enumerate(dilemmas, 1):
        idx = dilemma.get("idx")
        if not isinstance(idx, str | int) or not str(idx).strip():
            raise BadInput(f"{name}: dilemma {number} of the list has no `idx`. Give each its own.")
        id = str(idx).strip()
        items = _steps(dilemma, id, system, f"{name}, dilemma {id}")
        if id in seen:
            if items != seen[id]:
                raise BadInput(
                    f"{name} holds two different dilemmas of idx {id}. Give each its own."
                )
            repeated.append(id)
        seen[id] = items
    if repeated:
        warnings.warn(
            f"{name} holds {len(repeated)} of its dilemmas twice, word for word"
            f" ({', '.join(repeated)}); each is asked once.",
            stacklevel=2,
        )
    return tuple(item for items in seen.values() for item in items)


def _are_objects(dilemmas: Any) -> bool:
    """Whether something read from JSON is a list of objects, at least one."""
    if not isinstance(dilemmas, list) or not dilemmas:
        return False
    return all(isinstance(dilemma, dict) for dilemma in dilemmas)


def _steps(
    dilemma: Mapping[str, Any], id: str, system: ValueSystem, where: str
) -> tuple[Item, ...]:
    """The items of one dilemma, each after the one before it."""
    matches = [re.match(r"step (\d+)_", key) for key in dilemma]
    numbers = {int(match[1]) for match in matches if match}
    if numbers != set(range(1, len(numbers) + 1)) or not numbers:
        raise BadInput(
            f"{where}: expected steps 1, 2, ... without a gap, got"
            f" {', '.join(map(str, sorted(numbers))) or 'none'}."
        )
    items: list[Item] = []
    for step in sorted(numbers):
        place = f"{where}, step {step}"
        # One released dilemma calls its dilemma a conflict.
        noun = "conflict" if f"step {step}_conflict" in dilemma else "dilemma"
        question = _text(dilemma, f"step {step}_{noun}", place)
        situation = _text(dilemma, f"step {step}_situation", place)
        items.append(
            Item(
                id=f"{id}-{step}",
                text=f"{situation}\n{question}",
                value="",
                options=_options(dilemma, step, system, place),
                group=id,
                after=items[-1].id if items else "",
            )
        )
    return tuple(items)


def _options(
    dilemma: Mapping[str, Any], step: int, system: ValueSystem, place: str
) -> tuple[Action, Action]:
    """The two choices of a step, which must differ in their text and their value."""
    first, second = (
        Action(
            _text(dilemma, f"step {step}_choice{side}", place),
            ((_value(dilemma, f"step {step}_choice{side}_value", system, place), 1.0),),
        )
        for side in "AB"
    )
    if first.scores == second.scores:
        raise BadInput(
            f"{place}: both choices carry {first.scores[0][0]}. A dilemma is between two values."
        )
    if first.text == second.text:
        raise BadInput(f"{place}: both choices are the same text.")
    return first, second


def _text(dilemma: Mapping[str, Any], key: str, place: str) -> str:
    text = dilemma.get(key)
    if not isinstance(text, str) or not text.strip():
        raise BadInput(f"{place}: `{key}` is {'missing' if key not in dilemma else 'no text'}.")
    return " ".join(text.split())


def _value(dilemma: Mapping[str, Any], key: str, system: ValueSystem, place: str) -> str:
    name = _text(dilemma, key, place)
    try:
        return system.resolve(ALIASES.get(name.lower(), name))
    except NotFound as error:
        raise BadInput(
            f"{place}: {error} A file of other values needs a study that speaks them (--system)."
        ) from None
