"""Persons who hold a value and persons who hold its reverse: what a model is told before it
answers.

1. The descriptions come from a file, from `descriptions.toml`, or, for the organism, from its own
   generator: it speaks no other language, so a description is two behaviours of one pole, a
   question a sentence without content, and its answer the continuation.
2. A value of a coarser system has the descriptions of its members.
3. `asked` gives each question one description drawn with a seed. Both poles get the same questions,
   so that they differ in the description alone; where more answers are asked for than there are
   questions, these come round again.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_store.errors import BadInput, NotFound
from feature_store.records import ValueSystem
from workbench import organism
from workbench.material import ORGANISM

BUILT_IN = Path(__file__).with_name("descriptions.toml")
POLES = ("value", "reversed")
"""Holding the value, and holding its reverse."""
OWN = 24
"""Descriptions a pole, and questions, that the organism's generator writes."""


@dataclass(frozen=True)
class Told:
    prompt: str
    """The whole text that the model answers."""
    description: str
    """The person; empty where the model speaks for itself."""
    question: str
    """What is asked."""


@dataclass(frozen=True)
class Descriptions:
    persons: dict[tuple[str, str], tuple[str, ...]]
    """(value, pole) -> descriptions in the first person."""
    questions: tuple[str, ...]
    """What is asked."""
    template: str
    """Holds {description} and {question}."""

    def asked(self, value: str, pole: str, n: int, seed: int) -> list[Told]:
        """`n` questions, each with a description of the pole drawn at random."""
        persons = self.persons[value, pole]
        rng = np.random.default_rng((seed, POLES.index(pole)))
        return [
            self._told(persons[rng.integers(len(persons))], self.questions[k % len(self.questions)])
            for k in range(n)
        ]

    def bare(self, n: int) -> list[Told]:
        """`n` questions without a description, for a model that speaks for itself."""
        return [self._told("", self.questions[k % len(self.questions)]) for k in range(n)]

    def _told(self, description: str, question: str) -> Told:
        prompt = (
            self.template.replace("{description}", description)
            .replace("{question}", question)
            .strip()
        )
        return Told(prompt, description, question)


def descriptions(source: str, system: ValueSystem, seed: int) -> Descriptions:
    """The descriptions of every value of `system`: the organism's, a file's, or the built-in
    ones (empty source).
    """
    if source == ORGANISM:
        truth = organism.truth()
        own = {
            value: [organism.descriptions(value, sign, OWN, seed) for sign in (1, -1)]
            for value in truth.values
        }
        return Descriptions(
            _fold(own, system), tuple(organism.questions(OWN, seed)), "{description} {question}"
        )
    file = Path(source) if source else BUILT_IN
    try:
        told = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFound(
            f"There is no file of descriptions {file}. `workbench/descriptions.toml` shows the"
            " form."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} is not valid TOML: {error}.") from None
    template, questions = told.get("template", ""), told.get("questions", [])
    asked = (
        isinstance(questions, list) and questions and all(isinstance(one, str) for one in questions)
    )
    if (
        not isinstance(template, str)
        or "{description}" not in template
        or "{question}" not in template
        or not asked
    ):
        raise BadInput(
            f"{file} needs a `template` with {{description}} and {{question}}, and a list of"
            " `questions`."
        )
    return Descriptions(_fold(_read(told, file), system), tuple(questions), template)


def _read(told: dict, file: Path) -> dict[str, list[list[str]]]:
    found = {}
    values = told.get("values", {})
    if not isinstance(values, dict) or not all(
        isinstance(poles, dict) for poles in values.values()
    ):
        raise BadInput(
            f"{file}: descriptions stand in tables [values.NAME] with the lists {', '.join(POLES)}."
        )
    for value, poles in values.items():
        found[value] = [poles.get(pole, []) for pole in POLES]
        for pole, texts in zip(POLES, found[value], strict=True):
            if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
                raise BadInput(
                    f"{file}: {value} has no descriptions under `{pole}`. Give a list of sentences"
                    f" for each of {', '.join(POLES)}."
                )
    return found


def _fold(
    known: dict[str, list[list[str]]], system: ValueSystem
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Descriptions by the values of `system`: those of a finer value count for the one that
    contains it.
    """
    folded: dict[tuple[str, str], tuple[str, ...]] = {}
    for value, poles in known.items():
        for pole, texts in zip(POLES, poles, strict=True):
            key = (system.resolve(value), pole)
            folded[key] = folded.get(key, ()) + tuple(texts)
    return folded
