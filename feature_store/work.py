"""A run that is being made: what its job writes, and the step by which every reader sees it.

1. `Work.table` and `Work.stream` write relations as Parquet, with the columns and types of
   `schema/`. `Work.part` keeps pieces of one that survive a kill; `done` says which are there.
2. What a kill or a loss of power left torn is dropped, said in one line, and made again.
3. `Work.finish` writes the checksums and `run.json`, and `publish` takes the right to write from
   the files and renames the folder: from then on readers see the run.

Left out: which work is which run, and its lock (`runs.py`).
"""

import contextlib
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store import descriptions
from feature_store.files import digest, replacing, write_atomically
from feature_store.records import Run, row
from feature_store.schema import schemas

THEN = ", then "
"""Between what a run was begun with and what it was resumed with."""
ROW_GROUP = 65_536
"""Rows of a relation that are compressed, and skipped by a query, together."""


def to_table(relation: str, rows: pa.Table | Sequence[Any], run: str) -> pa.Table:
    """Records, dicts or an Arrow table as the Arrow table that `schema/` declares.

    The column `run` is added here, with the id of the run. Numbers that are not known become NULL.
    """
    schema = schemas()[relation]
    if not isinstance(rows, pa.Table):
        dicts = [entry if isinstance(entry, Mapping) else row(entry) for entry in rows]
        fields = [field for field in schema if field.name != "run"]
        rows = pa.Table.from_pylist(dicts, schema=pa.schema(fields))
    if set(rows.column_names) != set(schema.names) - {"run"}:
        raise ValueError(
            f"{relation}: the schema declares {schema.names}, the job wrote {rows.column_names}."
        )
    column = pa.array([run], pa.string()).take(pa.array([0] * rows.num_rows, pa.int32()))
    table = rows.append_column("run", column).select(schema.names).cast(schema)
    return pa.table([_nulls(column) for column in table.columns], schema=schema)


def _nulls(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with NULL for NaN.

    Parquet's statistics leave NaN out, so DuckDB would let it through a filter.
    """
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), None, column)


class Work:
    """A run that is being made. Obtained from `Runs.begin`; `finish` makes it visible.

    Where another process finished the run a moment before, `run` is that finished run, and what is
    written here is dropped.
    """

    def __init__(self, run: Run, folder: Path, target: Path):
        """Work on `run` in `folder`, which `finish` renames to `target`."""
        self.run = run
        self.folder = folder
        self._target = target
        self._started = time.monotonic()
        self._whole: set[Path] = set()
        """Parts that were written here, or read without an error."""

    @property
    def state(self) -> Path:
        """A folder for checkpoints: kept while the run is interrupted, removed when it finishes."""
        path = self.folder / "state"
        path.mkdir(exist_ok=True)
        return path

    def table(
        self, relation: str, rows: pa.Table | Sequence[Any], sort: Sequence[str] = ()
    ) -> None:
        """Write one relation of `schema/`. Sorted columns let queries skip the rest of the file."""
        table = to_table(relation, rows, self.run.id)
        if sort:
            table = table.sort_by([(name, "ascending") for name in sort])
        _write(table, self.folder / f"{relation}.parquet")

    def stream(self, relation: str, pieces: Iterable[pa.Table]) -> None:
        """Write one relation that comes in pieces, of which one is held at a time.

        The file has the bytes that `table` writes of all pieces at once.
        """
        schema = schemas()[relation]
        file = self.folder / f"{relation}.parquet"
        with (
            replacing(file, flush=False) as beside,
            pq.ParquetWriter(beside, schema, compression="zstd") as writer,
        ):
            rest = schema.remove(schema.get_field_index("run")).empty_table()
            written = 0
            for piece in pieces:
                rows = pa.concat_tables([rest, piece.select(rest.column_names)]).combine_chunks()
                whole = rows.num_rows - rows.num_rows % ROW_GROUP
                if whole:
                    part = to_table(relation, rows.slice(0, whole), self.run.id)
                    writer.write_table(part, row_group_size=ROW_GROUP)
                written += whole
                rest = rows.slice(whole)
            if rest.num_rows or not written:
                writer.write_table(to_table(relation, rest, self.run.id))

    def part(self, relation: str, number: int, rows: pa.Table) -> None:
        """Keep part `number` of a relation: it survives a kill, and `parts` joins all of them."""
        file = self._part(relation, number)
        file.parent.mkdir(exist_ok=True)
        _write(rows, file, checked=True)
        self._whole.add(file)
        self.save_time()

    def done(self, *relations: str) -> set[int]:
        """Numbers of the parts that are kept already, of every one of these relations.

        A part that cannot be read, as a loss of power may leave it, is dropped: it is made again.
        """
        files = [list((self.state / relation).glob("*.parquet")) for relation in relations]
        kept = [{int(file.stem) for file in parts if self._is_whole(file)} for parts in files]
        return set.intersection(*kept)

    def kept(self, relation: str, number: int) -> pa.Table:
        """Part `number` of a relation, kept by `part`."""
        return pq.read_table(self._part(relation, number))

    def parts(self, relation: str) -> pa.Table:
        """All kept parts of a relation, in order of their numbers."""
        numbers = sorted(self.done(relation))
        return pa.concat_tables(self.kept(relation, number) for number in numbers)

    def note(self, environment: Mapping[str, str]) -> None:
        """Note versions, a machine and the like: what may decide last digits, and is in no id.

        A run that goes on elsewhere after an interruption names both.
        """
        noted = dict(self.run.environment)
        for name, value in environment.items():
            before = noted.get(name, value)
            noted[name] = before if value in before.split(THEN) else before + THEN + value
        if noted != self.run.environment and self.run.status != "finished":
            self.run = replace(self.run, environment=noted)
            descriptions.write(self.run, self.folder)

    def save_time(self) -> None:
        """Note the working time so far, so that an interruption does not lose it."""
        write_atomically(self.folder / "seconds", str(self._seconds()))

    def finish(self, summary: Mapping[str, Any]) -> Run:
        """Write checksums and `run.json`, then rename: from now on every reader sees the run."""
        if self.run.status == "finished":
            return self.run
        seconds = self._seconds()
        finished = replace(
            self.run,
            status="finished",
            seconds=seconds,
            summary=dict(summary),
            files=self._checksums(),
        )
        descriptions.write(finished, self.folder)  # killed from here on, `begin` does the rest
        publish(self.folder, self._target)
        return finished

    def _checksums(self) -> dict[str, str]:
        """Relative path -> SHA-256 of every file that the finished run has, but the description."""
        files = [file for file in sorted(self.folder.rglob("*")) if file.is_file()]
        paths = [file.relative_to(self.folder) for file in files]
        return {
            str(path): digest(self.folder / path)
            for path in paths
            if path.parts[0] not in ("state", "seconds", descriptions.FILE)
        }

    def _is_whole(self, file: Path) -> bool:
        """Whether a part can be read; one that cannot is removed, and warned of."""
        if file in self._whole:
            return True
        try:
            pq.read_table(file, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            warn_of_damage(file, error, "this part is made again")
            file.unlink()
            return False
        self._whole.add(file)
        return True

    def _part(self, relation: str, number: int) -> Path:
        return self.state / relation / f"{number:06d}.parquet"

    def _seconds(self) -> float:
        """Working time of this process and of those before it [s]."""
        file = self.folder / "seconds"
        now = time.monotonic()
        spent = now - self._started
        self._started = now
        if file.exists():
            spent += _seconds_in(file)
        return spent


def _write(table: pa.Table, file: Path, checked: bool = False) -> None:
    """Write a table; `checked` adds checksums of its pages, which the reader may verify."""
    options = {"compression": "zstd", "row_group_size": ROW_GROUP, "write_page_checksum": checked}
    with replacing(file, flush=False) as beside:
        pq.write_table(table, beside, **options)


def _seconds_in(file: Path) -> float:
    """Working time that a file notes [s]; 0 where it cannot be read."""
    try:
        seconds = float(file.read_text())
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"{seconds} is no time")
    except (ValueError, OSError) as error:
        warn_of_damage(file, error, "the time before it is not counted")
        return 0.0
    return seconds


def warn_of_damage(file: Path, error: Exception, so: str) -> None:
    """Say in one line that a file of an interrupted run is damaged, and what is done about it."""
    reason = " ".join(str(error).split())[:100]
    warnings.warn(f"{file} is damaged ({reason}): {so}.", stacklevel=2)


def publish(folder: Path, target: Path) -> None:
    """Bring a finished run's folder to its place, without what only the work needed."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    (folder / "seconds").unlink(missing_ok=True)
    for file in folder.rglob("*"):
        # A file system without rights (a memory stick) refuses; the run is as good there.
        with contextlib.suppress(OSError):
            if file.is_file():
                file.chmod(file.stat().st_mode & ~0o222)
    folder.rename(target)
