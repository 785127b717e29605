"""The directions that runs store: of kind `probes` by value and layer, of kind `labels` by value.

1. `save` writes them once as `directions.safetensors` beside the run's tables. Of probes these are
   `weight`, `bias` and `difference-of-means`, values in the order of the run's summary, every
   layer; of labels `pole` and `topic`, values in the system's order, at the SAE's site.
2. `direction` gives one at length 1: what any steering adds, clamps, replaces or takes away;
   `direction_of_labels` one of labelled texts.
3. `parse` reads the name by which a `Steering` calls one: `run/value/kind`.

Left out: training; that is `probes.py` and the verb `probe`.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput, NotFound, nearest
from feature_store.files import shown
from feature_store.records import Run
from workbench.workspace import Workspace

FILE = "directions.safetensors"
KINDS = ("probe", "difference-of-means")
"""What a run of kind `probes` stores."""
OF_LABELS = ("pole", "topic")
"""What a run of kind `labels` stores."""


class Probe(NamedTuple):
    """A linear probe that is ready to be used: P(value is held) = sigmoid(weight · h + bias)."""

    weight: Float[Tensor, " d_model"]
    """w [nats of log-odds per residual unit], double precision."""
    bias: float
    """b [nats of log-odds]."""


class DirectionName(NamedTuple):
    """The name of a stored direction, in its three parts."""

    run: str
    """Id of a run of kind `probes`, or `labels`."""
    value: str
    """Id of the value."""
    kind: str
    """One of `KINDS`, or of `OF_LABELS`."""


def save(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a run's directions into its folder, in double precision.

    `arrays` holds `weight` and `difference-of-means` [value, layer, d_model] and `bias`
    [value, layer] of probes, `pole` and `topic` [value, d_model] of labels.
    """
    from safetensors.numpy import save_file

    doubles = {
        name: np.ascontiguousarray(array, dtype=np.float64) for name, array in arrays.items()
    }
    save_file(doubles, folder / FILE)


def direction(
    study: Workspace, run: Run, value: str, kind: str, layer: int
) -> Float[Tensor, " d_model"]:
    """Give the direction of a value at the output of a layer (0-based).

    It has length 1 and single precision. Kind `probe` is the normal of the logistic regression,
    `difference-of-means` that of contrastive activation addition. Raises NotFound for an unknown
    kind or value, BadInput for a layer that was not probed.

        direction(study, run, "power", "difference-of-means", layer=12)
    """
    if kind not in KINDS:
        raise NotFound(f"{kind!r} is not a kind of direction.{nearest(kind, KINDS)}")
    arrays, place = _place(study, run, value, layer)
    vector = arrays["weight" if kind == "probe" else kind][place]
    length = vector.norm()
    if not length > 0:
        raise BadInput(
            f"The {kind} direction of {value} at layer {layer} has length 0: its pairs do not"
            " differ there. Choose another layer."
        )
    return (vector / length).float()


def direction_of_labels(
    study: Workspace, run: Run, value: str, kind: str
) -> Float[Tensor, " d_model"]:
    """Give the pole or topic direction of a value that a run of kind `labels` stores, at length 1.

    It stands at the site of the labels' SAE. Raises NotFound for a run of an earlier version, and
    for a value that too few of its texts hold or reject.

        direction_of_labels(study, run, "power", "pole")
    """
    file = study.runs.folder / run.id / FILE
    if not file.exists():
        raise NotFound(
            f"{run.id} is of an earlier version and has no directions. Run `workbench label` again."
        )
    id = study.system.resolve(value)
    vector = _load(file)[kind][study.system.ids.index(id)]
    length = vector.norm()
    if not length > 0:
        missing = "hold and too few reject" if kind == "pole" else "speak of"
        raise NotFound(
            f"{run.id} has no {kind} direction of {id}: too few of its texts {missing} it. Label"
            " with more texts."
        )
    return (vector / length).float()


def probe(study: Workspace, run: Run, value: str, layer: int) -> Probe:
    """Give the probe of a value at the output of a layer (0-based)."""
    arrays, place = _place(study, run, value, layer)
    return Probe(arrays["weight"][place], float(arrays["bias"][place]))


def chosen_layers(study: Workspace, run: Run, value: str) -> list[int]:
    """List the layers (0-based) at which ConVA steers a value, lowest first.

    Raises BadInput where no layer's probe was accurate enough to be chosen.
    """
    id = study.system.resolve(value)
    rows = study.store.sql(
        "SELECT layer, accuracy, chosen FROM probes WHERE run = ? AND value = ? ORDER BY layer",
        [run.id, id],
    )
    if rows.empty:
        raise NotFound(f"{run.id} has no probe of {id}.{nearest(id, run.summary['probed'])}")
    if not rows.chosen.any():
        raise BadInput(
            f"No layer tells {id} well enough to be chosen: the best held-out accuracy is"
            f" {rows.accuracy.max():.2f}. Give more pairs."
        )
    return rows.layer[rows.chosen].tolist()


def parse(name: str) -> DirectionName:
    """Take the name of a stored direction apart.

        parse("probes-1a2b/power/probe")    # DirectionName("probes-1a2b", "power", "probe")

    Raises BadInput for another form. `latest` is refused as a run: a steering is kept, and its
    name must mean the same direction later.
    """
    parts = name.split("/")
    if len(parts) != 3 or parts[2] not in (*KINDS, *OF_LABELS) or parts[0] == "latest":
        raise BadInput(
            "A stored direction is written run/value/kind, with the run's id and kind"
            f" {', '.join((*KINDS, *OF_LABELS))}; got {name!r}."
        )
    return DirectionName(*parts)


@functools.lru_cache(maxsize=4)
def _load(file: Path) -> dict[str, Tensor]:
    """Read the directions of a run. Raises BadInput where the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, ValueError, OSError) as error:
        raise BadInput(
            f"{file} is not readable as safetensors ({shown(error, 200)}). `workbench check` lists"
            " what is damaged."
        ) from None


def _place(
    study: Workspace, run: Run, value: str, layer: int
) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """Give the run's arrays and the place [value, layer] of a probe in them."""
    arrays = _load(study.runs.folder / run.id / FILE)
    values, id = run.summary["probed"], study.system.resolve(value)
    if id not in values:
        raise NotFound(f"{run.id} has no probe of {id}.{nearest(id, values)}")
    layers = arrays["bias"].shape[1]
    if not 0 <= layer < layers:
        raise BadInput(f"{run.id} has probes of layers 0 to {layers - 1}, got layer {layer}.")
    return arrays, (values.index(id), layer)
