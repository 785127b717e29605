"""What an answer in words means: which of the possible answers, a refusal, or nothing that can be
counted.

1. Numbers: the first whole number of the answer, if it stands on the scale ("I would say 3
   because", not "10" nor "4.5").
2. Letters: the first that stands alone or opens the answer ("B", "(B)", "B. I tell her").
3. Phrases: the whole answer, an opening, or the only one it holds; the longest where one is part of
   another (`llm/reading.py`).

An instrument whose paper reads otherwise brings its own (`Questionnaire.read`).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from feature_store.records import Status
from workbench.llm.reading import is_refusal, read_choice
from workbench.measuring.questions import Question


class Reading(NamedTuple):
    """What an answer in words means."""

    chosen: int
    """0-based number of the answer; -1 unless parsed."""
    status: Status
    """`parsed`, `refused` or `unparsed`."""


def read(text: str, question: Question) -> Reading:
    """Tell which of the question's answers a text gives.

    A question without answers takes any text that is not empty and no refusal.

        read("I would say 3, because", question)  # Reading(chosen=2, status="parsed")
    """
    answers = question.answers
    if not answers:
        return Reading(-1, _status_of_free(text))
    if question.numbered:
        return _matched(re.search(r"(?<![\d.])\d+(?![\d.]*\d)", text), text, answers)
    if all(len(answer) == 1 for answer in answers):
        return _matched(re.search(rf"(?<!\w)[{''.join(answers)}](?![\w'’])", text), text, answers)
    choice, status = read_choice(text, answers)
    return Reading(answers.index(choice) if status == "parsed" else -1, status)


def _status_of_free(text: str) -> Status:
    """Give the status of a free answer."""
    if is_refusal(text):
        return "refused"
    return "parsed" if text.strip() else "unparsed"


def _matched(match: re.Match[str] | None, text: str, answers: Sequence[str]) -> Reading:
    """Read the answer that a pattern found; else a refusal, or nothing."""
    if match and match.group() in answers:
        return Reading(answers.index(match.group()), "parsed")
    return Reading(-1, "refused" if is_refusal(text) else "unparsed")
