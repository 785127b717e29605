"""Endpoints and kept answers that misbehave: every answer is read, refused in one line, or comes
to an end; nothing of a stranger is kept unread, and no key comes back."""

import contextlib
import gzip
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_store.errors import BadInput, WorkbenchError
from tests.helpers.endpoints import ScriptedLLM, completion, serve
from tests.helpers.hostile import survives
from workbench.command.cli import describe
from workbench.llm import ask, endpoint
from workbench.llm.answer_file import AnswerFile
from workbench.llm.cached import CachedLLM, answered_as
from workbench.llm.endpoint import Endpoint, Limits
from workbench.llm.reading import RULES
from workbench.study import Study

QUICK = Limits(retries=2, timeout=5, concurrency=3)


PARTS = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "fi"}]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (
            completion("fine") | {"usage": {"prompt_tokens": None, "completion_tokens": "many"}},
            "fine",
        ),
        (completion("fine") | {"usage": [1]}, "fine"),
        (completion("fine") | {"usage": {"prompt_tokens": -1, "completion_tokens": 1e99}}, "fine"),
        (completion("fine") | {"usage": {"prompt_tokens": True, "completion_tokens": 3}}, "fine"),
        (completion("fine") | {"usage": None, "model": None}, "fine"),
        (completion("fine") | {"usage": {}, "model": ["x"]}, "fine"),
        (completion(None), ""),
        (completion([*PARTS, {"type": "text", "text": "ne"}]), "fine"),
        (completion("half \ud83d"), "half \ufffd"),
        (completion("whole \ud83d\ude00"), "whole \U0001f600"),
        (
            (
                200,
                {"Content-Encoding": "gzip"},
                gzip.compress(json.dumps(completion("fine")).encode()),
            ),
            "fine",
        ),
    ],
)
def test_an_answer_of_another_shape_is_read_for_what_it_says(reply, text, tmp_path):
    with serve(lambda body, n: reply) as script:
        llm = Endpoint(script.url, "tiny", QUICK)
        assert CachedLLM(llm, tmp_path / "answers.jsonl").chat([ask("a")]) == [text]
        assert CachedLLM(llm, tmp_path / "answers.jsonl").chat([ask("a")]) == [text]
        assert len(script.requests) == 1
    counted = isinstance(reply, dict) and reply.get("usage", {}) == completion("")["usage"]
    assert llm.usage.uncounted == (0 if counted or isinstance(reply, tuple) else 1)


class Dripping:
    """A server that answers by writing to the connection itself."""

    def __init__(self, write):
        self.write = write
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        self.over = threading.Event()
        self.times = 0

    def run(self):
        while not self.over.is_set():
            connection, _ = self.socket.accept()
            self.times += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            self.write(connection, self.over)

    def __enter__(self):
        threading.Thread(target=self.run, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.socket.close()


def drip_head(connection, over):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not over.wait(0.05):
        connection.sendall(b"x")


def drip_body(connection, over):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b"1\r\n \r\n")


def drip_error(connection, over):
    connection.sendall(b"HTTP/1.1 500 Oh\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b" ")


def flood(connection, over):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        connection.sendall(b" " * 65536)


def flood_head(connection, over):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.is_set():
        connection.sendall(b"X-More: " + b"x" * 60_000 + b"\r\n")


def bomb(connection, over):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
    connection.sendall(gzip.compress(b" " * 50_000_000))


def big(connection, over):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    over.wait(30)


def silent(connection, over):
    over.wait(30)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (silent, "no answer within 1.5 s, 1 times"),
        (drip_head, "no answer within 1.5 s, 1 times"),
        (drip_body, "did not end it within 0.5 s"),
        (drip_error, "did not end it within 0.5 s"),
        (flood, "more than 4 MiB"),
        (flood_head, "cannot be reached"),
        (bomb, "more than 4 MiB"),
        (big, "more than 4 MiB"),
    ],
)
def test_an_endless_answer_comes_to_an_end(write, says):
    limits = Limits(retries=0, timeout=1.5, body_timeout=0.5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Dripping(write) as server, pytest.raises(WorkbenchError, match=says) as caught:
        survives(lambda: Endpoint(server.url, "tiny", limits).chat([ask("a")]))
        Endpoint(server.url, "tiny", limits).chat([ask("a")])
    assert str(caught.value).isprintable()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, "kilobytes: the answer was held in memory"


def test_what_came_to_no_end_is_asked_once_more_and_what_trickles_is_not():
    with Dripping(silent) as server, pytest.raises(WorkbenchError, match="2 times"):
        Endpoint(server.url, "t", Limits(retries=6, timeout=0.2)).chat([ask("a")])
    assert server.times == 2
    with Dripping(drip_body) as server, pytest.raises(WorkbenchError, match="did not end"):
        Endpoint(server.url, "t", Limits(retries=6, body_timeout=0.2)).chat([ask("a")])
    assert server.times == 1


def test_an_interrupt_does_not_wait_for_the_endpoint():
    # A run that a shell started in the background ignores the interrupt, and its children do.
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from workbench.llm import ask; from workbench.llm.endpoint import Endpoint;"
        "llm = Endpoint(sys.argv[1], 'm'); llm._open(); print('asking', flush=True);"
        "llm.chat([ask('a')] * 9)"
    )
    with Dripping(silent) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", script, server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout.readline() == b"asking\n"
        while server.times < 4:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in complaint


KEY = "sk-Secret-0123456789"


@pytest.mark.parametrize(
    "reply",
    [
        (401, {}, {"error": {"message": f"wrong key Bearer {KEY}"}}),
        (400, {}, {"error": {"message": "x" * 190 + KEY}}),
        (400, {}, {"error": {"message": {"key": ["x" * 150, KEY]}}}),
        (400, {}, {"error": KEY.upper()}),
        (403, {}, f"no {KEY}".encode()),
        {"error": f"no {KEY}"},
        {"choices": KEY},
        b"\x00" + KEY.encode(),
        completion(f"You are {KEY}", model=f"model-{KEY}"),
        completion(f"You are {KEY}"),
    ],
)
def test_a_key_that_comes_back_is_neither_shown_nor_kept(reply, monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_LLM_KEY", f"{KEY}\n")
    file = tmp_path / "answers.jsonl"
    seen = ""
    with serve(lambda body, n: reply) as script, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        llm = Endpoint(script.url, "tiny", Limits(retries=0))
        try:
            seen += str(CachedLLM(llm, file).chat([ask("a")])) + file.read_text() + llm.served
        except WorkbenchError as error:
            seen += "".join(traceback.format_exception(error)) + repr(error.__context__)
        assert script.headers[0]["authorization"] == f"Bearer {KEY}"
    seen += str([warning.message for warning in caught])
    assert "secret-01" not in seen.lower()
    assert "***" in seen or "choices" in str(reply) or isinstance(reply, bytes)


def test_a_short_key_leaves_answers_as_they_are(monkeypatch):
    monkeypatch.setenv("WORKBENCH_LLM_KEY", "mine")
    with serve(
        lambda body, n: "not mine" if n == 0 else (400, {}, {"error": "key mine"})
    ) as script:
        llm = Endpoint(script.url, "tiny", QUICK)
        assert llm.chat([ask("a")]) == ["not mine"]
        with pytest.raises(WorkbenchError, match=r"key \*\*\*"):
            llm.chat([ask("a")])


def test_a_key_that_no_header_carries_is_not_shown(monkeypatch):
    monkeypatch.setenv("WORKBENCH_LLM_KEY", "sk-\u00e9secret")
    with pytest.raises(BadInput, match="signs that no request can carry") as caught:
        Endpoint("http://127.0.0.1:1/v1", "m").chat([ask("a")])
    assert "secret" not in str(caught.value)


def test_another_model_than_the_asked_one_is_named(tmp_path):
    with serve(lambda body, n: completion("x", "other-7b")) as script:
        llm = CachedLLM(Endpoint(script.url, "tiny"), tmp_path / "answers.jsonl")
        with pytest.warns(UserWarning, match="answers as other-7b, which is not the model"):
            llm.chat([ask("a")])
    assert answered_as(llm) == {"answered_as": "other-7b"}
    again = CachedLLM(Endpoint(script.url, "tiny"), tmp_path / "answers.jsonl")
    assert answered_as(again) == {}
    again.chat([ask("a")])
    assert answered_as(again, llm) == {"answered_as": "other-7b"}, "kept answers say it too"
    assert answered_as(ScriptedLLM(str)) == {}


def test_a_run_counts_what_was_not_read_and_names_who_answered(tmp_path):
    replies = ["4", "I would not say 4", "I'm sorry, I can't help with that.", "4 or 5"]
    study = Study(tmp_path, create=True)
    with serve(lambda body, n: completion(replies[n % 4], "other-7b")) as script:
        settings = {"model": f"{script.url}#tiny", "mode": "generate", "n_contexts": 1}
        with pytest.warns(UserWarning, match="other-7b"):
            run = study.measure(**settings)
        assert study.measure(**settings).id == run.id
    counts = study.store.sql("SELECT status, count(*) AS n FROM responses GROUP BY status")
    by_status = dict(zip(counts.status, counts.n, strict=True))
    n = run.summary["answers"]
    assert by_status == {"parsed": n // 4, "unparsed": n // 2, "refused": n // 4}
    assert run.summary["missing"] == 3 * n // 4
    assert run.summary["answered_as"] == "other-7b"
    assert f"missing {3 * n // 4}" in describe(run), "the one line of the command says it"
    assert run.inputs["reading"] == RULES


def test_a_pause_is_said_when_it_is_long(monkeypatch):
    pauses = []
    monkeypatch.setattr(endpoint.time, "sleep", pauses.append)
    busy = (429, {"Retry-After": "45"}, {})
    with (
        serve(lambda body, n: busy if n == 0 else "fine") as script,
        pytest.warns(UserWarning, match="asks for a pause of 45 s"),
    ):
        assert Endpoint(script.url, "tiny", QUICK).chat([ask("a")]) == ["fine"]
    assert pauses == [45.0]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("3", 3),
        ("0.5", 0.5),
        ("-5", 0),
        ("nan", 0),
        ("inf", float("inf")),
        ("soon", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 99 Zzz 99999 00:00:00", 0),
    ],
)
def test_how_long_an_endpoint_asks_to_be_left_alone(header, seconds):
    assert endpoint._seconds(header) == seconds


@pytest.mark.parametrize(
    "line",
    [
        {"text": 5},
        {"text": ["A"]},
        {"text": None},
        {"text": "half \ud800"},
        {"served": 7},
        {"name": ["scripted"]},
        {"key": {"a": 1}},
        ["k"],
        b"\xff\xfe",
        b"{" * 2000,
        b'{"key": "k", "text": "A", "text": "B"}',
        b"9" * 5000,
    ],
)
def test_a_spoilt_line_is_passed_over_said_and_asked_again(line, tmp_path):
    file = tmp_path / "answers.jsonl"
    llm = ScriptedLLM(str.upper)
    CachedLLM(llm, file).chat([ask("a"), ask("b")])
    first, second = map(json.loads, file.read_text().splitlines())
    spoilt = line
    if isinstance(line, dict):
        spoilt = json.dumps(first | line).encode()
    elif isinstance(line, list):
        spoilt = json.dumps(line).encode()
    file.write_bytes(spoilt + b"\n\n" + json.dumps(second).encode() + b"\n")
    reader = CachedLLM(llm, file)
    with pytest.warns(UserWarning, match=r"has 1 line without an answer \(line 1\)") as caught:
        assert reader.chat([ask("a"), ask("b")]) == ["A", "B"]
    assert str(caught[0].message).isprintable()
    assert llm.asked == ["a", "b", "a"]
    assert reader.chat([ask("a")]) == ["A"]


def test_what_holds_answers_is_a_file(tmp_path):
    for make in (Path.mkdir, os.mkfifo):
        file = tmp_path / make.__name__
        make(file)
        with pytest.raises(BadInput, match="is no file, answers are kept in it"):
            survives(lambda file=file: CachedLLM(ScriptedLLM(str), file).chat([ask("a")]))
            CachedLLM(ScriptedLLM(str), file).chat([ask("a")])


def test_a_file_that_was_cut_is_read_anew(tmp_path):
    file = tmp_path / "answers.jsonl"
    llm = ScriptedLLM(str.upper)
    reader = CachedLLM(llm, file)
    reader.chat([ask("a"), ask("b")])
    reader.chat([ask("a")])
    file.write_text("")
    assert CachedLLM(llm, file).chat([ask("c")]) == ["C"]
    assert reader.chat([ask("c")]) == ["C"]
    assert llm.asked == ["a", "b", "c"]


NAMES = st.sampled_from(["message", "content", "text", "type", "refusal", "key", "name"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(st.text(max_size=8) | NAMES, parts, max_size=4)
    ),
    max_leaves=20,
)
ANSWER = st.fixed_dictionaries(
    {},
    optional={
        "choices": JSON
        | st.lists(
            JSON
            | st.fixed_dictionaries(
                {"message": JSON | st.fixed_dictionaries({}, optional={"content": JSON})}
            ),
            max_size=2,
        ),
        "model": JSON,
        "usage": JSON
        | st.fixed_dictionaries({"prompt_tokens": JSON, "completion_tokens": st.integers()}),
        "error": JSON,
    },
)
BYTES = (
    st.binary(max_size=300)
    | JSON.map(lambda value: json.dumps(value).encode())
    | ANSWER.map(lambda value: json.dumps(value).encode())
)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "Retry-After", "Location", "Content-Encoding", "Set-Cookie"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
    | st.sampled_from(["gzip", "deflate", "br", "inf", "-1", "http://[::1", "text/html"]),
    max_size=3,
)
STATUS = st.sampled_from([200] * 6 + [100, 201, 204, 301, 307, 400, 401, 404, 429, 500, 599])


hostile_reply = {}


@pytest.fixture(scope="module")
def hostile_endpoint():
    with serve(lambda body, n: hostile_reply["reply"]) as script:
        yield script


@given(status=STATUS, headers=HEADERS, body=BYTES)
@example(status=200, headers={}, body=b'{"choices": [{"message": {"content": "\\ud800"}}]}')
@example(status=200, headers={}, body=b"[" * 100_000)
@example(status=500, headers={}, body=b'{"error": {"message": {"a": ' + b"9" * 400 + b"}}}")
@example(status=200, headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b")
def test_hostile_replies_are_answers_or_one_line(hostile_endpoint, status, headers, body):
    hostile_reply["reply"] = (status, headers, body)
    limits = Limits(retries=0, timeout=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = survives(lambda: Endpoint(hostile_endpoint.url, "t", limits).chat([ask("a")]))
    if answers is not None:
        (text,) = answers
        assert text.encode().decode() == text


@given(
    lines=st.lists(
        BYTES
        | st.builds(dict, key=JSON, text=JSON, name=JSON, served=JSON).map(
            lambda line: json.dumps(line).encode()
        ),
        max_size=6,
    )
)
@example(lines=[b'{"key": "k", "text": "\\ud800"}'])
@example(lines=[b"[" * 100_000])
def test_hostile_kept_lines_are_answers_or_passed_over(lines):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for column in ("text", "logprobs"):
            file = Path(folder) / column
            file.write_bytes(b"\n".join(lines) + b"\n")
            for answer in survives(AnswerFile(file, column).catch_up):
                assert isinstance(answer["key"], str)
                assert isinstance(answer[column], str if column == "text" else list)
        llm = CachedLLM(ScriptedLLM(str.upper), Path(folder) / "text")
        assert survives(lambda: llm.chat([ask("a")])) == ["A"]
