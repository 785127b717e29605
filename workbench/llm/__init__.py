"""Language models that are talked to, and judges that rate what was said.

1. A `Conversation` is a tuple of messages. An `LLM` continues many at once. Its `name` goes on
   every row that it helped to make, because a model that stands in for a person or a classifier
   *is* the measurement.
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
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    content: str
    """What is said."""
    image: str = ""
    """File of the image shown with it; empty: none."""


Conversation = tuple[Message, ...]


@runtime_checkable
class LLM(Protocol):
    """A language model that continues conversations.

    llm = open_llm("https://host/v1#model", study.model)
    llm.chat([ask("Name a value.")], temperature=0.7, seed=1)  # -> ["Honesty."]
    """

    @property
    def name(self) -> str:
        """Model and revision, or endpoint and model; written beside every answer."""
        ...

    def chat(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Write the next message of the assistant in each conversation; greedy at temperature 0.

        At most `max_new_tokens` tokens each; equal seeds give equal samples.
        """
        ...


@runtime_checkable
class Bounded(Protocol):
    """An LLM that knows how much it can read.

    An endpoint's context is not known here, so an endpoint is not bounded: it refuses by itself.

        LocalLLM(model).fits([ask("short"), ask("word " * 100_000)])  # -> [True, False]
    """

    def fits(self, conversations: Sequence[Conversation]) -> list[bool]:
        """Tell for each conversation whether it leaves room for an answer."""
        ...


@dataclass(frozen=True)
class Verdict:
    """A judge's answer to one closed question."""

    choice: str
    """One of the options; empty unless parsed."""
    status: Status
    """`parsed`, `refused`, `unparsed`, or `too-long` where the judge cannot read the question."""
    text: str
    """The raw answer."""
    judge: str
    """Name of the judge."""


@runtime_checkable
class Judge(Protocol):
    """Whoever answers closed questions.

    judge.judge(["Is honesty praised here? ..."], ["yes", "no"])[0].choice  # -> "yes"
    """

    @property
    def name(self) -> str:
        """Whoever judges; written beside every verdict."""
        ...

    def judge(self, questions: Sequence[str], options: Sequence[str]) -> list[Verdict]:
        """Choose one of `options` for each question, in order."""
        ...


def ask(text: str) -> Conversation:
    """Make a conversation of one question."""
    return (Message("user", text),)


def fitting(llm: LLM, conversations: Sequence[Conversation]) -> list[bool]:
    """Tell for each conversation whether `llm` can read it; without known bounds it always can."""
    return llm.fits(conversations) if isinstance(llm, Bounded) else [True] * len(conversations)


def ask_fitting(
    llm: LLM,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str | None]:
    """Continue the conversations that `llm` can read; the others, too long for it, give None."""
    room = fitting(llm, conversations)
    readable = [talk for talk, fits in zip(conversations, room, strict=True) if fits]
    if not readable:
        return [None] * len(conversations)
    answers = iter(
        llm.chat(readable, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    )
    return [next(answers) if fits else None for fits in room]


def room_for(llm: LLM, stage: str, conversations: Sequence[Conversation]) -> list[bool]:
    """Tell which conversations `llm` can read, at the beginning of a stage of work.

    Raises BadInput, which names the stage, where there are conversations and none of them fits.
    """
    room = fitting(llm, conversations)
    if room and not any(room):
        raise BadInput(
            f"{stage.capitalize()}: none of the {len(room)} requests fits into what {llm.name}"
            " reads. Name a model with a longer context."
        )
    return room


def open_llm(address: str, load: "Callable[[str], Model]", limits: "Limits | None" = None) -> LLM:
    """Open the model at an address: `organism`, `local:FOLDER-OR-ID` or `https://host/v1#model`.

    `load` opens models that run here (a study's `model`); `limits` hold for endpoints. Raises
    BadInput for any other address.
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
    from workbench.llm.local import LocalLLM

    return LocalLLM(load(folder))
