"""A model that sees and runs here answers questions with images: by log-probability or in words,
steered or not.

1. A question without an image is answered as `LocalRespondent` does. One with an image is known by
   the digest of the file as well, so what is kept is found again only while the picture is the
   same.
2. An image is opened with care (`material/images.py`) when its turn comes; a few are held at once.
3. An image that is gone or broken stops the run with its name: the index that found it was made of
   another folder than there is now.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from feature_store.files import digest
from feature_store.progress import Progress, StageProgress
from sae_training.engine.vision import Shown, VisionModel
from workbench.llm.answer_file import answer_key
from workbench.llm.units import Unit, cut
from workbench.material.images import open_image
from workbench.measuring.questions import Question, as_continued, prompt_of
from workbench.measuring.respondents import (
    WRITTEN,
    Length,
    LocalRespondent,
    sampling_seeds,
)

T = TypeVar("T")


class VisionRespondent(LocalRespondent):
    """A vision-language model that runs here, under one row of `edit` where that is given."""

    model: VisionModel

    def fits(self, questions: Sequence[Question], room: int) -> list[bool]:
        """Tell for each question, its image included, whether it fits into the model's context."""
        seen, unseen = _apart(questions)
        longest = {answers: self._longest(answers) for answers in {q.answers for q in questions}}
        return _merged(
            questions,
            [self._fits(q, room or longest[q.answers]) for q in seen],
            super().fits(unseen, room) if unseen else [],
        )

    def score(
        self, questions: Sequence[Question], length: Length, progress: Progress
    ) -> list[tuple[float, ...]]:
        """Give the log-probability of each question's answers [nats, per token or summed]."""
        seen, unseen = _apart(questions)
        unseen_scores = super().score(unseen, length, progress) if unseen else []
        asked = [
            answer_key(self.name, prompt_of(q, self.model.chat), q.answers, digest(q.item.image))
            for q in seen
        ]
        self._catch_up(self._scores, "logprobs")
        keys = [""] * len(seen)
        done = 0
        progress("asking", 0, len(seen))
        # The model scores one set of answers at a time.
        for answers in dict.fromkeys(q.answers for q in seen):
            rows = [row for row, q in enumerate(seen) if q.answers == answers]
            units = cut([asked[row] for row in rows], range(len(rows)), WRITTEN, self.model.machine)
            for row, key in zip(rows, units.keys, strict=True):
                keys[row] = key
            for unit in units.parts:
                if unit.lacks(self._answers):
                    self._score_shown(unit, [seen[rows[number]] for number in unit.rows])
                done += len(unit.rows)
                progress("asking", done, len(seen))
        return _merged(questions, self._by_length(keys, seen, length), unseen_scores)

    def _score_shown(self, unit: Unit, questions: Sequence[Question]) -> None:
        """Score the questions of a unit, all with the same answers, and keep the scores."""
        options = as_continued(questions[0].answers, self.model)
        with self._steered():
            scores = self.model.score_shown([self._shown(q) for q in questions], options)
        self._keep_scores(unit.keys, list(scores.double().numpy()))

    def answer(
        self,
        questions: Sequence[Question],
        new_tokens: int,
        temperature: float,
        progress: Progress,
    ) -> list[str]:
        """Write an answer of at most `new_tokens` to each question."""
        seen, unseen = _apart(questions)
        unseen_texts = super().answer(unseen, new_tokens, temperature, progress) if unseen else []
        prompts = [prompt_of(q, self.model.chat) for q in seen]
        seeds = sampling_seeds(seen, temperature)
        images = [digest(q.item.image) for q in seen]
        asked = [
            answer_key(self.name, prompt, new_tokens, temperature, seed, image)
            for prompt, seed, image in zip(prompts, seeds, images, strict=True)
        ]
        records = [
            {
                "name": self.name,
                "prompt": prompt,
                "image": image,
                "max_new_tokens": new_tokens,
                "temperature": temperature,
                "seed": seed,
            }
            for prompt, image, seed in zip(prompts, images, seeds, strict=True)
        ]

        def write(rows: Sequence[int], _: StageProgress) -> list[str]:
            """Have the model write on, with the images before it."""
            return self.model.generate_shown(
                [self._shown(seen[row]) for row in rows],
                new_tokens,
                temperature,
                [seeds[row] for row in rows],
            )

        texts = self._written(asked, records, write, progress)
        return _merged(questions, texts, unseen_texts)

    def _shown(self, question: Question) -> Shown:
        """Open the question's image, to be shown with its prompt."""
        return Shown(prompt_of(question, self.model.chat), open_image(question.item.image))

    def _fits(self, question: Question, room: int) -> bool:
        """Tell whether a question with its image leaves `room` tokens for the answer."""
        return self.model.length(self._shown(question)) + room <= self.model.context


def _apart(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Split questions into those with an image and those without."""
    seen = [q for q in questions if q.item.image]
    unseen = [q for q in questions if not q.item.image]
    return seen, unseen


def _merged(questions: Sequence[Question], seen: Iterable[T], unseen: Iterable[T]) -> list[T]:
    """Bring answers to questions with and without images back into the questions' order."""
    with_image, without = iter(seen), iter(unseen)
    return [next(with_image) if q.item.image else next(without) for q in questions]
