"""A steering vector as a plain file: one tensor, and in the metadata all that it needs to be used.

The tensor `steering_vector` [d_model] is in residual units: it is added once, at scale 1, to the
residual at `site` for every token but the first. Metadata of safetensors are texts; numbers are
written with every digit. Left out: the SAE, which the vector no longer needs.
"""

from pathlib import Path

from safetensors.torch import save_file

from feature_store.registry import register
from workbench.exchange import STEERING, ExportSettings
from workbench.exchange.vectors import described, steering_vector
from workbench.exchange.writing import new_file
from workbench.workspace import Workspace

TENSOR = "steering_vector"
"""Name of the tensor."""


@register("exports", "safetensors")
class VectorFile:
    """A steering vector with unit, site, model and revision in its metadata, for any program."""

    reads = STEERING

    @staticmethod
    def write(study: Workspace, settings: ExportSettings, out: Path) -> None:
        """Write the file."""
        made = steering_vector(study, settings)
        with new_file(out) as beside:
            save_file({TENSOR: made.vector.contiguous()}, beside, metadata=described(made))
