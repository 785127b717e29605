"""What an answer in words means: which of the possible answers, a refusal, or nothing that can be
counted.

1. Numbers: the one point of the scale that the answer claims ("I would say 3 because", not "10",
   "4.5" nor "6 out of 10"). Where it names a point of likeness in words as well, both must agree.
2. Letters: the one that it claims ("B", "(B)", "B. I tell her"; not "I can't choose A"); where it
   repeats the text of another answer, it is not read. The text of an answer stands for its letter.
3. Phrases: the one that it claims, or one that is near (`scale.NEAR`: "not at all like me"). Where
   it gives a number as well, this must be the phrase's place.

How a claim is told from a mention stands in `llm/reading.py`. An instrument whose paper reads
otherwise brings its own (`Questionnaire.read`).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from feature_store.records import Status
from workbench.llm.reading import is_refusal, read_choice, read_number, spoken
from workbench.measuring.questions import Question
from workbench.measuring.scale import NEAR, PHRASES


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
    reading = _choice(text, answers)
    if question.numbered:
        return _unless(reading, _number_in_words(text, question))
    if not question.item.options:
        return _unless(reading, _place_in_numbers(text, question))
    texts = [option.text for option in question.item.options]
    if len(set(texts)) == len(answers) and set(texts) != set(answers):
        return _unless(reading, _choice(text, texts), instead=reading.chosen < 0)
    return reading


def _choice(text: str, answers: Sequence[str]) -> Reading:
    """Read the answer that a text claims."""
    choice, status = read_choice(text, answers, NEAR)
    return Reading(answers.index(choice) if status == "parsed" else -1, status)


def _unless(reading: Reading, other: Reading, instead: bool = False) -> Reading:
    """Give a reading, unless the same text read in another way gives a different answer.

    `instead`: the other one counts where it alone was read.
    """
    if other.chosen < 0 or other.chosen == reading.chosen:
        return reading
    return other if instead else Reading(-1, "unparsed")


def _place_in_numbers(text: str, question: Question) -> Reading:
    """Read the phrase whose place among those shown a text gives as a number."""
    number = read_number(text, 1, len(question.answers))
    if number is None:
        return Reading(-1, "unparsed")
    is_turned = question.order == "descending"
    return Reading(len(question.answers) - number if is_turned else number - 1, "parsed")


def _number_in_words(text: str, question: Question) -> Reading:
    """Read the point of likeness that a text names in words, as the number shown for it."""
    if len(question.answers) != len(PHRASES):
        return Reading(-1, "unparsed")
    reading = _choice(re.sub(r"\d+", " ", text), PHRASES)
    if reading.chosen < 0 or question.order == "ascending":
        return reading
    return Reading(len(PHRASES) - 1 - reading.chosen, reading.status)


def _status_of_free(text: str) -> Status:
    """Give the status of a free answer."""
    if is_refusal(text):
        return "refused"
    return "parsed" if spoken(text) else "unparsed"
