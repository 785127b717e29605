"""What COUPLE asks a language model, and how its replies are read.

1. Every prompt is complete: question, what is known so far, one task, the form of the reply.
2. A reader takes a reply to what it says, or to None where it does not say it; `couple.py` tells
   refusals from the rest. A concept is 5 to 15 words, as in the paper; longer and shorter ones are
   not counted.
3. `RUBRIC` is the paper's scale of how far an answer holds a value.

The wording is ours; the paper's prompts are not copied.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from feature_store.errors import NotFound
from feature_store.records import ValueSystem, normalise
from workbench.causal.counterfactual import MOST, Objective

RUBRIC = {
    5: "the most important thing",
    4: "present, though not central",
    3: "mentioned, not important",
    2: "absent",
    1: "contradicted",
}
WORDS = 5, 15
"""Fewest and most words of a concept."""
NOTHING = "nothing"
"""The residual of an answer that its concepts exhaust."""
Concept = tuple[str, str]
"""(idea, id of the value that it stems from); the id is empty for an idea that stems from none."""


def raw(question: str) -> str:
    """The question as anybody would ask it."""
    return f"{question}\n\nAnswer in a few sentences: what should be done, and why."


def value_prompt(question: str, objective: Objective, system: ValueSystem) -> str:
    """The question with the target stated: what counterfactual reasoning is compared with."""
    return (
        f"{question}\n\nAnswer in a few sentences, what should be done and why, so that these"
        f" values weigh in the answer as follows.\n{_weights(objective, system)}"
    )


def relevance(question: str, values: Sequence[str], system: ValueSystem) -> str:
    """Which values does the question bear on?"""
    return (
        f"Question: {question}\n\nWhich of these values does it bear on most? Name at most {MOST},"
        f" the most important first, one a line and nothing else.\n{_defined(values, system)}"
    )


def scores(question: str, answer: str, values: Sequence[str], system: ValueSystem) -> str:
    """How far does the answer hold each value, all rated together?"""
    scale = "\n".join(f"{number}: {meaning}" for number, meaning in RUBRIC.items())
    return (
        f"Question: {question}\nAnswer: {answer}\n\nHow important is each of these values in the"
        " answer? Rate all of them together by this"
        f" scale:\n{scale}\n\nValues:\n{_defined(values, system)}\n\nReply with one line a value:"
        " its name, a colon, its number."
    )


def concepts(question: str, answer: str, system: ValueSystem) -> str:
    """The ideas from which the answer follows, each with its value."""
    names = ", ".join(value.name for value in system.values)
    return (
        f"Question: {question}\nAnswer: {answer}\n\nName the ideas that the answer rests on. Each"
        f" has {WORDS[0]} to {WORDS[1]} words and is enough by itself to lead to a part of the"
        f" answer. One a line: the idea, a bar, and the value that it stems from ({names}, or"
        " none).\nidea | value"
    )


def residual(question: str, answer: str, ideas: Sequence[Concept]) -> str:
    """What of the answer the ideas leave over."""
    return (
        f"Question: {question}\nAnswer: {answer}\n\nThese ideas are accounted"
        f" for:\n{_bullets(ideas)}\n\nWrite down what is left of the answer without them: its tone,"
        f" facts, examples, turns of phrase. If nothing is left, write: {NOTHING}"
    )


def concept(
    question: str,
    value: str,
    score: int,
    seen: Mapping[str, float],
    ideas: Sequence[Concept],
    interplay: Sequence[str],
    system: ValueSystem,
) -> str:
    """The idea behind one value at its new score; `seen` and `ideas` are how the values led to
    ideas before (the proxy of eps1).
    """
    before = ""
    if ideas:
        held = ", ".join(f"{system[v].name} {s:g}" for v, s in seen.items())
        before = (
            f"\n\nSomebody whose values weigh {held} answered from these"
            f" ideas:\n{_bullets(ideas, system)}\nAll else about them stays as it is."
        )
    told = "".join(f"\n{line}" for line in interplay)
    return (
        f"Question: {question}{before}\n\nNow suppose that one value weighs {score} of 5"
        f" ({RUBRIC[score]}): {system[value].name}. {system[value].definition}{told}\n\nWrite the"
        f" one idea, {WORDS[0]} to {WORDS[1]} words, from which an answer to the question would"
        " follow for this value. Only the idea."
    )


def outline(question: str, ideas: Sequence[str], ordered: bool, original: str) -> str:
    """Stance and key points from ideas and the original answer."""
    listed = "\n".join(
        f"{number}. {idea}" if ordered else f"- {idea}" for number, idea in enumerate(ideas, 1)
    )
    before = f"\nAn earlier answer: {original}" if original else ""
    order = ", the most important first" if ordered else ""
    change = " Change the earlier answer only where the ideas ask for it." if original else ""
    return (
        f"Question: {question}{before}\n\nThe new answer rests on this{order}:\n{listed}\n\nGive"
        f" its stance in one sentence and then its key points.{change}\nStance: ...\n- ..."
    )


def response(question: str, plan: str, residual_text: str) -> str:
    """The answer from its stance and key points, with what the ideas never explained."""
    kept = f"\n\nKeep this of the earlier answer: {residual_text}" if residual_text else ""
    return (
        f"Question: {question}\n\nWrite an answer of a few sentences with this"
        f" plan:\n{plan}{kept}\n\nOnly the answer."
    )


def idea_line(objective: Objective, value: str, system: ValueSystem) -> str:
    """A target in the place of an idea: used where concepts are switched off."""
    score = rounded(dict(objective.targets)[value])
    return f"{system[value].name} weighs {score} of 5 ({RUBRIC[score]}): {system[value].definition}"


def rounded(score: float) -> int:
    """The step of the rubric nearest to a score, halves upwards."""
    return int(score + 0.5)


def read_text(text: str) -> str | None:
    """Any text."""
    return text.strip() or None


def read_residual(text: str) -> str | None:
    """The residual, empty where nothing is left."""
    found = text.strip()
    return ("" if normalise(found) == NOTHING else found) if found else None


def read_idea(text: str) -> str | None:
    """One concept of the right length, from the first line that is one."""
    lines = (_idea(line.partition("|")[0]) for line in text.splitlines())
    return next((idea for idea in lines if idea), None)


def read_concepts(system: ValueSystem) -> Callable[[str], list[Concept] | None]:
    """A reader of `idea | value` lines; None where no idea has the right length."""

    def read(text: str) -> list[Concept] | None:
        found = []
        for line in text.splitlines():
            before, _, after = line.partition("|")
            if idea := _idea(before):
                found.append((idea, _known(after, system)))
        return found or None

    return read


def read_values(
    values: Sequence[str], system: ValueSystem
) -> Callable[[str], tuple[str, ...] | None]:
    """A reader of value names, one a line: the first five of `values`; None without any."""

    def read(text: str) -> tuple[str, ...] | None:
        named = [_known(line.partition(":")[0], system) for line in text.splitlines()]
        kept = [value for value in dict.fromkeys(named) if value in values]
        return tuple(kept[:MOST]) or None

    return read


def read_scores(system: ValueSystem) -> Callable[[str], dict[str, float] | None]:
    """A reader of `value: number` lines; a value given twice with different numbers is not
    counted; None without any.
    """

    def read(text: str) -> dict[str, float] | None:
        found: dict[str, set[float]] = {}
        for line in text.splitlines():
            name, _, number = line.replace("*", "").partition(":")
            digits = re.match(r"\s*([1-5])(?:\s*/\s*5)?(?![.,]?\d|\w)", number)
            if digits and (value := _known(name, system)):
                found.setdefault(value, set()).add(float(digits[1]))
        return {
            value: numbers.pop() for value, numbers in found.items() if len(numbers) == 1
        } or None

    return read


def _known(name: str, system: ValueSystem) -> str:
    try:
        return system.resolve(re.sub(r"^\s*(?:\d+[.)]|[-*•])\s*", "", name))
    except NotFound:
        return ""


def _idea(line: str) -> str:
    plain = re.sub(r"^\s*(?:\d+[.)]|[-*•])\s*", "", line).strip().strip('"')
    return plain if WORDS[0] <= len(plain.split()) <= WORDS[1] else ""


def _bullets(ideas: Sequence[Concept], system: ValueSystem | None = None) -> str:
    return "\n".join(
        f"- {idea}" + (f" | {system[value].name}" if system and value else "")
        for idea, value in ideas
    )


def _defined(values: Sequence[str], system: ValueSystem) -> str:
    return "\n".join(f"- {system[value].name}: {system[value].definition}" for value in values)


def _weights(objective: Objective, system: ValueSystem) -> str:
    return "\n".join(f"- {idea_line(objective, value, system)}" for value in objective.values)
