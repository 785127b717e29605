"""Whether a run is as it was written, looked at where it is used.

1. Every file that the run has is there, and has the SHA-256 that its description states.
2. There is no further table in its folder: a query would read it as the run's.
3. Its kind, settings, inputs and seed are those that its id digests, so that nobody has rewritten
   the description.

A file is read once a process, as long as its size and time stay. `workbench check` looks at all
runs; this looks at those that decide a result, before they do.

Left out: the figures of a description (its summary), which no checksum covers.
"""

import functools
from pathlib import Path

from feature_store.errors import BadInput
from feature_store.files import digest
from feature_store.records import Run
from feature_store.runs import Runs


def intact(runs: Runs, run: Run) -> Run:
    """Give a run back that is as it was written.

    Raises BadInput, which names the file, for any other.

        run = intact(study.runs, study.runs.get("labels-0123456789"))
    """
    folder = runs.folder / run.id
    if damage := _damage(runs, run, folder):
        raise BadInput(
            f"{run.id} is not as it was written: {damage}. Remove the folder {folder} and run its"
            " verb again, or put the file back."
        )
    return run


def _damage(runs: Runs, run: Run, folder: Path) -> str:
    """Say what is wrong with a run; nothing where nothing is."""
    for name, checksum in run.files.items():
        file = folder / name
        try:
            if not file.is_file():
                return f"{name} is missing"
            stat = file.stat()
            if _digest(str(file.resolve()), stat.st_size, stat.st_mtime_ns) != checksum:
                return f"{name} has changed"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    for file in folder.glob("*.parquet"):
        if file.name not in run.files:
            return f"{file.name} is no file of it"
    if runs.find(run.kind, run.config, run.inputs, run.seed) != run.id:
        return "run.json states other settings or inputs than those that its id digests"
    return ""


@functools.lru_cache(maxsize=100_000)
def _digest(file: str, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file; size and time of its last change [ns] tell another content apart."""
    return digest(file)
