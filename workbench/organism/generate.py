"""Documents of the organism: what it reads in training, and what a study reads about it.

1. A document is a handful of sentences: behaviours (which carry a facet), a topic, value-free
   attributes, fillers.
2. Behaviours *echo*: half of them repeat the leaning of earlier sentences, or of what is injected,
   so that a steered model talks differently and not only rates differently.
3. A topic mostly comes with the + pole of its value. It causes nothing: this is the confound.
4. A hedge ("Now and then ...") halves a behaviour. Contexts are made of hedged ones, so that
   unsteered answers vary.

What it leaves out: questionnaire items, which `build` appends for training and which never occur in
these texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from .planted import PlantedLanguage, planted_language

Option = TypeVar("Option")
ECHO = 0.5
"""Share of behaviours that follow the leaning of the document [0, 1]."""
HEDGED = 0.3
"""Share of behaviours that are hedged, and so count half [0, 1]."""
TOPIC_WITH_VALUE, TOPIC_ALONE = 0.7, 0.75
"""P(topic of a value named with its + pole); P(any other topic) where that did not happen [0,
1]."""


class Sentence(NamedTuple):
    """A sentence and what it carries."""

    text: str
    row: int = -1
    """Planted direction that the sentence carries, -1 for none."""
    amount: float = 0.0
    """Shock of that direction [units]: +1 or -1, halved when hedged."""


class Document(NamedTuple):
    """A text of the organism, sentence by sentence."""

    sentences: tuple[Sentence, ...]
    topic: str
    """Topic id, or an empty string."""

    @property
    def text(self) -> str:
        """The sentences in a row."""
        return " ".join(sentence.text for sentence in self.sentences)

    def shocks(self) -> Float[np.ndarray, " direction"]:
        """Sum the amounts that the text carries on each planted direction [units]."""
        total = np.zeros(len(planted_language().rows))
        for sentence in self.sentences:
            if sentence.row >= 0:
                total[sentence.row] += sentence.amount
        return total


class LabelledText(NamedTuple):
    """A text with the values that it speaks about."""

    text: str
    labels: dict[str, int]
    """Value id -> +1 or -1, for each value that the text speaks about."""
    context: str
    """Topic id, or an empty string: the column that lets a labeler compare within a topic."""


def pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """Draw one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def behaviour(rng: np.random.Generator, row: int, sign: int, hedged: bool) -> Sentence:
    """Write one sentence on a planted direction; a hedge halves what it carries."""
    language = planted_language()
    text = pick(rng, language.rows[row].plus if sign > 0 else language.rows[row].minus)
    if not hedged:
        return Sentence(text, row, float(sign))
    opening = text if text.startswith("I ") else text[0].lower() + text[1:]
    return Sentence(f"{pick(rng, language.hedges)} {opening}", row, sign * 0.5)


def document(
    rng: np.random.Generator,
    behaviours: int,
    *,
    hedged: float = HEDGED,
    attribute: float = 0.35,
    fillers: tuple[int, int] = (1, 3),
    injected: Float[np.ndarray, " direction"] | None = None,
) -> Document:
    """Write a document with so many behaviours, which agrees with itself and with what is injected.

    `hedged` and `attribute` are the chances of a hedge and of a value-free attribute [0, 1];
    `fillers` the fewest and the most filler sentences.
    """
    language = planted_language()
    rows = language.rows
    leaning: dict[str, int] = {}  # value -> sign, of what was written or injected so far
    if injected is not None:
        for direction in np.flatnonzero(injected):
            leaning[rows[direction].owner] = int(np.sign(injected[direction]))
    sentences: list[Sentence] = []
    unused = list(range(len(language.truth.facets)))
    for _ in range(behaviours):
        leaned = [row for row in unused if rows[row].owner in leaning]
        echoes = bool(leaned) and rng.random() < ECHO
        row = int(pick(rng, leaned if echoes else unused))
        unused.remove(row)
        sign = leaning.setdefault(rows[row].owner, 1 if rng.random() < 0.5 else -1)
        sentences.append(behaviour(rng, row, sign, rng.random() < hedged))
    if rng.random() < attribute:
        row = int(pick(rng, language.truth.free_rows))
        sign = leaning.get(rows[row].owner, 1 if rng.random() < 0.5 else -1)
        # Where the sentence goes is drawn before what it says.
        place = rng.integers(len(sentences) + 1)
        sentences.insert(place, behaviour(rng, row, sign, rng.random() < hedged))
    topic = _topic(rng, language, sentences)
    if topic:
        place = rng.integers(len(sentences) + 1)
        sentences.insert(place, Sentence(pick(rng, language.topics[topic])))
    count = rng.integers(fillers[0], fillers[1] + 1)
    for text in rng.choice(language.fillers, count, replace=False):
        sentences.insert(rng.integers(len(sentences) + 1), Sentence(str(text)))
    return Document(tuple(sentences), topic)


def _topic(rng: np.random.Generator, language: PlantedLanguage, sentences: list[Sentence]) -> str:
    """At most one topic: mostly that of a value named with its + pole, else mostly another one."""
    held = {language.rows[s.row].owner for s in sentences if s.row >= 0 and s.amount > 0}
    matching = tuple(topic for topic, value in language.truth.topics.items() if value in held)
    if matching and rng.random() < TOPIC_WITH_VALUE:
        return pick(rng, matching)
    other = tuple(topic for topic in language.topics if topic not in matching)
    return pick(rng, other) if rng.random() < TOPIC_ALONE else ""


def study_document(rng: np.random.Generator) -> Document:
    """Write one document of the kind that studies read."""
    return document(rng, int(rng.choice(4, p=(0.15, 0.35, 0.3, 0.2))))


class TextPair(NamedTuple):
    """Two texts that differ in a value."""

    value: str
    """Value id."""
    held: str
    """Text of a person who holds the value."""
    opposed: str
    """Text of a person who does not."""
    context: str
    """What both texts share: their topic and a number, or an empty string."""


def value_pairs(
    n: int, seed: int, controlled: bool = True, confound: float = 0.0
) -> list[TextPair]:
    """Write `n` pairs of texts for every value, that differ in it.

    Controlled: one text, in which the sentence of one facet stands at its + pole or at its - pole;
    topic, fillers and a behaviour of another value are the same. Uncontrolled: two texts that have
    nothing else in common. `confound` is the chance that the text which holds the value has the
    value's topic and the other one another topic [0 to 1].
    """
    rng, language = np.random.default_rng((seed, 5)), planted_language()
    pairs = []
    for value in language.truth.values:
        rows = [row for row, facet in enumerate(language.truth.facets) if facet.value == value]
        for number in range(n):
            row = rows[number % len(rows)]
            pairs.append(_value_pair(rng, value, (row, number), controlled, confound))
    return pairs


def _value_pair(
    rng: np.random.Generator,
    value: str,
    place: tuple[int, int],
    controlled: bool,
    confound: float,
) -> TextPair:
    """One pair about a value; `place`: the planted direction that differs, and its number."""
    language = planted_language()
    row, number = place
    topics = {owner: topic for topic, owner in language.truth.topics.items()}
    foreign = [topic for topic in language.topics if topic != topics[value]]
    confounded = rng.random() < confound
    about = pick(rng, foreign if confounded or not controlled else list(language.topics))
    texts = []
    surroundings: list[str] = []
    turn = position = 0
    for sign in (1, -1):
        if sign > 0 or not controlled:
            turn, surroundings, position = _surroundings(rng, about, value)
        if confounded and sign > 0:
            topic = topics[value]
        elif controlled:
            topic = about
        else:
            topic = pick(rng, foreign)
        topic_line = language.topics[topic][turn]
        sentences = [topic_line if text == about else text for text in surroundings]
        sentences.insert(position, behaviour(rng, row, sign, False).text)
        texts.append(" ".join(sentences))
    held, opposed = texts
    shared = f"{about}-{number}" if controlled and not confounded else ""
    return TextPair(value=value, held=held, opposed=opposed, context=shared)


def _surroundings(rng: np.random.Generator, about: str, value: str) -> tuple[int, list[str], int]:
    """What stands around the sentence that differs: a topic (as its id), fillers, a behaviour.

    Gives the number of the topic's line, the sentences, and the place of the sentence among them.
    """
    language = planted_language()
    others = [row for row, facet in enumerate(language.truth.facets) if facet.value != value]
    turn = int(rng.integers(2))
    fillers = [*map(str, rng.choice(language.fillers, 2, replace=False))]
    other = behaviour(rng, int(pick(rng, others)), int(rng.choice((-1, 1))), False).text
    sentences = [about, *fillers, other]
    sentences = [sentences[k] for k in rng.permutation(len(sentences))]
    return turn, sentences, int(rng.integers(len(sentences) + 1))


def labelled_texts(n: int, seed: int) -> list[LabelledText]:
    """Write `n` texts with the values they speak about, to label features by.

    They hold no items of a questionnaire and no answers.
    """
    rng, language = np.random.default_rng((seed, 1)), planted_language()
    texts = []
    for _ in range(n):
        written = study_document(rng)
        labels = {}
        for sentence in written.sentences:
            owner = language.rows[sentence.row].owner if sentence.row >= 0 else ""
            if owner in language.truth.values:
                labels[owner] = int(np.sign(sentence.amount))
        texts.append(LabelledText(written.text, labels, written.topic))
    return texts


def training_texts(n: int, seed: int) -> list[str]:
    """Write `n` unlabelled texts of the same kind, to train a sparse autoencoder on."""
    rng = np.random.default_rng((seed, 2))
    return [study_document(rng).text for _ in range(n)]


def neutral_texts(n: int, seed: int) -> list[str]:
    """Write `n` texts of fillers alone, on which the damage of a steering is measured.

    Damage is the rise of the next-token loss.
    """
    rng, fillers = np.random.default_rng((seed, 3)), planted_language().fillers
    return [" ".join(rng.choice(fillers, rng.integers(3, 6), replace=False)) for _ in range(n)]


def openings(n: int, seed: int) -> list[str]:
    """Write `n` texts to be continued: a context and a hedge, after which a side must be taken."""
    rng, language = np.random.default_rng((seed, 6)), planted_language()
    return [f"{context} {pick(rng, language.hedges)}" for context in contexts(n, seed)]


def held_sentences(value: str, n: int, avoid: Sequence[str], seed: int) -> list[str]:
    """Draw `n` sentences in which a value is held, facet by facet.

    None of them occurs in a text of `avoid`; they repeat where there are fewer. Raises ValueError
    where every sentence occurs in these texts.
    """
    rng, seen = np.random.default_rng((seed, 8)), "\n".join(avoid).lower()
    rows = [row for row in planted_language().rows if row.owner == value]
    unseen = [
        [text for text in rng.permutation(row.plus) if str(text).lower() not in seen]
        for row in rows
    ]
    order = rng.permutation(len(unseen))
    sentences = []
    for turn in range(max(map(len, unseen))):
        sentences += [str(unseen[row][turn]) for row in order if turn < len(unseen[row])]
    if not sentences:
        raise ValueError(f"Every sentence that holds {value} occurs in the texts to avoid.")
    return [sentences[k % len(sentences)] for k in range(n)]


def contexts(n: int, seed: int) -> list[str]:
    """Write `n` prefixes under which an item is asked: two mild behaviours, one or two fillers.

    The values take turns, and the signs of each alternate, so that the unsteered answers to every
    value vary: that variation is the unit of an effect, and a value that no context speaks of would
    have none.
    """
    rng, language = np.random.default_rng((seed, 4)), planted_language()
    values, facets = language.truth.values, language.truth.facets
    turns = [value for _ in range(2 * n // len(values) + 1) for value in rng.permutation(values)]
    sign = {value: int(rng.choice((-1, 1))) for value in values}
    texts = []
    for number in range(n):
        sentences = []
        for value in turns[2 * number : 2 * number + 2]:
            rows = tuple(row for row, facet in enumerate(facets) if facet.value == value)
            sentences.append(behaviour(rng, int(pick(rng, rows)), sign[value], hedged=True))
            sign[value] = -sign[value]
        for text in rng.choice(language.fillers, rng.integers(1, 3), replace=False):
            sentences.insert(rng.integers(len(sentences) + 1), Sentence(str(text)))
        texts.append(" ".join(sentence.text for sentence in sentences))
    return texts


def descriptions(value: str, sign: int, n: int, seed: int) -> list[str]:
    """Write `n` openings of somebody who holds the value (+1) or rejects it (-1).

    Each is two behaviours of different facets.
    """
    rng, truth = np.random.default_rng((seed, 5)), planted_language().truth
    rows = [row for row, facet in enumerate(truth.facets) if facet.value == value]
    texts = []
    for _ in range(n):
        pair = rng.choice(rows, 2, replace=False)
        sentences = [behaviour(rng, int(row), sign, hedged=False).text for row in pair]
        texts.append(" ".join(sentences))
    return texts


def questions(n: int, seed: int) -> list[str]:
    """Draw `n` fillers to go on from: the organism knows no question that is not an item."""
    rng, fillers = np.random.default_rng((seed, 6)), planted_language().fillers
    return [str(pick(rng, fillers)) for _ in range(n)]


def situations(n: int, seed: int) -> list[str]:
    """Write `n` different texts about a place and of no value: a topic's line and a filler.

    The topics take turns. Raises ValueError where there are not so many.
    """
    rng, language = np.random.default_rng((seed, 9)), planted_language()
    about = []
    for turn in range(max(map(len, language.topics.values()))):
        about += [lines[turn] for lines in language.topics.values()]
    if n > (most := len(about) * len(language.fillers)):
        raise ValueError(f"The organism has {most} situations, {n} were asked for.")
    fillers = [rng.permutation(language.fillers) for _ in about]
    return [f"{about[k % len(about)]} {fillers[k % len(about)][k // len(about)]}" for k in range(n)]
