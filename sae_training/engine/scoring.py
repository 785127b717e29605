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
from feature_store.progress import StageProgress
from feature_store.records import Site, Span, Where
from sae_training.engine.answers import AnswerIds, Options, options_by_prompt, tokens_of
from sae_training.engine.generate import batches, prompt_ids
from sae_training.engine.prefixes import tree
from sae_training.engine.resume import branches, resumable
from sae_training.engine.tails import Tail, read, tails
from sae_training.engine.walk import LOGITS, End, Ids, PassCount, Walk, budget
from sae_training.model import sites, spans
from sae_training.model.edits import Edit, Frame, by_prompt, prompt_frame, settle
from sae_training.model.runtime import Runtime
from sae_training.model.text_reader import Prompt

OptionIds = Ids | Sequence[Ids]
"""Answers as ids, shared by all prompts, or those of each prompt."""
PromptAnswers = tuple[tuple[int, ...], AnswerIds]
"""A prompt and its answers, as token ids."""
TOGETHER = 32
"""Prompts in one full forward pass."""


class Scores(NamedTuple):
    """Scores of options after prompts, unsteered and under each intervention."""

    base: Float[Tensor, "prompt option"]
    """Unsteered log-probabilities [nats]; minus infinity where a prompt has fewer options than
    another one."""
    steered: Float[Tensor, "intervention prompt option"]
    """The same under each intervention; no rows without an edit."""


class TokenizedPrompts(NamedTuple):
    """Prompts with their tokens, which cost a tenth of scoring: they are made once."""

    prompts: Sequence[Prompt]
    """What is continued."""
    ids: Ids
    """The tokens of each, as `prompt_ids` gives them."""

    @classmethod
    def of(cls, model: Runtime, prompts: Sequence[Prompt]) -> "TokenizedPrompts":
        """Tokenize prompts, through the chat template where the model has one."""
        return cls(prompts, prompt_ids(model, prompts))


def score(
    model: Runtime, prompts: Sequence[Prompt], options: Options
) -> Float[Tensor, "prompt option"]:
    """Score each option after each prompt [nats]; in a `steered` block, of the steered model.

    For example:

        score(model, ["2 + 2 ="], [" 4", " 5"])  # [prompt, option]
    """
    # Another thread's block is over once the lock is ours.
    with model.lock:
        if model.is_steered:
            ids = prompt_ids(model, prompts)
            marks = spans.find(model, prompts, spans.of_rows(model.edits, len(prompts)))
            return full_scores(model, ids, tokens_of(model, prompts, ids, options), marks)
    return score_rows(model, TokenizedPrompts.of(model, prompts), options)[0]


def score_rows(
    model: Runtime,
    prompts: TokenizedPrompts,
    options: Options,
    edit: Edit | None = None,
    site: Site = sites.FIRST,
    progress: StageProgress | None = None,
) -> Float[Tensor, "intervention prompt option"]:
    """Score options under each row of `edit`; without one, a row of unsteered scores.

    `progress` counts as that of `sweep`.
    """
    scores = _scored(model, prompts, options, edit, site, progress)
    return scores.base[None] if edit is None else scores.steered


def sweep(
    model: Runtime,
    prompts: Sequence[Prompt],
    options: Options,
    edit: Edit | None = None,
    site: Site = sites.FIRST,
    progress: StageProgress | None = None,
) -> Scores:
    """Score options after prompts, unsteered and under each row of `edit` at a site.

    Prompts go through the chat template where the model has one. `progress` counts in the unit of
    `walk.PassCount`. Raises BadInput inside a `steered` block.

        scores = sweep(model, prompts, [" yes", " no"], edit, Site(8))
        scores.steered - scores.base  # [intervention, prompt, option], nats
    """
    tokenized = TokenizedPrompts.of(model, prompts)
    return _scored(model, tokenized, options, edit, site, progress)


def _scored(
    model: Runtime,
    prompts: TokenizedPrompts,
    options: Options,
    edit: Edit | None,
    site: Site,
    progress: StageProgress | None,
) -> Scores:
    """Score options after prompts whose tokens are there."""
    answers = tokens_of(model, prompts.prompts, prompts.ids, options)
    positions = () if edit is None else edit.positions
    steered_spans = [where for where in positions if isinstance(where, Span)]
    wanted = dict.fromkeys(steered_spans, range(len(prompts.prompts)))
    marks = spans.find(model, prompts.prompts, wanted)
    return _sweep(model, _pairs(prompts.ids, answers), edit, site, progress, marks)


def sweep_ids(
    model: Runtime,
    prompts: Ids,
    options: OptionIds,
    edit: Edit | None = None,
    site: Site = sites.FIRST,
    progress: StageProgress | None = None,
) -> Scores:
    """Score answers given as token ids, unsteered and under each row of `edit`, as `sweep` does.

    For example:

        scores = sweep_ids(model, [[5, 6, 7]], [[11], [12, 13]], edit, Site(8))
        change = scores.steered - scores.base
    """
    return _sweep(model, _pairs(prompts, options), edit, site, progress)


def _pairs(prompts: Ids, options: OptionIds) -> list[PromptAnswers]:
    """Put each prompt together with its answers."""
    by_prompt = options_by_prompt(options, len(prompts))
    return [
        (tuple(ids), tuple(map(tuple, answers)))
        for ids, answers in zip(prompts, by_prompt, strict=True)
    ]


def _sweep(
    model: Runtime,
    pairs: Sequence[PromptAnswers],
    edit: Edit | None,
    site: Site,
    progress: StageProgress | None = None,
    marks: spans.Marks = MappingProxyType({}),
) -> Scores:
    """Score pairs of a prompt and its answers; `marks`: where the edit's spans stand."""
    at = sites.boundary(site, model.n_layers)
    with model.lock:
        if model.is_steered:
            raise BadInput("A sweep steers by itself: call it outside the steered block.")
    if marks or not resumable(model):
        return _full(model, pairs, edit, site, progress, marks)
    if edit is not None and by_prompt(edit):
        return _prompt_by_prompt(model, pairs, edit, site, progress)
    unique = {pair: index for index, pair in enumerate(dict.fromkeys(pairs))}
    where = torch.tensor([unique[pair] for pair in pairs])
    made = {
        answers: tails(answers, branches(model))
        for answers in dict.fromkeys(answers for _, answers in unique)
    }
    ends = [End(index, tail) for (_, answers), index in unique.items() for tail in made[answers]]
    root = tree([ids for ids, answers in unique for _ in made[answers]])
    walks = [Walk(model, ends, at, None)]
    chunks: list[Tensor] = []
    if edit is not None:
        longest = max(1 + walks[0].longest, *(len(node.ids) for node in root.walk()))
        # Logits of one prompt under one intervention.
        logits = model.module.config.get_text_config().vocab_size * (1 + walks[0].longest)
        size = max(1, min(budget(model) // longest, 4 * LOGITS // logits))
        chunks = _chunks(edit, size)
        walks += [Walk(model, ends, at, edit.take(rows)) for rows in chunks]
    count = PassCount(sum(walk.work(root) for walk in walks), progress)
    for walk in walks:
        walk.start(root, count)
    base = walks[0].scores[0][where]
    steered = torch.empty(0 if edit is None else edit.rows, *base.shape)
    for rows, walk in zip(chunks, walks[1:], strict=True):
        steered[rows] = walk.scores[:, where]
    return Scores(base, steered)


def full_scores(
    model: Runtime, prompts: Ids, options: OptionIds, marks: spans.Marks = MappingProxyType({})
) -> Float[Tensor, "prompt option"]:
    """Score answers by full forward passes [nats], `TOGETHER` prompts at once.

    In a `steered` block row i of the edit steers prompt i; `marks` say where its spans stand.

        full_scores(model, [[5, 6, 7]], [[11], [12, 13]])  # [prompt, option]
    """
    by_prompt = options_by_prompt(options, len(prompts))
    out = torch.full((len(prompts), max(map(len, by_prompt))), -torch.inf)
    paths = [(row, tail) for row, answers in enumerate(by_prompt) for tail in tails(answers, False)]
    paths.sort(key=_tail_length)
    for after, same_length in itertools.groupby(paths, _tail_length):
        waiting = list(same_length)
        lengths = [len(prompts[row]) for row, _ in waiting]
        for group in batches(model, lengths, TOGETHER):
            part = [waiting[number] for number in group]
            rows = [row for row, _ in part]
            whole = [[*prompts[row], *tail.tokens] for row, tail in part]
            logits = _full_logits(model, whole, rows, after, marks)
            place, option, scores = read(logits[:, None], [tail for _, tail in part])
            out[torch.tensor(rows)[place], option] = scores[:, 0]
    return out


def _tail_length(path: tuple[int, Tail]) -> int:
    """Count the tokens of a path after its prompt."""
    return len(path[1].tokens)


def _full_logits(
    model: Runtime, whole: Ids, rows: Sequence[int], after: int, marks: spans.Marks
) -> Float[Tensor, "row tok vocab"]:
    """Run prompts with `after` tokens of an answer: logits at the last token of the prompt and on.

    `rows` are the numbers of the prompts among all.
    """
    width = max(map(len, whole))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in whole], device=model.device)
    mask = torch.tensor(
        [[False] * (width - len(row)) + [True] * len(row) for row in whole], device=model.device
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
        out = model.forward(ids, mask, torch.tensor(rows), frame, logits_to_keep=after + 1)
    return out.logits[:, -after - 1 :]


def _prompt_by_prompt(
    model: Runtime,
    pairs: Sequence[PromptAnswers],
    edit: Edit,
    site: Site,
    progress: StageProgress | None,
) -> Scores:
    """Score one prompt after the other, each under the edit that its last token settles."""
    most = max(len(answers) for _, answers in pairs)
    unique = dict.fromkeys(pairs)
    above = model.n_layers - sites.boundary(site, model.n_layers)
    layers = model.n_layers + edit.rows * above
    count = PassCount(sum(map(_pair_tokens, unique)) * layers, progress)
    scores: dict[PromptAnswers, Scores] = {}
    for pair in unique:
        ids, answers = pair
        tokens = torch.tensor([ids])
        mask = torch.ones_like(tokens, dtype=torch.bool)
        last = model.residuals(tokens, mask, site)[:, -1]
        settled = settle(edit, last.expand(edit.rows, -1))
        base, steered = _sweep(model, [pair], settled, site)
        missing = (0, most - len(answers))
        scores[pair] = Scores(
            torch.nn.functional.pad(base, missing, value=-torch.inf),
            torch.nn.functional.pad(steered, missing, value=-torch.inf),
        )
        count.add(_pair_tokens(pair) * layers)
    base = torch.cat([scores[pair].base for pair in pairs])
    return Scores(base, torch.cat([scores[pair].steered for pair in pairs], dim=1))


def _full(
    model: Runtime,
    pairs: Sequence[PromptAnswers],
    edit: Edit | None,
    site: Site,
    progress: StageProgress | None,
    marks: spans.Marks,
) -> Scores:
    """Score by full forward passes, unsteered and then under the rows of the edit in turn."""
    prompts = [ids for ids, _ in pairs]
    options = [answers for _, answers in pairs]
    interventions = 0 if edit is None else edit.rows
    work = sum(map(_pair_tokens, pairs)) * model.n_layers
    count = PassCount((1 + interventions) * work, progress)
    base = full_scores(model, prompts, options)
    count.add(work)
    steered = torch.empty(interventions, *base.shape)
    if edit is not None:
        for row in range(interventions):
            with model.steered(edit.take(torch.tensor([row])), site):
                steered[row] = full_scores(model, prompts, options, marks)
            count.add(work)
    return Scores(base, steered)


def _pair_tokens(pair: PromptAnswers) -> int:
    """Count the tokens of a prompt and its answers."""
    prompt, answers = pair
    return len(prompt) + sum(map(len, answers))


def _chunks(edit: Edit, size: int) -> list[Int[Tensor, " row"]]:
    """Cut the rows of an edit into chunks of at most `size`.

    Those that begin to steer at the same token stand together.
    """
    begins: dict[Where, int] = {"all": 0, "prompt": 0, "last": 1, "generated": 2}
    chunks: list[Tensor] = []
    for begin in (0, 1, 2):
        beginning = [row for row, where in enumerate(edit.positions) if begins[where] == begin]
        rows = torch.tensor(beginning, dtype=torch.long)
        parts = -(-len(rows) // size)
        if parts:
            chunks += rows.tensor_split(parts)
    return chunks
