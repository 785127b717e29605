"""The store: what DuckDB sees over the finished runs of a study.

1. Each process opens a catalog of its own, in memory: one view per relation of `schema/`, over the
   Parquet files of the finished runs. Nobody opens a shared database file, so readers never block
   writers, nor each other, and there is nothing to repair after a kill.
2. Before each query the folder is looked at (one directory listing); new runs join the views.
3. A run that cannot be read, or has a torn table, is left out and named (`bad`); all others answer.
   The files of a relation are held against their checksums when the first query reads them, so
   that no flipped bit becomes a number; where a query fails, once more.

Queries only read: `read_only` lets one SELECT over the relations pass, and the catalog, whose
settings are locked, can reach the study's folder and nothing else of the machine.
"""

import functools
import json
import re
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa

from feature_store import descriptions, relation_files
from feature_store.errors import BadInput
from feature_store.read_only import refuse_writes
from feature_store.records import Run
from feature_store.relation_files import RelationFile
from feature_store.runs import Runs, is_intact, version_of, warn_of
from feature_store.schema import Column, quote, relations, schemas, tables

Answer = TypeVar("Answer")
Parameters = Sequence[Any] | Mapping[str, Any]
"""What fills the placeholders of a query: in order for `?`, by name for `$name`."""
KEPT = 16
"""Answers kept in memory at once."""
KEPT_QUERIES = 1000
"""Queries that are known to change nothing; looking at one takes a millisecond."""
LOOKS = 20
"""Times that runs are looked at, or a query is asked, while others remove runs."""
PAUSE = 0.1
"""Wait between two of these looks [s]."""
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "preserve_insertion_order": True,
    "python_enable_replacements": False,  # a name in FROM is never a variable of this program
    "temp_directory": "",  # what does not fit into memory is an error, not files
}
_OF_THE_QUERY = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.PermissionException,
)
"""Errors that no file can cause."""
_FATAL = (duckdb.FatalException, duckdb.InternalException)
"""Errors after which DuckDB answers no further query of the same catalog."""


class Store:
    """Read-only queries over the finished runs of a study. Safe to share among threads.

    store = Store(study / "runs")
    store.sql("SELECT feature, value, score FROM labels WHERE run = ? AND accepted", [run])
    """

    def __init__(self, folder: Path):
        """Open the runs in `folder`, a study's `runs`, which need not exist."""
        folder = folder.resolve()  # DuckDB compares whole paths with the one it is allowed
        self.runs = Runs(folder)
        self._views_lock = threading.Lock()
        self._seen: Mapping[str, tuple[int, ...]] | None = None
        self._bad: dict[str, str] = {}
        self._columns: dict[Path, tuple[tuple[int, ...], tuple[str, ...] | str]] = {}
        """File -> its version, and the declared columns that it has, or what is wrong with it."""
        self._checksums: dict[Path, str] = {}
        """File -> its checksum, as the description of its run says it."""
        self._intact: set[Path] = set()
        """Files that were held against their checksums."""
        self._viewed: dict[str, Mapping[Path, tuple[str, ...]]] = {}
        """Relation -> the files that its view reads, each with its columns."""
        self._harmless: set[str] = set()
        self._answers_lock = threading.Lock()
        self._answers: dict[tuple[Any, ...], str] = {}
        self._connection = self._connect()
        self.refresh()

    @property
    def bad(self) -> Mapping[str, str]:
        """Folder of a run that is left out -> a line that says why, and what to do."""
        self.refresh()
        return self._bad

    @property
    def version(self) -> int:
        """A number that changes when a run joins the views, leaves them, or is replaced."""
        self.refresh()
        return hash(frozenset((self._seen or {}).items()))

    def refresh(self) -> bool:
        """Let new runs join the views, and changed ones; true if there were any."""
        with self._views_lock:
            seen = {id: self._version(id) for id in self.runs.folders()}
            if seen == self._seen:
                return False
            self._look()
            self._seen = seen
            return True

    def sql(self, query: str, parameters: Parameters = ()) -> pd.DataFrame:
        """The answer to a query, as a frame.

        Raises BadInput for a query that does more than read the relations, and with DuckDB's own
        sentence for one that fails.
        """
        return self._answer(query, parameters, duckdb.DuckDBPyRelation.df)

    def arrow(self, query: str, parameters: Parameters = ()) -> pa.Table:
        """The answer to a query, as an Arrow table. Raises as `sql` does."""
        return self._answer(query, parameters, duckdb.DuckDBPyRelation.to_arrow_table)

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

    def derived(self, file: Path) -> str:
        """Name of a view over a Parquet file that was derived from a run, below the runs' folder.

        Queries name no file themselves: what they may read is what the store has a view of.
        """
        name = re.sub(r"\W", "_", f"derived_{file.relative_to(self.runs.folder).with_suffix('')}")
        view = f"CREATE OR REPLACE VIEW memory.main.{name} AS FROM read_parquet({quote(str(file))})"
        try:
            self._connection.cursor().execute(view)
        except duckdb.Error as error:
            raise BadInput(
                f"{file} cannot be read: {_sentence(error)}. Remove it; it is made anew."
            ) from None
        return name

    def relations(self) -> pd.DataFrame:
        """Every column of every relation with its type and unit."""
        rows = []
        for relation in relations():
            rows += [(relation.name, *astuple(column)) for column in relation.columns]
        return pd.DataFrame(rows, columns=["relation", "column", "type", "unit"])

    def _answer(
        self,
        query: str,
        parameters: Parameters,
        read: Callable[[duckdb.DuckDBPyRelation], Answer],
    ) -> Answer:
        """What `read` makes of a query's answer; where a file is at fault, without its run."""
        self.refresh()
        self._verify(query)
        try:
            for _ in range(LOOKS):  # runs may be removed again while it asks again
                try:
                    return self._read(query, parameters, read)
                except _OF_THE_QUERY:
                    raise
                except duckdb.Error as error:
                    if isinstance(error, _FATAL):
                        self._begin_anew()
                    if not self._verify(query, failed=True):
                        raise
            return self._read(query, parameters, read)
        except duckdb.Error as error:
            raise BadInput(f"DuckDB cannot answer this query: {_sentence(error)}") from None

    def _read(
        self,
        query: str,
        parameters: Parameters,
        read: Callable[[duckdb.DuckDBPyRelation], Answer],
    ) -> Answer:
        """What `read` makes of a query's answer, once the query is known to change nothing."""
        cursor = self._connection.cursor()
        if query not in self._harmless:
            refuse_writes(query, cursor)
            if len(self._harmless) >= KEPT_QUERIES:
                self._harmless.clear()
            self._harmless.add(query)

        def ask() -> Answer:
            """Ask, and read the answer."""
            return read(cursor.sql(query, params=parameters or None))

        if threading.current_thread() is not threading.main_thread():
            return ask()
        # DuckDB may wait for its own threads without looking for Ctrl-C; Python's waiting looks.
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask)
            try:
                return answer.result()
            except KeyboardInterrupt:
                while not answer.done():  # it may come before DuckDB has begun
                    cursor.interrupt()
                    wait([answer], timeout=0.05)
                raise

    def _connect(self) -> duckdb.DuckDBPyConnection:
        """A catalog in memory that may read the runs' folder, and has no views yet."""
        connection = duckdb.connect(config=_CONFIG)
        connection.execute("ATTACH ':memory:' AS declared; USE declared")
        connection.execute(tables())
        connection.execute("USE memory")
        connection.execute("SET parquet_metadata_cache=true")  # finished files never change
        connection.execute(f"SET allowed_directories=[{quote(str(self.runs.folder))}]")
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        return connection

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

    def _begin_anew(self) -> None:
        """Open another catalog; the answers that were kept are asked again when they are needed."""
        with self._views_lock, self._answers_lock:
            self._connection = self._connect()
            self._answers.clear()
            self._viewed.clear()
            self._look()

    def _version(self, id: str) -> tuple[int, ...]:
        """What changes when a run is replaced, or its description; for a bad one, its tables."""
        folder = self.runs.folder / id
        files = [folder, folder / descriptions.FILE]
        if id in self._bad:
            files += sorted(folder.glob("*.parquet"))
        return tuple(part for file in files for part in version_of(file))

    def _look(self) -> None:
        """Make the views, as `_look_once` does; anew where a run was removed meanwhile."""
        for remaining in reversed(range(LOOKS)):
            try:
                self._look_once()
                return
            except duckdb.IOException:
                if not remaining:
                    raise
                time.sleep(PAUSE)  # who removes many runs needs a moment for it

    def _look_once(self) -> None:
        """Make the views over the runs that can be read, and name the others."""
        runs, bad = self.runs.look()
        tables_of = {run.id: self._files(run) for run in runs}
        self._look_at([file for tables in tables_of.values() for file in tables])
        good = []
        columns: dict[str, dict[Path, tuple[str, ...]]] = {relation: {} for relation in schemas()}
        for run in runs:
            answers = {file: self._columns[file.path][1] for file in tables_of[run.id]}
            wrong = [answer for answer in answers.values() if isinstance(answer, str)]
            if wrong and not self.runs.exists(run.id):
                continue
            if wrong:
                bad[run.id] = (
                    f"The run {run.id} is damaged: {' '.join(wrong)} Remove the folder {run.id} and"
                    " make the run again."
                )
                continue
            good.append(run)
            for file, answer in answers.items():
                self._checksums[file.path] = run.files[file.path.name]
                columns[file.relation][file.path] = tuple(answer)
        for relation, files in columns.items():
            if relation != "runs" and self._viewed.get(relation) != files:
                self._view(relation, files)
                self._viewed[relation] = files
        self._register_runs(good)
        self._bad = dict(sorted(bad.items()))
        warn_of(self._bad.values())

    def _files(self, run: Run) -> list[RelationFile]:
        """The files of a run's relations, as its description lists them."""
        folder = self.runs.folder / run.id
        listed = [name for name in schemas() if f"{name}.parquet" in run.files]
        return [RelationFile(folder / f"{name}.parquet", name, run.id) for name in listed]

    def _look_at(self, files: Sequence[RelationFile]) -> None:
        """Look at the files that are new, or not as they were looked at."""
        versions = {file.path: version_of(file.path) for file in files}
        new = [
            file
            for file in files
            if self._columns.get(file.path, (None, ""))[0] != versions[file.path]
        ]
        if new:
            for path, answer in relation_files.columns(new).items():
                self._columns[path] = versions[path], answer
                self._intact.discard(path)

    def _verify(self, query: str, failed: bool = False) -> bool:
        """Hold the files that a query reads against their checksums; true where one is damaged.

        The views then do without its run. Each file is held once, and again where a query `failed`;
        then its rows are read, too: a file may be as it was written, and have been written badly.
        """
        with self._views_lock:
            relations_read = {name for name in schemas() if re.search(rf"\b{name}\b", query)}
            files = [file for name in relations_read for file in self._viewed.get(name, ())]
            is_new = False
            for file in files:
                if file in self._intact and not failed:
                    continue
                wrong = "" if is_intact(file, self._checksums[file]) else "not as it was written"
                if failed and not wrong:
                    wrong = relation_files.unreadable(file)
                if not wrong:
                    self._intact.add(file)
                    continue
                self._columns[file] = version_of(file), f"{file.name} is {wrong}."
                is_new = True
            if is_new:
                self._look()
                self._seen = None
            return is_new

    def _view(self, relation: str, files: Mapping[Path, tuple[str, ...]]) -> None:
        """Make the view of a relation over files, each with the columns that it has."""
        source = f"SELECT * FROM declared.main.{relation}"
        if files:
            known = {name for columns in files.values() for name in columns}
            columns = [_column(column, known) for column in _declared()[relation]]
            paths = ", ".join(quote(str(file)) for file in files)
            # With it, every query opens every file before it begins; most studies need it not.
            differ = str(len(set(files.values())) > 1).lower()
            source = (
                f"SELECT {', '.join(columns)} FROM read_parquet([{paths}], union_by_name={differ})"
            )
        self._connection.execute(f'CREATE OR REPLACE VIEW memory.main."{relation}" AS {source}')

    def _register_runs(self, runs: Sequence[Run]) -> None:
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


@functools.cache
def _declared() -> Mapping[str, Sequence[Column]]:
    """Relation -> its columns."""
    return {relation.name: relation.columns for relation in relations()}


def _column(column: Column, known: Container[str]) -> str:
    """A column as SQL selects it; one that no file has is not known."""
    name = f'"{column.name}"'
    return name if column.name in known else f"NULL::{column.type} AS {name}"


def _json(value: Any) -> str:
    """A value as JSON, which knows no NaN and no infinity: null stands for them."""
    text = json.dumps(value)
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(json.loads(text, parse_constant=_nothing))
    return text


def _nothing(name: str) -> None:
    """Stand for a number that is none."""


def _run_row(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "kind": run.kind,
        "status": run.status,
        "created": descriptions.start(run).isoformat(),
        "seconds": run.seconds,
        "seed": run.seed,
        "config": _json(run.config),
        "inputs": _json(run.inputs),
        "summary": _json(run.summary),
        "environment": _json(run.environment),
    }


def _sentence(error: duckdb.Error) -> str:
    return " ".join(str(error).split())
