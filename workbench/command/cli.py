"""The command line: `workbench VERB STUDY [--flags] [--job FILE]`.

1. The verbs that make runs take their flags from their configuration's fields (`settings.py`).
2. The others look: `runs`, `sql`, `check`, `plugins`; or hand over: `publish`, `app`, `demo`.
3. A user's mistake is one line on standard error and exit code 2; Ctrl-C and SIGTERM keep the work
   and exit with 130.
"""

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, NoReturn

from feature_store import registry
from feature_store.errors import BadInput, WorkbenchError
from feature_store.progress import in_terminal
from feature_store.records import Run, figures
from workbench import settings, verbs
from workbench.verb_table import VERBS

# Nothing is reported to anyone, before any library reads these.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("STREAMLIT_BROWSER_GATHER_USAGE_STATS", "false")

LONGEST = 1000
"""Longest message [characters]: a name or a file's line that was given by mistake may be of any
length."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other mistake."""
        print(
            f"workbench: {_one_line(message).rstrip('.')}. `{self.prog} --help` lists what"
            " there is.",
            file=sys.stderr,
        )
        raise SystemExit(2)


def parser(used: Container[str] = VERBS) -> argparse.ArgumentParser:
    """The command line, with the flags of the verbs that are used: each verb's flags cost the
    import of its module.
    """
    top = _Parser(
        prog="workbench", description="Label, steer and measure values in language models."
    )
    commands = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def command(name: str, text: str, study: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if study:
            sub.add_argument("study", type=Path, help="folder of the study")
        return sub

    for verb in VERBS.values():
        sub = command(verb.name, verb.summary)
        if verb.name == "adopt":
            sub.add_argument(
                "address",
                nargs="?",
                default=argparse.SUPPRESS,
                help="where the SAE is; the same as --address",
            )
        sub.add_argument(
            "--job", type=Path, default=None, help="TOML job file; a flag wins over it"
        )
        if verb.begins:
            sub.add_argument(
                "--system", default="schwartz10", help="value system of a new study [schwartz10]"
            )
        if verb.name in used:
            settings.add_flags(sub, verbs.load(verb.name).settings)
    command("publish", "Write the store as one .duckdb file.").add_argument("file", type=Path)
    command("sql", "Ask the store a question in SQL.").add_argument(
        "query", nargs="?", default="", help="without it, the columns and their units"
    )
    command("runs", "List the runs, interrupted ones too.")
    command("check", "Verify every file of every run against its checksum.")
    command("plugins", "List the plug-ins and where they are defined.", study=False).add_argument(
        "kind", nargs="?", default=""
    )
    app = command("app", "Open the app on a study.")
    app.add_argument("--port", type=int, default=8501)
    demo = command(
        "demo", "The whole story on the shipped model: train, label, measure, effects, graph."
    )
    demo.add_argument(
        "--fast", action="store_true", help="a tenth of the data: shows that it works, not how well"
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.formatwarning = _warned
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        told = vars(parser(used=words[:1]).parse_args(words))
        return _COMMANDS.get(told["verb"], _make_run)(**told) or 0
    except WorkbenchError as error:
        print(f"workbench: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "workbench: stopped. What is done is kept; the same command resumes it.",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:  # `workbench sql ... | head` closes the pipe; that is no failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _one_line(error: object) -> str:
    """What is said, in one line, the middle of a very long one left out."""
    told = " ".join(str(error).split())
    return told if len(told) <= LONGEST else f"{told[: LONGEST // 2]} ... {told[-LONGEST // 2 :]}"


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """What a verb warns of (a judge that wavers, items left out) without the place in our
    source.
    """
    return (
        f"workbench: {_one_line(message)}\n"
        if category is UserWarning
        else f"{filename}:{lineno}: {category.__name__}: {message}\n"
    )


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _open(study: Path, create: bool = False, system: str = "schwartz10"):
    from workbench.study import Study

    return Study(study, system, create)


def _make_run(verb: str, study: Path, job: Path | None, **flags: Any) -> None:
    # `neurons` has a --system of its own: the values that it locates, not those that a study begins
    # with.
    system = flags.pop("system", "schwartz10") if VERBS[verb].begins else "schwartz10"
    from_job = settings.from_toml(job, verbs.load(verb).settings, verb) if job else {}
    opened = _open(study, VERBS[verb].begins, system)
    if system not in ("schwartz10", opened.system_id):
        raise BadInput(
            f"{study} is a study of {opened.system_id}. Give a new folder for one of {system}."
        )
    with in_terminal(verb) as progress:
        run = opened.do(verb, from_job | flags, progress)
    print(describe(run))


def describe(run: Run) -> str:
    """One line a run: id, time, and its few figures."""
    return f"{run.id}  {run.status}  {run.seconds:.0f} s  {figures(run.summary)}"


def _publish(study: Path, file: Path, **_: object) -> None:
    print(_open(study).store.publish(file))


def _sql(study: Path, query: str, **_: object) -> None:
    store = _open(study).store
    answer = store.sql(query) if query else store.relations()
    print(
        answer.to_string(index=False, max_colwidth=None if not query else 80)
        if len(answer)
        else "no rows"
    )


def _runs(study: Path, **_: object) -> None:
    runs = _open(study).runs
    for run in [*runs.all(), *runs.interrupted()]:
        print(describe(run))


def _check(study: Path, **_: object) -> None:
    runs = _open(study).runs
    damaged = {id: files for id in runs.ids() if (files := runs.damaged(id))}
    for id, files in damaged.items():
        print(f"{id}: {', '.join(files)}", file=sys.stderr)
    if damaged:
        raise BadInput(
            f"{len(damaged)} of {len(runs.ids())} runs are damaged. Remove their folders in"
            f" {runs.folder} and run their verbs again."
        )
    print(f"{len(runs.ids())} runs, every checksum as written")


def _plugins(kind: str, **_: object) -> None:
    for k in [kind] if kind else registry.PACKAGES:
        for name in registry.names(k):
            place = registry.origin(k, name)
            print(f"{k:12} {name:14} {place.summary}  ({os.path.relpath(place.file)}:{place.line})")


def _app(study: Path, port: int, **_: object) -> None:
    from workbench.command.serve import serve

    serve(study, port)


def _demo(study: Path, fast: bool, **_: object) -> None:
    from workbench.command.demo import demo

    with in_terminal("demo") as progress:
        print(demo(_open(study, create=True), fast, progress))


_COMMANDS = {
    "publish": _publish,
    "sql": _sql,
    "runs": _runs,
    "check": _check,
    "plugins": _plugins,
    "app": _app,
    "demo": _demo,
}

if __name__ == "__main__":
    sys.exit(main())
