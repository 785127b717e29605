"""Killed at any moment, does every verb go on to the same bytes? 300 kills with SIGKILL.

1. A study of the organism is made without interruption, every verb once and small
   (`tests/same_runs.py` declares them). Each verb's seconds of work and file operations are noted.
2. A trial is a copy of the study as it was before one of its verbs. The verb is begun in a process
   of its own and killed with its process group: at a random time of its work, before a random file
   operation, or before one of its last ones (tables, checksums, the rename). Some are killed twice;
   of some a kept file is torn besides, as a power cut would leave it.
3. The same command is run to its end. The run must have the id and the bytes of the uninterrupted
   one: the SHA-256 of every file, and `run.json` but for its times; what answers were kept must be
   the same. `workbench check` must pass; no file may be left that the uninterrupted study does not
   have, and no process.
4. Every trial is a line of `trials.jsonl` in the folder: the same command goes on with the next
   one. Trials are drawn from the seed, the verbs in turn.

`python -m benchmarks kills` makes 300 kills. `python -m benchmarks.kills --kills 30 --verbs
train,label --seed 1 --folder DIR` makes some of them, and keeps the folder.
Left out: a second machine, and disks that lie.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import _killing
from benchmarks._killing import Ended, Moment, command
from feature_store.progress import Progress, in_terminal
from tests import same_runs
from tests.same_runs import Step

NAME = "kills"
KILLS = 300
PORT = 47_813
"""Where the scripted endpoint listens: not where `same_runs` has its own."""
STUDY = "study"
"""Name of the study in every folder."""
LAST = 14
"""File operations at the end that finish a run: the last tables, the checksums, the rename."""
TWICE, TORN = 0.2, 0.2
"""Chance that a verb is killed twice, and that a kept file is torn besides."""
TRIES = 4
"""As often a verb that ended before its kill is begun again, to be killed earlier."""
SPENT = {"asked_now", "tokens_read", "tokens_written", "cost", "uncounted"}
"""Figures of a run that say what it has cost this time, not what it is."""
Kind = Literal["time", "operation", "finishing"]


@dataclass(frozen=True)
class Reference:
    """A verb that was not interrupted, in the study where every verb is made once."""

    step: str
    """Key of the verb among the steps."""
    words: list[str]
    """Its command line, after `workbench`."""
    before: list[str]
    """Ids of the runs that were there before."""
    kept: dict[str, int]
    """File of answers -> its size before [bytes]."""
    runs: list[dict[str, Any]]
    """The runs that it made, as `same_runs.facts` gives them."""
    seconds: float
    """Seconds of work [s]."""
    operations: int
    """File operations."""


@dataclass(frozen=True)
class Trial:
    """One verb, and when it is killed."""

    number: int
    """0-based number among the trials."""
    step: str
    """Key of the verb."""
    kind: Kind
    """What the place is counted in."""
    place: float
    """Where in the work the first kill comes [0 to 1]."""
    again: float
    """Where in the rest the second one comes [0 to 1]; negative: there is none."""
    torn: float
    """Where a kept file is torn [0 to 1]; negative: nowhere."""


def main() -> dict[str, Any]:
    """Reach: 300 kills, all resumed to the same bytes, without leftovers."""
    with tempfile.TemporaryDirectory(prefix="workbench-kills-") as folder:
        return measure(Path(folder), KILLS, (), 0, 2)


def measure(folder: Path, kills: int, verbs: Sequence[str], seed: int, jobs: int) -> dict[str, Any]:
    """Kill verbs until there are so many kills in `folder`, and give the figures."""
    os.environ.update(same_runs.ONE_THREAD | {"HF_HUB_OFFLINE": "1"})
    folder.mkdir(parents=True, exist_ok=True)
    with same_runs.endpoint(PORT), in_terminal(NAME) as progress:
        _in_process(lambda: _make_references(folder.resolve(), progress))
        references = _references(folder)
        if verbs:
            references = {
                key: reference
                for key, reference in references.items()
                if reference.words[0] in verbs or key in verbs
            }
        trials = draw(list(references), kills, seed)
        _work(folder.resolve(), trials, references, jobs, progress)
    results = _results(folder, trials)
    _print_table(results)
    return _figures(results, kills)


def draw(steps: Sequence[str], kills: int, seed: int) -> list[Trial]:
    """Draw trials with so many kills in all, the steps in turn."""
    rng = random.Random(seed)
    trials: list[Trial] = []
    count = 0
    while count < kills:
        kind = rng.choices(("time", "operation", "finishing"), (5, 3, 2))[0]
        place, again, torn = rng.random(), rng.random(), rng.random()
        twice, tears = rng.random() < TWICE and count + 1 < kills, rng.random() < TORN
        trial = Trial(
            number=len(trials),
            step=steps[len(trials) % len(steps)],
            kind=kind,
            place=place,
            again=again if twice else -1.0,
            torn=torn if tears else -1.0,
        )
        trials.append(trial)
        count += 2 if twice else 1
    return trials


# The study that nobody interrupts


def _make_references(folder: Path, progress: Progress) -> None:
    """Make every verb once in `folder/whole`, and note what each was; go on where that stopped."""
    whole, file = folder / "whole", folder / "references.jsonl"
    whole.mkdir(exist_ok=True)
    same_runs.write_material(whole, folder / "images")
    made = _references(folder)
    _killing.preload()
    steps = same_runs.VERBS
    for number, step in enumerate(steps):
        progress("uninterrupted", number, len(steps))
        if step.key in made:
            continue
        reference = _reference(step, whole, folder, made)
        made[step.key] = reference
        with file.open("a") as lines:
            lines.write(json.dumps(asdict(reference)) + "\n")
    progress("uninterrupted", len(steps), len(steps))


def _reference(step: Step, whole: Path, folder: Path, made: dict[str, Reference]) -> Reference:
    """Make one verb without interruption."""
    text = step.words.replace(
        same_runs.JUDGE, same_runs.JUDGE.replace(str(same_runs.PORT), str(PORT))
    )
    text = text.replace(str(same_runs.IMAGES), str(folder / "images"))
    runs = {key: reference.runs for key, reference in made.items()}
    words = same_runs.words_of(Step(text, step.name), runs, STUDY)
    before = sorted(_ids(whole))
    kept = {file.name: file.stat().st_size for file in _answers(whole)}
    ended = command(words, whole)
    if ended.code or ended.orphans:
        raise RuntimeError(f"{step.key} ended with {ended.code}: {ended.output}")
    new = [file for file in same_runs.described(whole) if file.parent.name not in before]
    return Reference(
        step=step.key,
        words=words,
        before=before,
        kept=kept,
        runs=[same_runs.facts(file) for file in new],
        seconds=ended.seconds,
        operations=ended.operations,
    )


def _references(folder: Path) -> dict[str, Reference]:
    """Read the verbs that were made, by their keys."""
    file = folder / "references.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    made = [Reference(**json.loads(line)) for line in lines]
    return {reference.step: reference for reference in made}


def _ids(folder: Path) -> list[str]:
    return [file.parent.name for file in same_runs.described(folder)]


def _answers(folder: Path) -> list[Path]:
    """List the files of answers."""
    return sorted((folder / STUDY).glob("*.jsonl"))


# The trials


def _work(
    folder: Path,
    trials: Sequence[Trial],
    references: dict[str, Reference],
    jobs: int,
    progress: Progress,
) -> None:
    """Make the trials that are not made yet, some at a time, and show how far they are."""
    done = {line["number"] for line in _results(folder, trials)}
    left = [trial for trial in trials if trial.number not in done]
    workers = [
        _fork(lambda part=left[job::jobs], job=job: _worker(folder, part, references, job))
        for job in range(min(jobs, len(left)))
    ]
    failed = False
    while workers:
        time.sleep(0.5)
        progress("killing", len(_results(folder, trials)), len(trials))
        for worker in list(workers):
            ended, status = os.waitpid(worker, os.WNOHANG)
            if ended:
                workers.remove(worker)
                failed = failed or status != 0
    if failed:
        raise RuntimeError("A worker failed; its last words stand above.")
    progress("killing", len(_results(folder, trials)), len(trials))


def _worker(
    folder: Path, trials: Sequence[Trial], references: dict[str, Reference], job: int
) -> None:
    """Make trials one after the other, a line each."""
    _killing.preload()
    for trial in trials:
        place = folder / f"trial-{job}"
        shutil.rmtree(place, ignore_errors=True)
        result = make_trial(trial, references[trial.step], folder / "whole", place)
        with (folder / "trials.jsonl").open("a") as lines:
            lines.write(json.dumps(result) + "\n")
        if result["wrong"]:
            print(f"trial {trial.number}, {trial.step}: {'; '.join(result['wrong'])}", flush=True)
            shutil.copytree(place, folder / f"failed-{trial.number}", dirs_exist_ok=True)


def make_trial(trial: Trial, reference: Reference, whole: Path, place: Path) -> dict[str, Any]:
    """Kill the verb in `place`, run it to the end, and say what is wrong."""
    rng = random.Random(trial.number)
    kills, moments, torn, orphans, start = 0, [], "", 0, time.monotonic()
    fraction = trial.place
    for _ in range(TRIES):
        copy_study(reference, whole, place)
        moment = _moment(trial.kind, fraction, reference)
        killed = command(reference.words, place, moment)
        moments.append(asdict(moment))
        if killed.killed:
            break
        fraction *= rng.random()
    kills += killed.killed
    orphans += killed.orphans
    if killed.killed and trial.torn >= 0:
        torn = tear(place / STUDY, reference, trial.torn)
    if killed.killed and trial.again >= 0 and not _is_said(reference, place):
        second = command(reference.words, place, _moment("time", trial.again, reference))
        kills += second.killed
        orphans += second.orphans
    ended = killed if _is_said(reference, place) else command(reference.words, place)
    wrong = _wrong(reference, whole, place, ended)
    if orphans + ended.orphans:
        wrong.append(f"{orphans + ended.orphans} processes outlived their command")
    return asdict(trial) | {
        "kills": kills,
        "moments": moments,
        "torn": torn,
        "resumed": ended.code == 0 or ended.killed,
        "wrong": wrong,
        "output": ended.output if wrong else "",
        "seconds": time.monotonic() - start,
    }


def _is_said(reference: Reference, place: Path) -> bool:
    """Whether a review was finished when its process was killed: the same words make another."""
    return reference.words[0] == "review" and len(_ids(place)) > len(reference.before)


def _moment(kind: Kind, place: float, reference: Reference) -> Moment:
    """Say when the kill comes."""
    if kind == "time":
        return Moment(seconds=place * reference.seconds)
    last = min(LAST, reference.operations)
    if kind == "finishing":
        return Moment(operation=reference.operations - int(place * last))
    return Moment(operation=1 + int(place * reference.operations))


def copy_study(reference: Reference, whole: Path, place: Path) -> None:
    """Lay out the study as it was before the verb; finished runs are linked, not copied."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place, ignore=lambda *_: [STUDY, "tmp", "log"])
    study = place / STUDY
    if not reference.before:
        return
    study.mkdir()
    shutil.copy2(whole / STUDY / "study.json", study)
    for id in reference.before:
        shutil.copytree(whole / STUDY / "runs" / id, study / "runs" / id, copy_function=os.link)
    for name, size in reference.kept.items():
        (study / name).write_bytes((whole / STUDY / name).read_bytes()[:size])


def tear(study: Path, reference: Reference, place: float) -> str:
    """Cut a kept file short, as a power cut may leave it: its name and its new size."""
    rng = random.Random(place)
    files = [file for file in (study / "runs" / ".work").glob("*/**/*") if file.is_file()]
    files += list(study.glob("*.jsonl"))
    rows = [
        (file, reference.kept.get(file.name, 0) if file.parent == study else 0) for file in files
    ]
    rows = [(file, least) for file, least in rows if file.stat().st_size > least]
    if not rows:
        return ""
    file, least = rng.choice(sorted(rows))
    size = rng.randrange(least, file.stat().st_size)
    os.truncate(file, size)
    return f"{file.relative_to(study)} cut to {size}"


# What is compared


def _wrong(reference: Reference, whole: Path, place: Path, ended: Ended) -> list[str]:
    """Say what differs from the study that nobody interrupted."""
    if ended.code and not ended.killed:
        return [f"ended with {ended.code}: {' '.join(ended.output.split())[-300:]}"]
    wrong = []
    new = [file for file in same_runs.described(place) if file.parent.name not in reference.before]
    made = {run["id"]: run for run in map(same_runs.facts, new)}
    expected = {run["id"]: run for run in reference.runs}
    for id in sorted(made.keys() | expected.keys()):
        if id not in made or id not in expected:
            wrong.append(f"{id} is there {'only' if id in made else 'not'} after the kill")
            continue
        for key in expected[id]:
            before, after = (_without_costs(key, runs[id][key]) for runs in (expected, made))
            if before != after:
                wrong.append(f"{id}: {_difference(key, before, after)}")
    wrong += _answers_that_differ(whole, place)
    checked = command(["check", STUDY], place)
    if checked.code:
        wrong.append(f"check: {checked.output.strip()[-300:]}")
    return wrong + _leftovers(whole, place)


def _without_costs(key: str, fact: Any) -> Any:
    """Leave out of a summary what a run has cost this time. As text, NaN is like NaN."""
    if key == "summary":
        fact = {name: figure for name, figure in fact.items() if name not in SPENT}
    if isinstance(fact, dict):
        return {name: json.dumps(cell, sort_keys=True) for name, cell in fact.items()}
    return fact


def _difference(key: str, before: Any, after: Any) -> str:
    """Name the parts of a fact that differ."""
    if not isinstance(before, dict):
        return f"{key} is {after}, not {before}"
    names = [name for name in before | after if before.get(name) != after.get(name)]
    cells = [
        f"{name} {str(before.get(name))[:60]} -> {str(after.get(name))[:60]}" for name in names
    ]
    return f"{key} of {', '.join(cells)}"


def _answers_that_differ(whole: Path, place: Path) -> list[str]:
    """Compare kept answers by their keys; an answer that came twice must be the same twice."""
    wrong = []
    for file in _answers(place):
        expected = dict(_lines(whole / STUDY / file.name))
        strange = {key for key, line in _lines(file) if expected.get(key) != line}
        if strange:
            wrong.append(f"{len(strange)} answers in {file.name} differ")
    return wrong


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Read the lines of a file of answers, torn ones left out, as (key, line) pairs."""
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            yield json.loads(line)["key"], line


def _leftovers(whole: Path, place: Path) -> list[str]:
    """List files that the study has and the uninterrupted one has not."""
    here = {str(file.relative_to(place)) for file in (place / STUDY).rglob("*")}
    there = {str(file.relative_to(whole)) for file in (whole / STUDY).rglob("*")}
    left = sorted(here - there) + [f"tmp/{file.name}" for file in (place / "tmp").iterdir()]
    return [f"left over: {', '.join(left[:5])}"] if left else []


# Figures


def _results(folder: Path, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Read the lines of these trials."""
    file = folder / "trials.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    drawn = {trial.number: asdict(trial) for trial in trials}
    fields = ("step", "kind", "place", "again")
    return [
        line
        for line in lines
        if line["number"] in drawn
        and all(line[name] == drawn[line["number"]][name] for name in fields)
    ]


def _print_table(results: Sequence[dict[str, Any]]) -> None:
    """Print a line a verb: kills, resumed, the same bytes, leftovers."""
    by_step: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for result in results:
        by_step[result["step"]].append(result)
    print(f"{'verb':18}{'kills':>7}{'trials':>8}{'resumed':>9}{'same bytes':>12}{'leftovers':>11}")
    for step, rows in by_step.items():
        left = sum(_left_something(row) for row in rows)
        cells = (
            sum(row["kills"] for row in rows),
            len(rows),
            sum(row["resumed"] for row in rows),
            sum(_is_same(row) for row in rows),
        )
        print(f"{step:18}{cells[0]:7}{cells[1]:8}{cells[2]:9}{cells[3]:12}{left:11}")


def _left_something(result: dict[str, Any]) -> bool:
    return any(line.startswith("left over") or "outlived" in line for line in result["wrong"])


def _is_same(result: dict[str, Any]) -> bool:
    """Whether nothing but leftovers was wrong."""
    return all(line.startswith("left over") or "outlived" in line for line in result["wrong"])


def _figures(results: Sequence[dict[str, Any]], kills: int) -> dict[str, Any]:
    """Give the benchmark's line: trials that came back whole, and how many were to."""
    whole = sum(not result["wrong"] for result in results)
    counted = sum(result["kills"] for result in results)
    return {
        "name": NAME,
        "value": whole / max(len(results), 1),
        "reach": 1.0,
        "holds": bool(results) and whole == len(results),
        "kills": counted,
        "asked": kills,
        "trials": len(results),
        "resumed": sum(result["resumed"] for result in results),
        "same_bytes": sum(_is_same(result) for result in results),
        "leftovers": sum(_left_something(result) for result in results),
        "torn": sum(bool(result["torn"]) for result in results),
        "while_finishing": sum(result["kind"] == "finishing" for result in results),
        "wrong": [
            f"{result['step']} (trial {result['number']}): {line}"
            for result in results
            for line in result["wrong"]
        ][:20],
    }


# Processes


def _fork(work: Callable[[], None]) -> int:
    """Do some work in a process of its own, and give its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        _killing.die_with_parent()
        work()
        code = 0
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _in_process(work: Callable[[], None]) -> None:
    """Do some work in a process of its own, and wait for it."""
    _, status = os.waitpid(_fork(work), 0)
    if status:
        raise RuntimeError("The study could not be made; the reason stands above.")


def from_command_line(arguments: Sequence[str] | None = None) -> int:
    """Make some of the kills, as the flags say; the exit code is 1 where one was not survived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills")
    parser.add_argument("--kills", type=int, default=KILLS, help="kills in all [300]")
    parser.add_argument("--verbs", default="", help="verbs, separated by commas [all]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments [0]")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time [2]")
    parser.add_argument("--folder", type=Path, help="keep the study and the trials here [no]")
    given = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        verbs = [verb for verb in given.verbs.split(",") if verb]
        figures = measure(folder, given.kills, verbs, given.seed, given.jobs)
    print(json.dumps(figures))
    return int(not figures["holds"])


if __name__ == "__main__":
    sys.exit(from_command_line())
