"""Wanted profiles and everyday questions, from a user's files or the few that ship.

1. Scores are those of the rubric, 1 to 5 (`causal/couple_texts.py`): 5 the most important, 2
   absent, 1 contradicted.
2. A file of presets (a country, a cluster of people, anything) is TOML, one table a preset with
   `value = score` lines, or CSV with the columns name, value, target.
3. A file of questions is TOML, `[[question]]` with `id` and `text` and, optionally, `answer` (an
   answer to start from) and `values` (those that the question bears on); or plain text, one
   question a line.

The shipped presets are illustrations in nobody's name; the shipped questions are our own words.
"""

import csv
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_store.errors import BadInput, NotFound, nearest
from feature_store.records import ValueSystem
from workbench.causal.counterfactual import HIGHEST, LOWEST, MOST

PRESETS, QUESTIONS = (Path(__file__).with_name(name) for name in ("presets.toml", "questions.toml"))


@dataclass(frozen=True)
class Question:
    id: str
    """Unique within its file."""
    text: str
    """What is asked."""
    answer: str = ""
    """Answer to start from; empty: the model gives it."""
    values: tuple[str, ...] = ()
    """Ids of the values that it bears on, at most five; empty: those of the target, chosen by
    the model where they are more."""


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
    """The preset `name` of a file (the shipped one where empty) as value -> score."""
    path = Path(file) if file else PRESETS
    if path.suffix == ".csv":
        rows = _csv(path)
        names = list(dict.fromkeys(row["name"] for row in rows))
        pairs = [(row["value"], row["target"]) for row in rows if row["name"] == name]
    else:
        tables = {key: table for key, table in _toml(path).items() if isinstance(table, dict)}
        names = list(tables)
        pairs = list(tables.get(name, {}).items())
    if name not in names:
        raise NotFound(f"{path.name} has no preset {name!r}.{nearest(name, names)}")
    return _checked(pairs, f"{path.name}, {name}", system)


def questions(file: str, system: ValueSystem) -> list[Question]:
    """The questions of a file, the shipped ones where empty."""
    path = Path(file) if file else QUESTIONS
    if path.suffix == ".toml":
        rows = _toml(path).get("question", [])
        try:
            found = [
                Question(
                    id=str(r["id"]),
                    text=str(r["text"]),
                    answer=str(r.get("answer", "")),
                    values=tuple(system.resolve(v) for v in r.get("values", ())),
                )
                for r in rows
            ]
        except (KeyError, TypeError, AttributeError):
            raise BadInput(f"{path.name}: every [[question]] has an id and a text.") from None
    else:
        lines = [line.strip() for line in _text(path).splitlines()]
        found = [
            Question(id=f"{number}", text=line)
            for number, line in enumerate(filter(None, lines), 1)
        ]
    ids = [question.id for question in found]
    if (
        not found
        or len(set(ids)) < len(ids)
        or not all(question.text.strip() for question in found)
    ):
        raise BadInput(
            f"{path.name} should hold questions with a text and an id of their own each, got"
            f" {len(found)}."
        )
    many = [question.id for question in found if len(question.values) > MOST]
    if many:
        raise BadInput(
            f"{path.name}: question {many[0]} names more than {MOST} values. Keep those that"
            " matter."
        )
    return found


def _checked(
    pairs: Sequence[tuple[str, object]], where: str, system: ValueSystem
) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, score in pairs:
        value = system.resolve(name)
        try:
            number = float(score)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = float("nan")
        if not LOWEST <= number <= HIGHEST:
            raise BadInput(
                f"{where}: {name} should be a score from {LOWEST:g} to {HIGHEST:g}, written"
                f" value=score, got {score!r}."
            )
        if value in found:
            raise BadInput(f"{where} gives {value} twice. Keep one.")
        found[value] = number
    if not found:
        raise BadInput(f"{where} sets no value. Give at least one score, as benevolence=5.")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as text: {error}.") from None


def _toml(path: Path) -> dict:
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}.") from None


def _csv(path: Path) -> list[Mapping[str, str]]:
    rows = list(csv.DictReader(_text(path).splitlines()))
    if not rows or not {"name", "value", "target"} <= set(rows[0]):
        raise BadInput(
            f"{path.name} should have the columns name, value, target and at least one row."
        )
    return rows
