"""A study in one file: written for others, and unfolded into a folder of runs by who receives it.

1. `publish` writes one `.duckdb` file that any DuckDB client reads: every relation as a table, the
   description of every run (`descriptions`), and what is said of the whole (`study`: a name and a
   text a row). What takes much room, such as `activations`, can be left out.
2. `unfold` makes of such a file the folder that it came from: `runs/ID/` with the tables as Parquet
   and a `run.json`. From then on it is read like any other study, and by the same code.
3. A file may come from anyone. Only tables of declared names are read, no view; the ids of runs
   are names of folders or refused; DuckDB can reach the new folder and nothing else. Descriptions
   and tables are held to what every run is held to when they are read there.

Left out: what is no table, such as the weights of SAEs and directions. A study that was unfolded
can be looked at; to steer, its runs are made again.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb

from feature_store import descriptions
from feature_store.errors import BadInput, NotFound, WorkbenchError, nearest
from feature_store.files import (
    digest,
    listed,
    parse_json,
    regular,
    replacing,
    shown,
    write_atomically,
)
from feature_store.schema import comments, quote, schemas, tables
from feature_store.store import Store

MAGIC = b"DUCK"
"""What stands in every file of DuckDB, behind a checksum of 8 bytes."""
COPIES = 5
"""Times that a study is copied, where runs of it are removed meanwhile."""
BLOCK = 65_536
"""Size of a block [bytes]. DuckDB's default, four times as large, leaves most of it empty where
tables are small: a study of 10 MB would take 14."""
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
"""Ids of runs that are read from a file: they become names of folders."""
_OURS = """
    CREATE TABLE study (name VARCHAR, text VARCHAR);
    COMMENT ON TABLE study IS 'What is said of the whole study.';
    CREATE TABLE descriptions (run VARCHAR, description VARCHAR);
    COMMENT ON TABLE descriptions IS 'run.json of every run.';
"""


def publish(
    store: Store,
    file: Path,
    about: Mapping[str, str],
    without: Collection[str] = (),
    contexts: int = 0,
) -> Path:
    """Write a study as one `.duckdb` file; returns the file. DuckDB 1.5 and newer read it.

    `about` is said of the whole. Relations in `without` are left empty; of each feature's contexts
    the strongest `contexts` are kept, and as many of its samples (0: all). Raises BadInput where
    the file exists, NotFound for a relation that does not.

        publish(study.store, Path("study.duckdb"), {"system": "schwartz10"}, ["activations"])
    """
    for name in without:
        if name not in schemas() or name == "runs":
            raise NotFound(f"There is no relation {name!r} to leave out.{nearest(name, schemas())}")
    if file.exists():
        raise BadInput(f"{file} exists already. Choose another name, or remove it first.")
    store.refresh()
    file.parent.mkdir(parents=True, exist_ok=True)
    left_out = list(without)
    if contexts:
        left_out.append(f"contexts beyond the {contexts} strongest of a feature")
    noted = {**about, "without": listed(left_out)} if left_out else dict(about)
    try:
        with replacing(file) as beside:
            for _ in range(COPIES):
                beside.unlink(missing_ok=True)
                if _copy(store, beside, noted, _selections(without, contexts)):
                    break
            else:
                raise WorkbenchError(
                    f"{file} could not be written: runs were removed all the while. Wait for what"
                    " compacts the study, then publish again."
                )
    except duckdb.Error as error:
        raise WorkbenchError(f"{file} could not be written: {_sentence(error)}") from None
    return file


def _selections(without: Collection[str], contexts: int) -> dict[str, str]:
    """Give the query for the rows of each relation that are written."""
    queries = {name: f'SELECT * FROM "{name}"' for name in schemas() if name not in without}
    for relation, number in (("contexts", "rank"), ("samples", "draw")):
        if contexts and relation in queries:
            queries[relation] += f" WHERE {number} < {contexts:d}"
    return queries


def _copy(store: Store, file: Path, noted: Mapping[str, str], queries: Mapping[str, str]) -> bool:
    """Write the runs that there are now; false where one was removed before all was copied.

    Runs that come meanwhile are left out whole, so that no run is there in part. Verdicts come
    first: their small runs are merged, and then removed, while others publish.
    """
    # A connection of its own: the store's may not touch files outside the study.
    with duckdb.connect() as connection:
        connection.execute(
            f"ATTACH {quote(str(file))} AS published (STORAGE_VERSION 'v1.5.0', BLOCK_SIZE {BLOCK})"
        )
        connection.execute("USE published")
        connection.execute(tables())
        connection.execute(comments())
        connection.execute(_OURS)
        described = {run.id: run for run in store.runs.look()[0]}
        for relation, query in sorted(queries.items(), key=lambda item: item[0] != "verdicts"):
            of_runs = f"SELECT * FROM ({query}) WHERE list_contains(?, run)"
            rows = store.arrow(of_runs, [[*described]])
            connection.register("rows_to_publish", rows)
            connection.execute(f'INSERT INTO "{relation}" BY NAME SELECT * FROM rows_to_publish')
            connection.unregister("rows_to_publish")
            having = {id for id, run in described.items() if f"{relation}.parquet" in run.files}
            if not all(map(store.runs.exists, having - set(rows["run"].unique().to_pylist()))):
                return False
        connection.executemany("INSERT INTO study VALUES (?, ?)", [*noted.items()])
        good = described.keys() - store.bad.keys()  # those too that were seen to be bad meanwhile
        texts = [(id, json.dumps(asdict(run))) for id, run in described.items() if id in good]
        if texts:
            connection.executemany("INSERT INTO descriptions VALUES (?, ?)", texts)
    return True


def is_published(file: Path) -> bool:
    """Whether a file is one of DuckDB's."""
    with regular(file) as handle:
        return handle.read(12)[8:] == MAGIC


def unfold(file: Path, folder: Path) -> dict[str, str]:
    """Make the runs of a published file in `folder`, which is empty; returns what it says of them.

    Raises BadInput for a file that `publish` has not written.

        unfold(Path("study.duckdb"), Path("studies/theirs"))["system"]
    """
    try:
        with duckdb.connect(config={"autoload_known_extensions": False}) as connection:
            return _unfold(connection, file, folder)
    except duckdb.Error as error:
        raise BadInput(f"{file} is no published study: {_sentence(error)}") from None


def _unfold(connection: duckdb.DuckDBPyConnection, file: Path, folder: Path) -> dict[str, str]:
    connection.execute(f"ATTACH {quote(str(file))} AS published (READ_ONLY)")
    connection.execute(f"SET allowed_directories=[{quote(str(folder.resolve()))}]")
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")
    present = {
        name
        for (name,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'published'"
            " AND schema_name = 'main'"
        ).fetchall()
    }
    if not {"study", "descriptions"} <= present:
        raise BadInput(
            f"{file} is no published study: it says nothing of its runs. `workbench publish`"
            " writes one that does; an earlier version's can be read by any DuckDB client."
        )
    noted = connection.execute("SELECT name, text FROM published.main.study").fetchall()
    described = dict(_descriptions(connection, file))
    for id in described:
        (folder / "runs" / id).mkdir(parents=True)
    written: dict[str, dict[str, str]] = {id: {} for id in described}
    for relation in schemas():
        if relation != "runs" and relation in present:
            for id, checksum in _tables(connection, relation, folder / "runs", described):
                written[id][f"{relation}.parquet"] = checksum
    for id, description in described.items():
        description["files"] = written[id]
        write_atomically(folder / "runs" / id / descriptions.FILE, json.dumps(description))
    return {str(name): str(text) for name, text in noted}


def _descriptions(
    connection: duckdb.DuckDBPyConnection, file: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The id and the description of every run."""
    query = "SELECT run, description FROM published.main.descriptions"
    for id, text in connection.execute(query).fetchall():
        description = parse_json(str(text), finite=False)
        is_whole = isinstance(description, dict) and description.get("id") == id
        if not is_whole or not _ID.fullmatch(str(id)):
            raise BadInput(f"{file} describes a run {shown(id)} that is none. Ask its publisher.")
        yield id, description


def _tables(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    runs: Path,
    described: Collection[str],
) -> Iterator[tuple[str, str]]:
    """Write a relation's rows run by run; the run and the checksum of each file."""
    table = f'published.main."{relation}"'
    query = f"SELECT DISTINCT run FROM {table}"
    columns = connection.execute(f"DESCRIBE {table}").fetchall()
    selected = ", ".join(
        f'"{name}"::VARCHAR AS "{name}"' if type == "JSON" else f'"{name}"'
        for name, type, *_ in columns
        if re.fullmatch(r"\w+", name)
    )
    for (id,) in connection.execute(query).fetchall():
        if not isinstance(id, str) or id not in described:
            continue
        place = runs / id / f"{relation}.parquet"
        connection.execute(
            f"COPY (SELECT {selected} FROM {table} WHERE run = {quote(id)})"
            f" TO {quote(str(place.resolve()))} (FORMAT parquet, COMPRESSION zstd)"
        )
        yield id, digest(place)


def _sentence(error: duckdb.Error) -> str:
    return " ".join(str(error).split())
