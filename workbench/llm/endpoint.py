"""A language model behind an OpenAI-compatible endpoint.

1. Plain HTTP to this machine, HTTPS to any other. The key comes from the environment:
   WORKBENCH_LLM_KEY, or OPENAI_API_KEY for OpenAI itself, so that no other host is handed that one.
   Redirects are not followed.
2. Several requests at once, at most so many a minute. The `openai` client repeats a request that
   was refused for the moment (429, 5xx, no connection, timeout) with growing pauses, or after the
   time that the endpoint asks for.
3. Answers are given out as they come. When one fails, the requests under way are still received
   (they are paid for) and then the error is raised in one line.
4. The model that an answer says it comes from must stay the same: a provider's alias may point
   elsewhere by tomorrow.
5. Tokens are counted as the endpoint reports them, and their cost where prices are given.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from feature_store.errors import BadInput, Incompatible, WorkbenchError
from workbench.llm import Conversation, Message
from workbench.material.images import data_uri

if TYPE_CHECKING:
    from openai import OpenAI

OPENAI = "api.openai.com"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Limits:
    """How fast an endpoint is asked, how patiently, and at what price."""

    concurrency: int = 4
    """Requests under way at once [>= 1]."""
    per_minute: float = 0.0
    """Requests begun a minute; 0: no limit."""
    timeout: float = 120.0
    """Longest wait for one answer [s]."""
    retries: int = 6
    """Repetitions of a request that fails for the moment; the pauses double from 0.5 s up to 8
    s."""
    input_price: float = 0.0
    """Price of what is read [currency per million tokens]; 0: not counted."""
    output_price: float = 0.0
    """Price of what is written [currency per million tokens]; 0: not counted."""


@dataclass
class Usage:
    """What an endpoint has answered so far, and what that cost."""

    answers: int = 0
    """Answers received."""
    uncounted: int = 0
    """Answers whose tokens the endpoint did not report."""
    read: int = 0
    """Tokens read."""
    written: int = 0
    """Tokens written."""
    cost: float = 0.0
    """Price of both [currency of the limits]."""


class Endpoint:
    """An `LLM` behind an OpenAI-compatible endpoint."""

    def __init__(self, url: str, model: str, limits: Limits | None = None) -> None:
        """Ask `model` at `url`. Raises BadInput for an address that cannot or must not be used."""
        self.url, self.model, self.limits = url.rstrip("/"), model, limits or Limits()
        self.host = check_address(url)
        if not model:
            raise BadInput(f"Which model of {url}? Name it after a #: {self.url}#MODEL.")
        self.name = f"{self.url}#{model}"
        self.served = ""
        """Model named by the answers so far; empty before the first."""
        self.usage = Usage()
        """What was received so far."""
        # OpenAI's newer models know the new name only, most other servers the old one only.
        self._length = "max_completion_tokens" if self.host == OPENAI else "max_tokens"
        self._lock = threading.Lock()
        self._next_start = 0.0
        self._client: OpenAI | None = None

    def chat(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Write the next message of the assistant in each conversation.

        Raises WorkbenchError in one line when a request fails.
        """
        answers = self.chat_stream(
            conversations, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        return [text for _, text in sorted(answers)]

    def chat_stream(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
    ) -> Iterator[tuple[int, str]]:
        """Give (number of the conversation, answer) as answers come.

        What was received before a failure is given out before the failure is raised.
        """
        client = self._open()
        failure: BaseException | None = None
        with ThreadPoolExecutor(self.limits.concurrency) as pool:
            waiting = iter(enumerate(conversations))
            running: dict[Any, int] = {}
            try:
                while True:
                    while failure is None and len(running) < self.limits.concurrency:
                        number, conversation = next(waiting, (-1, ()))
                        if number < 0:
                            break
                        request = (client, conversation, max_new_tokens, temperature, seed)
                        running[pool.submit(self._answer, *request)] = number
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        number = running.pop(future)
                        if error := future.exception():
                            failure = failure or error
                        else:
                            yield number, future.result()
            finally:
                for future in running:
                    future.cancel()
        if failure is not None:
            raise failure

    def _open(self) -> "OpenAI":
        """The client, made once; importing it takes a second."""
        with self._lock:
            if self._client is None:
                import openai

                here = self.host in LOOPBACK
                self._client = openai.OpenAI(
                    base_url=self.url,
                    api_key=_key(self.host),
                    max_retries=self.limits.retries,
                    timeout=self.limits.timeout,
                    # A proxy of the environment does not reach this machine's own ports.
                    http_client=openai.DefaultHttpxClient(
                        trust_env=not here, follow_redirects=False
                    ),
                )
                if self.host != OPENAI:  # the client takes them from the environment
                    self._client.organization = self._client.project = None
            return self._client

    def _answer(
        self,
        client: "OpenAI",
        conversation: Conversation,
        max_new_tokens: int,
        temperature: float,
        seed: int,
    ) -> str:
        import openai

        self._wait_for_turn()
        # The client's types list the keys of every kind of message; an endpoint takes these.
        messages: Any = [{"role": m.role, "content": _content(m)} for m in conversation]
        length: dict[str, Any] = {self._length: max_new_tokens}
        try:
            answer: Any = client.chat.completions.create(
                model=self.model, messages=messages, temperature=temperature, seed=seed, **length
            )
            message, served, usage = answer.choices[0].message, answer.model, answer.usage
            text = message.content or message.refusal or ""
        except openai.APITimeoutError:
            raise WorkbenchError(
                f"{self.url} gave no answer within {self.limits.timeout:g} s,"
                f" {self.limits.retries + 1} times. {RESUME}"
            ) from None
        except openai.APIConnectionError as error:
            raise WorkbenchError(
                f"{self.url} cannot be reached ({_line(error.__cause__ or error)}). {RESUME}"
            ) from None
        except openai.APIStatusError as error:
            raise WorkbenchError(
                f"{self.url} answers {error.status_code}: {_line(error)}."
                f" {_advice(error.status_code)}"
            ) from None
        except (
            openai.APIError,
            ValueError,
            AttributeError,
            IndexError,
            TypeError,
            KeyError,
        ) as error:
            raise WorkbenchError(
                f"{self.url} does not answer as an OpenAI-compatible endpoint does"
                f" ({type(error).__name__}: {_line(error)}). Check the address; it usually ends in"
                " /v1."
            ) from None
        self._count(served, usage)
        return text

    def _count(self, served: object, usage: Any) -> None:
        """Add an answer to the usage. Raises Incompatible where another model gave it."""
        with self._lock:
            self.usage.answers += 1
            if usage is None:
                self.usage.uncounted += 1
            else:
                self.usage.read += usage.prompt_tokens
                self.usage.written += usage.completion_tokens
                self.usage.cost += (
                    usage.prompt_tokens * self.limits.input_price
                    + usage.completion_tokens * self.limits.output_price
                ) / 1e6
            model = str(served or self.model)
            if self.served and model != self.served:
                raise Incompatible(
                    f"{self.url} answered as {self.served} before and as {model} now, so its"
                    f" answers cannot be compared. Name the model you want exactly"
                    f" ({self.url}#{model}) and begin anew."
                )
            self.served = model

    def _wait_for_turn(self) -> None:
        """Sleep until the next request may begin."""
        if not self.limits.per_minute:
            return
        with self._lock:
            start = max(time.monotonic(), self._next_start)
            self._next_start = start + 60 / self.limits.per_minute
        time.sleep(max(0.0, start - time.monotonic()))


RESUME = "What was answered is kept; the same command goes on from there."


def check_address(url: str) -> str:
    """Check an endpoint's address and give its host.

    Raises BadInput unless it is HTTPS, or plain HTTP to this machine, and holds no key.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise BadInput(f"An endpoint's address is like https://host/v1#model, got {url!r}.")
    if parts.username or parts.password or parts.query:
        raise BadInput(
            f"The address of {host} must hold no key. Put it into the environment as"
            " WORKBENCH_LLM_KEY."
        )
    if parts.scheme == "http" and host not in LOOPBACK:
        raise BadInput(
            f"{host} is another machine, so what is sent must be encrypted. Use"
            f" https://{parts.netloc}{parts.path}."
        )
    return host


def _content(message: Message) -> str | list[dict[str, Any]]:
    """What is said; with an image, the image before it, carried in the request."""
    if not message.image:
        return message.content
    return [
        {"type": "image_url", "image_url": {"url": data_uri(message.image)}},
        {"type": "text", "text": message.content},
    ]


def _key(host: str) -> str:
    names = ("WORKBENCH_LLM_KEY", "OPENAI_API_KEY") if host == OPENAI else ("WORKBENCH_LLM_KEY",)
    for name in names:
        key = os.environ.get(name)
        if key:
            return key
    if host in LOOPBACK:
        return "none"
    raise BadInput(
        f"{host} wants a key, and {' or '.join(names)} is not set in the environment. Set it there;"
        " it is never written down."
    )


def _advice(status: int) -> str:
    if status in (401, 403):
        return "Check the key in the environment."
    if status == 404:
        return "Check the address and the model's name after the #."
    if 400 <= status < 500 and status != 429:
        return "It will not take the request as it is."
    return RESUME


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
