"""How long work tells what it does: a bar in the terminal, lines elsewhere, nothing in tests.

1. `progress(stage, done, total)` is called often; whoever shows it decides how often to draw. A
   stage counts in what takes equal time.
2. Work that has one stage only counts; whoever starts it names the stage:

       with in_terminal("adopt") as progress:
           harvest(texts, stage(progress, "harvesting"))

3. A stage of long steps shows what is done inside a step (`step`), and first of all what an
   interrupted run left finished.
4. The time left is estimated from the pace since the first call of the stage. So what was found
   finished, which took no time, does not count as fast.

Left out: the time left of a whole job; stages that have not begun have no pace.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Container, Iterator, Sequence, Sized
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from feature_store.terminal import visible

if TYPE_CHECKING:
    from rich.progress import TaskID

Progress = Callable[[str, int, int], None]
"""Called with the name of the stage, how much of it is done and how much there is."""
StageProgress = Callable[[int, int], None]
"""Progress of a single stage: called with how much of it is done and how much there is."""
Part = TypeVar("Part", bound=Sized)
"""Some of the work, which counts as long as it is."""


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


def step(progress: StageProgress, before: int, size: int, whole: int) -> StageProgress:
    """Give one step its share of a stage: `size` of `whole`, after `before` that are done.

    The last of it is left to whoever keeps what the step made: what counts as done is kept.

    >>> step(print, 48, 48, 480)(1, 4)
    60 480
    """

    def count(done: int, total: int) -> None:
        """Report what is done of the step as a share of the stage."""
        progress(before + min(size * done // max(total, 1), max(size - 1, 0)), whole)

    return count


def missing_chunks(
    done: Container[int], total: int, size: int, progress: StageProgress
) -> Iterator[tuple[int, range, StageProgress]]:
    """Cut `total` rows into chunks of `size`, and give the missing ones as `missing_parts` does.

    >>> for number, rows, shown in missing_chunks({0}, 100, 48, print):
    ...     shown(1, 2)
    48 100
    72 100
    96 100
    98 100
    100 100
    """
    chunks = [range(start, min(start + size, total)) for start in range(0, total, size)]
    return missing_parts(done, chunks, progress)


def missing_parts(
    done: Container[int], parts: Sequence[Part], progress: StageProgress
) -> Iterator[tuple[int, Part, StageProgress]]:
    """Give the parts whose number is not `done`: number, part, and its share of the progress.

    What is done counts from the beginning on, wherever it stands. A part counts as long as it is.

        for number, rows, shown in missing_parts({1}, [[0, 1], [2]], print):
            ...
    """
    total = sum(map(len, parts))
    finished = sum(len(part) for number, part in enumerate(parts) if number in done)
    progress(finished, total)
    for number, part in enumerate(parts):
        if number not in done:
            yield number, part, step(progress, finished, len(part), total)
            finished += len(part)
            progress(finished, total)


def in_turn(progress: StageProgress, last: int) -> tuple[StageProgress, StageProgress]:
    """Show two works, one after the other, as one count; both count in the same unit.

    The first says how much it is when it begins; `last` is how much the other is.

    >>> first, second = in_turn(print, 10)
    >>> first(5, 30)
    5 40
    >>> second(5, 10)
    35 40
    """
    whole = last

    def count_first(done: int, total: int) -> None:
        """Report what is done of the first work."""
        nonlocal whole
        whole = total + last
        progress(done, whole)

    def count_second(done: int, total: int) -> None:
        """Report what is done of the second work."""
        progress(whole - last + done, whole)

    return count_first, count_second


@contextlib.contextmanager
def in_terminal(title: str) -> Iterator[Progress]:
    """Show one bar a stage with the time left; where output is no terminal, a line a tenth."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
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
        # The library's own estimate looks back half a minute, in which a long step may not end.
        TextColumn("left {task.fields[left]}"),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}
        seconds_left = _estimate()

        def show(stage: str, done: int, total: int) -> None:
            """Draw the bar of a stage, a new one at its first call."""
            seconds = seconds_left(stage, done, total)
            left = "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
            if stage not in tasks:
                name = visible(f"{title}: {stage}")
                tasks[stage] = bars.add_task(name, total=total, left=left)
            bars.update(tasks[stage], completed=done, total=total, left=left)

        yield show


def _lines(title: str) -> Progress:
    tenths: dict[str, int] = {}
    seconds_left = _estimate()

    def show(stage: str, done: int, total: int) -> None:
        """Print a line whenever another tenth of the stage is done."""
        seconds = seconds_left(stage, done, total)
        tenth = 10 * done // max(total, 1)
        if tenth == tenths.get(stage):
            return
        tenths[stage] = tenth
        left = "" if seconds is None or done == total else f", about {seconds:.0f} s left"
        line = visible(f"{title}: {stage} {done} of {total}{left}")
        print(line, file=sys.stderr, flush=True)

    return show


def _estimate() -> Callable[[str, int, int], float | None]:
    """Estimate how long stages still take [s], each by its pace since it began.

    None where nothing has been done since then. A count that falls begins its stage anew.
    """
    beginnings: dict[str, tuple[float, int]] = {}
    counts: dict[str, int] = {}

    def seconds_left(stage: str, done: int, total: int) -> float | None:
        """Note the count of a stage, and say how long the rest takes [s]."""
        now = time.monotonic()
        if stage not in counts or done < counts[stage]:
            beginnings[stage] = now, done
        counts[stage] = done
        start, before = beginnings[stage]
        return (now - start) / (done - before) * (total - done) if done > before else None

    return seconds_left
