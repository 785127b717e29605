"""Checkpoints of a training: one file that replaces the last one when it is complete, and signals
that ask for one.

1. `write` keeps everything that the next step depends on: tensors of the engine, and numbers as
   JSON.
2. `read` gives it back, and refuses the checkpoint of a training with other settings.
3. `stop_signals` turns Ctrl-C and SIGTERM into an event that the loop looks at between two steps.
"""

import dataclasses
import json
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from feature_store.errors import BadInput, Incompatible
from feature_store.files import replacing
from sae_training.training.config import TrainingSettings

NUMBERS = "told"
"""Key of the numbers in the file's metadata; checkpoints that were written earlier have it too."""


def write(file: Path, settings: TrainingSettings, saved: dict[str, Any]) -> None:
    """Write a checkpoint: one file, complete or not there.

    `saved["engine"]` holds tensors and numbers, the rest is numbers.
    """
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in saved["engine"].items()
        if isinstance(value, Tensor)
    }
    plain = {
        name: value for name, value in saved["engine"].items() if not isinstance(value, Tensor)
    }
    numbers = json.dumps(saved | {"engine": plain, "config": dataclasses.asdict(settings)})
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as beside:
        save_file(tensors, beside, metadata={NUMBERS: numbers})


def read(file: Path, settings: TrainingSettings) -> dict[str, Any]:
    """Read what `write` has kept.

    Raises BadInput where the file is damaged, Incompatible where its training had other settings.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            saved = json.loads(opened.metadata()[NUMBERS])
            names = opened.keys()  # the file itself cannot be iterated
            saved["engine"] |= {name: opened.get_tensor(name) for name in names}
    # Safetensors, JSON and key errors: all mean that the file is not ours or not whole.
    except Exception as error:
        raise BadInput(f"{file} is no readable checkpoint ({str(error)[:100]}).") from error
    if saved["config"] != json.loads(json.dumps(dataclasses.asdict(settings))):
        changed = [
            name
            for name, value in dataclasses.asdict(settings).items()
            if saved["config"].get(name) != value
        ]
        raise Incompatible(
            f"{file} belongs to a training with other settings ({', '.join(changed)}). Use another"
            " folder, or remove it."
        )
    return saved


def kept(file: Path, settings: TrainingSettings) -> dict[str, Any] | None:
    """Read what `write` has kept; None where nothing is, or nothing that can be read.

    A damaged checkpoint is removed with a warning: the training begins anew, to the same result.
    Raises Incompatible where the checkpoint's training had other settings.
    """
    if not file.exists():
        return None
    try:
        return read(file, settings)
    except BadInput as error:
        warnings.warn(f"{error} The training starts anew.", stacklevel=2)
        file.unlink()
        return None


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set instead of breaking into the middle of a step."""
    stopped = threading.Event()
    # Only the main thread may handle signals.
    if threading.current_thread() is not threading.main_thread():
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
