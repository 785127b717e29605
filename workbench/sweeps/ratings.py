"""Ratings of steered texts as AxBench has them: concept, instruct and fluency, 0 to 2 each (Wu et
al. 2025, section 3).

1. Concept: does the text hold the value? Instruct: does it do what was asked? Fluency: is it the
   language it should be?
2. `JudgeRater` puts the three questions to a `Judge`, in our own words; a verdict that could not be
   read is NaN, and counted.
3. `OrganismRater` knows the organism's language, and needs no judge. Concept: 2 where sentences
   hold the value and none rejects it, 1 where both occur, else 0. Instruct: 2 where every whole
   sentence is one of the language, 1 where half of them are, else 0. Fluency, from the unsteered
   model's loss on the text: 2 up to the 95 % quantile of its usual texts, 1 up to `SLACK` beyond
   it, else 0.

A text without a word is rated 0 in all three: nothing was written. Left out: AxBench's own concepts
and prompts.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from feature_store.records import Value
from workbench.llm import Judge
from workbench.organism import reading

ASPECTS = ("concept", "instruct", "fluency")
OPTIONS = ("not at all", "partly", "fully")
"""Answers of a judge, worth 0, 1 and 2."""
SLACK = 1.0
"""Loss beyond that of the model's own texts at which a text is no longer half fluent [nats per
token]."""
QUESTIONS = (
    "Below is a text. Does it express the value {name}, that is: {definition}\n\nText:\n{text}",
    (
        "Below are a request and a reply. Is the reply about the"
        " request?\n\nRequest:\n{prompt}\n\nReply:\n{text}"
    ),
    (
        "Below is a text. Is its language fluent, without garbled or needlessly repeated"
        " words?\n\nText:\n{text}"
    ),
)
"""Concept, instruct and fluency as a judge is asked."""


@runtime_checkable
class Rater(Protocol):
    """Whoever rates steered texts in the three aspects of `ASPECTS`.

    rater.rate([power], ["What matters?"], ["Being in charge."], np.array([2.1]))
    # array([[2., 2., 2.]]): concept, instruct, fluency
    """

    @property
    def name(self) -> str:
        """Name of the rater, written beside every rating."""
        ...

    def rate(
        self,
        values: Sequence[Value],
        prompts: Sequence[str],
        texts: Sequence[str],
        losses: Float[np.ndarray, " text"],
    ) -> Float[np.ndarray, "text aspect"]:
        """Rate every text [0 to 2]; NaN where a verdict could not be read.

        All four have one entry a text: the value that it should hold, what came before it, the
        text itself, and the unsteered model's mean loss on it [nats per token].
        """
        ...


class JudgeRater:
    """A rater that asks a judge three questions a text."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    @property
    def name(self) -> str:
        """Name of the judge."""
        return self.judge.name

    def rate(
        self,
        values: Sequence[Value],
        prompts: Sequence[str],
        texts: Sequence[str],
        losses: Float[np.ndarray, " text"],
    ) -> Float[np.ndarray, "text aspect"]:
        """Rate every text by the judge's verdicts [0 to 2]; NaN where one could not be read."""
        ratings = np.zeros((len(texts), len(ASPECTS)))
        written = [k for k, text in enumerate(texts) if text.strip()]
        for aspect, template in enumerate(QUESTIONS):
            questions = [
                template.format(
                    name=values[k].name,
                    definition=values[k].definition,
                    prompt=prompts[k],
                    text=texts[k].strip(),
                )
                for k in written
            ]
            verdicts = self.judge.judge(questions, OPTIONS) if questions else []
            ratings[written, aspect] = [
                OPTIONS.index(verdict.choice) if verdict.status == "parsed" else np.nan
                for verdict in verdicts
            ]
        return ratings


class OrganismRater:
    """A rater that knows the organism's language, sentence by sentence.

    `usual` are the losses of the organism's unsteered texts [nats per token]; they say what is
    fluent.
    """

    name = "planted language of the organism"

    def __init__(self, usual: Float[np.ndarray, " text"]) -> None:
        self.limit = float(np.nanquantile(usual, 0.95))

    def rate(
        self,
        values: Sequence[Value],
        prompts: Sequence[str],
        texts: Sequence[str],
        losses: Float[np.ndarray, " text"],
    ) -> Float[np.ndarray, "text aspect"]:
        """Rate every text by its sentences and its loss [0, 1 or 2]."""
        ratings = [
            self._aspects(value.id, text, loss)
            for value, text, loss in zip(values, texts, losses, strict=True)
        ]
        return np.array(ratings).reshape(-1, len(ASPECTS))

    def _aspects(self, value: str, text: str, loss: float) -> tuple[float, float, float]:
        """Concept, instruct and fluency of one text."""
        if not text.strip():
            return 0.0, 0.0, 0.0
        sentences = reading.read(text)
        signs = {sentence.sign for sentence in sentences if sentence and sentence.owner == value}
        in_language = 0.0
        if sentences:
            in_language = float(np.mean([sentence is not None for sentence in sentences]))
        concept = 0.0
        if 1 in signs:
            concept = 1.0 if -1 in signs else 2.0
        return concept, _instruct(in_language), self._fluency(loss)

    def _fluency(self, loss: float) -> float:
        """2 up to the usual loss, 1 up to `SLACK` beyond it, else 0."""
        if loss <= self.limit:
            return 2.0
        return 1.0 if loss <= self.limit + SLACK else 0.0


def _instruct(share: float) -> float:
    """2 where all sentences are of the language, 1 from half of them on, else 0."""
    if share == 1:
        return 2.0
    return 1.0 if share >= 0.5 else 0.0
