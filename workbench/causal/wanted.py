"""A wanted profile in words: `benevolence +0.5, power <= 0, others within 0.2, damage <= 0.1`.

Clauses stand between commas or semicolons, in any order:

    VALUE +0.5                  a change of the rating, met within 0.1
    VALUE +0.5 within 0.05      the same, met within 0.05 (`±` and `+-` say the same)
    VALUE <= 0   VALUE >= 0.3   a largest and a smallest change; both make a range
    others within 0.2           every value that is not named changes by at most 0.2
    damage <= 0.1               largest rise of the loss on neutral text [nats per token]

Changes are in rating points, or in unsteered SD of the value where the unit is `sd`. Several
clauses on one value all hold. Left out: levels. A wish is about changes, because changes are what
steering was measured in.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput, NotFound, nearest
from feature_store.records import ValueSystem, normalise

WishUnit = Literal["points", "sd"]
"""Unit of the changes in a wish: rating points, or unsteered SD of each value."""
TOLERANCE = 0.1
"""How near a target must be met where the wish does not say [unit of the wish]."""
_NUMBER = r"[+\-−]?(?:\d+\.?\d*|\.\d+)"
_BOUND = rf"(?P<bound><=|>=|≤|≥)\s*(?P<limit>{_NUMBER})"
_TOLERANCE = rf"\s*(?:±|\+/?-|within)\s*(?P<tolerance>{_NUMBER})"
_TARGET = rf"(?:=\s*|(?<=\s))(?P<target>{_NUMBER})(?:{_TOLERANCE})?"
_WIDTH = rf"within\s+(?P<width>{_NUMBER})"
_CLAUSE = re.compile(rf"(?P<name>.+?)\s*(?:{_BOUND}|{_TARGET}|{_WIDTH})")


@dataclass(frozen=True)
class WantedChange:
    """What a wish says of one value."""

    value: str
    """Id of the value."""
    low: float = -math.inf
    """Smallest change that will do [unit of the wish]."""
    high: float = math.inf
    """Largest change that will do."""
    target: float = math.nan
    """The change itself; NaN where only bounds are given."""


@dataclass(frozen=True)
class Wish:
    """A wanted profile, as it was written."""

    values: tuple[WantedChange, ...]
    """Named values, in the order of the wish."""
    others: float = math.inf
    """Largest change of every value that is not named, in either direction [unit of the wish];
    inf: any."""
    damage: float = math.inf
    """Largest damage [nats per token]; inf: any."""
    unit: WishUnit = "points"
    """`points`: rating points; `sd`: unsteered SD of each value."""


class Goal(NamedTuple):
    """A wish over the measured values."""

    low: Float[np.ndarray, " value"]
    """Smallest change [rating points]; -inf: any."""
    high: Float[np.ndarray, " value"]
    """Largest change [rating points]; inf: any."""
    target: Float[np.ndarray, " value"]
    """WantedChange change [rating points]; NaN where there is none; 0 for `others`."""
    damage: float
    """Largest damage [nats per token]."""

    def missed(self, change: Float[np.ndarray, "*r value"]) -> Float[np.ndarray, "*r value"]:
        """Compute how far each value is from its target, else from its bounds [rating points].

        0 where nothing was asked. `change`: one row a steering, or none.
        """
        outside = np.maximum(self.low - change, 0) - np.maximum(change - self.high, 0)
        return np.where(np.isfinite(self.target), self.target - change, outside)

    def distance(self, change: Float[np.ndarray, "*r value"]) -> Float[np.ndarray, "*r"]:
        """Compute the root mean square of `missed` over the values of which something was asked.

        In rating points.
        """
        bounded = np.isfinite(self.low) | np.isfinite(self.high)
        return np.asarray(np.sqrt((self.missed(change)[..., bounded] ** 2).mean(-1)))

    def met(self, change: Float[np.ndarray, "*r value"], slack: float = 0.0) -> np.ndarray:
        """Tell of each value's change whether it is one that was asked for [*r value]."""
        return (change >= self.low - slack) & (change <= self.high + slack)


def parse(text: str, system: ValueSystem, unit: WishUnit = "points") -> Wish:
    """Read the wish that `text` states.

        parse("benevolence +0.5, power <= 0, others within 0.2", system).others        # 0.2

    Raises NotFound for an unknown value, BadInput for what cannot be read or contradicts itself.
    """
    wanted: dict[str, WantedChange] = {}
    others = damage = math.inf
    for clause in filter(None, (part.strip() for part in re.split(r"[,;]", text))):
        match = _CLAUSE.fullmatch(clause)
        if not match:
            raise BadInput(
                f"{clause!r} is no clause of a wish. Write a change (`power -0.5`), a bound (`power"
                " <= 0`), `others within 0.2` or `damage <= 0.1`."
            )
        name = normalise(match["name"])
        if name == "damage":
            if match["bound"] not in ("<=", "≤"):
                raise BadInput(
                    f"Damage has a largest value only, got {clause!r}. Write `damage <= 0.1`."
                )
            damage = min(damage, _number(match["limit"]))
            if damage < 0:
                raise BadInput(
                    f"A limit of damage is 0 nats or more, got {damage:g}. Doing nothing has"
                    " damage 0."
                )
        elif name == "others":
            if match["width"] is None or _number(match["width"]) < 0:
                raise BadInput(
                    f"The other values have a width only, got {clause!r}. Write `others within"
                    " 0.2`."
                )
            others = min(others, _number(match["width"]))
        else:
            id = _resolve(match["name"].strip(), system)
            wanted[id] = _narrow(wanted.get(id, WantedChange(value=id)), match, clause)
    if not wanted:
        raise BadInput(
            f"The wish {text!r} names no value to change. Write one, such as `{system.ids[0]}"
            " +0.5`."
        )
    return Wish(values=tuple(wanted.values()), others=others, damage=damage, unit=unit)


def goal(wish: Wish, values: tuple[str, ...], sd: Float[np.ndarray, " value"]) -> Goal:
    """Lay out a wish over the measured `values`, in rating points.

    `sd` is the unsteered SD of each value [rating points], the unit of a wish in SD. Raises
    BadInput for a value that was not measured.
    """
    unit = sd if wish.unit == "sd" else np.ones(len(values))
    low = np.full(len(values), -wish.others)
    high = np.full(len(values), wish.others)
    target = np.full(len(values), math.nan if math.isinf(wish.others) else 0.0)
    for change in wish.values:
        if change.value not in values:
            raise BadInput(
                f"{change.value} was not measured in the sweep, so nothing can be wished of it."
                f" Choose of {', '.join(values)}."
            )
        j = values.index(change.value)
        low[j], high[j], target[j] = change.low, change.high, change.target
    return Goal(low=low * unit, high=high * unit, target=target * unit, damage=wish.damage)


def _resolve(name: str, system: ValueSystem) -> str:
    try:
        return system.resolve(name)
    except NotFound:
        names = (*system.ids, "others", "damage")
        raise NotFound(
            f"{name!r} is no value of {system.id}.{nearest(normalise(name), names)}"
        ) from None


def _narrow(wanted: WantedChange, match: re.Match[str], clause: str) -> WantedChange:
    """What is wanted of a value once one more clause holds. Raises BadInput where none can."""
    low, high, target = -math.inf, math.inf, wanted.target
    if match["bound"] in ("<=", "≤"):
        high = _number(match["limit"])
    elif match["bound"]:
        low = _number(match["limit"])
    elif match["width"]:
        low, high = -_number(match["width"]), _number(match["width"])
    else:
        target = _number(match["target"])
        tolerance = _number(match["tolerance"]) if match["tolerance"] else TOLERANCE
        if math.isfinite(wanted.target) and wanted.target != target:
            raise BadInput(
                f"{wanted.value} has two targets, {wanted.target:+g} and {target:+g}. Give one."
            )
        low, high = target - tolerance, target + tolerance
    low, high = max(low, wanted.low), min(high, wanted.high)
    off_target = math.isfinite(target) and not low <= target <= high
    if low > high or off_target:
        around = f" around a target of {target:+g}" if off_target else ""
        raise BadInput(
            f"What is asked of {wanted.value} contradicts itself at {clause!r}: a change of at"
            f" least {low:+g} and at most {high:+g}{around}. Drop one of the clauses."
        )
    return replace(wanted, low=low, high=high, target=target)


def _number(text: str) -> float:
    return float(text.replace("−", "-"))
