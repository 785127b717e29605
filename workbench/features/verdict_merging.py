"""Many small runs of verdicts become one: `workbench compact`.

1. What a killed process left half kept is finished first: its description holds the verdict.
2. The verdicts of all runs that are as they were written are copied into one new run, each once,
   with the ids of the runs that it takes the place of (`superseded.json`, and `came_in` of each
   verdict). A damaged run is named, and stays.
3. The new run is read back from the disk and compared. Only then the old ones go, each in one
   rename.

Killed at any moment nothing is lost: until the old runs go they are there, and a verdict that
stands in two runs counts once, by its id. Compacting again does the rest. Verdicts that come
meanwhile are runs of their own, which nobody touches.

Left out: other small runs, such as reviews of scenarios.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.errors import Busy, WorkbenchError
from feature_store.files import flush, write_atomically
from feature_store.locks import locked
from feature_store.records import Run
from feature_store.verified import intact
from feature_store.work import Work
from workbench.features import verdicts
from workbench.features.verdicts import KIND
from workbench.workspace import Workspace

SUPERSEDED = "superseded.json"
"""File of a merged run that lists the runs in whose place it stands."""


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What compacting did."""

    run: Run | None
    """The run that holds all verdicts; None where there was nothing to merge."""
    merged: int
    """Runs that it took the place of."""
    verdicts: int
    """Verdicts in it."""
    finished: int
    """Verdicts that a killed process had left half kept."""
    lines: tuple[str, ...]
    """A line for each run that is damaged, and stays as it is."""


def compact(study: Workspace) -> Compacted:
    """Merge the study's runs of verdicts into one.

    Raises BadInput where the study is published, WorkbenchError where the merged run is not as it
    should be; then the old ones stay.
    """
    study.refuse_if_published()
    finished = _finish_interrupted(study)
    shutil.rmtree(_gone(study), ignore_errors=True)  # what a killed compact had put aside
    runs, lines = _sound_runs(study)
    if len(runs) < 2:
        return Compacted(run=None, merged=0, verdicts=0, finished=finished, lines=tuple(lines))
    rows = _rows_of(study, runs)
    ids = json.dumps([run.id for run in runs])
    settings = {"merged": len(runs), "runs": hashlib.sha256(ids.encode()).hexdigest()}

    def build(work: Work) -> dict[str, Any]:
        """Write all verdicts, and whose place the run takes."""
        verdicts.write_rows(work, rows)
        earlier = [id for run in runs for id in _superseded_by(study, run)]
        listed = [*earlier, *(run.id for run in runs)]
        write_atomically(work.folder / SUPERSEDED, json.dumps(listed, indent=1))
        return {"verdicts": rows.num_rows, "merged": len(runs)}

    run = study.make(KIND, settings, {}, build, seed=0)
    _check(study, run, rows)
    for folder in (study.runs.folder / run.id, study.runs.folder):
        flush(folder)
    _gone(study).mkdir(exist_ok=True)
    for old in runs:
        _remove(study, old.id)
    shutil.rmtree(_gone(study), ignore_errors=True)
    return Compacted(
        run=run, merged=len(runs), verdicts=rows.num_rows, finished=finished, lines=tuple(lines)
    )


def _finish_interrupted(study: Workspace) -> int:
    """Finish the verdicts, and drop the merges, that killed processes began; returns how many."""
    finished = 0
    for run in study.runs.unfinished():
        if run.kind != KIND or run.status == "running":
            continue
        if entries := verdicts.kept_in(run):
            with contextlib.suppress(Busy):  # somebody else finishes it this moment
                verdicts.keep(study, entries)
                finished += len(entries)
        elif "merged" in run.config:
            folder = study.runs.folder / ".work" / run.id
            with contextlib.suppress(Busy), locked(folder.with_suffix(".lock"), run.id):
                shutil.rmtree(folder, ignore_errors=True)
    return finished


def _sound_runs(study: Workspace) -> tuple[list[Run], list[str]]:
    """Give the runs of verdicts that are as they were written, and a line for each other one."""
    good, bad = study.runs.look(f"{KIND}-")
    runs, lines = [], list(bad.values())
    for run in good:
        try:
            runs.append(intact(study.runs, run))
        except WorkbenchError as error:
            lines.append(str(error))
    return runs, lines


def _rows_of(study: Workspace, runs: Sequence[Run]) -> pa.Table:
    """Give the verdicts of some runs, each once. Raises WorkbenchError where a run shows none."""
    ids = [run.id for run in runs]
    seen = study.store.sql(
        "SELECT DISTINCT run FROM verdicts WHERE list_contains(?, run)", [ids]
    ).run
    if missing := sorted(set(ids) - set(seen)):
        raise WorkbenchError(
            f"{missing[0]} shows no verdict now. Nothing was merged; `workbench check` says why."
        )
    return study.store.arrow(
        "SELECT DISTINCT ON (id) * EXCLUDE (run) FROM verdicts WHERE list_contains(?, run)"
        " ORDER BY id, given",
        [ids],
    )


def _check(study: Workspace, run: Run, rows: pa.Table) -> None:
    """Read a merged run back from the disk. Raises WorkbenchError where it is not as it should."""
    intact(study.runs, run)
    order = [("id", "ascending")]
    file = study.runs.folder / run.id / "verdicts.parquet"
    # As a stream of bytes, since a reader that knows folders would take `run` from their names.
    with file.open("rb") as stream:
        written = pq.read_table(stream).select(rows.column_names).sort_by(order)
    if not written.equals(rows.sort_by(order).cast(written.schema)):
        raise WorkbenchError(
            f"{run.id} does not hold what it should. The old runs stay; remove the folder {run.id}"
            " and compact again."
        )


def _superseded_by(study: Workspace, run: Run) -> list[str]:
    """List the runs in whose place a run already stands; none for one that was not merged."""
    file = study.runs.folder / run.id / SUPERSEDED
    listed: list[str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return listed


def _remove(study: Workspace, id: str) -> None:
    """Take a run out of the readers' sight, in one step."""
    with contextlib.suppress(OSError):  # another process, which compacts too, was faster
        (study.runs.folder / id).rename(_gone(study) / id)


def _gone(study: Workspace) -> Path:
    """Give the folder of runs that are being removed; readers look past names with a point."""
    return study.runs.folder / ".superseded"
