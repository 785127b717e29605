"""A language model whose answers are kept on disk, so that nothing is asked or paid for twice.

A run that died midway goes on from there.

1. An answer is found by the digest of what determines it: the model's name, the conversation,
   length, temperature and seed. The same question with another seed is another question.
2. Every answer is on disk (`answer_file.py`) before it is used; before anything is asked, what
   other processes have added is read.
3. A model that runs here continues conversations in batches, whose composition decides the last
   digits: its answers are kept and found by units (`units.py`).
4. An endpoint's answers must all come from the model that gave those on disk, or it is refused
   (`endpoint.py`).
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from feature_store.files import digest
from workbench.llm import LLM, Conversation, fitting
from workbench.llm.answer_file import AnswerFile, answer_key
from workbench.llm.units import Unit, Units, cut


@runtime_checkable
class Streams(Protocol):
    """An LLM that gives out answers as they come, so that a failure loses none.

    sampling = {"max_new_tokens": 64, "temperature": 0.0, "seed": 0}
    for number, text in llm.chat_stream([ask("a"), ask("b")], **sampling):
        keep(number, text)
    """

    def chat_stream(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
    ) -> Iterator[tuple[int, str]]:
        """Give (number of the conversation, answer) in the order in which answers come."""
        ...


@runtime_checkable
class Batched(Protocol):
    """An LLM that continues conversations in batches, which decide the last digits of its work."""

    batch: int
    """Conversations continued together."""

    @property
    def machine(self) -> str:
        """What computes."""
        ...


class CachedLLM:
    """An `LLM` that asks another only what a file of answers does not hold.

    llm = CachedLLM(open_llm(address, study.model), study.folder / "answers.jsonl")
    llm.chat([ask("Hello?")])  # the second time, and in the next process, from the file
    """

    def __init__(self, llm: LLM, file: Path) -> None:
        """Ask `llm`, and keep its answers in `file`, which need not exist yet."""
        self.llm = llm
        self.asked = 0
        """Answers that were not on disk."""
        self._texts: dict[str, str] = {}  # key of an answer -> its text
        self._file = AnswerFile(file)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Name of the model that is asked."""
        return self.llm.name

    def chat(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Write the next message of the assistant, or read it from disk where it stands there."""
        sampling = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        name = self.name
        conditions = sorted(sampling.items())
        asked = [answer_key(name, _as_lists(talk), conditions) for talk in conversations]
        units = self._units(asked)
        with self._lock:
            self._catch_up(name)
            waiting = [
                (key, conversations[row])
                for unit in units.parts
                if unit.lacks(self._texts)
                for row, key in zip(unit.rows, unit.keys, strict=True)
            ]
            for number, text in _stream(self.llm, [talk for _, talk in waiting], sampling):
                key, talk = waiting[number]
                self._keep(key, text, {**sampling, "conversation": _as_lists(talk)})
            return [self._texts[key] for key in units.keys]

    def _units(self, asked: Sequence[str]) -> Units:
        """Cut conversations, given by their digests, into those that must be asked together."""
        if isinstance(self.llm, Batched):
            return cut(asked, range(len(asked)), self.llm.batch, self.llm.machine)
        first = {digest: row for row, digest in reversed(list(enumerate(asked)))}
        alone = [Unit((first[digest],), (digest,)) for digest in dict.fromkeys(asked)]
        return Units(tuple(alone), tuple(asked))

    def fits(self, conversations: Sequence[Conversation]) -> list[bool]:
        """Tell for each conversation whether the model can read it."""
        return fitting(self.llm, conversations)

    def _catch_up(self, name: str) -> None:
        """Read new answers; the first one also says which model an endpoint served before."""
        for answer in self._file.catch_up():
            self._texts[answer["key"]] = answer["text"]
            waits_for_served = not getattr(self.llm, "served", "?")
            if answer.get("name") == name and answer.get("served") and waits_for_served:
                # An endpoint has this attribute, which is no part of the protocol.
                vars(self.llm)["served"] = answer["served"]

    def _keep(self, key: str, text: str, question: Mapping[str, Any]) -> None:
        answer = {
            "key": key,
            "name": self.name,
            "served": getattr(self.llm, "served", ""),
            **question,
            "text": text,
        }
        self._file.add([answer])
        self._texts[key] = text
        self.asked += 1


def answered_as(*llms: LLM) -> dict[str, str]:
    """Give, for a run's figures, the models that endpoints answer as where they say another name.

    Nothing where all are what was asked.
    """
    names = []
    for llm in llms:
        asked = llm.llm if isinstance(llm, CachedLLM) else llm
        served = getattr(asked, "served", "")
        if served and served != getattr(asked, "model", served):
            names.append(served)
    return {"answered_as": ", ".join(dict.fromkeys(names))} if names else {}


def _as_lists(conversation: Conversation) -> list[list[str]]:
    """Roles and words; of an image its digest, because what a file shows may change."""
    turns = []
    for message in conversation:
        turn = [message.role, message.content]
        if message.image:
            turn.append(digest(message.image))
        turns.append(turn)
    return turns


def _stream(
    llm: LLM, conversations: Sequence[Conversation], sampling: Mapping[str, Any]
) -> Iterator[tuple[int, str]]:
    """Answers as they come; one at a time where the model does not stream, to lose none."""
    if isinstance(llm, Streams):
        yield from llm.chat_stream(conversations, **sampling)
        return
    for number, conversation in enumerate(conversations):
        yield number, llm.chat([conversation], **sampling)[0]
