"""What a shorter number format costs, measured on a sample of the texts.

1. The model as it is loaded and the same model in float32 read the same rows.
2. `loss` is the difference of their mean next-token losses; `residuals` is the share of the
   residuals' variance at the site that differs.

Left out: what it costs a value's profile or a steering. The losses of a sweep are its own.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from feature_store.records import Site
from sae_training.dictionary.stream import picked, places
from sae_training.dictionary.texts import Corpus, batches
from sae_training.engine.model import Model

SAMPLE = 2048
"""Tokens on which number formats are compared, about."""


class FormatCost(NamedTuple):
    """What reading in a shorter number format changes."""

    loss: float
    """Next-token loss, less that in float32 [nats a token]."""
    residuals: float
    """Squared difference of the residuals, over the variance of those in float32 [0 is none]."""
    tokens: int
    """Tokens compared."""


def format_cost(model: Model, whole: Model, corpus: Corpus, site: Site) -> FormatCost:
    """Compare a model with itself in float32, `whole`, on the first texts of a corpus.

    format_cost(model, open_model(address), Corpus(texts, rows=8), Site(15)).loss
    """
    parts: list[tuple[Tensor, Tensor]] = []
    losses: list[Tensor] = []
    tokens = 0
    for batch in batches(model, corpus):
        at = places(model, batch)
        read, true = (
            picked(reader.residuals(batch.ids, batch.mask, site), batch, at, site).cpu()
            for reader in (model, whole)
        )
        parts.append((read, true))
        losses.append(
            model.loss(batch.ids, batch.mask).cpu() - whole.loss(batch.ids, batch.mask).cpu()
        )
        tokens += len(at.row)
        if tokens >= SAMPLE:
            break
    read, true = (torch.cat(part).double() for part in zip(*parts, strict=True))
    variance = (true - true.mean(0)).square().sum()
    return FormatCost(
        loss=float(torch.cat(losses).nanmean()),
        residuals=float((read - true).square().sum() / variance),
        tokens=tokens,
    )
