"""A Parquet file of a run, before any query reads it: is it whole, and what `schema/` declares?

`columns` reads the footer alone, whose parts tell of one another:

1. the file ends in a footer that Arrow can read, and every column's bytes lie within the file;
2. the rows of its parts are as many as the file says;
3. a column that `schema/` declares has the declared type. One that is missing is not known: a run
   of an earlier version has it not, and queries see NULL;
4. the column `run` is there, and names no other run.

One torn or forged file would otherwise end every query of its relation, or change the type of a
column for all runs. Left out: the bytes of the columns, which only their checksum vouches for.
"""

import functools
import io
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.errors import BadInput
from feature_store.files import shown
from feature_store.schema import schemas


def columns(file: Path, relation: str, run: str) -> tuple[str, ...]:
    """Names of the declared columns that a run's file of a relation has.

    Raises BadInput with what is wrong with the file.
    """
    try:
        status = file.stat()
    except OSError:
        raise BadInput(f"{file.name} is missing.") from None
    return _columns(file, relation, run, (status.st_ino, status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=65_536)
def _columns(file: Path, relation: str, run: str, version: tuple[int, int, int]) -> tuple[str, ...]:
    """The same of one version of the file, read once a process."""
    if not file.is_file():
        raise BadInput(f"{file.name} is no file.")
    try:
        footer = pq.read_metadata(file)
        _check_extent(footer, size=version[1])
        types = _types(footer.schema)
        runs = _runs(footer)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise BadInput(f"{file.name} is torn ({shown(error, 120)}).") from None
    declared = _declared(relation)
    for name in declared:
        if name in types and types[name] != declared[name]:
            raise BadInput(f"{file.name} has the column {name} as {types[name]}, not as declared.")
    if "run" not in types or not runs <= {run}:
        raise BadInput(f"{file.name} holds rows of another run ({shown(sorted(runs), 60)}).")
    return tuple(name for name in declared if name in types)


def _check_extent(footer: pq.FileMetaData, size: int) -> None:
    """Raise ValueError where the parts of a footer contradict one another, or the file's size."""
    rows = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        if group.num_rows < 0:
            raise ValueError("a part has fewer than no rows")
        rows += group.num_rows
        for place in range(group.num_columns):
            column = group.column(place)
            begin = column.dictionary_page_offset or column.data_page_offset
            if min(begin, column.total_compressed_size) < 0:
                raise ValueError("a column lies before the file")
            if begin + column.total_compressed_size > size:
                raise ValueError("a column lies beyond the file")
            if "." not in column.path_in_schema and column.num_values != group.num_rows:
                raise ValueError("a column has other rows than its part")
    if rows != footer.num_rows:
        raise ValueError(f"it says {footer.num_rows} rows and has {rows}")


def _runs(footer: pq.FileMetaData) -> set[str]:
    """Ids of runs between which the rows' lie, as the statistics of the column `run` say."""
    runs: set[str] = set()
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            if column.path_in_schema == "run" and column.is_stats_set:
                limits = column.statistics
                if limits.has_min_max:
                    runs |= {str(limits.min), str(limits.max)}
    return runs


def _types(schema: pq.ParquetSchema) -> dict[str, str]:
    """Column -> how Parquet keeps it: every leaf's type and meaning."""
    types: dict[str, str] = {}
    for place in range(len(schema.names)):
        leaf = schema.column(place)
        column = leaf.path.split(".")[0]
        kind = f"{leaf.physical_type} {leaf.logical_type} {leaf.max_repetition_level}"
        types[column] = f"{types[column]}, {kind}" if column in types else kind
    return types


@functools.cache
def _declared(relation: str) -> Mapping[str, str]:
    """The same of the columns that `schema/` declares for a relation."""
    empty = io.BytesIO()
    pq.write_table(schemas()[relation].empty_table(), empty)
    return _types(pq.read_metadata(empty).schema)
