"""Detectors decide from a prompt whether to steer: the gate of conditional steering. One detector a
module.

A plug-in is registered under kind `detectors` and has `config`, a frozen dataclass of its settings,
and `open`, which trains or loads the detector of one value. A detector gives each text a score from
0 to 1; `gate` compares it with a threshold. Where the gate is closed the logits are bit-identical
to those of the model as it is (`sae_training/engine/gates.py`).

Left out: detectors that read what was generated. The decision falls at the prompt, as in Jin et al.
(ACL 2025).
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from feature_store import registry
from feature_store.errors import BadInput
from feature_store.registry import Registry
from workbench.settings import contents, options
from workbench.workspace import Workspace


@runtime_checkable
class Detector(Protocol):
    """A trained judge of prompts: how surely does a text speak of one value?

    This one takes capitals for a sign of it:

        class Shouting:
            name = "shouting"

            def scores(self, texts):
                return np.array([float(text.isupper()) for text in texts])
    """

    @property
    def name(self) -> str:
        """Plug-in, value and what it was made of; written beside every decision."""
        ...

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Score how surely each text speaks of the value [0 to 1]."""
        ...


@runtime_checkable
class DetectorPlugin(Protocol):
    """What a plug-in of kind `detectors` offers: its settings, and a detector of any value.

    A detector of your own is a file of this folder, with the detector and its plug-in:

        @register("detectors", "shouting")
        class ShoutingPlugin:
            config = ShoutingSettings

            @staticmethod
            def open(study, value, settings):
                return Shouting()
    """

    config: type
    """Frozen dataclass of the settings, each with a default."""

    def open(self, study: Workspace, value: str, settings: Any) -> Detector:
        """Train or load the detector of a value (its id)."""
        ...


GATES: Registry[DetectorPlugin] = registry.of("detectors")
"""Every detector that can gate a steering, by name."""


class GateDecision(NamedTuple):
    """Which prompts a gate lets through, and how sure it was."""

    scores: Float[np.ndarray, " prompt"]
    """Score of each prompt [0 to 1]."""
    open: Bool[np.ndarray, " prompt"]
    """Whether it reaches the threshold, and so is steered."""


def make(study: Workspace, name: str, value: str, settings: Sequence[str] = ()) -> Detector:
    """Open the detector `name` for a value, in any spelling of the study's system.

    `settings` are the detector's own, each written as `key=value`.

        make(study, "tfidf", "power", ["held=true"])
    """
    plugin = GATES[name]
    return plugin.open(study, study.system.resolve(value), options(plugin.config, settings))


def pinned(detector: Detector, settings: Sequence[str]) -> str:
    """Say what a run pins of its gate: the detector's name, and the files its settings name."""
    files = contents(settings)
    return f"{detector.name}, {json.dumps(files, sort_keys=True)}" if files else detector.name


def gate(detector: Detector, prompts: Sequence[str], threshold: float) -> GateDecision:
    """Decide which prompts are steered: those whose score is at least `threshold`.

    A threshold of 0 opens for all prompts, one above 1 for none. Raises BadInput where the detector
    gives no number.
    """
    scores = detector.scores(prompts)
    if not np.isfinite(scores).all():
        number = int(np.flatnonzero(~np.isfinite(scores))[0]) + 1
        raise BadInput(f"{detector.name} gives NaN for prompt {number}. Use another detector.")
    return GateDecision(scores, scores >= threshold)
