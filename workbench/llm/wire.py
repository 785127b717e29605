"""One request to an endpoint, bounded in time and in bytes, whatever comes back.

1. `Wire.post` sends a JSON body and gives the status and the bytes of the reply, or a `Failure`: it
   raises nothing, so that no exception carries a header with the key in it.
2. A clock runs beside the request and cuts the connection when its time is over, wherever it
   stands: a reply that comes a byte at a time meets every timeout of a single read. What has begun
   must end soon, because an endpoint sends what it has written already.
3. At most `MOST` bytes are taken, counted after decompression.
4. Redirects are not followed: the key would go with them.

Left out: asking again (`endpoint.py`), and what the bytes mean (`completion.py`).
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import httpx

MOST = 4 * 2**20
"""Longest reply that is read [bytes]: a million tokens."""


class Reply(NamedTuple):
    """What came back."""

    status: int
    """HTTP status."""
    retry_after: str
    """How long to wait before the next request, as the header says it; empty: nothing."""
    body: bytes
    """The reply, decompressed."""


class Failure(NamedTuple):
    """Why nothing came back."""

    kind: Literal["late", "endless", "too large", "broken"]
    """Nothing within the time; begun and not ended within it; more than `MOST` bytes; no connection
    or one that breaks off."""
    reason: str
    """What the library says; a stranger's text may be part of it."""


class _Clock:
    """Cuts a request's connection when its time is over."""

    def __init__(self, seconds: float) -> None:
        self.over = threading.Event()
        self._end = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._timer = self._start(seconds)

    def _start(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        return timer

    def shorten(self, seconds: float) -> None:
        """Let the time be over after so many seconds from now, if it is not over before."""
        self._timer.cancel()
        self._timer = self._start(max(min(seconds, self._end - time.monotonic()), 0.0))

    def stop(self) -> None:
        """Let the connection be."""
        self._timer.cancel()

    def watch(self, event: str, details: Mapping[str, Any]) -> None:
        """Take note of a connection, as httpx tells of it."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        self._sockets.append(details["return_value"].get_extra_info("socket"))
        if self.over.is_set():
            self._cut()

    def _cut(self) -> None:
        self.over.set()
        for connection in list(self._sockets):
            with contextlib.suppress(OSError):  # it is closed already
                # Closing alone would not wake the thread that reads.
                connection.shutdown(socket.SHUT_RDWR)


class Wire:
    """A way to one address, used by several threads at once."""

    def __init__(self, url: str, key: str, use_proxy: bool) -> None:
        """Post to `url` with the key as a bearer token, through the environment's proxy or not."""
        import httpx

        self._url = url
        self._client = httpx.Client(
            headers={
                "Authorization": f"Bearer {key}",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
            },
            trust_env=use_proxy,
            follow_redirects=False,
            # A connection a request: the clock then knows whose connection it cuts.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    def post(self, body: Mapping[str, Any], timeout: float, body_timeout: float) -> Reply | Failure:
        """Send a JSON body and take what comes back.

        It must be whole `timeout` seconds after it was asked for, and `body_timeout` seconds after
        it began.
        """
        import httpx

        clock = _Clock(timeout)
        began = False
        try:
            with self._client.stream(
                "POST",
                self._url,
                # In ASCII: half of a surrogate pair in a question has no other form.
                content=json.dumps(body).encode("ascii"),
                timeout=timeout,
                extensions={"trace": clock.watch},
            ) as response:
                began = True
                clock.shorten(body_timeout)
                content = _read(response)
                if content is None:
                    return Failure("too large", "")
                if not clock.over.is_set():
                    retry_after = response.headers.get("Retry-After", "")
                    return Reply(response.status_code, retry_after, content)
                reason = ""
        except httpx.TimeoutException as error:
            clock.over.set()
            reason = str(error)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
        finally:
            clock.stop()
        if clock.over.is_set():
            return Failure("endless" if began else "late", reason)
        return Failure("broken", reason)


def _read(response: "httpx.Response") -> bytes | None:
    """Read a reply; None where it is too large."""
    if "," in response.headers.get("Content-Encoding", ""):
        return None  # packed several times over: a few bytes would fill the memory at once
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and (len(announced) > 15 or int(announced) > MOST):
        return None
    parts = []
    size = 0
    for part in response.iter_bytes():
        size += len(part)
        if size > MOST:
            return None
        parts.append(part)
    return b"".join(parts)
