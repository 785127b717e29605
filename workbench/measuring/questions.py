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
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from feature_store.errors import NotFound, nearest
from feature_store.records import Instrument, Item
from workbench.llm import Message
from workbench.measuring.scale import LIKENESS

if TYPE_CHECKING:  # an instrument is read without torch
    from sae_training.engine.model import Model
    from sae_training.model.text_reader import Prompt

Order = Literal["ascending", "descending"]
"""Whether answers are offered as in the instrument, least agreement first, or turned round."""
ANSWERED = "What you answered before:"
"""Stands before earlier answers that are told without their questions."""


@dataclass(frozen=True)
class Question:
    """One prompt of an instrument: an item in one context, wording and order of its answers."""

    item: Item
    """What is asked."""
    context: int
    """0-based number of the context."""
    wording: str
    """Name of the wording."""
    order: Order
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
    voiced: bool = False
    """Whether the answers are the item as the model's own words, and its reversal (`voice`)."""

    @property
    def numbered(self) -> bool:
        """Whether the answers are numbers.

        Numbers stand for the other end of the scale when the scale is turned round.
        """
        return all(answer.isdigit() for answer in self.answers)

    @property
    def identity(self) -> object:
        """What decides its scores, for a checksum; on a shared scale the prompt alone."""
        return (self.prompt, self.answers) if self.voiced else self.prompt

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
    """Write every prompt, in the order repeat, context, wording, order, item.

    `repeats` are seeds, one a repeat. Raises NotFound for an unknown wording.

        questions(instrument, ["At work.", "At home."], ["ends"])  # 2 contexts x 2 orders x items
    """
    templates = dict(instrument.wordings + instrument.later_wordings)
    for name in wordings:
        if name not in templates:
            raise NotFound(f"{instrument.id} has no wording {name!r}.{nearest(name, templates)}")
    forms = [
        Form(
            context=number,
            context_text=context,
            wording=wording,
            template=templates[wording],
            order=order,
            seed=seed,
            persona=persona,
        )
        for seed in repeats
        for number, context in enumerate(contexts)
        for wording in wordings
        for order in orders(templates[wording])
    ]
    return [_question(instrument, item, form) for form in forms for item in instrument.items]


def orders(template: str) -> tuple[Order, ...]:
    """Give the orders of the answers in which a wording can be asked.

    Only a template that shows its scale or its answers can be turned round.
    """
    if "{low}" in template or "{options}" in template:
        return "ascending", "descending"
    return ("ascending",)


@dataclass(frozen=True, kw_only=True)
class Form:
    """How an item is asked: everything about a question but its item."""

    context: int
    """0-based number of the context."""
    context_text: str
    """What stands before the item; empty: nothing."""
    wording: str
    """Name of the wording."""
    template: str
    """The wording's text, with places for the item, its scale and its answers."""
    order: Order
    """`ascending` or `descending`."""
    seed: int
    """Seed of the sampling."""
    persona: str
    """What the model is told it is; empty: nothing."""


def _question(instrument: Instrument, item: Item, form: Form) -> Question:
    """Write the question that asks an item in a form."""
    low, high = LIKENESS if form.order == "ascending" else LIKENESS[::-1]
    answers, shown = _answers(instrument, item, form.order, "{options}" in form.template)
    fields = {"item": item.text, "low": low, "high": high, "options": shown}
    # Not str.format: a template may hold braces of its own.
    body = re.sub(r"\{(item|low|high|options)\}", lambda field: fields[field[1]], form.template)
    separator = "\n" if "\n" in form.template else " "
    return Question(
        item=item,
        context=form.context,
        wording=form.wording,
        order=form.order,
        prompt=f"{form.context_text}{separator}{body}" if form.context_text else body,
        answers=answers,
        seed=form.seed,
        persona=form.persona,
    )


def _answers(
    instrument: Instrument, item: Item, order: str, listed: bool
) -> tuple[tuple[str, ...], str]:
    """Give what may be answered, in the instrument's order, and how the prompt shows it.

    `listed`: the wording lists an item's answers, which are then answered by their letter.
    """
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
    """Give the question as a model receives it.

    That is one text, or messages where there is more than the question and the model is a chat.
    """
    persona = (Message("system", question.persona),) if question.persona else ()
    before = persona + question.history
    if not before:
        return question.prompt
    if not chat:
        return "\n".join([*(m.content for m in before), question.prompt])
    if question.history and question.history[0].role == "assistant":
        # Answers without their questions: many chat templates refuse roles that do not take turns,
        # so they are told in the question.
        answers = "\n".join([ANSWERED, *(m.content for m in question.history)])
        return _as_dicts((*persona, Message("user", f"{answers}\n\n{question.prompt}")))
    return _as_dicts((*before, Message("user", question.prompt)))


def _as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Write messages as chat templates take them."""
    return [{"role": m.role, "content": m.content} for m in messages]


def expected_ratings(
    logprobs: Float[np.ndarray, "*rows question option"], questions: Sequence[Question]
) -> Float[np.ndarray, "*rows question"]:
    """Give the mean agreement under the softmax over the options [1 to number of options].

    Scales that were turned round and reverse-keyed items are put right.
    """
    n = logprobs.shape[-1]
    rating = softmax(logprobs) @ np.arange(1, n + 1)
    return np.where(np.array([q.turned for q in questions]), n + 1 - rating, rating)


def softmax(logprobs: Float[np.ndarray, "*rows option"]) -> Float[np.ndarray, "*rows option"]:
    """Give the probability of each option among the options, from log-probabilities [nats]."""
    weights = np.exp(logprobs - logprobs.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def option_texts(instrument: Instrument, model: "Model") -> list[str]:
    """Give the scale's options as the model would continue with them."""
    return as_continued(instrument.options, model)


def as_continued(answers: Sequence[str], model: "Model") -> list[str]:
    """Give answers as the model would continue with them.

    After a chat template they stand bare, else after a space.
    """
    return [answer if model.chat else f" {answer}" for answer in answers]


def prompt_rows(questions: Sequence[Question]) -> list[Mapping[str, object]]:
    """Give the questions as rows of the relation `prompts`."""
    return [
        {
            "context": q.context,
            "item": q.item.id,
            "wording": q.wording,
            "order": q.order,
            "value": q.item.value,
            "prompt": q.prompt,
        }
        for q in questions
    ]
