"""How long work tells what it does: a bar in the terminal, lines elsewhere, nothing in tests.

`progress(stage, done, total)` is called often; whoever shows it decides how often to draw. Work
that has one stage only counts; whoever starts it names the stage:

    with in_terminal("adopt") as progress:
        harvest(texts, stage(progress, "harvesting"))
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from feature_store.terminal import visible

if TYPE_CHECKING:
    from rich.progress import TaskID

Progress = Callable[[str, int, int], None]
"""Called with the name of the stage, how much of it is done and how much there is."""
StageProgress = Callable[[int, int], None]
"""Progress of a single stage: called with how much of it is done and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def silent_stage(done: int, total: int) -> None:
    """Show nothing of a single stage."""


def stage(progress: Progress, name: str) -> StageProgress:
    """Give work that only counts a stage of that name.

    >>> stage(print, "harvesting")(3, 10)
    harvesting 3 10
    """

    def count(done: int, total: int) -> None:
        """Report the count under the name of its stage."""
        progress(name, done, total)

    return count


def part(progress: Progress, name: str) -> Progress:
    """Give one of several works its share of a progress: its stages begin with its name.

    >>> part(print, "train")("harvesting", 3, 10)
    train: harvesting 3 10
    """

    def report(stage_name: str, done: int, total: int) -> None:
        """Report the stage as one of this work."""
        progress(f"{name}: {stage_name}", done, total)

    return report


@contextlib.contextmanager
def in_terminal(title: str) -> Iterator[Progress]:
    """Show one bar a stage with the time left; where output is no terminal, a line a tenth."""
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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            """Draw the bar of a stage, a new one at its first call."""
            if stage not in tasks:
                tasks[stage] = bars.add_task(visible(f"{title}: {stage}"), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


def _lines(title: str) -> Progress:
    tenths: dict[str, int] = {}
    beginnings: dict[str, tuple[float, int]] = {}

    def show(stage: str, done: int, total: int) -> None:
        """Print a line whenever another tenth of the stage is done."""
        start, before = beginnings.setdefault(stage, (time.monotonic(), done))
        tenth = 10 * done // max(total, 1)
        if tenth <= tenths.get(stage, -1):
            return
        tenths[stage] = tenth
        # What an interrupted run did before the first call took time nobody measured.
        pace = (time.monotonic() - start) / max(done - before, 1)
        left = f", about {pace * (total - done):.0f} s left" if before < done < total else ""
        line = visible(f"{title}: {stage} {done} of {total}{left}")
        print(line, file=sys.stderr, flush=True)

    return show
