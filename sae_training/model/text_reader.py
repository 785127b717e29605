"""From texts and conversations to the token ids that a model reads.

1. Texts become ids in one place (`encode`); a model with a chat template gets its prompts, and
   corpora of conversations, through it (`by_template`).
2. What a tokenizer sets after every text (an end token, BERT's `[SEP]`) is left away: a text's ids
   are what a model goes on from. What it sets before stays, or is as an SAE's makers had it
   (`beginning`).
3. A template that tells the day is told one (`clock.py`); one that thinks first has its thought
   closed (`thoughts.py`); one that takes no system message gets its words at the head of the
   user's first (`messages`). A token that the model has no embedding of is refused.

Left out: ids to texts as people read them (`tokens.py`).
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar, cast

from torch import nn

from feature_store.errors import BadInput, Incompatible
from feature_store.files import shown
from sae_training.model import clock, thoughts

Prompt = str | Sequence[Mapping[str, str]]
"""What a model is asked: a text, or the messages of a conversation, each with its `role` and
`content` (chat models only)."""

PROBE = "Qxjz"
"""A text that no chat template writes by itself, to see what becomes of it."""

AnyReader = TypeVar("AnyReader", bound="TextReader")


class TextReader:
    """A model's tokenizer and chat template, and what stands before its texts.

    For example:

        reader.tokenize(["Kindness matters."])  # [[1, 17, 42]]
    """

    def __init__(self, module: nn.Module, tokenizer: Any, name: str, chat: bool) -> None:
        """Read texts for `module`; `tokenizer` may be None for work on ids alone."""
        self.module: Any = module
        """The Hugging Face model, in evaluation mode."""
        self.tokenizer = tokenizer
        """Its Hugging Face tokenizer."""
        self.name = name
        """What it is called: folder, hub id, or the word that a study has for it."""
        self.chat = chat
        """Whether prompts go through the tokenizer's chat template."""
        self.today = date.today().isoformat()
        """Day that the chat template tells, where it asks for the time."""
        self.begins: bool | None = None
        """Whether every text begins with a BOS token; None: as the tokenizer sets it."""

    @property
    def template_holder(self) -> Any:
        """What writes by the chat template: the tokenizer; of a model that sees, its processor."""
        return self.tokenizer

    @property
    def template(self) -> str:
        """The chat template; empty where none is used."""
        return self.tokenizer.get_chat_template() if self.chat else ""

    @cached_property
    def tells_day(self) -> bool:
        """Whether the chat template asks for the time, so that answers depend on the day."""
        return bool(self.template) and clock.reads_clock(self.template, self.name)

    @cached_property
    def thinks(self) -> bool:
        """Whether the chat template has the model think first, unless it is kept from it."""
        if not self.chat:
            return False
        asked = [self.message("user", PROBE)]
        try:
            return bool(self.thought_end) or self._applied(asked) != self._applied(
                asked, thoughts.NO_THOUGHT
            )
        except BadInput:  # said when it is to write a prompt
            return False

    @cached_property
    def thought_end(self) -> str:
        """What closes the thought in which the chat template ends every prompt; mostly empty."""
        try:
            prompt = self._applied([self.message("user", PROBE)], thoughts.NO_THOUGHT)
        except BadInput:  # said when it is to write a prompt
            return ""
        return thoughts.end(prompt, self.name)

    @cached_property
    def takes_system(self) -> bool:
        """Whether the chat template writes a system message: some refuse it, some pass over it."""
        opening = [self.message("system", PROBE), self.message("user", "a")]
        try:
            return PROBE in self._applied(opening, thoughts.NO_THOUGHT)
        except BadInput:
            return False

    @cached_property
    def set_around(self) -> tuple[list[int], list[int]]:
        """Tokens that the tokenizer sets before every text, and after every text."""
        for text in ("a", "1", "."):
            bare, whole = (
                self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
                for special in (False, True)
            )
            for at in range(len(whole) - len(bare) + 1):
                if bare and whole[at : at + len(bare)] == bare:
                    return whole[:at], whole[at + len(bare) :]
        raise Incompatible(
            f"The tokenizer of {self.name} writes a text in other tokens when it sets its special"
            " ones, so where a prompt ends cannot be told. Use another tokenizer."
        )

    @cached_property
    def _without_row(self) -> dict[int, str]:
        """Token -> how it is written, of those that the embedding has no row for."""
        rows = len(self.module.get_input_embeddings().weight)
        return {id: token for token, id in self.tokenizer.get_vocab().items() if id >= rows}

    @property
    def before(self) -> list[int]:
        """Tokens that stand before every text."""
        if self.begins is None:
            return self.set_around[0]
        return [self._start_token] if self.begins else []

    @property
    def _start_token(self) -> int:
        """The tokenizer's BOS token; where it has none its end token, as TransformerLens takes."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return token
        raise Incompatible(
            f"Texts should begin with a BOS token (prepend_bos), and the tokenizer of {self.name}"
            " has neither BOS nor end token. Needed is the tokenizer with which the SAE was made."
        )

    def beginning(self: AnyReader, bos: bool | None) -> AnyReader:
        """Give the model as it reads texts with a BOS token before them, or with nothing.

        Both share module, hooks and lock. None, or what the tokenizer does anyhow, gives the model
        itself. What a chat template writes first stays: it is the prompt. Raises Incompatible where
        the tokenizer has no such token.

            model.beginning(True).tokenize(["one text"])  # [[0, 17, 42]]
        """
        if bos is None or bos == bool(self.set_around[0]):
            return self
        other = copy.copy(self)
        other.begins = bos
        other.name = f"{self.name} {'after' if bos else 'without'} a BOS token"
        _ = other.before
        return other

    def begun(self, ids: list[int]) -> list[int]:
        """Give the tokens of a whole text or prompt with what `beginning` wants before it."""
        if self.begins is None:
            return ids
        if self.begins:
            return ids if ids[:1] == self.before else [*self.before, *ids]
        taken = self.set_around[0]
        return ids[len(taken) :] if ids[: len(taken)] == taken else ids

    def render(self, prompt: Prompt) -> str:
        """Write a prompt as the model reads it: inside the chat template where one is used."""
        if not self.chat:
            assert isinstance(prompt, str), "messages need a chat template"
            return prompt
        advice = "Leave out what it refuses, or use another model."
        return self.by_template(self.messages(prompt), advice)

    def messages(self, prompt: Prompt) -> list[Mapping[str, Any]]:
        """Write a prompt as messages for the chat template.

        Where that takes no system message, its words open the user's first message, which is
        warned of once.
        """
        if isinstance(prompt, str):
            return [self.message("user", prompt)]
        opening, *rest = prompt
        if opening["role"] != "system" or self.takes_system:
            return [self.message(m["role"], m["content"]) for m in prompt]
        warnings.warn(
            f"The chat template of {self.name} takes no system message: its words open the user's"
            " first message.",
            stacklevel=1,
        )
        words = opening["content"]
        if rest and rest[0]["role"] == "user":
            words = f"{words}\n\n{rest.pop(0)['content']}"
        return [self.message("user", words), *(self.message(m["role"], m["content"]) for m in rest)]

    def message(self, role: str, text: str) -> Mapping[str, Any]:
        """Write one message as the chat template takes it."""
        return {"role": role, "content": text}

    def by_template(
        self, messages: Sequence[Mapping[str, Any]], advice: str, ask: bool = True
    ) -> str:
        """Write a conversation by the chat template, which is told the model's day.

        With `ask` it goes up to where the model answers, behind the thought of a template that
        thinks first. Raises BadInput, which ends with `advice`, where the template refuses the
        conversation.
        """
        try:
            text = self._applied(messages, thoughts.NO_THOUGHT, ask)
        except BadInput as error:
            raise BadInput(f"{error} {advice}") from None
        return text + self.thought_end if ask else text

    def _applied(
        self,
        messages: Sequence[Mapping[str, Any]],
        variables: Mapping[str, bool] = MappingProxyType({}),
        ask: bool = True,
    ) -> str:
        """Write messages by the chat template as it stands, which sees `variables` beside them."""
        if self.tells_day:
            clock.stop(self.template, self.today)
        try:
            return str(
                self.template_holder.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=ask, **variables
                )
            )
        except Exception as error:  # a template is a stranger's program
            raise BadInput(
                f"The chat template of {self.name} refuses the conversation: {shown(error, 240)}."
            ) from None

    def tokenize(self, texts: Sequence[Prompt], prompt: bool = False) -> list[list[int]]:
        """Turn texts into token ids, what the tokenizer sets before them included, and nothing
        after them. `beginning` decides otherwise of what stands before them.

        With `prompt`, through the chat template where the model has one.
        """
        if prompt and self.chat:
            # The template writes its own special tokens.
            rows = self.encode([self.render(text) for text in texts], special=False)
            return [self.begun(row) for row in rows] if self.begins else rows
        return self.encode(cast(Sequence[str], texts), special=True)

    def encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        """Turn written texts into token ids, with `special` after what the tokenizer sets before.

        Raises Incompatible for a token that the model has no embedding of.
        """
        if not texts:
            return []
        ids = self.tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        if special:
            ids = [self.begun(self.without_end(row)) for row in ids]
        return self.checked(ids)

    def without_end(self, ids: list[int]) -> list[int]:
        """Take away what the tokenizer has set after a text."""
        after = self.set_around[1]
        return ids[: len(ids) - len(after)] if after and ids[-len(after) :] == after else ids

    def checked(self, rows: list[list[int]]) -> list[list[int]]:
        """Give ids back; raise Incompatible for one that the model has no embedding of."""
        if self._without_row:
            for id in {id for row in rows for id in row} & self._without_row.keys():
                raise Incompatible(
                    f"The tokenizer of {self.name} writes {self._without_row[id]!r} as token {id},"
                    f" and the model's embedding ends at {min(self._without_row) - 1}. Take the"
                    " tokenizer that belongs to the weights, or weights resized to it."
                )
        return rows
