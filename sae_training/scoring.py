"""Scoring answer options under many interventions: the heart of every sweep.

For R interventions, P prompts and O options, `sweep`

1. makes a tree of the prompts (`prefixes.py`), so that shared beginnings are computed once;
2. runs the tree once unsteered: the base scores, and the residual at the site for every segment;
3. for each chunk of interventions edits those residuals and runs only the layers above the site (`resume.py`),
   handing keys and values down the tree; what no intervention of the chunk changes (all of the prompt but its
   last token, where positions are `last`) is run once for all of them;
4. runs each prompt's last token by itself: only there are the last layer's query and MLP and the head needed.
   Further tokens of multi-token options continue from the same keys and values.

An option's score is the log-probability of its tokens after the prompt [nats], normalised over the whole
vocabulary. It equals that of a full forward pass to floating-point error.

`full_scores` is that full forward pass: for models that cannot be resumed, inside a `steered` block, and for tests.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.records import Point
from sae_training import sites
from sae_training.answers import by_answers
from sae_training.edits import Edit, Frame, prompt_frame
from sae_training.generate import prompt_ids
from sae_training.model import Model
from sae_training.prefixes import Final, Node, tree
from sae_training.resume import PrefixCache, resumable, run

Ids = Sequence[Sequence[int]]
Progress = Callable[[int, int], None]
"""Called with (scores done, scores in all), a score being one prompt under one intervention."""

TOKENS = {"cpu": 2048, "cuda": 16384}
"""Tokens of one forward pass: beyond it a processor's caches overflow and nothing is gained."""
LOGITS = 2**25
"""Logits of one forward pass [numbers]."""


class Scores(NamedTuple):
    base: Float[Tensor, "prompt option"]
    """Unsteered log-probabilities [nats]."""
    steered: Float[Tensor, "intervention prompt option"]
    """The same under each intervention; no rows without an edit."""


def score(model: Model, prompts: Sequence[str], options: Sequence[str]) -> Float[Tensor, "prompt option"]:
    """Log-probability of each option after each prompt [nats]; inside a `steered` block, of the steered model."""
    with model.lock:  # another thread's block is over once the lock is ours
        if not model.is_steered:
            return score_rows(model, prompts, options, None, 0)[0]
        ids = prompt_ids(model, prompts)
        out = torch.empty(len(prompts), len(options))
        for rows, answers in by_answers(model, prompts, ids, options):
            out[rows] = full_scores(model, [ids[row] for row in rows], answers, torch.tensor(rows))
        return out


def score_rows(model: Model, prompts: Sequence[str], options: Sequence[str], edit: Edit | None, layer: int,
               point: Point = "resid_post", progress: Progress | None = None) -> Float[Tensor, "intervention prompt option"]:
    """The scores under each row of `edit`; without an edit, one row of unsteered scores."""
    found = sweep(model, prompts, options, edit, layer, point, progress)
    return found.base[None] if edit is None else found.steered


def sweep(model: Model, prompts: Sequence[str], options: Sequence[str], edit: Edit | None, layer: int,
          point: Point = "resid_post", progress: Progress | None = None) -> Scores:
    """Unsteered and steered scores of texts; prompts go through the chat template where the model has one."""
    if not prompts or len(options) < 1:
        raise BadInput(f"Scoring needs at least one prompt and one option, got {len(prompts)} and {len(options)}.")
    ids = prompt_ids(model, prompts)
    interventions = 0 if edit is None else edit.rows
    base = torch.empty(len(prompts), len(options))
    steered = torch.empty(interventions, len(prompts), len(options))
    before = 0
    for rows, answers in by_answers(model, prompts, ids, options):
        def report(done: int, _: int, before: int = before) -> None:
            if progress:
                progress(before + done, len(prompts) * (1 + interventions))

        part = sweep_ids(model, [ids[row] for row in rows], answers, edit, layer, point, report)
        base[rows] = part.base
        steered[:, rows] = part.steered
        before += len(rows) * (1 + interventions)
    return Scores(base, steered)


def sweep_ids(model: Model, prompts: Ids, options: Ids, edit: Edit | None, layer: int, point: Point = "resid_post",
              progress: Progress | None = None) -> Scores:
    """The same on token ids; every prompt is answered by the same options."""
    at = sites.boundary(layer, point, model.n_layers)
    with model.lock:
        if model.is_steered:
            raise BadInput("A sweep steers by itself: call it outside the steered block.")
    if not resumable(model):
        return _full(model, prompts, options, edit, layer, point, progress)
    interventions = 0 if edit is None else edit.rows
    unique = {tuple(ids): index for index, ids in enumerate(dict.fromkeys(map(tuple, prompts)))}
    where = torch.tensor([unique[tuple(ids)] for ids in prompts])
    total = len(unique) * (1 + interventions)
    root = tree(list(unique))
    walk = _Walk(model, options, len(unique), at, None, progress, 0, total)
    walk.start(root)
    base = walk.scores[0][where]
    steered = torch.empty(interventions, len(prompts), len(options))
    if edit is not None:
        longest = max(len(node.ids) for node in root.walk()) or 1
        for rows in _chunks(edit, max(1, _budget(model) // longest)):
            done = walk.done
            walk = _Walk(model, options, len(unique), at, edit.take(rows), progress, done, total)
            walk.start(root)
            steered[rows] = walk.scores[:, where]
    return Scores(base, steered)


def full_scores(model: Model, prompts: Ids, options: Ids,
                rows: Int[Tensor, "prompt"] | None = None) -> Float[Tensor, "prompt option"]:
    """Scores by full forward passes, 32 prompts at once; in a `steered` block row `rows[i]` of the edit steers prompt i."""
    rows = torch.arange(len(prompts)) if rows is None else rows
    out = torch.empty(len(prompts), len(options))
    for stem in dict.fromkeys(tuple(option[:-1]) for option in options):
        alike = [o for o, option in enumerate(options) if tuple(option[:-1]) == stem]
        wanted = [[options[o][at] for o in alike] for at in range(len(stem) + 1)]
        for first in range(0, len(prompts), 32):
            some = [[*ids, *stem] for ids in prompts[first:first + 32]]
            width = max(map(len, some))
            ids = torch.tensor([[0] * (width - len(row)) + row for row in some], device=model.device)
            mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in some], device=model.device)
            answer = torch.arange(width, device=model.device).expand_as(mask) >= width - len(stem)
            given = prompt_frame(mask & ~answer)
            frame = Frame(mask, given.first, given.last, answer)
            with model.lock:
                logits = model._forward(ids, mask, rows[first:first + 32], frame, logits_to_keep=len(stem) + 1).logits
            scores = _logprobs(logits[:, -len(stem) - 1:], wanted).sum(1)
            out[first:first + 32, alike] = scores.cpu()
    return out


def _full(model: Model, prompts: Ids, options: Ids, edit: Edit | None, layer: int, point: Point,
          progress: Progress | None) -> Scores:
    base = full_scores(model, prompts, options)
    steered = torch.empty(0 if edit is None else edit.rows, len(prompts), len(options))
    for row in range(len(steered)):
        with model.steered(edit.take(torch.tensor([row])), layer, point):
            steered[row] = full_scores(model, prompts, options)
        if progress:
            progress((row + 2) * len(prompts), (len(steered) + 1) * len(prompts))
    return Scores(base, steered)


def _chunks(edit: Edit, size: int) -> list[Int[Tensor, "row"]]:
    """Rows of the edit, those that begin to steer at the same token together, at most `size` at once."""
    begins = {"all": 0, "prompt": 0, "last": 1, "generated": 2}
    found = []
    for begin in (0, 1, 2):
        rows = torch.tensor([row for row, kind in enumerate(edit.positions) if begins[kind] == begin], dtype=torch.long)
        parts = -(-len(rows) // size)
        found += list(rows.tensor_split(parts)) if parts else []
    return found


def _budget(model: Model) -> int:
    return TOKENS["cpu" if model.device.type == "cpu" else "cuda"]


class _Walk:
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
        self.stems = list(dict.fromkeys(tuple(option[:-1]) for option in options if len(option) > 1))

    def start(self, root: Node) -> None:
        cache = PrefixCache(1, self.body_rows, 0, 0, {}, self.model.n_layers - 1)
        self._finals([root], cache)
        self._below(root, cache)

    def _below(self, parent: Node, cache: PrefixCache) -> None:
        """Run the children of a node, those of one length together, then what is below them."""
        lengths = sorted({len(child.ids) for child in parent.children})
        for length in lengths:
            alike = [child for child in parent.children if len(child.ids) == length]
            side = max(1, _budget(self.model) // (length * self.body_rows))
            for first in range(0, len(alike), side):
                nodes = alike[first:first + side]
                branch = cache.fork([0] * len(nodes), self.body_rows, length + 1)
                self._body(nodes, branch)
                self._finals(nodes, branch)
                for index, node in enumerate(nodes):
                    if node.children:
                        self._below(node, branch.group(index))

    def _body(self, nodes: Sequence[Node], cache: PrefixCache) -> None:
        if self.edit is not None and self.at == self.model.n_layers:  # no layer above the site reads what came before
            cache.length += len(nodes[0].ids)
            return
        frame = self._frame(cache, len(nodes[0].ids))
        entering = self._edited([node.residual for node in nodes], cache.rows, frame)
        ran = run(self.model, [node.ids for node in nodes], cache, entering, self._entry, True, self._watch)
        if ran.residual is not None and self.edit is None:
            for node, residual in zip(nodes, ran.residual, strict=True):
                node.residual = residual

    def _finals(self, nodes: Sequence[Node], cache: PrefixCache) -> None:
        """Score the prompts that end right after `nodes`, the groups of `cache`."""
        ends = [(group, final) for group, node in enumerate(nodes) for final in node.finals]
        config = self.model.module.config.get_text_config()
        side = max(1, LOGITS // (config.vocab_size * self.last_rows))
        for first in range(0, len(ends), side):
            some = ends[first:first + side]
            finals = [final for _, final in some]
            last = cache.fork([group for group, _ in some], self.last_rows, 1)
            frame = self._frame(last, 1, last=True)
            entering = self._edited([final.residual for final in finals], last.rows, frame)
            ran = run(self.model, [[final.token] for final in finals], last, entering, self._entry, False, self._watch)
            if self.edit is None:
                for final, residual in zip(finals, ran.residual, strict=True):
                    final.residual = residual
            self._score(finals, last, ran.logits)

    def _score(self, finals: Sequence[Final], last: PrefixCache, logits: Float[Tensor, "seq 1 vocab"]) -> None:
        prompts = [final.prompt for final in finals]
        heads = _logprobs(logits, [[option[0] for option in self.options]])[:, 0].unflatten(0, (len(finals), -1))
        scores = heads.transpose(0, 1).expand(self.rows, -1, -1).clone()
        for index, stem in enumerate(self.stems):
            longer = [o for o, option in enumerate(self.options) if tuple(option[:-1]) == stem]
            nexts = [[self.options[o][at + 1] for o in longer] for at in range(len(stem))]
            tails = self._stem(finals, index, stem, last, nexts).unflatten(0, (len(finals), -1)).sum(2)
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
        return _logprobs(ran.logits, nexts)

    @property
    def _entry(self) -> int:
        return 0 if self.edit is None else self.at

    @property
    def _watch(self) -> int:
        return self.at if self.edit is None else -1

    def _frame(self, cache: PrefixCache, width: int, last: bool = False, generated: bool = False) -> Frame:
        real = torch.ones(cache.rows, width, dtype=torch.bool, device=self.model.device)
        first = torch.arange(cache.length, cache.length + width, device=real.device).expand_as(real) == 0
        return Frame(real, first, real & last, real & generated)

    def _edited(self, residuals: Sequence[Tensor | None], rows: int, frame: Frame) -> Float[Tensor, "seq tok d_model"] | None:
        """Each residual under each intervention, in the order of the cache; None in the unsteered pass, which finds them."""
        if self.edit is None:
            return None
        if rows < self.rows:  # nothing is steered here yet
            return torch.stack(list(residuals))
        where = frame.where(self.edit.positions).to(residuals[0].device)
        return torch.cat([self.edit(one[None].expand(rows, -1, -1), where) for one in residuals])


def _logprobs(logits: Float[Tensor, "seq tok vocab"], wanted: Ids) -> Float[Tensor, "seq tok option"]:
    """Log-probability of `wanted[tok]` at each token."""
    logits = logits.float()
    index = torch.tensor(wanted, device=logits.device).expand(len(logits), -1, -1)
    return logits.gather(-1, index) - logits.logsumexp(-1, keepdim=True)
