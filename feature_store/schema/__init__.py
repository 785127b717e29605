"""The relations of the feature store: every column is declared once, with its type and its unit.

1. One `.sql` file an idea, with the same name as in `records/` and `queries/`. A file opens with a
   sentence about the idea; a table's comment stands behind its opening parenthesis, a column's
   behind the column. A line that holds only a comment continues the comment above it.
2. Two columns in one line are the ends of an interval. `@interval over contexts` says that it is
   the 95 % interval of the column above, in the unit of that column; `@interval(up)` names another
   column. `@quantiles of x` says that they are the 2.5 % and the 97.5 % quantile of x.
3. `tables` gives plain CREATE TABLE statements, `comments` the COMMENT ON statements beside them,
   `relations` both as records, and `schemas` the Arrow schemas.

A job writes each relation as `<relation>.parquet` in its run folder, with these columns and types;
the store shows the finished runs' files as one view under the same name. The column `run` is the id
of the run that wrote the row. A number that is not known is NULL.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

_FOLDER = Path(__file__).parent
_TABLE = re.compile(r"^CREATE TABLE (\w+) \((.*?)^\);", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r" *--.*")
_CONTINUATION = re.compile(r"\n *-- *")
_MARK = re.compile(r"@(interval|quantiles)(?:\((\w+)\))?(.*)")
_UNIT = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a relation."""

    name: str
    """Name, without quotes."""
    type: str
    """Type as DuckDB writes it: `DOUBLE`, `VARCHAR[]`, ..."""
    comment: str
    """What it holds, with its unit or range in brackets."""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One table of the store."""

    name: str
    """Name of the view, and of the Parquet file in a run's folder."""
    idea: str
    """Name of the file that declares it."""
    comment: str
    """What one row says."""
    columns: tuple[Column, ...]
    """In the order in which they are stored."""


def quote(text: str) -> str:
    """Write a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


@functools.cache
def tables() -> str:
    """The declared tables as SQL without comments, which DuckDB reads five times as fast."""
    return "\n".join(_COMMENT.sub("", text) for text in _files().values())


@functools.cache
def comments() -> str:
    """The comments on all tables and columns, as SQL to be run after `tables`."""
    statements = []
    for relation in relations():
        statements.append(f"COMMENT ON TABLE {relation.name} IS {quote(relation.comment)};")
        for column in relation.columns:
            place = f'{relation.name}."{column.name}"'
            statements.append(f"COMMENT ON COLUMN {place} IS {quote(column.comment)};")
    return "\n".join(statements)


@functools.cache
def schemas() -> dict[str, pa.Schema]:
    """Arrow schema of every relation, by name."""
    with duckdb.connect() as connection:
        connection.execute(tables())
        query = "SELECT table_name FROM duckdb_tables()"
        names = [name for (name,) in connection.execute(query).fetchall()]
        return {name: connection.table(name).to_arrow_table().schema for name in names}


@functools.cache
def relations() -> tuple[Relation, ...]:
    """Every relation with its comments, file by file, in the order of their declarations."""
    declared = []
    for idea, text in _files().items():
        declared += [_relation(idea, name, body) for name, body in _TABLE.findall(text)]
    return tuple(declared)


@functools.cache
def ideas() -> dict[str, str]:
    """The sentence with which each file opens, by the file's name."""
    return {
        idea: _CONTINUATION.sub(" ", text.split("\n\n")[0])[3:] for idea, text in _files().items()
    }


@functools.cache
def _files() -> dict[str, str]:
    files = sorted(_FOLDER.glob("*.sql"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def _relation(idea: str, name: str, body: str) -> Relation:
    comment, *lines = _CONTINUATION.sub(" ", body).splitlines()
    columns: list[Column] = []
    for line in lines:
        columns += _columns(line, columns)
    return Relation(name=name, idea=idea, comment=comment.lstrip(" -"), columns=tuple(columns))


def _columns(line: str, above: list[Column]) -> list[Column]:
    """The columns that one line declares: one, or the two ends of an interval."""
    declaration, _, comment = line.partition("--")
    names_and_types = [column.split() for column in declaration.strip(" ,").split(",")]
    comments = [comment.strip()]
    if mark := _MARK.fullmatch(comments[0]):
        comments = _ends(mark, above)
    return [
        Column(name=name.strip('"'), type=type, comment=comment)
        for (name, type), comment in zip(names_and_types, comments, strict=True)
    ]


def _ends(mark: re.Match[str], above: list[Column]) -> list[str]:
    """The comments on the two ends of the interval of the column above, or of the one it names."""
    kind, reference, detail = mark.groups()
    if kind == "quantiles":
        return [f"{level} % quantile{detail}" for level in ("2.5", "97.5")]
    column = above[-1]
    if reference:
        (column,) = (other for other in above if other.name == reference)
    units = [] if _UNIT.search(detail) else _UNIT.findall(column.comment)[-1:]
    over, semicolon, remark = detail.partition(";")
    subject = " ".join([f"the 95 % interval of {column.name}{over}", *units])
    return [f"{end} end of {subject}{semicolon}{remark}" for end in ("lower", "upper")]
