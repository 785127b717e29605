"""The store: what DuckDB sees over the finished runs of a study.

1. Each process opens a catalog of its own, in memory: one view per relation of `schema/`, over the Parquet
   files of the finished runs. Nobody opens a shared database file, so readers never block writers, nor each
   other, and there is nothing to repair after a kill.
2. Before each query the folder is looked at (one directory listing); new runs join the views.
3. `publish` writes the same relations as tables of one self-contained `.duckdb` file, for any DuckDB client.

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

from feature_store.errors import BadInput, NotFound, WorkbenchError
from feature_store.runs import Runs
from feature_store.schema import comments, quote, relations, schemas, tables

KEPT = 16
"""Answers kept in memory at once."""


class Store:
    """Read-only queries over the finished runs in `folder` (a study's `runs`). Safe to share among threads."""

    def __init__(self, folder: Path):
        folder = folder.resolve()  # DuckDB compares whole paths with the one it is allowed
        self.runs = Runs(folder)
        self._connection = duckdb.connect(
            config={"autoinstall_known_extensions": False, "preserve_insertion_order": True}
        )
        self._connection.execute("ATTACH ':memory:' AS declared; USE declared")
        self._connection.execute(tables())
        self._connection.execute("USE memory")
        self._connection.execute("SET parquet_metadata_cache=true")  # finished files never change
        self._connection.execute(f"SET allowed_directories=[{quote(str(folder))}]; SET enable_external_access=false")
        self._lock, self._seen = threading.Lock(), None
        self._keeping, self._kept = threading.Lock(), {}
        self.refresh()

    def refresh(self) -> bool:
        """Let new runs join the views; true if there were any."""
        with self._lock:
            found = frozenset(self.runs.ids())
            if found == self._seen:
                return False
            for relation in schemas():
                self._view(relation, sorted(found))
            self._seen = found
            return True

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pd.DataFrame:
        """The answer to a query, as a frame. Raises BadInput with DuckDB's own sentence for a query that fails."""
        with self._asking():
            return self._relation(query, parameters).df()

    def arrow(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pa.Table:
        """The answer to a query, as an Arrow table."""
        with self._asking():
            return self._relation(query, parameters).to_arrow_table()

    def kept(self, query: str, parameters: Sequence[Any] = ()) -> str:
        """Name of a table in this process's memory with the answer to a query about finished runs, which never change.

        For what every page reads: the table is made at the first call and asked like any other. Of more than `KEPT`, the one
        that was not asked for the longest goes.
        """
        key = (query, *parameters)
        with self._keeping:
            if key not in self._kept:
                answer, name = self.arrow(query, parameters), f"kept_{len(self._kept)}_{abs(hash(key)):x}"
                with self._connection.cursor() as cursor:
                    cursor.register("answer_to_keep", answer)
                    cursor.execute(f"CREATE OR REPLACE TABLE memory.main.{name} AS SELECT * FROM answer_to_keep")
                    cursor.unregister("answer_to_keep")
                    if len(self._kept) >= KEPT:
                        cursor.execute(f"DROP TABLE memory.main.{self._kept.pop(next(iter(self._kept)))}")
                self._kept[key] = name
            self._kept[key] = self._kept.pop(key)
            return self._kept[key]

    def relations(self) -> pd.DataFrame:
        """Every column of every relation with its type and unit."""
        rows = [(relation.name, *astuple(column)) for relation in relations() for column in relation.columns]
        return pd.DataFrame(rows, columns=["relation", "column", "type", "unit"])

    def publish(self, file: Path) -> Path:
        """Write every relation as a table of one `.duckdb` file that DuckDB 1.5 and newer read; returns the file."""
        if file.exists():
            raise BadInput(f"{file} exists already. Choose another name, or remove it first.")
        self.refresh()
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(file.name + ".part")
        beside.unlink(missing_ok=True)
        # A connection of its own: the store's may not touch files outside the study.
        try:
            with duckdb.connect() as connection:
                connection.execute(
                    f"ATTACH {quote(str(beside))} AS published (STORAGE_VERSION 'v1.5.0'); USE published"
                )
                connection.execute(tables())
                connection.execute(comments())
                for relation in schemas():
                    rows = self.arrow(f'SELECT * FROM "{relation}"')
                    connection.register("rows_to_publish", rows)
                    connection.execute(f'INSERT INTO "{relation}" BY NAME SELECT * FROM rows_to_publish')
                    connection.unregister("rows_to_publish")
        except duckdb.Error as error:
            beside.unlink(missing_ok=True)
            raise WorkbenchError(f"{file} could not be written: {_sentence(error)}") from None
        beside.replace(file)
        return file

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        self.refresh()
        try:
            yield
        except duckdb.Error as error:
            raise BadInput(f"DuckDB cannot answer this query: {_sentence(error)}") from None

    def _relation(self, query: str, parameters: Sequence[Any] | Mapping[str, Any]) -> duckdb.DuckDBPyRelation:
        kinds = [statement.type for statement in self._connection.extract_statements(query)]
        if kinds not in ([duckdb.StatementType.SELECT], [duckdb.StatementType.EXPLAIN]):
            raise BadInput("The store answers one question and changes nothing. Ask with SELECT, e.g. SELECT * FROM runs.")
        return self._connection.cursor().sql(query, params=parameters or None)

    def _view(self, relation: str, ids: list[str]) -> None:
        if relation == "runs":
            self._register_runs(ids)
            return
        files = [str(self.runs.folder / id / f"{relation}.parquet") for id in ids]
        files = [file for file in files if os.path.exists(file)]
        source = f"declared.main.{relation}"
        if files:
            source = f"read_parquet([{', '.join(map(quote, files))}], union_by_name=true)"
        self._connection.execute(f'CREATE OR REPLACE VIEW memory.main."{relation}" AS SELECT * FROM {source}')

    def _register_runs(self, ids: list[str]) -> None:
        rows = []
        for run in sorted((self.runs.get(id) for id in ids), key=lambda run: run.created):
            rows.append({
                "run": run.id, "kind": run.kind, "status": run.status, "created": run.created.replace("+00:00", ""),
                "seconds": run.seconds, "seed": run.seed, "config": json.dumps(run.config), "inputs": json.dumps(run.inputs),
                "summary": json.dumps(run.summary), "environment": json.dumps(run.environment),
            })  # fmt: skip
        # Times travel as text: DuckDB reads ISO 8601 itself.
        told = pa.Table.from_pylist(rows, schema=pa.schema([
            field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field for field in schemas()["runs"]
        ]))  # fmt: skip
        self._connection.register("runs_told", told)
        self._connection.execute(
            "CREATE OR REPLACE TABLE memory.main.runs AS SELECT * REPLACE (created::TIMESTAMP AS created, config::JSON AS config, "
            "inputs::JSON AS inputs, summary::JSON AS summary, environment::JSON AS environment) FROM runs_told"
        )
        self._connection.unregister("runs_told")


def _sentence(error: duckdb.Error) -> str:
    return " ".join(str(error).split())


def open_published(file: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection to a published file. Raises NotFound where there is none."""
    if not file.is_file():
        raise NotFound(f"There is no published store at {file}. `workbench publish` writes one.")
    return duckdb.connect(str(file), read_only=True)
