"""Mode `voice`: how likely is a statement as the model's own words, and how likely its reversal?

A rating scale asks a model what it thinks of a statement, and a small model answers by the scale.
Here the statement itself is the answer, to an open question: "What matters to you in life?".

1. Each item is put into words twice: as it stands (held), and with the stance turned round
   (reversed; `reversal.py` writes those that no file gives).
2. Both are scored as the model's next turn, or continuation, after each open question
   (`voice.toml`) [log-probability per token, nats].
3. *Rating*: held less reversed. Topic, length and fluency are alike in both and cancel. Turned
   round for reverse-keyed items.
4. *Topic*: the mean of held and reversed: how likely talk about it is, whichever the stance. A
   persona or a steering that only brings the topic up moves this and not the rating.
5. Both are relative. What changes under a steering or a persona is the difference to the same model
   without; of a profile as it is, the same after a request that asks for no opinion (`REFERENCE`)
   is subtracted, so that what is likely as English does not count as held (domain-conditional PMI:
   Holtzman et al. 2021, "Surface Form Competition", EMNLP).

The open questions are the clusters of intervals: others might have been asked. Left out: several
sentences to one question, and statements in languages other than English.
"""

import dataclasses
import functools
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.errors import BadInput, NotFound, nearest
from feature_store.records import Instrument, Item, Response
from workbench.measuring.questions import Question
from workbench.measuring.reversal import reverse
from workbench.statistics.intervals import bootstrap_mean

REFERENCE = "reference"
"""Name of the request that asks for no opinion, as a wording and as a steering."""


@functools.cache
def _file() -> Mapping[str, Mapping[str, str]]:
    """Read the open questions and the reference, once a process."""
    return tomllib.loads(Path(__file__).with_name("voice.toml").read_text(encoding="utf-8"))


def open_questions(chat: bool) -> Mapping[str, str]:
    """Give the open questions by name: those asked of a chat, or begun for other models."""
    return _file()["chat" if chat else "continued"]


def digest(questions: Sequence[Question]) -> str:
    """Give the checksum of what is asked and of the statements after it [SHA-256]."""
    texts = [(q.item.id, q.prompt, q.answers, _file()["reference"]) for q in questions]
    return hashlib.sha256(repr(texts).encode()).hexdigest()


def reversal_rows(instrument: Instrument) -> list[dict[str, str]]:
    """Give the rows of `reversals`: each statement beside its reversal, and who wrote that."""
    whole = reversible(instrument).items
    return [
        {
            "item": item.id,
            "value": item.value,
            "text": item.text,
            "reversal": reversed_item.reversal,
            "source": "given" if item.reversal else "rule",
        }
        for item, reversed_item in zip(instrument.items, whole, strict=True)
    ]


def reversible(instrument: Instrument) -> Instrument:
    """Give the instrument with a reversal at every item: the file's, or one that is built.

    Raises BadInput where the items are no statements on a scale, or some can be reversed by no
    rule; it names them.
    """
    if instrument.answer != "rating":
        raise BadInput(
            f"Mode voice needs statements that a model could say; {instrument.id} asks for a"
            f" {instrument.answer}. Use --mode logprob or generate, or an instrument of statements"
            " such as standin."
        )
    items = [
        item if item.reversal else dataclasses.replace(item, reversal=reverse(item.text))
        for item in instrument.items
    ]
    if without := [item for item in items if not item.reversal]:
        first = without[0]
        raise BadInput(
            f"{len(without)} of {len(items)} items of {instrument.id} have no reversal, and no rule"
            f" writes one: {first.id} {first.text[:60]!r}, ... Give them in a column `reversal` of"
            " the items' file."
        )
    return dataclasses.replace(instrument, items=tuple(items))


def voice_questions(
    instrument: Instrument,
    chat: bool,
    names: Sequence[str] = (),
    contexts: Sequence[str] = ("",),
    persona: str = "",
) -> list[Question]:
    """Write a question for every item after every open question, in every context.

    `names` are open questions, none: all. Raises NotFound for an unknown one, BadInput for an item
    without a reversal.

        voice_questions(standin(), chat=True, names=("matters",))  # 40 questions of one prompt
    """
    known = open_questions(chat)
    for name in names:
        if name not in known:
            raise NotFound(f"Mode voice has no open question {name!r}.{nearest(name, known)}")
    items = reversible(instrument).items
    behind = [(name, context) for name in names or known for context in contexts]
    return [
        _question(item, number, name, _behind(context, known[name]), persona)
        for number, (name, context) in enumerate(behind)
        for item in items
    ]


def reference_questions(instrument: Instrument, chat: bool) -> list[Question]:
    """Write the questions after a request that asks for no opinion, one an item."""
    prompt = _file()["reference"]["chat" if chat else "continued"]
    return [_question(item, 0, REFERENCE, prompt, "") for item in reversible(instrument).items]


def _behind(context: str, question: str) -> str:
    return f"{context} {question}" if context else question


def _question(item: Item, context: int, wording: str, prompt: str, persona: str) -> Question:
    """Write the question whose answers are an item and its reversal, each as a sentence."""
    return Question(
        item=item,
        context=context,
        wording=wording,
        order="ascending",
        prompt=prompt,
        answers=(_sentence(item.text), _sentence(item.reversal)),
        persona=persona,
        voiced=True,
    )


def _sentence(text: str) -> str:
    """End a statement as a sentence."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def relative(responses: Sequence[Response], reference: Sequence[Response]) -> list[Response]:
    """Subtract each item's rating after the reference from its ratings [nats per token]."""
    neutral = {response.item: response.rating for response in reference}
    return [
        dataclasses.replace(response, rating=response.rating - neutral[response.item])
        for response in responses
    ]


def topic_rows(
    responses: Sequence[Response], reference: Sequence[Response], replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Give the rows of `topics`: how likely talk about each value is, beside what is held.

    Mean of held and reversed, less the same after the reference, by value; intervals over the open
    questions, or over items where one was asked.
    """
    neutral = {response.item: _topic(response) for response in reference}
    parsed = [response for response in responses if response.status == "parsed"]
    by_question = len({response.context for response in parsed}) > 1
    cells: dict[str, dict[Any, list[float]]] = {}
    for response in parsed:
        cluster = response.context if by_question else response.item
        of_value = cells.setdefault(response.value, {})
        of_value.setdefault(cluster, []).append(_topic(response) - neutral[response.item])
    rows = []
    for value, clusters in cells.items():
        means = np.array([np.mean(cell) for cell in clusters.values()])
        interval = bootstrap_mean(means[:, None], replicates, seed)
        rows.append(
            {
                "steering": responses[0].steering,
                "value": value,
                "mean": float(interval.mean[0]),
                "low": float(interval.low[0]),
                "high": float(interval.high[0]),
                "n": int(interval.n[0]),
            }
        )
    return rows


def _topic(response: Response) -> float:
    """Average held and reversed [nats per token]; NaN where they were not scored."""
    return float(np.mean(response.logprobs)) if response.logprobs else float("nan")
