"""How long work tells what it does: one callable, a bar with the time left in the terminal, nothing in tests.

`progress(stage, done, total)` is called often; whoever shows it decides how often to draw.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]
"""Called with the name of the stage, how much of it is done and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


@contextlib.contextmanager
def in_terminal(title: str) -> Iterator[Progress]:
    """One bar a stage with the time left; where output is no terminal, a line every ten per cent."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, object] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(f"{title}: {stage}", total=total)
            bars.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield show


def _lines(title: str) -> Progress:
    import time

    told: dict[str, int] = {}
    began: dict[str, tuple[float, int]] = {}

    def show(stage: str, done: int, total: int) -> None:
        start, first = began.setdefault(stage, (time.monotonic(), done))
        tenth = 10 * done // max(total, 1)
        if tenth <= told.get(stage, -1):
            return
        told[stage] = tenth
        # What was done before the first call (by an interrupted run, say) took time nobody measured.
        pace = (time.monotonic() - start) / max(done - first, 1)
        left = f", about {pace * (total - done):.0f} s left" if first < done < total else ""
        print(f"{title}: {stage} {done} of {total}{left}", file=sys.stderr, flush=True)

    return show
