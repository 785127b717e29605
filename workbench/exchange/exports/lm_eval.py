"""A steering for lm-evaluation-harness: `lm_eval --model steered --model_args steer_path=...`.

1. `steering.pt` holds the hookpoint and the one vector that is added there, in residual units at
   coefficient 1: any SAE, several features, a stored direction. This is the file to pass.
2. `steering.csv` names the features, a row each, with the harness' columns. The harness can read
   an SAE of sae-lens' registry from it, keeps one feature a hookpoint, and takes the coefficient
   times the decoder row. So the CSV is written where it means the same: one feature of an SAE that
   the registry names.
3. The hookpoint is the module path within the model's base, such as `layers.5`: the harness adds
   the vector to that module's output, for every token.

Left out: clamping, which the harness does around the decoder's bias and we around the residual.
"""

import csv
import warnings
from pathlib import Path
from typing import Any

import torch

from feature_store.errors import Incompatible
from feature_store.registry import register
from sae_training.model import sites
from workbench.exchange import STEERING, ExportSettings
from workbench.exchange.vectors import SteeringVector, steering_vector
from workbench.exchange.writing import new_folder
from workbench.workspace import Workspace

VECTOR, TABLE = "steering.pt", "steering.csv"
COLUMNS = (
    *("loader", "action", "sparse_model", "hookpoint", "feature_index"),
    *("steering_coefficient", "head_index", "sae_id", "description"),
)
"""Columns of the harness' table, in its order."""


@register("exports", "lm-eval")
class HarnessSteering:
    """A steering that lm-evaluation-harness applies (`--model steered`): vector and table."""

    reads = STEERING

    @staticmethod
    def write(study: Workspace, settings: ExportSettings, out: Path) -> None:
        """Write the folder. Raises Incompatible for a vector that is added to the embedding."""
        made = steering_vector(study, settings)
        hookpoint = _hookpoint(made)
        row = _row(study, made, hookpoint)
        if row is None:
            warnings.warn(
                f"{TABLE} is not written: the harness would not read the same vector from it (it"
                f" takes one feature of an SAE in sae-lens' registry). Pass {VECTOR}.",
                stacklevel=2,
            )
        with new_folder(out) as folder:
            entry = {
                "steering_vector": made.vector,
                "steering_coefficient": 1.0,
                "action": "add",
                "bias": None,
                "head_index": None,
            }
            torch.save({hookpoint: entry}, folder / VECTOR)
            if row is not None:
                with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
                    table = csv.DictWriter(file, COLUMNS)
                    table.writeheader()
                    table.writerow(row)


def _hookpoint(made: SteeringVector) -> str:
    """Name the module whose output is steered, as the model's base calls it."""
    if made.output_layer < 0:
        raise Incompatible(
            f"{made.sae_run.id} reads what enters layer 0, which no layer puts out. Export the"
            " vector as safetensors, or use an SAE of a higher layer."
        )
    module = made.model.module
    path = sites.module_path(module, made.model.n_layers, made.output_layer)
    return path.removeprefix(f"{module.base_model_prefix}.")


def _row(study: Workspace, made: SteeringVector, hookpoint: str) -> dict[str, Any] | None:
    """Give the row of the table; None where the harness would read another vector from it."""
    sae = study.sae(made.sae_run)
    features = made.steering.features
    release, sae_id = sae.metadata.get("release"), sae.metadata.get("sae_id")
    if len(features) != 1 or not release or not sae_id:
        return None
    decoder = sae.W_dec[features[0][0]].float().cpu()
    coefficient = float(made.vector @ decoder / (decoder @ decoder))
    return {
        "loader": "sae_lens",
        "action": "add",
        "sparse_model": release,
        "hookpoint": hookpoint,
        "feature_index": features[0][0],
        "steering_coefficient": repr(coefficient),
        "head_index": "",
        "sae_id": sae_id,
        "description": made.steering.name,
    }
