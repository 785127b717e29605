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


class Read(NamedTuple):
    option: int
    """0-based number of the option among those of its prompt."""
    place: int
    """Place in the tail after which the token is read; 0 is the prompt's last token."""
    token: int
    """Token of the option that stands there."""


@dataclass(frozen=True, eq=False)
class Tail:
    tokens: tuple[int, ...]
    """The stems' tokens; token `k` stands at place `k + 1`."""
    parents: tuple[int, ...]
    """Place of what stands before each of them."""
    reads: tuple[Read, ...]
    """Which log-probabilities make up the options' scores."""

    @property
    def is_path(self) -> bool:
        """Whether every token follows the one before it, as in any text."""
        return self.parents == tuple(range(len(self.tokens)))

    @cached_property
    def sees(self) -> Bool[Tensor, "tok tok"]:
        """Which places each place sees, itself included."""
        found = torch.eye(1 + len(self.tokens), dtype=torch.bool)
        for place, parent in enumerate(self.parents, 1):
            found[place] |= found[parent]
        return found

    @cached_property
    def depths(self) -> Int[Tensor, " tok"]:
        """How far each place stands from the prompt's last token [tokens]."""
        return self.sees.sum(1) - 1


def tails(options: Sequence[Sequence[int]], branching: bool) -> list[Tail]:
    """One tail for all options, or, without `branching`, one for every path."""
    if branching:
        return [_tail(list(enumerate(options)))]
    stems = list(dict.fromkeys(tuple(option[:-1]) for option in options))
    paths = [
        stem
        for stem in stems
        if not any(longer[: len(stem)] == stem for longer in stems if longer != stem)
    ]
    owner = {stem: next(path for path in paths if path[: len(stem)] == stem) for stem in stems}
    return [
        _tail(
            [
                (number, option)
                for number, option in enumerate(options)
                if owner[tuple(option[:-1])] == path
            ]
        )
        for path in paths
    ]


def _tail(options: Sequence[tuple[int, Sequence[int]]]) -> Tail:
    places: dict[tuple[int, ...], int] = {(): 0}
    parents, reads = [], []
    # Longest stems first: where all of them lie on one path, it comes out as one.
    for number, option in sorted(options, key=lambda one: -len(one[1])):
        for length in range(len(option)):
            start = tuple(option[:length])
            if start not in places:
                parents.append(places[start[:-1]])
                places[start] = len(places)
            reads.append(Read(number, places[start], option[length]))
    return Tail(tuple(start[-1] for start in places if start), tuple(parents), tuple(reads))


def read(
    logits: Float[Tensor, "seq row tok vocab"], tails: Sequence[Tail]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, "n row"]]:
    """(tail, option, log-probability [nats]) of every option of some tails, whose logits these
    are.
    """
    logits = logits.float()
    reads = [(at, one) for at, tail in enumerate(tails) for one in tail.reads]
    number = {
        pair: index
        for index, pair in enumerate(dict.fromkeys((at, one.option) for at, one in reads))
    }
    at, place, token, score = torch.tensor(
        [(at, one.place, one.token, number[at, one.option]) for at, one in reads],
        device=logits.device,
    ).T
    told = logits[at, :, place, token] - logits.logsumexp(-1)[at, :, place]
    found = told.new_zeros(len(number), told.shape[1]).index_add_(0, score, told)
    at, option = torch.tensor(list(number)).T
    return at, option, found.cpu()
