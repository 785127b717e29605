"""Whether every verb still makes the runs that it made before the code was changed.

    python -m tests.same_runs                make the runs anew, compare them with `same_runs.json`
    python -m tests.same_runs --write        make them anew, store them as what is expected
    python -m tests.same_runs --only verbs   one of the two studies: `verbs`, or `demo`
    python -m tests.same_runs --folder DIR   keep the studies, in DIR/verbs and DIR/demo; a second
                                             call goes on with the next verb

1. The study `verbs` is of the organism and holds every verb once, at a small size; `demo` is what
   `workbench demo` makes.
2. Only the command line is used, in processes of their own, and nothing of the packages is
   imported: the script outlives a move of every module. The command is the one that the
   `pyproject.toml` of this tree declares, and it is refused if it runs code of another tree.
3. Compared are the ids, settings, inputs and summaries of runs, the SHA-256 of every file of
   theirs (Parquet and others), and the keys under which a study keeps answers: where a key
   changes, an old study pays for its answers again.
4. Everything runs on one thread, so that numbers depend on nothing but the processor and the
   versions of the libraries. Those are stored. On another machine summaries, checksums and keys
   are not compared, nor the steps whose ids digest computed numbers (`Step.computed`); ids,
   settings and inputs of all other steps are.
5. A difference is one line: study, step, run, what, expected, got.

The judges are an endpoint that this script serves at a fixed port: its address is a part of ids.
Left out: how long a method takes (`MEASURED`), and whatever a hub would have to give.
"""

import argparse
import contextlib
import hashlib
import http.server
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
from PIL import Image

SUMMARY = "Make the runs of every verb anew, and compare them with those that are stored."
HERE = Path(__file__).resolve()
TREE = next(folder for folder in HERE.parents if (folder / "pyproject.toml").exists())
"""The repository whose code is run."""
STORED = HERE.with_suffix(".json")
"""The runs that are expected."""
PORT = 47_811
"""Where the endpoint listens: a part of the judges' names, and so of ids."""
JUDGE = f"http://127.0.0.1:{PORT}/v1#scripted"
PLACE = Path("/tmp/workbench-same-runs")
"""Whole paths that ids and keys digest lie here: the same ones on every machine, for every tree."""
IMAGES = PLACE / "images"
"""The folder that `index` reads; its path is one of the settings."""
CODE = PLACE / "code"
"""A link to the tree: the organism is named by the folder of its weights, which lies in it."""
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)
LIBRARIES = [
    *("arviz-stats", "causal-learn", "cvxpy", "duckdb", "numba", "numpy", "pandas", "pillow"),
    *("pyarrow", "sae-lens", "safetensors", "scikit-learn", "scipy", "tokenizers", "torch"),
    *("transformers", "trueskill"),
]
"""What computed numbers and their files depend on."""
MEASURED = {"arm_means": ["seconds"]}
"""Columns that hold a time, which is another one each time: their file is compared without them."""


@dataclass(frozen=True)
class Step:
    """One command line."""

    words: str
    """Verb and flags as in a shell; STUDY is the study, {NAME} the first run of that step."""
    name: str = ""
    """How other steps speak of it; the verb where empty."""
    computed: bool = False
    """Whether its ids digest numbers that were computed, and so depend on the processor."""

    @property
    def key(self) -> str:
        """Its name among the steps."""
        return self.name or self.words.split()[0]


VERBS = (
    Step("train STUDY --model organism --documents 1500 --tokens 240000 --n-features 256 --k 12"),
    Step("label STUDY --limit 2000 --n-contexts 3"),
    Step("probe STUDY --n-pairs 20"),
    Step(f"control STUDY --value power --judge {JUDGE} --max-new-tokens 8 --replicates 200"),
    Step(
        "control STUDY --value security --lower --detector probe --judge organism"
        " --max-new-tokens 4 --replicates 200",
        "control-gated",
    ),
    Step(f"index STUDY --folder {IMAGES} --embedder colour --keywords words.toml"),
    Step("measure STUDY --model organism --n-contexts 6 --replicates 200"),
    Step(
        "measure STUDY --features 3,5:-1 --strength 0.3 --n-contexts 6"
        " --gate probe --gate-value power --replicates 200",
        "measure-steered",
    ),
    Step(
        "measure STUDY --model organism --mode generate --temperature 1 --repeats 2 --n-contexts 3"
        " --replicates 200",
        "measure-written",
    ),
    Step(
        "ordinal STUDY --runs {measure-steered} --warmup 200 --draws 200 --chains 2"
        " --permutations 199"
    ),
    Step(
        "contrast STUDY --subjects base,security+,security- --features-per-value 2 --n-contexts 6"
        " --replicates 200",
        computed=True,
    ),
    Step(
        "effects STUDY --n-contexts 8 --features-per-value 3 --doses 0.5,1.0 --random-features 4"
        " --random-directions 4 --n-neutral 6 --replicates 200"
    ),
    Step("graph STUDY --replicates 100"),
    Step("predict STUDY --steerings 8 --replicates 200"),
    Step(
        "compare STUDY --values security,hedonism --methods add --features-per-value 2"
        " --strengths 0.2,0.4 --n-contexts 4 --n-neutral 4 --n-texts 4 --new-tokens 8"
        " --replicates 200"
    ),
    Step(
        "transfer STUDY --n-texts 4 --n-neutral 4 --controls 2 --new-tokens 8 --assess-limit 400"
        " --replicates 200 --permutations 200"
    ),
    Step("plan STUDY --want 'security +0.4 within 0.3, damage <= 1' --replicates 200"),
    Step("counterfactual STUDY --target security=5,hedonism=3 --theta 0 --replicates 200"),
    Step(
        f"couple STUDY --llm {JUDGE} --questions questions.toml"
        " --target benevolence=5,power=1,security=4 --concurrency 1 --replicates 200"
    ),
    Step(
        "kang STUDY --roles 14 --test-roles 4 --top 2 --random-directions 1 --replicates 6"
        " --permutations 200"
    ),
    Step("scenarios STUDY --llm organism --n 4"),
    Step("review STUDY --scenario s0001 --verdict reject --note because --reviewer me"),
    Step("decide STUDY --features 3,5:-1 --strength 0.3 --controls 3 --replicates 200"),
    Step("dilemmas STUDY --llm organism --n 4"),
    Step(
        "adaem STUDY --population base,security+,hedonism+ --features-per-value 2 --budget 2"
        " --n-seeds 3 --questions 2 --rewrites 2 --opinions 4 --kept 3 --fresh 6 --answer 3"
        " --new-tokens 16 --replicates 200",
        computed=True,
    ),
    Step(
        "neurons STUDY --model organism --values power,security --n-answers 12 --new-tokens 12"
        " --top 60 --min-delta 1 --gammas 1 --draws 1 --n-contexts 4 --n-neutral 4"
        f" --replicates 200 --judge {JUDGE} --samples 4"
    ),
    Step(
        "neurons STUDY --on sae --values power,security --n-answers 12 --new-tokens 12 --top 15"
        " --min-delta 1 --gammas 0.5 --draws 1 --n-contexts 4 --n-neutral 4 --replicates 200",
        "neurons-sae",
    ),
    Step("adopt STUDY STUDY/runs/{train}/sae --documents 300", computed=True),
)
"""Every verb after those whose runs it reads; the adopted SAE last, else it were the latest one."""
STUDIES = {"verbs": VERBS, "demo": (Step("demo STUDY"),)}


# The runs that were made


def make(study: str, folder: Path) -> dict[str, Any]:
    """Make the study in `folder`, or go on with it; what it holds, as `same_runs.json` keeps it."""
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(CODE), "HF_HUB_OFFLINE": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / f"{study}.json"
    runs: dict[str, list[dict[str, Any]]] = {}
    if finished.exists():
        runs = json.loads(finished.read_text())
    with endpoint():
        write_material(folder)
        CODE.unlink(missing_ok=True)
        CODE.symlink_to(TREE)
        for number, step in enumerate(STUDIES[study], 1):
            if step.key in runs:
                continue
            print(f"[{number:2}/{len(STUDIES[study])}] {step.key}", end=" ", flush=True)
            earlier, start = {run["id"] for made in runs.values() for run in made}, time.monotonic()
            _call(words_of(step, runs, study), folder, environment)
            made = [file for file in described(folder) if file.parent.name not in earlier]
            runs[step.key] = [facts(file) for file in made]
            finished.write_text(json.dumps(runs))
            seconds, ids = time.monotonic() - start, [run["id"] for run in runs[step.key]]
            print(f"{seconds:.0f} s: {', '.join(ids) or 'no run'}", flush=True)
    return {
        "runs": runs,
        "kept": {file.name: _keys(file) for file in sorted((folder / study).glob("*.jsonl"))},
    }


def words_of(step: Step, runs: dict[str, list[dict[str, Any]]], study: str) -> list[str]:
    """The step's words for a process."""
    words = [word.replace("STUDY", study) for word in shlex.split(step.words)]
    return [re.sub(r"\{([\w-]+)\}", lambda name: runs[name[1]][0]["id"], word) for word in words]


def _call(words: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    """Run one command in `folder`. Raises SystemExit with its last words where it fails."""
    scripts = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["workbench"].partition(":")
    code = (
        f"import pathlib, sys, {module}\n"
        f"here = pathlib.Path({module}.__file__).resolve()\n"
        f"assert here.is_relative_to({str(TREE)!r}), f'{{here}} is not of this tree'\n"
        f"sys.exit({module}.{function}())"
    )
    done = subprocess.run(  # -P: a module in the folder must not come before those of the tree
        [sys.executable, "-P", "-c", code, *words],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        command = f"workbench {shlex.join(words)}"
        raise SystemExit(f"\n{command}\nended with {done.returncode}:\n{done.stdout[-3000:]}")


def described(folder: Path) -> list[Path]:
    """`run.json` of every finished run, oldest first."""
    files = folder.glob("*/runs/*/run.json")
    return sorted(
        files, key=lambda file: (json.loads(file.read_text())["created"], file.parent.name)
    )


def facts(file: Path) -> dict[str, Any]:
    """What of a run must stay."""
    run = json.loads(file.read_text())
    names = sorted(
        str(one.relative_to(file.parent))
        for one in file.parent.rglob("*")
        if one.is_file() and one != file
    )
    return {key: run[key] for key in ("id", "kind", "config", "inputs", "seed", "summary")} | {
        "files": {name: _digest(file.parent / name) for name in names}
    }


def _digest(file: Path) -> str:
    """SHA-256 of a file, of its rows without the columns that hold a time where it has such."""
    if columns := MEASURED.get(file.stem):
        rows = pyarrow.parquet.read_table(file).drop_columns(columns)
        return hashlib.sha256(repr((rows.schema, rows.to_pydict())).encode()).hexdigest()
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _keys(file: Path) -> dict[str, Any]:
    """How many answers a file keeps, and SHA-256 of their keys in order of the alphabet."""
    keys = sorted(json.loads(line)["key"] for line in file.read_text(encoding="utf-8").splitlines())
    return {"answers": len(keys), "keys": hashlib.sha256("\n".join(keys).encode()).hexdigest()}


# What the verbs are given


def write_material(folder: Path, images: Path = IMAGES) -> None:
    """Questions, keywords and images, the same bytes each time."""
    (folder / "questions.toml").write_text(
        'question = [{id = "a", text = "Shall I stay?"},\n'
        '{id = "b", text = "Shall I sell?", answer = "Sell. [power=5 benevolence=1]"}]\n'
    )
    (folder / "words.toml").write_text(
        '[power]\nkeywords = ["gold", "red"]\n[benevolence]\nkeywords = ["green"]\n'
    )
    images.mkdir(parents=True, exist_ok=True)
    for number, colour in enumerate(("gold", "red", "green", "gold")):
        picture = Image.new("RGB", (40 + number, 40), colour)
        picture.paste("blue", (5 * number, 8, 5 * number + 10, 18))
        picture.save(images / f"{number}-{colour}.bmp")


@contextlib.contextmanager
def endpoint(port: int = PORT) -> Iterator[None]:
    """A language model that answers by rules, at `port` while the block is open."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": _reply(body["messages"][-1]["content"])}
            usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
            choices = [{"index": 0, "finish_reason": "stop", "message": message}]
            answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "scripted"}
            raw = json.dumps(answer | {"choices": choices, "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = allow_reuse_address = True

    try:
        server = Server(("127.0.0.1", port), Handler)
    except OSError as error:
        raise SystemExit(
            f"Port {port} is taken ({error}); is another `same_runs` at work?"
        ) from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


IDEA = r"leans on [a-z-]+ with weight \d"


def _reply(prompt: str) -> str:
    """An answer by the question alone: values stand in it as `power=5`, a verdict is by digest."""
    if "Choose one of these answers" in prompt:
        options = re.findall(r"^- (.*)$", prompt.split("Choose one of these answers")[1], re.M)
        return options[int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % len(options)]
    if "Rate all of them together" in prompt:
        held = dict(
            re.findall(r"([a-z-]+)=(\d)", prompt.split("\nAnswer: ")[1].split("\n\nHow")[0])
        )
        names = re.findall(r"^- ([\w-]+):", prompt.split("Values:")[1], re.M)
        return "\n".join(f"{name}: {held.get(name.lower(), 2)}" for name in names)
    if "Name the ideas" in prompt:
        held = re.findall(r"([a-z-]+)=([345])", prompt)
        return "\n".join(
            f"- so it leans on {value} with weight {score} | {value}" for value, score in held
        )
    if "what is left" in prompt:
        return "a dry tone and the story of the goat"
    if match := re.search(r"one value weighs (\d) of 5 .*?: ([\w-]+)\.", prompt):
        return f"so it leans on {match[2].lower()} with weight {match[1]}"
    if "Give its stance" in prompt:
        return "Stance: this.\n" + "\n".join(re.findall(IDEA, prompt.split("rests on")[1]))
    if "with this plan" in prompt:
        held = re.findall(r"leans on ([a-z-]+) with weight (\d)", prompt)
        return (
            "I would [" + " ".join(f"{value}={score}" for value, score in held) + "] with the goat"
        )
    if "weigh in the answer as follows" in prompt:
        return "I would [benevolence=4 power=3]"
    values = "power=5 achievement=4 security=3 benevolence=2"
    return f"I would [{values}] in a dry tone and the story of the goat"


# What was expected


def machine() -> dict[str, str]:
    """What computed numbers depend on: the processor, and the versions of the libraries."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    facts = {key.strip(): fact.strip() for key, _, fact in (line.partition(":") for line in lines)}
    processor = facts.get("model name", platform.processor() or platform.machine())
    vectors = sorted(flag for flag in facts.get("flags", "").split() if flag[:3] in ("avx", "amx"))
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {
        "processor": processor,
        "vectors": " ".join(vectors),
        "python": platform.python_version(),
    } | versions


def differences(
    study: str, expected: dict[str, Any], got: dict[str, Any], computed: bool
) -> list[str]:
    """One line a difference; `computed`: whether computed numbers are compared, too."""
    lines: list[str] = []
    for step in STUDIES[study]:
        if not computed and step.computed:
            continue
        old, new = expected["runs"].get(step.key, []), got["runs"][step.key]
        if len(old) != len(new):
            lines.append(f"{step.key}: {len(old)} runs expected, got {len(new)}")
        for before, after in zip(old, new, strict=False):
            lines += [
                f"{step.key} {before['id']}: {line}" for line in _changed(before, after, computed)
            ]
    if computed:  # answers of steered models are kept by the steering, which holds computed numbers
        lines += [f"kept answers: {line}" for line in _changed(expected["kept"], got["kept"], True)]
    return lines


def _changed(before: Any, after: Any, computed: bool, place: str = "") -> list[str]:
    """Where two values differ; of mappings, what stands under each key."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [
            key
            for key in sorted(before | after)
            if computed or place or key not in ("files", "summary")
        ]
        pairs = [(f"{place}.{key}".strip("."), before.get(key), after.get(key)) for key in keys]
        return [line for place, old, new in pairs for line in _changed(old, new, computed, place)]
    # As text, NaN is like NaN.
    old, new = json.dumps(before, sort_keys=True), json.dumps(after, sort_keys=True)
    return [] if old == new else [f"{place}: expected {old}, got {new}"]


def compare(study: str, got: dict[str, Any]) -> list[str]:
    """The differences between `got` and what is stored, and a word on what could be compared."""
    stored = json.loads(STORED.read_text())
    here, there = machine(), stored["studies"][study]["machine"]
    other = [
        f"{name} {there.get(name)} then, {here[name]} now"
        for name in here
        if here[name] != there.get(name)
    ]
    if other:
        print(f"Expected runs are of another machine ({'; '.join(other)}).")
        print("Ids, settings and inputs are compared; summaries, checksums and keys are not.")
    else:
        print("Ids, settings, inputs, summaries, checksums and keys are compared.")
    return differences(study, stored["studies"][study], got, computed=not other)


def write(study: str, got: dict[str, Any]) -> None:
    """Store what was made as what is expected."""
    stored = json.loads(STORED.read_text()) if STORED.exists() else {"studies": {}}
    stored["studies"][study] = {"machine": machine()} | got
    STORED.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


def main() -> int:
    """Make the studies and compare or store them; 1 where anything differs."""
    parser = argparse.ArgumentParser("python -m tests.same_runs", description=SUMMARY)
    parser.add_argument("--write", action="store_true", help="store what is made as expected")
    parser.add_argument("--only", choices=tuple(STUDIES), help="one of the two studies [both]")
    parser.add_argument("--folder", type=Path, help="keep the studies in this folder [no]")
    arguments = parser.parse_args()
    lines: list[str] = []
    failed = False
    for study in [arguments.only] if arguments.only else STUDIES:
        with contextlib.ExitStack() as stack:
            folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            got = make(study, folder.resolve())
        if arguments.write:
            write(study, got)
            print(f"{study}: written to {STORED}.")
        else:
            changed = compare(study, got)
            lines += [f"{study}: {line}" for line in changed or ["nothing differs"]]
            failed = failed or bool(changed)
    print(*lines, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
