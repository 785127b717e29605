"""Apply a steering to a study's model: the units, the SAE and the site that a run of it pins.

`scale_of` reads what turns `norm_share` and `feature_max` into residual units from the SAE's own run: the median
residual norm of the harvested tokens and each feature's largest activation. A steering along a stored direction
finds it in the run of probes that it names, at the SAE's site.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Run, Steering
from workbench import directions
from workbench.steerings import Scale, build_edit

if TYPE_CHECKING:
    from sae_training.edits import Edit
    from sae_training.model import Model
    from workbench.study import Study


def parse_features(told: Sequence[str]) -> tuple[tuple[int, float], ...]:
    """`["12", "40:-1"]` as (index, weight) pairs."""
    pairs = []
    for text in told:
        index, _, weight = text.partition(":")
        try:
            pairs.append((int(index), float(weight or 1)))
        except ValueError:
            raise BadInput(f"A steered feature is written as index or index:weight, got {text!r}.") from None
    return tuple(pairs)


def scale_of(study: "Study", sae_run: Run) -> Scale:
    """The residual's median norm and the features' largest activations, as harvested."""
    rows = study.store.arrow("SELECT max_activation FROM features WHERE run = ? ORDER BY feature", [sae_run.id])
    largest = torch.tensor(rows["max_activation"].to_numpy(), dtype=torch.float32)
    return Scale(float(sae_run.summary["median_norm"]), largest)


def directions_for(study: "Study", sae_run: Run, steerings: Sequence[Steering]) -> dict[str, torch.Tensor]:
    """The stored directions that the steerings name, each [d_model], at the SAE's site."""
    layer = sae_run.summary["layer"] - (sae_run.summary["point"] == "resid_pre")
    found = {}
    for name in {one.direction for one in steerings if one.direction}:
        told = directions.parse(name)
        run = study.resolve("probes", told.run)
        if run.inputs["model"] != sae_run.inputs["model"]:
            raise Incompatible(f"{run.id} probed {run.config['model']}, {sae_run.id} reads {sae_run.config['model']} or another "
                               "revision of it. Probe the SAE's model.")
        found[name] = directions.direction(study, run, told.value, told.kind, layer)
    return found


def edit_for(study: "Study", sae_run: Run, steerings: Sequence[Steering]) -> "Edit":
    """One edit with a row a steering."""
    scale = replace(scale_of(study, sae_run), directions=directions_for(study, sae_run, steerings))
    return build_edit(steerings, study.sae(sae_run), scale)


@contextlib.contextmanager
def steer(study: "Study", sae_run: Run, steering: Steering) -> Iterator["Model"]:
    """The study's model, steered; as it was afterwards, to the bit."""
    model = study.model_of(sae_run)
    if steering.name == "base":
        yield model
        return
    with model.steered(edit_for(study, sae_run, [steering]), sae_run.summary["layer"], sae_run.summary["point"]):
        yield model
