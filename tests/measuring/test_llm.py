"""Talking models: our own, an endpoint that misbehaves in every way, answers on disk, and
judges."""

import importlib.util
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import pytest
import torch

from feature_store.errors import BadInput, Incompatible, WorkbenchError
from feature_store.records import Site, Steering
from tests.helpers.endpoints import ScriptedLLM, completion, serve
from tests.helpers.small_models import TEMPLATE, TinySAE, model
from workbench.llm import Message, ask, fitting, open_llm
from workbench.llm.cached import CachedLLM
from workbench.llm.endpoint import Endpoint, Limits
from workbench.llm.local import LocalLLM
from workbench.llm.reading import read_choice
from workbench.steering.methods import StrengthScale, build_edit

QUICK = Limits(retries=2, timeout=5, concurrency=3)


def no_model(address):
    raise AssertionError(f"{address} was loaded")


def contents(body):
    return body["messages"][-1]["content"]


# reading


@pytest.mark.parametrize(
    ("text", "choice", "status"),
    [
        ("Like me.", "like me", "parsed"),
        ("**Not like me**", "not like me", "parsed"),
        ("Not like me, because it is loud.", "not like me", "parsed"),
        ("My answer would be: not like me at all, honestly", "not like me at all", "parsed"),
        ("I'd say like me or not like me", "", "unparsed"),
        ("I cannot say that it is like me", "", "refused"),
        ("I’m sorry.", "", "refused"),
        ("Perhaps.", "", "unparsed"),
        ("unlike me", "", "unparsed"),
        ("", "", "unparsed"),
    ],
)
def test_a_choice_is_read_or_kept_as_unread(text, choice, status):
    assert read_choice(text, ("not like me at all", "not like me", "like me")) == (choice, status)


# our own model


def test_a_local_model_talks_through_its_template_and_steered():
    own = model(chat=True)
    talk = (
        Message("system", "the cat"),
        Message("user", "sat on"),
        Message("assistant", "the mat"),
        Message("user", "and then"),
    )
    seen = []
    own.generate, real = (
        lambda prompts, *a: (seen.extend(own.render(p) for p in prompts), real(prompts, *a))[1],
        own.generate,
    )
    plain = LocalLLM(own).chat([talk], max_new_tokens=8)
    assert seen == ["[system]the cat[user]sat on[assistant]the mat[user]and then[model]"]
    edit = build_edit(
        [Steering(features=((3, 1.0),), method="add", strength=40.0, unit="raw")],
        TinySAE(),
        StrengthScale(5.0, torch.ones(40)),
    )
    with own.steered(edit, Site(1)):
        steered = LocalLLM(own, "add f3 @40 raw").chat([talk], max_new_tokens=8)
        with pytest.raises(BadInput, match="does not say how"):
            _ = LocalLLM(own).name
    assert steered != plain
    assert LocalLLM(own).chat([talk], max_new_tokens=8) == plain
    assert LocalLLM(own, "add f3 @40 raw").name == LocalLLM(own).name + " + add f3 @40 raw"
    both = edit.take(torch.tensor([0, 0]))
    with own.steered(both, Site(1)), pytest.raises(BadInput, match="one steering for all"):
        LocalLLM(own, "x").chat([talk, talk])


def test_a_local_model_says_which_conversations_leave_room(tmp_path):
    kept = CachedLLM(LocalLLM(model(chat=True)), tmp_path / "answers.jsonl")
    assert fitting(kept, [ask("the cat"), ask("the cat " * 100), ask("the mat")]) == [
        True,
        False,
        True,
    ]
    assert fitting(ScriptedLLM(str), [ask("the cat " * 10_000)]) == [True], (
        "what an endpoint holds is not known here"
    )


def test_a_template_without_a_system_role_gets_its_words_from_the_user():
    own = model(chat=True)
    own.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + TEMPLATE
    )
    seen = []
    own.generate = lambda prompts, *a: (
        seen.extend(own.render(p) for p in prompts),
        ["x"] * len(prompts),
    )[1]
    LocalLLM(own).chat([(Message("system", "be kind"), Message("user", "hello"))])
    assert seen == ["[user]be kind\n\nhello[model]"]


def test_a_model_without_a_template_reads_lines_and_stops_at_the_next_speaker():
    own = model()
    own.generate = lambda prompts, *a: [f"{prompts[0]!r} yes\nuser: and more"]
    assert LocalLLM(own).chat([(Message("system", "be kind"), Message("user", "hello"))]) == [
        "'system: be kind\\nuser: hello\\nassistant:' yes"
    ]


def test_a_sampled_answer_depends_on_its_conversation_and_seed_alone():
    own = LocalLLM(model(chat=True))
    texts = ["the cat", "the dog ran to the end", "the mat"]
    assert own.chat([ask(texts[0])], max_new_tokens=6, temperature=1e-300) == own.chat(
        [ask(texts[0])], max_new_tokens=6
    ), "colder than numbers are"
    together = own.chat([ask(t) for t in texts], max_new_tokens=6, temperature=1.0, seed=3)
    alone = [own.chat([ask(t)], max_new_tokens=6, temperature=1.0, seed=3)[0] for t in texts]
    assert together == alone
    assert together != own.chat([ask(t) for t in texts], max_new_tokens=6, temperature=1.0, seed=4)


# an endpoint


def test_an_endpoint_answers_in_order_and_counts():
    with serve(lambda body, n: contents(body).upper()) as script:
        llm = Endpoint(
            script.url, "tiny", Limits(concurrency=3, input_price=2.0, output_price=10.0)
        )
        assert llm.chat([ask(f"q{i}") for i in range(9)], max_new_tokens=7) == [
            f"Q{i}" for i in range(9)
        ]
        assert llm.name == f"{script.url}#tiny"
        assert script.most_at_once <= 3
        assert script.requests[0] | {"messages": 0} == {
            "model": "tiny",
            "messages": 0,
            "max_tokens": 7,
            "temperature": 0.0,
            "seed": 0,
        }
    assert (llm.usage.answers, llm.usage.read, llm.usage.written, llm.usage.uncounted) == (
        9,
        90,
        27,
        0,
    )
    assert llm.usage.cost == pytest.approx((90 * 2 + 27 * 10) / 1e6)


def test_an_endpoint_without_counts_says_so():
    with serve(lambda body, n: completion("x", usage=False)) as script:
        llm = Endpoint(script.url, "tiny")
        llm.chat([ask("a"), ask("b")])
    assert (llm.usage.answers, llm.usage.uncounted, llm.usage.read) == (2, 2, 0)


def test_a_busy_endpoint_is_asked_again():
    busy = (429, {"Retry-After": "0.01"}, {"error": {"message": "slow down"}})
    with serve(lambda body, n: busy if n < 2 else "fine") as script:
        assert Endpoint(script.url, "tiny", QUICK).chat([ask("a")]) == ["fine"]
        assert len(script.requests) == 3


def test_so_many_requests_a_minute():
    times = []
    with serve(lambda body, n: times.append(time.monotonic()) or "x") as script:
        Endpoint(script.url, "tiny", Limits(per_minute=600, concurrency=4)).chat(
            [ask(str(i)) for i in range(4)]
        )
    assert max(times) - min(times) > 0.25


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((500, {}, {"error": {"message": "boom"}}), "answers 500: .*boom.*goes on from there"),
        ((401, {}, {"error": {"message": "who are you"}}), "answers 401: .*Check the key"),
        ((404, {}, {"error": {"message": "no such model"}}), "answers 404: .*after the #"),
        ((400, {}, {"error": {"message": "too long"}}), "answers 400: .*as it is"),
        ((307, {"Location": "http://127.0.0.1:1/"}, {}), "answers 307"),
        (
            (200, {"Content-Type": "text/html"}, b"<html>hello</html>"),
            "does not answer as an OpenAI-compatible",
        ),
        (b"{not json", "does not answer as an OpenAI-compatible"),
        ({"choices": []}, "does not answer as an OpenAI-compatible"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"choices": ' + b"9" * 5000 + b"}", "number of too many digits"),
        (completion(5), r"answer in words, got a number"),
        (completion([{"type": "image"}]), "answer in words, got a part without a text"),
        ({"choices": ["x"]}, "message in the first choice, got nothing"),
        ({"error": {"message": "no\x1b[2J\nluck"}}, r"got an error: no\\x1b\[2J\s?(\\n)?luck"),
        ((200, {"Content-Encoding": "gzip"}, b"no gzip"), "cannot be reached"),
        ((200, {"Content-Encoding": "gzip, gzip"}, b""), "more than 4 MiB"),
        ((302, {"Location": "/v1/elsewhere"}, {}), "answers 302: .*sends elsewhere"),
        ((429, {"Retry-After": "100000"}, {}), "asks for a pause of 100000 s"),
        (1.0, "no answer within 0.2 s, 1 times"),
    ],
)
def test_a_misbehaving_endpoint_is_one_line(reply, says):
    with (
        serve(lambda body, n: reply) as script,
        pytest.raises(WorkbenchError, match=says) as caught,
    ):
        Endpoint(script.url, "tiny", Limits(retries=0, timeout=0.2)).chat([ask("a")])
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_is_down_is_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(WorkbenchError, match="cannot be reached") as caught:
        Endpoint(url, "tiny", Limits(retries=0)).chat([ask("a")])
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_changes_its_model_is_refused():
    with serve(lambda body, n: completion("x", "tiny-1" if n < 2 else "tiny-2")) as script:
        llm = Endpoint(script.url, "tiny", Limits(concurrency=1))
        with pytest.raises(Incompatible, match="as tiny-1 before and as tiny-2 now"):
            llm.chat([ask(str(i)) for i in range(4)])


def test_the_key_comes_from_the_environment_and_goes_to_its_own_host_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-openai")
    monkeypatch.delenv("WORKBENCH_LLM_KEY", raising=False)
    with serve(lambda body, n: "x") as script:
        Endpoint(script.url, "tiny").chat([ask("a")])
        assert script.headers[0]["authorization"] == "Bearer none"
        assert not {"openai-organization", "openai-project"} & set(script.headers[0])
        monkeypatch.setenv("WORKBENCH_LLM_KEY", "mine")
        Endpoint(script.url, "tiny").chat([ask("a")])
        assert script.headers[1]["authorization"] == "Bearer mine"
    monkeypatch.delenv("WORKBENCH_LLM_KEY")
    with pytest.raises(BadInput, match="WORKBENCH_LLM_KEY is not set"):
        Endpoint("https://models.example/v1", "m").chat([ask("a")])


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://models.example/v1#m", "must be encrypted. Use https://models.example/v1"),
        ("http://127.0.0.1.evil.example/v1#m", "must be encrypted"),
        ("https://user:key@models.example/v1#m", "must hold no key"),
        ("https://models.example/v1", "Which model"),
        ("ftp://x#m", "is named organism, local"),
        ("gpt2", "is named organism, local"),
        ("local:", "is named organism, local"),
    ],
)
def test_addresses_that_cannot_be_used(address, says):
    with pytest.raises(BadInput, match=says):
        open_llm(address, no_model)


def test_addresses():
    assert open_llm("http://localhost:8000/v1/#m", no_model).name == "http://localhost:8000/v1#m"
    loaded = []
    own = model(chat=True)
    for address in ("organism", "local:some/folder"):
        assert isinstance(open_llm(address, lambda a: loaded.append(a) or own), LocalLLM)
    assert loaded == ["organism", "some/folder"]


# answers on disk


def test_nothing_is_asked_twice(tmp_path):
    file = tmp_path / "answers.jsonl"
    llm = ScriptedLLM(str.upper)
    first = CachedLLM(llm, file)
    assert first.chat([ask("a"), ask("b"), ask("a")]) == ["A", "B", "A"]
    assert first.chat([ask("b")]) == ["B"]
    assert CachedLLM(llm, file).chat([ask("b"), ask("c")]) == ["B", "C"]
    assert llm.asked == ["a", "b", "c"]
    first.chat([ask("a")], seed=1)
    first.chat([ask("a")], max_new_tokens=9)
    CachedLLM(ScriptedLLM(str.upper, "other"), file).chat([ask("a")])
    assert llm.asked == ["a", "b", "c", "a", "a"]
    assert first.asked == 4
    assert first.name == "scripted"


def test_an_endpoint_that_goes_down_midway_is_paid_once(tmp_path):
    file = tmp_path / "answers.jsonl"
    questions = [ask(f"q{i}") for i in range(12)]
    down = (503, {}, {"error": {"message": "out for lunch"}})
    with serve(lambda body, n: down if n >= 7 else contents(body).upper()) as script:
        url = script.url
        with pytest.raises(WorkbenchError, match="out for lunch"):
            CachedLLM(Endpoint(url, "tiny", Limits(retries=0, concurrency=2)), file).chat(questions)
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(kept) == 7
    with serve(lambda body, n: contents(body).upper()) as script:
        again = Endpoint(script.url, "tiny", QUICK)
        again.name = f"{url}#tiny"  # the port is another one
        assert CachedLLM(again, file).chat(questions) == [f"Q{i}" for i in range(12)]
        assert len(script.requests) == 5
    assert not {contents(r) for r in script.requests} & {k["conversation"][0][1] for k in kept}


def test_a_resumed_endpoint_must_still_be_the_same_model(tmp_path):
    file = tmp_path / "answers.jsonl"
    with serve(lambda body, n: completion("x", "tiny-1" if n == 0 else "tiny-2")) as script:
        CachedLLM(Endpoint(script.url, "tiny"), file).chat([ask("a")])
        with pytest.raises(Incompatible, match="as tiny-1 before and as tiny-2 now"):
            CachedLLM(Endpoint(script.url, "tiny"), file).chat([ask("a"), ask("b")])


def test_a_torn_line_costs_one_answer(tmp_path):
    file = tmp_path / "answers.jsonl"
    llm = ScriptedLLM(str.upper)
    CachedLLM(llm, file).chat([ask("a"), ask("ü")])
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    reader = CachedLLM(llm, file)
    assert reader.chat([ask("a"), ask("ü"), ask("c")]) == ["A", "Ü", "C"]
    assert llm.asked == ["a", "ü", "ü", "c"]
    assert CachedLLM(llm, file).chat([ask("a"), ask("ü"), ask("c")]) == ["A", "Ü", "C"]
    assert len(llm.asked) == 4


def _fill(file, start):
    CachedLLM(ScriptedLLM(lambda q: q * 500), file).chat([ask(f"{start + i}") for i in range(60)])


def test_two_processes_share_a_file(tmp_path):
    file = tmp_path / "answers.jsonl"
    jobs = [
        multiprocessing.get_context("fork").Process(target=_fill, args=(file, start))
        for start in (0, 1000)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({line["key"] for line in lines}) == len(lines) == 120
    llm = ScriptedLLM(lambda q: "new")
    one, two = CachedLLM(llm, file), CachedLLM(llm, file)
    one.chat([ask("fresh")])
    assert two.chat([ask("fresh"), ask("1005")]) == ["new", "1005" * 500]
    assert llm.asked == ["fresh"], "what another process added is read before anything is asked"


# a real server


def test_a_real_local_server(tmp_path):
    lacking = [
        name
        for name in ("fastapi", "uvicorn", "pydantic")
        if importlib.util.find_spec(name) is None
    ]
    if lacking:
        pytest.skip(f"NO REAL ENDPOINT IS TESTED: `transformers serve` needs {', '.join(lacking)}")
    own = model(chat=True)
    own.module.generation_config.eos_token_id = 1
    own.module.save_pretrained(tmp_path / "tiny")
    own.tokenizer.save_pretrained(tmp_path / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "log").open("w")
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        str(tmp_path / "tiny"),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--device",
        "cpu",
    ]
    server = subprocess.Popen(
        command, stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    try:
        llm = open_llm(
            f"http://127.0.0.1:{port}/v1#{tmp_path / 'tiny'}",
            no_model,
            Limits(retries=0, timeout=60),
        )
        for _ in range(120):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.5)
        answers = llm.chat([ask("the cat"), ask("the dog")], max_new_tokens=6)
        assert len(answers) == 2
        assert llm.usage.answers == 2
        assert llm.usage.written > 0
        assert (
            CachedLLM(llm, tmp_path / "a.jsonl").chat([ask("the cat")], max_new_tokens=6)
            == answers[:1]
        )
    finally:
        server.terminate()
        server.wait(30)
