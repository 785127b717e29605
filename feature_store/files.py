"""Write files whole or not at all, and know them again by their content.

A file is written beside its place, as `<name>.part`, and renamed when it is complete: a reader sees
the old file or the new one, never half of either, and a process that is killed leaves the old one.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(file: Path, flush: bool = True) -> Iterator[Path]:
    """Give a path to write to, and put it in the place of `file` when the block ends well.

    `flush` waits until the content is on the disk, so that it also survives a loss of power. Where
    the block raises, what it wrote is removed and `file` stays as it was.

        with replacing(folder / "weights.safetensors") as beside:
            save_file(tensors, beside)
    """
    beside = file.with_name(file.name + ".part")
    try:
        yield beside
        if flush:
            with beside.open("rb+") as handle:
                os.fsync(handle.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    beside.replace(file)


def write_atomically(file: Path, text: str) -> None:
    """Replace a file by a text in one step, flushed to the disk."""
    with replacing(file) as beside:
        beside.write_text(text, encoding="utf-8")


def digest(file: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with Path(file).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
