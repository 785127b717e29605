"""The side-effect sweep: features x doses x questions x controls, measured with damage, resumable.

1. `plan` takes each value's best labelled features, as many random features and random directions
   as asked, and crosses them with the doses. A control is steered with the same norms as the
   features.
2. `measure` scores every question under every intervention, a chunk of interventions at a time. The
   engine resumes from the steered layer, and every finished chunk is kept, so a killed sweep goes
   on where it was.
3. Damage is the rise of the mean next-token loss on neutral texts under the same intervention, text
   by text.

Left out: what the numbers mean; `causal/effects.py` turns them into effects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Instrument, Point, Site, Steering
from feature_store.runs import Work
from workbench.measuring.questions import Question, expected_ratings, option_texts

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit

Kind = Literal["feature", "random-feature", "random-direction", "joint", "direction", "prompt"]
Choice = Literal["output", "input"]
CHUNK = 48
"""Interventions between two checkpoints."""


@dataclass(frozen=True)
class Intervention:
    unit_id: int
    """0-based number of what is steered; its doses share it."""
    kind: Kind
    """What is steered."""
    feature: int
    """0-based feature index; -1 for a random direction."""
    value: str
    """Value the feature is labelled with; empty for controls."""
    polarity: int
    """Polarity of the label; +1 for controls."""
    steering: Steering
    """Method, strength and unit."""


def choose_features(labels: pd.DataFrame, per_value: int, by: Choice = "output") -> pd.DataFrame:
    """Each value's `per_value` accepted features: those that raise the value most (`output`), or
    the most specific on held-out texts (`input`).

    Where no output score was measured, specificity decides. What a feature reads besides the value
    it is likely to write besides it, so of the input scores specificity (`gain`) counts: a feature
    of one of a value's many behaviours has a low AUROC and can be perfectly specific.
    """
    accepted = labels[labels.accepted]
    if accepted.empty:
        raise BadInput(
            "No feature is labelled with a value, so there is nothing to steer. Look at the"
            " evidence: SELECT * FROM labels ORDER BY q."
        )
    order = (["output"] if by == "output" else []) + ["gain", "score"]
    best = accepted.sort_values(
        [*order, "feature"], ascending=[False] * len(order) + [True], na_position="last"
    )
    best = best.drop_duplicates("feature")
    return best.groupby("value", sort=False).head(per_value)


def as_direction(chosen: pd.DataFrame, value: str, sign: int = 1) -> tuple[tuple[int, float], ...]:
    """A value's chosen features as (feature, weight) pairs of one direction, turned by their
    polarity; none where it has none.

    Weights are 1 / sqrt(K), so that K orthogonal features clamped one by one are as long together
    as their sum added.
    """
    own = chosen[chosen.value == value]
    return tuple(
        (int(f.feature), float(sign * f.polarity / np.sqrt(len(own)))) for f in own.itertuples()
    )


def plan(
    chosen: pd.DataFrame,
    alive: Sequence[int],
    template: Steering,
    doses: Sequence[float],
    random_features: int,
    random_directions: int,
    seed: int,
) -> list[Intervention]:
    """Every labelled feature and control at every dose.

    `alive`: unlabelled live features to draw controls from.
    """
    if not doses or any(dose <= 0 for dose in doses) or list(doses) != sorted(set(doses)):
        raise BadInput(
            "Doses are positive, rising numbers, got"
            f" {', '.join(f'{d:g}' for d in doses) or 'none'}. Give them as 0.1,0.3."
        )
    rng = np.random.default_rng(seed)
    controls = rng.permutation(np.asarray(alive))[:random_features]
    units: list[tuple[Kind, int, str, int, Steering]] = [
        (
            "feature",
            int(f.feature),
            f.value,
            int(f.polarity),
            replace(template, features=((int(f.feature), 1.0),)),
        )
        for f in chosen.itertuples()
    ]
    units += [
        ("random-feature", int(f), "", 1, replace(template, features=((int(f), 1.0),)))
        for f in controls
    ]
    units += [
        ("random-direction", -1, "", 1, replace(template, random=seed * 100_000 + n))
        for n in range(random_directions)
    ]
    return [
        Intervention(
            unit_id=number,
            kind=kind,
            feature=feature,
            value=value,
            polarity=polarity,
            steering=replace(steering, strength=float(dose)),
        )
        for number, (kind, feature, value, polarity, steering) in enumerate(units)
        for dose in doses
    ]


def measure(
    work: Work,
    model: "Model",
    edit: "Edit",
    layer: int,
    point: Point,
    instrument: Instrument,
    asked: Sequence[Question],
    neutral: Sequence[str],
    interventions: Sequence[Intervention],
    progress: Progress,
) -> tuple[pa.Table, pa.Table]:
    """`(ratings, damage)`: one row a question and intervention; one a neutral text and
    intervention.

    Row i of `edit` is intervention i. Chunks that an earlier, interrupted call kept are not
    measured again.
    """
    import torch

    from sae_training.engine import scoring
    from sae_training.engine.losses import losses

    prompts, options = [q.prompt for q in asked], option_texts(instrument, model)
    tokens = [ids[: model.context] for ids in model.tokenize(neutral)]
    done, total = work.done("ratings"), len(interventions)
    for number, start in enumerate(range(0, total, CHUNK)):
        rows = range(start, min(start + CHUNK, total))
        if number not in done:
            part = edit.take(torch.tensor(rows))
            # The unsteered pass is made again for each chunk: a few per cent of its time, and
            # nothing to keep.
            scores = scoring.sweep(model, prompts, options, part, Site(layer, point))
            base, ratings = (expected_ratings(x.double().numpy(), asked) for x in scores)
            if not np.isfinite(ratings).all():
                bad = interventions[start + int(np.argwhere(~np.isfinite(ratings))[0][0])]
                raise BadInput(f"Under {bad.steering.name} the model gives NaN. Use smaller doses.")
            hurt = losses(model, tokens, part, Site(layer, point))
            damage = (hurt.steered - hurt.base).double().numpy()
            work.part("damages", number, damage_table(np.array(rows), damage))
            work.part("ratings", number, ratings_table(np.array(rows), asked, ratings, base))
        progress("sweeping", rows[-1] + 1, total)
    return work.parts("ratings"), work.parts("damages")


def damage_table(rows: np.ndarray, damage: np.ndarray) -> pa.Table:
    """Rows of `damages`: `damage` of each intervention in `rows` to each text [nats per token]."""
    texts = np.arange(damage.shape[1], dtype=np.int32)
    return pa.table(
        {
            "intervention": np.repeat(rows.astype(np.int32), len(texts)),
            "text": np.tile(texts, len(rows)),
            "damage": damage.ravel(),
        }
    )


def ratings_table(
    rows: np.ndarray, asked: Sequence[Question], ratings: np.ndarray, base: np.ndarray
) -> pa.Table:
    """Rows of `ratings`: `ratings` of each intervention in `rows` for each question, beside the
    unsteered `base`.
    """
    columns = {
        "context": np.array([q.context for q in asked], np.int32),
        "item": np.array([q.item.id for q in asked]),
        "wording": np.array([q.wording for q in asked]),
        "order": np.array([q.order for q in asked]),
        "value": np.array([q.item.value for q in asked]),
    }
    columns = {"intervention": np.repeat(rows.astype(np.int32), len(base))} | {
        name: np.tile(column, len(rows)) for name, column in columns.items()
    }
    return pa.table(
        columns
        | {
            "rating": ratings.astype(np.float32).ravel(),
            "base": np.tile(base.astype(np.float32), len(rows)),
        }
    )
