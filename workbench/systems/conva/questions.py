"""The questions on which control is judged: dilemmas of a value, and a multiple-choice benchmark.

1. A dilemma is a question to which yes is the value's side ("Should X ...?"). A few a value ship
   with the project (`dilemmas.toml`), any others come from a table.
2. A benchmark item has a question, lettered options and a right one. Those that ship show that the
   way through works; for a claim about knowledge give a real benchmark as a file.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from feature_store.errors import BadInput, NotFound
from feature_store.records import ValueSystem
from workbench import material

BUILT_IN = Path(__file__).with_name("questions.toml")
LETTERS = "ABCDEFGHIJ"


class Choice(NamedTuple):
    question: str
    options: tuple[str, ...]
    answer: int
    """0-based index of the right option."""


def read_dilemmas(source: str, value: str, system: ValueSystem) -> list[str]:
    """The dilemmas of a value: a table's, or those of this project (empty source)."""
    if source:
        frame = material.table(Path(source))
        if missing := [column for column in ("value", "question") if column not in frame]:
            raise BadInput(
                f"{source} lacks {', '.join(missing)}; a table of dilemmas has value and question."
            )
        rows = [
            (system.resolve(str(row.value)), str(row.question))
            for row in frame.dropna(subset=["value", "question"]).itertuples()
        ]
    else:
        told = tomllib.loads(BUILT_IN.read_text("utf-8"))["dilemmas"]
        rows = [(name, question) for name, questions in told.items() for question in questions]
    found = [question for name, question in rows if name == value]
    if not found:
        raise NotFound(
            f"{source or 'The built-in list'} has no dilemma of {value}; it has"
            f" {', '.join(sorted({name for name, _ in rows}))}."
        )
    return found


def read_choices(source: str) -> list[Choice]:
    """A multiple-choice benchmark: a table's, or that of this project (empty source).

    Options are a list, or texts joined by `|`.
    """
    if source:
        frame = material.table(Path(source))
        if missing := [
            column for column in ("question", "options", "answer") if column not in frame
        ]:
            raise BadInput(
                f"{source} lacks {', '.join(missing)}; a benchmark has question, options and"
                " answer."
            )
        rows = frame[["question", "options", "answer"]].to_dict("records")
    else:
        rows = tomllib.loads(BUILT_IN.read_text("utf-8"))["choices"]
    found = []
    for number, row in enumerate(rows, 1):
        listed = row["options"]
        options = (
            listed.split("|")
            if isinstance(listed, str)
            else list(listed)
            if isinstance(listed, Iterable)
            else []
        )
        known = str(row["answer"]).isdigit() and int(row["answer"]) < len(options)
        if not known or not 2 <= len(options) <= len(LETTERS):
            raise BadInput(
                f"{source or BUILT_IN.name}, item {number}: 2 to {len(LETTERS)} options and the"
                f" 0-based index of the right one are needed, got {len(options)} and"
                f" {row['answer']!r}."
            )
        found.append(
            Choice(
                str(row["question"]),
                tuple(str(option).strip() for option in options),
                int(row["answer"]),
            )
        )
    if not found:
        raise BadInput(f"{source} holds no question. Give one a row.")
    return found


def choice_prompt(choice: Choice) -> str:
    """The question with lettered options, to be answered by a letter."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, choice.options, strict=False)]
    return "\n".join([choice.question, *lines, "Answer:"])
