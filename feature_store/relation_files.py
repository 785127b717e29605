"""Parquet files of runs, before any query reads them: are they whole, and what `schema/` declares?

`columns` reads the footers alone, whose parts tell of one another:

1. a file ends in a footer that DuckDB can read, and every column's bytes lie within the file;
2. the rows of its parts are as many as the file says;
3. a column that `schema/` declares has the declared type. One that is missing is not known: a run
   of an earlier version has it not, and queries see NULL;
4. the column `run` is there, and names no other run.

One torn or forged file would otherwise end every query of its relation, or change the type of a
column for all runs. DuckDB reads the footers, many at once, since Arrow ends the process over some
forged ones. Left out: the bytes of the columns, for which their checksum vouches (`store.py`).
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from feature_store.files import on_line, shown
from feature_store.schema import relations

_SCHEMA = """
    SELECT file_name, name, coalesce(num_children, 0), coalesce(duckdb_type, '')
    FROM parquet_schema($files)"""
_PARTS = """
    SELECT file_name, coalesce(sum(row_group_num_rows) FILTER (column_id = 0), 0),
        coalesce(bool_and(num_values = row_group_num_rows)
                     FILTER (NOT contains(path_in_schema, ', ')), true),
        min(start), max(start + total_compressed_size),
        min(stats_min_value) FILTER (path_in_schema = 'run'),
        max(stats_max_value) FILTER (path_in_schema = 'run')
    FROM (SELECT *, coalesce(nullif(dictionary_page_offset, 0), data_page_offset) AS start
          FROM parquet_metadata($files)) GROUP BY file_name"""
_FILES = """
    SELECT file_name, num_rows, file_size_bytes FROM parquet_file_metadata($files)"""


class RelationFile(NamedTuple):
    """A run's file of a relation."""

    path: Path
    relation: str
    run: str
    """Id of the run."""


class _Footer(NamedTuple):
    """What the footer of a file says."""

    types: Sequence[tuple[str, str]]
    """Name and type of each column, as DuckDB reads it."""
    rows: int
    """Number of rows of the file."""
    size: int
    """Size of the file [bytes]."""
    parts: tuple[int, bool, int, int, str | None, str | None] | None
    """Of its parts: rows in all; whether each column has as many; first and last byte; the first
    and the last id of a run, where the statistics say so. None for a file without parts."""


def columns(files: Sequence[RelationFile]) -> dict[Path, tuple[str, ...] | str]:
    """Names of the declared columns that each file has, or a sentence on what is wrong with it."""
    answers: dict[Path, tuple[str, ...] | str] = {}
    with duckdb.connect() as connection:
        footers = _footers(connection, [str(file.path) for file in files if file.path.is_file()])
    for file in files:
        footer = footers.get(str(file.path), "missing")
        if isinstance(footer, str):
            answers[file.path] = f"{file.path.name} is {footer}."
        else:
            answers[file.path] = _wrong(footer, file) or _known(footer, file.relation)
    return answers


def unreadable(file: Path) -> str:
    """What keeps the rows of a file from being read; nothing where they can be."""
    query = "SELECT bit_xor(hash(rows)) FROM read_parquet($file) AS rows"
    try:
        with duckdb.connect() as connection:
            connection.execute(query, {"file": str(file)}).fetchall()
    except duckdb.Error as error:
        return f"torn ({on_line(str(error), 120)})"
    return ""


def _footers(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[str]
) -> dict[str, _Footer | str]:
    """Path -> its footer, or what keeps it from being read; where all fail, halves are asked."""
    if not paths:
        return {}
    try:
        return _read(connection, paths)
    except (duckdb.Error, UnicodeError) as error:
        if len(paths) == 1:
            return {paths[0]: f"torn ({on_line(str(error), 120)})"}
    half = len(paths) // 2
    return _footers(connection, paths[:half]) | _footers(connection, paths[half:])


def _read(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> dict[str, _Footer | str]:
    def ask(query: str) -> list[tuple[Any, ...]]:
        """The rows that a query gives of the files."""
        return connection.execute(query, {"files": paths}).fetchall()

    nodes: dict[str, list[tuple[str, int, str]]] = {path: [] for path in paths}
    for path, *node in ask(_SCHEMA):
        nodes[path].append((node[0], node[1], node[2]))
    parts = {path: part for path, *part in ask(_PARTS)}
    return {
        path: _Footer(
            types=_top(nodes[path]),
            rows=rows,
            size=size,
            parts=tuple(parts[path]) if path in parts else None,
        )
        for path, rows, size in ask(_FILES)
    }


def _top(nodes: Sequence[tuple[str, int, str]]) -> list[tuple[str, str]]:
    """Columns of a schema whose nodes stand as in the file: each one before what it holds."""
    top = []
    within = 0  # nodes that still belong to the column before
    for name, children, type in nodes[1:]:
        if within == 0:
            top.append((name, type))
            within = 1
        within += children - 1
    return top


def _wrong(footer: _Footer, file: RelationFile) -> str:
    """What is wrong with a file; nothing where it is as declared."""
    name = file.path.name
    rows, is_even, first, last, *runs = footer.parts or (0, True, 0, 0, None, None)
    if rows != footer.rows or not is_even:
        return f"{name} is torn (its parts have other rows than it says)."
    if first is None or first < 0 or last > footer.size:
        return f"{name} is torn (a column lies beyond the file)."
    declared = _declared(file.relation)
    names = [column for column, _ in footer.types]
    for column, type in footer.types:
        if column in declared and type != declared[column]:
            return f"{name} has the column {column} as {shown(type)}, not as declared."
        if column in declared and names.count(column) > 1:
            return f"{name} has the column {column} more than once."
    if "run" not in names or not {*runs} <= {file.run, None}:
        return f"{name} holds rows of another run ({shown(runs)})."
    return ""


def _known(footer: _Footer, relation: str) -> tuple[str, ...]:
    names = {column for column, _ in footer.types}
    return tuple(column for column in _declared(relation) if column in names)


@functools.cache
def _declared(relation: str) -> Mapping[str, str]:
    """Column -> its type in a file. JSON is kept as text."""
    (declared,) = (other for other in relations() if other.name == relation)
    return {column.name: column.type.replace("JSON", "VARCHAR") for column in declared.columns}
