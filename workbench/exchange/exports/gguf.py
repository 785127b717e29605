"""A steering vector as a control vector of llama.cpp (GGUF).

1. llama.cpp reads the tensors `direction.N` (float32, one axis) and adds `direction.N` to the
   residual that leaves its 0-based layer N, after the MLP's output was added, for every token. So
   `direction.N` is our `Site(layer=N, point="resid_post")`, which is `resid_pre` of layer N + 1.
   Its buffer starts at layer 1: nothing can be added to what leaves layer 0, or to the embedding,
   and a vector for there is refused.
2. The vector is in residual units and is added with its sign: `--control-vector FILE` steers as
   the study does, `--control-vector-scaled FILE:0.5` half as far, a negative scale the other way.
3. llama.cpp looks at no metadata. The names that repeng writes (`controlvector.model_hint`,
   `controlvector.layer_count`) are written for it, and ours beside them.

The first token, which a study does not steer, llama.cpp does. Left out: quantised directions.
"""

from pathlib import Path

from feature_store.errors import Incompatible
from feature_store.registry import register
from workbench.exchange import STEERING, ExportSettings
from workbench.exchange.vectors import described, steering_vector
from workbench.exchange.writing import new_file
from workbench.workspace import Workspace

ARCHITECTURE = "controlvector"
"""What such a file calls itself."""
FIRST = 1
"""First layer after which llama.cpp can add a direction, 0-based."""


@register("exports", "gguf")
class ControlVector:
    """A steering vector that llama.cpp adds: `llama-cli --control-vector FILE`."""

    reads = STEERING

    @staticmethod
    def write(study: Workspace, settings: ExportSettings, out: Path) -> None:
        """Write the file. Raises Incompatible for a site that llama.cpp does not reach."""
        import gguf

        made = steering_vector(study, settings)
        if made.output_layer < FIRST:
            raise Incompatible(
                f"{made.sae_run.id} reads {made.site.point} of layer {made.site.layer}, where"
                " llama.cpp adds no control vector: its first is what leaves layer 1. Export it as"
                " safetensors, or use an SAE of a higher layer."
            )
        with new_file(out) as beside:
            writer = gguf.GGUFWriter(str(beside), ARCHITECTURE)
            writer.add_string(
                f"{ARCHITECTURE}.model_hint", str(made.model.module.config.model_type)
            )
            writer.add_uint32(f"{ARCHITECTURE}.layer_count", 1)
            for name, text in described(made).items():
                if text:  # GGUF's reader does not tell an empty text from none
                    writer.add_string(f"values_workbench.{name}", text)
            writer.add_tensor(f"direction.{made.output_layer}", made.vector.numpy())
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
