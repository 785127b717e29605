"""Six writers, four readers and the app on one study at once: is anything lost, torn or broken?

1. The writers are processes that make runs all the time, with tables whose sums are known; two of
   them always ask for the same runs, so that they meet at every lock. Between the parts of a run a
   writer waits a moment, as one that computes does.
2. Three readers are processes that keep a study open and ask what pages ask; each answer is held
   against what every finished run holds. The fourth runs `workbench runs`, `check` and `sql`.
3. The app is open in Chromium, where there is one, and its pages are turned; otherwise its first
   page is fetched.
4. At the end every run that a writer was given must be there with every checksum as written, and
   nothing may be left of any work. Figures: runs that are lost, answers and files that are torn,
   tracebacks anywhere, and the 95th percentile of the readers' times.

`python -m benchmarks concurrency` takes five minutes; `python -m benchmarks.concurrency --seconds
60` another time. Left out: several machines on one file system.
"""

import argparse
import contextlib
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.errors import Busy

NAME = "concurrency"
REACH = {"lost": 0, "torn": 0, "tracebacks": 0, "read_p95_s": 1.0}
SECONDS = 300.0
WRITERS, READERS = 6, 4
ROWS = 2_000
"""Rows of each table that a writer writes."""
PAUSE = 5.0
"""Longest wait between the parts of a run [s]."""
PAGES = (("Features", "live features"), ("Graph", "Every pair"), ("Overview", "Runs"))
"""Title in the menu, and a text near the end of the page."""
QUERIES = (
    "SELECT count(*) AS n FROM runs WHERE kind = 'written'",
    "SELECT kind, count(*) AS n FROM runs GROUP BY kind",
    "SELECT run, count(*) AS n, sum(weight) AS total FROM edges GROUP BY run",
    "SELECT * FROM labels LIMIT 100",
)
"""What a reader asks; the third one is checked."""


def main() -> dict[str, Any]:
    """Reach: nothing lost, torn or broken; reads within a second."""
    return measure(SECONDS)


def measure(seconds: float) -> dict[str, Any]:
    """Let all of them work for so long, and give the figures."""
    from tests.helpers.synthetic import synthetic

    with tempfile.TemporaryDirectory(prefix="workbench-concurrency-") as folder:
        beside = Path(folder)
        study = synthetic(beside / "study").folder
        shutil.rmtree(study / "runs" / ".work")  # the unfinished run of that study
        with _app(study, beside) as visits:
            end = time.time() + seconds
            children = [_child("write", n, study, end, beside) for n in range(WRITERS)]
            children += [_child("read", n, study, end, beside) for n in range(READERS - 1)]
            children.append(_child("look", 0, study, end, beside))
            for child in children:
                child.wait(seconds + 300)
        return _figures(study, beside, visits)


def _child(part: str, number: int, study: Path, end: float, beside: Path) -> subprocess.Popen[str]:
    """Start one of the processes; what it says goes to a file of its own."""
    words = [sys.executable, "-m", "benchmarks.concurrency", "--part", part, "--number"]
    words += [str(number), "--study", str(study), "--end", str(end)]
    log = (beside / f"{part}-{number}.log").open("w")
    return subprocess.Popen(words, stdout=log, stderr=log, text=True)


def write(number: int, study: Path, end: float) -> None:
    """Make runs until `end` [s since 1970]; print the id of each one that was given."""
    from workbench.study import Study

    opened = Study(study)
    pair = number // 2  # two writers ask for the same runs
    rng = random.Random(number)
    turn = 0
    while time.time() < end:
        settings = {"pair": pair, "turn": turn, "seed": 0}
        try:
            run = opened.make("written", settings, {}, lambda work: _build(work, rng))
        except Busy:
            time.sleep(0.05)
            continue
        print("made", run.id, flush=True)
        turn += 1


def _build(work: Any, rng: random.Random) -> dict[str, Any]:
    """Write a run in two parts, with a pause before each."""
    import pyarrow as pa

    for part in sorted({0, 1} - work.done("edges")):
        time.sleep(rng.random() * PAUSE / 2)
        weights = np.full(ROWS // 2, 1.0)
        columns = {
            "source": ["power"] * len(weights),
            "target": ["hedonism"] * len(weights),
            "present": [True] * len(weights),
            **dict.fromkeys(("weight", "low", "high", "z", "q", "frequency"), weights),
        }
        work.part("edges", part, pa.table(columns))
    work.table("edges", work.parts("edges"))
    return {"rows": ROWS}


def read(number: int, study: Path, end: float) -> None:
    """Ask the store until `end`; print the time of each answer, and what is torn."""
    from workbench.study import Study

    store = Study(study).store
    rng = random.Random(number)
    while time.time() < end:
        query = rng.choice(QUERIES)
        start = time.perf_counter()
        rows = store.sql(query)
        print("read", time.perf_counter() - start, flush=True)
        if query == QUERIES[2]:
            written = rows[rows.run.str.startswith("written-")]
            wrong = written[(written.n != ROWS) | (written.total != ROWS)]
            for run in wrong.run:
                print("torn", run, flush=True)
        for line in store.bad.values():
            print("torn", line, flush=True)
        time.sleep(0.05)


def look(number: int, study: Path, end: float) -> None:
    """Run the commands that look until `end`; print what they say on standard error."""
    commands = (["runs"], ["check"], ["sql", QUERIES[2]])
    turn = number
    while time.time() < end:
        verb, *rest = commands[turn % len(commands)]
        words = [sys.executable, "-m", "workbench.command.cli", verb, str(study), *rest]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        if ended.returncode or ended.stderr:
            print("torn", verb, ended.returncode, ended.stderr, flush=True)
        turn += 1


@contextlib.contextmanager
def _app(study: Path, beside: Path) -> Iterator[list[str]]:
    """Serve the app and visit its pages in a thread; gives what was seen, a word a visit."""
    from tests.helpers.browser import free_port, wait_until_up

    port = free_port()
    words = [sys.executable, "-m", "workbench.command.cli", "app", str(study), "--port", str(port)]
    visits: list[str] = []
    with (beside / "app.log").open("w") as log:
        child = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            wait_until_up(port, child)
            stop = threading.Event()
            visitor = threading.Thread(
                target=_visit, args=(f"http://127.0.0.1:{port}", stop, visits)
            )
            visitor.start()
            yield visits
            stop.set()
            visitor.join(120)
        finally:
            child.terminate()
            child.wait(30)


def _visit(address: str, stop: threading.Event, visits: list[str]) -> None:
    """Turn the pages of the app until `stop`, in a browser where there is one."""
    from playwright.sync_api import Error, sync_playwright

    from tests.helpers.browser import FLAGS, Tab, chromium

    path = chromium()
    if path is None:
        while not stop.wait(0.5):
            with urllib.request.urlopen(address, timeout=60) as answer:
                visits.append(str(answer.status))
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        tab = Tab(browser, address)
        tab.page.set_default_timeout(120_000)
        try:
            tab.open("", "Value profile")
            turn = 0
            while not stop.wait(0.2):
                tab.turn(*PAGES[turn % len(PAGES)])
                visits.append(PAGES[turn % len(PAGES)][0])
                turn += 1
            tab.well()
        except (Error, AssertionError) as error:
            visits.append(f"broken: {error}")
        browser.close()


def _figures(study: Path, beside: Path, visits: list[str]) -> dict[str, Any]:
    """Hold what is there against what was said."""
    from workbench.study import Study

    logs = [file.read_text() for file in sorted(beside.glob("*.log"))]
    said = "\n".join(logs)
    runs = Study(study).runs
    given = set(re.findall(r"^made (\S+)$", said, re.MULTILINE))
    times = [float(time) for time in re.findall(r"^read (\S+)$", said, re.MULTILINE)]
    left = [file.name for file in (study / "runs" / ".work").iterdir()]
    torn = re.findall(r"^torn .*$", said, re.MULTILINE)
    torn += [id for id in runs.ids() if runs.damaged(id)] + [*runs.look()[1], *left]
    broken = [visit for visit in visits if visit.startswith("broken")]
    value = {
        "lost": len(given - set(runs.ids())),
        "torn": len(torn),
        "tracebacks": said.count("Traceback") + len(broken),
        "read_p95_s": float(np.percentile(times, 95)) if times else float("nan"),
    }
    return {
        "name": NAME,
        "value": value,
        "reach": REACH,
        "holds": all(value[name] <= reach for name, reach in REACH.items()),
        "runs": len(given),
        "reads": len(times),
        "visits": len(visits),
        "what": [*torn, *broken][:5],
    }


def command(arguments: list[str]) -> int:
    """Measure for `--seconds`, or be one of the processes of a measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concurrency")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long they work [300]")
    parser.add_argument("--part", choices=("write", "read", "look"), help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--study", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--end", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.part:
        {"write": write, "read": read, "look": look}[given.part](
            given.number, given.study, given.end
        )
        return 0
    figures = measure(given.seconds)
    print(json.dumps(figures))
    return int(not figures["holds"])


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
