"""A query of the store only reads: over fifty statements that write, reach out, or try to."""

import hashlib
import os

import pytest

from feature_store.errors import BadInput
from feature_store.runs import Runs
from feature_store.store import Store
from tests.store.test_runs import make

HOSTILE = [
    "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{file}'",
    "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{runs}' (PARTITION_BY (a), OVERWRITE true)",
    "explain/**/analyze/**/COPY (SELECT 1) TO '{file}'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{file}'",
    "EXPLAIN COPY (SELECT 1) TO '{file}'",
    "EXPLAIN ANALYZE DELETE FROM runs",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    "WITH a AS (DELETE FROM runs RETURNING *) SELECT count(*) FROM a",
    "WITH a AS (INSERT INTO runs (run) VALUES ('x') RETURNING *) SELECT * FROM a",
    "WITH a AS (UPDATE runs SET seed = 7 RETURNING *) SELECT * FROM a",
    "WITH a AS (COPY (SELECT 1) TO '{file}') SELECT * FROM a",
    "EXPLAIN ANALYZE WITH a AS (DELETE FROM runs RETURNING *) SELECT count(*) FROM a",
    "SELECT * FROM (WITH a AS (DELETE FROM runs RETURNING *) SELECT * FROM a)",
    "SELECT (WITH a AS (DELETE FROM runs RETURNING seed) SELECT max(seed) FROM a)",
    "WITH RECURSIVE a AS (SELECT 1 AS n UNION ALL SELECT n FROM a WHERE false),"
    " b AS (DELETE FROM runs RETURNING *) SELECT * FROM a, b",
    "--EXPLAIN \nEXPLAIN ANALYZE WITH a AS (DELETE FROM runs RETURNING 1) --\n SELECT 1",
    "/*EXPLAIN */EXPLAIN ANALYZE WITH a AS (DELETE FROM runs RETURNING 1) SELECT 1",
    "MERGE INTO runs USING (SELECT 1 AS n) ON true WHEN MATCHED THEN DELETE",
    "COPY runs TO '{outside}'",
    "COPY (SELECT 1) TO '{file}' (FORMAT parquet)",
    "COPY runs FROM '{outside}'",
    "EXPORT DATABASE '{runs}/all'",
    "IMPORT DATABASE '{runs}/all'",
    "ATTACH '{runs}/new.duckdb' AS new",
    "ATTACH ':memory:' AS new",
    "DETACH declared",
    "USE declared",
    "CREATE TABLE t (a INT)",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW edges AS SELECT 1",
    "CREATE MACRO f(x) AS x + 1",
    "CREATE SECRET s (TYPE s3)",
    "DROP VIEW edges",
    "DELETE FROM runs",
    "TRUNCATE runs",
    "INSERT INTO runs (run) VALUES ('x')",
    "UPDATE runs SET seed = 1",
    "ALTER TABLE runs ADD COLUMN x INT",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{outside}'",
    "SET allowed_directories=['/']",
    "SET enable_external_access=true",
    "RESET lock_configuration",
    "SET VARIABLE x = 1",
    "PRAGMA enable_profiling",
    "PRAGMA temp_directory='{runs}'",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS DELETE FROM runs",
    "SELECT 1; DELETE FROM runs",
    "SELECT * FROM read_csv('{outside}')",
    "SELECT * FROM read_csv_auto('{runs}/link.csv')",
    "SELECT * FROM read_text('{study}/study.json')",
    "SELECT * FROM read_text('{runs}/link.csv')",
    "SELECT * FROM read_blob('/etc/hostname')",
    "SELECT * FROM read_json('{study}/study.json')",
    "SELECT * FROM read_parquet('{runs}/*/*.parquet')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM parquet_kv_metadata('{file}')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM sniff_csv('{outside}')",
    "SELECT * FROM '{outside}'",
    'SELECT * FROM "{file}"',
    "SELECT * FROM secret.csv",
    "SELECT * FROM other.main.runs",
    "DESCRIBE '{outside}'",
    "SUMMARIZE '{file}'",
    "FROM '{outside}'",
    "TABLE '{outside}'",
    "SELECT * FROM runs, LATERAL (SELECT * FROM read_text('{outside}'))",
    "SELECT * FROM query('DELETE FROM runs')",
    "SELECT * FROM query_table('{outside}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM histogram('{outside}', a)",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM enable_logging(storage='file', storage_path='{runs}/log')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM checkpoint()",
    "SELECT write_log('x')",
    "SELECT getenv('HOME')",
    "SELECT setseed(0.5)",
    "SELECT WRITE_LOG('x') FROM runs",
    "",
    ";",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    # In a folder of its own: what lies beside it is read again and again.
    folder = tmp_path_factory.mktemp("beside") / "study"
    folder.mkdir()
    (folder / "study.json").write_text("{}")
    runs = Runs(folder / "runs")
    run = make(runs)
    outside = folder.parent / f"{folder.name}-secret.csv"
    outside.write_text("a\n1\n")
    (runs.folder / "link.csv").symlink_to(outside)
    return {
        "study": folder,
        "runs": runs.folder,
        "file": runs.folder / run.id / "edges.parquet",
        "outside": outside,
    }


@pytest.fixture(scope="module")
def store(study):
    return Store(study["runs"])


def content(folder):
    """Path -> checksum of every file below a folder."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("statement", HOSTILE)
def test_a_query_that_does_more_than_read_is_refused(store, study, statement, monkeypatch):
    monkeypatch.chdir(study["runs"])
    before = content(study["study"].parent)
    with pytest.raises(BadInput) as refused:
        store.sql(statement.format(**study))
    assert "\n" not in str(refused.value)
    assert content(study["study"].parent) == before
    assert store.sql("SELECT (SELECT count(*) FROM runs), count(*) FROM edges").values.tolist() == [
        [1, 1]
    ]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM runs",
        "FROM runs",
        "VALUES (1), (2)",
        "TABLE edges",
        "DESCRIBE runs",
        "SHOW TABLES",
        "SUMMARIZE edges",
        "EXPLAIN SELECT * FROM edges",
        "EXPLAIN ANALYZE SELECT * FROM edges",
        "WITH a AS (SELECT * FROM edges) SELECT count(*) FROM a",
        "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a WHERE n < 5) FROM a",
        "SELECT unnest([1, 2]), 'COPY runs TO x'",
        "SELECT * FROM range(3), generate_series(1, 2), unnest([1])",
        "SELECT source FROM edges UNION SELECT target FROM edges ORDER BY 1 LIMIT 1",
        "SELECT column_name FROM information_schema.columns",
        "SELECT * FROM json_each('{\"a\": 1}')",
        "SELECT a.* FROM memory.main.runs a JOIN memory.main.edges USING (run)",
        "SELECT * FROM (PIVOT edges ON source IN ('power') USING sum(weight))",
        "-- a remark\nSELECT 1",
    ],
)
def test_a_query_that_only_reads_is_answered(store, query):
    assert len(store.sql(query)) > 0


def test_a_variable_of_the_program_is_no_relation(store):
    import pandas as pd

    secret = pd.DataFrame({"a": [1]})
    assert len(secret) == 1
    with pytest.raises(BadInput, match="secret"):
        store.sql("SELECT * FROM secret")


def test_a_query_that_needs_too_much_memory_writes_nothing_beside_the_program(store, tmp_path):
    assert store.sql("SELECT current_setting('temp_directory') AS folder").folder.tolist() == [""]


def test_a_finished_runs_files_may_not_be_written(study):
    files = [file for file in study["runs"].rglob("*") if file.is_file() and not file.is_symlink()]
    assert len(files) == 2
    for file in files:
        assert file.stat().st_mode & 0o222 == 0
    assert os.access(files[0].parent, os.W_OK)  # so that its owner can remove it
