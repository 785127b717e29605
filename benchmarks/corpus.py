"""How fast a corpus is read, beside sae-lens' ActivationsStore on the same model and layer, and
what bfloat16 costs.

1. SmolLM2, layer 15 of 30, the built-in sentences in two poles joined into texts of about 200
   tokens, rows of 128 tokens, as many at once as each does best with (32). Whoever reads takes
   turns, a few thousand tokens each, so that a busy moment of the machine hits all of them.
2. Both stop at the layer, so a single layer in one number format is the same arithmetic. What the
   workbench may do besides: several layers in one pass (8, 15 and 22, where a store reads one), and
   bfloat16 where the processor multiplies it.
3. bfloat16 is held against float32 on the same texts: next-token loss [nats a token] and the share
   of the residuals' variance that differs. float32 is the truth.
4. The readers must give the same residuals for the same tokens, to 1 part in 10,000 of their norm.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

NAME = "corpus"
LAYER, LAYERS = 15, (8, 15, 22)
ROWS, CONTEXT = 32, 128
SENTENCES = 14
"""Sentences of a text."""
TURN, TURNS = 4096, 4
"""Tokens of one turn, and turns of each reader."""
COMPARED = 40
"""Texts on which the number formats are compared."""
REACH = 2.0

Reader = Callable[[], Iterator[int]]
"""Begins a reading that gives the tokens of each batch."""


def main() -> dict[str, Any]:
    """Reach: twice sae-lens' speed on the same model and layer."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    from sae_training.engine.opening import open_model
    from sae_training.model import catalogue

    smollm2 = catalogue.known()["smollm2"]
    if not smollm2.is_fetched:
        raise SystemExit("Fetch the model first: workbench fetch smollm2")
    folder = str(smollm2.folder)
    texts = _texts()
    models = {name: open_model(folder, dtype=name) for name in ("float32", "bfloat16")}
    readers: dict[str, Reader] = {}
    for name, model in models.items():
        readers[f"ours {name}"] = partial(_ours, model, texts, [LAYER])
        readers[f"ours {name}, {len(LAYERS)} layers"] = partial(_ours, model, texts, LAYERS)
        readers[f"sae-lens {name}"] = partial(_theirs, folder, texts, LAYER, name)
        readers[f"sae-lens {name}, {len(LAYERS)} layers"] = partial(
            _one_by_one, folder, texts, name
        )
    _check_alike(models["float32"], folder, texts)
    speed = {name: round(each, 1) for name, each in _speeds(readers).items()}
    for name, each in speed.items():
        print(f"{name:32} {each:8.0f} tokens a second", flush=True)
    ratios = {}
    for kind in ("", f", {len(LAYERS)} layers"):
        ours, theirs = (speed[f"{who} float32{kind}"] for who in ("ours", "sae-lens"))
        half, their_half = (speed[f"{who} bfloat16{kind}"] for who in ("ours", "sae-lens"))
        ratios |= {
            f"float32{kind}": ours / theirs,
            f"bfloat16{kind}": half / their_half,
            f"ours in bfloat16, sae-lens in float32{kind}": half / theirs,
        }
    cost = _cost(models["float32"], models["bfloat16"], texts[:COMPARED])
    for name, ratio in ratios.items():
        print(f"{name:52} {ratio:5.2f} x")
    print(cost)
    return {
        "name": NAME,
        "value": ratios["float32"],
        "reach": REACH,
        "holds": ratios["float32"] >= REACH,
        "tokens_a_second": speed,
        "ratios": ratios,
        "bfloat16": cost,
        "threads": torch.get_num_threads(),
    }


def _texts() -> list[str]:
    """Join the built-in sentences into texts."""
    from feature_store import registry
    from workbench.material.poles import pole_texts

    sentences = pole_texts(registry.get("values", "schwartz10")).texts
    return [" ".join(sentences[at : at + SENTENCES]) for at in range(0, len(sentences), SENTENCES)]


def _speeds(readers: dict[str, Reader]) -> dict[str, float]:
    """Let the readers take turns: tokens a second of each."""
    running = {name: itertools.chain.from_iterable(_forever(r)) for name, r in readers.items()}
    tokens, seconds = dict.fromkeys(readers, 0), dict.fromkeys(readers, 0.0)
    for name in readers:
        next(running[name])  # the first batch pays for what is set up
    for _ in range(TURNS):
        for name, batches in running.items():
            start, read = time.perf_counter(), 0
            while read < TURN:
                read += next(batches)
            seconds[name] += time.perf_counter() - start
            tokens[name] += read
    return {name: tokens[name] / seconds[name] for name in readers}


def _forever(reader: Reader) -> Iterator[Iterator[int]]:
    while True:
        yield reader()


def _ours(model: Any, texts: Sequence[str], layers: Sequence[int]) -> Iterator[int]:
    """Read as `workbench train` does."""
    from feature_store.records import Site
    from sae_training.dictionary.stream import picked, places
    from sae_training.dictionary.texts import Corpus, batches

    sites = [Site(layer) for layer in layers]
    for batch in batches(model, Corpus(texts, ROWS, CONTEXT)):
        at = places(model, batch)
        residuals = model.residuals_at(batch.ids, batch.mask, sites)
        for site, hidden in zip(sites, residuals, strict=True):
            picked(hidden, batch, at, site)
        yield int(batch.mask.sum())


def _theirs(folder: str, texts: Sequence[str], layer: int, dtype: str) -> Iterator[int]:
    """Read through an ActivationsStore."""
    store = _store(folder, tuple(texts), layer, dtype)
    store.iterable_sequences = store._iterate_tokenized_sequences()
    while True:
        try:
            tokens = store.get_batch_tokens(raise_at_epoch_end=True)
        except StopIteration:
            return
        yield store.get_activations(tokens).shape[:2].numel()


def _one_by_one(folder: str, texts: Sequence[str], dtype: str) -> Iterator[int]:
    """Read the same batch for one layer after the other: a store knows one layer."""
    readers = [_theirs(folder, texts, layer, dtype) for layer in LAYERS]
    for counts in zip(*readers, strict=True):
        yield counts[0]


def _store(folder: str, texts: tuple[str, ...], layer: int, dtype: str) -> Any:
    """Make sae-lens' store; models are loaded once for each number format."""
    import torch
    from datasets import Dataset
    from sae_lens.training.activations_store import ActivationsStore

    return ActivationsStore(
        model=_their_model(folder, dtype),
        dataset=Dataset.from_dict({"text": list(texts)}),
        streaming=False,
        hook_name=f"model.layers.{layer}",
        hook_head_index=None,
        context_size=CONTEXT,
        d_in=576,
        n_batches_in_buffer=4,
        total_training_tokens=10**9,
        store_batch_size_prompts=ROWS,
        train_batch_size_tokens=4096,
        prepend_bos=False,
        normalize_activations="none",
        device=torch.device("cpu"),
        dtype="float32",
    )


_LOADED: dict[str, Any] = {}


def _their_model(folder: str, dtype: str) -> Any:
    import torch
    from sae_lens.load_model import load_model

    if dtype not in _LOADED:
        kwargs = {"torch_dtype": getattr(torch, dtype)}
        _LOADED[dtype] = load_model("AutoModelForCausalLM", folder, "cpu", kwargs)
    return _LOADED[dtype]


def _check_alike(model: Any, folder: str, texts: Sequence[str]) -> None:
    """Hold the residuals of one batch of theirs against ours."""
    import torch

    from feature_store.records import Site

    store = _store(folder, tuple(texts), LAYER, "float32")
    tokens = store.get_batch_tokens()[:4]
    theirs = store.get_activations(tokens)
    ours = model.residuals(tokens, torch.ones_like(tokens, dtype=torch.bool), Site(LAYER))
    worst = float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max())
    if worst > 1e-4:
        raise SystemExit(f"The two readers differ by {worst:.2g} of a residual's norm.")


def _cost(whole: Any, half: Any, texts: Sequence[str]) -> dict[str, float]:
    """What bfloat16 costs on some texts."""
    import torch

    from feature_store.records import Site
    from sae_training.dictionary.stream import picked, places
    from sae_training.dictionary.texts import Corpus, batches

    error = total = square = 0.0
    tokens, loss, sums = 0, {"float32": 0.0, "bfloat16": 0.0}, torch.zeros(whole.d_model)
    rows = 0
    for batch in batches(whole, Corpus(texts, 8, CONTEXT)):
        at = places(whole, batch)
        x, y = (
            picked(model.residuals(batch.ids, batch.mask, Site(LAYER)), batch, at, Site(LAYER))
            for model in (whole, half)
        )
        error += float((x - y).double().square().sum())
        square += float(x.double().square().sum())
        sums += x.sum(0)
        tokens += len(x)
        for name, model in (("float32", whole), ("bfloat16", half)):
            loss[name] += float(model.loss(batch.ids, batch.mask).nansum())
        rows += len(batch.ids)
    total = square - float(sums.double().square().sum()) / tokens
    return {
        "loss_float32": loss["float32"] / rows,
        "loss_bfloat16": loss["bfloat16"] / rows,
        "loss_difference": (loss["bfloat16"] - loss["float32"]) / rows,
        "share_of_variance_that_differs": error / total,
        "tokens": tokens,
    }
