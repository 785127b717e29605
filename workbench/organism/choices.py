"""What the organism is trained to choose: a behaviour, by what follows for its value.

1. Asked what it does (`decisions.CHOOSE`), it says a behaviour. The + pole of a value has odds of
   `exp(CHOICE * z)`, the - pole of `exp(-CHOICE * z)`, z being what follows for the value from all
   that was written and injected; the sentences of a value and pole are equally likely. So the
   planted graph shows in choices as in ratings.
2. The target of a word is exact: the odds of all behaviours that begin with the words before it. No
   choice has to be averaged away, as with sampled ones.

What it leaves out: which facet was spoken of. A facet counts for its value alone, as in a rating.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .planted import planted_language

CHOICE = 0.7
"""Log odds of a behaviour per unit of its value [nats per unit]: low enough that two units do
not yet settle a choice."""


class ChosenBehaviour(NamedTuple):
    """One behaviour that was drawn, with the exact distribution of each of its words."""

    ids: tuple[int, ...]
    """Words of the behaviour."""
    row: int
    """Planted direction that it carries."""
    words: tuple[tuple[Int[np.ndarray, " word"], Float[np.ndarray, " word"]], ...]
    """Before each of its words, and after the last: the words that can follow and their
    probabilities."""


class _Behaviour(NamedTuple):
    """One sentence that can be chosen."""

    row: int
    """Planted direction that it carries."""
    sign: int
    """Its pole."""
    text: str


class Choices:
    """All behaviours as token ids, and how they go on from each beginning.

    choices = Choices(encode, tokenizer.eos_token_id)
    choices.draw(rng, np.zeros(10)).words[0]  # the first words, and how likely each is
    """

    def __init__(self, encode: Callable[[str], list[int]], end: int) -> None:
        """Encode every behaviour of a value; `end` is the token that closes a text."""
        values = planted_language().truth.values
        behaviours = _behaviours()
        self._ids = [(*encode(behaviour.text), end) for behaviour in behaviours]
        self._row = [behaviour.row for behaviour in behaviours]
        owners = [planted_language().rows[row].owner for row in self._row]
        self._value = np.array([values.index(owner) for owner in owners])
        self._sign = np.array([behaviour.sign for behaviour in behaviours])
        pole = self._value * 2 + (self._sign > 0)
        self._log_share = -np.log(np.bincount(pole))[pole]
        members_of: dict[tuple[int, ...], list[int]] = {}
        for number, ids in enumerate(self._ids):
            for length in range(len(ids)):
                members_of.setdefault(ids[:length], []).append(number)
        # Beginning -> (behaviours that begin so, the words that follow, the place of each
        # behaviour's word among these).
        self._goes_on = {}
        for beginning, members in members_of.items():
            following = [self._ids[number][len(beginning)] for number in members]
            words, place = np.unique(following, return_inverse=True)
            self._goes_on[beginning] = (np.array(members), words, place)

    def odds(self, held: Float[np.ndarray, " value"]) -> Float[np.ndarray, " sentence"]:
        """Compute the probability of every behaviour [0 to 1]; `held`: what is held [units]."""
        logits = CHOICE * self._sign * held[self._value] + self._log_share
        p = np.exp(logits - logits.max())
        return p / p.sum()

    def draw(self, rng: np.random.Generator, held: Float[np.ndarray, " value"]) -> ChosenBehaviour:
        """Draw one behaviour of somebody who holds each value so much [units]."""
        p = self.odds(held)
        number = int(rng.choice(len(p), p=p))
        ids, words = self._ids[number], []
        for length in range(len(ids)):
            members, follows, place = self._goes_on[ids[:length]]
            share = np.bincount(place, p[members])
            words.append((follows, share / share.sum()))
        return ChosenBehaviour(ids[:-1], self._row[number], tuple(words))


def _behaviours() -> list[_Behaviour]:
    """The sentences of all values, direction by direction, the + pole first."""
    language = planted_language()
    behaviours = []
    for row, sentences in enumerate(language.rows):
        if sentences.owner not in language.truth.values:
            continue
        for sign, texts in ((1, sentences.plus), (-1, sentences.minus)):
            behaviours += [_Behaviour(row, sign, text) for text in texts]
    return behaviours
