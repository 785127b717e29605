"""Judges: closed questions answered by a language model, and how far its answers can be trusted.

1. `LLMJudge` shows the question and its options and reads the reply (`reading.py`).
2. `LogprobJudge` takes, of a model that runs here, the option that the question makes likeliest:
   the log-probability after the question less that after the same prompt without it. The difference
   removes what long or rare options lose (domain-conditional PMI; Holtzman et al. 2021, "Surface
   form competition").
3. `self_agreement` asks again with the options in reverse order. Cohen's kappa and the share of
   equal verdicts say how much of the judge is its reading of the question; below `LOW` it warns
   with the number.

4. A question longer than the judge reads is not cut: its verdict is `too-long`.

Left out: agreement with people. That needs their verdicts.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy import stats

from feature_store.errors import BadInput
from workbench.llm import LLM, Judge, Verdict, ask, ask_fitting, open_llm
from workbench.llm.answered import Answered
from workbench.llm.local import Local
from workbench.llm.reading import read_choice

if TYPE_CHECKING:
    from sae_training.engine.model import Model

PROMPT = (
    "{question}\n\nChoose one of these answers:\n{options}\n\nReply with that answer, word for"
    " word, and nothing else."
)
LOW = 0.6
"""Kappa below which agreement is less than substantial (Landis & Koch 1977)."""


def open_judge(address: str, load: Callable[[str], "Model"], answers: Path) -> Judge:
    """A judge by the address of its language model: a local one by log-probability, an endpoint
    in words, its answers kept in a file.
    """
    llm = open_llm(address, load)
    return LogprobJudge(llm.model) if isinstance(llm, Local) else LLMJudge(Answered(llm, answers))


class LLMJudge:
    """A `Judge` that is a language model asked in words."""

    def __init__(self, llm: LLM, max_new_tokens: int = 24) -> None:
        self.llm, self.max_new_tokens = llm, max_new_tokens

    @property
    def name(self) -> str:
        """That of the model."""
        return self.llm.name

    def judge(self, questions: Sequence[str], options: Sequence[str]) -> list[Verdict]:
        """One of `options` for each question, in order; refusals and what cannot be read keep
        their text.
        """
        _check(options)
        listed = "\n".join(f"- {option}" for option in options)
        prompts = [ask(PROMPT.format(question=question, options=listed)) for question in questions]
        answers = ask_fitting(self.llm, prompts, max_new_tokens=self.max_new_tokens)
        return [
            (
                _too_long(self)
                if text is None
                else Verdict(*read_choice(text, options), text, self.name)
            )
            for text in answers
        ]


class LogprobJudge:
    """A `Judge` by the log-probabilities of a model that runs here."""

    def __init__(self, model: "Model") -> None:
        self.model = model

    @property
    def name(self) -> str:
        """Address, revision, and that options were scored."""
        return f"{self.model.name}@{self.model.revision[:12]} by log-probability"

    def judge(self, questions: Sequence[str], options: Sequence[str]) -> list[Verdict]:
        """The option that each question makes likeliest; its text holds the differences [nats].

        NaN is unparsed.
        """
        _check(options)
        listed = "\n".join(f"- {option}" for option in options)
        prompts = [
            PROMPT.format(question=question, options=listed) for question in ("", *questions)
        ]
        texts = list(options) if self.model.chat else [f" {option}" for option in options]
        longest = max(map(len, self.model.tokenize(texts)))
        fits = [
            len(ids) + longest <= self.model.context
            for ids in self.model.tokenize(prompts[1:], prompt=True)
        ]
        asked = [prompt for prompt, room in zip(prompts[1:], fits, strict=True) if room]
        if not asked:
            return [_too_long(self) for _ in questions]
        scores = self.model.score([prompts[0], *asked], texts).double().cpu().numpy()
        gains = iter(scores[1:] - scores[0])
        return [self._read(next(gains), options) if room else _too_long(self) for room in fits]

    def _read(self, gains: Float[np.ndarray, " answer"], options: Sequence[str]) -> Verdict:
        told = "; ".join(
            f"{option} {gain:+.3f}" for option, gain in zip(options, gains, strict=True)
        )
        return (
            Verdict(
                choice=options[int(gains.argmax())], status="parsed", text=told, judge=self.name
            )
            if np.isfinite(gains).all()
            else Verdict(choice="", status="unparsed", text=told, judge=self.name)
        )


@dataclass(frozen=True)
class Agreement:
    share: float
    """Share of questions with the same verdict both times [0 to 1]; NaN without any."""
    low: float
    """Lower end of its 95 % interval (Wilson)."""
    high: float
    """Upper end of it."""
    kappa: float
    """Cohen's kappa: agreement beyond that of two judges with these shares of options [at most
    1]; NaN if one option only."""
    n: int
    """Questions that were read both times."""
    missing: int
    """Questions refused, unparsed or too long at least once."""


def self_agreement(judge: Judge, questions: Sequence[str], options: Sequence[str]) -> Agreement:
    """How often the judge says the same when the options are turned round.

    Warns where kappa is below `LOW`.
    """
    first = judge.judge(questions, options)
    second = judge.judge(questions, list(options)[::-1])
    pairs = [
        (a.choice, b.choice)
        for a, b in zip(first, second, strict=True)
        if a.status == b.status == "parsed"
    ]
    found = agreement(pairs, len(questions) - len(pairs))
    if not found.kappa >= LOW:
        warnings.warn(
            f"{judge.name} agrees with itself in {found.share:.0%} of {found.n} questions when the"
            f" options are turned round (kappa {found.kappa:.2f}, {found.missing} unread); its"
            " verdicts carry little.",
            stacklevel=2,
        )
    return found


def agreement(pairs: Sequence[tuple[str, str]], missing: int = 0) -> Agreement:
    """Agreement of two series of verdicts, (first, second) each."""
    n = len(pairs)
    if not n:
        return Agreement(*[float("nan")] * 4, 0, missing)
    equal = sum(a == b for a, b in pairs)
    interval = stats.binomtest(equal, n).proportion_ci(method="wilson")
    names = {name for pair in pairs for name in pair}
    chance = (
        sum(sum(a == x for a, _ in pairs) * sum(b == x for _, b in pairs) for x in names) / n**2
    )
    kappa = (equal / n - chance) / (1 - chance) if chance < 1 else float("nan")
    return Agreement(
        share=equal / n,
        low=float(interval.low),
        high=float(interval.high),
        kappa=kappa,
        n=n,
        missing=missing,
    )


def _too_long(judge: Judge) -> Verdict:
    return Verdict(choice="", status="too-long", text="", judge=judge.name)


def _check(options: Sequence[str]) -> None:
    if len({option.strip().casefold() for option in options}) < max(2, len(options)):
        raise BadInput(
            "A judge needs at least two different options, got"
            f" {', '.join(map(repr, options)) or 'none'}."
        )
