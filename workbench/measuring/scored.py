"""Questions whose answers are scored by log-probability, and what the scores mean.

1. `ScoredQuestions.of` lays out the prompts and the answers of each, as the model would continue
   with them.
2. `ratings` turns log-probabilities into a number a question: on a scale the expectation under the
   softmax over its answers [1 to number of options]; in mode `voice` held less reversed
   [nats per token].
3. `topics` gives, in mode `voice`, what held and reversed have in common.

Every sweep asks through this, so that a question's mode is known in one place. Left out: words that
a model writes (`reading`), and what ratings add up to (`profiles`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from workbench.measuring.questions import Question, as_continued, expected_ratings, prompt_of

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.text_reader import Prompt


@dataclass(frozen=True, eq=False)
class ScoredQuestions:
    """Questions as they are put to one model, with a meaning for the scores of their answers."""

    questions: Sequence[Question]
    """The questions, all on one scale or all voiced."""
    prompts: "list[Prompt]"
    """What the model reads, a question each."""
    options: list[list[str]]
    """What it might go on with, by question."""
    lengths: Float[np.ndarray, "question option"]
    """Tokens of each option [tokens]."""

    @classmethod
    def of(cls, questions: Sequence[Question], model: "Model") -> "ScoredQuestions":
        """Lay out questions for a model.

        Raises BadInput for a mixture of scales, whose ratings have no unit in common.

            asked = ScoredQuestions.of(questions, model)
            scores = scoring.sweep(model, asked.prompts, asked.options, edit, site)
            asked.ratings(scores.base.double().numpy())  # [question]
        """
        if len({(q.voiced, len(q.answers)) for q in questions}) > 1:
            raise BadInput(
                "Questions on different scales have no unit in common. Ask those of one scale."
            )
        answers = dict.fromkeys(q.answers for q in questions)
        options = {texts: as_continued(texts, model) for texts in answers}
        lengths = {
            texts: [len(ids) for ids in model.encode(options[texts], special=False)]
            for texts in answers
        }
        return cls(
            questions=questions,
            prompts=[prompt_of(q, model.chat) for q in questions],
            options=[options[q.answers] for q in questions],
            lengths=np.array([lengths[q.answers] for q in questions], dtype=float),
        )

    @property
    def voiced(self) -> bool:
        """Whether statements are scored as the model's own words."""
        return self.questions[0].voiced

    def ratings(
        self, logprobs: Float[np.ndarray, "*rows question option"]
    ) -> Float[np.ndarray, "*rows question"]:
        """Turn log-probabilities, summed over an answer's tokens [nats], into ratings."""
        if not self.voiced:
            return expected_ratings(logprobs, self.questions)
        held, reverse = np.moveaxis(logprobs / self.lengths, -1, 0)
        return (held - reverse) * np.array([q.item.key for q in self.questions])

    def topics(
        self, logprobs: Float[np.ndarray, "*rows question option"]
    ) -> Float[np.ndarray, "*rows question"]:
        """Average held and reversed: how likely talk about the topic is [nats per token]."""
        return (logprobs / self.lengths).mean(-1)
