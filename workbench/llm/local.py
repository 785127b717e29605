"""A model loaded here that talks, steered or not.

1. A conversation goes through the tokenizer's chat template
   (`sae_training/model/text_reader.py`).
2. A model without a template reads "role: text" lines and an open "assistant:"; what it writes ends
   where it begins to speak for somebody else.
3. Inside `model.steered(...)` the steered model talks. Its `name` must then say how it is steered,
   or rows and cached answers of the steered model would pass for those of the plain one.
4. A sampled answer depends on its conversation and the seed alone, not on what else was asked with
   it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from feature_store.errors import BadInput
from workbench.llm import Conversation

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.text_reader import Prompt

BATCH = 32
"""Conversations continued together, kept together, and lost together when the process dies."""
_NEXT_SPEAKER = re.compile(r"\n(?:system|user|assistant):")


class LocalLLM:
    """An `LLM` that is a model loaded here."""

    def __init__(self, model: "Model", steering: str = "") -> None:
        """Talk with `model`; `steering` names the steering that is active when it talks."""
        self.model, self.steering = model, steering
        self.batch = BATCH
        """Conversations continued together."""

    @property
    def machine(self) -> str:
        """What computes the answers."""
        return self.model.machine

    @property
    def name(self) -> str:
        """The model's identity, and its steering.

        Raises BadInput for a steered model whose steering was not named.
        """
        if self.model.is_steered and not self.steering:
            raise BadInput(
                "The model is steered and its name does not say how. Open it as LocalLLM(model,"
                " steering.name), or leave the steered block."
            )
        plain = self.model.identity
        return f"{plain} + {self.steering}" if self.steering else plain

    def chat(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Write the next message of the assistant in each conversation; greedy at temperature 0."""
        answers = self.chat_stream(
            conversations, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        return [text for _, text in answers]

    def chat_stream(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
    ) -> Iterator[tuple[int, str]]:
        """Give (number of the conversation, answer) as answers come, a batch at a time."""
        if self.model.steered_rows > 1:
            raise BadInput(
                "A talking model takes one steering for all, this one has"
                f" {self.model.steered_rows}. Steer with one at a time."
            )
        for start in range(0, len(conversations), self.batch):
            part = conversations[start : start + self.batch]
            if any(message.image for conversation in part for message in conversation):
                raise BadInput(
                    f"{self.model.name} is talked to in words and sees no images. Measure a model"
                    " that sees (--model vision:FOLDER-OR-HUB-ID)."
                )
            texts = self.model.generate(
                self._prompts(part), max_new_tokens, temperature, [seed] * len(part)
            )
            for number, text in enumerate(texts, start):
                yield number, (text if self.model.chat else _NEXT_SPEAKER.split(text)[0]).strip()

    def fits(self, conversations: Sequence[Conversation]) -> list[bool]:
        """Tell for each conversation whether it leaves the model room for an answer."""
        return [
            len(ids) < self.model.context
            for ids in self.model.tokenize(self._prompts(conversations), prompt=True)
        ]

    def _prompts(self, conversations: Sequence[Conversation]) -> "list[Prompt]":
        if self.model.chat:
            return [
                [{"role": m.role, "content": m.content} for m in conversation]
                for conversation in conversations
            ]
        return [plain_prompt(conversation) for conversation in conversations]


def plain_prompt(conversation: Conversation) -> str:
    """Write a conversation as lines of "role: text", the assistant's turn open."""
    return "\n".join([*(f"{m.role}: {m.content}" for m in conversation), "assistant:"])
