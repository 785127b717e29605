"""Where a model's values can be written: a light steering at one layer after the other.

1. A value's direction at a layer is the difference of mean residuals of texts with and without it,
   each text less the mean of its context, so that topics stay out.
2. All layers are steered at equal damage: `doses.search` finds the share of a layer's median norm
   at which the directions do, on average, the damage that is named. Random directions of the same
   length are steered beside them.
3. What counts is the change of the value's own rating (in mode `voice` held less reversed) less the
   mean change of the others: what raises all ratings together writes no value. Its interval is over
   contexts, its null the largest that random directions do.
4. `advised` weighs reading and writing: the layer where most is written, among those where values
   are read about as well as anywhere.

Left out: features, which a layer has only once an SAE is trained on it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from feature_store import queries
from feature_store.errors import BadInput
from feature_store.progress import StageProgress, silent_stage, step
from feature_store.records import Site, Where
from workbench.measuring.questions import Question
from workbench.measuring.scored import ScoredQuestions
from workbench.statistics.intervals import Interval, bootstrap_mean
from workbench.sweeps.doses import DamageCurve, search
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Add

START = 0.1
"""First strength of the search [share of the layer's median norm]."""
DRAWS = 2000
"""Draws of random directions behind the null of a mean over values."""
HALF = 1000
"""Parts in which half of the work at a layer is counted."""
ALL = "all"
"""Stands for the mean over values in a row."""


@dataclass(frozen=True, kw_only=True)
class WritingDesign:
    """What every layer is steered for, and what is asked under it."""

    model: "Model"
    """The live model."""
    values: Sequence[str]
    """Ids of the values that are steered for and asked about."""
    questions: Sequence[Question]
    """Questions of the instrument."""
    neutral: Sequence[Sequence[int]]
    """Token ids of the neutral texts on which damage is measured."""
    damage: float
    """Damage at which layers are compared [nats per token]."""
    directions: int
    """Random directions."""
    replicates: int
    """Bootstrap replicates."""
    seed: int
    """Seed of the random directions and of the bootstrap."""


class LayerSite(NamedTuple):
    """A layer, and the directions of the values at it."""

    layer: int
    """0-based decoder layer whose output is steered."""
    norm: float
    """Median length of its residual [residual units]."""
    directions: Float[np.ndarray, "value d_model"]
    """Direction of each value, at length 1."""


def value_directions(
    means: Float[np.ndarray, "text d_model"], marks: np.ndarray, contexts: np.ndarray
) -> Float[np.ndarray, "value d_model"]:
    """Give each value's difference of means within contexts, at length 1.

    `marks` says of every text and value whether the text holds it. Raises BadInput where held and
    other texts do not differ.
    """
    group = np.unique(contexts, return_inverse=True)[1]
    share = np.eye(int(group.max()) + 1)[group]
    centred = means - share @ ((share.T @ means) / share.sum(0)[:, None])
    held = centred.T @ marks / marks.sum(0)
    rest = centred.T @ ~marks / (~marks).sum(0)
    directions = (held - rest).T
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    if not (length > 0).all():
        raise BadInput("Texts with and without a value are alike to the model. Give other texts.")
    return directions / length


def write(
    site: LayerSite, design: WritingDesign, progress: StageProgress = silent_stage
) -> list[dict[str, Any]]:
    """Steer a layer for every value and at random; give the rows of `survey_writing`.

    One row a value, and one for their mean. Finding the strength counts as half of the work, asking
    as the other half.
    """

    from sae_training.engine import scoring

    curve = _strength(site, design, step(progress, 0, HALF, 2 * HALF))
    random = _random(design.directions, site.directions.shape[1], design.seed)
    edit = _edit(np.concatenate([site.directions, random]), curve.strength * site.norm)
    values = len(site.directions)
    damage = _damage(design, edit, site.layer).mean(1)
    scored = ScoredQuestions.of(design.questions, design.model)
    place, asked = Site(layer=site.layer), step(progress, HALF, HALF, 2 * HALF)
    scores = scoring.sweep(design.model, scored.prompts, scored.options, edit, place, asked)
    base, steered = (scored.ratings(side.double().numpy()) for side in scores)
    if not np.isfinite(steered).all():
        raise BadInput(
            f"Steered at layer {site.layer} the model gives NaN. Give a smaller --damage."
        )
    change = own_less_others(steered - base, design.questions, design.values)
    of_value = change[np.arange(values), :, np.arange(values)].T
    single = bootstrap_mean(of_value, design.replicates, design.seed)
    together = bootstrap_mean(of_value.mean(1, keepdims=True), design.replicates, design.seed)
    chance = change[values:].mean(1)
    return _rows(
        {"layer": site.layer, "strength": curve.strength, "reached": curve.reached},
        {"damage": float(damage[:values].mean()), "random_damage": float(damage[values:].mean())},
        (single, together, chance),
        design,
    )


def _rows(
    about: dict[str, Any],
    damage: dict[str, float],
    measured: tuple[Interval, Interval, Float[np.ndarray, "direction value"]],
    design: WritingDesign,
) -> list[dict[str, Any]]:
    """Give the rows of a layer: each value's, then the mean's, with their nulls."""
    single, together, chance = measured
    shared = about | damage | {"directions": design.directions, "seed": design.seed}
    largest = float(np.quantile(np.abs(chance), 0.95))
    rows = [
        shared
        | {
            "value": value,
            "effect": float(single.mean[k]),
            "low": float(single.low[k]),
            "high": float(single.high[k]),
            "null_high": largest,
            "n": int(single.n[k]),
        }
        for k, value in enumerate(design.values)
    ]
    mean = {
        "value": ALL,
        "effect": float(together.mean[0]),
        "low": float(together.low[0]),
        "high": float(together.high[0]),
        "null_high": _null_of_mean(chance, design.seed),
        "n": int(together.n[0]),
    }
    return [*rows, shared | mean]


def _null_of_mean(chance: Float[np.ndarray, "direction value"], seed: int) -> float:
    """Give the 97.5 % quantile of the mean over values, a random direction for each of them.

    A random direction has no sign, so either is as likely.
    """
    rng = np.random.default_rng((seed, 3))
    directions, values = chance.shape
    drawn = rng.integers(directions, size=(DRAWS, values))
    signs = rng.choice((-1.0, 1.0), size=drawn.shape)
    return float(np.quantile((chance[drawn, np.arange(values)] * signs).mean(1), 0.975))


def own_less_others(
    changes: Float[np.ndarray, "steering question"],
    questions: Sequence[Question],
    values: Sequence[str],
) -> Float[np.ndarray, "steering context value"]:
    """Average changes over each value's questions in a context, less the mean of other values."""
    kept = [number for number, question in enumerate(questions) if question.item.value in values]
    context = np.unique([questions[k].context for k in kept], return_inverse=True)[1]
    column = np.array([list(values).index(questions[k].item.value) for k in kept])
    cells = np.zeros((len(kept), int(context.max()) + 1, len(values)))
    cells[np.arange(len(kept)), context, column] = 1
    cells /= np.maximum(cells.sum(0), 1)
    mean = np.einsum("sq,qcv->scv", changes[:, kept], cells)
    others = (mean.sum(-1, keepdims=True) - mean) / max(len(values) - 1, 1)
    return mean - others if len(values) > 1 else mean


def _strength(site: LayerSite, design: WritingDesign, progress: StageProgress) -> DamageCurve:
    """Search for the share of the norm at which the values' directions do the damage."""

    def measure(share: float) -> Float[np.ndarray, "value text"]:
        """Measure the damage of all directions at a share of the norm [nats per token]."""
        return _damage(design, _edit(site.directions, share * site.norm), site.layer)

    return search(measure, design.damage, START, len(site.directions), progress)


def _edit(directions: Float[np.ndarray, "row d_model"], length: float) -> "Add":
    """Make the edit that adds each direction at a length [residual units]."""
    import torch

    from sae_training.model.edits import Add

    vectors = torch.tensor(directions * length, dtype=torch.float32)
    where: Where = "all"
    return Add(vectors, (where,) * len(vectors))


def _damage(design: WritingDesign, edit: "Add", layer: int) -> Float[np.ndarray, "row text"]:
    """Measure the rise of the loss on neutral texts under each row [nats per token]."""
    from sae_training.engine.losses import losses

    loss = losses(design.model, design.neutral, edit, Site(layer=layer))
    return (loss.steered - loss.base).double().numpy()


def _random(n: int, width: int, seed: int) -> Float[np.ndarray, "direction d_model"]:
    """Draw random directions of length 1, the same at every layer."""
    drawn = np.random.default_rng((seed, 1)).normal(size=(n, width))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


class Advice(NamedTuple):
    """Which layer a survey advises, and why."""

    layer: int
    """0-based decoder layer."""
    reason: str
    """What speaks for it, for people."""


def advised(reading: pd.DataFrame, writing: pd.DataFrame) -> Advice:
    """Choose a layer from the rows of `survey_reading` and `survey_writing`.

    Of the steered layers at which values are read about as well as anywhere (mean AUROC not below
    the best layer's interval), it is that at which most is written. Where nothing is written beyond
    random directions, or no layer was steered, it is the one at which values are read best.
    """
    read = reading[reading.value == ALL].set_index("layer")
    best = int(read.auroc.idxmax())
    written = writing[writing.value == ALL] if len(writing) else writing
    if len(written):
        heard = written[(written.effect > written.null_high) & (written.low > 0)].set_index("layer")
        as_well = [layer for layer in heard.index if read.auroc[layer] >= read.low[best]]
        if as_well:
            layer = int(heard.effect[as_well].idxmax())
            return Advice(layer, "most is written there, and values are read as well as anywhere")
        if len(heard):
            return Advice(
                int(heard.effect.idxmax()),
                f"most is written there; values are read better at layer {best}",
            )
    why = "no layer writes more than random directions do" if len(written) else "none was steered"
    return Advice(best, f"values are read best there; {why}")


def surveyed_layer(study: Workspace, model: str) -> tuple[int, str] | None:
    """Give the layer that the latest survey of a model advises, and the survey's run.

    `model`: what runs pin of it (`Runtime.pinned`). None where it was not surveyed.
    """
    runs = queries.candidates(study.store, "survey", "model", model)
    if runs.empty:
        return None
    run = runs.iloc[0]
    return int(json.loads(run.summary)["layer"]), str(run.run)
