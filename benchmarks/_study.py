"""The study of the organism that several benchmarks measure: made once a process, from nothing,
with the demo's defaults."""

import functools
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from feature_store.progress import in_terminal
from feature_store.records import Run
from workbench.command.demo import demo
from workbench.study import Study


class Made(NamedTuple):
    study: Study
    """The finished study, in a temporary folder."""
    runs: dict[str, Run]
    """Verb -> its run."""
    seconds: float
    """Wall time of all five verbs [s]."""


@functools.cache
def made() -> Made:
    """The demo's study; the first call takes minutes."""
    study = Study(Path(tempfile.mkdtemp(prefix="workbench-")) / "demo")
    start = time.monotonic()
    with in_terminal("study") as progress:
        outcome = demo(study, False, progress)
    return Made(study, outcome.runs, time.monotonic() - start)


@functools.cache
def trained() -> tuple[Study, Run]:
    """A study of the organism with the demo's SAE alone; the first call takes a minute."""
    study = Study(Path(tempfile.mkdtemp(prefix="workbench-")) / "trained")
    with in_terminal("study") as progress:
        return study, study.do("train", {"model": "organism"}, progress)
