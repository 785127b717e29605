"""Go through an instrument's questions with a respondent, and read every answer.

1. Items that follow others are asked after them, in the same conversation: same context, wording,
   order and seed. What they are told of the earlier ones is the instrument's `memory`.
2. `logprob`: the answer is the most likely one, the rating is the expectation under the softmax
   over the answers. `generate`: the respondent writes and its words are read; a refusal and what
   cannot be read stay as responses with that status. A question that offers no answers is answered
   in words whatever the mode.
3. A question too long for the model is not cut: it stays as a response of status `too-long`, and is
   counted.

Left out: what the answers add up to (`profiles`), and free texts' ratings, which a judge gives
(`Questionnaire.rate`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from feature_store.progress import Progress
from feature_store.records import Instrument, Memory, Response
from workbench.llm import Message
from workbench.measuring.questions import Question, softmax
from workbench.measuring.reading import Reading, read
from workbench.measuring.respondents import Length, Respondent

Mode = Literal["logprob", "generate"]
Read = Callable[[str, Question], Reading]


def administer(
    respondent: Respondent,
    instrument: Instrument,
    asked: Sequence[Question],
    steering: str,
    progress: Progress,
    *,
    mode: Mode = "logprob",
    length: Length = "mean",
    temperature: float = 0.0,
    new_tokens: int = 0,
    read: Read = read,
) -> list[Response]:
    """One response a question, in the questions' order; `steering` names what was changed;
    `new_tokens` as `room` takes it.
    """
    given: dict[tuple[str, ...], tuple[Question, Response]] = {}
    waiting = list(asked)
    while waiting:
        ready = [q for q in waiting if not q.item.after or _key(q, q.item.after) in given]
        if not ready:  # an item that follows none of those asked opens a conversation of its own
            ready = waiting
        told = [
            dataclasses.replace(q, history=_history(q, given, instrument.memory)) for q in ready
        ]
        for q, response in zip(
            told,
            _answers(
                respondent, told, steering, progress, mode, length, temperature, new_tokens, read
            ),
            strict=True,
        ):
            given[_key(q, q.item.id)] = q, response
        waiting = [q for q in waiting if _key(q, q.item.id) not in given]
    return [given[_key(q, q.item.id)][1] for q in asked]


def _key(q: Question, item: str) -> tuple[str, ...]:
    return item, str(q.context), q.wording, q.order, str(q.seed)


def _history(
    q: Question, given: dict[tuple[str, ...], tuple[Question, Response]], memory: Memory
) -> tuple[Message, ...]:
    """What is told of the items that went before."""
    if not q.item.after or memory == "none" or _key(q, q.item.after) not in given:
        return ()
    before, response = given[_key(q, q.item.after)]
    said = Message("assistant", answer_text(before, response))
    if memory == "causal":  # a step too long to be asked has no answer to tell
        return _history(before, given, memory) + ((said,) if said.content else ())
    return (*before.history, Message("user", before.prompt), said)


def answer_text(q: Question, response: Response) -> str:
    """What was answered, in words: a letter with the text it stands for."""
    if response.chosen < 0 or not q.item.options:
        return response.text
    answer, text = q.answers[response.chosen], q.item.options[response.chosen].text
    return text if answer == text else f"{answer}. {text}"


def _answers(
    respondent: Respondent,
    asked: list[Question],
    steering: str,
    progress: Progress,
    mode: Mode,
    length: Length,
    temperature: float,
    new_tokens: int,
    read: Read,
) -> list[Response]:
    found: dict[int, Response] = {}
    for free in dict.fromkeys(not q.answers for q in asked):
        rows = [row for row, q in enumerate(asked) if (not q.answers) == free]
        some, scored, longest = (
            [asked[row] for row in rows],
            mode == "logprob" and not free,
            room(free, new_tokens),
        )
        fits = respondent.fits(some, 0 if scored else longest)
        fit = [q for q, fits_in in zip(some, fits, strict=True) if fits_in]
        if scored:
            made = iter(
                [
                    _scored(q, steering, told)
                    for q, told in zip(
                        fit, respondent.score(fit, length, progress) if fit else [], strict=True
                    )
                ]
            )
        else:
            texts = respondent.answer(fit, longest, temperature, progress) if fit else []
            made = iter(
                [
                    _written(q, steering, text, read(text, q))
                    for q, text in zip(fit, texts, strict=True)
                ]
            )
        for row, q, fits_in in zip(rows, some, fits, strict=True):
            found[row] = (
                next(made)
                if fits_in
                else _response(q, steering, "", (), Reading(-1, "too-long"), float("nan"))
            )
    return [found[row] for row in range(len(asked))]


def room(free: bool, new_tokens: int) -> int:
    """Longest answer in words [tokens]: `new_tokens`, or, where that is 0, 128 in free text and
    12 among answers.
    """
    return new_tokens or (128 if free else 12)


def _scored(q: Question, steering: str, logprobs: tuple[float, ...]) -> Response:
    scores = np.array(logprobs)
    chosen = int(scores.argmax())
    rating = float("nan") if q.item.options else 1 + float(softmax(scores) @ np.arange(len(scores)))
    return _response(q, steering, q.answers[chosen], logprobs, Reading(chosen, "parsed"), rating)


def _written(q: Question, steering: str, text: str, reading: Reading) -> Response:
    rated = reading.chosen >= 0 and not q.item.options
    return _response(
        q, steering, text, (), reading, float(reading.chosen + 1) if rated else float("nan")
    )


def _response(
    q: Question,
    steering: str,
    text: str,
    logprobs: tuple[float, ...],
    reading: Reading,
    rating: float,
) -> Response:
    rating = len(q.answers) + 1 - rating if q.turned else rating
    return Response(
        item=q.item.id,
        value=q.item.value,
        context=q.context,
        wording=q.wording,
        order=q.order,
        seed=q.seed,
        steering=steering,
        text=text,
        logprobs=logprobs,
        rating=rating,
        status=reading.status,
        chosen=reading.chosen,
        persona=q.persona,
    )
