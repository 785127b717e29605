"""Write and read run folders: one run is one folder, and it appears whole or not at all.

1. `Runs.begin` names the run by a digest of its kind, configuration, inputs and seed, and takes its
   lock. The same work asked for again is the same run: finished, it is found; interrupted, it is
   resumed.
2. The job writes into `runs/.work/<id>/`, and the finished folder is renamed to `runs/<id>`
   (`work.py`). Readers list `runs/*` only, so they never see half a run, and no reader ever blocks
   a writer.
3. A folder in `runs/` may come from anyone. One that does not read as a run is left out and named
   (`Runs.look`); the others are there as ever.

Left out: deleting runs. A run is a folder; remove the folder (`rm -rf`: its files are read-only,
the folder is not, so that its owner need not change rights first).
"""

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feature_store import descriptions
from feature_store.descriptions import FORMAT
from feature_store.errors import BadInput, Incompatible, NotFound, WorkbenchError, nearest
from feature_store.files import digest, sweep
from feature_store.locks import clear, is_held, locked
from feature_store.records import Run
from feature_store.terminal import visible
from feature_store.work import Work, publish, warn_of_damage

PACKAGES = ("values-workbench", "torch", "transformers", "sae-lens", "duckdb", "numpy")
"""Packages whose versions are noted in every run."""


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

    def clear_locks(self) -> None:
        """Remove the locks that processes left which were killed just after their run's end."""
        for file in (self.folder / ".work").glob("*.lock"):
            clear(file)

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

    def unfinished(self) -> list[Run]:
        """Runs that were begun and not finished; the same work begun again resumes them.

        Their status is `running` while a process makes them, else `interrupted`. One whose
        description cannot be read is left out, and warned of.
        """
        runs = []
        for file in sorted((self.folder / ".work").glob(f"*/{descriptions.FILE}")):
            try:
                run = descriptions.read(file.parent)
                at_work = is_held(file.parent.with_suffix(".lock"))
                runs.append(replace(run, status="running" if at_work else run.status))
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
            with locked(folder.with_suffix(".lock"), id):
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
            warn_of_damage(file, error, "it is written anew")
            return None
        if run.status != "finished":
            return run
        if all(is_intact(folder / name, checksum) for name, checksum in run.files.items()):
            publish(folder, self.folder / id)
        else:
            shutil.rmtree(folder)
        return None


def warn_of(lines: Iterable[str]) -> None:
    """Warn of bad runs, of each one once a process: the filter of warnings keeps count."""
    for line in lines:
        warnings.warn(line, stacklevel=1)


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
