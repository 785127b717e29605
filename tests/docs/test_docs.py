"""The documents say what the code does.

Every verb, flag, plug-in kind and benchmark is named, and nothing that is not there.
"""

import pkgutil
import re
from pathlib import Path

import pytest

import benchmarks
from feature_store import registry
from tools.write_docs import PAGES, verbs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", PAGES)
def test_pages_that_the_code_tells_are_up_to_date(page):
    assert (ROOT / page).read_text(encoding="utf-8") == PAGES[page](), (
        f"{page} is out of date; run `make docs`"
    )


def test_every_verb_and_flag_is_documented():
    text = (ROOT / "docs" / "reference" / "cli.md").read_text()
    for name, sub in verbs().items():
        assert f"## {name}" in text, (
            f"docs/reference/cli.md does not describe {name}; run `make docs`"
        )
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        for action in sub._actions:
            for flag in action.option_strings:
                if (
                    flag.startswith("--")
                    and flag not in ("--help",)
                    and not flag.startswith("--no-")
                ):
                    assert f"`{flag}`" in section, (
                        f"docs/reference/cli.md: {name} lacks {flag}; run `make docs`"
                    )


def test_the_readme_names_only_verbs_and_files_that_exist():
    text = (ROOT / "README.md").read_text()
    for verb in re.findall(r"^workbench (\w+)", text, re.M):
        assert verb in verbs(), verb
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"^(?:  )?([\w/]+(?:/|\.py))  +\w", text, re.M):
        assert any((ROOT / base / path).exists() for base in ("", "workbench")), path


def test_every_benchmark_has_a_result():
    text = (ROOT / "docs" / "results.md").read_text()
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if not module.name.startswith("_"):
            assert f"python -m benchmarks {module.name}" in text, module.name


def test_every_plug_in_kind_is_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for package in registry.PACKAGES.values():
        assert package.replace(".", "/") in text, package


def test_every_instrument_has_a_page_that_the_readme_links():
    pages = {file.name: file.read_text() for file in (ROOT / "docs" / "instruments").glob("*.md")}
    readme = (ROOT / "README.md").read_text()
    for name in registry.names("instruments"):
        held = [
            file
            for file, text in pages.items()
            if f"`{name}`" in text or text.startswith(f"# {name}")
        ]
        assert any(f"docs/instruments/{file}" in readme for file in held), (
            f"{name} has no page in docs/instruments that the README links"
        )
