"""A language model behind an OpenAI-compatible endpoint.

1. Plain HTTP to this machine, HTTPS to any other. The key comes from the environment:
   WORKBENCH_LLM_KEY, or OPENAI_API_KEY for OpenAI itself, so that no other host is handed that one.
   Redirects are not followed.
2. Several requests at once, at most so many a minute. A request that was refused for the moment
   (429, 5xx, no connection) is repeated with growing pauses, or after the time that the endpoint
   asks for; longer than `LONGEST_PAUSE` is not waited. One that came to no end in its time is
   repeated once. Time and bytes of every request are bounded (`wire.py`).
3. Answers are read before they are given out (`completion.py`), and given out as they come. When
   one fails, the requests under way are still received (they are paid for) and then the error is
   raised in one line. Ctrl-C waits for none of them.
4. The model that an answer says it comes from must stay the same: a provider's alias may point
   elsewhere by tomorrow. `served` names it where it is not the one that was asked.
5. Tokens are counted as the endpoint reports them, and their cost where prices are given.
6. A key that comes back is masked, in answers, names and messages.
"""

import email.utils
import os
import queue
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from feature_store.errors import BadInput, Incompatible, WorkbenchError
from feature_store.files import on_line, shown
from workbench.llm import Conversation, Message
from workbench.llm.completion import (
    SECRET,
    Completion,
    masked,
    read_completion,
    read_error,
)
from workbench.llm.wire import MOST, Failure, Reply, Wire
from workbench.material.images import data_uri

OPENAI = "api.openai.com"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
REASON = 200
"""Longest reason of an endpoint's that a message repeats [letters]."""
LONGEST_PAUSE = 60.0
"""Longest time that an endpoint may ask to be left alone before it is asked again [s]."""
UNSAID = 5.0
"""Longest pause of which nothing is said [s]."""
FOR_THE_MOMENT = (408, 409, 429)
"""Status of a request that may be answered when it is repeated, as any from 500 on may."""


@dataclass(frozen=True)
class Limits:
    """How fast an endpoint is asked, how patiently, and at what price."""

    concurrency: int = 4
    """Requests under way at once [>= 1]."""
    per_minute: float = 0.0
    """Requests begun a minute; 0: no limit."""
    timeout: float = 120.0
    """Longest wait for one answer, from the request to its last byte [s]."""
    body_timeout: float = 10.0
    """Longest wait for the rest of an answer that has begun [s]."""
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
        self._key = ""
        self._wire: Wire | None = None

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
        wire = self._open()
        failure: BaseException | None = None
        answers: queue.SimpleQueue[tuple[int, str | BaseException]] = queue.SimpleQueue()
        waiting = iter(enumerate(conversations))
        running = 0
        while True:
            while failure is None and running < self.limits.concurrency:
                number, conversation = next(waiting, (-1, ()))
                if number < 0:
                    break
                body = self._request(conversation, max_new_tokens, temperature, seed)
                # A daemon, so that Ctrl-C does not wait for an endpoint.
                work = (wire, body, number, answers)
                threading.Thread(target=self._answer, args=work, daemon=True).start()
                running += 1
            if not running:
                break
            number, answer = answers.get()
            running -= 1
            if isinstance(answer, str):
                yield number, answer
            else:
                failure = failure or answer
        if failure is not None:
            raise failure

    def _open(self) -> Wire:
        """Give the way to the endpoint, made once; importing it takes a while."""
        with self._lock:
            if self._wire is None:
                self._key = _key(self.host)
                # A proxy of the environment does not reach this machine's own ports.
                self._wire = Wire(
                    f"{self.url}/chat/completions",
                    self._key or "none",
                    use_proxy=self.host not in LOOPBACK,
                )
            return self._wire

    def _request(
        self, conversation: Conversation, max_new_tokens: int, temperature: float, seed: int
    ) -> dict[str, Any]:
        """Write the body of a request."""
        return {
            "model": self.model,
            "messages": [{"role": m.role, "content": _content(m)} for m in conversation],
            "temperature": temperature,
            "seed": seed,
            self._length: max_new_tokens,
        }

    def _answer(
        self,
        wire: Wire,
        body: dict[str, Any],
        number: int,
        answers: "queue.SimpleQueue[tuple[int, str | BaseException]]",
    ) -> None:
        """Ask for one answer, and hand it out with its number, or what went wrong instead."""
        try:
            self._wait_for_turn()
            completion = self._completion(self._ask(wire, body))
            self._count(completion)
            answers.put((number, completion.text))
        except BaseException as error:
            answers.put((number, error))

    def _ask(self, wire: Wire, body: dict[str, Any]) -> Reply | Failure:
        """Send a request, again where it may be answered the next time."""
        for repetition in range(self.limits.retries + 1):
            outcome = wire.post(body, self.limits.timeout, self.limits.body_timeout)
            pause = _pause(outcome, repetition)
            if pause is None or pause > LONGEST_PAUSE or repetition == self.limits.retries:
                break
            if pause > UNSAID:
                warnings.warn(
                    f"{self.url} asks for a pause of {pause:.0f} s, then it is asked again.",
                    stacklevel=2,
                )
            time.sleep(pause)
        return outcome

    def _completion(self, outcome: Reply | Failure) -> Completion:
        """Read an answer. Raises WorkbenchError in one line where there is none."""
        if isinstance(outcome, Failure):
            raise WorkbenchError(self._failed(outcome))
        if outcome.status != 200:
            raise WorkbenchError(self._turned_down(outcome))
        fault = ""
        try:
            completion = read_completion(outcome.body)
        except BadInput as error:
            fault = str(error)
        if fault:
            raise WorkbenchError(
                f"{self.url} does not answer as an OpenAI-compatible endpoint does"
                f" ({self._safe(fault)}). Check the address; it usually ends in /v1."
            )
        # A short key may be a word that an answer uses.
        secret = self._key if len(self._key) >= SECRET else ""
        return completion._replace(
            text=masked(completion.text, secret), model=self._safe(completion.model)
        )

    def _failed(self, failure: Failure) -> str:
        """Say why no answer came."""
        if failure.kind == "late":
            times = min(self.limits.retries, 1) + 1
            return (
                f"{self.url} gave no answer within {self.limits.timeout:g} s, {times} times."
                f" {RESUME}"
            )
        if failure.kind == "endless":
            limit = min(self.limits.timeout, self.limits.body_timeout)
            return (
                f"{self.url} began an answer and did not end it within {limit:g} s. Check the"
                f" address. {RESUME}"
            )
        if failure.kind == "too large":
            return (
                f"{self.url} sends an answer of more than {MOST / 2**20:g} MiB, which is no answer"
                " to a question. Check the address."
            )
        return f"{self.url} cannot be reached ({self._safe(failure.reason)}). {RESUME}"

    def _turned_down(self, reply: Reply) -> str:
        """Say what the endpoint answers instead of an answer."""
        reason = self._safe(read_error(reply.body)) or "nothing more"
        advice = _advice(reply.status)
        pause = _seconds(reply.retry_after)
        if pause > LONGEST_PAUSE:
            advice = (
                f"It asks for a pause of {pause:.0f} s, more than the {LONGEST_PAUSE:.0f} s that"
                f" are waited. {RESUME}"
            )
        return f"{self.url} answers {reply.status}: {reason}. {advice}"

    def _safe(self, text: str) -> str:
        """Put a stranger's text on one line, without the key."""
        words = " ".join(masked(text, self._key).split())
        return on_line(words, REASON).rstrip(". ")

    def _count(self, completion: Completion) -> None:
        """Add an answer to the usage. Raises Incompatible where another model gave it."""
        with self._lock:
            self.usage.answers += 1
            if min(completion.read, completion.written) < 0:
                self.usage.uncounted += 1
            else:
                self.usage.read += completion.read
                self.usage.written += completion.written
                self.usage.cost += (
                    completion.read * self.limits.input_price
                    + completion.written * self.limits.output_price
                ) / 1e6
            model = completion.model or self.model
            if self.served and model != self.served:
                raise Incompatible(
                    f"{self.url} answered as {self.served} before and as {model} now, so its"
                    f" answers cannot be compared. Name the model you want exactly"
                    f" ({self.url}#{model}) and begin anew."
                )
            if not self.served and not model.startswith(self.model):
                warnings.warn(
                    f"{self.name} answers as {model}, which is not the model that was asked.",
                    stacklevel=2,
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
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:  # half of an IPv6 address, a port beyond 65535
        host = ""
    if not host or not url.isprintable() or parts.scheme not in ("http", "https"):
        raise BadInput(
            f"An endpoint's address is like https://host/v1#model, got {shown(url, 200)}."
        )
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
    """Give the key of a host from the environment; empty for this machine without one."""
    names = ("WORKBENCH_LLM_KEY", "OPENAI_API_KEY") if host == OPENAI else ("WORKBENCH_LLM_KEY",)
    for name in names:
        key = os.environ.get(name, "").strip()
        if key and not (key.isascii() and key.isprintable()):
            raise BadInput(
                f"The key in {name} holds signs that no request can carry. Copy it once more."
            )
        if key:
            return key
    if host in LOOPBACK:
        return ""
    raise BadInput(
        f"{host} wants a key, and {' or '.join(names)} is not set in the environment. Set it there;"
        " it is never written down."
    )


def _pause(outcome: Reply | Failure, repetition: int) -> float | None:
    """Give how long to wait before a request is repeated [s]; None where that is of no use."""
    usual = min(0.5 * 2**repetition, 8.0)
    if isinstance(outcome, Failure):
        if outcome.kind == "late":
            return usual if repetition == 0 else None
        return usual if outcome.kind == "broken" else None
    if outcome.status not in FOR_THE_MOMENT and outcome.status < 500:
        return None
    return _seconds(outcome.retry_after) or usual


def _seconds(retry_after: str) -> float:
    """Read how long an endpoint asks to be left alone, in seconds or until a date; 0: not at all.

    What is neither counts as nothing.
    """
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if seconds == seconds else 0.0


def _advice(status: int) -> str:
    if 300 <= status < 400:
        return "It sends elsewhere, where the key is not taken. Check the address."
    if status in (401, 403):
        return "Check the key in the environment."
    if status == 404:
        return "Check the address and the model's name after the #."
    if 400 <= status < 500 and status != 429:
        return "It will not take the request as it is."
    return RESUME
