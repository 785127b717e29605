"""Which scenarios are let through: no value is named, and a blind reader finds the values they were
written for.

1. `leaks` looks for the names of all values of the system, of the finer ones that fold into them,
   and of the coarser ones that hold them, in the situation and in every action. A name of several
   words counts as a whole ("self-direction", not "direction").
2. A word counts in its close forms too: *powerful*, *empowering*, *achieving*, *insecure*,
   *conformist*. `forms` strips the derivational endings of English one by one; the name itself
   loses at most one, so that *universal* is a form of *universalism* and *university* is not.
3. `jaccard` compares the values that were meant with those a blind reader found; the paper asks for
   equality.

Left out: synonyms (a situation must be about something), other languages than English, forms that
change their stem (*humble*).
"""

import re
from functools import cache

from feature_store.records import Scenario, ValueSystem, normalise

ENDINGS = tuple(
    sorted(
        (
            "s",
            "es",
            "ed",
            "ing",
            "er",
            "ers",
            "or",
            "ors",
            "ly",
            "ful",
            "less",
            "ness",
            "ment",
            "ity",
            "al",
            "ism",
            "ist",
            "istic",
            "ic",
            "ion",
            "ions",
            "ation",
            "ate",
            "ated",
            "ating",
            "ative",
            "ator",
            "ence",
            "ent",
            "ive",
            "able",
        ),
        key=len,
        reverse=True,
    )
)
BEGINNINGS = ("non", "in", "im", "un", "dis", "em")
STEM = 4
"""Shortest stem that endings and beginnings are stripped to [letters]."""


def leaks(scenario: Scenario, system: ValueSystem) -> tuple[str, ...]:
    """The words that name a value, as they stand in the scenario; empty where it leaks nothing."""
    found: dict[str, None] = {}
    for text in (scenario.text, *(action.text for action in scenario.actions)):
        words = re.findall(r"[^\W\d_]+", text.lower().replace("'", ""))
        for name in _names(system):
            for start in range(len(words) - len(name) + 1):
                said = words[start : start + len(name)]
                if all(_same(told, word) for told, word in zip(name, said, strict=True)):
                    found[" ".join(said)] = None
    return tuple(found)


def jaccard(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    """Shared values over all values of two sets [0 to 1]; 1 for two empty ones."""
    return len({*a} & {*b}) / len({*a} | {*b}) if a or b else 1.0


def forms(word: str, depth: int) -> frozenset[str]:
    """The word and what is left of it after up to `depth` endings, a final e never counting."""
    reached, edge = {word}, {word}
    for _ in range(depth):
        edge = {
            one[: -len(ending)]
            for one in edge
            for ending in ENDINGS
            if one.endswith(ending) and len(one) - len(ending) >= STEM
        }
        reached |= edge
    return frozenset(one.rstrip("e") for one in reached)


@cache
def _said(word: str) -> frozenset[str]:
    """Every form of a word that somebody wrote, negations and the like included."""
    bare = [word[len(b) :] for b in BEGINNINGS if word.startswith(b) and len(word) - len(b) >= STEM]
    return frozenset().union(*(forms(one, 3) for one in (word, *bare)))


@cache
def _told(word: str) -> frozenset[str]:
    return forms(word, 1)


def _same(name: str, word: str) -> bool:
    return not _told(name).isdisjoint(_said(word))


def _names(system: ValueSystem) -> list[tuple[str, ...]]:
    """Names, ids, aliases and parents as words, each once."""
    told = [
        name for value in system.values for name in (value.name, value.id, value.parent) if name
    ]
    told += [alias for alias, _ in system.aliases]
    return list(dict.fromkeys(tuple(normalise(name).split("-")) for name in told))
