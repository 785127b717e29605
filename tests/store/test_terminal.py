"""Texts of strangers command no terminal, and texts of people stay as they are."""

import io
import sys
import unicodedata

import hypothesis
import pytest
from hypothesis import strategies as st

from feature_store.progress import in_terminal
from feature_store.terminal import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\r\nb", r"a\r\nb"),
        ("\x9b31m", r"\x9b31m"),
        ("a\x85b\x0bc\x0cd", r"a\x85b\x0bc\x0cd"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("\u2066a\u2069\u200f\u061c\ufeff", r"\u2066a\u2069\u200f\u061c\ufeff"),
        ("\udce9", r"\udce9"),
        ("\U000e0041", r"\U000e0041"),
        ("\x00\x7f", r"\x00\x7f"),
    ],
)
def test_what_commands_a_terminal_is_shown(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "0.5\t-7e3",
        "数值 価値 가치",
        "naïve Größe",
        "👩\u200d🔬 🧭 👍🏽",
        "مرحبا",
        "नमस्ते",
        "می\u200cخواهم",
        "a\u3000b\xa0c",
        "\\n",
    ],
)
def test_what_people_write_stays(text):
    assert visible(text) == text


@hypothesis.given(st.text(st.characters(exclude_categories=())))
def test_hostile_text_stands_on_one_line_without_commands(text):
    line = visible(text)
    assert len(line.splitlines()) <= 1
    left = {character for character in line if unicodedata.category(character)[0] == "C"}
    assert {unicodedata.category(c) for c in left - set("\t\u200c\u200d")} <= {"Cn", "Co"}
    assert line.encode().decode() == line
    assert visible(line) == line


def test_a_stage_of_a_progress_forges_no_line(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with in_terminal("ask") as progress:
        progress("[red]topic\x1b[2J\nforged", 1, 1)
    assert stream.getvalue() == "ask: [red]topic\\x1b[2J\\nforged 1 of 1\n"
