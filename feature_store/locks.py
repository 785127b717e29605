"""The lock of a run: one process makes it at a time, and a dead process holds nothing.

The kernel's `flock` on a file beside the work is what counts, not the file's existence: the kernel
lets go of it when a process dies, however it dies. Who gets a lock on a file that its holder has
just removed asks again, since the next one would lock a new file.

Left out: locks over several machines; a shared disk may not pass `flock` on.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from feature_store.errors import Busy

TRIES = 5
"""Tries before a lock counts as held: somebody may only be looking (`is_held`)."""
PAUSE = 0.02
"""Wait between two tries [s]."""


@contextlib.contextmanager
def locked(file: Path, id: str) -> Iterator[None]:
    """Hold the lock of a run. Raises Busy while another process holds it."""
    with _opened(file, id) as handle:
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def clear(file: Path) -> None:
    """Remove the file of a lock that no living process holds; one that is held stays.

    A process that is killed between the end of its run and that of its lock leaves the file behind.
    """
    if not file.exists():
        return
    # A disk that cannot be written keeps the file, which holds nothing.
    with contextlib.suppress(Busy, OSError), _opened(file, file.stem):
        file.unlink(missing_ok=True)


def is_held(file: Path) -> bool:
    """Whether a living process holds a lock.

    Looking shares the lock for an instant, which `locked` waits out.
    """
    try:
        with file.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _opened(file: Path, id: str) -> TextIO:
    """Open and lock the file of a lock. Raises Busy where another process holds it."""
    tries = TRIES
    while True:
        handle = file.open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tries := tries - 1:
                handle.close()
                time.sleep(PAUSE)
                continue
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
