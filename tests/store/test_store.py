import hashlib
import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import schema
from feature_store.errors import BadInput
from feature_store.records import row
from feature_store.runs import Runs
from feature_store.store import Store
from tests.store.test_runs import EDGE as RECORD
from tests.store.test_runs import make, overwrite

EDGE = row(RECORD)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def test_an_empty_study_has_every_relation(runs):
    store = Store(runs.folder)
    for relation in schema.schemas():
        assert len(store.sql(f"SELECT * FROM {relation}")) == 0


def test_every_column_has_a_unit(runs):
    columns = Store(runs.folder).relations()
    assert set(columns.relation) == set(schema.schemas())
    assert (columns.unit != "").all(), columns[columns.unit == ""]


def test_runs_that_finish_later_are_seen(runs):
    store = Store(runs.folder)
    first = make(runs)
    assert store.sql("SELECT run FROM edges").run.tolist() == [first.id]
    second = make(runs, {"a": 2})
    assert set(store.sql("SELECT run FROM edges").run) == {first.id, second.id}
    assert store.sql("SELECT summary->>'edges' AS n FROM runs").n.tolist() == ["1", "1"]


def test_a_query_changes_nothing_and_reaches_nothing_else(runs, tmp_path):
    make(runs)
    store = Store(runs.folder)
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with pytest.raises(BadInput, match="reads its relations"):
        store.sql(f"SELECT * FROM read_csv('{secret}')")
    with pytest.raises(BadInput):
        store.sql(f"COPY edges TO '{tmp_path / 'out.csv'}'")
    with pytest.raises(BadInput, match="DuckDB cannot answer.*edgs"):
        store.sql("SELECT * FROM edgs")
    assert len(store.sql("SELECT * FROM edges")) == 1


def test_readers_and_writers_do_not_wait_for_each_other(runs):
    make(runs)
    store = Store(runs.folder)
    reader = textwrap.dedent("""
        import sys
        from pathlib import Path
        from feature_store.store import Store
        print(len(Store(Path(sys.argv[1])).sql("SELECT * FROM edges")))
    """)
    with runs.begin("graph", {"open": True}, {}, 0) as work:  # a writer at work
        work.table("edges", [])
        out = subprocess.run(
            [sys.executable, "-c", reader, str(runs.folder)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stdout.strip() == "1"
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: len(store.sql("SELECT * FROM edges")), range(16))) == {1}
        work.finish({})


def test_a_number_that_is_not_known_passes_no_filter(runs):
    with runs.begin("graph", {}, {}, 0) as work:
        edge = EDGE | {"weight": 3.0, "q": 3.0}
        unknown = EDGE | {"weight": float("nan"), "q": float("nan")}
        rows = [edge | {"target": "a"}, unknown | {"target": "b"}, edge | {"target": "c"}]
        work.table("edges", rows)
        work.finish({})
    store = Store(runs.folder)
    assert store.sql("SELECT target FROM edges WHERE q < 5 ORDER BY target").target.tolist() == [
        "a",
        "c",
    ]
    assert store.sql("SELECT avg(q) AS q, count(q) AS n FROM edges").iloc[0].tolist() == [3.0, 2.0]
    assert store.sql("SELECT q FROM edges WHERE target = 'b'").q.isna().all()


def torn(file):
    overwrite(file, file.read_bytes()[:-200])


def missing(file):
    file.unlink()


def of_another_run(file):
    table = pq.read_table(file)
    names = pa.array(["graph-other"] * len(table))
    rewrite(file, table.set_column(0, "run", names))


def of_another_type(file):
    table = pq.read_table(file)
    rewrite(file, table.set_column(3, "weight", pa.array(["heavy"] * len(table))))


def without_its_run(file):
    rewrite(file, pq.read_table(file).drop_columns(["run"]))


def a_folder(file):
    file.unlink()
    file.mkdir()


def vouch(file):
    """Let the run's description give the checksum of the file as it is now."""
    described = json.loads((file.parent / "run.json").read_text())
    described["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    overwrite(file.parent / "run.json", json.dumps(described).encode())


def rewrite(file, table):
    file.unlink()
    pq.write_table(table, file)


@pytest.mark.filterwarnings("ignore:The run")
@pytest.mark.parametrize(
    "damage", [torn, missing, of_another_run, of_another_type, without_its_run, a_folder]
)
def test_a_run_with_a_damaged_table_is_named_and_the_others_answer(runs, damage):
    good, bad = make(runs), make(runs, {"a": 2})
    open_before = Store(runs.folder)
    assert len(open_before.sql("SELECT * FROM edges")) == 2
    damage(runs.folder / bad.id / "edges.parquet")
    for store in (open_before, Store(runs.folder)):
        assert store.sql("SELECT run, typeof(weight) AS type FROM edges").values.tolist() == [
            [good.id, "DOUBLE"]
        ]
        assert store.sql("SELECT run FROM runs").run.tolist() == [good.id]
        ((name, line),) = store.bad.items()
        assert name == bad.id
        assert "edges.parquet" in line
        assert line.isprintable()
    shutil.rmtree(runs.folder / bad.id)
    assert open_before.bad == {}
    make(runs, {"a": 2})
    assert len(open_before.sql("SELECT * FROM edges")) == 2


@pytest.mark.filterwarnings("ignore:The run")
def test_a_flipped_bit_becomes_no_number(runs):
    good, bad = make(runs), make(runs, {"a": 2})
    file = runs.folder / bad.id / "edges.parquet"
    content = bytearray(file.read_bytes())
    place = content.index(b"power")
    content[place] ^= 1
    overwrite(file, bytes(content))
    store = Store(runs.folder)
    assert store.sql("SELECT run, source FROM edges").values.tolist() == [[good.id, "power"]]
    assert "not as it was written" in store.bad[bad.id]


@pytest.mark.filterwarnings("ignore:The run")
def test_bytes_that_cannot_be_read_cost_the_answer_of_their_run_alone(runs):
    good, bad = make(runs), make(runs, {"a": 2})
    file = runs.folder / bad.id / "edges.parquet"
    store = Store(runs.folder)
    content = bytearray(file.read_bytes())
    content[4:400] = b"\xff" * 396  # the columns; the footer is as it was
    overwrite(file, bytes(content))
    vouch(file)
    assert store.sql("SELECT * FROM edges").run.tolist() == [good.id]
    assert "edges.parquet is torn" in store.bad[bad.id]


def test_a_column_that_an_earlier_version_did_not_have_is_not_known(runs):
    old = make(runs)
    file = runs.folder / old.id / "edges.parquet"
    rewrite(file, pq.read_table(file).drop_columns(["frequency"]))
    vouch(file)
    store = Store(runs.folder)
    assert store.sql("SELECT frequency FROM edges").frequency.isna().tolist() == [True]
    new = make(runs, {"a": 2})
    known = store.sql("SELECT run, frequency FROM edges WHERE frequency IS NOT NULL")
    assert known.values.tolist() == [[new.id, 1.0]]
    assert store.sql("SELECT * FROM edges").columns.tolist() == schema.schemas()["edges"].names


@pytest.mark.filterwarnings("ignore:The run")
def test_a_description_that_breaks_while_the_store_is_open_is_seen_and_so_is_its_repair(runs):
    good, bad = make(runs), make(runs, {"a": 2})
    store = Store(runs.folder)
    file = runs.folder / bad.id / "run.json"
    whole = file.read_bytes()
    overwrite(file, b"{")
    assert store.sql("SELECT run FROM runs").run.tolist() == [good.id]
    assert list(store.bad) == [bad.id]
    overwrite(file, whole)
    assert len(store.sql("SELECT run FROM runs")) == 2
    assert store.bad == {}


def test_a_figure_that_is_not_finite_leaves_the_runs_readable(runs):
    with runs.begin("graph", {}, {}, 0) as work:
        work.finish({"fvu": float("nan"), "l0": float("inf"), "n": 1})
    summary = Store(runs.folder).sql("SELECT summary FROM runs").summary[0]
    assert json.loads(summary) == {"fvu": None, "l0": None, "n": 1}


def test_ctrl_c_within_a_query_is_an_interruption(runs):
    store = Store(runs.folder)

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(1)
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            store.sql("SELECT max(hash(x)) FROM range(300000000000) t(x)")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)
    assert time.monotonic() - start < 60
