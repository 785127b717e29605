"""Language models that are talked to, and judges that rate what was said: the two protocols, and
how to open one.

1. A `Conversation` is a tuple of messages. An `LLM` continues many at once and carries a `name`
   that goes on every row it helped to make: whoever stands in for a person or a classifier *is* the
   measurement.
2. A `Judge` answers closed questions. A `Verdict` that could not be read keeps its raw text and its
   status, and is never counted as one of the options.
3. `open_llm` opens one by its address: `organism`, `local:FOLDER-OR-HUB-ID`, or
   `https://host/v1#model` (`http` on this machine).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from feature_store.errors import BadInput
from feature_store.records import Status

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from workbench.llm.endpoint import Limits


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    content: str
    """What is said."""
    image: str = ""
    """File of the image shown with it; empty: none."""


Conversation = tuple[Message, ...]


@runtime_checkable
class LLM(Protocol):
    name: str
    """Model and revision, or endpoint and model; written beside every answer."""

    def chat(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """The next message of the assistant in each conversation; greedy at temperature 0."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """An LLM that knows how much it can read."""

    def fits(self, conversations: Sequence[Conversation]) -> list[bool]:
        """Which conversations leave room for an answer."""
        ...


@dataclass(frozen=True)
class Verdict:
    choice: str
    """One of the options; empty unless parsed."""
    status: Status
    """`parsed`, `refused`, `unparsed`, or `too-long` for the judge to be asked."""
    text: str
    """The raw answer."""
    judge: str
    """Name of the judge."""


@runtime_checkable
class Judge(Protocol):
    name: str
    """Written beside every verdict."""

    def judge(self, questions: Sequence[str], options: Sequence[str]) -> list[Verdict]:
        """One of `options` for each question, in order."""
        ...


def ask(text: str) -> Conversation:
    """A conversation of one question."""
    return (Message("user", text),)


def fitting(llm: LLM, conversations: Sequence[Conversation]) -> list[bool]:
    """Which conversations `llm` can be asked.

    An endpoint's context is not known here: it says so itself.
    """
    return llm.fits(conversations) if isinstance(llm, Bounded) else [True] * len(conversations)


def ask_fitting(
    llm: LLM,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str | None]:
    """What `llm` says in each conversation that it can be asked; None in the others."""
    room = fitting(llm, conversations)
    told = [conversation for conversation, fits in zip(conversations, room, strict=True) if fits]
    texts = iter(
        llm.chat(told, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        if told
        else []
    )
    return [next(texts) if fits else None for fits in room]


def room_for(llm: LLM, stage: str, conversations: Sequence[Conversation]) -> list[bool]:
    """`fitting`, for a stage of work.

    Raises BadInput where there are conversations and none of them fits.
    """
    room = fitting(llm, conversations)
    if room and not any(room):
        raise BadInput(
            f"{stage.capitalize()}: none of the {len(room)} requests fits into what {llm.name}"
            " reads. Name a model with a longer context."
        )
    return room


def open_llm(address: str, load: "Callable[[str], Model]", limits: "Limits | None" = None) -> LLM:
    """The model at an address; `load` opens those that run here (a study's `model`), `limits`
    hold for endpoints.
    """
    if address.startswith(("http://", "https://")):
        from workbench.llm.endpoint import Endpoint

        url, _, model = address.partition("#")
        return Endpoint(url, model, limits)
    folder = "organism" if address == "organism" else address.removeprefix("local:")
    if not folder or folder == address != "organism":
        raise BadInput(
            "A language model is named organism, local:FOLDER-OR-HUB-ID or https://host/v1#model,"
            f" got {address!r}."
        )
    from workbench.llm.local import Local

    return Local(load(folder))
