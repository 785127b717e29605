"""A published study is opened by its file or its name, read like any other, and never written."""

import pytest

from feature_store.errors import BadInput
from tests.helpers.synthetic import synthetic
from workbench import study_file
from workbench.command.cli import main
from workbench.study import Study


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def study(tmp_path):
    return synthetic(tmp_path / "study")


@pytest.fixture
def file(study, tmp_path):
    return study.publish(tmp_path / "theirs.duckdb", ["activations"], "Ask `them` for weights.")


def test_it_reads_like_the_study_that_it_was(study, file):
    theirs = Study(file)
    assert theirs.system_id == study.system_id
    assert theirs.labels("power").best == study.labels("power").best
    assert theirs.side_effects("power").equals(study.side_effects("power"))
    assert theirs.edges().equals(study.edges())
    assert theirs.published == study_file.Published(
        file="theirs.duckdb", note="Ask `them` for weights.", without="activations"
    )
    assert study.published is None


def test_it_is_unfolded_once_and_by_its_content(file, cache, tmp_path):
    folder = Study(file).folder
    assert Study(str(file)).folder == folder
    assert folder.is_relative_to(cache)
    assert folder.name == "theirs"
    other = synthetic(tmp_path / "other", seed=1)
    file.unlink()
    other.publish(file)
    assert Study(file).folder != folder
    assert not list(cache.rglob(".*-*"))


@pytest.mark.parametrize("verb", ["measure", "train", "graph", "label"])
def test_no_verb_writes_into_it(file, capsys, verb):
    assert main([verb, str(file)]) == 2
    assert "theirs.duckdb is a published study, to be read only" in capsys.readouterr().err


def test_nothing_is_steered_without_weights_and_the_note_says_what_to_do(file):
    theirs = Study(file)
    run = theirs.runs.latest("sae")
    with pytest.raises(BadInput, match="read only"):
        theirs.effects()
    with pytest.raises(Exception, match="without its weights.*Ask `them` for weights") as error:
        theirs.sae(run)
    assert type(error.value).__name__ == "NotFound"


def test_the_commands_that_look_take_it(file, capsys):
    for command in (["runs"], ["check"], ["study"]):
        assert main([command[0], str(file)]) == 0
    assert main(["sql", str(file), "SELECT count(*) AS n FROM activations"]) == 0
    out = capsys.readouterr().out
    assert "every checksum as written" in out
    assert f"workbench app {file}" in out
    assert out.split()[-1] == "0"


def test_a_file_that_is_no_study_is_one_line(tmp_path, capsys):
    for name, content in (
        ("a.duckdb", b"hello"),
        ("b.csv", b""),
        ("c.duckdb", b"\0" * 8 + b"DUCK"),
    ):
        (tmp_path / name).write_bytes(content)
        assert main(["runs", str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert "no published study" in err
        assert err.count("\n") == 1
    assert not list((tmp_path / "cache").rglob("study.json"))


def test_a_name_is_a_shipped_study_only_where_no_folder_has_it(file, tmp_path, monkeypatch):
    monkeypatch.setattr(study_file, "SHIPPED", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert study_file.shipped() == {"theirs": file}
    assert Study("theirs", create=False).published.file == "theirs.duckdb"
    assert Study("theirs").published is None  # a new study of that name
    assert Study("theirs", create=False).published is None
