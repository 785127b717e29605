import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest

from feature_store import schema
from feature_store.errors import BadInput
from feature_store.records import row
from feature_store.runs import Runs
from feature_store.store import Store
from tests.store.test_runs import EDGE as RECORD
from tests.store.test_runs import make

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
    with pytest.raises(BadInput, match="DuckDB cannot answer"):
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


def test_what_is_published_holds_the_same_rows_and_units(runs, tmp_path):
    make(runs)
    store = Store(runs.folder)
    file = store.publish(tmp_path / "out" / "study.duckdb")
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT weight FROM edges").fetchall() == [(-0.7,)]
        comments = connection.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'edges'"
        ).fetchall()
        assert "rating points" in dict(comments)["weight"]
    with pytest.raises(BadInput, match="exists already"):
        store.publish(file)


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
