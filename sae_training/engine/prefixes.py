"""Prompts as a tree, so that what they share is computed once.

A questionnaire asks its items under the same instruction and context: most of its tokens are
shared. `tree` finds shared beginnings by itself, on token ids and at every level (instruction,
context, item), and cuts each prompt into segments. The last token of a prompt stands apart
(`Final`): it alone needs logits.

A shared piece shorter than `SHARED` tokens is not worth a forward pass of its own and stays with
its owners.

Left out: sharing in the middle or at the end of prompts; keys and values depend on all that comes
before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

SHARED = 8
"""Shortest shared beginning that is computed apart [tokens]."""


@dataclass
class Final:
    """The last token of a prompt, the one that predicts the answers."""

    token: int
    """Last token of the prompt."""
    prompt: int
    """Index of the prompt."""
    residual: Float[Tensor, "tok d_model"] | None = None
    """Unsteered residual at the site of this token and of the answers' tokens after it, once the
    unsteered pass has been there."""


@dataclass
class Node:
    """A segment of tokens that some prompts share after the same beginning."""

    ids: Sequence[int]
    """The tokens of this segment; empty in the root alone."""
    children: list["Node"] = field(default_factory=list)
    """Segments that continue this one."""
    finals: list[Final] = field(default_factory=list)
    """Prompts whose last token follows this segment."""
    residual: Float[Tensor, "tok d_model"] | None = None
    """Unsteered residual at the site, once the unsteered pass has been there."""

    def walk(self) -> Iterator["Node"]:
        """Visit this node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def tree(prompts: Sequence[Sequence[int]]) -> Node:
    """Make the tree of some prompts: each is a path of segments and a final token.

    Prompts are token ids, at least one each.

        root = tree([[5, 6, 7], [5, 6, 8]])
    """
    root = Node(ids=())
    order = sorted(range(len(prompts)), key=lambda index: tuple(prompts[index]))
    _grow(root, [(prompts[index], index) for index in order], 0, 0)
    return root


def _grow(parent: Node, members: list[tuple[Sequence[int], int]], start: int, agreed: int) -> None:
    """Hang prompts below a node.

    `members` are sorted and agree on their first `agreed` tokens; `parent` ends at `start`.
    """
    ends = [member for member in members if len(member[0]) - 1 <= agreed]
    for length in sorted({len(ids) - 1 for ids, _ in ends}):
        same = [(ids, index) for ids, index in ends if len(ids) - 1 == length]
        node = parent
        if length > start:
            node = Node(ids=same[0][0][start:length])
            parent.children.append(node)
        node.finals += [Final(ids[-1], index) for ids, index in same]
    rest = [member for member in members if len(member[0]) - 1 > agreed]
    while rest:
        token = rest[0][0][agreed]
        group = [member for member in rest if member[0][agreed] == token]
        # Sorted, so a group is a run.
        rest = rest[len(group) :]
        shared = _shared(group)
        if len(group) > 1 and shared - start < SHARED:
            _grow(parent, group, start, shared)
            continue
        node = Node(ids=group[0][0][start:shared])
        parent.children.append(node)
        _grow(node, group, shared, shared)


def _shared(group: list[tuple[Sequence[int], int]]) -> int:
    """Count the first tokens that all of a sorted group share, their last ones left out."""
    first, last = group[0][0], group[-1][0]
    limit = min(len(ids) for ids, _ in group) - 1
    for at in range(limit):
        if first[at] != last[at]:
            return at
    return limit
