"""What COUPLE asks a language model, and how its replies are read.

1. Every prompt is complete: question, what is known so far, one task, the form of the reply.
2. A reader takes a reply to what it says, or to None where it does not say it; `text_scm.py` tells
   refusals from the rest. A concept is 5 to 15 words, as in the paper; longer and shorter ones are
   not counted.
3. `RUBRIC` is the paper's scale of how far an answer holds a value.

The wording is ours; the paper's prompts are not copied.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from feature_store.errors import NotFound
from feature_store.records import ValueSystem, normalise
from workbench.causal.counterfactual import MOST, Objective
from workbench.llm.reading import read_number

RUBRIC = {
    5: "the most important thing",
    4: "present, though not central",
    3: "mentioned, not important",
    2: "absent",
    1: "contradicted",
}
WORDS = 5, 15
"""Fewest and most words of a concept."""
BULLET = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s*")
"""Mark or number that a line of a list begins with."""
LINES = 1000
"""Lines of a reply that are read; what stands behind them belongs to no list that was asked for."""
NOTHING = "nothing"
"""The residual of an answer that its concepts exhaust."""
Concept = tuple[str, str]
"""(idea, id of the value that it stems from); the id is empty for an idea that stems from none."""


class PastReasoning(NamedTuple):
    """How an observed answer came about: the values seen in it and the concepts it rests on."""

    scores: Mapping[str, float]
    """Value id -> its score in the answer [1 to 5]."""
    concepts: Sequence[Concept]
    """The ideas from which the answer follows; none where it was not taken apart."""


def raw(question: str) -> str:
    """Ask the question as anybody would."""
    return f"{question}\n\nAnswer in a few sentences: what should be done, and why."


def value_prompt(question: str, objective: Objective, system: ValueSystem) -> str:
    """Ask the question with the target stated: counterfactual reasoning is compared with this."""
    return (
        f"{question}\n\nAnswer in a few sentences, what should be done and why, so that these"
        f" values weigh in the answer as follows.\n{_weights(objective, system)}"
    )


def relevance(question: str, values: Sequence[str], system: ValueSystem) -> str:
    """Ask which values the question bears on."""
    return (
        f"Question: {question}\n\nWhich of these values does it bear on most? Name at most {MOST},"
        f" the most important first, one a line and nothing else.\n{_defined(values, system)}"
    )


def scores(question: str, answer: str, values: Sequence[str], system: ValueSystem) -> str:
    """Ask how far the answer holds each value, all of them rated together."""
    scale = "\n".join(f"{number}: {meaning}" for number, meaning in RUBRIC.items())
    return (
        f"Question: {question}\nAnswer: {answer}\n\nHow important is each of these values in the"
        " answer? Rate all of them together by this"
        f" scale:\n{scale}\n\nValues:\n{_defined(values, system)}\n\nReply with one line a value:"
        " its name, a colon, its number."
    )


def concepts(question: str, answer: str, system: ValueSystem) -> str:
    """Ask for the ideas from which the answer follows, each with its value."""
    names = ", ".join(value.name for value in system.values)
    return (
        f"Question: {question}\nAnswer: {answer}\n\nName the ideas that the answer rests on. Each"
        f" has {WORDS[0]} to {WORDS[1]} words and is enough by itself to lead to a part of the"
        f" answer. One a line: the idea, a bar, and the value that it stems from ({names}, or"
        " none).\nidea | value"
    )


def residual(question: str, answer: str, ideas: Sequence[Concept]) -> str:
    """Ask what of the answer the ideas leave over."""
    return (
        f"Question: {question}\nAnswer: {answer}\n\nThese ideas are accounted"
        f" for:\n{_bullets(ideas)}\n\nWrite down what is left of the answer without them: its tone,"
        f" facts, examples, turns of phrase. If nothing is left, write: {NOTHING}"
    )


def concept(
    question: str,
    value: str,
    score: int,
    past: PastReasoning,
    interplay: Sequence[str],
    system: ValueSystem,
) -> str:
    """Ask for the idea behind one value (its id) at its new score [1 to 5].

    `past` is how the values led to ideas before, the proxy of eps1; `interplay` says, a sentence
    each, what other values do to this idea.
    """
    before = ""
    if past.concepts:
        weights = ", ".join(f"{system[v].name} {s:g}" for v, s in past.scores.items())
        before = (
            f"\n\nSomebody whose values weigh {weights} answered from these"
            f" ideas:\n{_bullets(past.concepts, system)}\nAll else about them stays as it is."
        )
    other_values = "".join(f"\n{line}" for line in interplay)
    return (
        f"Question: {question}{before}\n\nNow suppose that one value weighs {score} of 5"
        f" ({RUBRIC[score]}): {system[value].name}. {system[value].definition}{other_values}\n\n"
        f"Write the one idea, {WORDS[0]} to {WORDS[1]} words, from which an answer to the question"
        " would follow for this value. Only the idea."
    )


def outline(question: str, ideas: Sequence[str], ordered: bool, original: str) -> str:
    """Ask for stance and key points, from ideas and the original answer.

    `ordered` says that the ideas stand in order of importance; `original` is empty where the answer
    is made anew.
    """
    marks = [f"{number}." if ordered else "-" for number in range(1, len(ideas) + 1)]
    listed = "\n".join(f"{mark} {idea}" for mark, idea in zip(marks, ideas, strict=True))
    before = f"\nAn earlier answer: {original}" if original else ""
    order = ", the most important first" if ordered else ""
    change = " Change the earlier answer only where the ideas ask for it." if original else ""
    return (
        f"Question: {question}{before}\n\nThe new answer rests on this{order}:\n{listed}\n\nGive"
        f" its stance in one sentence and then its key points.{change}\nStance: ...\n- ..."
    )


def response(question: str, plan: str, residual_text: str) -> str:
    """Ask for the answer from its stance and key points, with what the ideas never explained."""
    rest = f"\n\nKeep this of the earlier answer: {residual_text}" if residual_text else ""
    return (
        f"Question: {question}\n\nWrite an answer of a few sentences with this"
        f" plan:\n{plan}{rest}\n\nOnly the answer."
    )


def idea_line(objective: Objective, value: str, system: ValueSystem) -> str:
    """Write a target in the place of an idea, as is done where concepts are switched off."""
    score = rounded(dict(objective.targets)[value])
    return f"{system[value].name} weighs {score} of 5 ({RUBRIC[score]}): {system[value].definition}"


def rounded(score: float) -> int:
    """Give the step of the rubric nearest to a score, halves upwards."""
    return int(score + 0.5)


def read_text(text: str) -> str | None:
    """Read any text; None for an empty one."""
    return text.strip() or None


def read_residual(text: str) -> str | None:
    """Read what is left of an answer: empty where nothing is; None for no reply."""
    rest = text.strip()
    if not rest:
        return None
    return "" if normalise(rest) == NOTHING else rest


def read_idea(text: str) -> str | None:
    """Read one concept of the right length, from the first line that is one; None without any."""
    lines = (_idea(line.partition("|")[0]) for line in text.splitlines()[:LINES])
    return next((idea for idea in lines if idea), None)


def read_concepts(system: ValueSystem) -> Callable[[str], list[Concept] | None]:
    """Make a reader of `idea | value` lines; it gives None where no idea has the right length."""

    def read(text: str) -> list[Concept] | None:
        """Read the concepts of a reply."""
        ideas = []
        for line in text.splitlines()[:LINES]:
            before, _, after = line.partition("|")
            if idea := _idea(before):
                ideas.append((idea, _value_id(after, system)))
        return ideas or None

    return read


def read_values(
    values: Sequence[str], system: ValueSystem
) -> Callable[[str], tuple[str, ...] | None]:
    """Make a reader of value names, one a line.

    It gives the first five that are among `values` (ids), and None without any.
    """

    def read(text: str) -> tuple[str, ...] | None:
        """Read the values of a reply."""
        named = [_value_id(line.partition(":")[0], system) for line in text.splitlines()[:LINES]]
        relevant = [value for value in dict.fromkeys(named) if value in values]
        return tuple(relevant[:MOST]) or None

    return read


def read_scores(system: ValueSystem) -> Callable[[str], dict[str, float] | None]:
    """Make a reader of `value: number` lines.

    It leaves out a value that is given twice with different numbers, and gives None where no value
    is left.
    """

    def read(text: str) -> dict[str, float] | None:
        """Read the scores of a reply, value id -> score [1 to 5]."""
        numbers_of: dict[str, set[float]] = {}
        for line in text.splitlines()[:LINES]:
            name, _, number = line.replace("*", "").partition(":")
            value = _value_id(name, system)
            score = read_number(number, 1, 5) if value else None
            if score is not None:
                numbers_of.setdefault(value, set()).add(float(score))
        scores = {
            value: numbers.pop() for value, numbers in numbers_of.items() if len(numbers) == 1
        }
        return scores or None

    return read


def _value_id(name: str, system: ValueSystem) -> str:
    """Give the id of a value that a line names; empty where it names none."""
    try:
        return system.resolve(BULLET.sub("", name))
    except NotFound:
        return ""


def _idea(line: str) -> str:
    """Give the idea of a line; empty where it is too short or too long for one."""
    plain = BULLET.sub("", line).strip().strip('"')
    return plain if WORDS[0] <= len(plain.split()) <= WORDS[1] else ""


def _bullets(ideas: Sequence[Concept], system: ValueSystem | None = None) -> str:
    """List ideas, a line each; with a system each names its value."""
    lines = []
    for idea, value in ideas:
        source = f" | {system[value].name}" if system and value else ""
        lines.append(f"- {idea}{source}")
    return "\n".join(lines)


def _defined(values: Sequence[str], system: ValueSystem) -> str:
    return "\n".join(f"- {system[value].name}: {system[value].definition}" for value in values)


def _weights(objective: Objective, system: ValueSystem) -> str:
    return "\n".join(f"- {idea_line(objective, value, system)}" for value in objective.values)
