"""Scoring answer options under many interventions: the heart of every sweep.

For R interventions, P prompts and O options, `sweep`

1. makes a tree of the prompts (`prefixes.py`), so that shared beginnings are computed once;
2. walks the tree once unsteered (`walk.py`): the base scores, and the residual at the site for every segment;
3. for each chunk of interventions edits those residuals and runs only the layers above the site (`resume.py`),
   handing keys and values down the tree; what no intervention of the chunk changes (all of the prompt but its
   last token, where positions are `last`) is run once for all of them;
4. runs each prompt's last token by itself: only there are the last layer's query and MLP and the head needed.
   Further tokens of multi-token options continue from the same keys and values.

An edit that depends on the prompt is settled for each prompt, and each prompt then is a tree of its own.

An option's score is the log-probability of its tokens after the prompt [nats], normalised over the whole
vocabulary. It equals that of a full forward pass to floating-point error.

`full_scores` is that full forward pass: for models that cannot be resumed, for spans of the prompt's text (a tree of shared tokens does
not know whose words they are), inside a `steered` block, and for tests.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.records import Point, Span
from sae_training import sites, spans
from sae_training.answers import by_answers
from sae_training.edits import Edit, Frame, by_prompt, prompt_frame, settle
from sae_training.generate import prompt_ids
from sae_training.model import Model
from sae_training.prefixes import tree
from sae_training.resume import resumable
from sae_training.walk import Ids, Progress, Walk, budget, logprobs


class Scores(NamedTuple):
    base: Float[Tensor, "prompt option"]
    """Unsteered log-probabilities [nats]."""
    steered: Float[Tensor, "intervention prompt option"]
    """The same under each intervention; no rows without an edit."""


def score(model: Model, prompts: Sequence[str], options: Sequence[str]) -> Float[Tensor, "prompt option"]:
    """Log-probability of each option after each prompt [nats]; inside a `steered` block, of the steered model."""
    with model.lock:  # another thread's block is over once the lock is ours
        if model.is_steered:
            ids = prompt_ids(model, prompts)
            marks = spans.find(model, prompts, spans.of_rows(model.edits, len(prompts)))
            out = torch.empty(len(prompts), len(options))
            for rows, answers in by_answers(model, prompts, ids, options):
                out[rows] = full_scores(model, [ids[row] for row in rows], answers, torch.tensor(rows), _of(marks, rows))
            return out
    return score_rows(model, prompts, options, None, 0)[0]


def score_rows(model: Model, prompts: Sequence[str], options: Sequence[str], edit: Edit | None, layer: int,
               point: Point = "resid_post", progress: Progress | None = None, ids: Ids | None = None) -> Float[Tensor, "intervention prompt option"]:
    """The scores under each row of `edit`; without an edit, one row of unsteered scores. `ids`: the prompts' tokens, where they are known."""
    found = sweep(model, prompts, options, edit, layer, point, progress, ids)
    return found.base[None] if edit is None else found.steered


def sweep(model: Model, prompts: Sequence[str], options: Sequence[str], edit: Edit | None, layer: int,
          point: Point = "resid_post", progress: Progress | None = None, ids: Ids | None = None) -> Scores:
    """Unsteered and steered scores of texts; prompts go through the chat template where the model has one."""
    if not prompts or len(options) < 1:
        raise BadInput(f"Scoring needs at least one prompt and one option, got {len(prompts)} and {len(options)}.")
    ids = ids or prompt_ids(model, prompts)
    interventions = 0 if edit is None else edit.rows
    steered_spans = [] if edit is None else [where for where in edit.positions if isinstance(where, Span)]
    marks = spans.find(model, prompts, dict.fromkeys(steered_spans, range(len(prompts))))
    base = torch.empty(len(prompts), len(options))
    steered = torch.empty(interventions, len(prompts), len(options))
    total, before = len(prompts) * (1 + interventions), 0
    for rows, answers in by_answers(model, prompts, ids, options):
        def report(done: int, of: int, before: int = before, share: int = len(rows) * (1 + interventions)) -> None:
            if progress:
                progress(before + done * share // of, total)

        part = sweep_ids(model, [ids[row] for row in rows], answers, edit, layer, point, report, _of(marks, rows))
        base[rows] = part.base
        steered[:, rows] = part.steered
        before += len(rows) * (1 + interventions)
    return Scores(base, steered)


def sweep_ids(model: Model, prompts: Ids, options: Ids, edit: Edit | None, layer: int, point: Point = "resid_post",
              progress: Progress | None = None, marks: spans.Marks = MappingProxyType({})) -> Scores:
    """The same on token ids; every prompt is answered by the same options. `marks`: where the edit's spans stand."""
    at = sites.boundary(layer, point, model.n_layers)
    with model.lock:
        if model.is_steered:
            raise BadInput("A sweep steers by itself: call it outside the steered block.")
    if marks or not resumable(model):
        return _full(model, prompts, options, edit, layer, point, progress, marks)
    if edit is not None and by_prompt(edit):
        return _each_prompt(model, prompts, options, edit, layer, point, progress)
    interventions = 0 if edit is None else edit.rows
    unique = {tuple(ids): index for index, ids in enumerate(dict.fromkeys(map(tuple, prompts)))}
    where = torch.tensor([unique[tuple(ids)] for ids in prompts])
    total = len(unique) * (1 + interventions)
    root = tree(list(unique))
    walk = Walk(model, options, len(unique), at, None, progress, 0, total)
    walk.start(root)
    base = walk.scores[0][where]
    steered = torch.empty(interventions, len(prompts), len(options))
    if edit is not None:
        longest = max(len(node.ids) for node in root.walk()) or 1
        for rows in _chunks(edit, max(1, budget(model) // longest)):
            done = walk.done
            walk = Walk(model, options, len(unique), at, edit.take(rows), progress, done, total)
            walk.start(root)
            steered[rows] = walk.scores[:, where]
    return Scores(base, steered)


def full_scores(model: Model, prompts: Ids, options: Ids,
                rows: Int[Tensor, "prompt"] | None = None, marks: spans.Marks = MappingProxyType({})) -> Float[Tensor, "prompt option"]:
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
            found = spans.padded(marks, range(first, first + len(some)), width, len(stem))
            frame = Frame(mask, given.first, given.last, answer, found)
            with model.lock:
                logits = model._forward(ids, mask, rows[first:first + 32], frame, logits_to_keep=len(stem) + 1).logits
            scores = logprobs(logits[:, -len(stem) - 1:], wanted).sum(1)
            out[first:first + 32, alike] = scores.cpu()
    return out


def _each_prompt(model: Model, prompts: Ids, options: Ids, edit: Edit, layer: int, point: Point,
                 progress: Progress | None) -> Scores:
    """One prompt after the other, each under the edit that its last token settles."""
    found: dict[tuple[int, ...], Scores] = {}
    for ids in dict.fromkeys(map(tuple, prompts)):
        tokens = torch.tensor([ids])
        last = model.residuals(tokens, torch.ones_like(tokens, dtype=torch.bool), layer, point)[:, -1]
        found[ids] = sweep_ids(model, [ids], options, settle(edit, last.expand(edit.rows, -1)), layer, point)
        if progress:
            progress(len(found) * (1 + edit.rows), len(set(map(tuple, prompts))) * (1 + edit.rows))
    each = [found[tuple(ids)] for ids in prompts]
    return Scores(torch.cat([one.base for one in each]), torch.cat([one.steered for one in each], dim=1))


def _of(marks: spans.Marks, rows: Sequence[int]) -> spans.Marks:
    return {span: [found[row] for row in rows] for span, found in marks.items()}


def _full(model: Model, prompts: Ids, options: Ids, edit: Edit | None, layer: int, point: Point,
          progress: Progress | None, marks: spans.Marks) -> Scores:
    base = full_scores(model, prompts, options)
    steered = torch.empty(0 if edit is None else edit.rows, len(prompts), len(options))
    for row in range(len(steered)):
        with model.steered(edit.take(torch.tensor([row])), layer, point):
            steered[row] = full_scores(model, prompts, options, marks=marks)
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
