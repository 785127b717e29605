"""Administer an instrument to a model and turn its answers into a value profile.

1. `questions` writes every prompt: contexts x items x wordings x orders of the scale. A context is a short text
   before the item; contexts are the clusters over which every interval is bootstrapped.
2. `by_logprob` scores the answer options as continuations; the rating is their expectation under the softmax over
   the options (six options of one token each: no length bias). `by_generation` lets the model answer and
   reads the first number; a refusal and an answer without a number stay as responses with that status.
3. `profile` averages per context, then over contexts; the centred profile subtracts the mean rating of all
   items (MRAT, Schwartz 2003) per context, and never divides by the spread.

Left out: items without a numeric scale, several turns, images.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput, NotFound, nearest
from feature_store.records import Instrument, Item, Response, ValueProfile, ValueSystem
from sae_training.model import Model
from workbench.instruments import LIKENESS
from workbench.llm.reading import is_refusal
from workbench.statistics import bootstrap_mean

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Question:
    item: Item
    """What is asked."""
    context: int
    """0-based number of the context."""
    wording: str
    """Name of the wording."""
    order: str
    """`ascending`: option 1 is the least agreement; `descending`: the most."""
    prompt: str
    """The whole text."""


def questions(instrument: Instrument, contexts: Sequence[str], wordings: Sequence[str]) -> list[Question]:
    """Every prompt, in the order context, wording, order, item. Raises NotFound for an unknown wording."""
    templates = dict(instrument.wordings)
    for name in wordings:
        if name not in templates:
            raise NotFound(f"{instrument.id} has no wording {name!r}.{nearest(name, templates)}")
    asked = []
    for number, context in enumerate(contexts):
        for wording in wordings:
            template = templates[wording]
            # Only a template that names the ends of its scale can be turned round.
            for order in ("ascending", "descending") if "{low}" in template else ("ascending",):
                low, high = LIKENESS if order == "ascending" else LIKENESS[::-1]
                for item in instrument.items:
                    body = template.format(item=item.text, low=low, high=high)
                    separator = "\n" if "\n" in template else " "
                    prompt = f"{context}{separator}{body}" if context else body
                    asked.append(Question(item, number, wording, order, prompt))
    return asked


def expected_ratings(
    logprobs: Float[np.ndarray, "*rows question option"], asked: Sequence[Question]
) -> Float[np.ndarray, "*rows question"]:
    """Mean agreement under the softmax over the options; turned-round scales and reverse keys put right [1 to 6]."""
    weights = np.exp(logprobs - logprobs.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    n = logprobs.shape[-1]
    rating = weights @ np.arange(1, n + 1)
    turned = np.array([(q.order == "descending") != (q.item.key < 0) for q in asked])
    return np.where(turned, n + 1 - rating, rating)


def option_texts(instrument: Instrument, model: Model) -> list[str]:
    """The options as the model would continue: after a chat template bare, else after a space."""
    return [option if model.chat else f" {option}" for option in instrument.options]


def by_logprob(
    model: Model, instrument: Instrument, asked: Sequence[Question], steering: str, progress: Progress
) -> list[Response]:
    """One response a question, rated by the expectation over the options' log-probabilities."""
    options, step, rows = option_texts(instrument, model), 64, []
    for start in range(0, len(asked), step):
        chunk = asked[start : start + step]
        rows.append(model.score([q.prompt for q in chunk], options).cpu().double().numpy())
        progress("asking", start + len(chunk), len(asked))
    logprobs = np.concatenate(rows)
    ratings = expected_ratings(logprobs, asked)
    if not np.isfinite(ratings).all():
        raise BadInput(
            f"The model gives NaN for {(~np.isfinite(ratings)).sum()} of {len(asked)} questions. Lower the strength."
        )
    return [
        Response(q.item.id, q.item.value, q.context, q.wording, q.order, 0, steering,
                 instrument.options[int(row.argmax())], tuple(row.tolist()), float(rating), "parsed")
        for q, row, rating in zip(asked, logprobs, ratings, strict=True)
    ]  # fmt: skip


def read_answer(text: str, options: Sequence[str]) -> tuple[float, str]:
    """The rating in a free answer and its status; NaN with `refused` or `unparsed` where there is none."""
    found = re.search(r"(?<![\d.])\d+(?![\d.]*\d)", text)
    if found and found.group() in options:
        return float(found.group()), "parsed"
    return float("nan"), "refused" if is_refusal(text) else "unparsed"


def by_generation(
    model: Model, instrument: Instrument, asked: Sequence[Question], steering: str, progress: Progress,
    temperature: float, seed: int, new_tokens: int = 12,
) -> list[Response]:  # fmt: skip
    """One response a question, read from what the model writes."""
    step, responses = 64, []
    for start in range(0, len(asked), step):
        chunk = asked[start : start + step]
        texts = model.generate([q.prompt for q in chunk], new_tokens, temperature=temperature, seed=seed + start)
        for q, text in zip(chunk, texts, strict=True):
            rating, status = read_answer(text, instrument.options)
            if (q.order == "descending") != (q.item.key < 0):
                rating = len(instrument.options) + 1 - rating
            responses.append(
                Response(
                    q.item.id, q.item.value, q.context, q.wording, q.order, seed, steering, text, (), rating, status
                )
            )
        progress("asking", start + len(chunk), len(asked))
    return responses


def per_context(responses: Sequence[Response], values: Sequence[str]) -> Float[np.ndarray, "context value"]:
    """Mean rating of each value's items under each context; NaN where nothing was parsed."""
    contexts = max(r.context for r in responses) + 1
    total, count = np.zeros((contexts, len(values))), np.zeros((contexts, len(values)))
    where = {value: column for column, value in enumerate(values)}
    for r in responses:
        if r.status == "parsed":
            total[r.context, where[r.value]] += r.rating
            count[r.context, where[r.value]] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def centre(
    ratings: Float[np.ndarray, "context value"], responses: Sequence[Response]
) -> Float[np.ndarray, "context value"]:
    """Ratings less the mean rating of all items of the same context (MRAT)."""
    mrat = per_context([Response(**{**r.__dict__, "value": "all"}) for r in responses], ["all"])
    return ratings - mrat


def profile(responses: Sequence[Response], system: ValueSystem, replicates: int, seed: int) -> list[ValueProfile]:
    """Raw and centred profiles of one steering. Values without a parsed answer are given as NaN with their counts."""
    values = [v for v in system.ids if any(r.value == v for r in responses)]
    raw = per_context(responses, values)
    rows = []
    for centred, ratings in ((False, raw), (True, centre(raw, responses))):
        interval = bootstrap_mean(ratings, replicates, seed)
        for column, value in enumerate(values):
            own = [r.status == "parsed" for r in responses if r.value == value]
            rows.append(ValueProfile(
                responses[0].steering, value, float(interval.mean[column]), float(interval.low[column]), float(interval.high[column]),
                int(np.isfinite(ratings[:, column]).sum()), sum(own), len(own) - sum(own), centred,
            ))  # fmt: skip
    return rows
