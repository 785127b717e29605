"""What every reader of strangers' input must do: give a value, or refuse in one line, within 10 s.

A property test makes inputs with hypothesis and hands the reading of each to `survives`. An input
that once failed stays, as an `@hypothesis.example` above the test: it is replayed at every run.
`EXAMPLES=2000 python -m pytest -k hostile` draws 2,000 new inputs for each property.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from feature_store.errors import WorkbenchError

Value = TypeVar("Value")
LIMIT = 10
"""An input that is not read or refused after this long hangs [s]."""


def survives(read: Callable[[], Value]) -> Value | None:
    """Give what `read` gives, None where it refuses. Fails on a traceback, a long wait, a bad line.

    A refusal is a WorkbenchError whose message is one line without control characters.
    """

    def hangs(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"The input was neither read nor refused within {LIMIT} s.")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(LIMIT)
    try:
        return read()
    except WorkbenchError as error:
        message = str(error)
        assert message.isprintable(), f"The refusal holds control characters: {message!r}"
        assert len(message) < 2_000, f"The refusal has {len(message)} characters."
        return None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
