"""Ratings of steered texts as AxBench has them: concept, instruct and fluency, 0 to 2 each (Wu et
al. 2025, section 3).

1. Concept: does the text hold the value? Instruct: does it do what was asked? Fluency: is it the
   language it should be?
2. `Asked` puts the three questions to a `Judge`, in our own words; a verdict that could not be read
   is NaN, and counted.
3. `Planted` knows the organism's language, and needs no judge. Concept: 2 where sentences hold the
   value and none rejects it, 1 where both occur, else 0. Instruct: 2 where every whole sentence is
   one of the language, 1 where half of them are, else 0. Fluency, from the unsteered model's loss
   on the text: 2 up to the 95 % quantile of its own texts, 1 up to `SLACK` beyond it, else 0.

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
    name: str
    """Written beside every rating."""

    def rate(
        self,
        values: Sequence[Value],
        prompts: Sequence[str],
        texts: Sequence[str],
        losses: Float[np.ndarray, " text"],
    ) -> Float[np.ndarray, "text aspect"]:
        """Ratings [0 to 2], NaN where unread.

        `losses`: the unsteered model's mean loss on each text [nats per token].
        """
        ...


class Asked:
    """Ratings by a judge."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    @property
    def name(self) -> str:
        """That of the judge."""
        return self.judge.name

    def rate(
        self,
        values: Sequence[Value],
        prompts: Sequence[str],
        texts: Sequence[str],
        losses: Float[np.ndarray, " text"],
    ) -> Float[np.ndarray, "text aspect"]:
        """Three questions a text."""
        found = np.zeros((len(texts), len(ASPECTS)))
        written = [k for k, text in enumerate(texts) if text.strip()]
        for aspect, question in enumerate(QUESTIONS):
            asked = [
                question.format(
                    name=values[k].name,
                    definition=values[k].definition,
                    prompt=prompts[k],
                    text=texts[k].strip(),
                )
                for k in written
            ]
            verdicts = self.judge.judge(asked, OPTIONS) if asked else []
            found[written, aspect] = [
                OPTIONS.index(v.choice) if v.status == "parsed" else np.nan for v in verdicts
            ]
        return found


class Planted:
    """Ratings by what is known of the organism's language; `own` are the losses of its unsteered
    texts [nats per token].
    """

    name = "planted language of the organism"

    def __init__(self, own: Float[np.ndarray, " text"]) -> None:
        self.limit = float(np.nanquantile(own, 0.95))

    def rate(
        self,
        values: Sequence[Value],
        prompts: Sequence[str],
        texts: Sequence[str],
        losses: Float[np.ndarray, " text"],
    ) -> Float[np.ndarray, "text aspect"]:
        """Read sentence by sentence."""
        return np.array(
            [
                self._one(value.id, text, loss)
                for value, text, loss in zip(values, texts, losses, strict=True)
            ]
        ).reshape(-1, 3)

    def _one(self, value: str, text: str, loss: float) -> tuple[float, float, float]:
        said = reading.read(text)
        if not text.strip():
            return 0.0, 0.0, 0.0
        signs = {one.sign for one in said if one and one.owner == value}
        known = np.mean([one is not None for one in said]) if said else 0.0
        concept = 0.0 if 1 not in signs else 1.0 if -1 in signs else 2.0
        return (
            concept,
            2.0 if known == 1 else 1.0 if known >= 0.5 else 0.0,
            2.0 if loss <= self.limit else 1.0 if loss <= self.limit + SLACK else 0.0,
        )
