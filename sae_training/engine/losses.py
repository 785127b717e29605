"""The loss of texts under many interventions: what a steering breaks.

As in `scoring.py`, each text runs once unsteered, which gives its base loss and the residual at the
site; the layers above run for every intervention. All positions count here, so no layer is cut
short. `loss_after` is that of an unsteered model which has read something before.

Left out: shared beginnings; neutral texts have none.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.progress import StageProgress
from feature_store.records import Site
from sae_training.engine.resume import resumable, run_alone
from sae_training.engine.walk import LOGITS, Ids, PassCount, budget, head_layers
from sae_training.model import sites
from sae_training.model.edits import Edit, prompt_frame, settle
from sae_training.model.overflow import not_finite
from sae_training.model.runtime import Runtime


class SweepLosses(NamedTuple):
    """Losses of texts, unsteered and under each intervention."""

    base: Float[Tensor, " text"]
    """Unsteered mean next-token loss of each text [nats a token]."""
    steered: Float[Tensor, "intervention text"]
    """The same under each intervention."""


def losses(
    model: Runtime,
    texts: Ids,
    edit: Edit,
    site: Site,
    progress: StageProgress | None = None,
) -> SweepLosses:
    """Average the next-token losses of texts, unsteered and under each row of `edit`.

    `texts` are token ids; all of a text counts as prompt. `progress` counts in the unit of
    `walk.PassCount`, up to `losses_work`.

        damage = losses(model, model.tokenize(texts), edit, Site(8))
        damage.steered - damage.base  # [intervention, text], nats a token
    """
    at = sites.boundary(site, model.n_layers)
    for index, ids in enumerate(texts):
        if not 2 <= len(ids) <= model.context:
            raise BadInput(
                f"Text {index + 1} has {len(ids)} tokens; a loss needs 2 to {model.context}. Cut or"
                " drop it."
            )
    base = torch.empty(len(texts))
    steered = torch.empty(edit.rows, len(texts))
    resumes = resumable(model)
    vocabulary = model.module.config.get_text_config().vocab_size
    count = PassCount(losses_work(model, texts, edit.rows, site), progress)
    for column, ids in enumerate(texts):
        tokens = torch.tensor([ids], device=model.device)
        mask = torch.ones_like(tokens, dtype=torch.bool)
        residual: Tensor | None = None
        if resumes:
            logits, residual = run_alone(model, ids, watch=at)
            base[column] = _mean_loss(logits, tokens)[0]
        else:
            base[column] = model.loss(tokens, mask)[0]
        if not base[column].isfinite():
            raise not_finite(model, f"In text {column + 1}", steered=False)
        unsteered_work, row_work = _work(model, len(ids), at)
        count.add(unsteered_work)
        side = max(1, min(budget(model) // len(ids), LOGITS // (vocabulary * len(ids))))
        for rows in torch.arange(edit.rows).split(side):
            steered[rows, column] = _steered_losses(model, tokens, residual, edit.take(rows), site)
            count.add(len(rows) * row_work)
    return SweepLosses(base, steered)


def _steered_losses(
    model: Runtime,
    tokens: Int[Tensor, "1 tok"],
    residual: Float[Tensor, "1 tok d_model"] | None,
    part: Edit,
    site: Site,
) -> Float[Tensor, " row"]:
    """Average the loss of a text under some rows of an edit [nats a token].

    `residual` is the unsteered one at the site; None where the model cannot be resumed from it.
    """
    rows = part.rows
    mask = torch.ones_like(tokens, dtype=torch.bool).expand(rows, -1)
    if residual is None:
        with model.steered(part, site):
            return model.loss(tokens.expand(rows, -1), mask).cpu()
    part = settle(part, residual[:, -1].expand(rows, -1))
    where = prompt_frame(mask).where(part.positions).to(residual.device)
    entering = part(residual.expand(rows, -1, -1), where)
    at = sites.boundary(site, model.n_layers)
    return _mean_loss(run_alone(model, tokens[0].tolist(), entering, at)[0], tokens)


def losses_work(model: Runtime, texts: Ids, rows: int, site: Site) -> int:
    """Say how much work `losses` is with so many rows of an edit, in the unit of `PassCount`.

    losses_work(model, [[5, 6, 7]], 48, Site(8))
    """
    at = sites.boundary(site, model.n_layers)
    unsteered_work, row_work = _work(model, sum(map(len, texts)), at)
    return unsteered_work + rows * row_work


def _work(model: Runtime, tokens: int, at: int) -> tuple[int, int]:
    """Say how much work tokens are unsteered, and resumed at a boundary."""
    head = head_layers(model)
    above = model.n_layers - at if resumable(model) else model.n_layers
    return tokens * (model.n_layers + head), tokens * (above + head)


def loss_after(model: Runtime, before: Ids, texts: Ids, rows: int = 64) -> Float[Tensor, " text"]:
    """Average the loss of each text after what the model has read before it [nats a token].

    `before[i]` holds the token ids that stand before `texts[i]`, one at least; they are read and
    not counted. `rows` texts at most go through together. NaN for an empty text.

        loss_after(model, [[1, 403]], [[2501, 263]])
    """
    out = torch.full((len(texts),), torch.nan)
    vocabulary = model.module.config.get_text_config().vocab_size
    filled = [row for row, ids in enumerate(texts) if ids]
    for row in filled:
        if not before[row] or len(before[row]) + len(texts[row]) > model.context:
            raise BadInput(
                f"Text {row + 1} has {len(texts[row])} tokens after {len(before[row])};"
                f" {model.name} reads 1 and more before, and {model.context} in all. Shorten it."
            )
    width = max((len(before[row]) + len(texts[row]) for row in filled), default=1)
    size = max(1, min(rows, LOGITS // (vocabulary * width)))
    for first in range(0, len(filled), size):
        batch = filled[first : first + size]
        whole = [[*before[row], *texts[row]] for row in batch]
        longest = max(map(len, whole))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in whole], device=model.device)
        place = torch.arange(longest, device=model.device)
        ends = torch.tensor([len(row) for row in whole], device=model.device)[:, None]
        starts = torch.tensor([len(before[row]) for row in batch], device=model.device)[:, None]
        logits = model.logits(ids, place < ends)[:, :-1].float()
        nats = logits.logsumexp(-1) - logits.gather(-1, ids[:, 1:, None].to(logits.device))[..., 0]
        counted = ((place >= starts) & (place < ends))[:, 1:].to(nats.device)
        out[batch] = ((nats * counted).sum(-1) / counted.sum(-1)).cpu()
    return out


def _mean_loss(logits: Float[Tensor, "row tok vocab"], tokens: Tensor) -> Float[Tensor, " row"]:
    """Average the next-token loss of rows that all hold the same tokens."""
    logits = logits[:, :-1].float()
    target = tokens[:, 1:, None].to(logits.device).expand(len(logits), -1, -1)
    return (logits.logsumexp(-1) - logits.gather(-1, target)[..., 0]).mean(-1).cpu()
