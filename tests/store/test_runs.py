import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from feature_store import descriptions
from feature_store.errors import BadInput, Busy, Incompatible, NotFound, WorkbenchError
from feature_store.records import Edge
from feature_store.runs import Runs

EDGE = Edge(
    source="power",
    target="universalism",
    weight=-0.7,
    low=-0.9,
    high=-0.5,
    z=-8.0,
    q=0.001,
    frequency=1.0,
    present=True,
)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def make(runs, config=None, kind="graph"):
    with runs.begin(kind, config or {"a": 1}, {}, 0) as work:
        work.table("edges", [EDGE])
        return work.finish({"edges": 1})


def overwrite(file, content):
    """Replace a file of a finished run, whose files are read-only."""
    file.unlink()
    file.write_bytes(content)


def test_a_finished_run_reads_back_whole(runs):
    run = make(runs)
    assert runs.get(run.id) == run
    assert run.status == "finished"
    assert runs.damaged(run.id) == []
    assert not list((runs.folder / ".work").glob("*/"))


def test_what_is_refused_before_anything_is_kept_leaves_nothing_and_what_kept_something_stays(runs):
    def refuse(keep):
        with pytest.raises(BadInput), runs.begin("graph", {"keep": keep}, {}, 0) as work:
            if keep:
                work.part("edges", 0, pa.table({"a": [1]}))
            raise BadInput("no")

    refuse(False)
    assert runs.unfinished() == []
    assert list((runs.folder / ".work").iterdir()) == []
    refuse(True)
    assert [run.config for run in runs.unfinished()] == [{"keep": True}]


def test_a_run_that_a_process_makes_is_running_and_looking_stops_nobody(runs):
    with runs.begin("graph", {}, {}, 0) as work:
        work.part("edges", 0, pa.table({"a": [1]}))
        assert [run.status for run in runs.unfinished()] == ["running"]
        with pytest.raises(Busy), runs.begin("graph", {}, {}, 0):
            pass
    assert [run.status for run in runs.unfinished()] == ["interrupted"]
    ended = threading.Event()

    def look():
        while not ended.is_set():
            runs.unfinished()
            time.sleep(0.002)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(100):
            with runs.begin("graph", {}, {}, 0):
                pass
    finally:
        ended.set()
        for looker in lookers:
            looker.join()


def test_the_same_work_has_the_same_id_and_other_work_another(runs):
    assert make(runs).id == runs.find("graph", {"a": 1}, {}, 0)
    assert runs.find("graph", {"a": 1}, {}, 1) != runs.find("graph", {"a": 1}, {}, 0)
    assert runs.find("graph", {"a": 1}, {"sae": "x"}, 0) != runs.find("graph", {"a": 1}, {}, 0)


def test_a_run_that_fails_is_invisible_and_keeps_its_parts(runs):
    with pytest.raises(ZeroDivisionError), runs.begin("effects", {}, {}, 0) as work:
        work.part("ratings", 0, pa.table({"x": [1]}))
        raise ZeroDivisionError
    assert runs.all() == []
    assert [run.status for run in runs.unfinished()] == ["interrupted"]
    with runs.begin("effects", {}, {}, 0) as work:
        assert work.done("ratings") == {0}
        work.part("ratings", 1, pa.table({"x": [2]}))
        assert work.parts("ratings")["x"].to_pylist() == [1, 2]
        run = work.finish({})
    assert not (runs.folder / run.id / "state").exists()


CHILD = """
    import sys, time, pyarrow as pa
    from pathlib import Path
    from feature_store.runs import Runs
    with Runs(Path(sys.argv[1])).begin("effects", {}, {}, 0) as work:
        work.part("ratings", 0, pa.table({"x": [1]}))
        print("ready", flush=True)
        time.sleep(60)
"""


def child(runs):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(runs.folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_cannot_make_the_same_run_and_a_killed_one_lets_go(runs):
    process = child(runs)
    try:
        with pytest.raises(Busy, match=f"process {process.pid}"), runs.begin("effects", {}, {}, 0):
            pass
        assert make(runs).status == "finished"  # another run is not in its way
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with runs.begin("effects", {}, {}, 0) as work:
        assert work.done("ratings") == {0}


def test_damage_is_found(runs):
    run = make(runs)
    file = runs.folder / run.id / "edges.parquet"
    overwrite(file, file.read_bytes()[:-1] + b"x")
    assert runs.damaged(run.id) == ["edges.parquet"]
    file.unlink()
    assert runs.damaged(run.id) == ["edges.parquet"]


def test_a_newer_format_and_a_damaged_description_are_named(runs):
    run = make(runs)
    file = runs.folder / run.id / "run.json"
    fields = json.loads(file.read_text())
    overwrite(file, json.dumps(fields | {"format": 99}).encode())
    with pytest.raises(Incompatible, match="99"):
        runs.get(run.id)
    overwrite(file, b"{")
    with pytest.raises(BadInput, match="Remove the folder"):
        runs.get(run.id)


def test_an_unknown_run_suggests_one(runs):
    run = make(runs)
    with pytest.raises(NotFound, match=run.id):
        runs.get(run.id[:-1] + "z")
    with pytest.raises(NotFound, match="no finished run of kind 'labels' yet. Label first."):
        runs.latest("labels", "Label first.")


def test_a_table_must_have_the_declared_columns(runs):
    with (
        pytest.raises(ValueError, match="the schema declares"),
        runs.begin("graph", {}, {}, 0) as work,
    ):
        work.table("edges", pa.table({"source": ["power"]}))


def test_a_full_disk_is_one_clear_line(runs, monkeypatch):
    import errno

    import pyarrow.parquet as pq

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(WorkbenchError, match="No space left on device.*run the same command again"):
        make(runs)
    monkeypatch.undo()
    assert make(runs).status == "finished"


def test_a_name_that_is_no_folders_is_not_found(runs):
    make(runs)
    for name in ("", ".", "..", "../runs", "a/b", "x" * 5000, "a\0b", "a\nb"):
        with pytest.raises(NotFound) as refused:
            runs.get(name)
        assert str(refused.value).isprintable()


def edited(**fields):
    """What makes another description of one: fields replaced."""
    return lambda described: json.dumps(described | fields).encode()


BAD = {
    "newer": edited(format=2),
    "format": edited(format="1"),
    "files": edited(files=None),
    "files out of the folder": edited(files={"../study.json": "0" * 64}),
    "no checksums": edited(files={"edges.parquet": "abc"}),
    "created a number": edited(created=5),
    "created a word": edited(created="yesterday"),
    "seed a word": edited(seed="abc"),
    "seed too large": edited(seed=2**70),
    "summary a list": edited(summary=[1]),
    "inputs of numbers": edited(inputs={"sae": 3}),
    "seconds not finite": edited(seconds=float("nan")),
    "another status": edited(status="done"),
    "not finished": edited(status="interrupted"),
    "unknown field": edited(colour="red"),
    "not UTF-8": lambda _: b"\xff\xfe",
    "not JSON": lambda _: b"{",
    "nested": lambda _: b"[" * 100_000,
    "a list": lambda _: b"[]",
    "half a pair": lambda described: json.dumps(described | {"kind": "\ud800"}).encode(),
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_run_whose_description_is_bad_is_named_and_the_others_are_there(runs, kind):
    good, bad = make(runs), make(runs, {"a": 2})
    file = runs.folder / bad.id / "run.json"
    overwrite(file, BAD[kind](json.loads(file.read_text())))
    assert runs.all() == [good]
    ((name, line),) = runs.look()[1].items()
    assert name == bad.id
    assert bad.id in line
    assert line.isprintable()
    assert re.search("Update the workbench|Remove ", line)
    with pytest.warns(UserWarning, match=bad.id):
        assert runs.latest("graph") == good


def test_a_folder_that_is_not_its_runs_own_is_named(runs):
    run = make(runs)
    copy = runs.folder / "graph-copy"
    shutil.copytree(runs.folder / run.id, copy)
    (runs.folder / "graph-link").symlink_to(copy)
    (runs.folder / "empty").mkdir()
    os.mkfifo(runs.folder / "empty-pipe")
    (runs.folder / "pipe").mkdir()
    os.mkfifo(runs.folder / "pipe" / "run.json")
    (runs.folder / "notes.txt").write_text("not a folder")
    assert runs.all() == [run]
    bad = runs.look()[1]
    assert sorted(bad) == ["empty", "graph-copy", "graph-link", "pipe"]
    assert f"is a copy: it holds the run {run.id}" in bad["graph-copy"]
    assert "is a link" in bad["graph-link"]
    assert "no run.json" in bad["empty"]


def test_a_stray_folder_in_a_runs_place_is_said_before_any_work(runs):
    (runs.folder / runs.find("graph", {}, {}, 0)).mkdir(parents=True)
    with pytest.raises(BadInput, match="it is no run"), runs.begin("graph", {}, {}, 0):
        raise AssertionError("the work began")
    assert list((runs.folder / ".work").iterdir()) == []


def test_a_run_that_finishes_while_the_interrupted_ones_are_listed_is_in_neither_way(
    runs, monkeypatch
):
    with pytest.raises(KeyboardInterrupt), runs.begin("graph", {}, {}, 0):
        raise KeyboardInterrupt
    usual = descriptions.read

    def late(folder):
        shutil.move(folder, runs.folder / folder.name)
        return usual(folder)

    monkeypatch.setattr(descriptions, "read", late)
    assert runs.unfinished() == []


def test_an_interrupted_run_that_cannot_be_read_is_warned_of(runs):
    for config in ({"a": 1}, {"a": 2}):
        with pytest.raises(KeyboardInterrupt), runs.begin("graph", config, {}, 0):
            raise KeyboardInterrupt
    torn = runs.folder / ".work" / runs.find("graph", {"a": 1}, {}, 0) / "run.json"
    torn.write_text("{")
    with pytest.warns(UserWarning, match=torn.parent.name):
        assert [run.config for run in runs.unfinished()] == [{"a": 2}]


def test_who_comes_second_gets_the_finished_run(runs):
    """Both looked before either began; the second takes the lock after the first has finished."""
    first = make(runs)
    before = (runs.folder / first.id / "edges.parquet").read_bytes()
    with runs.begin("graph", {"a": 1}, {}, 0) as work:
        assert work.run == first
        work.table("edges", [])
        assert work.finish({"edges": 0}) == first
    assert runs.all() == [first]
    assert (runs.folder / first.id / "edges.parquet").read_bytes() == before
    assert list((runs.folder / ".work").iterdir()) == []


def test_a_lock_that_was_removed_while_it_was_opened_is_not_held(runs, monkeypatch):
    """The holder removes its lock file after another has opened it: that one must open the new
    file, or it and whoever comes third would both hold a lock of the same run."""
    file = runs.folder / ".work" / f"{runs.find('graph', {}, {}, 0)}.lock"
    usual, opened = fcntl.flock, []

    def flock(handle, how):
        if not opened:  # the holder ends between the opening and the locking
            file.unlink()
        opened.append(handle)
        return usual(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with runs.begin("graph", {}, {}, 0):
        assert len(opened) == 2
        assert os.path.samestat(file.stat(), os.fstat(opened[1].fileno()))
        with pytest.raises(Busy), runs.begin("graph", {}, {}, 0):
            pass
    assert not file.exists()


def test_the_lock_of_a_process_that_died_with_its_run_finished_is_removed(runs):
    run = make(runs)
    file = runs.folder / ".work" / f"{run.id}.lock"
    file.write_text("123")
    runs.clear_locks()
    assert not file.exists()
    runs.clear_locks()  # nothing is there, nothing happens


def test_a_lock_that_a_living_process_holds_is_not_removed(runs):
    with runs.begin("graph", {"a": 1}, {}, 0) as work:
        runs.clear_locks()
        assert (runs.folder / ".work" / f"{work.run.id}.lock").exists()
        with pytest.raises(Busy), runs.begin("graph", {"a": 1}, {}, 0):
            pass
        work.table("edges", [])
        work.finish({})


def test_a_run_that_was_killed_after_its_last_word_is_brought_to_its_place(runs, monkeypatch):
    def killed(folder, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("feature_store.work.publish", killed)
        with pytest.raises(KeyboardInterrupt):
            make(runs)
    assert runs.all() == []
    with runs.begin("graph", {"a": 1}, {}, 0) as work:
        assert work.run.status == "finished"
        assert work.finish({}) == work.run
    assert runs.damaged(work.run.id) == []
    assert runs.all() == [work.run]


def test_a_run_of_which_a_file_was_lost_with_the_power_is_made_again(runs, monkeypatch):
    def killed(folder, target):
        (folder / "edges.parquet").write_bytes(b"")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("feature_store.work.publish", killed)
        with pytest.raises(KeyboardInterrupt):
            make(runs)
    run = make(runs)
    assert runs.damaged(run.id) == []


def test_the_files_of_a_finished_run_are_read_only_and_its_folder_can_be_removed(runs):
    run = make(runs)
    folder = runs.folder / run.id
    assert {file.stat().st_mode & 0o222 for file in folder.iterdir()} == {0}
    shutil.copytree(folder, runs.folder / "copy")
    shutil.rmtree(folder)
    assert runs.all() == []


@pytest.mark.parametrize("rows", [0, 1, 65_535, 65_536, 65_537, 200_001])
def test_a_relation_in_pieces_has_the_bytes_of_one_at_once(tmp_path, rows):
    g = np.random.default_rng(rows)
    table = pa.table(
        {
            "feature": np.sort(g.integers(0, 300, rows)).astype(np.int32),
            "document": g.integers(0, 50, rows).astype(np.int32),
            "position": g.integers(0, 128, rows).astype(np.int32),
            "activation": g.random(rows, np.float32),
        }
    )
    cuts = np.sort(g.integers(0, rows + 1, 4)).tolist()
    ends = zip([0, *cuts], [*cuts, rows], strict=True)
    pieces = [table.slice(start, end - start) for start, end in ends]
    with Runs(tmp_path).begin("sae", {}, {}, 0) as work:
        work.table("activations", table)
        file = work.folder / "activations.parquet"
        at_once = file.read_bytes()
        work.stream("activations", pieces)
        assert file.read_bytes() == at_once
