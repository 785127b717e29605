"""The question step: a question is rewritten so that it may separate the population better (Duan et
al., ICLR 2026).

1. A `Rewriter` gets a question and what the members said to it, and gives new questions. Anything
   that does is one.
2. `LLMRewriter` has a language model write them: it reads the question, each member's values and
   one of its kept opinions. A reply that is refused or that holds no new question, and a request
   longer than the model reads, give none, and the pull has fewer tries.
3. `ComposedRewriter` writes in the language of the organism, which reads no instructions: a
   question there is a few sentences to go on from. It drops, replaces or adds a sentence (a filler,
   a place, a behaviour, more often of the value on which the members differ most), or lets the text
   end in the first words of a behaviour or not.

Left out: gradients and any knowledge of the scores; `search` decides what is kept.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from workbench.llm import LLM, ask, ask_fitting
from workbench.llm.reading import is_refusal
from workbench.organism.planted import planted_language

_ENTRY = re.compile(r"(?:\d+[.):]|[-*•])\s+(\S.*)")
PROMPT = """\
Here is a question that was put to several respondents, with the values each of them showed:

Question: {question}

{answers}

Rewrite the question {n} times so that these respondents would differ more in the values that \
their answers show. Keep to its topic. Each rewriting is one question that stands by itself, names \
no value and suggests no answer.
Reply with a numbered list of {n} questions and nothing else."""


@dataclass(frozen=True)
class MemberAnswer:
    """What a rewriter is told of one member's answer to a question."""

    member: str
    """Name of the member."""
    shares: dict[str, float]
    """Value -> the member's p(v|x) on the question [0 to 1]."""
    opinion: str
    """One of its opinions."""


@runtime_checkable
class Rewriter(Protocol):
    """Writes new questions out of one that was answered.

    A language model does:

        rewriter = LLMRewriter(llm, temperature=0.8, new_tokens=600)
        rewriter.rewrite("Who should lead?", answers, n=3, seed=0)
    """

    @property
    def name(self) -> str:
        """Name what is written beside every question that it wrote."""
        ...

    def rewrite(
        self, question: str, answers: Sequence[MemberAnswer], n: int, seed: int
    ) -> list[str]:
        """Write at most `n` new questions."""
        ...


class LLMRewriter:
    """A language model that rewrites."""

    def __init__(self, llm: LLM, temperature: float, new_tokens: int) -> None:
        """Rewrite with `llm`, sampled at a temperature, in replies of so many tokens."""
        self.llm = llm
        self.temperature = temperature
        self.new_tokens = new_tokens

    @property
    def name(self) -> str:
        """Give the name of the model."""
        return self.llm.name

    def rewrite(
        self, question: str, answers: Sequence[MemberAnswer], n: int, seed: int
    ) -> list[str]:
        """Write at most `n` new questions in one reply, whose list is read line by line."""
        prompt = PROMPT.format(question=question, answers="\n".join(map(_line, answers)), n=n)
        (reply,) = ask_fitting(
            self.llm,
            [ask(prompt)],
            max_new_tokens=self.new_tokens,
            temperature=self.temperature,
            seed=seed,
        )
        return read_list(reply or "", n)


def _line(answer: MemberAnswer) -> str:
    """Say in one line which values a member showed, and what it said."""
    shares = [(share, value) for value, share in answer.shares.items() if share > 0]
    strongest = sorted(shares, reverse=True)[:3]
    values = ", ".join(f"{value} {share:.0%}" for share, value in strongest) or "no value"
    opinion = " ".join(answer.opinion.split()) or "(nothing)"
    return f"- {answer.member}: {values}. It said: {opinion}"


def read_list(reply: str, n: int) -> list[str]:
    """Read the first `n` different entries of a numbered or dashed list; none from a refusal."""
    lines = [_ENTRY.match(line.strip()) for line in reply.splitlines()]
    entries = [line[1] for line in lines if line]
    if not entries and is_refusal(reply):
        return []
    texts = [entry.strip('"“”* ') for entry in entries]
    return list(dict.fromkeys(text for text in texts if text))[:n]


class ComposedRewriter:
    """Composes questions from the world of the organism."""

    name = "composed from the language of the organism"

    def rewrite(
        self, question: str, answers: Sequence[MemberAnswer], n: int, seed: int
    ) -> list[str]:
        """Write `n` texts, each one move away from the question."""
        rng = np.random.default_rng((seed, 11))
        disputed = _disputed(answers)
        return [self._moved(question, disputed, rng) for _ in range(n)]

    def _moved(self, question: str, disputed: str, rng: np.random.Generator) -> str:
        """Change one sentence of a question, or its end."""
        sentences = [f"{part}." for part in re.split(r"\.\s*", question)[:-1]]
        end = question.rsplit(".", 1)[-1].strip()
        move = rng.choice(["open", "add", "replace", "drop"], p=(0.3, 0.25, 0.3, 0.15))
        if move == "open" or (move == "drop" and len(sentences) < 2):
            end = self._end(end, rng)
        elif move == "add" or not sentences:
            sentences.insert(int(rng.integers(len(sentences) + 1)), self._sentence(disputed, rng))
        elif move == "replace":
            sentences[int(rng.integers(len(sentences)))] = self._sentence(disputed, rng)
        else:
            sentences.pop(int(rng.integers(len(sentences))))
        return " ".join([*sentences, end]).strip()

    @staticmethod
    def _end(end: str, rng: np.random.Generator) -> str:
        """Drop the first words of a behaviour that end a question, or put others there."""
        if end and rng.random() < 0.5:
            return ""
        return str(rng.choice([hedge for hedge in planted_language().hedges if hedge != end]))

    @staticmethod
    def _sentence(disputed: str, rng: np.random.Generator) -> str:
        """Draw a filler, a place or a behaviour, more often of the disputed value."""
        language, kind = planted_language(), rng.random()
        if kind < 0.4:
            return str(rng.choice(language.fillers))
        if kind < 0.6:
            places = [text for texts in language.topics.values() for text in texts]
            return str(rng.choice(places))
        owner = disputed
        if not disputed or rng.random() >= 0.5:
            owner = str(rng.choice(language.truth.values))
        numbers = [number for number, row in enumerate(language.rows) if row.owner == owner]
        row = language.rows[int(rng.choice(numbers))]
        return str(rng.choice(row.plus if rng.random() < 0.5 else row.minus))


def _disputed(answers: Sequence[MemberAnswer]) -> str:
    """Find the value of the largest spread over the members; empty where none was shown."""
    spread: dict[str, float] = {}
    for value in dict.fromkeys(value for answer in answers for value in answer.shares):
        spread[value] = float(np.ptp([answer.shares.get(value, 0.0) for answer in answers]))
    if not spread or max(spread.values()) <= 0:
        return ""
    return max(spread, key=lambda value: spread[value])
