"""The SAE of a run as the folder that sae-lens loads, and `workbench adopt` as well.

1. It is the folder in which the run keeps it: `cfg.json`, `sae_weights.safetensors`, and
   `sparsity.safetensors` with the log10 density of each feature on the run's texts.
2. Where the configuration names no place or no model, because whoever adopted it named the layer,
   those of the run are written.

Left out: the optimiser's state. Our layer norms and folds are in the weights already.
"""

import json
import shutil
from pathlib import Path

from feature_store.files import SETTINGS, read_json
from feature_store.registry import register
from sae_training.dictionary.loaders.folder import CONFIG
from sae_training.model import sites
from workbench.exchange import ExportSettings, sae_folder
from workbench.exchange.writing import new_folder
from workbench.workspace import Workspace, site_of


@register("exports", "sae-lens")
class Folder:
    """The SAE as a folder, for `SAE.load_from_disk` of sae-lens 6 and whoever reads its format."""

    reads = ()

    @staticmethod
    def write(study: Workspace, settings: ExportSettings, out: Path) -> None:
        """Write the folder."""
        sae_run = study.resolve("sae", settings.sae)
        study.sae(sae_run)  # a study without weights, or with damaged ones, is refused here
        with new_folder(out) as folder:
            for file in sae_folder(study, sae_run).iterdir():
                shutil.copyfile(file, folder / file.name)
            config = read_json(folder / CONFIG, SETTINGS)
            named = {
                "model_name": sae_run.config["model"],
                "hook_name": sites.saelens_name(site_of(sae_run)),
            }
            config["metadata"] = named | {
                name: value for name, value in config["metadata"].items() if value is not None
            }
            (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
