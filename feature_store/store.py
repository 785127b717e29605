"""The store: what DuckDB sees over the finished runs of a study.

1. Each process opens a catalog of its own, in memory: one view per relation of `schema/`, over the
   Parquet files of the finished runs. Nobody opens a shared database file, so readers never block
   writers, nor each other, and there is nothing to repair after a kill.
2. Before each query the folder is looked at (one directory listing); new runs join the views.
3. `publish` writes the same relations as tables of one self-contained `.duckdb` file, for any
   DuckDB client.

Queries are read-only: the catalog can reach the study's folder and nothing else of the machine.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from feature_store.errors import BadInput, WorkbenchError
from feature_store.files import replacing
from feature_store.records import Run
from feature_store.runs import Runs
from feature_store.schema import comments, quote, relations, schemas, tables

Parameters = Sequence[Any] | Mapping[str, Any]
"""What fills the placeholders of a query: in order for `?`, by name for `$name`."""
KEPT = 16
"""Answers kept in memory at once."""
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "preserve_insertion_order": True,
}


class Store:
    """Read-only queries over the finished runs of a study. Safe to share among threads.

    store = Store(study / "runs")
    store.sql("SELECT feature, value, score FROM labels WHERE run = ? AND accepted", [run])
    """

    def __init__(self, folder: Path):
        """Open the runs in `folder`, a study's `runs`, which need not exist."""
        folder = folder.resolve()  # DuckDB compares whole paths with the one it is allowed
        self.runs = Runs(folder)
        self._connection = duckdb.connect(config=_CONFIG)
        self._connection.execute("ATTACH ':memory:' AS declared; USE declared")
        self._connection.execute(tables())
        self._connection.execute("USE memory")
        self._connection.execute("SET parquet_metadata_cache=true")  # finished files never change
        self._connection.execute(f"SET allowed_directories=[{quote(str(folder))}]")
        self._connection.execute("SET enable_external_access=false")
        self._views_lock = threading.Lock()
        self._ids: frozenset[str] | None = None
        self._answers_lock = threading.Lock()
        self._answers: dict[tuple[Any, ...], str] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Let new runs join the views; true if there were any."""
        with self._views_lock:
            ids = frozenset(self.runs.ids())
            if ids == self._ids:
                return False
            for relation in schemas():
                self._view(relation, sorted(ids))
            self._ids = ids
            return True

    def sql(self, query: str, parameters: Parameters = ()) -> pd.DataFrame:
        """The answer to a query, as a frame.

        Raises BadInput with DuckDB's own sentence for a query that fails.
        """
        with self._asking():
            return self._relation(query, parameters).df()

    def arrow(self, query: str, parameters: Parameters = ()) -> pa.Table:
        """The answer to a query, as an Arrow table. Raises as `sql` does."""
        with self._asking():
            return self._relation(query, parameters).to_arrow_table()

    def kept(self, query: str, parameters: Sequence[Any] = ()) -> str:
        """Name of a table in this process's memory that holds the answer to a query.

        For what is asked again and again of finished runs, which never change: the table is made at
        the first call and read like any other. Of more than `KEPT` answers, the one that was not
        asked for the longest goes.
        """
        key = (query, *parameters)
        with self._answers_lock:
            name = self._answers.pop(key, "") or self._keep(key)
            self._answers[key] = name  # at the end: the first one is the next to go
            return name

    def relations(self) -> pd.DataFrame:
        """Every column of every relation with its type and unit."""
        rows = []
        for relation in relations():
            rows += [(relation.name, *astuple(column)) for column in relation.columns]
        return pd.DataFrame(rows, columns=["relation", "column", "type", "unit"])

    def publish(self, file: Path) -> Path:
        """Write every relation as a table of one `.duckdb` file; returns the file.

        DuckDB 1.5 and newer read it. Raises BadInput where the file exists.
        """
        if file.exists():
            raise BadInput(f"{file} exists already. Choose another name, or remove it first.")
        self.refresh()
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(file) as beside:
                beside.unlink(missing_ok=True)
                self._copy(beside)
        except duckdb.Error as error:
            raise WorkbenchError(f"{file} could not be written: {_sentence(error)}") from None
        return file

    def _copy(self, file: Path) -> None:
        # A connection of its own: the store's may not touch files outside the study.
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH {quote(str(file))} AS published (STORAGE_VERSION 'v1.5.0')")
            connection.execute("USE published")
            connection.execute(tables())
            connection.execute(comments())
            for relation in schemas():
                rows = self.arrow(f'SELECT * FROM "{relation}"')
                connection.register("rows_to_publish", rows)
                query = f'INSERT INTO "{relation}" BY NAME SELECT * FROM rows_to_publish'
                connection.execute(query)
                connection.unregister("rows_to_publish")

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        self.refresh()
        try:
            yield
        except duckdb.Error as error:
            raise BadInput(f"DuckDB cannot answer this query: {_sentence(error)}") from None

    def _relation(self, query: str, parameters: Parameters) -> duckdb.DuckDBPyRelation:
        kinds = [statement.type for statement in self._connection.extract_statements(query)]
        if kinds not in ([duckdb.StatementType.SELECT], [duckdb.StatementType.EXPLAIN]):
            raise BadInput(
                "The store answers one question and changes nothing. "
                "Ask with SELECT, e.g. SELECT * FROM runs."
            )
        return self._connection.cursor().sql(query, params=parameters or None)

    def _keep(self, key: tuple[Any, ...]) -> str:
        """Make the table of an answer, and drop the one that was not asked for the longest."""
        query, *parameters = key
        answer = self.arrow(query, parameters)
        name = f"kept_{len(self._answers)}_{abs(hash(key)):x}"
        with self._connection.cursor() as cursor:
            cursor.register("answer_to_keep", answer)
            table = f"memory.main.{name}"
            cursor.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM answer_to_keep")
            cursor.unregister("answer_to_keep")
            if len(self._answers) >= KEPT:
                oldest = next(iter(self._answers))
                cursor.execute(f"DROP TABLE memory.main.{self._answers.pop(oldest)}")
        return name

    def _view(self, relation: str, ids: list[str]) -> None:
        if relation == "runs":
            self._register_runs(ids)
            return
        files = [str(self.runs.folder / id / f"{relation}.parquet") for id in ids]
        files = [file for file in files if os.path.exists(file)]
        source = f"declared.main.{relation}"
        if files:
            source = f"read_parquet([{', '.join(map(quote, files))}], union_by_name=true)"
        view = f'memory.main."{relation}"'
        self._connection.execute(f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM {source}")

    def _register_runs(self, ids: list[str]) -> None:
        runs = sorted(map(self.runs.get, ids), key=lambda run: run.created)
        # Times travel as text: DuckDB reads ISO 8601 itself.
        schema = pa.schema([_as_text(field) for field in schemas()["runs"]])
        table = pa.Table.from_pylist([_run_row(run) for run in runs], schema=schema)
        self._connection.register("runs_as_text", table)
        self._connection.execute("""CREATE OR REPLACE TABLE memory.main.runs AS SELECT * REPLACE (
                created::TIMESTAMP AS created, config::JSON AS config, inputs::JSON AS inputs,
                summary::JSON AS summary, environment::JSON AS environment) FROM runs_as_text""")
        self._connection.unregister("runs_as_text")


def _as_text(field: pa.Field) -> pa.Field:
    return field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field


def _run_row(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "kind": run.kind,
        "status": run.status,
        "created": run.created.replace("+00:00", ""),
        "seconds": run.seconds,
        "seed": run.seed,
        "config": json.dumps(run.config),
        "inputs": json.dumps(run.inputs),
        "summary": json.dumps(run.summary),
        "environment": json.dumps(run.environment),
    }


def _sentence(error: duckdb.Error) -> str:
    return " ".join(str(error).split())
