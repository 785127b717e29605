"""A sweep's measurements, and the strength at which features may be compared: equal damage to
neutral text.

1. `Sweep` holds what was measured, aligned: ratings per intervention, context and value; damage per
   intervention and text.
2. The damage curve of a unit (a feature or control) over its doses starts at (0, 0). Its running
   maximum is interpolated linearly to the first strength s* at which the damage is `delta`; a unit
   that never gets there is taken at its largest dose and flagged.
3. The change of every rating at s* is interpolated between the same two doses, context by context.

Left out: extrapolation beyond the largest dose.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from feature_store.errors import BadInput
from workbench.statistics.intervals import bootstrap_mean


@dataclass(frozen=True, eq=False)
class Sweep:
    values: tuple[str, ...]
    """Ids of the measured values, in circle order."""
    unit_id: Int[np.ndarray, " intervention"]
    """What is steered; its doses share it."""
    kind: Shaped[np.ndarray, " intervention"]
    """`feature`, `random-feature` or `random-direction`."""
    feature: Int[np.ndarray, " intervention"]
    """0-based feature index; -1 for a random direction."""
    source: Shaped[np.ndarray, " intervention"]
    """Id of the value that the feature is labelled with; empty for controls."""
    polarity: Int[np.ndarray, " intervention"]
    """Polarity of the label, -1 or +1; +1 for controls."""
    dose: Float[np.ndarray, " intervention"]
    """Strength [the sweep's unit, > 0]."""
    ratings: Float[np.ndarray, "intervention context value"]
    """Mean rating over a value's items and wordings [rating points]; NaN where nothing was
    parsed."""
    base: Float[np.ndarray, "context value"]
    """The same, unsteered [rating points]."""
    damage: Float[np.ndarray, "intervention text"]
    """Change of the mean loss on each neutral text [nats per token]."""

    def __post_init__(self) -> None:
        rows, contexts, values = self.ratings.shape
        sizes = {
            len(getattr(self, name))
            for name in ("unit_id", "kind", "feature", "source", "polarity", "dose", "damage")
        }
        if sizes != {rows} or self.base.shape != (contexts, values) or values != len(self.values):
            raise BadInput(
                f"A sweep of {rows} interventions, {contexts} contexts, {values} values does not"
                f" fit base {self.base.shape} and columns of {sorted(sizes)} rows. Build it from"
                " one run's tables."
            )
        if not np.isfinite(self.damage).all():
            raise BadInput("Damage must be finite, some neutral text gave NaN. Use smaller doses.")
        if not (np.isfinite(self.dose) & (self.dose > 0)).all():
            raise BadInput(
                "Doses must be finite and positive. Leave the unsteered row out; it is `base`."
            )
        strange = sorted(set(self.source.tolist()) - set(self.values) - {""})
        if strange:
            raise BadInput(
                f"Labelled values must be measured ones, got {', '.join(strange)}. Measure them, or"
                " drop them."
            )

    def changes(self) -> Float[np.ndarray, "intervention context value"]:
        """Steered less unsteered rating, paired by context [rating points]."""
        return self.ratings - self.base


class Matched(NamedTuple):
    """Every unit at its damage-matched strength; rows in the order of first appearance."""

    unit_id: Int[np.ndarray, " unit"]
    """What is steered."""
    kind: Shaped[np.ndarray, " unit"]
    """`feature`, `random-feature` or `random-direction`."""
    feature: Int[np.ndarray, " unit"]
    """0-based feature index; -1 for a random direction."""
    source: Shaped[np.ndarray, " unit"]
    """Value of the label; empty for controls."""
    polarity: Int[np.ndarray, " unit"]
    """Polarity of the label; +1 for controls."""
    strength: Float[np.ndarray, " unit"]
    """s* [the sweep's unit]."""
    reached: Bool[np.ndarray, " unit"]
    """False: the damage stays below delta at every dose, and s* is the largest dose."""
    damage: Float[np.ndarray, " unit"]
    """Mean damage at s* [nats per token]."""
    changes: Float[np.ndarray, "unit context value"]
    """Change of the ratings at s*, turned by polarity so that the labelled value should rise
    [rating points]."""

    def of(self, value: str) -> Int[np.ndarray, " row"]:
        """Rows of the features labelled with `value`."""
        return np.flatnonzero((self.source == value) & (self.kind == "feature"))

    def rows(self) -> list[dict[str, Any]]:
        """Rows of the store's table `matched`."""
        return [
            {
                "unit_id": int(self.unit_id[k]),
                "kind": str(self.kind[k]),
                "feature": int(self.feature[k]),
                "value": str(self.source[k]),
                "polarity": int(self.polarity[k]),
                "strength": float(self.strength[k]),
                "reached": bool(self.reached[k]),
                "damage": float(self.damage[k]),
            }
            for k in range(len(self.unit_id))
        ]


def match(sweep: Sweep, delta: float) -> Matched:
    """Interpolates every unit to the strength whose damage is `delta` [nats per token]."""
    if not delta > 0:
        raise BadInput(
            f"The damage to match must be positive, got {delta:g} nats. Give a limit such as 0.1."
        )
    _, first = np.unique(sweep.unit_id, return_index=True)
    first = np.sort(first)
    changes, hurt = sweep.changes(), sweep.damage.mean(1)
    strength, reached, damage, at = [], [], [], []
    for unit in sweep.unit_id[first]:
        rows = np.flatnonzero(sweep.unit_id == unit)
        rows = rows[np.argsort(sweep.dose[rows])]
        doses, curve = np.r_[0.0, sweep.dose[rows]], np.maximum.accumulate(np.r_[0.0, hurt[rows]])
        hit = bool(curve[-1] >= delta)
        upper = int(np.argmax(curve >= delta)) if hit else len(rows)
        share = (delta - curve[upper - 1]) / (curve[upper] - curve[upper - 1]) if hit else 1.0
        below = changes[rows[upper - 2]] if upper > 1 else np.zeros_like(changes[0])
        strength.append(doses[upper - 1] + share * (doses[upper] - doses[upper - 1]))
        reached.append(hit)
        damage.append(delta if hit else hurt[rows[-1]])
        # At a dose itself the lower one has no say, or its missing answers would spread.
        at.append(
            changes[rows[upper - 1]]
            if share == 1.0
            else (1 - share) * below + share * changes[rows[upper - 1]]
        )
    polarity = sweep.polarity[first]
    return Matched(
        unit_id=sweep.unit_id[first],
        kind=sweep.kind[first],
        feature=sweep.feature[first],
        source=sweep.source[first],
        polarity=polarity,
        strength=np.array(strength),
        reached=np.array(reached),
        damage=np.array(damage),
        changes=np.stack(at) * polarity[:, None, None],
    )


def damage_rows(sweep: Sweep, replicates: int, seed: int) -> list[dict[str, float]]:
    """`damage`, `damage_low`, `damage_high`, `damage_n` of each intervention, bootstrapped over
    neutral texts.
    """
    found = bootstrap_mean(sweep.damage.T, replicates, seed)
    names = ("damage", "damage_low", "damage_high", "damage_n")
    columns = (found.mean, found.low, found.high, found.n)
    return [dict(zip(names, map(float, row), strict=True)) for row in zip(*columns, strict=True)]
