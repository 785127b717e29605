"""A language model whose answers are kept on disk, so that nothing is asked or paid for twice and a
run that died midway goes on.

1. An answer is found by the digest of what determines it: the model's name, the conversation,
   length, temperature and seed. The same question with another seed is another question.
2. Every answer is on disk (`lines.py`) before it is used; before anything is asked, what other
   processes have added is read.
3. An endpoint's answers must all come from the model that gave those on disk, or it is refused
   (`endpoint.py`).
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from workbench.llm import LLM, Conversation, fitting
from workbench.llm.lines import Lines, digest
from workbench.material.images import digest as digest_of_file


@runtime_checkable
class Streams(Protocol):
    """An LLM that gives out answers as they come, so that a failure loses none."""

    def each(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
    ) -> Iterator[tuple[int, str]]: ...


class Answered:
    """An `LLM` that asks `llm` only what the file at `file` does not answer."""

    def __init__(self, llm: LLM, file: Path) -> None:
        self.llm = llm
        self.asked = 0
        """Answers that were not on disk."""
        self._known: dict[str, str] = {}
        self._lines = Lines(file)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """That of the model."""
        return self.llm.name

    def chat(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """The next message of the assistant in each conversation, from disk where it is known."""
        how = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        name = self.name
        keys = [
            digest(name, _told(conversation), sorted(how.items())) for conversation in conversations
        ]
        with self._lock:
            self._catch_up(name)
            missing = {
                key: c for key, c in zip(keys, conversations, strict=True) if key not in self._known
            }
            order = list(missing)
            for number, text in _each(self.llm, list(missing.values()), how):
                self._keep(order[number], name, missing[order[number]], how, text)
            return [self._known[key] for key in keys]

    def fits(self, conversations: Sequence[Conversation]) -> list[bool]:
        """Which conversations the model can be asked."""
        return fitting(self.llm, conversations)

    def _catch_up(self, name: str) -> None:
        for told in self._lines.catch_up():
            self._known[told["key"]] = told["text"]
            if (
                told.get("name") == name
                and told.get("served")
                and not getattr(self.llm, "served", "?")
            ):
                self.llm.served = told["served"]  # type: ignore[attr-defined]

    def _keep(
        self, key: str, name: str, conversation: Conversation, how: Mapping[str, Any], text: str
    ) -> None:
        told = {
            "key": key,
            "name": name,
            "served": getattr(self.llm, "served", ""),
            **how,
            "conversation": _told(conversation),
            "text": text,
        }
        self._lines.add([told])
        self._known[key] = text
        self.asked += 1


def _told(conversation: Conversation) -> list[list[str]]:
    """Roles and words; of an image its digest, because what a file shows may change."""
    return [
        [m.role, m.content, *([digest_of_file(m.image)] if m.image else [])] for m in conversation
    ]


def _each(
    llm: LLM, conversations: Sequence[Conversation], how: Mapping[str, Any]
) -> Iterator[tuple[int, str]]:
    if isinstance(llm, Streams):
        yield from llm.each(conversations, **how)
        return
    for number, conversation in enumerate(
        conversations
    ):  # one at a time: a failure loses no answer
        yield number, llm.chat([conversation], **how)[0]
