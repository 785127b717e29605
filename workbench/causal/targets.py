"""Wanted profiles and everyday questions, from a user's files or the few that ship.

1. Scores are those of the rubric, 1 to 5 (`systems/couple/texts.py`): 5 the most important, 2
   absent, 1 contradicted.
2. A file of presets (a country, a cluster of people, anything) is TOML, one table a preset with
   `value = score` lines, or CSV with the columns name, value, target.
3. A file of questions is TOML, `[[question]]` with `id` and `text` and, optionally, `answer` (an
   answer to start from) and `values` (those that the question bears on); or plain text, one
   question a line.

The shipped presets are illustrations in nobody's name; the shipped questions are our own words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_store.errors import BadInput, NotFound, nearest
from feature_store.files import read_text, read_toml, shown
from feature_store.records import ValueSystem
from feature_store.tables import SUFFIXES, read_table
from workbench.causal.counterfactual import HIGHEST, LOWEST, MOST

PRESETS = Path(__file__).with_name("presets.toml")
"""The presets that ship."""
QUESTIONS = Path(__file__).with_name("questions.toml")
"""The questions that ship."""


@dataclass(frozen=True, repr=False)
class EverydayQuestion:
    """A question of everyday life that a model answers in its words."""

    id: str
    """Unique within its file."""
    text: str
    """What is asked."""
    answer: str = ""
    """Answer to start from; empty: the model gives it."""
    values: tuple[str, ...] = ()
    """Ids of the values that it bears on, at most five; empty: those of the target, chosen by
    the model where they are more."""

    def __repr__(self) -> str:
        """Write the question as it stands in the ids of finished runs, which digest this text."""
        return (
            f"Question(id={self.id!r}, text={self.text!r}, answer={self.answer!r},"
            f" values={self.values!r})"
        )


def target_scores(
    pairs: Sequence[str], file: str, name: str, system: ValueSystem
) -> dict[str, float]:
    """Give the target that settings mean, as value -> score [1 to 5].

    `pairs` (`power=1`) win; without any it is the preset `name` of `file`.
    """
    return parse_scores(pairs, system) if pairs else preset(file, name, system)


def parse_scores(pairs: Sequence[str], system: ValueSystem) -> dict[str, float]:
    """Read `["power=1", "benevolence=5"]` as value -> score [1 to 5]."""
    split = [pair.partition("=") for pair in pairs]
    return _checked([(name.strip(), score.strip()) for name, _, score in split], "--target", system)


def preset(file: str, name: str, system: ValueSystem) -> dict[str, float]:
    """Read the preset `name` of a file as value -> score [1 to 5]; the shipped file where empty."""
    path = Path(file) if file else PRESETS
    if path.suffix.lower() in SUFFIXES:
        rows = _csv(path)
        names = list(dict.fromkeys(row["name"] for row in rows))
        pairs = [(row["value"], row["target"]) for row in rows if row["name"] == name]
    else:
        tables = {key: table for key, table in read_toml(path).items() if isinstance(table, dict)}
        names = list(tables)
        pairs = list(tables.get(name, {}).items())
    if name not in names:
        raise NotFound(f"{path.name} has no preset {name!r}.{nearest(name, names)}")
    return _checked(pairs, f"{path.name}, {name}", system)


def questions(file: str, system: ValueSystem) -> list[EverydayQuestion]:
    """Read the questions of a file, the shipped ones where empty.

    Raises NotFound without the file, BadInput for questions that cannot be told apart.
    """
    path = Path(file) if file else QUESTIONS
    if path.suffix.lower() == ".toml":
        questions = _toml_questions(path, system)
    else:
        lines = [line.strip() for line in read_text(path).split("\n")]
        questions = [
            EverydayQuestion(id=f"{number}", text=line)
            for number, line in enumerate(filter(None, lines), 1)
        ]
    ids = {question.id for question in questions}
    without_text = [question for question in questions if not question.text.strip()]
    if not questions or without_text or len(ids) < len(questions):
        raise BadInput(
            f"{path.name} should hold questions with a text and an id of their own each, got"
            f" {len(questions)}."
        )
    many = [question.id for question in questions if len(question.values) > MOST]
    if many:
        raise BadInput(
            f"{path.name}: question {many[0]} names more than {MOST} values. Keep those that"
            " matter."
        )
    return questions


def _toml_questions(path: Path, system: ValueSystem) -> list[EverydayQuestion]:
    """The tables `[[question]]` of a file. Raises BadInput where one lacks its id or text."""
    try:
        return [
            EverydayQuestion(
                id=_words(row["id"]),
                text=_words(row["text"]),
                answer=_words(row.get("answer", "")),
                values=tuple(system.resolve(value) for value in row.get("values", ())),
            )
            for row in read_toml(path).get("question", [])
        ]
    except (KeyError, TypeError, AttributeError):
        raise BadInput(f"{path.name}: every [[question]] has an id and a text.") from None


def _words(cell: Any) -> str:
    """A text of a file, or a number as text. Raises TypeError for anything else."""
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        raise TypeError(f"expected a text, got {shown(cell)}")
    return str(cell)


def _checked(pairs: Sequence[tuple[str, Any]], where: str, system: ValueSystem) -> dict[str, float]:
    """Value -> score. Raises BadInput, naming `where`, for what is not a score of the rubric."""
    scores: dict[str, float] = {}
    for name, score in pairs:
        value = system.resolve(name)
        try:
            number = float(score)
        except (TypeError, ValueError):
            number = float("nan")
        if not LOWEST <= number <= HIGHEST:
            raise BadInput(
                f"{where}: {name} should be a score from {LOWEST:g} to {HIGHEST:g}, written"
                f" value=score, got {shown(score)}."
            )
        if value in scores:
            raise BadInput(f"{where} gives {value} twice. Keep one.")
        scores[value] = number
    if not scores:
        raise BadInput(f"{where} sets no value. Give at least one score, as benevolence=5.")
    return scores


def _csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table of presets."""
    columns = ("name", "value", "target")
    table = read_table(path, columns).whole()
    if not len(table) or not all(column in table for column in columns):
        raise BadInput(
            f"{path.name} should have the columns name, value, target and at least one row."
        )
    cells = zip(*(table.texts(column) for column in columns), strict=True)
    return [dict(zip(columns, map(str.strip, row), strict=True)) for row in cells]
