"""Training episodes of the organism: a document, what is injected meanwhile, and the questions
asked after it.

1. `episode` draws one of three kinds: *written* (nothing is injected), *driven* (facets are
   injected, and the text follows them half of the time) and *overruled* (facets are injected over a
   text that knows nothing of them, often the very facets it wrote). The last teaches that answers
   depend on the bus alone, whoever wrote on it.
2. The shocks of an episode are written plus injected amounts; answers follow the planted graph. The
   target of an answer is the exact distribution over 1..6, so no persona has to be averaged away.
3. Behind the document it also chooses what it does (`choices`), by what follows for each value
   through the same graph. Where it is to choose, some documents end in a scene, or it would know
   choices only behind texts a third as long as a persona and its scenario.
4. `pack` lays the questions and the choice side by side behind their document, each seeing the
   document and itself, at the positions it would have when asked alone. A document of 35 tokens is
   so read once for five questions.

What it leaves out: the model and its losses (`build`).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .choices import Choices
from .decisions import CHOOSE
from .generate import Document, document, pick
from .planted import facet_shocks, plan

KINDS, SHARES = ("written", "driven", "overruled"), (0.45, 0.3, 0.25)
ASKED = 5
"""Questions behind a document."""
AMPLITUDE = (0.25, 2.0)
"""Range of an injected amount [units]; +1 and -1 are the planted poles."""
NOISE = 0.3
"""Share of injections that come with a vector off every planted direction, of up to `NORM`
length [0, 1]."""
RATINGS = np.arange(1, 7)


class Episode(NamedTuple):
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


class Batch(NamedTuple):
    ids: Int[Tensor, "row tok"]
    positions: Int[Tensor, "row tok"]
    mask: Bool[Tensor, "row 1 tok tok"]
    """Which tokens (last axis) a token sees."""
    injected: Float[Tensor, "row direction"]
    noise: Float[Tensor, " row"]
    carried: Float[Tensor, "row tok direction"]
    """Amount that text has put on each direction so far [units]."""
    judged: Float[Tensor, "row tok direction"]
    """1 where `carried` is asked for; 0 in padding and within the sentence that is just being
    said."""
    next_at: tuple[Int[Tensor, " word"], Int[Tensor, " word"]]
    next_id: Int[Tensor, " word"]
    """Text to be predicted: (row, tok) and the id that follows."""
    answer_at: tuple[Int[Tensor, " answer"], Int[Tensor, " answer"]]
    answer: Float[Tensor, "answer rating"]
    """Answers to be given: (row, tok) and the distribution over 1..6."""
    chosen_at: tuple[Int[Tensor, " word"], Int[Tensor, " word"]]
    chosen: Float[Tensor, "word vocab"]
    """Words of what is chosen: (row, tok) and the distribution of the next one."""


@cache
def answer_table() -> tuple[Float[np.ndarray, " tilt"], Float[np.ndarray, "tilt rating"]]:
    """Means [1-6] and distributions of a bell of width 0.6 around 3.5, tilted ever more to one
    side.

    Tilting moves the logits linearly, which a transformer does with ease, and every mean is met
    exactly.
    """
    tilt = np.linspace(-16, 16, 4001)[:, None]
    logits = -((RATINGS - 3.5) ** 2) / (2 * 0.6**2) + tilt * (RATINGS - 3.5)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p @ RATINGS, p


def answer_distribution(rating: float) -> Float[np.ndarray, " rating"]:
    """Distribution over 1..6 with the given mean, bounded to 1.1-5.9."""
    means, p = answer_table()
    return p[min(np.searchsorted(means, np.clip(rating, 1.1, 5.9)), len(p) - 1)]


@cache
def direction_effects() -> tuple[tuple[str, ...], Float[np.ndarray, "direction question"]]:
    """What can be asked (values, then value-free attributes) and the effect of each direction on
    it [points].
    """
    truth = plan().truth
    effects = np.zeros((len(truth.directions), len(truth.values) + len(truth.free)))
    effects[: len(truth.facets), : len(truth.values)] = (
        facet_shocks(truth.values, truth.facets) @ truth.effects
    )
    for k, row in enumerate(truth.free_rows):
        effects[row, len(truth.values) + k] = truth.scale
    return truth.values + truth.free, effects


def _inject(rng: np.random.Generator, said: Document | None) -> Float[np.ndarray, " direction"]:
    """One to three amounts; with a text at hand, half of them on directions that it wrote on."""
    made = plan()
    amounts, facets = np.zeros(len(made.rows)), len(made.truth.facets)
    written = [s.row for s in said.sentences if s.row >= 0] if said is not None else []
    for _ in range(rng.choice((1, 2, 3), p=(0.6, 0.3, 0.1))):
        if written and rng.random() < 0.5:
            row = int(pick(rng, tuple(written)))
        else:
            row = int(
                rng.integers(facets) if rng.random() < 0.9 else pick(rng, made.truth.free_rows)
            )
        amounts[row] = rng.uniform(*AMPLITUDE) * (1 if rng.random() < 0.5 else -1)
    return amounts


def _scene(rng: np.random.Generator, said: Document) -> Document:
    """The document with what a scenario says behind it: one to six hedged behaviours among
    fillers.
    """
    scene = document(rng, int(rng.integers(1, 7)), hedged=1.0, attribute=0.0, fillers=(1, 2))
    return Document(said.sentences + scene.sentences, said.topic)


def episode(rng: np.random.Generator, scenes: float = 0.0) -> Episode:
    """One training document with its injection and its questions; `scenes` is the chance that a
    scene stands behind it [0 to 1].
    """
    made, (askable, effects) = plan(), direction_effects()
    kind = KINDS[rng.choice(len(KINDS), p=SHARES)]
    injected, noise = np.zeros(len(made.rows)), 0.0
    if kind == "driven":
        injected = _inject(rng, None)
        said = document(rng, int(rng.choice(3, p=(0.5, 0.3, 0.2))), injected=injected)
    else:
        said = document(rng, int(rng.choice(5, p=(0.1, 0.35, 0.3, 0.2, 0.05))))
    if rng.random() < scenes:
        said = _scene(rng, said)
    if kind == "overruled":
        injected = _inject(rng, said)
        noise = float(rng.random() < NOISE) * rng.uniform(0, 6)
    ratings = 3.5 + (said.shocks() + injected) @ effects
    chance = np.where(np.arange(len(askable)) < len(made.truth.values), 1.0, 0.4)
    questions = []
    for k in rng.choice(len(askable), ASKED, replace=False, p=chance / chance.sum()):
        wording = made.wordings[0] if rng.random() < 0.75 else made.wordings[1]
        questions.append(
            (wording.format(item=pick(rng, made.items[askable[k]])), float(ratings[k]))
        )
    held = (ratings[: len(made.truth.values)] - 3.5) / made.truth.scale
    return Episode(
        document=said,
        injected=injected,
        noise=noise,
        speaks=kind != "overruled",
        questions=tuple(questions),
        held=held,
    )


def _index(pairs: list[tuple[int, int]]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    rows, tokens = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    return rows, tokens


def pack(
    episodes: list[Episode],
    encode,
    begin: int,
    end: int,
    digits: tuple[int, ...],
    choices: Choices | None,
    vocab: int,
    rng: np.random.Generator,
) -> Batch:
    """Lays episodes out as one batch. `encode` maps a text to ids without `<s>`; `begin` and `end`
    are `<s>`, `</s>`; `rng` draws the answer that is shown after the last question, and what is
    chosen, if anything is.
    """
    laid, next_at, next_id, answer_at, answers, chosen_at, follows = [], [], [], [], [], [], []
    for row, (said, _, _, speaks, questions, held) in enumerate(episodes):
        ids, spans = [begin], []
        for sentence in said.sentences:
            start = len(ids)
            ids += encode(sentence.text)
            spans.append((start, len(ids) - 1, sentence))
        head = len(ids)
        if speaks:
            next_at += [(row, t) for t in range(head)]
            next_id += [*ids[1:], end]
        block, position = [0] * head, list(range(head))
        for k, (question, rating) in enumerate(questions, 1):
            asked, p = list(encode(question)), answer_distribution(rating)
            answer_at.append((row, len(ids) + len(asked) - 1))
            answers.append(p)
            if k == len(questions):
                asked.append(digits[rng.choice(6, p=p / p.sum())])
                next_at.append((row, len(ids) + len(asked) - 1))
                next_id.append(end)
            ids += asked
            block += [k] * len(asked)
            position += range(head, head + len(asked))
        choosing = None
        if choices is not None:
            cue, choice = encode(CHOOSE), choices.draw(rng, held)
            start = len(ids) + len(cue)
            chosen_at += [(row, start - 1 + k) for k in range(len(choice.words))]
            follows += choice.words
            asked = [*cue, *choice.ids]
            ids += asked
            block += [len(questions) + 1] * len(asked)
            position += range(head, head + len(asked))
            choosing = start, choice.row
        laid.append((ids, block, position, spans, choosing))
    width, rows = max(len(ids) for ids, *_ in laid), len(plan().rows)
    ids = torch.zeros(len(laid), width, dtype=torch.long)
    block, positions = torch.full_like(ids, -1), torch.zeros_like(ids)
    carried, judged = torch.zeros(len(laid), width, rows), torch.zeros(len(laid), width, rows)
    for row, (one, blocks, places, spans, choosing) in enumerate(laid):
        size = len(one)
        ids[row, :size], block[row, :size] = torch.tensor(one), torch.tensor(blocks)
        positions[row, :size], judged[row, :size] = torch.tensor(places), 1
        for start, stop, sentence in spans:
            if sentence.row >= 0:
                judged[row, start:stop, sentence.row] = 0
                carried[row, stop:, sentence.row] += sentence.amount
        if choosing is not None:
            start, direction = choosing
            judged[row, start:, direction] = 0
    sees = (block[:, None, :] == block[:, :, None]) | (
        (block[:, None, :] == 0) & (block[:, :, None] >= 0)
    )
    mask = (sees & torch.ones(width, width, dtype=torch.bool).tril())[:, None]
    chosen = torch.zeros(len(follows), vocab)
    for place, (words, p) in enumerate(follows):
        chosen[place, words] = torch.tensor(p, dtype=torch.float)
    return Batch(
        ids=ids,
        positions=positions,
        mask=mask,
        injected=torch.tensor(np.stack([e.injected for e in episodes]), dtype=torch.float),
        noise=torch.tensor([e.noise for e in episodes]),
        carried=carried,
        judged=judged,
        next_at=_index(next_at),
        next_id=torch.tensor(next_id),
        answer_at=_index(answer_at),
        answer=torch.tensor(np.stack(answers), dtype=torch.float),
        chosen_at=_index(chosen_at),
        chosen=chosen,
    )
