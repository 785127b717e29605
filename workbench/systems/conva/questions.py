"""The questions on which control is judged: dilemmas of a value, and a multiple-choice benchmark.

1. A dilemma is a question to which yes is the value's side ("Should X ...?"). A few a value ship
   with the project (`questions.toml`), any others come from a table.
2. A benchmark item has a question, lettered options and a right one. Those that ship show that the
   way through works; for a claim about knowledge give a real benchmark as a file.
"""

import tomllib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from feature_store.errors import BadInput, NotFound
from feature_store.files import shown
from feature_store.records import ValueSystem
from feature_store.tables import read_table

BUILT_IN = Path(__file__).with_name("questions.toml")
LETTERS = "ABCDEFGHIJ"


class BenchmarkItem(NamedTuple):
    """A multiple-choice question with one right option."""

    question: str
    """What is asked."""
    options: tuple[str, ...]
    """2 to 10 answers, in the order of their letters."""
    answer: int
    """0-based index of the right option."""

    def __repr__(self) -> str:
        """Write the item as ids of runs have always digested it: under an earlier name."""
        return (
            f"Choice(question={self.question!r}, options={self.options!r}, answer={self.answer!r})"
        )


def read_dilemmas(source: str, value: str, system: ValueSystem) -> list[str]:
    """Read the dilemmas of a value (its id) from a table, or from this project.

    An empty `source` means this project's. Raises NotFound where there is none of the value.
    """
    rows = _dilemmas_of_table(source, value, system) if source else _built_in_dilemmas()
    dilemmas = [question for name, question in rows if name == value]
    if not dilemmas:
        raise NotFound(
            f"{source or 'The built-in list'} has no dilemma of {value}; it has"
            f" {', '.join(sorted({name for name, _ in rows}))}."
        )
    return dilemmas


def read_choices(source: str) -> list[BenchmarkItem]:
    """Read a multiple-choice benchmark from a table, or that of this project (empty `source`).

    Options are a list, or texts joined by `|`. Raises BadInput for an item that has no right
    option, or fewer than 2 or more than 10 options.
    """
    rows = _choices_of_table(source) if source else _built_in()["choices"]
    items = []
    for number, row in enumerate(rows, 1):
        options = _options(row["options"])
        answer = str(row["answer"]).strip()
        right = int(answer) if answer.isdecimal() and len(answer) < 3 else len(options)
        if right >= len(options) or not 2 <= len(options) <= len(LETTERS):
            raise BadInput(
                f"{source or BUILT_IN.name}, item {number}: 2 to {len(LETTERS)} options and the"
                f" 0-based index of the right one are needed, got {len(options)} and"
                f" {shown(row['answer'])}."
            )
        texts = tuple(str(option).strip() for option in options)
        items.append(BenchmarkItem(question=str(row["question"]), options=texts, answer=right))
    if not items:
        raise BadInput(f"{source} holds no question. Give one a row.")
    return items


def choice_prompt(item: BenchmarkItem) -> str:
    """Write the question with lettered options, to be answered by a letter."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=False)]
    return "\n".join([item.question, *lines, "Answer:"])


def _built_in() -> dict[str, Any]:
    return tomllib.loads(BUILT_IN.read_text("utf-8"))


def _built_in_dilemmas() -> list[tuple[str, str]]:
    """List (value id, question) of every dilemma that ships with this project."""
    by_value = _built_in()["dilemmas"]
    return [(value, question) for value, questions in by_value.items() for question in questions]


def _dilemmas_of_table(source: str, value: str, system: ValueSystem) -> list[tuple[str, str]]:
    """List (value id, question) of every dilemma of a table; without a column `value` all are of
    the value that is asked for.
    """
    table = read_table(source, ["question", "text"]).whole()
    column = next((name for name in ("question", "text") if name in table), "")
    if not column or ("value" not in table and len(table.columns) > 1):
        raise BadInput(
            f"{source} lacks {'value' if column else 'question'}; a table of dilemmas has value and"
            " question, or a question a row in its only column."
        )
    questions = [question.strip().strip('"') for question in table.texts(column)]
    names = table.texts("value") if "value" in table else [value] * len(table)
    rows = [(name, text) for name, text in zip(names, questions, strict=True) if name and text]
    if lost := len(table) - len(rows):
        warnings.warn(f"{lost} of {len(table)} rows of {source} have no dilemma.", stacklevel=2)
    return [(system.resolve(name), text) for name, text in rows]


def _choices_of_table(source: str) -> list[dict[str, Any]]:
    """List the rows of a benchmark's table."""
    columns = ["question", "options", "answer"]
    table = read_table(source, columns).whole()
    if missing := [column for column in columns if column not in table]:
        raise BadInput(
            f"{source} lacks {', '.join(missing)}; a benchmark has question, options and answer."
        )
    cells = zip(*(table.cells(column) for column in columns), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in cells]


def _options(cell: Any) -> list[Any]:
    """Split the options of an item; none where the cell holds neither a text nor a list."""
    if isinstance(cell, str):
        return cell.split("|")
    return list(cell) if isinstance(cell, Iterable) else []
