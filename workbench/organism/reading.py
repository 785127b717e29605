"""What a text of the organism says: its sentences, looked up in the language they are made of.

The vocabulary has no capitals and a hedge halves a behaviour without turning it, so both are set
aside. Left out: sentences that the language does not have; they are read as None.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from .planted import planted_language


class SentenceMeaning(NamedTuple):
    """What one sentence of the organism speaks about."""

    owner: str
    """Value or value-free attribute that the sentence speaks about; empty for topics and
    fillers."""
    sign: int
    """+1: held, -1: rejected, 0: neither."""


@cache
def _meanings() -> dict[str, SentenceMeaning]:
    """Every plain sentence of the language -> what it says."""
    language = planted_language()
    sentences = [*language.fillers]
    for lines in language.topics.values():
        sentences += lines
    meanings = {_plain(text): SentenceMeaning("", 0) for text in sentences}
    for row in language.rows:
        for sign, texts in ((1, row.plus), (-1, row.minus)):
            meanings |= {_plain(text): SentenceMeaning(row.owner, sign) for text in texts}
    return meanings


def _plain(sentence: str) -> str:
    return " ".join(sentence.lower().rstrip(".").split())


def read(text: str) -> list[SentenceMeaning | None]:
    """Look up what each whole sentence of a text says; None for one the language does not have.

    A last sentence without its full stop is left out.
    """
    meanings = []
    for sentence in text.split(".")[:-1]:
        plain = _plain(sentence)
        for hedge in planted_language().hedges:
            plain = plain.removeprefix(hedge.lower()).strip()
        meanings.append(_meanings().get(plain))
    return meanings
