"""Training an SAE on a model's residual stream, whichever engine takes the steps.

1. A seeded share of the documents is held out and never trained on. The rest is read again and again, in a new
   seeded order each time (`ActivationStream`).
2. Tokens are shuffled in shards: read until `buffer_tokens` are there, permute, hand out batches, drop the rest. A
   shard depends on nothing but its number and where it begins, so a place in the stream is three integers.
3. Residuals are scaled so that their mean length is the square root of d_model, and the SAE is scaled back when it is
   exported: the learning rate means the same for every model, the features are in residual units.
4. Every `evaluate_every` steps the SAE is measured on held-out tokens; every `checkpoint_every` steps, and when a
   person or a scheduler stops the job, everything the next step depends on goes to one file, which replaces the last
   one when it is complete. Training again in the same folder continues: the result is the same to the last bit.

Left out: several SAEs at once, training over several machines, learning-rate search.
"""

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from feature_store import registry
from feature_store.errors import BadInput, Incompatible
from sae_training.dictionary.evaluate import Evaluation, evaluate, reconstruction
from sae_training.dictionary.sae import SAE
from sae_training.dictionary.stream import read, residual_tokens
from sae_training.dictionary.texts import batches
from sae_training.engine.model import Model
from sae_training.model import sites

CHECKPOINT = "checkpoint.safetensors"
HELD_OUT_TOKENS = 32_768
"""Held-out tokens kept in memory for the evaluations on the way."""
HELD_OUT_DOCUMENTS = 500
"""Documents of the final evaluation at most: it runs the whole model four times."""


@dataclass(frozen=True)
class TrainConfig:
    model: str = "organism"
    """Folder or hub id of the language model."""
    revision: str = ""
    """Commit of the hub snapshot or checksum of the folder; empty: as it is."""
    layer: int = 1
    """0-based decoder layer."""
    point: str = "resid_post"
    """`resid_post` or `resid_pre`."""
    texts: str = "organism"
    """Corpus: a folder of .txt files, a .txt, .jsonl, .csv, .tsv or .parquet file."""
    dtype: str = "float32"
    """Number format of the language model: float32, bfloat16, float16."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, ..."""
    context: int = 128
    """Longer texts are read in pieces of this length [tokens]."""
    rows: int = 128
    """Texts in one forward pass [texts]."""
    engine: str = "fused"
    """Plug-in that takes the steps: `fused` (topk, batchtopk) or `sae-lens` (every architecture it has)."""
    architecture: str = "topk"
    """topk, batchtopk; with sae-lens also matryoshka_batchtopk, jumprelu, gated, standard."""
    n_features: int = 512
    """Features of the dictionary."""
    k: int = 20
    """Features active on a token, of the topk kinds (mean over the batch for batchtopk)."""
    coefficient: float = 1.0
    """Weight of the sparsity loss: L0 of jumprelu, L1 of standard and gated."""
    tokens: int = 3_000_000
    """Tokens trained on, repeated ones counted [tokens]."""
    batch_tokens: int = 4096
    """Tokens in one step [tokens]."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    lr_end: float = 1e-4
    """Learning rate at the end; it falls to it over the last fifth of the steps."""
    warmup: int = 20
    """Steps over which the learning rate and the sparsity loss rise [steps]."""
    aux: float = 0.03125
    """Weight of the loss that revives dead features, of the topk kinds."""
    dead_tokens: int = 400_000
    """A feature that was silent for so many tokens counts as dead while training [tokens]."""
    buffer_tokens: int = 131_072
    """Tokens shuffled together [tokens]."""
    cache: bool = True
    """Keep the residuals on disk and read them back shuffled over the whole corpus; without it the model is read again
    every epoch, and tokens are shuffled in shards of `buffer_tokens`."""
    held_out: float = 0.05
    """Share of the documents that is never trained on [0 to 1, at least one document]."""
    evaluate_every: int = 100
    """Steps between evaluations on held-out tokens [steps]."""
    checkpoint_every: int = 200
    """Steps between checkpoints [steps]."""
    seed: int = 0
    """Seed of the split, the orders and the first weights."""

    def __post_init__(self) -> None:
        for name in (
            "n_features",
            "k",
            "tokens",
            "batch_tokens",
            "buffer_tokens",
            "evaluate_every",
            "checkpoint_every",
            "rows",
        ):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("lr", "lr_end", "coefficient", "aux"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadInput(
                    f"{name} must be a finite number, 0 or more, got {getattr(self, name)}."
                )
        if self.k > self.n_features:
            raise BadInput(
                f"k is {self.k}, but there are only {self.n_features} features. Take a smaller k."
            )
        if not 0 < self.held_out < 1:
            raise BadInput(f"held_out must lie between 0 and 1, got {self.held_out}.")


class TrainResult(NamedTuple):
    sae: SAE
    """In residual units, with sae-lens' metadata where a model was given."""
    rows: list[dict[str, Any]]
    """{step, metric, value} in long form: what training and held-out evaluation reported."""
    evaluation: Evaluation | None
    """Figures at the end on held-out documents; None where only a stream was given."""


@runtime_checkable
class Stream(Protocol):
    """Endless batches of residuals that know their place."""

    held_out: Float[Tensor, "tok d_model"]
    """Tokens that never occur in the batches."""

    def __next__(self) -> Float[Tensor, "tok d_model"]: ...

    def state(self) -> dict[str, int]:
        """The place in the stream."""

    def restore(self, state: dict[str, int]) -> None:
        """Go to the place: the next batch is the one that came after `state()`."""


class ActivationStream:
    """Shuffled residuals of a model over texts."""

    def __init__(self, model: Model, texts: Sequence[str], config: TrainConfig) -> None:
        if len(texts) < 2:
            raise BadInput(
                f"Training needs at least 2 documents, one of them held out; got {len(texts)}. Give a larger corpus."
            )
        self.model, self.config = model, config
        order = np.random.default_rng([config.seed, 0]).permutation(len(texts))
        count = min(len(texts) - 1, max(1, round(config.held_out * len(texts))))
        self.held_out_texts = [texts[i] for i in sorted(order[:count])]
        self.texts = [texts[i] for i in sorted(order[count:])]
        self.held_out = self._held_out()
        self._epoch = self._batch = self._given = 0
        self._end = (0, 0)
        self._shard: Tensor | None = None

    def __iter__(self) -> "ActivationStream":
        return self

    def __next__(self) -> Float[Tensor, "tok d_model"]:
        size = self.config.batch_tokens
        if self._shard is not None and (self._given + 1) * size > len(self._shard):
            (self._epoch, self._batch), self._given, self._shard = self._end, 0, None
        if self._shard is None:
            self._shard = self._fill()
        self._given += 1
        return self._shard[(self._given - 1) * size : self._given * size]

    def state(self) -> dict[str, int]:
        return {"epoch": self._epoch, "batch": self._batch, "given": self._given}

    def restore(self, state: dict[str, int]) -> None:
        self._epoch, self._batch, self._given, self._shard = (
            state["epoch"],
            state["batch"],
            state["given"],
            None,
        )

    def _fill(self) -> Float[Tensor, "tok d_model"]:
        """The shard that begins at the present place, permuted; notes where the next one begins."""
        wanted = max(self.config.buffer_tokens, self.config.batch_tokens)
        parts, count, epoch, skip = [], 0, self._epoch, self._batch
        while True:
            before = count
            order = np.random.default_rng([self.config.seed, 1, epoch]).permutation(len(self.texts))
            texts = [self.texts[i] for i in order]
            for number, batch in enumerate(
                batches(self.model, texts, self.config.rows, self.config.context)
            ):
                if number < skip:
                    continue
                x = residual_tokens(self.model, batch, self.config.layer, self.config.point).x
                parts.append(x)
                count += len(x)
                if count >= wanted:
                    self._end = (epoch, number + 1)
                    mixed = torch.from_numpy(
                        np.random.default_rng(
                            [self.config.seed, 2, self._epoch, self._batch]
                        ).permutation(count)
                    )
                    return torch.cat(parts)[mixed.to(x.device)]
            if count == before and skip == 0:
                raise BadInput(
                    "The texts hold no token beyond the first of each: nothing to train on. Give longer texts."
                )
            epoch, skip = epoch + 1, 0

    def _held_out(self) -> Float[Tensor, "tok d_model"]:
        parts, count = [], 0
        for tokens in read(
            self.model,
            self.held_out_texts,
            self.config.layer,
            self.config.point,
            self.config.rows,
            self.config.context,
        ):
            parts.append(tokens.x)
            count += len(tokens.x)
            if count >= HELD_OUT_TOKENS:
                break
        if count == 0:
            raise BadInput(
                "The held-out documents hold no token beyond the first of each. Give more or longer texts."
            )
        return torch.cat(parts)[:HELD_OUT_TOKENS]


def train_on_model(
    model: Model,
    texts: Sequence[str],
    config: TrainConfig,
    work: Path,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> TrainResult:
    """Train on the residuals of `model` over `texts`, evaluate on the documents that were held out."""
    from sae_training.training.cached import CachedStream

    sites.boundary(config.layer, config.point, model.n_layers)
    if config.cache:
        stream = CachedStream(
            model,
            texts,
            config,
            work,
            lambda done, total: progress("reading residuals", done, total),
        )
    else:
        stream = ActivationStream(model, texts, config)
    result = train(
        stream,
        config,
        model.d_model,
        work,
        lambda done, total, _: progress("training", done, total),
    )
    metadata = {
        "model_name": model.name,
        "model_revision": model.revision,
        "hook_name": sites.saelens_name(sites.Place(config.layer, config.point)),
        "hook_head_index": None,
        "dataset_path": config.texts,
        "context_size": config.context,
        "prepend_bos": model.first_token is not None,
        "neuronpedia_id": None,
        "training_engine": config.engine,
        "training_architecture": config.architecture,
    }
    sae = dataclasses.replace(result.sae, metadata=metadata)
    figures = evaluate(
        model,
        sae,
        stream.held_out_texts[:HELD_OUT_DOCUMENTS],
        config.layer,
        config.point,
        config.rows,
        config.context,
        lambda done, total: progress("evaluating", done, total),
    )
    last = result.rows[-1]["step"]
    rows = result.rows + [
        {"step": last, "metric": f"final_{name}", "value": float(value)}
        for name, value in dataclasses.asdict(figures).items()
    ]
    return TrainResult(sae, rows, figures)


def train(
    stream: Stream,
    config: TrainConfig,
    d_model: int,
    work: Path,
    progress: Callable[[int, int, dict[str, float]], None] = lambda done, total, metrics: None,
) -> TrainResult:
    """Take the steps that `work` does not hold yet. Ctrl-C and SIGTERM leave a checkpoint and raise KeyboardInterrupt."""
    from sae_training.training.engines import steps

    total = steps(config)
    engine = registry.get("engines", config.engine)(config, d_model, stream.held_out.device)
    checkpoint = work / CHECKPOINT
    done, rows = 0, []
    if checkpoint.exists():
        saved = _read(checkpoint, config)
        engine.restore(saved["engine"])
        stream.restore(saved["stream"])
        done, rows, scale = saved["done"], saved["rows"], saved["scale"]
        x = None
    else:
        x = next(stream)
        scale = d_model**0.5 / max(float(x.norm(dim=1).mean()), 1e-8)
        engine.begin(x * scale)

    def save() -> None:
        _write(
            checkpoint,
            config,
            {
                "engine": engine.state(),
                "stream": stream.state(),
                "done": done,
                "rows": rows,
                "scale": scale,
            },
        )

    with _stop_signals() as stopped:
        while done < total:
            x = next(stream) if x is None else x
            metrics = engine.step(x * scale)
            x, done = None, done + 1
            metrics["loss"] /= scale**2
            if done % config.evaluate_every == 0 or done == total:
                held_out = reconstruction(
                    _in_residual_units(engine.export(), scale), [stream.held_out]
                )
                metrics |= {
                    f"held_out_{name}": value
                    for name, value in dataclasses.asdict(held_out).items()
                    if name != "tokens"
                }
                rows += [
                    {"step": done, "metric": name, "value": float(value)}
                    for name, value in metrics.items()
                ]
            if done % config.checkpoint_every == 0 or stopped.is_set() or done == total:
                save()
            if stopped.is_set():
                raise KeyboardInterrupt
            try:
                progress(done, total, metrics)
            except KeyboardInterrupt:
                save()
                raise
    return TrainResult(_in_residual_units(engine.export(), scale), rows, None)


def _in_residual_units(sae: SAE, scale: float) -> SAE:
    """The SAE for residuals that are not multiplied by `scale`: directions stay, everything with a unit shrinks."""
    names = ("b_enc", "b_dec", "threshold", "b_mag")
    return dataclasses.replace(
        sae, **{name: tensor / scale for name, tensor in sae.tensors().items() if name in names}
    )


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set instead of breaking into the middle of a step."""
    stopped = threading.Event()
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # only the main thread may handle signals
        yield stopped
        return
    before = {
        kind: signal.signal(kind, lambda *_: stopped.set())
        for kind in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _write(file: Path, config: TrainConfig, saved: dict[str, Any]) -> None:
    """One file, complete or not there."""
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in saved["engine"].items()
        if isinstance(value, Tensor)
    }
    plain = {
        name: value for name, value in saved["engine"].items() if not isinstance(value, Tensor)
    }
    told = json.dumps(saved | {"engine": plain, "config": dataclasses.asdict(config)})
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    save_file(tensors, partial, metadata={"told": told})
    with partial.open("rb+") as opened:
        os.fsync(opened.fileno())
    os.replace(partial, file)


def _read(file: Path, config: TrainConfig) -> dict[str, Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            saved = json.loads(opened.metadata()["told"])
            saved["engine"] |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - safetensors files cannot be iterated
    except (
        Exception
    ) as error:  # safetensors, JSON and key errors: all mean that the file is not ours or not whole
        raise BadInput(
            f"{file} is no readable checkpoint ({str(error)[:100]}). Remove it to train from the start."
        ) from error
    if saved["config"] != json.loads(json.dumps(dataclasses.asdict(config))):
        changed = [
            name
            for name, value in dataclasses.asdict(config).items()
            if saved["config"].get(name) != value
        ]
        raise Incompatible(
            f"{file} belongs to a training with other settings ({', '.join(changed)}). Use another folder, or remove it."
        )
    return saved
