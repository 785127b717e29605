"""Write the pages of reference that the code itself tells: `python -m tools.write_docs`.

`PAGES` maps each file to the function that gives its text; a test compares the two.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from feature_store import schema
from workbench.command.cli import parser
from workbench.verb_table import VERBS, Verb, makers

ROOT = Path(__file__).parents[1]
VERBS_BEGIN, VERBS_END = "<!-- verbs: written by make docs -->", "<!-- end of verbs -->"

CLI_HEAD = """# The command line

Written by `python -m tools.write_docs`; a test fails when it is out of date. `workbench VERB
--help` says the same.

A user's mistake is one line on standard error and exit code 2. Ctrl-C keeps what is done and exits
with 130; the same command resumes it.
"""
SCHEMA_HEAD = """# Relations of the feature store

Written by `python -m tools.write_docs` from `feature_store/schema/*.sql`; a test fails when it is
out of date. Each section is one file there, named like its neighbours in `records/` and
`queries/`.

A job writes each relation as `<relation>.parquet` in its run folder; the store shows the finished
runs' files as one view under the same name. `run` is the id of the run that wrote the row. Units
and ranges stand in brackets. A number that is not known is NULL.
"""


def verbs() -> dict[str, argparse.ArgumentParser]:
    """The parser of every verb of the command line, by name."""
    (action,) = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return action.choices


def cli_page() -> str:
    """Every verb with its arguments and their defaults."""
    parts = [CLI_HEAD]
    for name, verb in verbs().items():
        parts.append(f"## {name}\n\n{verb.description}\n")
        if name in VERBS:
            parts.append(_runs_of(VERBS[name]))
        actions = [action for action in verb._actions if action.dest != "help"]
        if actions:
            parts.append(_table(("argument", "meaning [default]"), map(_argument, actions)))
    return "\n".join(parts)


def _runs_of(verb: Verb) -> str:
    """Say which runs a verb makes and which it builds on, with the verbs that make those."""
    needs = [f"`{kind}` (`{'` or `'.join(makers(kind))}`)" for kind in verb.needs]
    first = " It may begin a study." if verb.begins else ""
    built_on = f" With its defaults it builds on runs of kind {', '.join(needs)}." if needs else ""
    return f"Makes a run of kind `{verb.makes}`.{built_on}{first}\n"


def schema_page() -> str:
    """Every relation with its columns, types, meanings and units."""
    parts = [SCHEMA_HEAD]
    for idea, sentence in schema.ideas().items():
        parts.append(f"## {idea}\n\n{sentence}\n")
        for relation in schema.relations():
            if relation.idea == idea:
                parts.append(f"### {relation.name}\n\n{relation.comment}\n")
                parts.append(_table(("column", "type", "meaning"), map(_column, relation.columns)))
    return "\n".join(parts)


def readme() -> str:
    """Give the README with its table of verbs written anew, between the two marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = text.split(VERBS_BEGIN)
    after = rest.split(VERBS_END)[1]
    table = _table(("verb", "what it does", "makes", "needs"), map(_verb, VERBS.values()))
    return f"{before}{VERBS_BEGIN}\n{table}{VERBS_END}{after}"


def _verb(verb: Verb) -> tuple[str, ...]:
    needs = ", ".join(" or ".join(f"`{name}`" for name in makers(kind)) for kind in verb.needs)
    return f"`{verb.name}`", verb.summary, verb.makes, needs


PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/cli.md": cli_page,
    "docs/reference/schema.md": schema_page,
    "README.md": readme,
}
"""Path below the repository's root -> the function that gives the page's text."""


def _argument(action: argparse.Action) -> tuple[str, ...]:
    name = action.option_strings[0] if action.option_strings else action.dest.upper()
    return f"`{name}`", (action.help or "").replace("%%", "%")


def _column(column: schema.Column) -> tuple[str, ...]:
    return f"`{column.name}`", f"`{column.type}`", column.comment


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = "|---" * len(head) + "|\n"
    return _row(head) + rule + "".join(_row(cells) for cells in rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "&#124;") for cell in cells) + " |\n"


if __name__ == "__main__":
    for page, text in PAGES.items():
        (ROOT / page).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / page).write_text(text(), encoding="utf-8")
