"""Files that other tools read, written from a study, and files of theirs, read into one.

1. An export is one file of `exports/` with one class, registered under `exports`: its docstring
   says who reads the format, `reads` which settings decide it, and `write` writes it.
2. `export` refuses a setting that the format does not read, and a place where something is
   already. What is written appears in one rename (`writing.py`), whole or not at all.
3. `vectors.py` makes of features, a labelled value or a stored direction the one vector that four
   of the formats carry.
4. `borrowed.py` opens what others wrote of the same features: Neuronpedia's exports and feature
   exports of SAEDashboard. The verb `borrow` keeps it.

`docs/exchange.md` says of each format what is lost. Left out: formats of one program only.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from feature_store import registry
from feature_store.errors import BadInput, of_paths
from feature_store.records import Run, Unit
from feature_store.registry import Registry
from workbench.settings import make
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What of a study is written, for formats that read it."""

    sae: str = "latest"
    """Run of the SAE."""
    labels: str = ""
    """Run of labels; empty: the newest of the SAE."""
    features: tuple[str, ...] = ()
    """Steered features with optional weights, as 12 or 40:-1: one vector, the sum of them."""
    value: str = ""
    """Value whose best labelled feature is steered, instead of features."""
    direction: str = ""
    """Stored direction that is steered, instead of features: RUN/VALUE/KIND."""
    strength: float = 0.0
    """How far features or the direction are steered, in `unit`."""
    unit: Unit = "norm_share"
    """Unit of the strength: raw is residual units, feature_max multiples of a feature's largest
    activation, norm_share a share of the median residual norm at the site."""
    name: str = ""
    """Neuronpedia's name of the SAE, MODEL/LAYER-SET; empty: the one in its configuration, or one
    made of model and layer."""


STEERING = ("labels", "features", "value", "direction", "strength", "unit")
"""Settings of a format that carries a steering vector."""


@runtime_checkable
class Exporter(Protocol):
    """What a plug-in of kind `exports` can do."""

    reads: tuple[str, ...]
    """Names of the settings that decide what is written, besides `sae`."""

    def write(self, study: Workspace, settings: ExportSettings, out: Path) -> None:
        """Write the file or folder `out`, whole or not at all; what lacks is warned of."""


EXPORTS: Registry[Exporter] = registry.of("exports")
"""Every format, by name."""


def sae_folder(study: Workspace, sae_run: Run) -> Path:
    """Name the folder in which a run keeps its SAE, in sae-lens' format."""
    return study.runs.folder / sae_run.id / "sae"


def export(study: Workspace, format: str, out: Path, given: Mapping[str, Any]) -> Path:
    """Write a part of a study in a format of others; returns where.

    `given` are settings by name, as flags or keywords give them. Raises NotFound for an unknown
    format, BadInput for a setting that the format does not read, and where something is at `out`.

        export(study, "gguf", Path("power.gguf"), {"value": "power", "strength": 0.3})
    """
    exporter = EXPORTS[format]
    reads = ("sae", *exporter.reads)
    fields = {field.name for field in dataclasses.fields(ExportSettings)}
    for name in given:
        if name in fields.difference(reads):
            listed = ", ".join(f"--{field}" for field in reads)
            raise BadInput(f"{format} does not read --{name}; it reads {listed}. Leave it out.")
    settings = make(ExportSettings, given)
    if out.exists() or out.is_symlink():
        raise BadInput(f"{out} exists already. Choose another name, or remove it first.")
    with of_paths():
        exporter.write(study, settings, out)
    return out
