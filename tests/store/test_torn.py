"""Torn files of an interrupted run: whatever a loss of power leaves of them, the run is finished
with the same tables, in one line a file."""

import json
import os
import warnings

import pyarrow as pa
import pytest

from feature_store.runs import Runs

CONFIG = {"replicates": 100}


def _edges(number: int) -> list[dict]:
    """One made-up edge: what the job of these tests measures."""
    numbers = ("weight", "low", "high", "z", "p", "q", "total", "total_low", "total_high")
    edge = {"source": "power", "target": f"v{number}", "present": True, "frequency": 1.0}
    return [edge | dict.fromkeys(numbers, 0.1 * number)]


def _work(runs: Runs, parts: int, made: list[int], finish: bool = True):
    """Make the parts that are not kept, note their numbers in `made`, and finish the run."""
    with runs.begin("graph", CONFIG, {}, 0) as work:
        for number in range(parts):
            if number not in work.done("edges", "weights"):
                made.append(number)
                work.part("weights", number, pa.table({"weight": [0.1 * number] * 50}))
                work.part("edges", number, pa.Table.from_pylist(_edges(number)))
        if not finish:
            raise KeyboardInterrupt
        assert work.parts("weights").num_rows == 50 * parts
        work.table("edges", work.parts("edges").to_pylist())
        return work.finish({"edges": parts})


def _interrupted(folder) -> Runs:
    """A run of three parts that was interrupted after the last one."""
    runs = Runs(folder)
    with pytest.raises(KeyboardInterrupt):
        _work(runs, 3, [], finish=False)
    return runs


def _files(folder) -> list[str]:
    """Every file of the interrupted run."""
    work = folder / ".work"
    paths = [file for file in work.rglob("*") if file.is_file()]
    return sorted(str(file.relative_to(folder)) for file in paths)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of the run that nobody interrupted."""
    return _work(Runs(tmp_path_factory.mktemp("whole") / "runs"), 3, []).files


NAMES = (
    "run.json",
    "seconds",
    *(f"state/{relation}/{n:06d}.parquet" for relation in ("edges", "weights") for n in (0, 2)),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_torn_file_is_made_again(tmp_path, whole, name):
    id = _interrupted(tmp_path / "first").unfinished()[0].id
    content = (tmp_path / "first" / ".work" / id / name).read_bytes()
    sizes = {*range(0, len(content), max(len(content) // 25, 1)), len(content) - 1}
    for size in sorted(sizes):
        folder = tmp_path / f"cut-{size}"
        runs = _interrupted(folder)
        file = folder / ".work" / id / name
        os.truncate(file, size)
        made: list[int] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = _work(runs, 3, made)
        lines = [str(warning.message) for warning in caught]
        assert run.files == whole, size
        assert runs.damaged(id) == []
        assert not list((folder / ".work").iterdir())
        assert all("\n" not in line and "is damaged" in line for line in lines)
        assert made == ([int(file.stem)] if file.suffix == ".parquet" else [])
        if name != "seconds":  # the first digits of a time are a time, too
            assert len(lines) == 1, size


@pytest.mark.parametrize("content", ["", "soon", "nan", "-1", "inf", "1e999", "\0\0\0\0", "[1]"])
def test_a_note_of_the_time_that_is_none_is_not_counted(tmp_path, whole, content):
    runs = _interrupted(tmp_path)
    file = tmp_path / ".work" / runs.unfinished()[0].id / "seconds"
    file.write_text(content)
    with pytest.warns(UserWarning, match="the time before it is not counted"):
        run = _work(runs, 3, [])
    assert run.files == whole
    assert 0 <= run.seconds < 60


def test_a_flipped_byte_of_a_part_is_seen(tmp_path, whole):
    """Parquet's pages carry checksums in parts: a byte that rots is not counted as a number."""
    first = _interrupted(tmp_path / "first")
    id = first.unfinished()[0].id
    content = (tmp_path / "first" / ".work" / id / "state/weights/000001.parquet").read_bytes()
    for place in range(4, len(content), max(len(content) // 40, 1)):
        runs = _interrupted(tmp_path / f"flip-{place}")
        file = tmp_path / f"flip-{place}" / ".work" / id / "state/weights/000001.parquet"
        file.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with runs.begin("graph", CONFIG, {}, 0) as work:
                kept = work.kept("weights", 1) if 1 in work.done("weights") else None
        assert kept is None or kept.equals(pa.table({"weight": [0.1] * 50})), place


@pytest.mark.parametrize("name", ["run.json.part", "seconds.part", "edges.parquet.part"])
def test_what_a_killed_process_left_beside_a_file_is_swept(tmp_path, whole, name):
    """Else it would be a file of the finished run, which `check` misses once it is renamed."""
    runs = _interrupted(tmp_path)
    id = runs.unfinished()[0].id
    (tmp_path / ".work" / id / name).write_text("half")
    assert _work(runs, 3, []).files == whole
    assert runs.damaged(id) == []
    assert json.loads((tmp_path / id / "run.json").read_text())["status"] == "finished"
