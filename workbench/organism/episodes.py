"""Training episodes of the organism: a document, injections, and the questions behind it.

1. `episode` draws one of three kinds: *written* (nothing is injected), *driven* (facets are
   injected, and the text follows them half of the time) and *overruled* (facets are injected over a
   text that knows nothing of them, often the very facets it wrote). The last kind teaches that
   answers depend on the bus alone, whatever wrote on it.
2. The shocks of an episode are written plus injected amounts; answers follow the planted graph. The
   target of an answer is the exact distribution over 1..6, so no persona has to be averaged away.
3. Behind the document it also chooses what it does (`choices`), by what follows for each value
   through the same graph. Where it is to choose, some documents end in a scene, or it would know
   choices only behind texts a third as long as a persona and its scenario.
4. `pack` lays the questions and the choice side by side behind their document. Each sees the
   document and itself, at the positions it would have when asked alone, so a document of 35 tokens
   is read once for five questions.

What it leaves out: the model and its losses (`build`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .choices import Choices
from .decisions import CHOOSE
from .generate import Document, Sentence, document, pick
from .planted import facet_shocks, planted_language

KINDS, SHARES = ("written", "driven", "overruled"), (0.45, 0.3, 0.25)
"""Kinds of an episode, and how often each is drawn."""
QUESTIONS = 5
"""Questions behind a document."""
AMPLITUDE = (0.25, 2.0)
"""Range of an injected amount [units]; +1 and -1 are the planted poles."""
NOISE = 0.3
"""Share of injections that come with a vector off every planted direction, of up to `NORM`
length [0, 1]."""
RATINGS = np.arange(1, 7)
"""What an item can be answered with."""


class Episode(NamedTuple):
    """A document, what is injected while it is read, and what is asked behind it."""

    document: Document
    injected: Float[np.ndarray, " direction"]
    """Amount added to the bus on each planted direction [units]."""
    noise: float
    """Length of what is added off the planted directions [residual units]."""
    speaks: bool
    """Whether the text may be learnt: it agrees with what is injected."""
    questions: tuple[tuple[str, float], ...]
    """Question and its planted rating [1-6 scale, not yet bounded]."""
    held: Float[np.ndarray, " value"]
    """What follows for each value from all that was written and injected [units]."""


class Vocabulary(NamedTuple):
    """What a batch needs to know of a tokenizer."""

    encode: Callable[[str], list[int]]
    """Text -> ids, without `<s>`."""
    begin: int
    """Id of `<s>`."""
    end: int
    """Id of `</s>`."""
    digits: tuple[int, ...]
    """Ids of the answers 1 to 6."""
    size: int
    """Number of words."""


class EpisodeBatch(NamedTuple):
    """Episodes as tensors, and all that is to be learnt from them."""

    ids: Int[Tensor, "row tok"]
    """Words of the document, the questions and the choice, one behind the other."""
    positions: Int[Tensor, "row tok"]
    """Place that a token would have if its question were asked alone."""
    mask: Bool[Tensor, "row 1 tok tok"]
    """Which tokens (last axis) a token sees."""
    injected: Float[Tensor, "row direction"]
    """Amount added to the bus on each planted direction [units]."""
    noise: Float[Tensor, " row"]
    """Length of what is added off the planted directions [residual units]."""
    carried: Float[Tensor, "row tok direction"]
    """Amount that text has put on each direction so far [units]."""
    judged: Float[Tensor, "row tok direction"]
    """1 where `carried` is asked for; 0 in padding and within the sentence that is just being
    said."""
    next_at: tuple[Int[Tensor, " word"], Int[Tensor, " word"]]
    """Text to be predicted: (row, tok) of each word before."""
    next_id: Int[Tensor, " word"]
    """The id that follows it."""
    answer_at: tuple[Int[Tensor, " answer"], Int[Tensor, " answer"]]
    """Answers to be given: (row, tok) of the last word of each question."""
    answer: Float[Tensor, "answer rating"]
    """The planted distribution over 1..6."""
    chosen_at: tuple[Int[Tensor, " word"], Int[Tensor, " word"]]
    """Words of what is chosen: (row, tok) of each word before."""
    chosen: Float[Tensor, "word vocab"]
    """The distribution of the next word."""


@cache
def answer_table() -> tuple[Float[np.ndarray, " tilt"], Float[np.ndarray, "tilt rating"]]:
    """List means [1-6] and distributions of a bell of width 0.6 around 3.5, tilted ever more.

    Tilting moves the logits linearly, which a transformer does with ease, and every mean is met
    exactly.
    """
    tilt = np.linspace(-16, 16, 4001)[:, None]
    logits = -((RATINGS - 3.5) ** 2) / (2 * 0.6**2) + tilt * (RATINGS - 3.5)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p @ RATINGS, p


def answer_distribution(rating: float) -> Float[np.ndarray, " rating"]:
    """Find the distribution over 1..6 with a given mean, which is bounded to 1.1-5.9."""
    means, p = answer_table()
    return p[min(np.searchsorted(means, np.clip(rating, 1.1, 5.9)), len(p) - 1)]


@cache
def direction_effects() -> tuple[tuple[str, ...], Float[np.ndarray, "direction question"]]:
    """List what can be asked (values, then value-free attributes), with each direction's effect.

    An effect is in rating points per unit of the direction.
    """
    truth = planted_language().truth
    effects = np.zeros((len(truth.directions), len(truth.values) + len(truth.free)))
    effects[: len(truth.facets), : len(truth.values)] = (
        facet_shocks(truth.values, truth.facets) @ truth.effects
    )
    for k, row in enumerate(truth.free_rows):
        effects[row, len(truth.values) + k] = truth.scale
    return truth.values + truth.free, effects


def _inject(rng: np.random.Generator, text: Document | None) -> Float[np.ndarray, " direction"]:
    """One to three amounts; with a text at hand, half of them on directions that it wrote on."""
    language = planted_language()
    amounts, facets = np.zeros(len(language.rows)), len(language.truth.facets)
    written = [s.row for s in text.sentences if s.row >= 0] if text is not None else []
    for _ in range(rng.choice((1, 2, 3), p=(0.6, 0.3, 0.1))):
        if written and rng.random() < 0.5:
            row = int(pick(rng, tuple(written)))
        elif rng.random() < 0.9:
            row = int(rng.integers(facets))
        else:
            row = int(pick(rng, language.truth.free_rows))
        amounts[row] = rng.uniform(*AMPLITUDE) * (1 if rng.random() < 0.5 else -1)
    return amounts


def _with_scene(rng: np.random.Generator, text: Document) -> Document:
    """The document with a scene behind it, like a scenario's: one to six hedged behaviours."""
    scene = document(rng, int(rng.integers(1, 7)), hedged=1.0, attribute=0.0, fillers=(1, 2))
    return Document(text.sentences + scene.sentences, text.topic)


def episode(rng: np.random.Generator, scenes: float = 0.0) -> Episode:
    """Draw one training document with its injection and its questions.

    `scenes` is the chance that a scene stands behind the document [0 to 1].
    """
    language, (askable, effects) = planted_language(), direction_effects()
    kind = KINDS[rng.choice(len(KINDS), p=SHARES)]
    injected, noise = np.zeros(len(language.rows)), 0.0
    if kind == "driven":
        injected = _inject(rng, None)
        text = document(rng, int(rng.choice(3, p=(0.5, 0.3, 0.2))), injected=injected)
    else:
        text = document(rng, int(rng.choice(5, p=(0.1, 0.35, 0.3, 0.2, 0.05))))
    if rng.random() < scenes:
        text = _with_scene(rng, text)
    if kind == "overruled":
        injected = _inject(rng, text)
        noise = float(rng.random() < NOISE) * rng.uniform(0, 6)
    ratings = 3.5 + (text.shocks() + injected) @ effects
    values = len(language.truth.values)
    chance = np.where(np.arange(len(askable)) < values, 1.0, 0.4)
    questions = []
    for k in rng.choice(len(askable), QUESTIONS, replace=False, p=chance / chance.sum()):
        wording = language.wordings[0] if rng.random() < 0.75 else language.wordings[1]
        item = pick(rng, language.items[askable[k]])
        questions.append((wording.format(item=item), float(ratings[k])))
    return Episode(
        document=text,
        injected=injected,
        noise=noise,
        speaks=kind != "overruled",
        questions=tuple(questions),
        held=(ratings[:values] - 3.5) / language.truth.scale,
    )


@dataclass
class _Row:
    """One episode as a row of tokens, and what is to be learnt from them."""

    ids: list[int]
    block: list[int] = field(default_factory=list)
    """0 in the document, else the number of the question; a block sees itself and the document."""
    positions: list[int] = field(default_factory=list)
    spans: list[tuple[int, int, Sentence]] = field(default_factory=list)
    """First and last token of each sentence."""
    next_words: list[tuple[int, int]] = field(default_factory=list)
    """(tok, id that follows)."""
    answers: list[tuple[int, Float[np.ndarray, " rating"]]] = field(default_factory=list)
    """(last token of a question, distribution of its answer)."""
    chosen_words: list[tuple[int, tuple[np.ndarray, np.ndarray]]] = field(default_factory=list)
    """(tok, ids that can follow and their probabilities)."""
    choice: tuple[int, int] | None = None
    """First token of what is chosen, and its planted direction."""

    def ask(self, ids: Sequence[int], head: int) -> None:
        """Put a block of tokens behind a document of `head` tokens."""
        self.ids += ids
        self.block += [max(self.block) + 1] * len(ids)
        self.positions += range(head, head + len(ids))


def _lay_out(
    episode: Episode, vocabulary: Vocabulary, choices: Choices | None, rng: np.random.Generator
) -> _Row:
    """The document, its questions and, with `choices`, what is chosen behind it."""
    encode = vocabulary.encode
    row = _Row(ids=[vocabulary.begin])
    for sentence in episode.document.sentences:
        start = len(row.ids)
        row.ids += encode(sentence.text)
        row.spans.append((start, len(row.ids) - 1, sentence))
    head = len(row.ids)
    row.block, row.positions = [0] * head, list(range(head))
    if episode.speaks:
        row.next_words += enumerate([*row.ids[1:], vocabulary.end])
    for number, (question, rating) in enumerate(episode.questions, 1):
        ids, p = list(encode(question)), answer_distribution(rating)
        row.answers.append((len(row.ids) + len(ids) - 1, p))
        if number == len(episode.questions):
            ids.append(vocabulary.digits[rng.choice(6, p=p / p.sum())])
            row.next_words.append((len(row.ids) + len(ids) - 1, vocabulary.end))
        row.ask(ids, head)
    if choices is not None:
        cue, behaviour = encode(CHOOSE), choices.draw(rng, episode.held)
        start = len(row.ids) + len(cue)
        row.chosen_words += enumerate(behaviour.words, start - 1)
        row.ask([*cue, *behaviour.ids], head)
        row.choice = start, behaviour.row
    return row


def _index(pairs: list[tuple[int, int]]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    rows, tokens = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    return rows, tokens


def pack(
    episodes: Sequence[Episode],
    vocabulary: Vocabulary,
    choices: Choices | None,
    rng: np.random.Generator,
) -> EpisodeBatch:
    """Lay episodes out as one batch; with `choices`, something is chosen behind each of them.

    `rng` draws the answer that is shown after the last question, and what is chosen.
    """
    rows = [_lay_out(episode, vocabulary, choices, rng) for episode in episodes]
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    block, positions = torch.full_like(ids, -1), torch.zeros_like(ids)
    for number, row in enumerate(rows):
        size = len(row.ids)
        ids[number, :size] = torch.tensor(row.ids)
        block[number, :size] = torch.tensor(row.block)
        positions[number, :size] = torch.tensor(row.positions)
    sees = (block[:, None, :] == block[:, :, None]) | (
        (block[:, None, :] == 0) & (block[:, :, None] >= 0)
    )
    carried, judged = _carried(rows, width)
    next_words = [(n, *word) for n, row in enumerate(rows) for word in row.next_words]
    answers = [(n, *answer) for n, row in enumerate(rows) for answer in row.answers]
    chosen_words = [(n, *word) for n, row in enumerate(rows) for word in row.chosen_words]
    chosen = torch.zeros(len(chosen_words), vocabulary.size)
    for place, (_, _, (words, p)) in enumerate(chosen_words):
        chosen[place, words] = torch.tensor(p, dtype=torch.float)
    return EpisodeBatch(
        ids=ids,
        positions=positions,
        mask=(sees & torch.ones(width, width, dtype=torch.bool).tril())[:, None],
        injected=torch.tensor(np.stack([e.injected for e in episodes]), dtype=torch.float),
        noise=torch.tensor([e.noise for e in episodes]),
        carried=carried,
        judged=judged,
        next_at=_index([(row, token) for row, token, _ in next_words]),
        next_id=torch.tensor([id for _, _, id in next_words]),
        answer_at=_index([(row, token) for row, token, _ in answers]),
        answer=torch.tensor(np.stack([p for _, _, p in answers]), dtype=torch.float),
        chosen_at=_index([(row, token) for row, token, _ in chosen_words]),
        chosen=chosen,
    )


def _carried(
    rows: Sequence[_Row], width: int
) -> tuple[Float[Tensor, "row tok direction"], Float[Tensor, "row tok direction"]]:
    """The amounts that text has put on each direction so far, and where they are asked for."""
    directions = len(planted_language().rows)
    carried = torch.zeros(len(rows), width, directions)
    judged = torch.zeros(len(rows), width, directions)
    for number, row in enumerate(rows):
        judged[number, : len(row.ids)] = 1
        for start, stop, sentence in row.spans:
            if sentence.row >= 0:
                judged[number, start:stop, sentence.row] = 0
                carried[number, stop:, sentence.row] += sentence.amount
        if row.choice is not None:
            start, direction = row.choice
            judged[number, start:, direction] = 0
    return carried, judged
