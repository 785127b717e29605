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

ENDINGS = (
    *("s", "es", "ed", "ing", "er", "ers", "or", "ors", "ly", "ful", "less", "ness", "ment"),
    *("ity", "al", "ism", "ist", "istic", "ic", "ion", "ions", "ation", "ate", "ated"),
    *("ating", "ative", "ator", "ence", "ent", "ive", "able"),
)
"""Derivational endings of English."""
BEGINNINGS = ("non", "in", "im", "un", "dis", "em")
STEM = 4
"""Shortest stem that endings and beginnings are stripped to [letters]."""


def leaks(scenario: Scenario, system: ValueSystem) -> tuple[str, ...]:
    """Find the words that name a value, as they stand in the scenario; empty where none does."""
    leaked: dict[str, None] = {}
    for text in (scenario.text, *(action.text for action in scenario.actions)):
        words = re.findall(r"[^\W\d_]+", text.lower().replace("'", ""))
        for name in _names(system):
            for start in range(len(words) - len(name) + 1):
                phrase = words[start : start + len(name)]
                if all(_is_form_of(word, part) for word, part in zip(phrase, name, strict=True)):
                    leaked[" ".join(phrase)] = None
    return tuple(leaked)


def jaccard(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    """Divide the shared values by all values of two sets [0 to 1]; 1 for two empty ones."""
    return len({*a} & {*b}) / len({*a} | {*b}) if a or b else 1.0


def forms(word: str, depth: int) -> frozenset[str]:
    """Give the word and what is left of it after up to `depth` endings, without a final e."""
    reached = {word}
    edge = {word}
    for _ in range(depth):
        edge = {shorter for form in edge for shorter in _without_endings(form)}
        reached |= edge
    return frozenset(form.rstrip("e") for form in reached)


def _without_endings(word: str) -> list[str]:
    """Strip each ending that leaves a stem."""
    return [
        word[: -len(ending)]
        for ending in ENDINGS
        if word.endswith(ending) and len(word) - len(ending) >= STEM
    ]


@cache
def _forms_of_word(word: str) -> frozenset[str]:
    """Give every form of a word in a text, with and without a negation and the like."""
    bare = [
        word[len(beginning) :]
        for beginning in BEGINNINGS
        if word.startswith(beginning) and len(word) - len(beginning) >= STEM
    ]
    return frozenset().union(*(forms(variant, 3) for variant in (word, *bare)))


@cache
def _forms_of_name(word: str) -> frozenset[str]:
    """Give the forms of a word in a value's name, which loses one ending at most."""
    return forms(word, 1)


def _is_form_of(word: str, name: str) -> bool:
    return not _forms_of_name(name).isdisjoint(_forms_of_word(word))


def _names(system: ValueSystem) -> list[tuple[str, ...]]:
    """List names, ids, aliases and parents of the values as words, each once."""
    names = [
        name for value in system.values for name in (value.name, value.id, value.parent) if name
    ]
    names += [alias for alias, _ in system.aliases]
    return list(dict.fromkeys(tuple(normalise(name).split("-")) for name in names))
