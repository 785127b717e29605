"""A scripted OpenAI-compatible endpoint on this machine, for tests."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from workbench.llm import Conversation


class Scripted:
    """What the endpoint does: `reply(body, number)` gives a text, or (status, headers, raw
    body), or seconds to be silent.
    """

    def __init__(self, reply: Callable) -> None:
        self.reply, self.requests, self.headers, self.url = reply, [], [], ""
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()


def completion(text: str, model: str = "tiny-1", usage: bool = True) -> dict:
    told = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        ],
    }
    return told | (
        {"usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}}
        if usage
        else {}
    )


@contextlib.contextmanager
def serve(reply: Callable) -> Iterator[Scripted]:
    """The endpoint, running while the block is open."""
    script = Scripted(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with script.lock:
                number = len(script.requests)
                script.requests.append(body)
                script.headers.append({name.lower(): value for name, value in self.headers.items()})
                script.at_once += 1
                script.most_at_once = max(script.most_at_once, script.at_once)
            told = script.reply(body, number)
            if isinstance(told, float):
                time.sleep(told)
                told = "late"
            status, headers, raw = told if isinstance(told, tuple) else (200, {}, told)
            raw = (
                raw
                if isinstance(raw, bytes)
                else json.dumps(raw if isinstance(raw, dict) else completion(raw)).encode()
            )
            with script.lock:
                script.at_once -= 1
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                for name, value in (
                    {"Content-Type": "application/json", "Content-Length": str(len(raw))} | headers
                ).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()


class ScriptedLLM:
    """An LLM that answers by a function of the last message; counts what it is asked."""

    def __init__(self, answer: Callable[[str], str], name: str = "scripted") -> None:
        self.answer, self.name, self.asked = answer, name, []

    def chat(
        self,
        conversations: list[Conversation],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        self.asked += [c[-1].content for c in conversations]
        return [self.answer(c[-1].content) for c in conversations]


class Short(ScriptedLLM):
    """Reads prompts of so many characters at most."""

    def __init__(self, answer: Callable[[str], str], longest: int) -> None:
        super().__init__(answer)
        self.longest = longest

    def fits(self, conversations: list[Conversation]) -> list[bool]:
        return [len(c[-1].content) <= self.longest for c in conversations]
