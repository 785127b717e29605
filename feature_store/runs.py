"""Write and read run folders: one run is one folder, and it appears whole or not at all.

1. `Runs.begin` names the run by a digest of its kind, configuration, inputs and seed, and takes its
   lock. The same work asked for again is the same run: finished, it is found; interrupted, it is
   resumed.
2. The job writes into `runs/.work/<id>/`: tables as Parquet (columns and types of `schema/`),
   files, and parts of tables that are kept when the job is killed.
3. `Work.finish` writes the checksums and `run.json`, flushes to disk, takes the right to write from
   the files and renames the folder to `runs/<id>`. Readers list `runs/*` only, so they never see
   half a run, and no reader ever blocks a writer.
4. A folder in `runs/` may come from anyone. One that does not read as a run is left out and named
   (`Runs.look`); the others are there as ever.

Left out: deleting runs. A run is a folder; remove the folder (`rm -rf`: its files are read-only,
the folder is not, so that its owner need not change rights first).
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store import descriptions
from feature_store.descriptions import FORMAT
from feature_store.errors import BadInput, Busy, Incompatible, NotFound, WorkbenchError, nearest
from feature_store.files import digest, replacing, sweep, write_atomically
from feature_store.records import Run, row
from feature_store.schema import schemas
from feature_store.terminal import visible

THEN = ", then "
"""Between what a run was begun with and what it was resumed with."""
PACKAGES = ("values-workbench", "torch", "transformers", "sae-lens", "duckdb", "numpy")
"""Packages whose versions are noted in every run."""
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
        _publish(self.folder, self._target)
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
            _warn_of_damage(file, error, "this part is made again")
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


class Runs:
    """The runs of one study.

    runs = Runs(study / "runs")
    with runs.begin("graph", config, inputs, seed) as work:
        work.table("edges", edges)
        run = work.finish({"edges": len(edges)})
    """

    def __init__(self, folder: Path):
        """Read and write runs in `folder`, which need not exist."""
        self.folder = folder
        self._read: dict[str, tuple[tuple[int, ...], Run]] = {}
        """Id -> the version of its description that was read last, and the run."""

    def find(
        self, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str], seed: int
    ) -> str:
        """Id of the run that this work makes, whether it exists or not."""
        work = json.dumps([FORMAT, kind, config, inputs, seed], sort_keys=True)
        return f"{kind}-{hashlib.sha256(work.encode()).hexdigest()[:10]}"

    def exists(self, id: str) -> bool:
        """Whether the run is finished."""
        return os.path.exists(self.folder / id / descriptions.FILE)

    def get(self, id: str) -> Run:
        """A finished run.

        Raises NotFound, Incompatible for a newer layout, BadInput for a damaged description and for
        a folder that is not named as its run.
        """
        folder = self.folder / id
        name, place = visible(id), self.folder.parent
        # os.path, since a name may be too long, or hold a NUL, which is no reason for a traceback
        if id[:1] in ("", ".") or id != Path(id).name or not os.path.isdir(folder):
            raise NotFound(
                f"There is no finished run {name!r} in {place}.{nearest(id, self.ids())}"
            )
        if folder.is_symlink():
            raise BadInput(
                f"The folder {name} in {self.folder} is a link. Move the run's folder itself there."
            )
        if not self.exists(id):
            raise BadInput(
                f"The folder {name} in {self.folder} has no {descriptions.FILE}: it is no run."
                " Remove it, or move it elsewhere."
            )
        run = descriptions.read(folder)
        if run.id != id:
            raise BadInput(
                f"The folder {name} is a copy: it holds the run {visible(run.id)}. Remove the copy;"
                " one run counts once."
            )
        if run.status != "finished":
            raise BadInput(
                f"The run {name} is not finished. Remove its folder, or move it to"
                f" {self.folder / '.work'} and make the run again to resume it."
            )
        return run

    def ids(self, kind: str = "") -> list[str]:
        """Ids of the finished runs whose id begins with `kind`, the bad ones too; no order."""
        return [id for id in self.folders() if id.startswith(kind) and self.exists(id)]

    def folders(self) -> list[str]:
        """Names of the folders among the runs; those of the workbench's begin with a point."""
        try:
            with os.scandir(self.folder) as entries:
                return [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
        except FileNotFoundError:
            return []

    def all(self, kind: str = "") -> list[Run]:
        """The finished runs whose id begins with `kind`, oldest first, without the bad ones."""
        return self.look(kind)[0]

    def look(self, kind: str = "") -> tuple[list[Run], dict[str, str]]:
        """The runs whose folder begins with `kind`, oldest first; and the bad ones beside them.

        A bad one cannot be read: its folder -> a line that says why, and what to do. It is left out
        everywhere else. Damage within the files of a run is found by `damaged`.
        """
        runs: list[Run] = []
        bad: dict[str, str] = {}
        for id in self.folders():
            if not id.startswith(kind):
                continue
            try:
                runs.append(self._get_once(id))
            except NotFound:  # removed since the folder was listed
                continue
            except WorkbenchError as error:
                bad[id] = str(error)
        return sorted(runs, key=lambda run: (run.created, run.id)), dict(sorted(bad.items()))

    def _get_once(self, id: str) -> Run:
        """As `get`; a description that has not changed since is not read again."""
        folder = self.folder / id
        version = (*version_of(folder), *version_of(folder / descriptions.FILE))
        known, run = self._read.get(id, ((), None))
        if run is None or known != version:
            run = self.get(id)
            self._read[id] = version, run
        return run

    def interrupted(self) -> list[Run]:
        """Runs that were begun and not finished; the same work begun again resumes them.

        One whose description cannot be read is left out, and warned of.
        """
        runs = []
        for file in sorted((self.folder / ".work").glob(f"*/{descriptions.FILE}")):
            try:
                runs.append(descriptions.read(file.parent))
            except NotFound:  # it was finished, or removed, since the folder was listed
                continue
            except WorkbenchError as error:
                warn_of([str(error)])
        return runs

    def latest(self, kind: str, hint: str = "Make one first.") -> Run:
        """The newest finished run of a kind. Raises NotFound that ends with `hint`.

        A bad run of the kind may be newer; it is warned of.
        """
        runs, bad = self.look(kind + "-")
        warn_of(bad.values())
        if not runs:
            place = self.folder.parent
            raise NotFound(f"{place} has no finished run of kind {kind!r} yet. {hint}")
        return runs[-1]

    @contextlib.contextmanager
    def begin(
        self, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str], seed: int
    ) -> Iterator[Work]:
        """Start or resume a run. Raises Busy while another process makes the same one.

        Where another process has just finished it, the work's `run` is that finished run.
        """
        id = self.find(kind, config, inputs, seed)
        folder, target = self.folder / ".work" / id, self.folder / id
        with _disk_errors(self.folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _lock(folder.with_suffix(".lock"), id):
                sweep(folder)
                run = self._begun(id)
                folder.mkdir(exist_ok=True)
                if target.exists():  # finished after the caller looked, and before the lock
                    try:
                        yield Work(self.get(id), folder, target)
                    finally:
                        shutil.rmtree(folder)
                    return
                if run is None:
                    run = Run(
                        id=id,
                        kind=kind,
                        status="interrupted",
                        config=dict(config),
                        inputs=dict(inputs),
                        seed=seed,
                        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
                        seconds=0.0,
                        environment=_environment(),
                    )
                    descriptions.write(run, folder)
                work = Work(run, folder, target)
                work.note(_environment())
                with _mistakes(folder):
                    yield work

    def damaged(self, id: str) -> list[str]:
        """Files of a run that are missing or whose checksum differs."""
        folder = self.folder / id
        return [
            name
            for name, checksum in self.get(id).files.items()
            if not is_intact(folder / name, checksum)
        ]

    def _begun(self, id: str) -> Run | None:
        """Read the description of an interrupted run; None where there is none that can be read.

        What the description says is known from its id, but for the time of its beginning: a damaged
        one is written anew, and the parts that are kept stay. A run that was finished when its
        process was killed is brought to its place; where a file of it is not as its checksum says,
        power was lost, and the run is made again.
        """
        folder = self.folder / ".work" / id
        file = folder / descriptions.FILE
        if not file.exists():
            return None
        try:
            run = descriptions.read(folder)
        except BadInput as error:
            _warn_of_damage(file, error, "it is written anew")
            return None
        if run.status != "finished":
            return run
        if all(is_intact(folder / name, checksum) for name, checksum in run.files.items()):
            _publish(folder, self.folder / id)
        else:
            shutil.rmtree(folder)
        return None


def warn_of(lines: Iterable[str]) -> None:
    """Warn of bad runs, of each one once a process: the filter of warnings keeps count."""
    for line in lines:
        warnings.warn(line, stacklevel=1)


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
        _warn_of_damage(file, error, "the time before it is not counted")
        return 0.0
    return seconds


def _warn_of_damage(file: Path, error: Exception, so: str) -> None:
    """Say in one line that a file of an interrupted run is damaged, and what is done about it."""
    reason = " ".join(str(error).split())[:100]
    warnings.warn(f"{file} is damaged ({reason}): {so}.", stacklevel=2)


def _publish(folder: Path, target: Path) -> None:
    """Bring a finished run's folder to its place, without what only the work needed."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    (folder / "seconds").unlink(missing_ok=True)
    for file in folder.rglob("*"):
        # A file system without rights (a memory stick) refuses; the run is as good there.
        with contextlib.suppress(OSError):
            if file.is_file():
                file.chmod(file.stat().st_mode & ~0o222)
    folder.rename(target)


def version_of(file: Path) -> tuple[int, ...]:
    """What changes when a file or a folder does; nothing where there is none."""
    try:
        status = file.lstat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def is_intact(file: Path, checksum: str) -> bool:
    """Whether a file is there, can be read, and is as it was written."""
    try:
        return file.is_file() and digest(file) == checksum
    except OSError:
        return False


@contextlib.contextmanager
def _mistakes(folder: Path) -> Iterator[None]:
    """Remove the folder of a run that was refused before it kept anything.

    There is nothing to resume then. Only a user's mistakes count: an endpoint that goes down is not
    one, and what it said is kept elsewhere.
    """
    try:
        yield
    except (BadInput, NotFound, Incompatible):
        files = [file for file in folder.rglob("*") if file.is_file()]
        if files == [folder / "run.json"]:
            shutil.rmtree(folder)
        raise


@contextlib.contextmanager
def _lock(file: Path, id: str) -> Iterator[None]:
    """Hold the lock of a run. Raises Busy while another process holds it."""
    with _locked(file, id) as handle:
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _locked(file: Path, id: str) -> TextIO:
    # flock, not a file's existence: the kernel lets go of it when a process dies, however it dies.
    while True:
        handle = file.open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            process = handle.read() or "?"
            handle.close()
            raise Busy(
                f"{id} is being made by process {process}. "
                "Wait for it, or stop it; the work is kept."
            ) from None
        if _is_at(file, handle):
            return handle
        handle.close()  # its holder removed the file after we opened it: nobody looks there


def _is_at(file: Path, handle: TextIO) -> bool:
    """Whether an opened file is still the one that its path leads to."""
    try:
        return os.path.samestat(file.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise WorkbenchError(
            f"{folder} cannot be written: {error.strerror}. What is finished is kept; make room or "
            "choose another folder, then run the same command again to resume."
        ) from error


@functools.cache
def _environment() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
    }
