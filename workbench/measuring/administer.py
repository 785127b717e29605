"""Go through an instrument's questions with a respondent, and read every answer.

1. Items that follow others are asked after them, in the same conversation: same context, wording,
   order and seed. What they are told of the earlier ones is the instrument's `memory`.
2. `logprob`: the answer is the most likely one, the rating is the expectation under the softmax
   over the answers. `voice`: the rating is how much likelier the statement is, as the model's own
   words, than its reversal (`voice.py`). `generate`: the respondent writes and its words are read;
   a refusal and what cannot be read stay as responses with that status. A question that offers no
   answers is answered in words whatever the mode.
3. A question too long for the model is not cut: it stays as a response of status `too-long`, and is
   counted.

Left out: what the answers add up to (`profiles`), and free texts' ratings, which a judge gives
(`Questionnaire.rate`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from feature_store.progress import Progress
from feature_store.records import Instrument, Memory, Response
from workbench.llm import Message
from workbench.measuring.questions import Question, softmax
from workbench.measuring.reading import Reading, read
from workbench.measuring.respondents import Length, Respondent

Mode = Literal["logprob", "generate", "voice"]
"""Whether the offered answers are scored, one is written, or the statements are scored as the
model's own words."""
Key = tuple[str, str, str, str, str]
"""What tells two questions of one administration apart: item, context, wording, order, seed."""
Given = Mapping[Key, tuple[Question, Response]]
"""What was answered so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elicitation:
    """How answers are brought forth and read."""

    mode: Mode = "logprob"
    """Score the answers, let the respondent write, or score statements as its own words."""
    length: Length = "mean"
    """Log-probability of an answer per token, or summed over its tokens."""
    temperature: float = 0.0
    """Sampling temperature when it writes; 0: greedy."""
    new_tokens: int = 0
    """Longest written answer [tokens]; 0: as `room` says."""
    read: Callable[[str, Question], Reading] = read
    """Turns words into one of the question's answers."""


def administer(
    respondent: Respondent,
    instrument: Instrument,
    questions: Sequence[Question],
    steering: str,
    progress: Progress,
    elicitation: Elicitation | None = None,
) -> list[Response]:
    """Ask a respondent every question; give one response a question, in the questions' order.

    `steering` names what was changed in the respondent, `base` where nothing was. Without an
    `elicitation`, answers are scored per token.

        asked = questions(instrument, ["At work."], ["ends"])
        responses = administer(respondent, instrument, asked, "base", silent)
    """
    elicitation = elicitation or Elicitation()
    given: dict[Key, tuple[Question, Response]] = {}
    waiting = list(questions)
    while waiting:
        ready = [q for q in waiting if not q.item.after or _key(q, q.item.after) in given]
        if not ready:  # an item that follows none of those asked opens a conversation of its own
            ready = waiting
        ready = [
            dataclasses.replace(q, history=_history(q, given, instrument.memory)) for q in ready
        ]
        responses = _responses(respondent, ready, steering, progress, elicitation)
        for question, response in zip(ready, responses, strict=True):
            given[_key(question, question.item.id)] = question, response
        waiting = [q for q in waiting if _key(q, q.item.id) not in given]
    return [given[_key(q, q.item.id)][1] for q in questions]


def _key(q: Question, item: str) -> Key:
    """Give the key of a question, or of another item asked in the same way."""
    return item, str(q.context), q.wording, q.order, str(q.seed)


def _history(q: Question, given: Given, memory: Memory) -> tuple[Message, ...]:
    """Write what a question is told of the items that went before it."""
    if not q.item.after or memory == "none" or _key(q, q.item.after) not in given:
        return ()
    before, response = given[_key(q, q.item.after)]
    answer = Message("assistant", answer_text(before, response))
    if memory == "causal":  # a step too long to be asked has no answer to tell
        return _history(before, given, memory) + ((answer,) if answer.content else ())
    return (*before.history, Message("user", before.prompt), answer)


def answer_text(q: Question, response: Response) -> str:
    """Give the answer in words: a letter with the text it stands for."""
    if response.chosen < 0 or not q.item.options:
        return response.text
    answer, text = q.answers[response.chosen], q.item.options[response.chosen].text
    return text if answer == text else f"{answer}. {text}"


def _responses(
    respondent: Respondent,
    questions: Sequence[Question],
    steering: str,
    progress: Progress,
    elicitation: Elicitation,
) -> list[Response]:
    """Ask questions that wait for no other; those with free answers apart from the rest."""
    responses: dict[int, Response] = {}
    for free in dict.fromkeys(not q.answers for q in questions):
        rows = [row for row, q in enumerate(questions) if (not q.answers) == free]
        scored = elicitation.mode != "generate" and not free
        longest = 0 if scored else room(free, elicitation.new_tokens)
        fits = respondent.fits([questions[row] for row in rows], longest)
        fitting = [row for row, fits_in in zip(rows, fits, strict=True) if fits_in]
        for row in set(rows) - set(fitting):
            too_long = Reading(-1, "too-long")
            responses[row] = _response(questions[row], steering, too_long, rating=float("nan"))
        if not fitting:
            continue
        asked = [questions[row] for row in fitting]
        if scored:
            scores = respondent.score(asked, elicitation.length, progress)
            for row, logprobs in zip(fitting, scores, strict=True):
                responses[row] = _scored(questions[row], steering, logprobs)
        else:
            texts = respondent.answer(asked, longest, elicitation.temperature, progress)
            for row, text in zip(fitting, texts, strict=True):
                reading = elicitation.read(text, questions[row])
                responses[row] = _written(questions[row], steering, text, reading)
    return [responses[row] for row in range(len(questions))]


def room(free: bool, new_tokens: int) -> int:
    """Give the longest written answer [tokens]: `new_tokens`, or what is usual where that is 0.

    Usual are 128 tokens in free text and 12 among offered answers.
    """
    return new_tokens or (128 if free else 12)


def _scored(q: Question, steering: str, logprobs: tuple[float, ...]) -> Response:
    """Make the response of a scored question: its likeliest answer and expected rating."""
    scores = np.array(logprobs)
    chosen = int(scores.argmax())
    rating = float("nan")
    if q.voiced:
        rating = q.item.key * float(scores[0] - scores[1])
    elif not q.item.options:
        rating = 1 + float(softmax(scores) @ np.arange(len(scores)))
    return _response(
        q, steering, Reading(chosen, "parsed"), q.answers[chosen], rating, logprobs=logprobs
    )


def _written(q: Question, steering: str, text: str, reading: Reading) -> Response:
    """Make the response of a written answer."""
    rated = reading.chosen >= 0 and not q.item.options
    rating = float(reading.chosen + 1) if rated else float("nan")
    return _response(q, steering, reading, text, rating)


def _response(
    q: Question,
    steering: str,
    reading: Reading,
    text: str = "",
    rating: float = float("nan"),
    logprobs: tuple[float, ...] = (),
) -> Response:
    """Make a response; the rating of a question that was turned round is turned back."""
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
        rating=len(q.answers) + 1 - rating if q.turned and not q.voiced else rating,
        status=reading.status,
        chosen=reading.chosen,
        persona=q.persona,
    )
