"""Residuals of a corpus, token by token: the one way in which training, evaluation and harvest read
a model.

1. Texts become batches (`texts.py`), batches become residuals, padding falls away.
2. The first token of each row is dropped: it is the beginning-of-sequence token or an attention
   sink, with a norm many times that of the others, and steering never touches it either.
3. So are tokens that the SAE's makers left out (`reading.py`): special ones, or positions.
4. Activations that are NaN or infinite stop the work with one line that says where they were.

Left out: shuffling and position in the stream (`train.py`, which needs them).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.records import Site
from sae_training.dictionary.reading import ALL, PLAIN, ModelReading
from sae_training.dictionary.texts import Corpus, TextBatch, batches
from sae_training.engine.model import Model


class Tokens(NamedTuple):
    """The residuals of some tokens, and where in the corpus each token stands."""

    x: Float[Tensor, "tok d_model"]
    """Residual of each token [residual units], float32, on the model's device."""
    document: Int[Tensor, " tok"]
    """0-based number of the text, on the CPU."""
    position: Int[Tensor, " tok"]
    """0-based position in the text [tokens]."""
    row: Int[Tensor, " tok"]
    """Row of the batch."""
    column: Int[Tensor, " tok"]
    """Column of the batch."""
    ids: Int[Tensor, "row width"]
    """Token ids of the batch, the dropped first column included."""


class Places(NamedTuple):
    """Which tokens of a batch are read: their rows and columns."""

    row: Int[Tensor, " tok"]
    """Row of the batch."""
    column: Int[Tensor, " tok"]
    """Column of the batch."""


def places(model: Model, batch: TextBatch, reading: ModelReading = PLAIN) -> Places:
    """Say which tokens of a batch are read: not the first column, nor what `reading` leaves out.

    places(model, batch).row
    """
    counted = batch.mask.clone()
    counted[:, 0] = False
    if reading.special or reading.left_out:
        special = model.tokenizer.all_special_ids if reading.special else []
        counted &= ~torch.isin(batch.ids, torch.tensor([*special, *reading.left_out]))
    if reading.positions != ALL:
        # Of a whole piece: a bound may count from its end.
        positions = range(reading.context_size)[slice(*reading.positions)]
        counted &= torch.tensor([i in positions for i in range(counted.shape[1])])
    return Places(*counted.nonzero(as_tuple=True))


def placed(batch: TextBatch, at: Places, x: Float[Tensor, "tok d_model"]) -> Tokens:
    """Put the residuals of a batch's tokens beside where the tokens stand."""
    return Tokens(
        x=x,
        document=batch.document[at.row],
        position=batch.start[at.row] + at.column,
        row=at.row,
        column=at.column,
        ids=batch.ids,
    )


def picked(
    hidden: Float[Tensor, "row width d_model"], batch: TextBatch, at: Places, site: Site
) -> Float[Tensor, "tok d_model"]:
    """Pick some tokens out of the residuals of a batch, as float32.

    Raises BadInput where one is not finite.
    """
    flat = hidden[at.row.to(hidden.device), at.column.to(hidden.device)].float()
    finite = flat.isfinite().all(-1).cpu()
    if not bool(finite.all()):
        bad = batch.document[at.row][~finite]
        raise BadInput(
            f"The model gives NaN or infinite activations at layer {site.layer}:"
            f" {len(bad)} tokens in {len(bad.unique())} documents, first in document"
            f" {int(bad[0])}. Load the model in float32 or bfloat16, or leave those documents out."
        )
    return flat


def residual_tokens(
    model: Model, batch: TextBatch, site: Site, reading: ModelReading = PLAIN
) -> Tokens:
    """Read the residuals of one batch, without its first column and what `reading` leaves out.

    Raises BadInput where a residual is not finite.
    """
    at = places(model, batch, reading)
    return placed(batch, at, picked(model.residuals(batch.ids, batch.mask, site), batch, at, site))


def read(
    model: Model, corpus: Corpus, site: Site, reading: ModelReading = PLAIN
) -> Iterator[Tokens]:
    """Read the residual of every token of every text, in the order of `batches`.

    What `reading` leaves out is left out; whether texts begin with a BOS token is the model's part
    (`Runtime.beginning`).

    For example:

        for tokens in read(model, Corpus(texts), Site(8)):
            tokens.x  # [tok, d_model]
    """
    for batch in batches(model, corpus):
        yield residual_tokens(model, batch, site, reading)
