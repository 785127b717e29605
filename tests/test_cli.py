"""What a person reads after a mistake: one line, exit code 2, nothing lost."""

import os
import signal
import subprocess
import sys
import time

import pytest

from workbench.cli import main
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
    assert "is no study" in refused(capsys, "runs", tmp_path / "letters")
    assert "is no study" in refused(capsys, "train", tmp_path / "letters")
    assert (tmp_path / "letters" / "a.txt").read_text() == "x"
    assert "is no study" in refused(capsys, "runs", tmp_path / "nowhere")
    assert "is no study" in refused(capsys, "app", tmp_path / "nowhere")


def test_a_study_of_a_newer_version_or_damaged(capsys, study):
    described = study.folder / "study.json"
    described.write_text('{"format": 9, "system": "schwartz10"}')
    assert "format 9" in refused(capsys, "runs", study.folder)
    described.write_text("{")
    assert "damaged" in refused(capsys, "runs", study.folder)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("label",), "Run `workbench train` or `workbench adopt` first"),
        (("effects",), "Run `workbench label` first"),
        (("graph",), "Run `workbench effects` first"),
        (("measure", "--strength", "nan"), "finite"),
        (("measure", "--strength", "lots"), "--strength expects float"),
        (("measure", "--model", "organism", "--features", "x", "--strength", "1"), "index or index:weight"),
        (("measure", "--model", "organism", "--instrument", "standing"), "Did you mean 'standin'"),
        (("measure", "--model", "organism", "--wordings", "plan"), "Did you mean 'plain'"),
        (("measure", "--model", "no/such/folder"), "no/such/folder"),
        (("train", "--model", "organism", "--layer", "12"), "layers 0 to 3"),
        (("train", "--model", "organism", "--texts", "no-such-folder"), "no-such-folder"),
        (("train", "--model", "organism", "--context", "100000"), "100000"),
        (("train", "--job", "no.toml"), "no job file"),
        (("adopt", "no-such-sae", "--model", "organism"), "no-such-sae"),
        (("sql", "SELEC 1"), "DuckDB cannot answer"),
        (("sql", "CREATE TABLE x (a INT)"), "changes nothing"),
    ],
)
def test_a_mistake_is_one_line(capsys, study, words, told):
    verb, *rest = words
    assert told in refused(capsys, verb, study.folder, *rest)
    assert study.runs.all() == []


def test_plugins_are_listed_with_their_place(capsys):
    assert main(["plugins", "values"]) == 0
    told = capsys.readouterr().out
    assert "schwartz10" in told
    assert "schwartz10.py:" in told
    assert "no plug-in kind" in refused(capsys, "plugins", "flavours")


def test_a_profile_from_the_command_line(capsys, study):
    words = ["measure", str(study.folder), "--model", "organism", "--n-contexts", "4", "--replicates", "200"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert main(words) == 0  # the same work is the same run
    assert capsys.readouterr().out == first
    assert main(["sql", str(study.folder), "SELECT count(*) AS n FROM profiles"]) == 0
    assert capsys.readouterr().out.split() == ["n", "20"]
    assert main(["check", str(study.folder)]) == 0
    assert "1 runs, every checksum as written" in capsys.readouterr().out
    file = next(study.runs.folder.glob("*/profiles.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    assert main(["check", str(study.folder)]) == 2
    assert "profiles.parquet" in capsys.readouterr().err


def test_publish_writes_one_file(capsys, study, tmp_path):
    assert main(["publish", str(study.folder), str(tmp_path / "out.duckdb")]) == 0
    assert (tmp_path / "out.duckdb").stat().st_size > 0
    assert "exists already" in refused(capsys, "publish", study.folder, tmp_path / "out.duckdb")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_so_and_is_resumed(study, how):
    words = [sys.executable, "-m", "workbench.cli", "measure", str(study.folder), "--model", "organism", "--n-contexts", "200"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while not study.runs.interrupted() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(how)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "the same command resumes it" in told
    assert "Traceback" not in told
    assert study.runs.all() == []
