"""A questionnaire of 520 items x 6 prompts by log-probability on the organism: ours, and one prompt
at a time.

Invented items in the shape of Value Portrait's: 104 passages with five responses each, of the
lengths of the real ones (passages cut at 110 words, so that all fits the organism's context), in
the organism's own words, asked in the instrument's three wordings with the six phrases in both
orders. Phrases have two to five tokens. A quarter of the passages at a time, three ways in turn:

1. batched: what a user writes: for every prompt one forward pass of its six answers, padded;
2. kept: for every prompt one pass, whose keys and values then serve one pass of the six answers:
   the strongest way of one prompt at a time;
3. ours: `administer` with `LocalRespondent`, the kept scores' file included.

The reach is set against the first; the second is shown beside it. Ratings and log-probabilities
must agree to 1e-4.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from feature_store.records import Instrument, Item
from sae_training.engine.model import Model
from sae_training.engine.opening import open_model
from workbench import organism
from workbench.instruments.value_portrait import PHRASES, WORDINGS
from workbench.measuring.administer import administer
from workbench.measuring.questions import Question, expected_ratings, questions
from workbench.measuring.respondents import LocalRespondent

NAME = "administration"
PASSAGES, RESPONSES, PARTS = 104, 5, 4
LENGTHS = {"passage": (3, 7, 12, 60, 110, 110, 110), "response": (5, 28, 32, 36, 40, 43, 46)}
"""Length at the quantiles 0, .1, .25, .5, .75, .9 and 1 of the real ones [words]."""
REACH = {"batched": 10}


def instrument(passages: int, seed: int) -> Instrument:
    """Invented items that share passages."""
    rng = np.random.default_rng(seed)
    words = " ".join(organism.training_texts(4000, seed)).split()

    def text(kind: str) -> str:
        length = int(np.interp(rng.random(), (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1), LENGTHS[kind]))
        start = int(rng.integers(len(words) - length))
        return " ".join(words[start : start + length])

    items = []
    for number in range(passages):
        passage = text("passage")
        items += [
            Item(
                id=f"{number}-{k}",
                text=f"{passage}\n\nResponse: {text('response')}",
                value="power",
                group=str(number),
            )
            for k in range(RESPONSES)
        ]
    return Instrument(
        id="invented",
        title="Invented items",
        items=tuple(items),
        options=PHRASES,
        wordings=tuple(WORDINGS.items()),
        system="schwartz10",
        source="made here",
        licence="MIT",
    )


def batched(model: Model, question: Question, options: list[list[int]]) -> list[float]:
    """Log-probability per token of each answer: one padded pass of all answers."""
    ids = model.tokenizer(question.prompt)["input_ids"]
    width = len(ids) + max(map(len, options))
    rows = torch.tensor([ids + o + [0] * (width - len(ids) - len(o)) for o in options])
    mask = torch.tensor(
        [[1] * (len(ids) + len(o)) + [0] * (width - len(ids) - len(o)) for o in options]
    )
    with torch.inference_mode():
        keep = max(map(len, options)) + 1
        logits = model.module(
            input_ids=rows, attention_mask=mask, use_cache=False, logits_to_keep=keep
        ).logits
        logprobs = logits.log_softmax(-1)
        return [
            float(logprobs[at, torch.arange(len(o)), torch.tensor(o)].mean())
            for at, o in enumerate(options)
        ]


def kept(model: Model, question: Question, options: list[list[int]]) -> list[float]:
    """The same: one pass of the prompt, then one of the answers after its keys and values."""
    ids, width = model.tokenizer(question.prompt)["input_ids"], max(map(len, options)) - 1
    with torch.inference_mode():
        first = model.module(input_ids=torch.tensor([ids]), use_cache=True, logits_to_keep=1)
        past = first.past_key_values
        past.batch_repeat_interleave(len(options))
        rows = torch.tensor([o[:-1] + [0] * (width - len(o) + 1) for o in options])
        rest = model.module(input_ids=rows, past_key_values=past).logits
        logprobs = torch.cat([first.logits.expand(len(options), -1, -1), rest], 1).log_softmax(-1)
        return [
            float(logprobs[at, torch.arange(len(o)), torch.tensor(o)].mean())
            for at, o in enumerate(options)
        ]


def one_at_a_time(
    way: Callable[[Model, Question, list[list[int]]], list[float]],
    model: Model,
    asked: list[Question],
) -> np.ndarray:
    """Scores of all questions, one after the other [question, option]."""
    options = model.tokenizer([f" {phrase}" for phrase in PHRASES], add_special_tokens=False)[
        "input_ids"
    ]
    return np.array([way(model, question, options) for question in asked])


def ours(model: Model, made: Instrument, asked: list[Question]) -> np.ndarray:
    """Scores of all questions as an administration keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        return np.array(
            [
                r.logprobs
                for r in administer(
                    LocalRespondent(model, Path(folder)), made, asked, "base", lambda *_: None
                )
            ]
        )


def main() -> dict[str, Any]:
    """Reach: ten times as fast as one batched pass a prompt, the same scores to 1e-4."""
    model, made = open_model(organism.folder()), instrument(PASSAGES, 0)
    asked = questions(made, [""], list(WORDINGS))
    lengths = [len(ids) for ids in model.tokenize([q.prompt for q in asked])]
    print(
        f"{len(made.items)} items x {len(asked) // len(made.items)} prompts of"
        f" {np.mean(lengths):.0f} tokens ({min(lengths)} to {max(lengths)}),"
        f" {torch.get_num_threads()} threads",
        flush=True,
    )
    ways: dict[str, Callable[[list[Question]], np.ndarray]] = {
        "batched": lambda some: one_at_a_time(batched, model, some),
        "kept": lambda some: one_at_a_time(kept, model, some),
        "ours": lambda some: ours(model, made, some),
    }
    for work in ways.values():
        work(asked[:6])  # warm up
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    difference = {"rating": 0.0, "logprob": 0.0}
    for part in range(PARTS):
        some = [q for q in asked if int(q.item.group) % PARTS == part]
        found = {}
        for way, work in ways.items():
            start = time.perf_counter()
            found[way] = work(some)
            seconds[way].append(time.perf_counter() - start)
        for way in REACH.keys() | {"kept"}:
            difference["logprob"] = max(
                difference["logprob"], float(np.abs(found[way] - found["ours"]).max())
            )
            apart = expected_ratings(found[way], some) - expected_ratings(found["ours"], some)
            difference["rating"] = max(difference["rating"], float(np.abs(apart).max()))
        print(
            f"part {part + 1}: "
            + ", ".join(f"{way} {times[-1]:.2f} s" for way, times in seconds.items()),
            flush=True,
        )
    value = {
        way: float(np.median(np.array(seconds[way]) / np.array(seconds["ours"])))
        for way in ("batched", "kept")
    }
    return {
        "name": NAME,
        "value": value,
        "reach": REACH,
        "holds": (
            max(difference.values()) <= 1e-4 and all(value[way] >= REACH[way] for way in REACH)
        ),
        "seconds": {way: sum(times) for way, times in seconds.items()},
        "difference": difference,
        "prompts": len(asked),
        "seed": 0,
    }
