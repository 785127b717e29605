"""What a run holds is verified where it is used, and not only by `workbench check`."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from feature_store import verified
from feature_store.errors import BadInput
from sae_training.model.runtime import Runtime
from workbench import Study
from workbench.command.cli import main


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study with a run of kind `labels`, of no more than its tables."""
    made = Study(tmp_path / "study")
    with made.runs.begin("labels", {"labeler": "contrast"}, {"sae": "sae-0"}, 0) as work:
        work.table("labels", [])
        (work.folder / "notes").mkdir()
        (work.folder / "notes" / "a.json").write_text("{}")
        work.finish({})
    return Study(made.folder)


def flip(file: Path) -> None:
    """Change one byte in the middle of a file, and leave its size."""
    os.chmod(file, 0o644)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def spoil(folder: Path, how: str) -> None:
    """Make a run another than was written."""
    if how == "flipped":
        flip(folder / "labels.parquet")
    if how == "missing":
        (folder / "labels.parquet").unlink()
    if how == "deep":
        flip(folder / "notes" / "a.json")
    if how == "folder":
        (folder / "labels.parquet").unlink()
        (folder / "labels.parquet").mkdir()
    if how == "added":
        shutil.copy(folder / "labels.parquet", folder / "edges.parquet")
    if how == "settings":
        os.chmod(folder / "run.json", 0o644)
        description = json.loads((folder / "run.json").read_text())
        description["config"]["labeler"] = "another"
        (folder / "run.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("flipped", "labels.parquet has changed"),
        ("missing", "labels.parquet is missing"),
        ("deep", "notes/a.json has changed"),
        ("folder", "labels.parquet is missing"),
        ("added", "edges.parquet is no file of it"),
        ("settings", "run.json states other settings"),
    ],
)
@pytest.mark.parametrize("name", ["latest", "id"])
def test_a_run_that_is_not_as_it_was_written_is_not_used(study, how, named, name):
    run = study.resolve("labels", "latest")
    spoil(study.runs.folder / run.id, how)
    with pytest.raises(BadInput, match=named):
        study.resolve("labels", run.id if name == "id" else "latest")
    with pytest.raises(BadInput, match=named):
        study.make("graph", {"seed": 0}, {"labels": run.id}, lambda work: {})
    if how != "settings":  # that run has the id of other work now
        with pytest.raises(BadInput, match=named):
            study.make("labels", {"labeler": "contrast"}, {"sae": "sae-0"}, lambda work: {}, 0)
    assert not study.runs.ids("graph")


def test_a_verb_refuses_what_it_would_read(study, capsys):
    run = study.resolve("labels", "latest")
    spoil(study.runs.folder / run.id, "missing")
    assert main(["effects", str(study.folder)]) == 2
    assert "labels.parquet is missing" in capsys.readouterr().err


def test_a_file_is_read_once_a_process(study, monkeypatch):
    verified._digest.cache_clear()
    read = []
    whole = verified.digest
    monkeypatch.setattr(verified, "digest", lambda file: read.append(file) or whole(file))
    study.resolve("labels", "latest")
    assert len(read) == 2
    study.resolve("labels", "latest")
    assert len(read) == 2


def test_a_long_input_is_no_run(study):
    run = study.make("graph", {"seed": 0}, {"target": "x" * 5000}, lambda work: {})
    assert run.id in study.runs.ids()


def test_a_run_names_every_machine_that_computed_it(tmp_path, monkeypatch):
    def stop(stage, done, total):
        raise KeyboardInterrupt

    asked = {"model": "organism", "n_contexts": 1, "replicates": 100}
    study = Study(tmp_path / "study")
    monkeypatch.setattr(Runtime, "machine", "cpu of one kind")
    with pytest.raises(KeyboardInterrupt):
        study.measure(progress=stop, **asked)
    monkeypatch.setattr(Runtime, "machine", "cpu of another kind")
    run = Study(study.folder).measure(**asked)
    assert run.environment["computing"] == "cpu of one kind, then cpu of another kind"
    assert ", then " not in run.environment["torch"]
    monkeypatch.undo()
    alone = Study(tmp_path / "alone").measure(**asked)
    assert alone.id == run.id
    assert f"{torch.get_num_threads()} threads" in alone.environment["computing"]
