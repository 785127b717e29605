"""Values and the circle they stand on."""

import math
from dataclasses import dataclass

from feature_store.errors import NotFound, nearest


@dataclass(frozen=True)
class Value:
    """One human value and its place among the others."""

    id: str
    """Lower-case identifier, words joined by hyphens: `self-direction`."""
    name: str
    """Name for people: `Self-Direction`."""
    angle: float
    """Place on the motivational circle [radians, 0 to 2 pi, counter-clockwise from
    Self-Direction]."""
    definition: str
    """The motivational goal in one sentence."""
    parent: str
    """Id of the value of the coarser system that contains it; empty in the coarsest."""


@dataclass(frozen=True)
class ValueSystem:
    """Values that belong together, and the circle they stand on."""

    id: str
    """`schwartz10`, `schwartz19`, `higher-order`, `moral-foundations`."""
    values: tuple[Value, ...]
    """In circle order."""
    source: str
    """The publication that defines the system."""
    aliases: tuple[tuple[str, str], ...] = ()
    """(normalised other name, id) pairs, finer values and published spellings among them."""
    circular: bool = True
    """Whether the angles are places on a circle that the theory gives; false: even steps that order
    the values in figures."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The values' ids in circle order."""
        return tuple(value.id for value in self.values)

    def __getitem__(self, id: str) -> Value:
        """The value that a name means. Raises as `resolve` does."""
        return self.values[self.ids.index(self.resolve(id))]

    def resolve(self, name: str) -> str:
        """The id that `name` means, whatever its spelling. Raises NotFound with the nearest id."""
        key = normalise(name)
        ids = dict(self.aliases) | {id: id for id in self.ids}
        if key not in ids:
            raise NotFound(f"{name!r} is not a value of {self.id}.{nearest(key, ids)}")
        return ids[key]

    def distance(self, a: str, b: str) -> float:
        """Angle between two values on the circle [radians, 0 to pi].

        In a system without a circle: 0 between a value and itself, NaN between different ones.
        """
        if not self.circular:
            return 0.0 if self.resolve(a) == self.resolve(b) else math.nan
        gap = abs(self[a].angle - self[b].angle) % (2 * math.pi)
        return min(gap, 2 * math.pi - gap)


def normalise(name: str) -> str:
    """Lower case, and a hyphen for each run of other signs.

    >>> normalise("Self-direction: thought")
    'self-direction-thought'
    """
    letters = [sign if sign.isalnum() else " " for sign in name.lower()]
    return "-".join("".join(letters).split())
