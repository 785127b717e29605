"""What features write straight into the logits, and which features point the same way: from the
weights alone, for all features.

1. `Footprints`: a decoder row, centred as the final norm does, times that norm's weights,
   times the unembedding centred over the tokens (`model/unembedding.py`). Its largest and smallest
   numbers are the tokens that the feature promotes and suppresses; the rest is kept as a histogram
   and three moments. Random directions say how far the largest of many logits stands out anyway.
2. `DecoderNeighbours`: the features with the largest cosine of decoder rows.
3. `null_cosines`: the same among as many random rows. The largest of many random cosines is large
   already, the more so the more features there are and the narrower the model.

Everything goes in blocks of features of a fixed size, so that what is computed does not depend on
what was done already. Memory beside model and SAE: `HELD` numbers three times over (192 MiB), and a
float32 copy of the unembedding or of the decoder. Left out: the layers in between (a feature of an
early layer writes through them); tokens beyond the tokenizer's vocabulary, which pad a head to a
round size.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_training.dictionary.sae import SAE
from sae_training.model.runtime import Runtime
from sae_training.model.tokens import strings
from sae_training.model.unembedding import Unembedding

HELD = 2**24
"""Logits, or cosines, of a block of features [numbers]."""
BINS = 40
"""Bins of the histogram of a feature's logits, from its smallest to its largest."""
NULL_ROWS = 512
"""Most random rows whose logits are looked at, or whose neighbours are looked for."""


class TokenFootprints(NamedTuple):
    """What a block of features writes into the logits."""

    token_logits: pa.Table
    """feature, side, rank, id, token, logit: promoted and suppressed tokens."""
    logit_shapes: pa.Table
    """feature, sd, skewness, kurtosis, smallest, largest, bins: one row a feature."""


def block_size(others: int) -> int:
    """Say how many features go together where each has a number for `others` things."""
    return max(1, HELD // others)


class LogitNull(NamedTuple):
    """What the logits of random directions stay below, 97.5 % of them."""

    peak: float
    """Logit of the token that is promoted most [SD over the tokens]."""
    kurtosis: float
    """Fourth standardised moment [3 = normal]."""


class Footprints:
    """The logit lens of an SAE on its model: `Footprints(model, read, sae, 10).of(0)`."""

    def __init__(self, model: Runtime, read: Unembedding, sae: SAE, top: int) -> None:
        """Fold the final norm's centring into the head; `top` tokens are kept of each side."""
        self.model, self.read, self.sae = model, read, sae
        known = len(read.head) if model.tokenizer is None else len(model.tokenizer)
        self.head = read.head[:known].float().to(sae.device)
        self.mean = self.head.mean(0)
        self.top = min(top, len(self.head))
        self.blocks = range(0, sae.n_features, block_size(len(self.head)))
        """First feature of each block."""

    def logits(self, rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row token"]:
        """Give the change of every token's logit, less their mean, along residual directions.

        Per activation unit, where the last residual has a root mean square of 1.
        """
        rows = rows.float()
        if self.read.norm == "LayerNorm":
            rows = rows - rows.mean(-1, keepdim=True)
        rows = rows * self.read.weight.to(rows)
        return (rows @ self.head.T).sub_((rows @ self.mean)[:, None])

    def of(self, start: int) -> TokenFootprints:
        """Compute the block that begins at feature `start`; a row of length 0 writes nothing."""
        stop = min(start + self.blocks.step, self.sae.n_features)
        rows = self.sae.W_dec[start:stop]
        writes = _has_direction(rows)
        features = np.arange(start, stop)[writes.cpu().numpy()]
        logits = self.logits(rows[writes])
        parts = []
        for side, largest in (("promoted", True), ("suppressed", False)):
            extreme = logits.topk(self.top, dim=1, largest=largest)
            ids = extreme.indices.flatten().tolist()
            parts.append(
                pa.table(
                    {
                        "feature": pa.array(np.repeat(features, self.top), pa.int32()),
                        "side": [side] * len(ids),
                        "rank": pa.array(np.tile(np.arange(self.top), len(features)), pa.int32()),
                        "id": pa.array(ids, pa.int32()),
                        "token": strings(self.model, ids),
                        "logit": extreme.values.flatten().cpu().numpy(),
                    }
                )
            )
        tokens = pa.concat_tables(parts).sort_by(
            [("feature", "ascending"), ("side", "ascending"), ("rank", "ascending")]
        )
        return TokenFootprints(tokens, _shapes(logits, features))

    def null(self, seed: int) -> LogitNull:
        """Say how far the logits of random directions stand out."""
        source = torch.Generator().manual_seed(seed)
        count = min(NULL_ROWS, self.blocks.step)
        random = torch.randn(count, self.sae.d_model, generator=source).to(self.sae.device)
        shapes = _shapes(self.logits(random), np.arange(count)).to_pandas()
        peak = (shapes.largest / shapes.sd).quantile(0.975)
        return LogitNull(float(peak), float(shapes["kurtosis"].quantile(0.975)))


def _shapes(logits: Float[Tensor, "row token"], features: Int[np.ndarray, " row"]) -> pa.Table:
    """Make the rows of `logit_shapes`; the logits are used up."""
    smallest, largest = logits.aminmax(dim=1)
    bins = [
        row.histc(BINS, float(low), float(high)).long().tolist()
        for row, low, high in zip(logits, smallest, largest, strict=True)
    ]
    sd = logits.square().mean(1).sqrt()
    square = logits.div_(sd[:, None]).square()
    moments = {
        "sd": sd,
        "skewness": (square * logits).mean(1),
        "kurtosis": square.square_().mean(1),
    }
    columns = {name: moment.cpu().numpy() for name, moment in moments.items()}
    return pa.table(
        {
            "feature": pa.array(features, pa.int32()),
            **columns,
            "smallest": smallest.cpu().numpy(),
            "largest": largest.cpu().numpy(),
            "bins": pa.array(bins, pa.list_(pa.int32())),
        }
    )


class _Nearest(NamedTuple):
    """For some rows the nearest others, the nearest first."""

    other: Int[Tensor, "row rank"]
    """Numbers of the others."""
    cosine: Float[Tensor, "row rank"]
    """Cosines with them [-1 to 1]; minus infinity where one of the two has no direction."""


class DecoderNeighbours:
    """The nearest features of an SAE by the cosine of decoder rows."""

    def __init__(self, sae: SAE, top: int, seed: int) -> None:
        """Bring the rows to length 1; `seed` draws the random rows of the null."""
        self.top = min(top, sae.n_features - 1)
        self.blocks = range(0, sae.n_features, block_size(sae.n_features))
        """First feature of each block."""
        # The random rows go before the decoder's are copied.
        self.null = null_cosines(sae.n_features, sae.d_model, self.top, seed)
        self.rows = _unit(sae.W_dec.float())

    def of(self, start: int) -> pa.Table:
        """Give rows of `decoder_neighbours` of the block that begins at feature `start`.

        A decoder row of length 0 has no direction, and so no row.
        """
        block = self.rows[start : start + self.blocks.step]
        nearest = _nearest(block, self.rows, start, self.top)
        features = np.arange(start, start + len(block))
        cosine = nearest.cosine.flatten().cpu().numpy()
        table = pa.table(
            {
                "feature": pa.array(np.repeat(features, self.top), pa.int32()),
                "rank": pa.array(np.tile(np.arange(self.top), len(block)), pa.int32()),
                "neighbour": pa.array(nearest.other.flatten().cpu().numpy(), pa.int32()),
                "cosine": cosine,
                "null_high": pa.array(np.tile(self.null, len(block)), pa.float32()),
            }
        )
        return table.filter(pa.array(np.isfinite(cosine)))


def null_cosines(rows: int, width: int, top: int, seed: int) -> Float[np.ndarray, " rank"]:
    """Give, at each rank, the 97.5 % quantile of the cosine with the nearest random rows.

    They are as many and as long as the decoder's; the neighbours of at most NULL_ROWS are looked
    for.
    """
    source = torch.Generator().manual_seed(seed)
    random = torch.randn(rows, width, generator=source)
    random /= random.norm(dim=1, keepdim=True)
    parts = []
    step = block_size(rows)
    for start in range(0, min(rows, NULL_ROWS), step):
        block = random[start : min(start + step, NULL_ROWS)]
        parts.append(_nearest(block, random, start, top).cosine)
    return np.quantile(torch.cat(parts).numpy(), 0.975, axis=0)


def _nearest(block: Tensor, rows: Tensor, start: int, top: int) -> _Nearest:
    """Find the nearest of all rows for those from `start` on, themselves left out."""
    cosine = block @ rows.T
    itself = torch.arange(len(block), device=rows.device)
    cosine[itself, itself + start] = -torch.inf
    cosine[~_has_direction(block)] = -torch.inf
    cosine[:, ~_has_direction(rows)] = -torch.inf
    largest = cosine.topk(top, dim=1)
    return _Nearest(largest.indices, largest.values)


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def _has_direction(rows: Tensor) -> Tensor:
    return (rows != 0).any(1)
