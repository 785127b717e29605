"""Answers on disk, so that nothing is asked or paid for twice and a run that died midway goes on.

1. An answer is found by the digest of what determines it: the model's name, the conversation, length, temperature and seed.
   The same question with another seed is another question.
2. The file holds one JSON object a line and is only ever added to. A line is written whole, under a lock, and flushed to
   disk before the answer is used; a line torn by a crash is passed over, and the next one begins on its own line.
3. Before anything is asked, what other processes have added is read. Two that ask the same at the same moment both pay.
4. An endpoint's answers must all come from the model that gave those on disk, or it is refused (`endpoint.py`).

Left out: forgetting. Move the file away to ask everything anew.
"""

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from feature_store.errors import WorkbenchError
from workbench.llm import LLM, Conversation


@runtime_checkable
class Streams(Protocol):
    """An LLM that gives out answers as they come, so that a failure loses none."""

    def each(
        self, conversations: Sequence[Conversation], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]: ...


class Answered:
    """An `LLM` that asks `llm` only what the file at `file` does not answer."""

    def __init__(self, llm: LLM, file: Path) -> None:
        self.llm, self.file = llm, file
        self.asked = 0
        """Answers that were not on disk."""
        self._known: dict[str, str] = {}
        self._read_to = 0
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """That of the model."""
        return self.llm.name

    def chat(
        self, conversations: Sequence[Conversation], *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """The next message of the assistant in each conversation, from disk where it is known."""
        how = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        name = self.name
        keys = [digest(name, conversation, how) for conversation in conversations]
        with self._lock:
            self._catch_up(name)
            missing = {key: c for key, c in zip(keys, conversations, strict=True) if key not in self._known}
            order = list(missing)
            for number, text in _each(self.llm, list(missing.values()), how):
                self._keep(order[number], name, missing[order[number]], how, text)
            return [self._known[key] for key in keys]

    def _catch_up(self, name: str) -> None:
        if not self.file.exists():
            return
        with self.file.open("rb") as handle:
            handle.seek(self._read_to)
            new = handle.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            try:
                told = json.loads(line)
                self._known[told["key"]] = told["text"]
            except (ValueError, KeyError, TypeError):
                continue  # torn by a crash; the question is asked again
            if told["name"] == name and told.get("served") and not getattr(self.llm, "served", "?"):
                self.llm.served = told["served"]  # type: ignore[attr-defined]

    def _keep(self, key: str, name: str, conversation: Conversation, how: Mapping[str, Any], text: str) -> None:
        told = {"key": key, "name": name, "served": getattr(self.llm, "served", ""), **how,
                "conversation": [[m.role, m.content] for m in conversation], "text": text}  # fmt: skip
        line = json.dumps(told).encode() + b"\n"
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab+") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                size = handle.seek(0, os.SEEK_END)
                if size:
                    handle.seek(size - 1)
                    line = line if handle.read(1) == b"\n" else b"\n" + line
                handle.write(line)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise WorkbenchError(
                f"Answers cannot be kept in {self.file}: {error.strerror}. Make room; the same command goes on."
            ) from None
        self._known[key] = text
        self.asked += 1


def digest(name: str, conversation: Conversation, how: Mapping[str, Any]) -> str:
    """SHA-256 of everything that determines an answer."""
    told = json.dumps([name, [[m.role, m.content] for m in conversation], sorted(how.items())])
    return hashlib.sha256(told.encode()).hexdigest()


def _each(llm: LLM, conversations: Sequence[Conversation], how: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    if isinstance(llm, Streams):
        yield from llm.each(conversations, **how)
        return
    for number, conversation in enumerate(conversations):  # one at a time: a failure loses no answer
        yield number, llm.chat([conversation], **how)[0]
