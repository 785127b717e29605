"""What is asked: every prompt of an instrument, and what may be answered.

1. `questions` goes through contexts, wordings, orders of the answers, items and repeats. A context
   is a short text before the item; contexts are the clusters over which intervals are bootstrapped.
2. Only a template that shows its scale (`{low}`, `{high}`) or its answers (`{options}`) can be
   turned round. Numbers keep their order and the ends change places; phrases and an item's own
   answers are listed the other way.
3. Own answers that are listed are answered by their letter, others in their own words.
4. A persona is told first: to a chat as its system message, to other models as the first line.
5. `prompt_of` is the question with what went before it, as messages for a chat and as one text for
   other models.

Left out: which model is asked (`respondents`), and what an answer means (`reading`).
"""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from feature_store.errors import NotFound, nearest
from feature_store.records import Instrument, Item
from workbench.llm import Message
from workbench.measuring.scale import LIKENESS

if TYPE_CHECKING:  # an instrument is read without torch
    from sae_training.engine.model import Model
    from sae_training.model.runtime import Prompt

ANSWERED = "What you answered before:"
"""Stands before earlier answers whose questions are not told."""


@dataclass(frozen=True)
class Question:
    item: Item
    """What is asked."""
    context: int
    """0-based number of the context."""
    wording: str
    """Name of the wording."""
    order: str
    """`ascending`: answers as in the instrument, least agreement first; `descending`: turned
    round."""
    prompt: str
    """The whole text, but for what went before it."""
    answers: tuple[str, ...] = ()
    """What may be answered, in the order of the instrument or of the item; empty for free texts."""
    seed: int = 0
    """Seed of the sampling, one a repeat."""
    persona: str = ""
    """What the model is told it is; empty: nothing."""
    history: tuple[Message, ...] = ()
    """Earlier questions and answers of the same conversation."""

    @property
    def numbered(self) -> bool:
        """Whether the answers are numbers, which stand for the other end of the scale when it is
        turned round.
        """
        return all(answer.isdigit() for answer in self.answers)

    @property
    def turned(self) -> bool:
        """Whether the largest number means the least of the value."""
        return (self.order == "descending" and self.numbered) != (self.item.key < 0)


def questions(
    instrument: Instrument,
    contexts: Sequence[str],
    wordings: Sequence[str],
    repeats: Sequence[int] = (0,),
    persona: str = "",
) -> list[Question]:
    """Every prompt, in the order repeat, context, wording, order, item; `repeats` are seeds.
    Raises NotFound for an unknown wording.
    """
    templates = dict(instrument.wordings)
    for name in wordings:
        if name not in templates:
            raise NotFound(f"{instrument.id} has no wording {name!r}.{nearest(name, templates)}")
    return [
        _question(
            instrument, item, number, context, wording, templates[wording], order, seed, persona
        )
        for seed in repeats
        for number, context in enumerate(contexts)
        for wording in wordings
        for order in orders(templates[wording])
        for item in instrument.items
    ]


def orders(template: str) -> tuple[str, ...]:
    """The orders in which a wording can be asked."""
    return (
        ("ascending", "descending")
        if "{low}" in template or "{options}" in template
        else ("ascending",)
    )


def _question(
    instrument: Instrument,
    item: Item,
    number: int,
    context: str,
    wording: str,
    template: str,
    order: str,
    seed: int,
    persona: str,
) -> Question:
    low, high = LIKENESS if order == "ascending" else LIKENESS[::-1]
    answers, shown = _answers(instrument, item, order, "{options}" in template)
    fields = {"item": item.text, "low": low, "high": high, "options": shown}
    # Not str.format: a template may hold braces of its own.
    body = re.sub(r"\{(item|low|high|options)\}", lambda field: fields[field[1]], template)
    separator = "\n" if "\n" in template else " "
    prompt = f"{context}{separator}{body}" if context else body
    return Question(
        item=item,
        context=number,
        wording=wording,
        order=order,
        prompt=prompt,
        answers=answers,
        seed=seed,
        persona=persona,
    )


def _answers(
    instrument: Instrument, item: Item, order: str, listed: bool
) -> tuple[tuple[str, ...], str]:
    """What may be answered, in the instrument's order, and how it is shown."""
    turn = slice(None, None, -1) if order == "descending" else slice(None)
    if instrument.answer == "text":
        return (), ""
    if not item.options:
        return instrument.options, ", ".join(instrument.options[turn])
    texts = [option.text for option in item.options]
    if not listed:
        return tuple(texts), ""
    letters = string.ascii_uppercase[: len(texts)]
    return tuple(letters[turn]), "\n".join(
        f"{letter}. {text}" for letter, text in zip(letters, texts[turn], strict=True)
    )


def prompt_of(question: Question, chat: bool) -> "Prompt":
    """The question as a model receives it: one text, or messages where there is more than the
    question and the model is a chat.
    """
    told = ((Message("system", question.persona),) if question.persona else ()) + question.history
    if not told:
        return question.prompt
    if chat and question.history and question.history[0].role == "assistant":
        # Answers without their questions: many chat templates refuse roles that do not take turns,
        # so they are told in the question.
        before = "\n".join([ANSWERED, *(m.content for m in question.history)])
        told = (
            *told[: len(told) - len(question.history)],
            Message("user", f"{before}\n\n{question.prompt}"),
        )
        return [{"role": m.role, "content": m.content} for m in told]
    if chat:
        return [
            {"role": m.role, "content": m.content}
            for m in (*told, Message("user", question.prompt))
        ]
    return "\n".join([*(m.content for m in told), question.prompt])


def expected_ratings(
    logprobs: Float[np.ndarray, "*rows question option"], asked: Sequence[Question]
) -> Float[np.ndarray, "*rows question"]:
    """Mean agreement under the softmax over the options; turned-round scales and reverse keys
    put right [1 to number of options].
    """
    n = logprobs.shape[-1]
    rating = softmax(logprobs) @ np.arange(1, n + 1)
    return np.where(np.array([q.turned for q in asked]), n + 1 - rating, rating)


def softmax(logprobs: Float[np.ndarray, "*rows option"]) -> Float[np.ndarray, "*rows option"]:
    """Probability of each option among the options."""
    weights = np.exp(logprobs - logprobs.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def option_texts(instrument: Instrument, model: "Model") -> list[str]:
    """The scale's options as the model would continue: after a chat template bare, else after a
    space.
    """
    return as_continued(instrument.options, model)


def as_continued(answers: Sequence[str], model: "Model") -> list[str]:
    """Answers as the model would continue with them."""
    return [answer if model.chat else f" {answer}" for answer in answers]


def prompt_rows(asked: Sequence[Question]) -> list[Mapping[str, object]]:
    """The prompts as rows of the relation `prompts`."""
    return [
        {
            "context": q.context,
            "item": q.item.id,
            "wording": q.wording,
            "order": q.order,
            "value": q.item.value,
            "prompt": q.prompt,
        }
        for q in asked
    ]
