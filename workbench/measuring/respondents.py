"""Who answers: a model that runs here, steered or not, or one behind an endpoint; each question
once.

1. `LocalRespondent` scores answers by log-probability, or writes. Prompts with shared beginnings
   are scored together (`sae_training/engine/scoring.py`), whatever their answers; an answer's
   log-probability is per token by default: summed ones track length.
2. `RemoteRespondent` is any `LLM`; it only writes.
3. Both find what they answered before by the digest of everything that determines it, their own
   name included: `scores.jsonl` and `answers.jsonl` in the study. So an interrupted run goes on
   where it was, and another run that asks the same asks nothing. What a model here answers is kept
   and found by units (`llm/units.py`), whose composition decides the last digits.

A respondent's `name` says model, revision, number format and steering, the SAE's run included; two
that differ must not share it.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.progress import Progress, StageProgress, missing_parts, stage
from feature_store.records import Site
from sae_training.model.sites import FIRST
from workbench.llm import LLM, Message, ask
from workbench.llm.answer_file import AnswerFile, answer_key
from workbench.llm.cached import CachedLLM
from workbench.llm.units import Unit, Units, cut
from workbench.measuring.questions import Question, as_continued, prompt_of

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit

Length = Literal["mean", "sum"]
"""How an answer's log-probability is counted: per token, or summed over its tokens."""
TOGETHER = 256
"""Prompts scored together: of more, hardly more is shared, and all are lost when the process
dies."""
WRITTEN = 64
"""Answers written together."""


@runtime_checkable
class Respondent(Protocol):
    """Whoever answers an instrument's questions.

    A respondent of a test, which always agrees:

        class Agreeable:
            name = "agreeable"

            def fits(self, questions, room):
                return [True] * len(questions)

            def score(self, questions, length, progress):
                return [(-9.0,) * (len(q.answers) - 1) + (0.0,) for q in questions]

            def answer(self, questions, new_tokens, temperature, progress):
                return [q.answers[-1] for q in questions]
    """

    name: str
    """Model, revision and steering: what its answers are kept under."""

    def fits(self, questions: Sequence[Question], room: int) -> list[bool]:
        """Tell for each question whether the model has room for it and its answer.

        `room`: tokens that a written answer may take; 0: that of the longest answer offered.
        """

    def score(
        self, questions: Sequence[Question], length: Length, progress: Progress
    ) -> list[tuple[float, ...]]:
        """Give the log-probability of each question's answers [nats, per token or summed]."""

    def answer(
        self,
        questions: Sequence[Question],
        new_tokens: int,
        temperature: float,
        progress: Progress,
    ) -> list[str]:
        """Write an answer of at most `new_tokens` to each question.

        Greedy at temperature 0, else sampled from the question's seed.
        """


class LocalRespondent:
    """A model that runs here, under one row of `edit` where that is given.

    `folder` is the study's: `scores.jsonl` keeps log-probabilities, `answers.jsonl` words.
    """

    def __init__(
        self,
        model: "Model",
        folder: Path,
        steering: str = "base",
        edit: "Edit | None" = None,
        site: Site = FIRST,
    ) -> None:
        self.model = model
        self.edit = edit
        self.site = site
        self.name = model.identity
        if steering != "base":
            self.name += f" + {steering}"
        self._scores = AnswerFile(folder / "scores.jsonl", "logprobs")
        self._texts = AnswerFile(folder / "answers.jsonl")
        self._answers: dict[str, Any] = {}
        """Key -> log-probabilities or text, of everything this respondent answered."""
        self._ids: dict[str, list[int]] = {}
        """Prompt -> its tokens, for the scoring that follows `fits`."""

    def fits(self, questions: Sequence[Question], room: int) -> list[bool]:
        """Tell for each question whether it fits into the model's context with its answer.

        Raises BadInput for questions that show an image.
        """
        with_image = [q for q in questions if q.item.image]
        if with_image:
            raise BadInput(
                f"{len(with_image)} of {len(questions)} questions show an image, which"
                f" {self.model.name} does not see. Name a model that does (--model"
                " vision:FOLDER-OR-HUB-ID), or ask about descriptions (--settings arm=text)."
            )
        prompts = [prompt_of(q, self.model.chat) for q in questions]
        longest = {answers: self._longest(answers) for answers in {q.answers for q in questions}}
        # Kept for the scoring that follows: tokenizing costs a tenth of it.
        tokens = self.model.tokenize(prompts, prompt=True)
        self._ids = dict(zip(map(str, prompts), tokens, strict=True))
        return [
            len(self._ids[str(prompt)]) + (room or longest[q.answers]) <= self.model.context
            for prompt, q in zip(prompts, questions, strict=True)
        ]

    def score(
        self, questions: Sequence[Question], length: Length, progress: Progress
    ) -> list[tuple[float, ...]]:
        """Give the log-probability of each question's answers [nats, per token or summed].

        Raises BadInput where the model, steered too far, gives NaN.
        """
        prompts = [prompt_of(q, self.model.chat) for q in questions]
        asked = [
            answer_key(self.name, prompt, q.answers)
            for prompt, q in zip(prompts, questions, strict=True)
        ]
        # In the order of their texts, so that prompts which begin alike are scored together.
        order = sorted(
            range(len(questions)), key=lambda row: (str(prompts[row]), questions[row].answers)
        )
        units = cut(asked, order, TOGETHER, self.model.machine)
        self._catch_up(self._scores, "logprobs")
        for key, question in zip(units.keys, questions, strict=True):
            if len(self._answers.get(key, question.answers)) != len(question.answers):
                del self._answers[key]  # a spoilt line; the unit is asked again
        for unit, shown in self._missing(units, progress):
            scores = self._score_part([questions[row] for row in unit.rows], shown)
            self._keep_scores(unit.keys, scores)
        return self._by_length(units.keys, questions, length)

    def answer(
        self,
        questions: Sequence[Question],
        new_tokens: int,
        temperature: float,
        progress: Progress,
    ) -> list[str]:
        """Write an answer of at most `new_tokens` to each question."""
        prompts = [prompt_of(q, self.model.chat) for q in questions]
        seeds = sampling_seeds(questions, temperature)
        asked = [
            answer_key(self.name, prompt, new_tokens, temperature, seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        records = [
            {
                "name": self.name,
                "prompt": prompt,
                "max_new_tokens": new_tokens,
                "temperature": temperature,
                "seed": seed,
            }
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

        def write(rows: Sequence[int], shown: StageProgress) -> list[str]:
            """Have the model write on."""
            unit_seeds = [seeds[row] for row in rows]
            return self.model.generate(
                [prompts[row] for row in rows], new_tokens, temperature, unit_seeds, shown
            )

        return self._written(asked, records, write, progress)

    def _written(
        self,
        asked: Sequence[str],
        records: Sequence[Mapping[str, Any]],
        write: Callable[[Sequence[int], StageProgress], list[str]],
        progress: Progress,
    ) -> list[str]:
        """Give a text for each question: the one that is kept, else one that `write` gives anew.

        `asked` holds the digest of every question, `records` what its text is kept with.
        """
        units = cut(asked, range(len(asked)), WRITTEN, self.model.machine)
        self._catch_up(self._texts, "text")
        for unit, shown in self._missing(units, progress):
            with self._steered():
                texts = write(unit.rows, shown)
            made = zip(unit.rows, unit.keys, texts, strict=True)
            lines = {key: {**records[row], "text": text} for row, key, text in made}
            self._keep(self._texts, lines, "text")
        return [self._answers[key] for key in units.keys]

    def _missing(self, units: Units, progress: Progress) -> Iterator[tuple[Unit, StageProgress]]:
        """Give the units that lack an answer, each with its share of the progress."""
        kept = {k for k, unit in enumerate(units.parts) if not unit.lacks(self._answers)}
        rows = [unit.rows for unit in units.parts]
        for number, _, shown in missing_parts(kept, rows, stage(progress, "asking")):
            yield units.parts[number], shown

    def _score_part(
        self, questions: Sequence[Question], progress: StageProgress
    ) -> list[Float[np.ndarray, " answer"]]:
        """Score the answers of some questions in one go [nats, summed over tokens]."""
        from sae_training.engine.scoring import TokenizedPrompts, score_rows

        prompts = [prompt_of(q, self.model.chat) for q in questions]
        ids = [self._ids.get(str(prompt), []) for prompt in prompts]
        options = [as_continued(q.answers, self.model) for q in questions]
        known = TokenizedPrompts(prompts, ids)
        asked = known if all(ids) else TokenizedPrompts.of(self.model, prompts)
        scores = score_rows(self.model, asked, options, self.edit, self.site, progress)[0]
        # Questions with fewer answers than others are padded on the right.
        return [
            row[: len(answers)]
            for row, answers in zip(scores.double().numpy(), options, strict=True)
        ]

    def _by_length(
        self, keys: Sequence[str], questions: Sequence[Question], length: Length
    ) -> list[tuple[float, ...]]:
        """Give the kept scores of questions, divided by their answers' tokens if per token."""
        scores = []
        counts = {}
        for answers in {q.answers for q in questions}:
            counts[answers] = [len(ids) if length == "mean" else 1 for ids in self._tokens(answers)]
        for key, question in zip(keys, questions, strict=True):
            logprobs = np.array(self._answers[key]) / counts[question.answers]
            scores.append(tuple(logprobs.tolist()))
        return scores

    @contextlib.contextmanager
    def _steered(self) -> Iterator[None]:
        """Steer the model inside the block, if this respondent is steered."""
        if self.edit is None:
            yield
            return
        with self.model.steered(self.edit, self.site):
            yield

    def _tokens(self, answers: Sequence[str]) -> list[list[int]]:
        """Give the tokens of answers as the model would continue with them."""
        return self.model.encode(as_continued(answers, self.model), special=False)

    def _longest(self, answers: Sequence[str]) -> int:
        """Count the tokens of the longest answer; 0 where none is offered."""
        return max(map(len, self._tokens(answers)), default=0)

    # What was answered before

    def _catch_up(self, file: AnswerFile, column: str) -> None:
        """Read what this respondent answered before, in this process or another."""
        for line in file.catch_up():
            if line.get("name") == self.name and column in line:
                self._answers[line["key"]] = line[column]

    def _keep(self, file: AnswerFile, lines: Mapping[str, Mapping[str, Any]], column: str) -> None:
        """Write answers to a file by their keys, before they are used."""
        file.add([{"key": key, **line} for key, line in lines.items()])
        for key, line in lines.items():
            self._answers[key] = line[column]

    def _keep_scores(self, keys: Sequence[str], scores: Sequence[Float[np.ndarray, "..."]]) -> None:
        """Keep log-probabilities. Raises BadInput where some are NaN."""
        from sae_training.model.overflow import not_finite

        bad = sum(not np.isfinite(row).all() for row in scores)
        if bad:
            where = f"In {bad} of {len(keys)} questions"
            raise not_finite(self.model, where, steered=self.edit is not None)
        lines = {}
        for key, row in zip(keys, scores, strict=True):
            lines[key] = {"name": self.name, "logprobs": row.tolist()}
        self._keep(self._scores, lines, "logprobs")


class RemoteRespondent:
    """An `LLM` that answers in words; what it answered is kept in `answers.jsonl` of `folder`."""

    def __init__(self, llm: LLM, folder: Path) -> None:
        self.llm = CachedLLM(llm, folder / "answers.jsonl")
        self.name = llm.name

    def fits(self, questions: Sequence[Question], room: int) -> list[bool]:
        """Let every question pass: an endpoint's context is not known here, it says so itself."""
        return [True] * len(questions)

    def score(
        self, questions: Sequence[Question], length: Length, progress: Progress
    ) -> list[tuple[float, ...]]:
        """Raise BadInput: an endpoint gives no log-probabilities."""
        raise BadInput(
            f"{self.name} answers in words only. Use --mode generate, or a model that runs here."
        )

    def answer(
        self,
        questions: Sequence[Question],
        new_tokens: int,
        temperature: float,
        progress: Progress,
    ) -> list[str]:
        """Write an answer of at most `new_tokens` to each question."""
        answers: list[str] = [""] * len(questions)
        seeds = sampling_seeds(questions, temperature)
        for seed in dict.fromkeys(seeds):
            rows = [row for row, row_seed in enumerate(seeds) if row_seed == seed]
            for start in range(0, len(rows), WRITTEN):
                part = rows[start : start + WRITTEN]
                texts = self.llm.chat(
                    [conversation(questions[row]) for row in part],
                    max_new_tokens=new_tokens,
                    temperature=temperature,
                    seed=seed,
                )
                for row, text in zip(part, texts, strict=True):
                    answers[row] = text
                progress("asking", sum(map(bool, answers)), len(questions))
        return answers


def sampling_seeds(questions: Sequence[Question], temperature: float) -> list[int]:
    """Give the seed from which each answer is sampled.

    Greedy answers do not depend on the seed: a repeat of one is the same answer, and has seed 0.
    """
    return [q.seed if temperature else 0 for q in questions]


def conversation(question: Question) -> tuple[Message, ...]:
    """Write the question as messages, its image with the first of the user's."""
    prompt = prompt_of(question, chat=True)
    if isinstance(prompt, str):
        messages = ask(prompt)
    else:
        messages = tuple(Message(cast(Any, m["role"]), m["content"]) for m in prompt)
    if not question.item.image:
        return messages
    first = next(number for number, message in enumerate(messages) if message.role == "user")
    shown = dataclasses.replace(messages[first], image=question.item.image)
    return (*messages[:first], shown, *messages[first + 1 :])
