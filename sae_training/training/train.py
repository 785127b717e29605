"""Training an SAE on a model's residual stream, whichever engine takes the steps.

1. A stream (`streams.py`, `cached.py`) hands out batches of residuals and knows its place.
2. Residuals are scaled so that their mean length is the square root of d_model, and the SAE is
   scaled back when it is exported: the learning rate means the same for every model, the features
   are in residual units.
3. Every `evaluate_every` steps the SAE is measured on held-out tokens; every `checkpoint_every`
   steps, and when a person or a scheduler stops the job, everything the next step depends on is
   kept (`checkpoint.py`). Training again in the same folder continues: the result is the same to
   the last bit.

Left out: several SAEs at once, training over several machines, learning-rate search.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from feature_store import registry
from sae_training.dictionary.evaluate import Evaluation, evaluate, reconstruction
from sae_training.dictionary.sae import SAE
from sae_training.dictionary.texts import Corpus
from sae_training.engine.model import Model
from sae_training.model import sites
from sae_training.training import checkpoint as checkpoints
from sae_training.training.cached import CachedStream
from sae_training.training.checkpoint import stop_signals
from sae_training.training.config import TrainingSettings
from sae_training.training.schedule import steps
from sae_training.training.streams import ActivationStream, Stream

CHECKPOINT = "checkpoint.safetensors"
HELD_OUT_DOCUMENTS = 500
"""Documents of the final evaluation at most: it runs the whole model four times."""


class TrainResult(NamedTuple):
    sae: SAE
    """In residual units, with sae-lens' metadata where a model was given."""
    rows: list[dict[str, Any]]
    """{step, metric, value} in long form: what training and held-out evaluation reported."""
    evaluation: Evaluation | None
    """Figures at the end on held-out documents; None where only a stream was given."""


def train_on_model(
    model: Model,
    texts: Sequence[str],
    config: TrainingSettings,
    work: Path,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> TrainResult:
    """Train on the residuals of `model` over `texts`, evaluate on the documents that were held
    out.
    """
    sites.boundary(config.site, model.n_layers)
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
        "hook_name": sites.saelens_name(config.site),
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
        Corpus(stream.held_out_texts[:HELD_OUT_DOCUMENTS], config.rows, config.context),
        config.site,
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
    config: TrainingSettings,
    d_model: int,
    work: Path,
    progress: Callable[[int, int, dict[str, float]], None] = lambda done, total, metrics: None,
) -> TrainResult:
    """Take the steps that `work` does not hold yet.

    Ctrl-C and SIGTERM leave a checkpoint and raise KeyboardInterrupt.
    """
    total = steps(config)
    engine = registry.get("engines", config.engine)(config, d_model, stream.held_out.device)
    checkpoint = work / CHECKPOINT
    done, rows = 0, []
    if checkpoint.exists():
        saved = checkpoints.read(checkpoint, config)
        engine.restore(saved["engine"])
        stream.restore(saved["stream"])
        done, rows, scale = saved["done"], saved["rows"], saved["scale"]
        x = None
    else:
        x = next(stream)
        scale = d_model**0.5 / max(float(x.norm(dim=1).mean()), 1e-8)
        engine.begin(x * scale)

    def save() -> None:
        checkpoints.write(
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

    with stop_signals() as stopped:
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
    """The SAE for residuals that are not multiplied by `scale`: directions stay, everything with
    a unit shrinks.
    """
    names = ("b_enc", "b_dec", "threshold", "b_mag")
    return dataclasses.replace(
        sae, **{name: tensor / scale for name, tensor in sae.tensors().items() if name in names}
    )
