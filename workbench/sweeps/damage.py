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

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from feature_store.errors import BadInput
from workbench.statistics.intervals import bootstrap_mean

CONTROLS = ("random-feature", "random-direction")
"""Kinds of units that are steered for no value."""
SMALLEST_SD = 1e-4
"""Unsteered ratings that vary less over contexts cannot be a unit [rating points]."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What was measured while a model was steered, as aligned arrays.

    A row is an intervention (a unit at a dose); ratings have one cell a context and value.
    """

    values: tuple[str, ...]
    """Ids of the measured values, in circle order."""
    unit_id: Int[np.ndarray, " intervention"]
    """What is steered; its doses share it."""
    kind: Shaped[np.ndarray, " intervention"]
    """`feature`, `group` or `direction`, or one of `CONTROLS`."""
    feature: Int[np.ndarray, " intervention"]
    """0-based feature index; -1 for what is not one feature."""
    source: Shaped[np.ndarray, " intervention"]
    """Id of the value that the unit is steered for; empty for controls."""
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
        """Subtract unsteered from steered ratings, context by context [rating points]."""
        return self.ratings - self.base

    def take(self, rows: Int[np.ndarray, " row"]) -> "Sweep":
        """Keep some of the interventions."""
        by_row = ("unit_id", "kind", "feature", "source", "polarity", "dose", "ratings", "damage")
        return replace(self, **{name: getattr(self, name)[rows] for name in by_row})

    def unsteered_sd(self) -> Float[np.ndarray, " value"]:
        """Compute the SD of each value's unsteered rating over contexts [rating points].

        It is the unit of effects. Raises BadInput where it cannot be one.
        """
        return unit_of_effects(self.base, self.values)


def unit_of_effects(
    base: Float[np.ndarray, "context value"], values: tuple[str, ...]
) -> Float[np.ndarray, " value"]:
    """Compute the SD of each value's unsteered rating over contexts [rating points].

    Raises BadInput where it cannot be the unit of effects: where fewer than two contexts were
    answered, or all of them alike.
    """
    answered = np.isfinite(base).sum(0)
    few = [value for value, n in zip(values, answered, strict=True) if n < 2]
    if few:
        raise BadInput(
            f"Effects need two contexts with an unsteered answer, {', '.join(few)} has fewer."
            " Ask more contexts."
        )
    sd = np.nanstd(base, axis=0, ddof=1)
    flat = [value for value, x in zip(values, sd, strict=True) if x < SMALLEST_SD]
    if flat:
        raise BadInput(
            f"The unsteered ratings of {', '.join(flat)} are the same in every context, so an"
            " effect has no unit. Ask under contexts that differ, or by log-probability."
        )
    return sd


class Matched(NamedTuple):
    """Every unit at its damage-matched strength; rows in the order of first appearance."""

    unit_id: Int[np.ndarray, " unit"]
    """What is steered."""
    kind: Shaped[np.ndarray, " unit"]
    """`feature`, `group` or `direction`, or one of `CONTROLS`."""
    feature: Int[np.ndarray, " unit"]
    """0-based feature index; -1 for what is not one feature."""
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

    @property
    def is_control(self) -> Bool[np.ndarray, " unit"]:
        """Which units were steered for no value."""
        return np.isin(self.kind, CONTROLS)

    def of(self, value: str) -> Int[np.ndarray, " row"]:
        """Find the rows of the units that are steered for `value`."""
        return np.flatnonzero((self.source == value) & ~self.is_control)

    def rows(self) -> list[dict[str, Any]]:
        """Give every unit as a row of the relation `matched`."""
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
    """Interpolate every unit to the strength whose damage is `delta` [nats per token].

    matched = match(sweep, 0.1)
    matched.changes[matched.of("power")]        # its features, at equal damage
    """
    if not delta > 0:
        raise BadInput(
            f"The damage to match must be positive, got {delta:g} nats. Give a limit such as 0.1."
        )
    _, first = np.unique(sweep.unit_id, return_index=True)
    first = np.sort(first)
    units = [_match_unit(sweep, unit, delta) for unit in sweep.unit_id[first].tolist()]
    polarity = sweep.polarity[first]
    return Matched(
        unit_id=sweep.unit_id[first],
        kind=sweep.kind[first],
        feature=sweep.feature[first],
        source=sweep.source[first],
        polarity=polarity,
        strength=np.array([unit.strength for unit in units]),
        reached=np.array([unit.reached for unit in units]),
        damage=np.array([unit.damage for unit in units]),
        changes=np.stack([unit.changes for unit in units]) * polarity[:, None, None],
    )


class _MatchedUnit(NamedTuple):
    """One unit at s*, as in `Matched`; its changes are not turned."""

    strength: float
    reached: bool
    damage: float
    changes: Float[np.ndarray, "context value"]


def _match_unit(sweep: Sweep, unit: int, delta: float) -> _MatchedUnit:
    """Interpolate one unit between the two doses around the damage `delta`."""
    rows = np.flatnonzero(sweep.unit_id == unit)
    rows = rows[np.argsort(sweep.dose[rows])]
    doses = np.r_[0.0, sweep.dose[rows]]
    damage = sweep.damage[rows].mean(1)
    curve = np.maximum.accumulate(np.r_[0.0, damage])
    changes = sweep.ratings[rows] - sweep.base
    if curve[-1] < delta:
        return _MatchedUnit(
            strength=float(doses[-1]), reached=False, damage=float(damage[-1]), changes=changes[-1]
        )
    upper = int(np.argmax(curve >= delta))
    share = (delta - curve[upper - 1]) / (curve[upper] - curve[upper - 1])
    strength = float(doses[upper - 1] + share * (doses[upper] - doses[upper - 1]))
    above = changes[upper - 1]
    below = changes[upper - 2] if upper > 1 else np.zeros_like(above)
    # At a dose itself the lower one has no say, or its missing answers would spread.
    mixed = above if share == 1.0 else (1 - share) * below + share * above
    return _MatchedUnit(strength=strength, reached=True, damage=delta, changes=mixed)


def damage_rows(sweep: Sweep, replicates: int, seed: int) -> list[dict[str, float]]:
    """Average each intervention's damage over neutral texts, with its bootstrapped interval.

    One row an intervention: `damage`, `damage_low`, `damage_high` [nats per token] and `damage_n`
    [texts].
    """
    interval = bootstrap_mean(sweep.damage.T, replicates, seed)
    return [
        {
            "damage": float(interval.mean[k]),
            "damage_low": float(interval.low[k]),
            "damage_high": float(interval.high[k]),
            "damage_n": float(interval.n[k]),
        }
        for k in range(len(sweep.damage))
    ]
