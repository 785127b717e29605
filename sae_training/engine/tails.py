"""What follows a prompt's last token, as a tree, so that all of its answers are scored in one
forward pass.

An answer's last token is never read, the tokens before it (its stem) are. The stems of a prompt's
answers share their beginnings; they stand side by side after the last token, and each token sees
the prompt and the tokens on its own path alone. (Tree attention: Miao et al. 2024, SpecInfer,
arXiv:2305.09781.)

A model that takes no mask but its own gets each path as a tail of its own (`resume.branches`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class TokenRead(NamedTuple):
    """One log-probability that is read in a tail, a part of an option's score."""

    option: int
    """0-based number of the option among those of its prompt."""
    place: int
    """Place in the tail after which the token is read; 0 is the prompt's last token."""
    token: int
    """Token of the option that stands there."""


@dataclass(frozen=True, eq=False)
class Tail:
    """The answers after a prompt's last token as a tree, which one forward pass scores."""

    tokens: tuple[int, ...]
    """The stems' tokens; token `k` stands at place `k + 1`."""
    parents: tuple[int, ...]
    """Place of what stands before each of them."""
    reads: tuple[TokenRead, ...]
    """Which log-probabilities make up the options' scores."""

    @property
    def is_path(self) -> bool:
        """Whether every token follows the one before it, as in any text."""
        return self.parents == tuple(range(len(self.tokens)))

    @cached_property
    def sees(self) -> Bool[Tensor, "tok tok"]:
        """Which places each place sees, itself included."""
        seen = torch.eye(1 + len(self.tokens), dtype=torch.bool)
        for place, parent in enumerate(self.parents, 1):
            seen[place] |= seen[parent]
        return seen

    @cached_property
    def depths(self) -> Int[Tensor, " tok"]:
        """How far each place stands from the prompt's last token [tokens]."""
        return self.sees.sum(1) - 1


def tails(options: Sequence[Sequence[int]], branching: bool) -> list[Tail]:
    """Make one tail for all options of a prompt, or, without `branching`, one for every path.

    For example:

        tails([[11], [13, 14], [13, 15]], branching=True)  # one tail of the token 13
    """
    if branching:
        return [_tail(list(enumerate(options)))]
    stems = list(dict.fromkeys(tuple(option[:-1]) for option in options))
    paths = [
        stem
        for stem in stems
        if not any(longer[: len(stem)] == stem for longer in stems if longer != stem)
    ]
    owner = {stem: next(path for path in paths if path[: len(stem)] == stem) for stem in stems}
    made = []
    for path in paths:
        on_path = [
            (number, option)
            for number, option in enumerate(options)
            if owner[tuple(option[:-1])] == path
        ]
        made.append(_tail(on_path))
    return made


def _tail(options: Sequence[tuple[int, Sequence[int]]]) -> Tail:
    """Make the tail of some options, each with its number among those of the prompt."""
    places: dict[tuple[int, ...], int] = {(): 0}
    parents: list[int] = []
    reads: list[TokenRead] = []
    # Longest stems first: where all of them lie on one path, it comes out as one.
    for number, option in sorted(options, key=lambda numbered: -len(numbered[1])):
        for length in range(len(option)):
            start = tuple(option[:length])
            if start not in places:
                parents.append(places[start[:-1]])
                places[start] = len(places)
            reads.append(TokenRead(number, places[start], option[length]))
    return Tail(tuple(start[-1] for start in places if start), tuple(parents), tuple(reads))


def read(
    logits: Float[Tensor, "seq row tok vocab"], tails: Sequence[Tail]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, "n row"]]:
    """Read the scores of all options of some tails from their logits.

    Gives the tail and the option of each score, and the scores [nats], a column for each row.
    """
    logits = logits.float()
    reads = [(number, read) for number, tail in enumerate(tails) for read in tail.reads]
    pairs = dict.fromkeys((number, read.option) for number, read in reads)
    score_of = {pair: index for index, pair in enumerate(pairs)}
    at, place, token, score = torch.tensor(
        [(number, read.place, read.token, score_of[number, read.option]) for number, read in reads],
        device=logits.device,
    ).T
    logprobs = logits[at, :, place, token] - logits.logsumexp(-1)[at, :, place]
    scores = logprobs.new_zeros(len(score_of), logprobs.shape[1]).index_add_(0, score, logprobs)
    at, option = torch.tensor(list(score_of)).T
    return at, option, scores.cpu()
