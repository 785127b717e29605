"""A value's own probe as detector: what the model's residual at the prompt's last token says of the
value.

The probe is that of a run of kind `probes`, at the layer named, else at the chosen layer of highest
held-out accuracy. It was trained to tell held from opposed texts, so it opens for prompts in which
the value is held.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from feature_store.records import Run
from feature_store.registry import register
from workbench.steering import directions
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model


@dataclass(frozen=True)
class ProbeGateSettings:
    """Which probe opens the gate."""

    run: str = "latest"
    """Run of kind `probes`."""
    layer: int = -1
    """0-based layer; -1: the chosen one of highest accuracy, the lowest of equals."""


class ProbeDetector:
    """A probe and the model whose residual it reads."""

    def __init__(self, model: "Model", probe: directions.Probe, layer: int, name: str):
        """Hold a probe of the output of a layer (0-based) of a live model."""
        self.model = model
        self.probe = probe
        self.layer = layer
        self.name = name

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Give the probe's probability at each text's last token [0 to 1].

        The model is read as it stands: under a steering, the steered residual is.
        """
        from sae_training.engine.generate import prompt_ids
        from sae_training.model.last_token import last_residuals

        residuals = last_residuals(self.model, prompt_ids(self.model, texts), [self.layer])[:, 0]
        return (residuals @ self.probe.weight + self.probe.bias).sigmoid().numpy()


@register("detectors", "probe")
class ProbePlugin:
    """The value's linear probe at the prompt's last token."""

    config = ProbeGateSettings

    @staticmethod
    def open(study: Workspace, value: str, settings: ProbeGateSettings) -> ProbeDetector:
        """Read the probe of the value from a run of probes."""
        run = study.resolve("probes", settings.run)
        layer = settings.layer
        if layer < 0:
            layer = _most_accurate_layer(study, run, value)
        return ProbeDetector(
            model=study.model_of(run),
            probe=directions.probe(study, run, value, layer),
            layer=layer,
            name=f"probe {run.id} {value} layer {layer}",
        )


def _most_accurate_layer(study: Workspace, run: Run, value: str) -> int:
    """Find the chosen layer of highest held-out accuracy, the lowest of equals (0-based)."""
    chosen = directions.chosen_layers(study, run, value)
    rows = study.store.sql(
        "SELECT layer, accuracy FROM probes WHERE run = ? AND value = ?", [run.id, value]
    )
    ranked = rows[rows.layer.isin(chosen)].sort_values(
        ["accuracy", "layer"], ascending=[False, True]
    )
    return int(ranked.layer.iloc[0])
