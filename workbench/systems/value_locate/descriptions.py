"""Persons who hold a value and persons who hold its reverse: what a model is told before it
answers.

1. The descriptions come from a file, from `descriptions.toml`, or, for the organism, from its own
   generator: it speaks no other language, so a description is two behaviours of one pole, a
   question a sentence without content, and its answer the continuation.
2. A value of a coarser system has the descriptions of its members.
3. `described` gives each question one description drawn with a seed. Both poles get the same
   questions, so that they differ in the description alone; where more answers are asked for than
   there are questions, these come round again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.errors import BadInput, NotFound
from feature_store.files import read_toml
from feature_store.records import ValueSystem
from workbench import organism
from workbench.material import ORGANISM

BUILT_IN = Path(__file__).with_name("descriptions.toml")
POLES = ("value", "reversed")
"""Holding the value, and holding its reverse."""
ORGANISM_TEXTS = 24
"""Descriptions a pole, and questions, that the organism's generator writes."""


@dataclass(frozen=True)
class DescribedQuestion:
    """A question, and the person as whom the model answers it."""

    prompt: str
    """The whole text that the model answers."""
    description: str
    """The person; empty where the model speaks for itself."""
    question: str
    """What is asked."""


@dataclass(frozen=True)
class Descriptions:
    """Persons by value and pole, and what they are asked."""

    persons: dict[tuple[str, str], tuple[str, ...]]
    """(value, pole) -> descriptions in the first person."""
    questions: tuple[str, ...]
    """What is asked."""
    template: str
    """Holds {description} and {question}."""

    def described(self, value: str, pole: str, n: int, seed: int) -> list[DescribedQuestion]:
        """Put `n` questions, each with a description of the pole drawn at random."""
        persons = self.persons[value, pole]
        rng = np.random.default_rng((seed, POLES.index(pole)))
        return [self._question(persons[rng.integers(len(persons))], k) for k in range(n)]

    def bare(self, n: int) -> list[DescribedQuestion]:
        """Put `n` questions without a description, for a model that speaks for itself."""
        return [self._question("", k) for k in range(n)]

    def _question(self, description: str, number: int) -> DescribedQuestion:
        """Write question `number`; after the last one the first comes round again."""
        question = self.questions[number % len(self.questions)]
        prompt = self.template.replace("{description}", description)
        prompt = prompt.replace("{question}", question).strip()
        return DescribedQuestion(prompt, description, question)


def descriptions(source: str, system: ValueSystem, seed: int) -> Descriptions:
    """Read the descriptions of every value of `system`.

    They are the organism's, a file's, or the built-in ones (empty source). Raises NotFound or
    BadInput that names the file.
    """
    if source == ORGANISM:
        return _planted(system, seed)
    file = Path(source) if source else BUILT_IN
    try:
        content = read_toml(file)
    except NotFound:
        raise NotFound(
            f"There is no file of descriptions {file}. `workbench/descriptions.toml` shows the"
            " form."
        ) from None
    template, questions = content.get("template", ""), content.get("questions", [])
    is_template = (
        isinstance(template, str) and "{description}" in template and "{question}" in template
    )
    if not is_template or not _are_texts(questions):
        raise BadInput(
            f"{file} needs a `template` with {{description}} and {{question}}, and a list of"
            " `questions`."
        )
    persons = _fold(_read(content.get("values", {}), file), system)
    return Descriptions(persons, tuple(questions), template)


def _planted(system: ValueSystem, seed: int) -> Descriptions:
    """Take descriptions and questions from the organism's own generator."""
    persons = {
        value: [organism.descriptions(value, sign, ORGANISM_TEXTS, seed) for sign in (1, -1)]
        for value in organism.truth().values
    }
    questions = tuple(organism.questions(ORGANISM_TEXTS, seed))
    return Descriptions(_fold(persons, system), questions, "{description} {question}")


def _are_texts(content: Any) -> bool:
    """Whether a part of a file is a list of at least one text."""
    is_list = isinstance(content, list) and len(content) > 0
    return is_list and all(isinstance(text, str) for text in content)


def _read(values: Any, file: Path) -> dict[str, list[list[str]]]:
    """Read the tables [values.NAME]: the texts of both poles by the value's name."""
    is_table = isinstance(values, dict)
    if not is_table or not all(isinstance(poles, dict) for poles in values.values()):
        raise BadInput(
            f"{file}: descriptions stand in tables [values.NAME] with the lists {', '.join(POLES)}."
        )
    persons = {}
    for value, poles in values.items():
        persons[value] = [poles.get(pole, []) for pole in POLES]
        for pole, texts in zip(POLES, persons[value], strict=True):
            if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
                raise BadInput(
                    f"{file}: {value} has no descriptions under `{pole}`. Give a list of sentences"
                    f" for each of {', '.join(POLES)}."
                )
    return persons


def _fold(
    persons: dict[str, list[list[str]]], system: ValueSystem
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Sort descriptions by the values of `system`.

    Those of a finer value count for the value that contains it.
    """
    folded: dict[tuple[str, str], tuple[str, ...]] = {}
    for value, poles in persons.items():
        for pole, texts in zip(POLES, poles, strict=True):
            key = (system.resolve(value), pole)
            folded[key] = folded.get(key, ()) + tuple(texts)
    return folded
