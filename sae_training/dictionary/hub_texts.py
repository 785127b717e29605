"""Rows of a dataset on the Hugging Face hub, streamed into a table on this machine.

1. `hub:ORG/NAME[/CONFIGURATION][:SPLIT][#COLUMN]` names a dataset; the split is `train` unless
   another is named.
2. Its first rows are streamed, so that only they are downloaded, from one commit of it. Columns of
   texts and of conversations are written as JSON lines, which are then read like a person's own.
3. The table stays: the same work asked for again reads it and needs no network. A download that was
   cut off goes on with the next row.

Left out: datasets that come with code of their own, which the library does not run.
"""

import contextlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from feature_store.errors import BadInput, NotFound, WorkbenchError
from feature_store.files import listed, on_line, shown, write_atomically
from feature_store.progress import StageProgress, silent_stage

PREFIX = "hub:"
MARK = 100
"""Rows between two times that what is there is handed to the disk."""
REASON = 300
"""Longest reason of the hub's that is shown [letters]."""

_ADDRESS = re.compile(
    r"hub:(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<configuration>[\w.-]+))?"
    r"(?::(?P<split>[\w.-]+))?(?:#(?P<column>.+))?"
)


class HubTable(NamedTuple):
    """A dataset of the hub, and what of it is read."""

    name: str
    """ORG/NAME."""
    configuration: str
    """One of several that a dataset may have; empty: the only one."""
    split: str
    """Such as `train`."""
    column: str
    """Column of the texts; empty: as of any table."""

    @classmethod
    def parse(cls, address: str) -> "HubTable":
        """Read an address. Raises BadInput for what is none.

        HubTable.parse("hub:org/name:train#text")
        """
        match = _ADDRESS.fullmatch(address)
        if not match:
            raise BadInput(
                "A dataset of the hub is named hub:ORG/NAME, or"
                f" hub:ORG/NAME/CONFIGURATION:SPLIT#COLUMN; got {shown(address, 200)}."
            )
        parts = {key: value or "" for key, value in match.groupdict().items()}
        return cls(**parts | {"split": parts["split"] or "train"})

    @property
    def file(self) -> str:
        """Name of the file of its rows."""
        parts = [self.name.replace("/", "--"), self.configuration, self.split, self.column]
        return ".".join(re.sub(r"[^\w-]", "-", part) for part in parts if part)


class HubRows(NamedTuple):
    """Rows of a dataset that were streamed."""

    file: Path
    """JSON lines, a row each."""
    commit: str
    """Commit of the dataset that they are of."""


def streamed(
    table: HubTable, n: int, folder: Path, progress: StageProgress = silent_stage
) -> HubRows:
    """Stream the first `n` rows of a dataset into a file in `folder`.

    Rows that are there are given as they are. Raises NotFound for a column that the dataset lacks,
    and a WorkbenchError in one line for a dataset that cannot be opened or reached.

        streamed(HubTable.parse("hub:org/name"), 2_000, folder).file
    """
    whole = folder / f"{table.file}.{n}.jsonl"
    noted, part = whole.with_suffix(".commit"), whole.with_suffix(".part")
    if whole.exists():
        return HubRows(whole, noted.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    rows = _kept_rows(part) if noted.exists() else 0
    with _explained(table), part.open("ab" if rows else "wb") as file:
        if not rows:
            write_atomically(noted, _commit(table))
        commit = noted.read_text(encoding="utf-8")
        for row in _rows(table, commit, rows, n - rows):
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            rows += 1
            if rows % MARK == 0:
                file.flush()
                progress(rows, n)
    if rows == 0:
        part.unlink()
        raise BadInput(f"The split {table.split} of {table.name} is empty. Name another.")
    if rows < n:
        warnings.warn(
            f"{table.name} ends after {rows} rows in its split {table.split}; {n} were asked for.",
            stacklevel=2,
        )
    progress(rows, rows)
    os.replace(part, whole)
    return HubRows(whole, commit)


def _commit(table: HubTable) -> str:
    """Ask the hub for the newest commit of a dataset."""
    from huggingface_hub import HfApi

    return HfApi().dataset_info(table.name).sha or ""


def _kept_rows(part: Path) -> int:
    """Count the rows of a download that was cut off; a torn last one is taken away."""
    if not part.exists():
        return 0
    content = part.read_bytes()
    end = content.rfind(b"\n") + 1
    os.truncate(part, end)
    return content.count(b"\n", 0, end)


def _rows(table: HubTable, commit: str, first: int, n: int) -> Iterator[Mapping[str, Any]]:
    """Stream rows from `first` on, their columns of texts and conversations alone."""
    # The library counts who loads what unless it is told not to; it reads this when imported.
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    from datasets import load_dataset

    stream = load_dataset(
        table.name,
        table.configuration or None,
        split=table.split,
        revision=commit or None,
        streaming=True,
    )
    for row in stream.skip(first).take(n):
        if table.column and table.column not in row:
            raise NotFound(
                f"{table.name} has no column {shown(table.column, 60)}; it has"
                f" {listed(list(row))}. Name the column behind #."
            )
        wanted = [table.column] if table.column else list(row)
        yield {name: row[name] for name in wanted if isinstance(row[name], (str, list))}


@contextlib.contextmanager
def _explained(table: HubTable) -> Iterator[None]:
    """Say in one line what the hub and its library complain of."""
    try:
        yield
    except WorkbenchError:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise WorkbenchError(
            f"{table.name} cannot be reached ({_reason(error)}). Check the network; what was"
            " streamed is kept, and the same command goes on from there."
        ) from None
    except OSError as error:
        if "gated" in str(error):
            raise WorkbenchError(
                f"{table.name} is open only to those whom its makers let in. Ask them on its page"
                " on the hub, then log in (hf auth login), or name another dataset."
            ) from None
        raise WorkbenchError(f"{table.name} cannot be read: {_reason(error)}.") from None
    except Exception as error:  # the library raises what its readers raise
        raise BadInput(f"{table.name} cannot be read: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """Put a stranger's message on one line."""
    return on_line(" ".join(str(error).split()), REASON).rstrip(". ")
