"""ConVA: the smallest shift after which a probe says P0 (Jin et al., ACL 2025, "controlled value
vector activation").

1. The probe of a layer is `P(e) = sigmoid(w e + b)`. Raising a value to P0 shifts the residual by
   `max(0, (logit P0 - b - w e) / |w|^2) w`, lowering it by the same with `min`: nothing where it is
   there already.
2. `e` is the residual at the prompt's last token. The shift is added at every token but the first
   (a sink), of the prompt and of what follows.
3. `minimum_shift` is that edit for one probe, a row for each P0: any sweep takes it. `controlled`
   opens one block a chosen layer; the layers run in order, so each reads `e` with the shifts below
   it at work.
4. A gate decides which prompts are steered at all (`workbench/steering/gates`,
   `sae_training/engine/gates.py`).

Left out: choosing P0. The paper uses 0.88-0.975 by value, and 0.70-0.95 against an opposing prompt.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.records import Run, Site, Where
from sae_training.engine.gates import PromptGate, spread
from workbench.steering import directions
from workbench.steering.methods.conva import MinimumShift
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit


@dataclass(frozen=True)
class ShiftGoal:
    """What a shift is to reach: the value, P0, and the layers where it steers."""

    value: str
    """Value to raise or lower, in any spelling of the study's system."""
    target: float
    """P0: probability that the value's probes are brought to [0 to 1, both excluded]."""
    lower: bool = False
    """Lower the value to P0 instead of raising it."""
    layers: tuple[int, ...] = ()
    """0-based layers to steer; none: those that the probes chose."""


def minimum_shift(
    probe: directions.Probe, targets: Sequence[float], lower: bool = False, positions: Where = "all"
) -> MinimumShift:
    """Build the edit whose row i brings the probe to `targets[i]` [probability, 0 to 1 exclusive].

    Raises BadInput for another target, and for a probe of length 0.

        with model.steered(minimum_shift(probe, [0.9]), Site(12)):
            model.generate(["What matters to you?"])
    """
    if wrong := [p for p in targets if not 0 < p < 1]:
        raise BadInput(f"P0 is a probability between 0 and 1, both excluded; got {wrong[0]:g}.")
    norm = probe.weight.norm()
    if not norm > 0:
        raise BadInput("The probe has length 0, so no shift moves it. Choose another layer.")
    components = torch.tensor(
        [(math.log(p / (1 - p)) - probe.bias) / float(norm) for p in targets], dtype=torch.float64
    )
    return MinimumShift(
        units=(probe.weight / norm).expand(len(targets), -1),
        targets=components,
        signs=torch.full_like(components, -1.0 if lower else 1.0),
        positions=(positions,) * len(targets),
    )


def shift_at(study: Workspace, run: Run, goal: ShiftGoal, layer: int) -> MinimumShift:
    """Build the edit of one row that brings a value to its goal at one layer (0-based).

    `run` is the run of probes.
    """
    probe = directions.probe(study, run, goal.value, layer)
    return minimum_shift(probe, [goal.target], goal.lower)


@contextmanager
def controlled(
    study: Workspace,
    run: Run,
    model: "Model",
    goal: ShiftGoal,
    open: Bool[Tensor, " prompt"] | None = None,
) -> Iterator["Model"]:
    """Lend the model with a value raised (or lowered) to its goal; afterwards it is as it was.

    `run` is the run of probes. With `open`, prompt i is steered where `open[i]`; elsewhere its
    logits are bit-identical to those of the model as it is.

        with controlled(study, probes, model, ShiftGoal("power", 0.95)):
            model.generate(["Once in a while I"], 16)
    """
    layers = sorted(goal.layers) or directions.chosen_layers(study, run, goal.value)
    with ExitStack() as blocks:
        for layer in layers:
            edit: Edit = shift_at(study, run, goal, layer)
            if open is not None:
                edit = PromptGate(spread(edit, len(open)), open)
            blocks.enter_context(model.steered(edit, Site(layer=layer)))
        yield model
