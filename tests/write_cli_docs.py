"""Writes docs/cli.md from the command line itself: `python -m tests.write_cli_docs`."""

from pathlib import Path

from tests.test_docs import verbs

HEAD = """# The command line

Written by `python -m tests.write_cli_docs`; a test fails when it is out of date. `workbench VERB --help` says the same.

A user's mistake is one line on standard error and exit code 2. Ctrl-C keeps what is done and exits with 130; the same command
resumes it.
"""


def text() -> str:
    parts = [HEAD]
    for name, sub in verbs().items():
        parts.append(f"## {name}\n\n{sub.description}\n")
        rows = []
        for action in sub._actions:
            if action.dest == "help":
                continue
            name_ = (
                f"`{action.option_strings[0]}`"
                if action.option_strings
                else f"`{action.dest.upper()}`"
            )
            rows.append(
                f"| {name_} | {(action.help or '').replace('%%', '%').replace('|', '&#124;')} |"
            )
        if rows:
            parts.append("| argument | meaning [default] |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "cli.md").write_text(text(), encoding="utf-8")
