"""The loss of texts under many interventions: what a steering breaks.

As in `scoring.py`, each text runs once unsteered, which gives its base loss and the residual at the
site; the layers above run for every intervention. All positions count here, so no layer is cut
short. `loss_after` is that of an unsteered model which has read something before.

Left out: shared beginnings; neutral texts have none.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.records import Site
from sae_training.engine.resume import PrefixCache, resumable, run
from sae_training.engine.walk import LOGITS, Ids, Progress, budget
from sae_training.model import sites
from sae_training.model.edits import Edit, prompt_frame, settle
from sae_training.model.runtime import Runtime


class Losses(NamedTuple):
    base: Float[Tensor, " text"]
    """Unsteered mean next-token loss of each text [nats a token]."""
    steered: Float[Tensor, "intervention text"]
    """The same under each intervention."""


def losses(
    model: Runtime,
    texts: Ids,
    edit: Edit,
    site: Site,
    progress: Progress | None = None,
) -> Losses:
    """Mean next-token losses of token ids, unsteered and under each row of `edit`; a text is all
    prompt.
    """
    at = sites.boundary(site, model.n_layers)
    for index, ids in enumerate(texts):
        if not 2 <= len(ids) <= model.context:
            raise BadInput(
                f"Text {index + 1} has {len(ids)} tokens; a loss needs 2 to {model.context}. Cut or"
                " drop it."
            )
    base, steered = torch.empty(len(texts)), torch.empty(edit.rows, len(texts))
    for column, ids in enumerate(texts):
        tokens = torch.tensor([ids], device=model.device)
        mask = torch.ones_like(tokens, dtype=torch.bool)
        vocabulary = model.module.config.get_text_config().vocab_size
        side = max(1, min(budget(model) // len(ids), LOGITS // (vocabulary * len(ids))))
        residual = None
        if resumable(model):
            ran = run(
                model,
                [ids],
                PrefixCache([0], 1, len(ids), {}, model.n_layers - 1),
                None,
                0,
                False,
                at,
            )
            base[column], residual = _mean_loss(ran.logits, tokens)[0], ran.residual
        else:
            base[column] = model.loss(tokens, mask)[0]
        for rows in torch.arange(edit.rows).split(side):
            part, count = edit.take(rows), len(rows)
            if residual is None:
                with model.steered(part, site):
                    steered[rows, column] = model.loss(
                        tokens.expand(count, -1), mask.expand(count, -1)
                    ).cpu()
                continue
            part = settle(part, residual[:, -1].expand(count, -1))
            where = prompt_frame(mask.expand(count, -1)).where(part.positions).to(residual.device)
            cache = PrefixCache([0], count, len(ids), {}, model.n_layers - 1)
            ran = run(model, [ids], cache, part(residual.expand(count, -1, -1), where), at, False)
            steered[rows, column] = _mean_loss(ran.logits, tokens)
        if progress:
            progress(column + 1, len(texts))
    return Losses(base, steered)


def loss_after(model: Runtime, before: Ids, texts: Ids, rows: int = 64) -> Float[Tensor, " text"]:
    """Mean loss of each text's own tokens after the ids that stand before it [nats a token]; NaN
    for an empty text.

    `before[i]` must hold a token at least; what it says is read and not counted.
    """
    out = torch.full((len(texts),), torch.nan)
    vocabulary = model.module.config.get_text_config().vocab_size
    told = [row for row, ids in enumerate(texts) if ids]
    for row in told:
        if not before[row] or len(before[row]) + len(texts[row]) > model.context:
            raise BadInput(
                f"Text {row + 1} has {len(texts[row])} tokens after {len(before[row])};"
                f" {model.name} reads 1 and more before, and {model.context} in all. Shorten it."
            )
    width = max((len(before[row]) + len(texts[row]) for row in told), default=1)
    size = max(1, min(rows, LOGITS // (vocabulary * width)))
    for some in (told[at : at + size] for at in range(0, len(told), size)):
        whole = [[*before[row], *texts[row]] for row in some]
        longest = max(map(len, whole))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in whole], device=model.device)
        place = torch.arange(longest, device=model.device)
        ends = torch.tensor([len(row) for row in whole], device=model.device)[:, None]
        starts = torch.tensor([len(before[row]) for row in some], device=model.device)[:, None]
        logits = model.logits(ids, place < ends)[:, :-1].float()
        nats = logits.logsumexp(-1) - logits.gather(-1, ids[:, 1:, None].to(logits.device))[..., 0]
        counted = ((place >= starts) & (place < ends))[:, 1:].to(nats.device)
        out[some] = ((nats * counted).sum(-1) / counted.sum(-1)).cpu()
    return out


def _mean_loss(logits: Float[Tensor, "row tok vocab"], tokens: Tensor) -> Float[Tensor, " row"]:
    logits = logits[:, :-1].float()
    target = tokens[:, 1:, None].to(logits.device).expand(len(logits), -1, -1)
    return (logits.logsumexp(-1) - logits.gather(-1, target)[..., 0]).mean(-1).cpu()
