import json
import os
import signal
import subprocess
import sys
import textwrap

import pyarrow as pa
import pytest

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
    assert runs.interrupted() == []
    assert list((runs.folder / ".work").iterdir()) == []
    refuse(True)
    assert [run.config for run in runs.interrupted()] == [{"keep": True}]


def test_the_same_work_has_the_same_id_and_other_work_another(runs):
    assert make(runs).id == runs.find("graph", {"a": 1}, {}, 0)
    assert runs.find("graph", {"a": 1}, {}, 1) != runs.find("graph", {"a": 1}, {}, 0)
    assert runs.find("graph", {"a": 1}, {"sae": "x"}, 0) != runs.find("graph", {"a": 1}, {}, 0)


def test_a_run_that_fails_is_invisible_and_keeps_its_parts(runs):
    with pytest.raises(ZeroDivisionError), runs.begin("effects", {}, {}, 0) as work:
        work.part("ratings", 0, pa.table({"x": [1]}))
        raise ZeroDivisionError
    assert runs.all() == []
    assert [run.status for run in runs.interrupted()] == ["interrupted"]
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
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert runs.damaged(run.id) == ["edges.parquet"]
    file.unlink()
    assert runs.damaged(run.id) == ["edges.parquet"]


def test_a_newer_format_and_a_damaged_description_are_named(runs):
    run = make(runs)
    file = runs.folder / run.id / "run.json"
    fields = json.loads(file.read_text())
    file.write_text(json.dumps(fields | {"format": 99}))
    with pytest.raises(Incompatible, match="99"):
        runs.get(run.id)
    file.write_text("{")
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
