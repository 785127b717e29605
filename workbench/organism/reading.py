"""What a text of the organism says: its sentences, looked up in the language they are made of.

The vocabulary has no capitals and a hedge halves a behaviour without turning it, so both are set
aside. Left out: sentences that the language does not have; they are read as None.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from .planted import plan


class Said(NamedTuple):
    owner: str
    """Value or value-free attribute that the sentence speaks about; empty for topics and
    fillers."""
    sign: int
    """+1: held, -1: rejected, 0: neither."""


@cache
def _language() -> dict[str, Said]:
    made = plan()
    known = {
        text: Said("", 0)
        for text in (*made.fillers, *(line for lines in made.topics.values() for line in lines))
    }
    known |= {
        text: Said(row.owner, sign)
        for row in made.rows
        for sign, texts in ((1, row.plus), (-1, row.minus))
        for text in texts
    }
    return {_plain(text): said for text, said in known.items()}


def _plain(sentence: str) -> str:
    return " ".join(sentence.lower().rstrip(".").split())


def read(text: str) -> list[Said | None]:
    """What each whole sentence says, None for one that the language does not have; a last one
    without its full stop is left out.
    """
    found = []
    for sentence in text.split(".")[:-1]:
        plain = _plain(sentence)
        for hedge in plan().hedges:
            plain = plain.removeprefix(hedge.lower()).strip()
        found.append(_language().get(plain))
    return found
