"""The question step: a question is rewritten so that it may separate the population better (Duan et
al., ICLR 2026).

1. A `Rewriter` gets a question and what the members said to it, and gives new questions. Anything
   that does is one.
2. `Asked` has a language model write them: it reads the question, each member's values and one of
   its kept opinions. A reply that is refused or that holds no new question, and a request longer
   than the model reads, give none, and the pull has fewer tries.
3. `Composed` writes in the language of the organism, which reads no instructions: a question there
   is a few sentences to go on from. It drops, replaces or adds one (a filler, a place, a behaviour,
   more often of the value on which the members differ most), or lets the text end in the first
   words of a behaviour or not.

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

PROMPT = """Here is a question that was put to several respondents, with the values each of them showed:

Question: {question}

{told}

Rewrite the question {n} times so that these respondents would differ more in the values that their answers show. Keep to its topic. Each rewriting is one question that stands by itself, names no value and suggests no answer.
Reply with a numbered list of {n} questions and nothing else."""


@dataclass(frozen=True)
class Told:
    member: str
    """Name of the member."""
    shares: dict[str, float]
    """Value -> the member's p(v|x) on the question [0 to 1]."""
    opinion: str
    """One of its opinions."""


@runtime_checkable
class Rewriter(Protocol):
    name: str
    """Written beside every question that it wrote."""

    def rewrite(self, question: str, told: Sequence[Told], n: int, seed: int) -> list[str]:
        """At most `n` new questions."""
        ...


class Asked:
    """A language model that rewrites."""

    def __init__(self, llm: LLM, temperature: float, new_tokens: int) -> None:
        self.llm, self.temperature, self.new_tokens = llm, temperature, new_tokens

    @property
    def name(self) -> str:
        """That of the model."""
        return self.llm.name

    def rewrite(self, question: str, told: Sequence[Told], n: int, seed: int) -> list[str]:
        """One request; its list is read line by line."""
        prompt = PROMPT.format(question=question, told="\n".join(map(_line, told)), n=n)
        (answer,) = ask_fitting(
            self.llm,
            [ask(prompt)],
            max_new_tokens=self.new_tokens,
            temperature=self.temperature,
            seed=seed,
        )
        return read_list(answer or "", n)


def _line(one: Told) -> str:
    strongest = sorted(((p, value) for value, p in one.shares.items() if p > 0), reverse=True)[:3]
    values = ", ".join(f"{value} {p:.0%}" for p, value in strongest) or "no value"
    return f"- {one.member}: {values}. It said: {' '.join(one.opinion.split()) or '(nothing)'}"


def read_list(answer: str, n: int) -> list[str]:
    """The first `n` different entries of a numbered or dashed list; none from a refusal."""
    found = re.findall(r"^\s*(?:\d+[.):]|[-*•])\s+(.+?)\s*$", answer, re.M)
    if not found and is_refusal(answer):
        return []
    return list(dict.fromkeys(text.strip('"“”* ') for text in found if text.strip('"“”* ')))[:n]


class Composed:
    """Composes questions from the world of the organism."""

    name = "composed from the language of the organism"

    def rewrite(self, question: str, told: Sequence[Told], n: int, seed: int) -> list[str]:
        """`n` texts, one move away each."""
        rng = np.random.default_rng((seed, 11))
        return [self._moved(question, _disputed(told), rng) for _ in range(n)]

    def _moved(self, question: str, disputed: str, rng: np.random.Generator) -> str:
        made = planted_language()
        sentences = [f"{part}." for part in re.split(r"\.\s*", question)[:-1]]
        end = question.rsplit(".", 1)[-1].strip()
        move = rng.choice(["open", "add", "replace", "drop"], p=(0.3, 0.25, 0.3, 0.15))
        if move == "open" or (move == "drop" and len(sentences) < 2):
            end = (
                ""
                if end and rng.random() < 0.5
                else str(rng.choice([hedge for hedge in made.hedges if hedge != end]))
            )
        elif move == "add" or not sentences:
            sentences.insert(int(rng.integers(len(sentences) + 1)), self._sentence(disputed, rng))
        elif move == "replace":
            sentences[int(rng.integers(len(sentences)))] = self._sentence(disputed, rng)
        else:
            sentences.pop(int(rng.integers(len(sentences))))
        return " ".join([*sentences, end]).strip()

    @staticmethod
    def _sentence(disputed: str, rng: np.random.Generator) -> str:
        made, kind = planted_language(), rng.random()
        if kind < 0.4:
            return str(rng.choice(made.fillers))
        if kind < 0.6:
            return str(rng.choice([text for texts in made.topics.values() for text in texts]))
        owner = disputed if disputed and rng.random() < 0.5 else str(rng.choice(made.truth.values))
        row = made.rows[
            int(rng.choice([k for k, row in enumerate(made.rows) if row.owner == owner]))
        ]
        return str(rng.choice(row.plus if rng.random() < 0.5 else row.minus))


def _disputed(told: Sequence[Told]) -> str:
    """The value of the largest spread over the members; empty where none was shown."""
    values = dict.fromkeys(value for one in told for value in one.shares)
    spread = {
        value: float(np.ptp([one.shares.get(value, 0.0) for one in told])) for value in values
    }
    return (
        max(spread, key=lambda value: spread[value]) if spread and max(spread.values()) > 0 else ""
    )
