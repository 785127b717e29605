"""One pass over a tree of prompts, unsteered or under a batch of interventions.

1. The tree is walked level by level. Segments of a level that are about equally long run side by
   side, each under every intervention: one forward pass of (segments x interventions) sequences,
   each after the keys and values of its own parent, however long that is.
2. As long as nothing is steered (positions `last` and `generated` begin late) a segment runs once
   for all interventions; its keys and values fan out where they part.
3. The last tokens of the prompts, and the answers' tokens after them (`tails.py`), run by
   themselves and give the scores.

The unsteered walk starts from the embedding and leaves the residual at the site in the tree; a
steered one starts from those residuals, edited, at the site.

Where the keys and values of a level would fill the memory (`HELD`), what hangs below its first
segments is walked before the rest of it.

Left out: padding of segments after which a prompt ends: its last token follows in place. The others
are padded by at most `PADDING`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.progress import StageProgress
from sae_training.engine.prefixes import Final, Node
from sae_training.engine.resume import PrefixCache, Segment, join, run
from sae_training.engine.tails import Tail, read
from sae_training.model.edits import Edit, Frame
from sae_training.model.runtime import Runtime

Ids = Sequence[Sequence[int]]
Branch = tuple[PrefixCache, int, Node]
"""A node, and the group of a cache that holds what it needs: its own keys and values, or what
stands before it."""
TOKENS = {"cpu": 2048, "cuda": 16384}
"""Tokens of one forward pass: beyond it a processor's caches overflow and nothing is gained."""
HELD = {"cpu": 2**30, "cuda": 2**32}
"""Keys and values of one level that are held, and of one forward pass [bytes]."""
PADDING = 0.2
"""Largest share of a forward pass that is padding [0 to 1]."""
LOGITS = 2**25
"""Logits of one forward pass [numbers]."""


class End(NamedTuple):
    """What is scored after a prompt of the tree."""

    prompt: int
    """Its row of the scores."""
    tail: Tail
    """What is scored after the prompt's last token."""


class PassCount:
    """How much of some forward passes is done, counted in what takes equal time.

    The unit is a token that runs through one layer (`head_layers` says what its logits cost).
    """

    def __init__(self, total: int, progress: StageProgress | None) -> None:
        """Count up to `total`, and tell `progress` of every step, the beginning included."""
        self.done = 0
        self.total = total
        self.progress = progress
        self.add(0)

    def add(self, work: int) -> None:
        """Count some more."""
        self.done += work
        if self.progress:
            self.progress(self.done, self.total)


class Walk:
    """One pass over the tree: unsteered and from the embedding, or steered and from the site.

    For example:

        root = tree(prompts)
        walk = Walk(model, ends, at=9, edit=None)
        walk.start(root, PassCount(walk.work(root), progress))
        walk.scores  # [1, prompt, option]
    """

    def __init__(self, model: Runtime, ends: Sequence[End], at: int, edit: Edit | None) -> None:
        """Prepare a walk under `edit`, or an unsteered one, which leaves residuals at `at`.

        `ends` belong to the prompts of the tree, in order; `at` is the boundary of the site.
        """
        self.model, self.ends, self.at, self.edit = model, ends, at, edit
        self.count = PassCount(0, None)
        self.head_layers = head_layers(model)
        """What logits cost a token [layers]."""
        self.rows = 1 if edit is None else edit.rows
        options = 1 + max(read.option for end in ends for read in end.tail.reads)
        prompts = 1 + max(end.prompt for end in ends)
        self.scores = torch.full((self.rows, prompts, options), -torch.inf)
        """Scores so far [row, prompt, option]; minus infinity where a prompt has fewer options."""
        kinds = {"all"} if edit is None else set(edit.positions)
        self.longest = max(len(end.tail.tokens) for end in ends)
        """Tokens of the longest tail."""
        self.body_rows = self.rows if kinds & {"all", "prompt"} else 1
        """Rows of a segment of prompts; 1 where nothing is steered there yet."""
        self.last_rows = self.rows if kinds != {"generated"} or self.longest else 1
        """Rows of last tokens and tails."""

    def work(self, root: Node) -> int:
        """Say how much work a tree is, in the unit of `PassCount`."""
        nodes = list(root.walk())
        finals = [final for node in nodes for final in node.finals]
        return self._body_work(nodes) + self._last_work(finals)

    def start(self, root: Node, count: PassCount) -> None:
        """Walk a tree, fill in its scores, and count what is done of its work."""
        self.count = count
        cache = PrefixCache([0], self.body_rows, 0, {}, self.model.n_layers - 1)
        self._finals([root], cache)
        self._below([(cache, 0, root)])

    def _below(self, parents: Sequence[Branch]) -> None:
        """Run the children of some nodes, those of one length together, then what is below them."""
        children = [
            (cache, group, child) for cache, group, parent in parents for child in parent.children
        ]
        children.sort(key=_by_length)
        waiting: list[Branch] = []
        held = 0
        for batch in self._batches(children):
            nodes = [child for _, _, child in batch]
            branch = join(
                [(cache, group) for cache, group, _ in batch],
                self.body_rows,
                len(nodes[-1].ids) + 1 + self.longest,
            )
            self._body(nodes, branch)
            self.count.add(self._body_work(nodes))
            self._finals(nodes, branch)
            if any(node.children for node in nodes):
                waiting += [
                    (branch, group, node) for group, node in enumerate(nodes) if node.children
                ]
                held += branch.token_bytes * branch.capacity * branch.groups * branch.rows
                if held > self._most:
                    self._below(waiting)
                    waiting, held = [], 0
        if waiting:
            self._below(waiting)

    def _batches(self, children: Sequence[Branch]) -> Iterator[Sequence[Branch]]:
        """Cut sorted children into forward passes.

        Those after which prompts end are of one length, the others need little padding.
        """
        batch: list[Branch] = []
        real = past = 0
        for cache, group, node in children:
            length = len(node.ids)
            tokens = length * (len(batch) + 1)
            before = max(past, cache.lengths[group])
            held = cache.token_bytes * (before * (len(batch) + 1) + tokens) * self.body_rows
            full = tokens * self.body_rows > budget(self.model) or held > self._most
            padded = tokens - real - length > PADDING * tokens
            if batch and (full or padded or _apart(batch[0][2], node)):
                yield batch
                batch, real, past = [], 0, 0
            batch.append((cache, group, node))
            real, past = real + length, max(past, cache.lengths[group])
        if batch:
            yield batch

    @property
    def _most(self) -> int:
        return HELD["cpu" if self.model.device.type == "cpu" else "cuda"]

    def _body(self, nodes: Sequence[Node], cache: PrefixCache) -> None:
        """Run the segments of some nodes, the groups of `cache`, for their keys and values."""
        ids = [node.ids for node in nodes]
        if self.edit is not None and self.at == self.model.n_layers:
            # No layer above the site reads what came before.
            cache.grow([len(tokens) for tokens in ids])
            return
        frame = self._frame(cache, len(nodes[-1].ids))
        entering = self._edited([node.residual for node in nodes], cache.rows, frame)
        segment = Segment(ids=ids, entering=entering, at=self._entry, body=True)
        residuals = run(self.model, segment, cache, self._watch).residual
        if residuals is not None and self.edit is None:
            for node, residual in zip(nodes, residuals, strict=True):
                node.residual = residual[: len(node.ids)]

    def _finals(self, nodes: Sequence[Node], cache: PrefixCache) -> None:
        """Score the prompts that end right after `nodes`, the groups of `cache`."""
        ends = [(group, final) for group, node in enumerate(nodes) for final in node.finals]
        ends.sort(key=lambda end: len(self._tail(end[1]).tokens))
        most = LOGITS // (self.model.module.config.get_text_config().vocab_size * self.last_rows)
        while ends:
            fit = real = 0
            for count, (_, final) in enumerate(ends, 1):
                width = 1 + len(self._tail(final).tokens)
                real += width
                if count > 1 and (
                    count * width > most or count * width - real > PADDING * count * width
                ):
                    break
                fit = count
            self._together(ends[:fit], cache)
            ends = ends[fit:]

    def _together(self, ends: Sequence[tuple[int, Final]], cache: PrefixCache) -> None:
        """Score some prompts, each with the group after which it ends, in one pass."""
        finals = [final for _, final in ends]
        tails = [self._tail(final) for final in finals]
        width = 1 + max(len(tail.tokens) for tail in tails)
        last = join([(cache, group) for group, _ in ends], self.last_rows, width)
        entering = self._edited(
            [final.residual for final in finals], last.rows, self._frame(last, width, last=True)
        )
        ids = [[final.token, *tail.tokens] for final, tail in zip(finals, tails, strict=True)]
        segment = Segment(ids=ids, entering=entering, at=self._entry, tails=tails)
        logits, residuals = run(self.model, segment, last, self._watch)
        assert logits is not None, "only a body segment ends before its logits"
        if self.edit is None:
            assert residuals is not None, "an unsteered pass comes by the site"
            for final, tail, residual in zip(finals, tails, residuals, strict=True):
                final.residual = residual[: 1 + len(tail.tokens)]
        self._keep(finals, tails, logits)

    def _keep(
        self, finals: Sequence[Final], tails: Sequence[Tail], logits: Float[Tensor, "seq tok vocab"]
    ) -> None:
        """Put the scores of some prompts into their places, and count what they took."""
        at, option, scores = read(logits.unflatten(0, (len(finals), -1)), tails)
        prompts = torch.tensor([self.ends[final.prompt].prompt for final in finals])
        self.scores[:, prompts[at], option] = scores.T.expand(self.rows, -1)
        self.count.add(self._last_work(finals))

    def _body_work(self, nodes: Sequence[Node]) -> int:
        """Say how much work the segments of some nodes are."""
        tokens = sum(len(node.ids) for node in nodes)
        return tokens * self.body_rows * (self.model.n_layers - self._entry)

    def _last_work(self, finals: Sequence[Final]) -> int:
        """Say how much work some last tokens and their tails are."""
        tokens = sum(1 + len(self._tail(final).tokens) for final in finals)
        layers = self.model.n_layers - self._entry + self.head_layers
        return tokens * self.last_rows * layers

    def _tail(self, final: Final) -> Tail:
        return self.ends[final.prompt].tail

    @property
    def _entry(self) -> int:
        return 0 if self.edit is None else self.at

    @property
    def _watch(self) -> int:
        return self.at if self.edit is None else -1

    def _frame(self, cache: PrefixCache, width: int, last: bool = False) -> Frame:
        """Make the frame of a segment, with `last` of one that begins with last tokens."""
        real = torch.ones(cache.rows, width, dtype=torch.bool, device=self.model.device)
        place = torch.arange(width, device=real.device).expand_as(real)
        # Either no group has a past, or every group has one: the first speaks for all.
        first = (place == 0) if cache.lengths[0] == 0 else ~real
        return Frame(real=real, first=first, last=(place == 0) & last, generated=(place > 0) & last)

    def _edited(
        self, residuals: Sequence[Tensor | None], rows: int, frame: Frame
    ) -> Float[Tensor, "seq tok d_model"] | None:
        """Put each residual under each intervention, in the order of the cache.

        None in the unsteered pass, which is the one that reads them.
        """
        if self.edit is None:
            return None
        padded = [_widened(residual, frame.real.shape[1]) for residual in residuals]
        if rows < self.rows:  # nothing is steered here yet
            return torch.stack(padded)
        where = frame.where(self.edit.positions).to(padded[0].device)
        edited = [self.edit(residual[None].expand(rows, -1, -1), where) for residual in padded]
        return torch.cat(edited)


def _by_length(branch: Branch) -> tuple[bool, int, int]:
    """Sort branches: those after which prompts end last, then by length, then by their past."""
    cache, group, node = branch
    return bool(node.finals), len(node.ids), cache.lengths[group]


def _apart(first: Node, node: Node) -> bool:
    """Say whether a node must not run with others: where prompts end, lengths must be the same."""
    ends = bool(node.finals)
    return ends != bool(first.finals) or (ends and len(node.ids) != len(first.ids))


def _widened(residual: Tensor | None, width: int) -> Float[Tensor, "tok d_model"]:
    """Pad a residual on the right; it is left as it is where it is as wide."""
    assert residual is not None, "the unsteered pass goes first, and leaves the residuals"
    if len(residual) == width:
        return residual
    return torch.nn.functional.pad(residual, (0, 0, 0, width - len(residual)))


def logprobs(
    logits: Float[Tensor, "seq tok vocab"], wanted: Ids
) -> Float[Tensor, "seq tok option"]:
    """Read the log-probabilities of the tokens `wanted[tok]` at each token [nats]."""
    logits = logits.float()
    index = torch.tensor(wanted, device=logits.device).expand(len(logits), -1, -1)
    return logits.gather(-1, index) - logits.logsumexp(-1, keepdim=True)


def head_layers(model: Runtime) -> int:
    """Say how many layers take as long for a token as its logits do, by their weights."""
    layer = sum(weights.numel() for weights in model.layers[-1].parameters())
    return round(model.module.config.get_text_config().vocab_size * model.d_model / max(layer, 1))


def budget(model: Runtime) -> int:
    """Say how many tokens one forward pass should have on the model's device."""
    return TOKENS["cpu" if model.device.type == "cpu" else "cuda"]
