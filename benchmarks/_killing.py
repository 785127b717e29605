"""A command in a process of its own, killed at a moment that is asked for.

1. The process that imports this module has the libraries, and forks: the child needs a fraction of
   a second to begin its work, is the leader of a process group, and runs one command line.
2. An audit hook in the child sees every file that is opened for writing, renamed or removed. The
   first one is the beginning of the work; before the n-th one the child kills its group, where that
   was asked for.
3. The parent waits, and kills the group with SIGKILL after so many seconds of work, where that was
   asked for. What the child leaves alive is counted, and killed.

Left out: power cuts. `python -m benchmarks kills` tears files for those.
"""

import contextlib
import ctypes
import importlib
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.verb_table import VERBS

LIBRARIES = (
    *("causallearn.search.ConstraintBased.PC", "cvxpy", "duckdb", "numba", "pandas", "pyarrow"),
    *(
        "rich.progress",
        "safetensors.torch",
        "scipy.optimize",
        "scipy.stats",
        "sklearn.linear_model",
    ),
    *("sklearn.model_selection", "torch", "transformers.models.llama.modeling_llama", "trueskill"),
    *("sae_training.training.train", "workbench.command.cli", "workbench.study"),
)
"""What a child does not have to import."""
SUBREAPER, DEATH_SIGNAL = 36, 1
"""Numbers of `prctl`: orphans become our children; a child dies with its parent."""
LONGEST = 300.0
"""A command that takes longer hangs [s]."""
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.truncate"}
"""Audit events that change the disk; `open` is one where it may write."""


@dataclass(frozen=True)
class Moment:
    """When a command is killed; never, where both are left out."""

    seconds: float | None = None
    """Time after the first file operation [s]."""
    operation: int = 0
    """Before this file operation, counted from 1; 0: at none."""


NEVER = Moment()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code; -9 where the command was killed."""
    seconds: float
    """From the first file operation to the end [s]."""
    operations: int
    """File operations; 0 where the command was killed."""
    orphans: int
    """Processes that outlived it."""
    output: str
    """Last words."""

    @property
    def killed(self) -> bool:
        """Whether the command ended by SIGKILL."""
        return self.code == -signal.SIGKILL


def preload() -> None:
    """Import what the verbs import, and become the parent of whatever their processes leave."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for name in LIBRARIES:
        importlib.import_module(name)
    for verb in VERBS:
        importlib.import_module(f"workbench.verbs.{verb}")
    _prctl(SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies."""
    _prctl(DEATH_SIGNAL, signal.SIGKILL)


def command(words: Sequence[str], folder: Path, moment: Moment = NEVER) -> Ended:
    """Run `workbench WORDS` in `folder`, and kill it at a moment. Raises TimeoutError if it hangs.

    Temporary files of the command lie in `folder/tmp`.
    """
    (folder / "tmp").mkdir(exist_ok=True)
    log = folder / "log"
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        _be_the_command(words, folder, log, moment.operation, writing)
    os.close(writing)
    with contextlib.closing(os.fdopen(reading, "rb", buffering=0)) as pipe:
        status, seconds, reports = _watch(child, pipe, moment)
    orphans = _orphans()
    counted = reports.decode().split()
    return Ended(
        code=os.waitstatus_to_exitcode(status),
        seconds=seconds,
        operations=int(counted[-1]) if counted and counted[-1].isdigit() else 0,
        orphans=orphans,
        output=log.read_text(errors="replace")[-2000:],
    )


def _be_the_command(
    words: Sequence[str], folder: Path, log: Path, stop_at: int, writing: int
) -> None:
    """Run the command line, report the file operations, and end the process."""
    code = 1
    try:
        os.setsid()
        die_with_parent()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        tempfile.tempdir = str(folder / "tmp")
        operations = _Operations(stop_at, writing)
        sys.addaudithook(operations)
        from workbench.command import cli

        code = cli.main(words)
        os.write(writing, f" {operations.count}".encode())
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # what a user would see as a traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Operations:
    """An audit hook that counts file operations, reports the first one, and kills before one."""

    def __init__(self, stop_at: int, writing: int) -> None:
        self.count = 0
        """File operations so far."""
        self._stop_at = stop_at
        self._writing = writing

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at one event."""
        if event == "open":
            path, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            if not writes or not isinstance(path, str | os.PathLike) or "/dev" in str(path):
                return
        elif event not in CHANGES:
            return
        self.count += 1
        if self.count == 1:
            os.write(self._writing, b"w")
        if self.count == self._stop_at:
            os.killpg(0, signal.SIGKILL)


def _watch(child: int, pipe: Any, moment: Moment) -> tuple[int, float, bytes]:
    """Wait for the child's end, or kill it: its status, seconds of work, and what it reported."""
    launched = time.monotonic()
    began, reports = launched, b""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic()
        if ended:
            while piece := pipe.read(64):
                reports += piece
            return status, now - began, reports
        if now - launched > LONGEST:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"The command ran for more than {LONGEST:g} s.")
        if reports and moment.seconds is not None and now - began >= moment.seconds:
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return status, now - began, b""
        readable, _, _ = select.select([pipe], [], [], 0.002)
        if readable and not reports:
            reports = pipe.read(1)
            began = time.monotonic()
        elif readable:
            time.sleep(0.002)  # the pipe holds the count, or is closed: the child is ending


def _orphans() -> int:
    """Count the processes that a dead child left alive, and kill them."""
    time.sleep(0.01)
    count = 0
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, _ = os.waitpid(-1, os.WNOHANG)
            if ended:
                continue
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            for process in children:
                count += 1
                os.kill(int(process), signal.SIGKILL)
                os.waitpid(int(process), 0)
    return count


def _prctl(option: int, value: int) -> None:
    """Ask the kernel for a property of this process."""
    if ctypes.CDLL(None).prctl(option, value, 0, 0, 0):
        raise OSError(f"prctl({option}) failed.")
