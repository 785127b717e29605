"""Two people label while a job publishes and another compacts, and all are killed: what is lost?

1. Two processes give verdicts on one study, each as a person, one after another. Each prints the id
   of a verdict once it is acknowledged.
2. A third process publishes the study over and over, a fourth merges the verdicts' small runs.
3. Every few seconds one of the four is killed with SIGKILL, at a random moment of its work, and
   started again, until `VERDICTS` were acknowledged.
4. At the end every acknowledged verdict must be there, once, before a last merge and after it, and
   in a published copy; and no run may be damaged.

`python -m benchmarks verdicts` takes a few minutes. Left out: a loss of power, which no process can
stage; verdicts wait for the disk before they are acknowledged.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "verdicts"
VERDICTS = 1000
"""Verdicts that must be acknowledged before it ends."""
LONGEST = 1800.0
"""It ends after so long at the latest [s]."""
PAUSES = (0.2, 3.0)
"""Shortest and longest time between two kills, once all are at work [s]."""
PARTS = {"Ada": "give", "Ben": "give", "publisher": "publish", "compacter": "compact"}
"""Process -> what it does."""
SEED = 0
"""Seed of the kills."""


def main() -> dict[str, Any]:
    """Reach: 0 of 1,000 acknowledged verdicts lost, none doubled, none damaged."""
    from tests.helpers.synthetic import synthetic

    with tempfile.TemporaryDirectory(prefix="workbench-verdicts-") as folder:
        beside = Path(folder)
        study = synthetic(beside / "study").folder
        kills = _until_acknowledged(study, beside)
        return _figures(study, beside, kills)


def _until_acknowledged(study: Path, beside: Path) -> int:
    """Let all work, kill and start again until enough was acknowledged; returns the kills."""
    rng = random.Random(SEED)
    children = {name: _start(name, study, beside) for name in PARTS}
    kills = 0
    end = time.monotonic() + LONGEST
    try:
        while len(_acknowledged(beside)) < VERDICTS and time.monotonic() < end:
            time.sleep(rng.uniform(*PAUSES))
            victim = rng.choice(list(PARTS))
            if not _has_begun(victim, beside):  # it still reads its libraries
                continue
            children[victim].kill()
            children[victim].wait()
            kills += 1
            children[victim] = _start(victim, study, beside)
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    return kills


def _start(name: str, study: Path, beside: Path) -> subprocess.Popen[bytes]:
    """Start a process; what it says is added to a file of its own."""
    (beside / f"{name}.begun").unlink(missing_ok=True)
    words = [sys.executable, "-m", "benchmarks.verdicts", "--part", PARTS[name], "--name", name]
    with (beside / f"{name}.log").open("ab") as log:
        return subprocess.Popen([*words, "--study", str(study)], stdout=log, stderr=log)


def _has_begun(name: str, beside: Path) -> bool:
    """Whether a process has done something since it was started."""
    return (beside / f"{name}.begun").exists()


def _acknowledged(beside: Path) -> list[str]:
    """The ids of the verdicts that were acknowledged."""
    lines = [line for log in beside.glob("*.log") for line in log.read_text().splitlines()]
    return [line.split()[1] for line in lines if line.startswith("kept ") and len(line) > 10]


def _figures(study: Path, beside: Path, kills: int) -> dict[str, Any]:
    """Hold what is there against what was acknowledged."""
    from feature_store import queries
    from feature_store.published import unfold
    from feature_store.store import Store
    from workbench.study import Study

    opened = Study(study)
    acknowledged = set(_acknowledged(beside))
    before = opened.verdicts().id.tolist()
    done = opened.compact()
    after = opened.store.sql("SELECT id FROM verdicts").id.tolist()
    logs = "".join(log.read_text() for log in beside.glob("*.log"))
    copy = opened.publish(beside / "last.duckdb", ["activations", "contexts"])
    unfold(copy, beside / "copy")
    published = queries.verdict_ids(Store(beside / "copy" / "runs"))
    damaged = [run.id for run in opened.runs.all() if opened.runs.damaged(run.id)]
    value = {
        "lost": len(acknowledged - (set(before) & set(after) & published)),
        "doubled": len(before) - len(set(before)) + len(after) - len(set(after)),
        "damaged": len(damaged) + len(opened.store.bad) + len(done.lines),
        "tracebacks": logs.count("Traceback"),
    }
    print(f"verdicts lost: {value['lost']} of {len(acknowledged)}", flush=True)
    return {
        "name": NAME,
        "value": value,
        "reach": dict.fromkeys(value, 0),
        "holds": not any(value.values()) and len(acknowledged) >= VERDICTS,
        "acknowledged": len(acknowledged),
        "kills": kills,
        "published": logs.count("published"),
        "compacted": logs.count("compacted"),
        "what": [line for line in logs.splitlines() if "Error" in line][:5],
    }


def give(name: str, study: Path, began: Callable[[], None]) -> None:
    """Give verdicts as a person, without end; print the id of each that was acknowledged."""
    from workbench.features import verdicts
    from workbench.features.verdicts import Statement
    from workbench.study import Study

    opened = Study(study)
    speaker = verdicts.person(opened.store, name, "benchmark")
    sae = opened.runs.latest("sae").id
    rng = random.Random(f"{name} {time.time()}")
    while True:
        statement = Statement(feature=rng.randrange(190), verdict="reject")
        said = verdicts.spoken(opened, sae, speaker, statement)
        verdicts.keep(opened, [said])
        print("kept", said.id, flush=True)
        began()


def publish(name: str, study: Path, began: Callable[[], None]) -> None:
    """Publish the study without end."""
    from workbench.study import Study

    opened = Study(study)
    file = study.parent / "published.duckdb"
    while True:
        file.unlink(missing_ok=True)
        opened.publish(file, ["activations", "contexts"])
        print("published", flush=True)
        began()  # so that every life of this process finishes one, and is killed in another


def compact(name: str, study: Path, began: Callable[[], None]) -> None:
    """Merge the runs of verdicts without end, a second between two times."""
    from workbench.study import Study

    opened = Study(study)
    while True:
        began()
        done = opened.compact()
        print("compacted", done.merged, *done.lines, flush=True)
        time.sleep(1)


def command(arguments: list[str]) -> None:
    """Be one of the processes of the measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts")
    parser.add_argument("--part", choices=sorted(set(PARTS.values())), required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--study", type=Path, required=True)
    given = parser.parse_args(arguments)
    mark = given.study.parent / f"{given.name}.begun"
    parts = {"give": give, "publish": publish, "compact": compact}
    with contextlib.suppress(KeyboardInterrupt):
        parts[given.part](given.name, given.study, mark.touch)


if __name__ == "__main__":
    command(sys.argv[1:])
