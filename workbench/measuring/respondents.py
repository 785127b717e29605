"""Who answers: a model that runs here, steered or not, or one behind an endpoint; each question
once.

1. `LocalRespondent` scores answers by log-probability, or writes. Prompts with shared beginnings are scored
   together (`sae_training/engine/scoring.py`), whatever their answers; an answer's log-probability
   is per token by default: summed ones track length.
2. `RemoteRespondent` is any `LLM`; it only writes.
3. Both find what they said before by the digest of everything that determines it, their own name
   included: `scores.jsonl` and `answers.jsonl` in the study. So an interrupted run goes on where it
   was, and another run asks only what is new.

A respondent's `name` says model, revision, number format and steering, the SAE's run included; two
that differ must not share it.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Site
from sae_training.model.sites import FIRST
from workbench.llm import LLM, Message, ask
from workbench.llm.answered import CachedLLM
from workbench.llm.lines import AnswerFile, answer_key
from workbench.measuring.questions import Question, as_continued, prompt_of

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit
    from sae_training.model.runtime import Prompt

Length = Literal["mean", "sum"]
TOGETHER = 256
"""Prompts scored together at first."""
SECONDS = 20.0
"""As long as scoring some prompts takes less, twice as many go together: what is shared is found
among more of them, and when the process dies at most twice this time is lost [s]."""
WRITTEN = 64
"""Answers written together."""


@runtime_checkable
class Respondent(Protocol):
    name: str
    """Model, revision and steering: what its answers are kept under."""

    def fits(self, asked: Sequence[Question], room: int) -> list[bool]:
        """Which questions leave room for their longest answer, or for `room` tokens where
        answers are written.
        """
        ...

    def score(
        self, asked: Sequence[Question], length: Length, progress: Progress
    ) -> list[tuple[float, ...]]:
        """Log-probability of each question's answers [nats, per token or summed]."""
        ...

    def answer(
        self, asked: Sequence[Question], new_tokens: int, temperature: float, progress: Progress
    ) -> list[str]:
        """What it says to each question; greedy at temperature 0, else by the question's seed."""
        ...


class LocalRespondent:
    """A loaded model, under one row of `edit` where that is given; `file` keeps its scores,
    `texts` its words.
    """

    def __init__(
        self,
        model: "Model",
        folder: Path,
        steering: str = "base",
        edit: "Edit | None" = None,
        site: Site = FIRST,
    ) -> None:
        self.model, self.edit, self.site = model, edit, site
        # Other number formats give other scores, which must not pass for those of float32.
        kind = "" if model.dtype == torch.float32 else f" {str(model.dtype).removeprefix('torch.')}"
        self.name = f"{model.name}@{model.revision[:12]}{kind}" + (
            "" if steering == "base" else f" + {steering}"
        )
        self._scores, self._texts = (
            AnswerFile(folder / "scores.jsonl"),
            AnswerFile(folder / "answers.jsonl"),
        )
        self._known: dict[str, Any] = {}
        self._ids: dict[str, list[int]] = {}

    def fits(self, asked: Sequence[Question], room: int) -> list[bool]:
        if shown := [q for q in asked if q.item.image]:
            raise BadInput(
                f"{len(shown)} of {len(asked)} questions show an image, which {self.model.name}"
                " does not see. Name a model that does (--model vision:FOLDER-OR-HUB-ID), or ask"
                " about descriptions (--settings arm=text)."
            )
        prompts = [prompt_of(q, self.model.chat) for q in asked]
        longest = max(
            (len(ids) for answers in {q.answers for q in asked} for ids in self._tokens(answers)),
            default=0,
        )
        # Kept for the scoring that follows: tokenizing costs a tenth of it.
        self._ids = dict(
            zip(map(str, prompts), self.model.tokenize(prompts, prompt=True), strict=True)
        )
        return [
            len(self._ids[str(prompt)]) + (room or longest) <= self.model.context
            for prompt in prompts
        ]

    def score(
        self, asked: Sequence[Question], length: Length, progress: Progress
    ) -> list[tuple[float, ...]]:
        from sae_training.engine.scoring import score_rows

        prompts = [prompt_of(q, self.model.chat) for q in asked]
        keys = [
            answer_key(self.name, prompt, q.answers)
            for prompt, q in zip(prompts, asked, strict=True)
        ]
        self._catch_up(self._scores, "logprobs")
        missing = {key: row for row, key in enumerate(keys) if key not in self._known}
        rows = sorted(
            missing.values(), key=lambda row: str(prompts[row])
        )  # so that prompts which begin alike are scored together
        size = TOGETHER
        while rows:
            part, rows, start = rows[:size], rows[size:], time.monotonic()
            ids = [self._ids.get(str(prompts[row]), []) for row in part]
            options = [as_continued(asked[row].answers, self.model) for row in part]
            found = score_rows(
                self.model,
                [prompts[row] for row in part],
                options,
                self.edit,
                self.site,
                ids=ids if all(ids) else None,
            )[0]
            told = [
                one[: len(answers)]
                for one, answers in zip(found.double().numpy(), options, strict=True)
            ]
            self._keep_scores([keys[row] for row in part], told)
            progress("asking", len(asked) - len(rows), len(asked))
            size *= 2 if time.monotonic() - start < SECONDS / 2 else 1
        progress("asking", len(asked), len(asked))
        return self._by_length(keys, asked, length)

    def _by_length(
        self, keys: Sequence[str], asked: Sequence[Question], length: Length
    ) -> list[tuple[float, ...]]:
        counts = {
            answers: [len(ids) if length == "mean" else 1 for ids in self._tokens(answers)]
            for answers in {q.answers for q in asked}
        }
        return [
            tuple((np.array(self._known[key]) / counts[q.answers]).tolist())
            for key, q in zip(keys, asked, strict=True)
        ]

    def _keep_scores(self, keys: Sequence[str], told: Sequence[Float[np.ndarray, "..."]]) -> None:
        if bad := sum(not np.isfinite(one).all() for one in told):
            raise BadInput(
                f"{self.name} gives NaN for {bad} of {len(keys)} questions. Lower the strength."
            )
        self._keep(
            self._scores,
            {
                key: {"name": self.name, "logprobs": one.tolist()}
                for key, one in zip(keys, told, strict=True)
            },
            "logprobs",
        )

    def answer(
        self, asked: Sequence[Question], new_tokens: int, temperature: float, progress: Progress
    ) -> list[str]:
        prompts = [prompt_of(q, self.model.chat) for q in asked]
        # Greedy answers do not depend on the seed: a repeat of one is the same answer.
        seeds = [q.seed if temperature else 0 for q in asked]
        keys = [
            answer_key(self.name, prompt, new_tokens, temperature, seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        self._catch_up(self._texts, "text")
        missing = list(
            {key: row for row, key in enumerate(keys) if key not in self._known}.values()
        )
        for start in range(0, len(missing), WRITTEN):
            part = missing[start : start + WRITTEN]
            with self._steered():
                texts = self.model.generate(
                    [prompts[row] for row in part],
                    new_tokens,
                    temperature,
                    [seeds[row] for row in part],
                )
            told = {
                keys[row]: {
                    "name": self.name,
                    "prompt": prompts[row],
                    "max_new_tokens": new_tokens,
                    "temperature": temperature,
                    "seed": seeds[row],
                    "text": text,
                }
                for row, text in zip(part, texts, strict=True)
            }
            self._keep(self._texts, told, "text")
            progress("asking", len(asked) - len(missing) + start + len(part), len(asked))
        progress("asking", len(asked), len(asked))
        return [self._known[key] for key in keys]

    @contextlib.contextmanager
    def _steered(self) -> Iterator[None]:
        with (
            contextlib.nullcontext()
            if self.edit is None
            else self.model.steered(self.edit, self.site)
        ):
            yield

    def _tokens(self, answers: Sequence[str]) -> list[list[int]]:
        if not answers:
            return []
        return self.model.tokenizer(
            as_continued(answers, self.model), add_special_tokens=False, verbose=False
        )["input_ids"]

    def _catch_up(self, lines: AnswerFile, what: str) -> None:
        self._known |= {
            told["key"]: told[what]
            for told in lines.catch_up()
            if told.get("name") == self.name and what in told
        }

    def _keep(self, lines: AnswerFile, told: "dict[str, dict[str, Any]]", what: str) -> None:
        lines.add([{"key": key, **one} for key, one in told.items()])
        self._known |= {key: one[what] for key, one in told.items()}


class RemoteRespondent:
    """An `LLM` that answers in words; what it said is kept in `answers.jsonl`."""

    def __init__(self, llm: LLM, folder: Path) -> None:
        self.llm = CachedLLM(llm, folder / "answers.jsonl")
        self.name = llm.name

    def fits(self, asked: Sequence[Question], room: int) -> list[bool]:
        return [True] * len(asked)  # its context is not known here; an endpoint says so itself

    def score(
        self, asked: Sequence[Question], length: Length, progress: Progress
    ) -> list[tuple[float, ...]]:
        raise BadInput(
            f"{self.name} answers in words only. Use --mode generate, or a model that runs here."
        )

    def answer(
        self, asked: Sequence[Question], new_tokens: int, temperature: float, progress: Progress
    ) -> list[str]:
        found: list[str] = [""] * len(asked)
        seeds = [q.seed if temperature else 0 for q in asked]
        for seed in dict.fromkeys(seeds):
            rows = [row for row, one in enumerate(seeds) if one == seed]
            for start in range(0, len(rows), WRITTEN):
                part = rows[start : start + WRITTEN]
                texts = self.llm.chat(
                    [conversation(asked[row]) for row in part],
                    max_new_tokens=new_tokens,
                    temperature=temperature,
                    seed=seed,
                )
                for row, text in zip(part, texts, strict=True):
                    found[row] = text
                progress("asking", sum(map(bool, found)), len(asked))
        return found


def conversation(question: Question) -> tuple[Message, ...]:
    """The question as messages, its image with the first of the user's."""
    prompt: "Prompt" = prompt_of(question, chat=True)
    told = (
        ask(prompt)
        if isinstance(prompt, str)
        else tuple(Message(m["role"], m["content"]) for m in prompt)
    )  # type: ignore[arg-type]
    if not question.item.image:
        return told
    first = next(number for number, message in enumerate(told) if message.role == "user")
    return (
        *told[:first],
        dataclasses.replace(told[first], image=question.item.image),
        *told[first + 1 :],
    )
