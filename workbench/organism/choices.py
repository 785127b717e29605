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

from .planted import plan

CHOICE = 0.7
"""Log odds of a behaviour per unit of its value [nats per unit]: low enough that two units do
not yet settle a choice."""


class Chosen(NamedTuple):
    ids: tuple[int, ...]
    """Words of the behaviour."""
    row: int
    """Planted direction that it carries."""
    words: tuple[tuple[Int[np.ndarray, " word"], Float[np.ndarray, " word"]], ...]
    """Before each of its words, and after the last: the words that can follow and their
    probabilities."""


class Choices:
    """All behaviours as token ids, and which of them go on in which way from each beginning."""

    def __init__(self, encode: Callable[[str], list[int]], end: int) -> None:
        truth = plan().truth
        told = [
            (row, sign, text)
            for row, one in enumerate(plan().rows)
            if one.owner in truth.values
            for sign, texts in ((1, one.plus), (-1, one.minus))
            for text in texts
        ]
        self._ids = [(*encode(text), end) for *_, text in told]
        self._row = [row for row, *_ in told]
        self._value = np.array([truth.values.index(plan().rows[row].owner) for row, *_ in told])
        self._sign = np.array([sign for _, sign, _ in told])
        same = self._value * 2 + (self._sign > 0)
        self._log_share = -np.log(np.bincount(same))[same]
        goes_on: dict[tuple[int, ...], list[int]] = {}
        for number, ids in enumerate(self._ids):
            for at in range(len(ids)):
                goes_on.setdefault(ids[:at], []).append(number)
        self._goes_on = {}
        for begin, members in goes_on.items():
            words, which = np.unique(
                [self._ids[one][len(begin)] for one in members], return_inverse=True
            )
            self._goes_on[begin] = (np.array(members), words, which)

    def odds(self, held: Float[np.ndarray, " value"]) -> Float[np.ndarray, " sentence"]:
        """Probability of every behaviour [0 to 1]."""
        logits = CHOICE * self._sign * held[self._value] + self._log_share
        p = np.exp(logits - logits.max())
        return p / p.sum()

    def draw(self, rng: np.random.Generator, held: Float[np.ndarray, " value"]) -> Chosen:
        """One choice of who holds each value so much [units], with the distribution of each of
        its words.
        """
        p = self.odds(held)
        number = int(rng.choice(len(p), p=p))
        ids, words = self._ids[number], []
        for at in range(len(ids)):
            members, follows, which = self._goes_on[ids[:at]]
            share = np.bincount(which, p[members])
            words.append((follows, share / share.sum()))
        return Chosen(ids[:-1], self._row[number], tuple(words))
