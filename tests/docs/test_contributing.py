"""The plug-in that CONTRIBUTING.md shows is one, and does what the page says."""

import re
from pathlib import Path

import pytest

from feature_store import registry
from workbench.steering import gates

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def mentions(monkeypatch):
    """The plug-in, registered for one test."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
    names = {"__name__": "mentions"}
    known = registry.of("detectors")
    monkeypatch.setattr(known, "_registered", dict(known._registered))
    exec(compile(code, str(PAGE), "exec"), names)
    return names["Mentions"]


def test_the_plug_in_of_the_page_opens_for_its_words_alone(mentions):
    assert registry.get("detectors", "mentions") is mentions
    detector = mentions.open(None, "power", mentions.config(words=("power", "rule")))
    decided = gates.gate(detector, ["They rule here.", "I was at home."], 0.5)
    assert decided.open.tolist() == [True, False]


def test_the_page_keeps_its_promise_of_twenty_lines():
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
    lines = [line for line in code.splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("from", "import"))]) <= 20
