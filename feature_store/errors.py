"""Errors a person reads.

Every error that a user's input can cause is a `WorkbenchError`: one line that says what was
expected, what came, and what to do. The command line prints it without a traceback and exits with
code 2; the app shows it in place. Anything else that is raised is a defect of ours and keeps its
traceback.
"""

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator


class WorkbenchError(Exception):
    """What was expected, what came, what to do: one line, whatever a stranger's text brings in."""

    def __str__(self) -> str:
        line = " ".join(super().__str__().split())
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)


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
    """Turn what the operating system says of a path into BadInput that names the path.

    A path can be too long, not readable, or a folder where a file should be.
    """
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str | bytes | os.PathLike):
            raise
        path = os.fsdecode(error.filename)
        raise BadInput(f"{path} cannot be used: {error.strerror}. Check the path.") from error


def nearest(name: str, names: Iterable[str]) -> str:
    """End of a sentence about an unknown name: the closest of `names`, or the list of them.

    >>> nearest("powr", ["power", "security"])
    " Did you mean 'power'?"
    """
    names = sorted(names)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(names) or 'none'}."
