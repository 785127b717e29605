"""Checkpoints of a training: one file that replaces the last one when it is complete, and signals
that ask for one.

1. `write` keeps everything that the next step depends on: tensors of the engine, and numbers as
   JSON.
2. `read` gives it back, and refuses the checkpoint of a training with other settings.
3. `stop_signals` turns Ctrl-C and SIGTERM into an event that the loop looks at between two steps.
"""

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from feature_store.errors import BadInput, Incompatible
from sae_training.training.config import TrainingSettings


def write(file: Path, config: TrainingSettings, saved: dict[str, Any]) -> None:
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


def read(file: Path, config: TrainingSettings) -> dict[str, Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            saved = json.loads(opened.metadata()["told"])
            saved["engine"] |= {name: opened.get_tensor(name) for name in opened.keys()}
    except (
        Exception
    ) as error:  # safetensors, JSON and key errors: all mean that the file is not ours or not whole
        raise BadInput(
            f"{file} is no readable checkpoint ({str(error)[:100]}). Remove it to train from the"
            " start."
        ) from error
    if saved["config"] != json.loads(json.dumps(dataclasses.asdict(config))):
        changed = [
            name
            for name, value in dataclasses.asdict(config).items()
            if saved["config"].get(name) != value
        ]
        raise Incompatible(
            f"{file} belongs to a training with other settings ({', '.join(changed)}). Use another"
            " folder, or remove it."
        )
    return saved


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
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
