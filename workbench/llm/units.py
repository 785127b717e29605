"""Answers that are computed together are kept together, so that the same work has the same bytes.

The last digits of a score, and once in a while a word, depend on what goes through the model beside
it, on the processor and on how many threads share the work. So that a run is the same however often
it was interrupted, and whatever else the study has asked before:

1. What is asked is cut into units of one size, in an order that depends on what is asked alone.
2. The key of an answer digests its unit and the machine: it is found again as a part of the same
   unit, computed by the same kind of machine, and by no other.
3. A unit that lacks an answer, because a crash has torn its line, is asked again whole.

Left out: endpoints. Their answers cost money, and do not come out again in any case.
"""

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from workbench.llm.answer_file import answer_key


class Unit(NamedTuple):
    """Questions whose answers are computed together."""

    rows: tuple[int, ...]
    """Number of each among all questions."""
    keys: tuple[str, ...]
    """What each answer is kept under."""

    def lacks(self, kept: Container[str]) -> bool:
        """Whether one of its answers is not kept."""
        return not all(key in kept for key in self.keys)


class Units(NamedTuple):
    """All that is asked, cut into units."""

    parts: tuple[Unit, ...]
    """The units, in their order."""
    keys: tuple[str, ...]
    """What the answer of every question is kept under; equal questions share it."""


def cut(asked: Sequence[str], order: Iterable[int], size: int, machine: str) -> Units:
    """Cut questions into units of at most `size`.

    `asked` holds the digest of every question, `order` the rows in the order in which they go
    through; of equal questions the first one goes. `machine` says what computes.

        cut(["b", "a", "b"], [1, 0, 2], 2, "cpu").parts[0].rows  # -> (1, 0)
    """
    firsts: dict[str, int] = {}
    for row in order:
        firsts.setdefault(asked[row], row)
    parts = []
    kept_under: dict[str, str] = {}
    distinct = list(firsts)
    for start in range(0, len(distinct), size):
        some = distinct[start : start + size]
        whole = answer_key(machine, *some)
        keys = tuple(answer_key(whole, digest) for digest in some)
        parts.append(Unit(tuple(firsts[digest] for digest in some), keys))
        kept_under.update(zip(some, keys, strict=True))
    return Units(tuple(parts), tuple(kept_under[digest] for digest in asked))
