"""Unsteered scores of prompts whose neighbours begin alike: questions asked one after the other
behind the same long text.

1. Neighbours that share at least half of a prompt form a group, as far as it goes, of at most
   `ROWS`.
2. What all of a group share runs once, its keys and values are repeated, and the rest of each
   prompt runs in one batch.

A family that cannot be resumed (`resume.py`) is scored by full forward passes. `scoring.sweep`
shares more, but runs node by node: it is made for many interventions on each
prompt, this for one pass over many prompts. Left out: steering, for which `scoring.py` is there.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput
from sae_training.engine.answers import by_answers, tokens_of
from sae_training.engine.generate import prompt_ids
from sae_training.engine.resume import resumable
from sae_training.engine.scoring import full_scores
from sae_training.engine.walk import LOGITS, Ids, logprobs
from sae_training.model.edits import prompt_frame
from sae_training.model.runtime import Runtime

ROWS = 64
"""Prompts in one batch at most; fewer where their logits would be many."""


def score(
    model: Runtime, prompts: Sequence[str], options: Sequence[str]
) -> Float[Tensor, "prompt option"]:
    """Score options after prompts whose neighbours begin alike [nats], as `scoring.score` does.

    Raises BadInput inside a `steered` block.
    """
    with model.lock:
        if model.is_steered:
            raise BadInput(
                "Neighbours are scored without steering: call this outside the steered block."
            )
    ids = prompt_ids(model, prompts)
    if not (resumable(model) and model.memory == "past_key_values"):
        return full_scores(model, ids, tokens_of(model, prompts, ids, options))
    vocabulary = model.module.config.get_text_config().vocab_size
    out = torch.empty(len(prompts), len(options))
    for rows, answers in by_answers(model, prompts, ids, options):
        for stem in dict.fromkeys(tuple(answer[:-1]) for answer in answers):
            alike = [o for o, answer in enumerate(answers) if tuple(answer[:-1]) == stem]
            wanted = [[answers[o][at] for o in alike] for at in range(len(stem) + 1)]
            whole = [[*ids[row], *stem] for row in rows]
            most = max(1, min(ROWS, LOGITS // (vocabulary * max(map(len, whole)))))
            for start, stop, shared in _groups(whole, len(stem) + 1, most):
                place = torch.tensor(rows[start:stop])[:, None], torch.tensor(alike)
                out[place] = _group(model, whole[start:stop], shared, wanted)
    return out


def _groups(rows: Ids, kept: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Cut prompts into groups of neighbours: (first, end, shared tokens) of each.

    The last `kept` tokens of a prompt are never shared, because their logits are wanted.
    """
    start = 0
    while start < len(rows):
        first, stop = rows[start], start + 1
        shared = len(first) - kept
        while stop < len(rows) and stop - start < most:
            alike = _alike(first, rows[stop], min(shared, len(rows[stop]) - kept))
            if 2 * alike < len(first):
                break
            shared, stop = alike, stop + 1
        yield start, stop, max(shared, 0)
        start = stop


def _alike(a: Sequence[int], b: Sequence[int], most: int) -> int:
    """Count the first tokens that two prompts share, up to `most`."""
    return next((k for k in range(most) if a[k] != b[k]), max(most, 0))


def _group(model: Runtime, rows: Ids, shared: int, wanted: Ids) -> Float[Tensor, "prompt option"]:
    """Score a group: what its prompts share runs once, the rest in one batch."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.module.config)
    tails = [list(row[shared:]) for row in rows]
    shortest, width, kept = min(map(len, tails)), max(map(len, tails)), len(wanted)
    # Padded on the right: a sliding window counts places, and padding between beginning and rest
    # would fill it.
    ids = torch.tensor([tail + [0] * (width - len(tail)) for tail in tails])
    mask = torch.tensor(
        [[True] * (shared + len(tail)) + [False] * (width - len(tail)) for tail in tails]
    )
    with model.lock:
        if shared:
            head = torch.tensor([list(rows[0][:shared])])
            model.forward(
                head,
                torch.ones_like(head, dtype=torch.bool),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache.batch_repeat_interleave(len(rows))
        frame = prompt_frame(mask[:, shared:].to(model.device))
        logits = model.forward(
            ids,
            mask,
            frame=frame,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=width - shortest + kept,
        ).logits
    first = torch.tensor([len(tail) - shortest for tail in tails], device=logits.device)
    at = first[:, None] + torch.arange(kept, device=logits.device)
    return (
        logprobs(logits[torch.arange(len(rows), device=logits.device)[:, None], at], wanted)
        .sum(1)
        .cpu()
    )
