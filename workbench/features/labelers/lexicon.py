"""The lexicon labeler: a feature carries a value if it fires on or near the value's words.

1. Words come from a file of the user's, TOML (`power = ["control", "rule"]`) or a table with the
   columns `value` and `word`. Without one they are the words of the values' names and definitions,
   less function words and what several definitions share: a few words a value, and no more than
   that. A word counts in any inflection (English stems, Porter's).
2. The score of a context is the share of its activation that falls on a listed word or within
   `near` words of one. A feature's is the mean over its strongest contexts; chance and z are those
   of `features/context_evidence.py`.

The weak baseline: words are not meanings, and a side of a value has none of its own. Left out:
promoted tokens, which no relation holds, and words of several tokens' company (`human rights`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from feature_store.bounds import Count, CountOrZero, Seed, Share
from feature_store.errors import BadInput, NotFound
from feature_store.files import read_toml, shown
from feature_store.records import Label, ValueSystem
from feature_store.registry import register
from feature_store.tables import read_table
from workbench.features.context_evidence import ContextLimits, ContextMeans
from workbench.features.contexts import FeatureContexts
from workbench.features.labelers import LabelledActivations
from workbench.features.stems import WORD, meaning_words, stem

NAMED = 5
"""Listed words that a label's evidence names at most."""


@dataclass(frozen=True)
class LexiconLabelerSettings:
    """Which words, how near to them, and what a label must be worth."""

    words: str = ""
    """Word list: .toml (value = [words]) or a table with the columns value and word; empty: the
    words of the values' definitions."""
    near: CountOrZero = 2
    """Words on either side of a listed one that count as near [words]."""
    contexts: Count = 20
    """Strongest contexts of a feature that are read, at most [contexts]."""
    max_q: Share = 0.05
    """Largest q of an accepted label [0 to 1]."""
    min_effect: float = 2.0
    """Smallest z of an accepted label [SD over features]."""
    draws: Count = 100_000
    """Draws of contexts behind p."""
    seed: Seed = 0
    """Seed of the draws."""


@register("labelers", "lexicon")
class Lexicon:
    """Features that fire on or near listed words; the weak baseline."""

    config = LexiconLabelerSettings

    @staticmethod
    def label(
        data: LabelledActivations, system: ValueSystem, settings: LexiconLabelerSettings
    ) -> list[Label]:
        """Give every feature's value with the largest z."""
        words = words_of(system, settings.words)
        if not data.activations.shape[1]:
            return []
        contexts = data.read_contexts().strongest(settings.contexts)
        places = WordPlaces.of(contexts, settings.near)
        near = places.near(words)
        limits = ContextLimits(
            method="lexicon",
            draws=settings.draws,
            max_q=settings.max_q,
            min_effect=settings.min_effect,
            seed=settings.seed,
        )
        means = ContextMeans.of(places.shares(near), contexts.features, limits)
        source = shown(Path(settings.words).name) if settings.words else "definitions"
        evidence = []
        for feature, value in zip(means.features, means.best, strict=True):
            listed = words[system.ids[value]]
            named = places.listed(contexts, int(feature), listed)
            evidence.append({"words": ", ".join(named), "word_list": source})
        return means.labels(system.ids, limits, evidence)


def words_of(system: ValueSystem, file: str) -> dict[str, frozenset[str]]:
    """Give the stems that are listed for each value of the system, in its order.

    Raises BadInput for a list without words or with what is no word, NotFound for a value that the
    system does not have.
    """
    if not file:
        return _words_of_definitions(system)
    listed = _read_list(Path(file))
    words: dict[str, set[str]] = {value: set() for value in system.ids}
    for name, entries in listed:
        try:
            value = system.resolve(name)
        except NotFound as error:
            raise NotFound(f"{shown(file, 300)}: {error}") from None
        for word in entries:
            if not WORD.fullmatch(word.strip()):
                raise BadInput(
                    f"{shown(file, 300)}: {shown(word)} of {value} is not one word. List single"
                    " words, letters alone."
                )
            words[value].add(stem(word.strip().lower()))
    if not any(words.values()):
        raise BadInput(
            f"{shown(file, 300)} lists no words. Write value = [words], or rows of value and word."
        )
    return {value: frozenset(stems) for value, stems in words.items()}


def _read_list(file: Path) -> list[tuple[str, Sequence[str]]]:
    """Read the entries of a word list: a value's name, as it is written, and words."""
    if file.suffix.lower() != ".toml":
        table = read_table(file, ("value", "word"))
        rows = zip(table.texts("value"), table.texts("word"), strict=True)
        return [(value, [word]) for value, word in rows]
    entries: list[tuple[str, Sequence[str]]] = []
    for name, words in read_toml(file).items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise BadInput(
                f"{shown(file, 300)}: {shown(name)} should be a list of words, got {shown(words)}."
            )
        entries.append((name, words))
    return entries


def _words_of_definitions(system: ValueSystem) -> dict[str, frozenset[str]]:
    """Take the words of names and definitions that one value alone uses."""
    stems = {
        value.id: {stem(word) for word in meaning_words(f"{value.name} {value.definition}")}
        for value in system.values
    }
    used = Counter(word for of_value in stems.values() for word in of_value)
    return {
        value: frozenset(word for word in of_value if used[word] == 1)
        for value, of_value in stems.items()
    }


@dataclass(frozen=True, eq=False)
class WordPlaces:
    """Where the words of contexts stand, and which word each token belongs to.

    Places count words over all contexts; `near` empty places lie between contexts, so that no word
    is near one of another context.
    """

    stems: Int[np.ndarray, " place"]
    """Number of the word's stem in `names`; -1 at empty places."""
    names: Mapping[str, int]
    """Stem -> its number."""
    of_token: Int[np.ndarray, " token"]
    """Place of the word that each token belongs to, or that comes before it."""
    firsts: Int[np.ndarray, " edge"]
    """Place of each context's first word, and, at last, where all end."""
    starts: Int[np.ndarray, " edge"]
    """Where each context's tokens begin, and, at last, where they end."""
    activations: Float[np.ndarray, " token"]
    """Activation on each token, as a share of its context's [0 to 1]."""
    reach: int
    """Words on either side that are near."""

    @classmethod
    def of(cls, contexts: FeatureContexts, reach: int) -> "WordPlaces":
        """Split contexts into words."""
        names: dict[str, int] = {}
        stems = [-1] * reach
        firsts = []
        of_token = np.empty(len(contexts.tokens), np.int64)
        lengths = np.array([len(token) for token in contexts.vocabulary], np.int64)
        for context in range(len(contexts)):
            span = slice(contexts.starts[context], contexts.starts[context + 1])
            matches = list(WORD.finditer("".join(contexts.words(context))))
            begins = np.array([match.start() for match in matches], np.int64)
            ends = np.cumsum(lengths[contexts.tokens[span]])
            word = np.searchsorted(begins, ends, side="left") - 1
            of_token[span] = len(stems) + np.maximum(word, 0)
            firsts.append(len(stems))
            stems += [
                names.setdefault(stem(match.group().lower()), len(names)) for match in matches
            ]
            stems += [-1] * (reach + 1)
        totals = np.add.reduceat(contexts.activations.astype(float), contexts.starts[:-1])
        share = contexts.activations / np.repeat(
            np.where(totals > 0, totals, 1.0), np.diff(contexts.starts)
        )
        return cls(
            stems=np.array(stems, np.int64),
            names=names,
            of_token=of_token,
            firsts=np.array([*firsts, len(stems)], np.int64),
            starts=contexts.starts,
            activations=share,
            reach=reach,
        )

    def near(self, words: Mapping[str, frozenset[str]]) -> Bool[np.ndarray, "value place"]:
        """Say which places are on or near a listed word of each value."""
        near = np.empty((len(words), len(self.stems)), bool)
        for row, listed in enumerate(words.values()):
            numbers = [self.names[word] for word in listed if word in self.names]
            on = np.isin(self.stems, numbers)
            near[row] = np.convolve(on, np.ones(2 * self.reach + 1), "same") > 0.5
        return near

    def shares(self, near: Bool[np.ndarray, "value place"]) -> Float[np.ndarray, "context value"]:
        """Give the share of each context's activation that falls on or near listed words."""
        columns = [
            np.add.reduceat(np.where(row[self.of_token], self.activations, 0.0), self.starts[:-1])
            for row in near
        ]
        return np.stack(columns, axis=1)

    def listed(self, contexts: FeatureContexts, feature: int, listed: frozenset[str]) -> list[str]:
        """Name the listed stems in a feature's contexts, the most frequent first."""
        first, last = np.searchsorted(contexts.features, [feature, feature + 1])
        there = self.stems[self.firsts[first] : self.firsts[last]]
        counts = {word: int((there == self.names.get(word, -2)).sum()) for word in listed}
        present = [word for word in listed if counts[word]]
        return sorted(present, key=lambda word: (-counts[word], word))[:NAMED]
