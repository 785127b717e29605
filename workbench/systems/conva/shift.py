"""ConVA: the smallest shift after which a probe says P0 (Jin et al., ACL 2025, "controlled value
vector activation").

1. The probe of a layer is `P(e) = sigmoid(w e + b)`. Raising a value to P0 shifts the residual by
   `max(0, (logit P0 - b - w e) / |w|^2) w`, lowering it by the same with `min`: nothing where it is
   there already.
2. `e` is the residual at the prompt's last token. The shift is added at every token but the first
   (a sink), of the prompt and of what follows.
3. `shift` is that edit at one layer, a row for each P0: any sweep takes it. `controlled` opens one
   block a chosen layer; the layers run in order, so each reads `e` with the shifts below it at
   work.
4. A gate decides which prompts are steered at all (`workbench/steering/gates`,
   `sae_training/engine/gates.py`).

Left out: choosing P0. The paper uses 0.88-0.975 by value, and 0.70-0.95 against an opposing prompt.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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


def minimum_shift(
    probe: directions.Probe, targets: Sequence[float], lower: bool = False, positions: Where = "all"
) -> MinimumShift:
    """The edit whose row i brings the probe to `targets[i]` [probability, 0 to 1 exclusive]."""
    if wrong := [p for p in targets if not 0 < p < 1]:
        raise BadInput(f"P0 is a probability between 0 and 1, both excluded; got {wrong[0]:g}.")
    norm = probe.weight.norm()
    if not norm > 0:
        raise BadInput("The probe has length 0, so no shift moves it. Choose another layer.")
    wanted = torch.tensor(
        [(math.log(p / (1 - p)) - probe.bias) / float(norm) for p in targets], dtype=torch.float64
    )
    sign = torch.full_like(wanted, -1.0 if lower else 1.0)
    units = (probe.weight / norm).expand(len(targets), -1)
    return MinimumShift(
        units=units, targets=wanted, signs=sign, positions=(positions,) * len(targets)
    )


def shift(
    study: Workspace,
    run: Run,
    value: str,
    targets: Sequence[float],
    layer: int,
    lower: bool = False,
    positions: Where = "all",
) -> MinimumShift:
    """The single-layer edit of a value, one row for each P0 in `targets`."""
    return minimum_shift(directions.probe(study, run, value, layer), targets, lower, positions)


@contextmanager
def controlled(
    study: Workspace,
    run: Run,
    model: "Model",
    value: str,
    target: float,
    lower: bool = False,
    layers: Sequence[int] = (),
    open: Bool[Tensor, " prompt"] | None = None,
) -> Iterator["Model"]:
    """The model with a value raised (or lowered) to P0 = `target` at its chosen layers, or at
    `layers`, in order.

    With `open`, prompt i is steered where `open[i]`; elsewhere its logits are bit-identical to
    those of the model as it is.
    """
    with ExitStack() as blocks:
        for layer in sorted(layers) or directions.chosen_layers(study, run, value):
            edit = shift(study, run, value, [target], layer, lower)
            blocks.enter_context(
                model.steered(
                    edit if open is None else PromptGate(spread(edit, len(open)), open), Site(layer)
                )
            )
        yield model
