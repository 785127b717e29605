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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy import stats

from feature_store.errors import BadInput
from workbench.llm import LLM, Judge, Verdict, ask, ask_fitting, open_llm
from workbench.llm.cached import CachedLLM
from workbench.llm.local import LocalLLM
from workbench.llm.reading import RULES, read_choice

if TYPE_CHECKING:
    from sae_training.engine.model import Model

PROMPT = (
    "{question}\n\nChoose one of these answers:\n{options}\n\nReply with that answer, word for"
    " word, and nothing else."
)
LOW = 0.6
"""Kappa below which agreement is less than substantial (Landis & Koch 1977)."""


def open_judge(address: str, load: Callable[[str], "Model"], answers: Path) -> Judge:
    """Open a judge by the address of its language model.

    A model that runs here judges by log-probability; an endpoint judges in words, and the file
    `answers` keeps what it said.
    """
    llm = open_llm(address, load)
    if isinstance(llm, LocalLLM):
        return LogprobJudge(llm.model)
    return LLMJudge(CachedLLM(llm, answers))


def inputs_of(judge: Judge) -> dict[str, str]:
    """Give what a run keeps of its judge among its inputs: its name, and how its words are read."""
    if isinstance(judge, LLMJudge):
        return {"judge": judge.name, "reading": RULES}
    return {"judge": judge.name}


class LLMJudge:
    """A `Judge` that is a language model asked in words."""

    def __init__(self, llm: LLM, max_new_tokens: int = 24) -> None:
        """Ask `llm`, whose replies are cut after `max_new_tokens` tokens."""
        self.llm = llm
        self.max_new_tokens = max_new_tokens

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.llm.name

    def judge(self, questions: Sequence[str], options: Sequence[str]) -> list[Verdict]:
        """Choose one of `options` for each question, in order.

        Refusals and replies that cannot be read keep their text.
        """
        _check(options)
        listed = "\n".join(f"- {option}" for option in options)
        prompts = [ask(PROMPT.format(question=question, options=listed)) for question in questions]
        answers = ask_fitting(self.llm, prompts, max_new_tokens=self.max_new_tokens)
        verdicts = []
        for text in answers:
            if text is None:
                verdicts.append(_too_long(self))
                continue
            choice, status = read_choice(text, options)
            verdicts.append(Verdict(choice=choice, status=status, text=text, judge=self.name))
        return verdicts


class LogprobJudge:
    """A `Judge` by the log-probabilities of a model that runs here."""

    def __init__(self, model: "Model") -> None:
        """Score the options with `model`, which is loaded here."""
        self.model = model

    @property
    def name(self) -> str:
        """Identity of the model, and that options were scored."""
        return f"{self.model.identity} by log-probability"

    def judge(self, questions: Sequence[str], options: Sequence[str]) -> list[Verdict]:
        """Choose the option that each question makes likeliest, in order.

        A verdict's text holds the gain of each option in log-probability [nats]. A verdict with a
        NaN among them is unparsed.
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
        listed = "; ".join(
            f"{option} {gain:+.3f}" for option, gain in zip(options, gains, strict=True)
        )
        if not np.isfinite(gains).all():
            return Verdict(choice="", status="unparsed", text=listed, judge=self.name)
        choice = options[int(gains.argmax())]
        return Verdict(choice=choice, status="parsed", text=listed, judge=self.name)


@dataclass(frozen=True)
class JudgeAgreement:
    """How far two series of verdicts agree."""

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


def self_agreement(
    judge: Judge, questions: Sequence[str], options: Sequence[str]
) -> JudgeAgreement:
    """Measure how often a judge says the same when the options are turned round.

    Warns where kappa is below `LOW`.
    """
    first = judge.judge(questions, options)
    second = judge.judge(questions, list(options)[::-1])
    pairs = [
        (a.choice, b.choice)
        for a, b in zip(first, second, strict=True)
        if a.status == b.status == "parsed"
    ]
    agreed = agreement(pairs, len(questions) - len(pairs))
    if not agreed.kappa >= LOW:  # NaN warns as well
        warnings.warn(
            f"{judge.name} agrees with itself in {agreed.share:.0%} of {agreed.n} questions when"
            f" the options are turned round (kappa {agreed.kappa:.2f}, {agreed.missing} unread);"
            " its verdicts carry little.",
            stacklevel=2,
        )
    return agreed


def agreement(pairs: Sequence[tuple[str, str]], missing: int = 0) -> JudgeAgreement:
    """Compare two series of verdicts, given as (first, second) for each question.

    `missing` counts the questions that were not read both times.

        agreement([("yes", "yes"), ("no", "yes")]).share  # -> 0.5
    """
    n = len(pairs)
    if not n:
        nan = float("nan")
        return JudgeAgreement(share=nan, low=nan, high=nan, kappa=nan, n=0, missing=missing)
    equal = sum(a == b for a, b in pairs)
    interval = stats.binomtest(equal, n).proportion_ci(method="wilson")
    names = {name for pair in pairs for name in pair}
    first = Counter(a for a, _ in pairs)
    second = Counter(b for _, b in pairs)
    chance = sum(first[name] * second[name] for name in names) / n**2
    kappa = (equal / n - chance) / (1 - chance) if chance < 1 else float("nan")
    return JudgeAgreement(
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
