"""Errors a person reads.

Every error that a user's input can cause is a `WorkbenchError`: one line that says what was expected,
what came, and what to do. The command line prints it without a traceback and exits with code 2; the app
shows it in place. Anything else that is raised is a defect of ours and keeps its traceback.
"""

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator


class WorkbenchError(Exception):
    """What was expected, what came, what to do: one line."""


class NotFound(WorkbenchError):
    """A name, a file or a run that is not there."""


class BadInput(WorkbenchError):
    """A file, a number or a setting that cannot be used."""


class Incompatible(WorkbenchError):
    """Two things that do not fit: an SAE and a model, a study and this version."""


class Busy(WorkbenchError):
    """Another process is doing the same work."""


@contextlib.contextmanager
def of_paths() -> Iterator[None]:
    """What the operating system says of a path (too long, not to be read, a folder where a file should be) as BadInput that names it."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str | bytes | os.PathLike):
            raise
        raise BadInput(
            f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}. Check the path."
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'power'?` for the closest of `known`, else the list of what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known) or 'none'}."
