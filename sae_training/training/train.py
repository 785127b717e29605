"""Training an SAE on a model's residual stream, whichever engine takes the steps.

1. A stream (`streams.py`, `cached.py`) hands out batches of residuals and knows its place.
2. Residuals are scaled so that their mean length is the square root of d_model, and the SAE is
   scaled back when it is exported: the learning rate means the same for every model, the features
   are in residual units.
3. Every `evaluate_every` steps the SAE is measured on held-out tokens; every `checkpoint_every`
   steps, and when a person or a scheduler stops the job, everything the next step depends on is
   kept (`checkpoint.py`). Training again in the same folder continues: the result is the same to
   the last bit.

Left out: several SAEs trained on one batch, training over several machines, learning-rate search.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from feature_store.progress import Progress, silent, stage
from sae_training.dictionary.evaluate import Evaluation, evaluate, reconstruction
from sae_training.dictionary.sae import SAE
from sae_training.dictionary.stream import Tokens
from sae_training.dictionary.texts import Corpus
from sae_training.engine.model import Model
from sae_training.model import sites
from sae_training.training import checkpoint as checkpoints
from sae_training.training.cached import CachedStream
from sae_training.training.checkpoint import stop_signals
from sae_training.training.config import TrainingSettings
from sae_training.training.engines import ENGINES
from sae_training.training.schedule import steps
from sae_training.training.streams import ActivationStream, CorpusStream, Stream

CHECKPOINT = "checkpoint.safetensors"
HELD_OUT_DOCUMENTS = 500
"""Documents of the final evaluation at most: it runs the model about three times."""


StepProgress = Callable[[int, int, dict[str, float]], None]
"""Called with steps done, steps in all, and what the last step reported."""


def _unseen(done: int, total: int, metrics: dict[str, float]) -> None:
    """Show nothing."""


class TrainResult(NamedTuple):
    """A trained SAE, and what was measured while and after it was trained."""

    sae: SAE
    """In residual units, with sae-lens' metadata where a model was given."""
    rows: list[dict[str, Any]]
    """{step, metric, value} in long form: what training and held-out evaluation reported."""
    evaluation: Evaluation | None
    """Figures at the end on held-out documents; None where only a stream was given."""
    corpus: Iterator[Tokens] | None = None
    """Every token of the corpus, for whoever harvests it; None where only a stream was given."""


def train_on_model(
    model: Model,
    texts: Sequence[str],
    settings: TrainingSettings,
    work: Path,
    progress: Progress = silent,
    residuals: Path | None = None,
) -> TrainResult:
    """Train an SAE on a model's residuals over some texts, and evaluate it on held-out ones.

    `work` holds the checkpoints: calling again with the same folder continues. `residuals` is the
    folder of the residuals where they are cached; by default `work`.

        train_on_model(model, texts, TrainingSettings(layer=8, k=32), Path("work")).sae
    """
    sites.boundary(settings.site, model.n_layers)
    source: CorpusStream
    if settings.cache:
        shown = stage(progress, "reading residuals")
        source = CachedStream(model, texts, settings, residuals or work, shown)
    else:
        source = ActivationStream(model, texts, settings)
    result = train(
        source,
        settings,
        model.d_model,
        work,
        lambda done, total, _: progress("training", done, total),
    )
    metadata = {
        "model_name": model.name,
        "model_revision": model.revision,
        "hook_name": sites.saelens_name(settings.site),
        "hook_head_index": None,
        "dataset_path": settings.texts,
        "context_size": settings.context,
        "prepend_bos": bool(model.set_around[0]),
        "neuronpedia_id": None,
        "training_engine": settings.engine,
        "training_architecture": settings.architecture,
    }
    sae = dataclasses.replace(result.sae, metadata=metadata)
    figures = evaluate(
        model,
        sae,
        Corpus(source.held_out_texts[:HELD_OUT_DOCUMENTS], settings.rows, settings.context),
        settings.site,
        stage(progress, "evaluating"),
    )
    last = result.rows[-1]["step"]
    rows = result.rows + [
        {"step": last, "metric": f"final_{name}", "value": float(value)}
        for name, value in dataclasses.asdict(figures).items()
        if value is not None
    ]
    return TrainResult(sae=sae, rows=rows, evaluation=figures, corpus=source.everything())


def train(
    stream: Stream,
    settings: TrainingSettings,
    d_model: int,
    work: Path,
    progress: StepProgress = _unseen,
) -> TrainResult:
    """Train an SAE on a stream of residuals: take the steps that `work` does not hold yet.

    Ctrl-C and SIGTERM leave a checkpoint and raise KeyboardInterrupt.
    """
    total = steps(settings)
    training = _Training(stream, settings, d_model, work / CHECKPOINT)
    with stop_signals() as stopped:
        while training.done < total:
            metrics = training.step()
            if training.done % settings.evaluate_every == 0 or training.done == total:
                training.measure(metrics)
            last = training.done == total
            if training.done % settings.checkpoint_every == 0 or stopped.is_set() or last:
                training.save()
            if stopped.is_set():
                raise KeyboardInterrupt
            try:
                progress(training.done, total, metrics)
            except KeyboardInterrupt:
                training.save()
                raise
    return TrainResult(sae=training.export(), rows=training.rows, evaluation=None)


class _Training:
    """An engine and its stream, at some step of a training."""

    def __init__(
        self, stream: Stream, settings: TrainingSettings, d_model: int, checkpoint: Path
    ) -> None:
        """Continue from the checkpoint where there is one, else begin."""
        self.stream = stream
        self.settings = settings
        self.checkpoint = checkpoint
        self.engine = ENGINES[settings.engine](settings, d_model, stream.held_out.device)
        self.done = 0
        """Steps so far."""
        self.rows: list[dict[str, Any]] = []
        """What was reported so far, as in `TrainResult`."""
        self._first: Tensor | None = None
        saved = checkpoints.kept(checkpoint, settings)
        if saved:
            self.engine.restore(saved["engine"])
            stream.restore(saved["stream"])
            self.done = saved["done"]
            self.rows = saved["rows"]
            self.scale: float = saved["scale"]
        else:
            self._first = next(stream)
            self.scale = d_model**0.5 / max(float(self._first.norm(dim=1).mean()), 1e-8)
            self.engine.begin(self._first * self.scale)

    def step(self) -> dict[str, float]:
        """Take one step, and report on it; the loss in squared residual units."""
        x = next(self.stream) if self._first is None else self._first
        self._first = None
        metrics = self.engine.step(x * self.scale)
        self.done += 1
        metrics["loss"] /= self.scale**2
        return metrics

    def measure(self, metrics: dict[str, float]) -> None:
        """Measure the SAE on held-out tokens, add that to the step's metrics, and note them."""
        held_out = reconstruction(self.export(), [self.stream.held_out])
        for name, value in dataclasses.asdict(held_out).items():
            if name != "tokens" and value is not None:
                metrics[f"held_out_{name}"] = value
        for name, value in metrics.items():
            self.rows.append({"step": self.done, "metric": name, "value": float(value)})

    def save(self) -> None:
        """Keep everything that the next step depends on."""
        saved = {
            "engine": self.engine.state(),
            "stream": self.stream.state(),
            "done": self.done,
            "rows": self.rows,
            "scale": self.scale,
        }
        checkpoints.write(self.checkpoint, self.settings, saved)

    def export(self) -> SAE:
        """Make the SAE in residual units: directions stay, everything with a unit shrinks.

        The engine has seen residuals that are multiplied by `scale`.
        """
        sae = self.engine.export()
        names = ("b_enc", "b_dec", "threshold", "b_mag")
        return sae.with_tensors(
            {name: tensor / self.scale for name, tensor in sae.tensors().items() if name in names}
        )
