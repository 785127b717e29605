"""A model that sees and runs here answers questions with images: by log-probability or in words,
steered or not.

1. A question without an image is answered as `LocalRespondent` does. One with an image is known by the
   digest of the file as well, so what is kept is found again only while the picture is the same.
2. An image is opened with care (`vision/images.py`) when its turn comes; a few are held at once.
3. An image that is gone or broken stops the run with its name: the index that found it was made of
   another folder than there is now.
"""

from collections.abc import Sequence
from itertools import groupby

from feature_store.files import digest
from feature_store.progress import Progress
from sae_training.engine.vision import Shown, VisionModel
from workbench.llm.lines import answer_key
from workbench.material.images import open_image
from workbench.measuring.questions import Question, as_continued, prompt_of
from workbench.measuring.respondents import WRITTEN, Length, LocalRespondent


class VisionRespondent(LocalRespondent):
    """A loaded vision-language model, under one row of `edit` where that is given."""

    model: VisionModel

    def fits(self, asked: Sequence[Question], room: int) -> list[bool]:
        rest = [q for q in asked if not q.item.image]
        blind = iter(super().fits(rest, room) if rest else [])
        longest = {
            q.answers: max((len(ids) for ids in self._tokens(q.answers)), default=0) for q in asked
        }
        return [
            self._fits(q, room or longest[q.answers]) if q.item.image else next(blind)
            for q in asked
        ]

    def score(
        self, asked: Sequence[Question], length: Length, progress: Progress
    ) -> list[tuple[float, ...]]:
        rest = [q for q in asked if not q.item.image]
        blind = iter(super().score(rest, length, progress) if rest else [])
        seen = [q for q in asked if q.item.image]
        keys = [
            answer_key(self.name, prompt_of(q, self.model.chat), q.answers, digest(q.item.image))
            for q in seen
        ]
        self._catch_up(self._scores, "logprobs")
        missing = sorted(
            {key: q for key, q in zip(keys, seen, strict=True) if key not in self._known}.items(),
            key=lambda one: one[1].answers,
        )
        done = len(seen) - len(missing)
        for answers, group in groupby(missing, key=lambda one: one[1].answers):
            same = list(group)
            for start in range(0, len(same), WRITTEN):
                part = same[start : start + WRITTEN]
                with self._steered():
                    found = self.model.score_shown(
                        [self._shown(q) for _, q in part], as_continued(answers, self.model)
                    )
                self._keep_scores([key for key, _ in part], list(found.double().numpy()))
                done += len(part)
                progress("asking", done, len(seen))
        told = iter(self._by_length(keys, seen, length))
        return [next(told) if q.item.image else next(blind) for q in asked]

    def answer(
        self, asked: Sequence[Question], new_tokens: int, temperature: float, progress: Progress
    ) -> list[str]:
        rest = [q for q in asked if not q.item.image]
        blind = iter(super().answer(rest, new_tokens, temperature, progress) if rest else [])
        seen = [q for q in asked if q.item.image]
        seeds = [q.seed if temperature else 0 for q in seen]
        prompts = [prompt_of(q, self.model.chat) for q in seen]
        images = [digest(q.item.image) for q in seen]
        keys = [
            answer_key(self.name, p, new_tokens, temperature, s, i)
            for p, s, i in zip(prompts, seeds, images, strict=True)
        ]
        self._catch_up(self._texts, "text")
        missing = list(
            {key: row for row, key in enumerate(keys) if key not in self._known}.values()
        )
        for start in range(0, len(missing), WRITTEN):
            part = missing[start : start + WRITTEN]
            with self._steered():
                texts = self.model.generate_shown(
                    [self._shown(seen[row]) for row in part],
                    new_tokens,
                    temperature,
                    [seeds[row] for row in part],
                )
            told = {
                keys[row]: {
                    "name": self.name,
                    "prompt": prompts[row],
                    "image": images[row],
                    "max_new_tokens": new_tokens,
                    "temperature": temperature,
                    "seed": seeds[row],
                    "text": text,
                }
                for row, text in zip(part, texts, strict=True)
            }
            self._keep(self._texts, told, "text")
            progress("asking", len(seen) - len(missing) + start + len(part), len(seen))
        found = iter([self._known[key] for key in keys])
        return [next(found) if q.item.image else next(blind) for q in asked]

    def _shown(self, question: Question) -> Shown:
        return Shown(prompt_of(question, self.model.chat), open_image(question.item.image))

    def _fits(self, question: Question, room: int) -> bool:
        return self.model.length(self._shown(question)) + room <= self.model.context
