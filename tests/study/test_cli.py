"""What a person reads after a mistake: one line, exit code 2, nothing lost."""

import os
import signal
import subprocess
import sys
import time
import warnings

import pytest

from workbench.command.cli import main
from workbench.study import Study


def refused(capsys, *words) -> str:
    assert main(list(map(str, words))) == 2
    told = capsys.readouterr().err
    assert told.startswith("workbench: ")
    assert told.count("\n") == 1, told
    return told


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path / "study")


def test_a_folder_that_is_no_study(capsys, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("x")
    assert "is not a study" in refused(capsys, "runs", tmp_path / "letters")
    assert "is not a study" in refused(capsys, "train", tmp_path / "letters")
    assert (tmp_path / "letters" / "a.txt").read_text() == "x"
    assert "is not a study" in refused(capsys, "runs", tmp_path / "nowhere")
    assert "is not a study" in refused(capsys, "app", tmp_path / "nowhere")
    assert "no published study" in refused(capsys, "runs", tmp_path / "letters" / "a.txt")


def test_a_study_of_a_newer_version_or_damaged(capsys, study):
    described = study.folder / "study.json"
    described.write_text('{"format": 9, "system": "schwartz10"}')
    assert "format 9" in refused(capsys, "runs", study.folder)
    for content in (b"{", b"\xff\xfe", b"[]", b'{"format": "x", "system": "schwartz10"}'):
        described.write_bytes(content)
        assert "damaged" in refused(capsys, "runs", study.folder)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("label",), "Run `workbench train` or `workbench adopt` first"),
        (("effects",), "Run `workbench label` first"),
        (("graph",), "Run `workbench effects` first"),
        (("measure", "--strength", "nan"), "finite"),
        (("measure", "--strength", "lots"), "--strength expects float"),
        (
            ("measure", "--model", "organism", "--features", "x", "--strength", "1"),
            "index or index:weight",
        ),
        (("measure", "--model", "organism", "--instrument", "standing"), "Did you mean 'standin'"),
        (("measure", "--model", "organism", "--wordings", "plan"), "Did you mean 'plain'"),
        (("measure", "--model", "no/such/folder"), "no/such/folder"),
        (("train", "--model", "organism", "--layer", "12"), "layers 0 to 3"),
        (("train", "--model", "organism", "--texts", "no-such-folder"), "no-such-folder"),
        (("train", "--model", "organism", "--context", "100000"), "100000"),
        (("train", "--job", "no.toml"), "no job file"),
        (("adopt", "no-such-sae", "--model", "organism"), "no-such-sae"),
        (("measure", "--model", "organism", "--features", "3"), "--strength other than 0"),
        (("measure", "--model", "organism", "--strength", "0.5"), "no feature at 0.5"),
        (("decide", "--features", "3"), "--strength other than 0"),
        (
            ("measure", "--model", "organism", "--gate", "probe", "--gate-value", "power"),
            "leave --gate out",
        ),
        (("measure", "--model", "organism", "--gate-value", "power"), "Name it with --gate"),
        (("decide", "--options", "a=1"), "--assessor"),
        (("decide", "--folds", "1"), "--folds is between 2"),
        (("decide", "--scenarios", "no.jsonl", "--model", "organism"), "There is no file no.jsonl"),
        (("kang", "--sample", "0"), "--sample is between"),
        (("kang", "--alpha", "2"), "--alpha is between"),
        (("kang", "--top", "-1"), "--top is between 0"),
        (("ordinal", "--answers", "99999999999999999999"), "--answers is between 1 and 10000"),
        (("adopt", "x", "--rows", "-1"), "--rows is between 1"),
        (("compare", "--delta", "-1"), "--delta is between"),
        (("compare", "--methods", "add,ad"), "steerings has no 'ad'"),
        (("effects", "--method", "nonsense"), "steerings has no 'nonsense'"),
        (("effects", "--doses", "0.1,1e300"), "--doses is between"),
        (("label", "--labeler", "nonsense"), "labelers has no 'nonsense'"),
        (("index", "--folder", "x", "--embedder", "nonsense"), "embedders has no 'nonsense'"),
        (("neurons", "--model", "organism", "--system", "nonsense"), "values has no 'nonsense'"),
        (("control", "--value", "power", "--judge", "nonsense"), "local:FOLDER-OR-HUB-ID"),
        (("couple", "--llm", "nonsense"), "local:FOLDER-OR-HUB-ID"),
        (("scenarios", "--llm", "organism", "--file", "x.jsonl"), "cannot read scenarios"),
        (("adaem", "--population", "nonsense,base"), "Run `workbench"),
        (("review",), "Run `workbench scenarios` first"),
        (("plan", "--want", "power +1"), "Run `workbench effects` first"),
        (("train", "--model", "organism", "--texts", "x" * 5000), "File name too long"),
        (
            ("train", "--model", "organism", "--texts", "~nobody-has-this-name/x"),
            "There is no text",
        ),
        (("train", "--model", "~nobody-has-this-name", "--documents", "10"), "no model folder"),
        (("train", "--job", "."), "is a folder"),
        (("sql", "SELEC 1"), "DuckDB cannot answer"),
        (("sql", "CREATE TABLE x (a INT)"), "changes nothing"),
    ],
)
def test_a_mistake_is_one_line(capsys, study, words, told):
    verb, *rest = words
    assert told in refused(capsys, verb, study.folder, *rest)
    assert study.runs.all() == study.runs.unfinished() == []


def latin(text):
    return text.encode("latin-1")


@pytest.mark.parametrize(
    ("name", "content", "words", "told"),
    [
        (
            "s.jsonl",
            latin("é"),
            ("decide", "--model", "organism", "--scenarios"),
            "is not UTF-8 text",
        ),
        ("s.jsonl", "[1]".encode("utf-16"), ("scenarios", "--file"), "line 1: Expected"),
        ("p.toml", b"sentences = 3", ("compare", "--prompts"), "Run `workbench label` first"),
        (
            "d.toml",
            b'template = 3\nquestions = ["a"]',
            ("neurons", "--model", "organism", "--descriptions"),
            "needs a `template`",
        ),
        (
            "d.toml",
            b'template = "{description} {question}"\nquestions = ["a"]\nvalues = 3',
            ("neurons", "--model", "organism", "--descriptions"),
            "[values.NAME]",
        ),
        ("m.toml", b"measure = 3", ("measure", "--job"), "written [measure]"),
        ("m.toml", latin("a = 'é'"), ("measure", "--job"), "is not UTF-8 text"),
        (
            "q.toml",
            b"question = 3",
            ("couple", "--llm", "organism", "--questions"),
            "has an id and a text",
        ),
        (
            "i.csv",
            b"number,text\n1,a\n1,b\n",
            ("measure", "--model", "organism", "--instrument", "pvq40", "--settings", "items="),
            "gives more than once item 1",
        ),
        (
            "i.json",
            b'{"1": "a", "1": "b"}',
            ("measure", "--model", "organism", "--instrument", "pvq40", "--settings", "items="),
            "'1' stands there twice",
        ),
        (
            "i.json",
            b"3",
            ("measure", "--model", "organism", "--instrument", "pvq40", "--settings", "items="),
            "a list of items",
        ),
        (
            "i.csv",
            latin("number,text\n1,é\n"),
            ("measure", "--model", "organism", "--instrument", "pvq40", "--settings", "items="),
            "is not UTF-8 text",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    capsys, study, tmp_path, name, content, words, told
):
    (tmp_path / name).write_bytes(content)
    verb, *rest = words
    rest = (
        [*rest[:-1], rest[-1] + str(tmp_path / name)]
        if rest[-1].endswith("=")
        else [*rest, tmp_path / name]
    )
    assert told in refused(capsys, verb, study.folder, *rest)
    assert study.runs.all() == study.runs.unfinished() == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("measure", "S", "--nonsense", "1"), "--nonsense"),
        (("nonsense",), "nonsense"),
        (("app", "S", "--port", "x"), "invalid int"),
        (("measure",), "study"),
        (("measure", "S", "--settings", "a=1", "--settings", "b=2"), "--settings was given twice"),
    ],
)
def test_a_command_that_does_not_exist_is_one_line_too(capsys, words, told):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    said = capsys.readouterr().err
    assert (stopped.value.code, said.count("\n")) == (2, 1)
    assert told in said
    assert "--help" in said


def test_a_warning_is_one_line_without_the_place_in_our_source(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    assert main(["plugins", "values"]) == 0
    assert (
        warnings.formatwarning("the judge\nwavers", UserWarning, "judges.py", 1)
        == "workbench: the judge wavers\n"
    )


def test_plugins_are_listed_with_their_place(capsys):
    assert main(["plugins", "values"]) == 0
    told = capsys.readouterr().out
    assert "schwartz10" in told
    assert "schwartz10.py:" in told
    assert "no plug-in kind" in refused(capsys, "plugins", "flavours")


def test_a_profile_from_the_command_line(capsys, study):
    words = [
        "measure",
        str(study.folder),
        "--model",
        "organism",
        "--n-contexts",
        "4",
        "--replicates",
        "200",
    ]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert main(words) == 0  # the same work is the same run
    assert capsys.readouterr().out == first
    assert main(["sql", str(study.folder), "SELECT count(*) AS n FROM profiles"]) == 0
    assert capsys.readouterr().out.split() == ["n", "20"]
    lock = study.runs.folder / ".work" / "graph-0.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("1")
    assert main(["check", str(study.folder)]) == 0
    assert "1 runs, every checksum as written" in capsys.readouterr().out
    assert not lock.exists()
    file = next(study.runs.folder.glob("*/profiles.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    assert main(["check", str(study.folder)]) == 2
    assert "profiles.parquet" in capsys.readouterr().err


def test_publish_writes_one_file(capsys, study, tmp_path):
    assert main(["publish", str(study.folder), str(tmp_path / "out.duckdb")]) == 0
    assert (tmp_path / "out.duckdb").stat().st_size > 0
    assert "Did you mean 'profiles'" in refused(
        capsys, "publish", study.folder, tmp_path / "b.duckdb", "--without", "profile"
    )
    assert not (tmp_path / "b.duckdb").exists()
    assert "exists already" in refused(capsys, "publish", study.folder, tmp_path / "out.duckdb")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_so_and_is_resumed(study, how):
    words = [
        sys.executable,
        "-m",
        "workbench.command.cli",
        "measure",
        str(study.folder),
        "--model",
        "organism",
        "--n-contexts",
        "200",
    ]
    process = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not study.runs.unfinished() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(how)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "the same command resumes it" in told
    assert "Traceback" not in told
    assert study.runs.all() == []


ESCAPES = "\x1b[31mRED\x1b[0m\nworkbench: forged\u202e\u2028\x9b2J 數\t🧭"


def test_texts_of_others_command_no_terminal(capsys, study):
    with study.runs.begin("graph", {}, {}, 0) as work:
        work.finish({"model": ESCAPES})
    assert main(["runs", str(study.folder)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert r"\x1b[31mRED\x1b[0m\nworkbench: forged\u202e\u2028\x9b2J 數" in shown
    assert "🧭" in shown
    query = "SELECT summary->>'model' AS \"a\x1b\nb\", [summary->>'model'] AS list FROM runs"
    assert main(["sql", str(study.folder), query]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 2
    assert not {"\x1b", "\u202e", "\u2028", "\x9b"} & set(shown)
    refusal = refused(capsys, "sql", study.folder, f"SELECT * FROM {ESCAPES!r}")
    assert not {"\x1b", "\u202e", "\u2028", "\x9b"} & set(refusal)


def test_a_bad_run_is_named_and_the_rest_works(capsys, study):
    made = []
    for seed in (0, 1):
        with study.runs.begin("graph", {}, {}, seed) as work:
            made.append(work.finish({}).id)
    file = study.runs.folder / made[1] / "run.json"
    file.unlink()
    file.write_text("[" * 100_000)
    for words in (["runs"], ["sql", "SELECT run FROM runs"]):
        with pytest.warns(UserWarning, match=f"The run {made[1]} is damaged"):
            assert main([words[0], str(study.folder), *words[1:]]) == 0
        shown = capsys.readouterr().out
        assert made[0] in shown
        assert made[1] not in shown
    assert main(["check", str(study.folder)]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert made[1] in shown[0]
    assert "1 of 2 runs cannot be used" in shown[1]
    assert len(shown) == 2


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_query_that_is_stopped_is_one_line(capsys, study, how):
    usual = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(how))
    signal.alarm(1)
    try:
        query = "SELECT max(hash(x)) FROM range(300000000000) t(x)"
        assert main(["sql", str(study.folder), query]) == 130
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("workbench: stopped.")
