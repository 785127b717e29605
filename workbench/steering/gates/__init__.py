"""Detectors decide from a prompt whether to steer: the gate of conditional steering. One detector a
module.

A plug-in is registered under kind `detectors` and has `config`, a frozen dataclass of its settings,
and `open`, which trains or loads the detector of one value. A detector gives each text a score from
0 to 1; `gate` compares it with a threshold. Where the gate is closed the logits are bit-identical
to those of the model as it is (`sae_training/engine/gates.py`).

Left out: detectors that read what was generated. The decision falls at the prompt, as in Jin et al.
(ACL 2025).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from feature_store import registry
from feature_store.errors import BadInput
from workbench.settings import options
from workbench.workspace import Workspace


@runtime_checkable
class Detector(Protocol):
    name: str
    """Plug-in, value and what it was made of; written beside every decision."""

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """How surely each text speaks of the value [0 to 1]."""
        ...


class DetectorPlugin(Protocol):
    config: type
    """Frozen dataclass of the settings, each with a default."""

    def open(self, study: Workspace, value: str, settings: Any) -> Detector:
        """The detector of a value (its id); trained here, or loaded."""
        ...


class Gate(NamedTuple):
    scores: Float[np.ndarray, " prompt"]
    """Score of each prompt [0 to 1]."""
    open: Bool[np.ndarray, " prompt"]
    """Whether it reaches the threshold, and so is steered."""


def make(study: Workspace, name: str, value: str, settings: Sequence[str] = ()) -> Detector:
    """The detector `name` of a value, with `key=value` settings."""
    plugin = registry.get("detectors", name)
    return plugin.open(study, study.system.resolve(value), options(plugin.config, settings))


def gate(detector: Detector, prompts: Sequence[str], threshold: float) -> Gate:
    """Which prompts are steered: those whose score is at least `threshold`; 0 opens for all,
    more than 1 for none.
    """
    scores = detector.scores(prompts)
    if not np.isfinite(scores).all():
        raise BadInput(
            f"{detector.name} gives NaN for prompt"
            f" {int(np.flatnonzero(~np.isfinite(scores))[0]) + 1}. Use another detector."
        )
    return Gate(scores, scores >= threshold)
