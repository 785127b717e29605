"""Scoring answer options under many interventions: the heart of every sweep.

For R interventions, P prompts and O options, `sweep`

1. makes a tree of the prompts (`prefixes.py`), so that shared beginnings are computed once;
2. walks the tree once unsteered (`walk.py`): the base scores, and the residual at the site for
   every segment;
3. for each chunk of interventions edits those residuals and runs only the layers above the site
   (`resume.py`), handing keys and values down the tree; what no intervention of the chunk changes
   (all of the prompt but its last token, where positions are `last`) is run once for all of them;
4. runs each prompt's last token apart, with the tokens of its options that predict a further one
   (`tails.py`): only there are the last layer's query and MLP and the head needed.

Options may be shared or each prompt's own; prompts with different options run side by side all the
same.

An edit that depends on the prompt is settled for each prompt, and each prompt then is a tree of its
own.

An option's score is the log-probability of its tokens after the prompt [nats], normalised over the
whole vocabulary. It equals that of a full forward pass to floating-point error.

`full_scores` is that full forward pass: for models that cannot be resumed, for spans of the
prompt's text (a tree of shared tokens does not know whose words they are), inside a `steered`
block, and for tests.
"""

import itertools
from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.records import Site, Span
from sae_training.engine.answers import Options, own, tokens_of
from sae_training.engine.generate import prompt_ids
from sae_training.engine.prefixes import tree
from sae_training.engine.resume import branches, resumable
from sae_training.engine.tails import read, tails
from sae_training.engine.walk import LOGITS, End, Ids, Progress, Walk, budget
from sae_training.model import sites, spans
from sae_training.model.edits import Edit, Frame, by_prompt, prompt_frame, settle
from sae_training.model.runtime import Runtime

OptionIds = Ids | Sequence[Ids]
"""Answers as ids, shared by all prompts, or those of each prompt."""
Asked = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""A prompt and its answers."""


class Scores(NamedTuple):
    base: Float[Tensor, "prompt option"]
    """Unsteered log-probabilities [nats]; minus infinity where a prompt has fewer options than
    another one."""
    steered: Float[Tensor, "intervention prompt option"]
    """The same under each intervention; no rows without an edit."""


def score(
    model: Runtime, prompts: Sequence[str], options: Options
) -> Float[Tensor, "prompt option"]:
    """Log-probability of each option after each prompt [nats]; inside a `steered` block, of the
    steered model.
    """
    with model.lock:  # another thread's block is over once the lock is ours
        if model.is_steered:
            ids = prompt_ids(model, prompts)
            marks = spans.find(model, prompts, spans.of_rows(model.edits, len(prompts)))
            return full_scores(model, ids, tokens_of(model, prompts, ids, options), marks)
    return score_rows(model, prompts, options)[0]


def score_rows(
    model: Runtime,
    prompts: Sequence[str],
    options: Options,
    edit: Edit | None = None,
    site: Site = sites.FIRST,
    ids: Ids | None = None,
) -> Float[Tensor, "intervention prompt option"]:
    """The scores under each row of `edit`; without an edit, one row of unsteered scores.

    `ids`: the prompts' tokens, where they are known.
    """
    found = sweep(model, prompts, options, edit, site, ids)
    return found.base[None] if edit is None else found.steered


def sweep(
    model: Runtime,
    prompts: Sequence[str],
    options: Options,
    edit: Edit | None = None,
    site: Site = sites.FIRST,
    ids: Ids | None = None,
) -> Scores:
    """Unsteered and steered scores of texts; prompts go through the chat template where the
    model has one.
    """
    ids = ids or prompt_ids(model, prompts)
    answers = tokens_of(model, prompts, ids, options)
    steered_spans = (
        [] if edit is None else [where for where in edit.positions if isinstance(where, Span)]
    )
    marks = spans.find(model, prompts, dict.fromkeys(steered_spans, range(len(prompts))))
    return _sweep(model, _pairs(ids, answers), edit, site, None, marks)


def sweep_ids(
    model: Runtime,
    prompts: Ids,
    options: OptionIds,
    edit: Edit | None = None,
    site: Site = sites.FIRST,
    progress: Progress | None = None,
) -> Scores:
    """Score answers given as token ids, unsteered and under each row of `edit`, as `sweep` does.

    scores = sweep_ids(model, [[5, 6, 7]], [[11], [12, 13]], edit, Site(8))
    change = scores.steered - scores.base
    """
    return _sweep(model, _pairs(prompts, options), edit, site, progress)


def _pairs(prompts: Ids, options: OptionIds) -> list[Asked]:
    return [
        (tuple(ids), tuple(map(tuple, answers)))
        for ids, answers in zip(prompts, own(options, len(prompts)), strict=True)
    ]


def _sweep(
    model: Runtime,
    asked: Sequence[Asked],
    edit: Edit | None,
    site: Site,
    progress: Progress | None = None,
    marks: spans.Marks = MappingProxyType({}),
) -> Scores:
    """Score pairs of a prompt and its answers; `marks`: where the edit's spans stand."""
    at = sites.boundary(site, model.n_layers)
    with model.lock:
        if model.is_steered:
            raise BadInput("A sweep steers by itself: call it outside the steered block.")
    if marks or not resumable(model):
        return _full(model, asked, edit, site, progress, marks)
    if edit is not None and by_prompt(edit):
        return _each_prompt(model, asked, edit, site, progress)
    interventions = 0 if edit is None else edit.rows
    unique = {one: index for index, one in enumerate(dict.fromkeys(asked))}
    where = torch.tensor([unique[one] for one in asked])
    made = {
        answers: tails(answers, branches(model))
        for answers in dict.fromkeys(answers for _, answers in unique)
    }
    ends = [End(index, tail) for (_, answers), index in unique.items() for tail in made[answers]]
    root = tree([ids for ids, answers in unique for _ in made[answers]])
    total = len(unique) * (1 + interventions)
    walk = Walk(model, ends, at, None, progress, 0, total)
    walk.start(root)
    base = walk.scores[0][where]
    steered = torch.empty(interventions, *base.shape)
    if edit is not None:
        longest = max(1 + walk.longest, *(len(node.ids) for node in root.walk()))
        logits = model.module.config.get_text_config().vocab_size * (
            1 + walk.longest
        )  # of one prompt under one intervention
        for rows in _chunks(edit, max(1, min(budget(model) // longest, 4 * LOGITS // logits))):
            walk = Walk(model, ends, at, edit.take(rows), progress, walk.done, total)
            walk.start(root)
            steered[rows] = walk.scores[:, where]
    return Scores(base, steered)


def full_scores(
    model: Runtime, prompts: Ids, options: OptionIds, marks: spans.Marks = MappingProxyType({})
) -> Float[Tensor, "prompt option"]:
    """Scores by full forward passes, 32 at once; in a `steered` block row i of the edit steers
    prompt i.
    """
    each = own(options, len(prompts))
    out = torch.full((len(prompts), max(map(len, each))), -torch.inf)
    paths = [(row, tail) for row, answers in enumerate(each) for tail in tails(answers, False)]
    paths.sort(key=lambda one: len(one[1].tokens))
    for after, some in itertools.groupby(paths, lambda one: len(one[1].tokens)):
        waiting = list(some)
        for part in (waiting[at : at + 32] for at in range(0, len(waiting), 32)):
            rows = [row for row, _ in part]
            whole = [[*prompts[row], *tail.tokens] for row, tail in part]
            width = max(map(len, whole))
            ids = torch.tensor(
                [[0] * (width - len(one)) + one for one in whole], device=model.device
            )
            mask = torch.tensor(
                [[False] * (width - len(one)) + [True] * len(one) for one in whole],
                device=model.device,
            )
            answer = torch.arange(width, device=model.device).expand_as(mask) >= width - after
            given = prompt_frame(mask & ~answer)
            frame = Frame(
                real=mask,
                first=given.first,
                last=given.last,
                generated=answer,
                spans=spans.padded(marks, rows, width, after),
            )
            with model.lock:
                logits = model.forward(
                    ids, mask, torch.tensor(rows), frame, logits_to_keep=after + 1
                ).logits[:, -after - 1 :]
            at, option, found = read(logits[:, None], [tail for _, tail in part])
            out[torch.tensor(rows)[at], option] = found[:, 0]
    return out


def _each_prompt(
    model: Runtime,
    asked: Sequence[Asked],
    edit: Edit,
    site: Site,
    progress: Progress | None,
) -> Scores:
    """One prompt after the other, each under the edit that its last token settles."""
    found: dict[Asked, Scores] = {}
    most = max(len(answers) for _, answers in asked)
    for one in (unique := dict.fromkeys(asked)):
        ids, answers = one
        tokens = torch.tensor([ids])
        last = model.residuals(tokens, torch.ones_like(tokens, dtype=torch.bool), site)[:, -1]
        scores = _sweep(model, [one], settle(edit, last.expand(edit.rows, -1)), site)
        found[one] = Scores(
            *(
                torch.nn.functional.pad(told, (0, most - len(answers)), value=-torch.inf)
                for told in scores
            )
        )
        if progress:
            progress(len(found) * (1 + edit.rows), len(unique) * (1 + edit.rows))
    each = [found[one] for one in asked]
    return Scores(
        torch.cat([one.base for one in each]), torch.cat([one.steered for one in each], dim=1)
    )


def _full(
    model: Runtime,
    asked: Sequence[Asked],
    edit: Edit | None,
    site: Site,
    progress: Progress | None,
    marks: spans.Marks,
) -> Scores:
    prompts, options = zip(*asked, strict=True)
    base = full_scores(model, prompts, options)
    steered = torch.empty(0 if edit is None else edit.rows, *base.shape)
    for row in range(len(steered)):
        with model.steered(edit.take(torch.tensor([row])), site):
            steered[row] = full_scores(model, prompts, options, marks)
        if progress:
            progress((row + 2) * len(prompts), (len(steered) + 1) * len(prompts))
    return Scores(base, steered)


def _chunks(edit: Edit, size: int) -> list[Int[Tensor, " row"]]:
    """Rows of the edit, those that begin to steer at the same token together, at most `size` at
    once.
    """
    begins = {"all": 0, "prompt": 0, "last": 1, "generated": 2}
    found = []
    for begin in (0, 1, 2):
        rows = torch.tensor(
            [row for row, kind in enumerate(edit.positions) if begins[kind] == begin],
            dtype=torch.long,
        )
        parts = -(-len(rows) // size)
        found += list(rows.tensor_split(parts)) if parts else []
    return found
