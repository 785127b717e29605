"""The output score of Arad, Mueller and Belinkov in its own form: does a feature write its tokens?

"SAEs are good for steering, if you select the right features" (EMNLP 2025, arXiv 2505.20063):

1. The feature's tokens are the `TOKENS` that its decoder row promotes most (the logit lens, the
   final norm's weights folded in; `sae_training/dictionary/footprint.py`).
2. A neutral prompt is read once. At its last token the feature is raised by `TIMES` times the
   largest activation of any feature there.
3. With r the best rank of the tokens among the V of the vocabulary and P the largest probability of
   any of them, the score is (1 - r / V) P [0 to 1].

It is one number of the feature, whichever value a label names, from one intervention on one prompt:
there is no interval. `chance` is the 97.5 % quantile over features without a label. Ours
(`output_scores.py`) asks the value's own items instead: a value has no token, and in an early
layer the promoted tokens say little.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from feature_store.progress import StageProgress
from feature_store.records import Site, Where
from sae_training.dictionary.footprint import Footprints
from sae_training.dictionary.sae import SAE
from sae_training.engine.model import Model
from sae_training.model.edits import Add
from sae_training.model.unembedding import unembedding

TOKENS = 20
"""Promoted tokens of a feature."""
TIMES = 10.0
"""How far a feature is raised [largest activation at the last token]."""
LAST: Where = "last"
"""Which token is steered."""
PROMPT = "From my experience,"
"""Neutral prompt of the published code."""
ROWS = 64
"""Features that are raised in one forward pass."""


def promoted_scores(
    model: Model,
    sae: SAE,
    site: Site,
    features: Sequence[int],
    prompt: str = PROMPT,
    progress: StageProgress | None = None,
) -> Float[np.ndarray, " feature"]:
    """Score features [0 to 1]; NaN for one that writes nothing.

    Raises Incompatible for a model whose end is no norm and one product.
    """
    footprints = Footprints(model, unembedding(model), sae, TOKENS)
    ids = torch.tensor(model.tokenize([prompt]))
    mask = torch.ones_like(ids, dtype=torch.bool)
    last = model.residuals(ids, mask, site)[0, -1:].float().to(sae.device)
    largest = float(sae.encode(last).max())
    scores = np.full(len(features), np.nan)
    for start in range(0, len(features), ROWS):
        chosen = torch.tensor(features[start : start + ROWS], device=sae.device)
        rows = sae.W_dec[chosen].float()
        promoted = footprints.logits(rows).topk(TOKENS, dim=1).indices.cpu()
        edit = Add(TIMES * largest * rows.to(model.device), tuple(LAST for _ in rows))
        with model.steered(edit, site):
            logits = model.logits(ids.expand(len(rows), -1), mask.expand(len(rows), -1))[:, -1]
        probability = logits.double().softmax(-1).cpu()
        of_tokens = probability.gather(1, promoted)
        top = of_tokens.max(1).values
        rank = (probability > top[:, None]).sum(1)
        part = ((1 - rank / probability.shape[1]) * top).numpy()
        writes = (rows != 0).any(1).cpu().numpy()
        scores[start : start + len(rows)] = np.where(writes, part, np.nan)
        if progress:
            progress(min(start + ROWS, len(features)), len(features))
    return scores
