"""A side-effect sweep on a 12-layer, 768-wide GPT-2: ours, a hook and a loop, and batched full
forward passes.

The model is randomly initialised (speed does not depend on the weights), steering is after layer 8.
16 prompts of 48 tokens, four items in each of four contexts that make up half their length, are
scored with six one-token options under 12 features at two doses. It runs on the accelerator where
there is one; the figures to reach are those of a processor. One context after the other, three ways
in turn:

1. loop: what a user writes: one prompt and one intervention at a time, under a forward hook;
2. batched: full forward passes over a batch of interventions, logits at the last token only;
3. ours: `sae_training.engine.scoring.sweep_ids`.

The scores must agree to 1e-4. Half of it is timed again for prompts that share nothing.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from feature_store.records import Site
from sae_training.engine.model import Model
from sae_training.engine.scoring import sweep_ids
from sae_training.model.edits import Add

NAME = "sweep"
LAYER = 8
SITE = Site(LAYER)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CONTEXTS, ITEMS, LENGTH, SHARED = 4, 4, 48, 24
FEATURES, DOSES = 12, (0.5, 1.0)
OPTIONS = [[token] for token in (16, 17, 18, 19, 20, 21)]
BATCH = 24
"""Interventions in one full forward pass; 6 and 12 are no faster."""
REACH = {"loop": 10, "batched": 4}


def prompts(shared: int) -> list[list[list[int]]]:
    """The items of each context: random tokens after `shared` common ones."""
    source = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(50257, (count,), generator=source).tolist()

    starts = [tokens(shared) for _ in range(CONTEXTS)]
    return [[start + tokens(LENGTH - shared) for _ in range(ITEMS)] for start in starts]


def interventions() -> Add:
    """Each of 12 random directions at two doses, on all tokens but the first."""
    directions = torch.randn(FEATURES, 768, generator=torch.Generator().manual_seed(1))
    directions /= directions.norm(dim=1, keepdim=True)
    vectors = torch.cat([dose * 15 * directions for dose in DOSES])
    return Add(vectors, ("all",) * len(vectors))


def full(
    model: Model, ids: Sequence[Sequence[int]], edit: Add, batch: int, all_logits: bool
) -> torch.Tensor:
    """Scores by full forward passes over `batch` interventions of one prompt, or one if `batch`
    is 1.
    """
    wanted = torch.tensor([option[0] for option in OPTIONS], device=DEVICE)
    vectors = edit.vectors.to(DEVICE)
    scores = torch.empty(len(edit.vectors), len(ids), len(OPTIONS))
    layer = model.module.transformer.h[LAYER]
    for column, prompt in enumerate(ids):
        for rows in torch.arange(len(edit.vectors)).split(batch):

            def add(
                _: Any, __: Any, hidden: torch.Tensor, rows: torch.Tensor = rows
            ) -> torch.Tensor:
                hidden = hidden.clone()
                hidden[:, 1:] += vectors[rows][:, None]
                return hidden

            handle = layer.register_forward_hook(add)
            with torch.no_grad():
                out = model.module(
                    torch.tensor([prompt], device=DEVICE).expand(len(rows), -1),
                    use_cache=False,
                    logits_to_keep=0 if all_logits else 1,
                )
            handle.remove()
            scores[rows, column] = out.logits[:, -1].log_softmax(-1)[:, wanted].cpu()
    return scores


def compare(model: Model, contexts: list[list[list[int]]]) -> tuple[dict[str, list[float]], float]:
    """Seconds of each way for each context, and the largest difference between any two scores."""
    edit = interventions()
    ways: dict[str, Callable[[list[list[int]]], torch.Tensor]] = {
        "loop": lambda ids: full(model, ids, edit, 1, True),
        "batched": lambda ids: full(model, ids, edit, BATCH, False),
        "ours": lambda ids: sweep_ids(model, ids, OPTIONS, edit, SITE).steered,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    difference = 0.0
    for ids in contexts:
        scores = {}
        for way, work in ways.items():
            start = time.perf_counter()
            scores[way] = work(ids).cpu()  # waits for the accelerator
            seconds[way].append(time.perf_counter() - start)
        difference = max(
            difference, *(float((scores[way] - scores["ours"]).abs().max()) for way in ways)
        )
    return seconds, difference


def report(title: str, seconds: dict[str, list[float]], difference: float) -> dict[str, float]:
    """Print the medians and ranges; the ratios of the medians."""
    median = {way: statistics.median(times) for way, times in seconds.items()}
    print(title)
    for way, times in seconds.items():
        print(
            f"  {way:8} {median[way]:6.2f} s a context ({min(times):.2f} to {max(times):.2f}) "
            f" {median[way] / median['ours']:5.2f} x ours"
        )
    print(f"  largest difference of a score {difference:.1e}", flush=True)
    return {way: median[way] / median["ours"] for way in REACH}


def main() -> dict[str, Any]:
    """Time the three ways and hold the ratios against what is to be reached."""
    torch.manual_seed(0)
    model = Model(GPT2LMHeadModel(GPT2Config()).eval().to(DEVICE), None, "random GPT-2")
    sweep_ids(model, prompts(SHARED)[0], OPTIONS, interventions(), SITE)  # warm up
    print(
        f"{DEVICE}, {torch.get_num_threads()} threads, {CONTEXTS} contexts x {ITEMS} prompts x"
        f" {LENGTH} tokens x {FEATURES * len(DOSES)} interventions",
        flush=True,
    )
    seconds, difference = compare(model, prompts(SHARED))
    value = report(f"the prompts of a context share {SHARED} tokens", seconds, difference)
    alone, alone_difference = compare(model, prompts(0)[:2])
    unshared = report("nothing shared", alone, alone_difference)
    difference = max(difference, alone_difference)
    return {
        "name": NAME,
        "value": value,
        "reach": REACH,
        "holds": difference <= 1e-4 and all(value[way] >= REACH[way] for way in REACH),
        "unshared": unshared,
        "seconds": {way: sum(times) for way, times in seconds.items()},
        "difference": difference,
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "processor",
    }
