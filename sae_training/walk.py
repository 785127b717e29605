"""One pass over a tree of prompts, unsteered or under a batch of interventions.

1. The tree is walked level by level. Segments of a level that are about equally long run side by side, each under every intervention: one
   forward pass of (segments x interventions) sequences, each after the keys and values of its own parent, however long that is.
2. As long as nothing is steered (positions `last` and `generated` begin late) a segment runs once for all
   interventions; its keys and values fan out where they part.
3. The last tokens of the prompts run by themselves and give the scores; further option tokens continue there.

The unsteered walk starts from the embedding and leaves the residual at the site in the tree; a steered one
starts from those residuals, edited, at the site.

Where the keys and values of a level would fill the memory (`HELD`), what hangs below its first segments is walked before the rest of it.

Left out: padding of segments after which a prompt ends: its last token follows in place. The others are padded by at most `PADDING`.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sae_training.edits import Edit, Frame
from sae_training.model import Model
from sae_training.prefixes import Final, Node
from sae_training.resume import PrefixCache, join, run

Ids = Sequence[Sequence[int]]
Progress = Callable[[int, int], None]
"""Called with (scores done, scores in all), a score being one prompt under one intervention."""

TOKENS = {"cpu": 2048, "cuda": 16384}
"""Tokens of one forward pass: beyond it a processor's caches overflow and nothing is gained."""
HELD = {"cpu": 2**30, "cuda": 2**32}
"""Keys and values of one level that are held, and of one forward pass [bytes]."""
PADDING = 0.2
"""Largest share of a forward pass that is padding [0 to 1]."""
LOGITS = 2**25
"""Logits of one forward pass [numbers]."""


class Walk:
    """One pass over the tree: unsteered and from the embedding, or steered and from the site."""

    def __init__(self, model: Model, options: Ids, prompts: int, at: int, edit: Edit | None, progress: Progress | None,
                 done: int, total: int) -> None:
        self.model, self.options, self.at, self.edit = model, options, at, edit
        self.progress, self.done, self.total = progress, done, total
        self.rows = 1 if edit is None else edit.rows
        self.scores = torch.empty(self.rows, prompts, len(options))
        kinds = {"all"} if edit is None else set(edit.positions)
        self.body_rows = self.rows if kinds & {"all", "prompt"} else 1
        self.last_rows = self.rows if kinds != {"generated"} else 1
        stems = dict.fromkeys(tuple(option[:-1]) for option in options if len(option) > 1)
        # A stem that another one begins with is run with it.
        self.stems = [stem for stem in stems if not any(longer[:len(stem)] == stem for longer in stems if longer != stem)]
        self.longest = max(map(len, self.stems), default=0)

    def start(self, root: Node) -> None:
        cache = PrefixCache([0], self.body_rows, 0, {}, self.model.n_layers - 1)
        self._finals([root], cache)
        self._below([root], cache)

    def _below(self, parents: Sequence[Node], cache: PrefixCache) -> None:
        """Run the children of some nodes, the groups of `cache`, those of one length together, then what is below them."""
        children = [(group, child) for group, parent in enumerate(parents) for child in parent.children]
        children.sort(key=lambda one: (bool(one[1].finals), len(one[1].ids), cache.lengths[one[0]]))
        waiting: list[tuple[PrefixCache, list[int], list[Node]]] = []
        held = 0
        for batch in self._batches(children, cache):
            nodes = [child for _, child in batch]
            branch = cache.fork([group for group, _ in batch], self.body_rows, len(nodes[-1].ids) + 1 + self.longest)
            self._body(nodes, branch)
            self._finals(nodes, branch)
            groups = [index for index, node in enumerate(nodes) if node.children]
            if groups:
                waiting.append((branch, groups, [nodes[index] for index in groups]))
                held += branch.token_bytes * branch.capacity * branch.groups * branch.rows
                if held > self._most:
                    self._go_on(waiting)
                    waiting, held = [], 0
        if waiting:
            self._go_on(waiting)

    def _go_on(self, waiting: Sequence[tuple[PrefixCache, list[int], list[Node]]]) -> None:
        """Below nodes that have run, in several caches."""
        together = join([(cache, groups) for cache, groups, _ in waiting], self.body_rows, 0)
        self._below([node for _, _, nodes in waiting for node in nodes], together)

    def _batches(self, children: Sequence[tuple[int, Node]], cache: PrefixCache) -> Iterator[Sequence[tuple[int, Node]]]:
        """Sorted children, as many as one forward pass takes; of one length where prompts end, else with little padding."""
        batch: list[tuple[int, Node]] = []
        real = 0
        for one in children:
            length, ends = len(one[1].ids), bool(one[1].finals)
            tokens = length * (len(batch) + 1)
            full = tokens * self.body_rows > budget(self.model) or cache.token_bytes * (cache.length * (len(batch) + 1) + tokens) * self.body_rows > self._most
            apart = bool(batch) and (ends != bool(batch[0][1].finals) or (ends and length != len(batch[0][1].ids)))
            if batch and (full or apart or tokens - real - length > PADDING * tokens):
                yield batch
                batch, real = [], 0
            batch.append(one)
            real += length
        if batch:
            yield batch

    @property
    def _most(self) -> int:
        return HELD["cpu" if self.model.device.type == "cpu" else "cuda"]

    def _body(self, nodes: Sequence[Node], cache: PrefixCache) -> None:
        if self.edit is not None and self.at == self.model.n_layers:  # no layer above the site reads what came before
            cache.grow([len(node.ids) for node in nodes])
            return
        frame = self._frame(cache, len(nodes[-1].ids))
        entering = self._edited([node.residual for node in nodes], cache.rows, frame)
        ran = run(self.model, [node.ids for node in nodes], cache, entering, self._entry, True, self._watch)
        if ran.residual is not None and self.edit is None:
            for node, residual in zip(nodes, ran.residual, strict=True):
                node.residual = residual[:len(node.ids)]

    def _finals(self, nodes: Sequence[Node], cache: PrefixCache) -> None:
        """Score the prompts that end right after `nodes`, the groups of `cache`."""
        ends = [(group, final) for group, node in enumerate(nodes) for final in node.finals]
        config = self.model.module.config.get_text_config()
        side = max(1, LOGITS // (config.vocab_size * self.last_rows))
        for first in range(0, len(ends), side):
            some = ends[first:first + side]
            finals = [final for _, final in some]
            last = cache.fork([group for group, _ in some], self.last_rows, 1 + self.longest)
            frame = self._frame(last, 1, last=True)
            entering = self._edited([final.residual for final in finals], last.rows, frame)
            ran = run(self.model, [[final.token] for final in finals], last, entering, self._entry, False, self._watch)
            if self.edit is None:
                for final, residual in zip(finals, ran.residual, strict=True):
                    final.residual = residual
            self._score(finals, last, ran.logits)

    def _score(self, finals: Sequence[Final], last: PrefixCache, logits: Float[Tensor, "seq 1 vocab"]) -> None:
        prompts = [final.prompt for final in finals]
        heads = logprobs(logits, [[option[0] for option in self.options]])[:, 0].unflatten(0, (len(finals), -1))
        scores = heads.transpose(0, 1).expand(self.rows, -1, -1).clone()
        open_ = list(range(len(self.options)))
        for index, stem in enumerate(self.stems):
            longer = [o for o in open_ if len(self.options[o]) > 1 and stem[:len(self.options[o]) - 1] == tuple(self.options[o][:-1])]
            open_ = [o for o in open_ if o not in longer]
            nexts = [[(*self.options[o], *stem)[at + 1] for o in longer] for at in range(len(stem))]
            own = torch.tensor([[at + 1 < len(self.options[o]) for o in longer] for at in range(len(stem))], device=scores.device)
            tails = (self._stem(finals, index, stem, last, nexts) * own).unflatten(0, (len(finals), -1)).sum(2)
            scores[:, :, longer] += tails.transpose(0, 1)
        self.scores[:, prompts] = scores.cpu()
        self.done += len(finals) * self.rows
        if self.progress:
            self.progress(self.done, self.total)

    def _stem(self, finals: Sequence[Final], index: int, stem: Sequence[int], last: PrefixCache,
              nexts: Ids) -> Float[Tensor, "seq stem option"]:
        """Log-probabilities of the tokens after each token of `stem`."""
        cache = last.fork(range(len(finals)), self.rows, len(stem))
        frame = self._frame(cache, len(stem), generated=True)
        given = [final.stems[index] for final in finals] if self.edit is not None else []
        ran = run(self.model, [stem] * len(finals), cache, self._edited(given, cache.rows, frame), self._entry, False,
                  self._watch)
        if self.edit is None:
            for final, residual in zip(finals, ran.residual, strict=True):
                final.stems.append(residual)
        return logprobs(ran.logits, nexts)

    @property
    def _entry(self) -> int:
        return 0 if self.edit is None else self.at

    @property
    def _watch(self) -> int:
        return self.at if self.edit is None else -1

    def _frame(self, cache: PrefixCache, width: int, last: bool = False, generated: bool = False) -> Frame:
        real = torch.ones(cache.rows, width, dtype=torch.bool, device=self.model.device)
        # Either no group has a past, or every group has one: the first speaks for all.
        first = cache.positions(width, real.device)[:cache.rows] == 0
        return Frame(real, first, real & last, real & generated)

    def _edited(self, residuals: Sequence[Tensor | None], rows: int, frame: Frame) -> Float[Tensor, "seq tok d_model"] | None:
        """Each residual under each intervention, in the order of the cache; None in the unsteered pass, which finds them."""
        if self.edit is None:
            return None
        width = frame.real.shape[1]
        residuals = [torch.nn.functional.pad(one, (0, 0, 0, width - len(one))) if len(one) < width else one for one in residuals]
        if rows < self.rows:  # nothing is steered here yet
            return torch.stack(residuals)
        where = frame.where(self.edit.positions).to(residuals[0].device)
        return torch.cat([self.edit(one[None].expand(rows, -1, -1), where) for one in residuals])


def logprobs(logits: Float[Tensor, "seq tok vocab"], wanted: Ids) -> Float[Tensor, "seq tok option"]:
    """Log-probability of `wanted[tok]` at each token."""
    logits = logits.float()
    index = torch.tensor(wanted, device=logits.device).expand(len(logits), -1, -1)
    return logits.gather(-1, index) - logits.logsumexp(-1, keepdim=True)


def budget(model: Model) -> int:
    """Tokens of one forward pass on the model's device."""
    return TOKENS["cpu" if model.device.type == "cpu" else "cuda"]
