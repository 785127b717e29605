"""Moral dilemmas in steps that escalate; each answer is a choice between two values (Wu et al.
2025, "The Staircase of Ethics").

1. A file in the format of the released ones is read strictly (`read`): a list of dilemmas with
   `idx` and, for each step, `step 1_situation`, `step 1_dilemma`, `step 1_choiceA`, `step
   1_choiceA_value` and the same for B. The two values of a step differ, and are values of the
   study's system.
2. A step is an item that follows the one before it. `memory` says what it is told of the earlier
   ones: `full`, every situation with what was chosen; `causal`, the choices alone; `none`. The
   paper names these three without their prompts: that `causal` means the choices is our reading.
3. Each step is asked with A and B in both orders, whose answers count alike.
4. Besides the profile: preferences by step, win rates, cycles, strengths; between subjects
   (`workbench contrast`), how far they rank values alike at each step
   (`workbench/instruments/moral_dilemmas/metrics.py`).

The released Schwartz file calls self-direction "self". A released dilemma that stands in its file
twice, word for word, is asked once, and that is said; the same `idx` with other words is refused.
Left out: the paper's models, and how its values were annotated (see the verb `dilemmas` for writing
new ones).
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_store.bounds import CountOrZero
from feature_store.errors import BadInput, NotFound
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
    items: str = ""
    """JSON file of dilemmas in the released format, or `organism` for dilemmas in that model's
    own words."""
    n: CountOrZero = 45
    """Dilemmas to make for the organism; with 45 every two values meet once at each step."""
    memory: Memory = "full"
    """What a step is told of the earlier ones: `full`, `causal` (the choices alone) or `none`."""


@register("instruments", "moral-dilemmas")
class MoralDilemmas(Questionnaire):
    """Moral dilemmas in escalating steps (Wu et al.

    2025), from a file of yours or the organism's own.
    """

    config = MoralDilemmasSettings

    def load(self, settings: MoralDilemmasSettings, system: ValueSystem) -> Instrument:
        if not settings.items:
            raise BadInput(
                "moral-dilemmas ships no items. Name a file with --settings items=FILE.json, or"
                " items=organism for that model's own."
            )
        if settings.n < 1:
            raise BadInput(f"At least one dilemma is asked, got n={settings.n}.")
        own = settings.items == "organism"
        told = organism.dilemmas(settings.n, 0) if own else _json(Path(settings.items))
        return Instrument(
            id="moral-dilemmas",
            title="Multi-step moral dilemmas",
            items=read(told, system, settings.items),
            options=(),
            wordings=tuple(WORDINGS.items()),
            system=system.id,
            source=(
                "generated for the organism"
                if own
                else f"{Path(settings.items).name}, in the format of Wu et al. (2025)"
            ),
            licence="MIT" if own else "as the file says; the released dilemmas: CC BY-SA 4.0",
            answer="choice",
            memory=settings.memory,
        )

    def wordings(self, instrument: Instrument, own: bool) -> tuple[str, ...]:
        """The organism is asked in its own words where the step ends, others choose a letter."""
        return ("own",) if own else ("choose",)

    def tables(
        self,
        responses: Sequence[Response],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        told, name = metrics.tally(responses, instrument, system), responses[0].steering
        return {
            "step_preferences": metrics.step_preferences(told, name, replicates, seed),
            "win_rates": metrics.win_rates(told, name, replicates, seed),
            "transitivity": [metrics.transitivity(told, name, replicates, seed)],
            "value_strengths": metrics.strengths(told, name, replicates, seed),
        }

    def between(
        self,
        told: Mapping[str, Sequence[Response]],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        first, *others = told
        counted = {
            name: metrics.tally(responses, instrument, system) for name, responses in told.items()
        }
        rows = [
            {"subject": name, "reference": first, **row}
            for name in others
            for row in metrics.rank_agreement(counted[first], counted[name], replicates, seed)
        ]
        return {"step_agreement": rows}


def _json(file: Path) -> Any:
    if not file.is_file():
        raise NotFound(
            f"There is no file {file}. Give a JSON file of dilemmas;"
            " docs/instruments/moral-dilemmas.md says where to get one."
        )
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{file} is no JSON in UTF-8: {error}.") from None


def read(told: Any, system: ValueSystem, name: str) -> tuple[Item, ...]:
    """The steps of all dilemmas as items.

    Raises BadInput that names the dilemma, the step and what is wrong.
    """
    if not isinstance(told, list) or not told or not all(isinstance(one, dict) for one in told):
        raise BadInput(
            f"{name} should hold a JSON list of dilemmas, one object each, and at least one."
        )
    seen: dict[str, tuple[Item, ...]] = {}
    again = []
    for number, one in enumerate(told, 1):
        if "idx" not in one or not isinstance(one["idx"], str | int) or not str(one["idx"]).strip():
            raise BadInput(f"{name}: dilemma {number} of the list has no `idx`. Give each its own.")
        id = str(one["idx"]).strip()
        items = _steps(one, id, system, f"{name}, dilemma {id}")
        if id in seen and items != seen[id]:
            raise BadInput(f"{name} holds two different dilemmas of idx {id}. Give each its own.")
        again += [id] if id in seen else []
        seen[id] = items
    if again:
        warnings.warn(
            f"{name} holds {len(again)} of its dilemmas twice, word for word ({', '.join(again)});"
            " each is asked once.",
            stacklevel=2,
        )
    return tuple(item for items in seen.values() for item in items)


def _steps(one: Mapping[str, Any], id: str, system: ValueSystem, where: str) -> tuple[Item, ...]:
    numbers = {int(found[1]) for key in one if (found := re.match(r"step (\d+)_", key))}
    if numbers != set(range(1, len(numbers) + 1)) or not numbers:
        raise BadInput(
            f"{where}: expected steps 1, 2, ... without a gap, got"
            f" {', '.join(map(str, sorted(numbers))) or 'none'}."
        )
    items: list[Item] = []
    for step in sorted(numbers):
        place = f"{where}, step {step}"
        # One released dilemma calls its dilemma a conflict.
        dilemma = _text(
            one,
            f"step {step}_" + ("conflict" if f"step {step}_conflict" in one else "dilemma"),
            place,
        )
        text = f"{_text(one, f'step {step}_situation', place)}\n{dilemma}"
        options = tuple(
            Action(
                _text(one, f"step {step}_choice{side}", place),
                ((_value(one, f"step {step}_choice{side}_value", system, place), 1.0),),
            )
            for side in "AB"
        )
        if options[0].scores == options[1].scores:
            raise BadInput(
                f"{place}: both choices carry {options[0].scores[0][0]}. A dilemma is between two"
                " values."
            )
        if options[0].text == options[1].text:
            raise BadInput(f"{place}: both choices are the same text.")
        items.append(
            Item(
                id=f"{id}-{step}",
                text=text,
                value="",
                options=options,
                group=id,
                after=items[-1].id if items else "",
            )
        )
    return tuple(items)


def _text(one: Mapping[str, Any], key: str, place: str) -> str:
    if not isinstance(one.get(key), str) or not one[key].strip():
        raise BadInput(f"{place}: `{key}` is {'missing' if key not in one else 'no text'}.")
    return " ".join(one[key].split())


def _value(one: Mapping[str, Any], key: str, system: ValueSystem, place: str) -> str:
    said = _text(one, key, place)
    try:
        return system.resolve(ALIASES.get(said.lower(), said))
    except NotFound as error:
        raise BadInput(
            f"{place}: {error} A file of other values needs a study that speaks them (--system)."
        ) from None
