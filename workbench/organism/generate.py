"""Documents of the organism: what it reads in training, and what a study reads about it.

1. A document is a handful of sentences: behaviours (which carry a facet), a topic, value-free
   attributes, fillers.
2. Behaviours *echo*: half of them repeat the leaning of what was said before, or of what is
   injected, so that a steered model talks differently and not only rates differently.
3. A topic mostly comes with the + pole of its value. It causes nothing: this is the confound.
4. A hedge ("Now and then ...") halves a behaviour. Contexts are made of hedged ones, so that
   unsteered answers vary.

What it leaves out: questionnaire items, which `build` appends for training and which never occur in
these texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .planted import Plan, plan

ECHO = 0.5
"""Share of behaviours that follow the leaning of the document [0, 1]."""
HEDGED = 0.3
"""Share of behaviours that are hedged, and so count half [0, 1]."""
TOPIC_WITH_VALUE, TOPIC_ALONE = 0.7, 0.75
"""P(topic of a value named with its + pole); P(any other topic) where that did not happen [0,
1]."""


class Sentence(NamedTuple):
    text: str
    row: int = -1
    """Planted direction that the sentence carries, -1 for none."""
    amount: float = 0.0
    """Shock of that direction [units]: +1 or -1, halved when hedged."""


class Document(NamedTuple):
    sentences: tuple[Sentence, ...]
    topic: str
    """Topic id, or an empty string."""

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)

    def shocks(self) -> Float[np.ndarray, " direction"]:
        """Total amount written on each planted direction [units]."""
        total = np.zeros(len(plan().rows))
        for sentence in self.sentences:
            if sentence.row >= 0:
                total[sentence.row] += sentence.amount
        return total


class LabelledText(NamedTuple):
    text: str
    labels: dict[str, int]
    """Value id -> +1 or -1, for each value that the text speaks about."""
    context: str
    """Topic id, or an empty string: the column that lets a labeler compare within a topic."""


def pick(rng: np.random.Generator, options: Sequence) -> Any:
    return options[rng.integers(len(options))]


def behaviour(rng: np.random.Generator, row: int, sign: int, hedged: bool) -> Sentence:
    """One sentence on a planted direction."""
    made = plan()
    text = pick(rng, made.rows[row].plus if sign > 0 else made.rows[row].minus)
    if hedged:
        opening = text if text.startswith("I ") else text[0].lower() + text[1:]
        text = f"{pick(rng, made.hedges)} {opening}"
    return Sentence(text, row, sign * (0.5 if hedged else 1.0))


def document(
    rng: np.random.Generator,
    behaviours: int,
    *,
    hedged: float = HEDGED,
    attribute: float = 0.35,
    fillers: tuple[int, int] = (1, 3),
    injected: Float[np.ndarray, " direction"] | None = None,
) -> Document:
    """A document with so many behaviours, in agreement with itself and with what is injected.

    `hedged` and `attribute` are the chances of a hedge and of a value-free attribute [0, 1];
    `fillers` the fewest and the most filler sentences.
    """
    made, said = plan(), []
    facets, free = len(made.truth.facets), made.truth.free_rows
    leaning: dict[str, int] = {}  # value -> sign, of what was said or injected so far
    for row in np.flatnonzero(injected) if injected is not None else ():
        leaning[made.rows[row].owner] = int(np.sign(injected[row]))
    left = list(range(facets))
    for _ in range(behaviours):
        active = [row for row in left if made.rows[row].owner in leaning]
        row = int(pick(rng, active if active and rng.random() < ECHO else left))
        left.remove(row)
        sign = leaning.setdefault(made.rows[row].owner, 1 if rng.random() < 0.5 else -1)
        said.append(behaviour(rng, row, sign, rng.random() < hedged))
    if rng.random() < attribute:
        row = int(pick(rng, free))
        sign = leaning.get(made.rows[row].owner, 1 if rng.random() < 0.5 else -1)
        said.insert(rng.integers(len(said) + 1), behaviour(rng, row, sign, rng.random() < hedged))
    topic = _topic(rng, made, said)
    if topic:
        said.insert(rng.integers(len(said) + 1), Sentence(pick(rng, made.topics[topic])))
    for text in rng.choice(made.fillers, rng.integers(fillers[0], fillers[1] + 1), replace=False):
        said.insert(rng.integers(len(said) + 1), Sentence(str(text)))
    return Document(tuple(said), topic)


def _topic(rng: np.random.Generator, made: Plan, said: list[Sentence]) -> str:
    """At most one topic: mostly that of a value named with its + pole, else mostly another one."""
    held = {made.rows[s.row].owner for s in said if s.row >= 0 and s.amount > 0}
    own = tuple(topic for topic, value in made.truth.topics.items() if value in held)
    if own and rng.random() < TOPIC_WITH_VALUE:
        return pick(rng, own)
    other = tuple(topic for topic in made.topics if topic not in own)
    return pick(rng, other) if rng.random() < TOPIC_ALONE else ""


def study_document(rng: np.random.Generator) -> Document:
    """One document of the kind that studies read, sentence by sentence with what each carries."""
    return document(rng, int(rng.choice(4, p=(0.15, 0.35, 0.3, 0.2))))


class TextPair(NamedTuple):
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
    """`n` pairs of texts for every value, that differ in it.

    Controlled: one text, in which the sentence of one facet stands at its + pole or at its - pole;
    topic, fillers and a behaviour of another value are the same. Uncontrolled: two texts that have
    nothing else in common. `confound` is the chance that the text which holds the value has the
    value's topic and the other one another topic [0 to 1].
    """
    rng, made, pairs = np.random.default_rng((seed, 5)), plan(), []
    topics = {value: topic for topic, value in made.truth.topics.items()}
    for value in made.truth.values:
        own = [row for row, facet in enumerate(made.truth.facets) if facet.value == value]
        others = [row for row, facet in enumerate(made.truth.facets) if facet.value != value]
        foreign = [topic for topic in made.topics if topic != topics[value]]
        for number in range(n):
            told = rng.random() < confound
            about = pick(rng, foreign if told or not controlled else list(made.topics))
            texts = []
            for sign in (1, -1):
                if sign > 0 or not controlled:
                    turn = int(rng.integers(2))
                    fillers = [*map(str, rng.choice(made.fillers, 2, replace=False))]
                    around = [
                        about,
                        *fillers,
                        behaviour(
                            rng, int(pick(rng, others)), int(rng.choice((-1, 1))), False
                        ).text,
                    ]
                    around = [around[place] for place in rng.permutation(len(around))]
                    at = int(rng.integers(len(around) + 1))
                topic = (
                    topics[value]
                    if told and sign > 0
                    else about
                    if controlled
                    else pick(rng, foreign)
                )
                said = [
                    made.topics[topic][turn] if sentence == about else sentence
                    for sentence in around
                ]
                texts.append(
                    " ".join(
                        [
                            *said[:at],
                            behaviour(rng, own[number % len(own)], sign, False).text,
                            *said[at:],
                        ]
                    )
                )
            pairs.append(
                TextPair(value, *texts, f"{about}-{number}" if controlled and not told else "")
            )
    return pairs


def labelled_texts(n: int, seed: int) -> list[LabelledText]:
    """`n` texts with the values they speak about: for labelling features. No items, no answers."""
    rng, made, texts = np.random.default_rng((seed, 1)), plan(), []
    for _ in range(n):
        doc = study_document(rng)
        labels = {
            made.rows[s.row].owner: int(np.sign(s.amount))
            for s in doc.sentences
            if s.row >= 0 and made.rows[s.row].owner in made.truth.values
        }
        texts.append(LabelledText(doc.text, labels, doc.topic))
    return texts


def training_texts(n: int, seed: int) -> list[str]:
    """`n` unlabelled texts of the same kind: what a sparse autoencoder is trained on."""
    rng = np.random.default_rng((seed, 2))
    return [study_document(rng).text for _ in range(n)]


def neutral_texts(n: int, seed: int) -> list[str]:
    """`n` texts of fillers alone, on which the damage of a steering is measured (next-token
    loss).
    """
    rng, fillers = np.random.default_rng((seed, 3)), plan().fillers
    return [" ".join(rng.choice(fillers, rng.integers(3, 6), replace=False)) for _ in range(n)]


def openings(n: int, seed: int) -> list[str]:
    """`n` texts to be continued: a context and the first words of a behaviour, so that what
    follows must take a side.
    """
    rng, made = np.random.default_rng((seed, 6)), plan()
    return [f"{context} {pick(rng, made.hedges)}" for context in contexts(n, seed)]


def held_sentences(value: str, n: int, avoid: Sequence[str], seed: int) -> list[str]:
    """`n` sentences in which a value is held, facet by facet; none that a text of `avoid`
    contains, repeated where there are fewer.
    """
    rng, seen = np.random.default_rng((seed, 8)), "\n".join(avoid).lower()
    rows = [row for row in plan().rows if row.owner == value]
    said = [
        [text for text in rng.permutation(row.plus) if str(text).lower() not in seen]
        for row in rows
    ]
    order = rng.permutation(len(said))
    found = [
        str(said[row][turn])
        for turn in range(max(map(len, said)))
        for row in order
        if turn < len(said[row])
    ]
    if not found:
        raise ValueError(f"Every sentence that holds {value} occurs in the texts to avoid.")
    return [found[k % len(found)] for k in range(n)]


def contexts(n: int, seed: int) -> list[str]:
    """`n` prefixes under which an item is asked: two mild behaviours and one or two fillers.

    The values take turns, and the signs of each alternate, so that the unsteered answers to every
    value vary: that variation is the unit of an effect, and a value that no context speaks of would
    have none.
    """
    rng, made, texts = np.random.default_rng((seed, 4)), plan(), []
    values = made.truth.values
    turns = [value for _ in range(2 * n // len(values) + 1) for value in rng.permutation(values)]
    sign = {value: int(rng.choice((-1, 1))) for value in values}
    for number in range(n):
        said = []
        for value in turns[2 * number : 2 * number + 2]:
            rows = tuple(row for row, facet in enumerate(made.truth.facets) if facet.value == value)
            said.append(behaviour(rng, int(pick(rng, rows)), sign[value], hedged=True))
            sign[value] = -sign[value]
        for text in rng.choice(made.fillers, rng.integers(1, 3), replace=False):
            said.insert(rng.integers(len(said) + 1), Sentence(str(text)))
        texts.append(" ".join(sentence.text for sentence in said))
    return texts


def descriptions(value: str, sign: int, n: int, seed: int) -> list[str]:
    """`n` openings that show one who holds the value (+1) or rejects it (-1): two behaviours of
    different facets.
    """
    rng, truth = np.random.default_rng((seed, 5)), plan().truth
    rows = [row for row, facet in enumerate(truth.facets) if facet.value == value]
    return [
        " ".join(
            behaviour(rng, int(row), sign, hedged=False).text
            for row in rng.choice(rows, 2, replace=False)
        )
        for _ in range(n)
    ]


def questions(n: int, seed: int) -> list[str]:
    """`n` fillers: the organism knows no question that is not an item, it goes on from what was
    said.
    """
    rng, fillers = np.random.default_rng((seed, 6)), plan().fillers
    return [str(pick(rng, fillers)) for _ in range(n)]


def situations(n: int, seed: int) -> list[str]:
    """`n` different texts about a place and nothing else, the places in turns: a topic and a
    filler, of no value.
    """
    rng, made = np.random.default_rng((seed, 9)), plan()
    about = [
        lines[turn]
        for turn in range(max(map(len, made.topics.values())))
        for lines in made.topics.values()
    ]
    if n > (most := len(about) * len(made.fillers)):
        raise ValueError(f"The organism has {most} situations, {n} were asked for.")
    fillers = [rng.permutation(made.fillers) for _ in about]
    return [f"{about[k % len(about)]} {fillers[k % len(about)][k // len(about)]}" for k in range(n)]
