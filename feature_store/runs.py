"""Write and read run folders: one run is one folder, and it appears whole or not at all.

1. `Runs.begin` names the run by a digest of its kind, configuration, inputs and seed, and takes its lock. The
   same work asked for again is the same run: finished, it is found; interrupted, it is resumed.
2. The job writes into `runs/.work/<id>/`: tables as Parquet (columns and types of `schema/`), files, and
   parts of tables that are kept when the job is killed.
3. `Work.finish` writes the checksums and `run.json`, flushes to disk and renames the folder to `runs/<id>`.
   Readers list `runs/*` only, so they never see half a run, and no reader ever blocks a writer.

Left out: deleting runs. A run is a folder; remove the folder.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.errors import BadInput, Busy, Incompatible, NotFound, WorkbenchError, nearest
from feature_store.records import Run, row
from feature_store.schema import schemas

FORMAT = 1
PACKAGES = ("values-workbench", "torch", "transformers", "sae-lens", "duckdb", "numpy")


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_atomically(file: Path, text: str) -> None:
    """Replace `file` by `text` in one step, flushed to disk."""
    beside = file.with_name(file.name + ".part")
    with beside.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(file)


def to_table(relation: str, rows: pa.Table | Sequence[Any], run: str) -> pa.Table:
    """Records, dicts or an Arrow table as the Arrow table that `schema/` declares, with its `run` column."""
    schema = schemas()[relation]
    if not isinstance(rows, pa.Table):
        plain = [r if isinstance(r, Mapping) else row(r) for r in rows]
        rows = pa.Table.from_pylist(plain, schema=pa.schema([f for f in schema if f.name != "run"]))
    if set(rows.column_names) != set(schema.names) - {"run"}:
        raise ValueError(f"{relation}: the schema declares {schema.names}, the job wrote {rows.column_names}.")
    column = pa.array([run], pa.string()).take(pa.array([0] * rows.num_rows, pa.int32()))
    table = rows.append_column("run", column).select(schema.names).cast(schema)
    return pa.table([_nulls(column) for column in table.columns], schema=schema)


def _nulls(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers that are not known are NULL. Parquet's statistics leave NaN out, so DuckDB would let them through a filter."""
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


class Work:
    """A run that is being made. Obtained from `Runs.begin`; `finish` makes it visible."""

    def __init__(self, run: Run, folder: Path, target: Path):
        self.run, self.folder, self._target = run, folder, target
        self._started = time.monotonic()

    @property
    def state(self) -> Path:
        """A folder for checkpoints: kept while the run is interrupted, removed when it is finished."""
        path = self.folder / "state"
        path.mkdir(exist_ok=True)
        return path

    def table(self, relation: str, rows: pa.Table | Sequence[Any], sort: Sequence[str] = ()) -> None:
        """Write one relation of `schema/`. Sorted columns let queries skip the rest of the file."""
        table = to_table(relation, rows, self.run.id)
        if sort:
            table = table.sort_by([(name, "ascending") for name in sort])
        self._write(table, self.folder / f"{relation}.parquet")

    def part(self, relation: str, number: int, rows: pa.Table) -> None:
        """Keep part `number` of a relation: it survives a kill, and `parts` puts all of them together."""
        folder = self.state / relation
        folder.mkdir(exist_ok=True)
        self._write(rows, folder / f"{number:06d}.parquet")
        self.save_time()

    def done(self, relation: str) -> set[int]:
        """Numbers of the parts that are kept already."""
        return {int(file.stem) for file in (self.state / relation).glob("*.parquet")}

    def kept(self, relation: str, number: int) -> pa.Table:
        """Part `number` of a relation, kept by `part`."""
        return pq.read_table(self.state / relation / f"{number:06d}.parquet")

    def parts(self, relation: str) -> pa.Table:
        """All kept parts of a relation, in order of their numbers."""
        return pa.concat_tables(pq.read_table(file) for file in sorted((self.state / relation).glob("*.parquet")))

    def save_time(self) -> None:
        """Note the working time so far, so that an interruption does not lose it."""
        write_atomically(self.folder / "seconds", str(self._seconds()))

    def finish(self, summary: Mapping[str, Any]) -> Run:
        """Write checksums and `run.json`, then rename: from now on every reader sees the run."""
        seconds = self._seconds()
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        (self.folder / "seconds").unlink(missing_ok=True)
        files = {
            str(file.relative_to(self.folder)): digest(file)
            for file in sorted(self.folder.rglob("*"))
            if file.is_file() and file.name != "run.json"
        }
        finished = Run(
            **(row(self.run) | {"status": "finished", "seconds": seconds, "summary": dict(summary), "files": files})
        )
        write_atomically(self.folder / "run.json", json.dumps(asdict(finished), indent=1))
        self.folder.rename(self._target)
        return finished

    def _seconds(self) -> float:
        earlier = self.folder / "seconds"
        before = float(earlier.read_text()) if earlier.exists() else 0.0
        now = time.monotonic()
        spent, self._started = now - self._started, now
        return before + spent

    def _write(self, table: pa.Table, file: Path) -> None:
        beside = file.with_name(file.name + ".part")
        pq.write_table(table, beside, compression="zstd", row_group_size=65_536)
        beside.replace(file)


VERBS = {
    "sae": "train", "labels": "label", "profile": "measure", "probes": "probe", "prediction": "predict", "decisions": "decide",
    "comparison": "compare", "images": "index",
}  # fmt: skip
"""Kind of run -> the verb that makes it, where it has another name."""


def verb_of(kind: str) -> str:
    """The verb that makes runs of a kind."""
    return VERBS.get(kind, kind)


class Runs:
    """The runs of one study."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str], seed: int) -> str:
        """Id of the run that this work makes, whether it exists or not."""
        told = json.dumps([FORMAT, kind, config, inputs, seed], sort_keys=True)
        return f"{kind}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"

    def exists(self, id: str) -> bool:
        """Whether the run is finished."""
        return (self.folder / id / "run.json").exists()

    def get(self, id: str) -> Run:
        """A finished run. Raises NotFound, Incompatible for a newer layout, BadInput for a damaged file."""
        if not self.exists(id):
            raise NotFound(f"There is no finished run {id!r} in {self.folder.parent}.{nearest(id, self.ids())}")
        return _read(self.folder / id / "run.json")

    def ids(self, kind: str = "") -> list[str]:
        """Ids of the finished runs, of one kind where given; no order."""
        return [f.parent.name for f in self.folder.glob("*/run.json") if f.parent.name.startswith(kind)]

    def all(self, kind: str = "") -> list[Run]:
        """The finished runs, oldest first."""
        return sorted((self.get(id) for id in self.ids(kind)), key=lambda run: (run.created, run.id))

    def interrupted(self) -> list[Run]:
        """Runs that were begun and not finished; running their verb again resumes them."""
        files = sorted((self.folder / ".work").glob("*/run.json"))
        return [_read(file) for file in files]

    def latest(self, kind: str) -> Run:
        """The newest finished run of a kind. Raises NotFound that names the verb to run."""
        found = self.all(kind + "-")
        if not found:
            verb = verb_of(kind) + ("` or `workbench adopt" if kind == "sae" else "")
            raise NotFound(
                f"{self.folder.parent} has no finished run of kind {kind!r} yet. Run `workbench {verb}` first."
            )
        return found[-1]

    @contextlib.contextmanager
    def begin(self, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str], seed: int) -> Iterator[Work]:
        """Start or resume a run. Raises Busy while another process makes the same one."""
        id = self.find(kind, config, inputs, seed)
        folder = self.folder / ".work" / id
        with _disk_errors(self.folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder.with_suffix(".lock"), id):
                described = folder / "run.json"
                if described.exists():
                    run = _read(described)
                else:
                    created = datetime.now(UTC).isoformat(timespec="milliseconds")
                    run = Run(
                        id,
                        kind,
                        "interrupted",
                        dict(config),
                        dict(inputs),
                        seed,
                        created,
                        0.0,
                        environment=_environment(),
                    )
                    write_atomically(described, json.dumps(asdict(run), indent=1))
                try:
                    yield Work(run, folder, self.folder / id)
                except (BadInput, NotFound, Incompatible):  # a mistake; an endpoint that goes down is not one, and what it said is kept elsewhere
                    if not any(file.is_file() and file != described for file in folder.rglob("*")):
                        shutil.rmtree(folder)  # refused before anything was kept: there is nothing to resume
                    raise

    def damaged(self, id: str) -> list[str]:
        """Files of a run that are missing or whose checksum differs."""
        folder, run = self.folder / id, self.get(id)
        return [
            name for name, sha in run.files.items() if not (folder / name).is_file() or digest(folder / name) != sha
        ]


def _read(file: Path) -> Run:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        version = told["format"]
        if version > FORMAT:
            raise Incompatible(
                f"{file.parent.name} was written in format {version}, this version reads up to {FORMAT}. Update the workbench."
            )
        return Run(**told)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise BadInput(
            f"{file} is no run description ({error}). Remove the folder {file.parent.name} and run its verb again."
        ) from None


@contextlib.contextmanager
def _lock(file: Path, id: str) -> Iterator[None]:
    # flock, not a file's existence: the kernel lets go of it when a process dies, however it dies.
    with file.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise Busy(
                f"{id} is being made by process {handle.read() or '?'}. Wait for it, or stop it; the work is kept."
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise WorkbenchError(
            f"{folder} cannot be written: {error.strerror}. What is finished is kept; make room or choose another folder, "
            "then run the same command again to resume."
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
