"""What a field of settings may hold, written beside the field.

    seed: Seed = 0
    agreement: Share = 0.6
    method: Annotated[str, Plugin("steerings")] = "add"

1. `Between` gives the smallest and the largest number; of a tuple, of each of its parts.
2. `Plugin` says that a text names a plug-in of a kind, so that a wrong name is refused before
   anything is read or measured.
3. Whoever reads settings from flags or a job file (`workbench/settings.py`) checks both. A default
   holds whatever stands here.

The bounds are where another number is a slip: generators take no negative seed, replicates are
drawn in memory, a negative count would leave the last ones out. Left out: rules between fields;
those stand in `__post_init__`.
"""

from dataclasses import dataclass
from typing import Annotated

MANY = 1_000_000
"""Largest count that is no slip."""
HUGE = 10**12
"""Largest number of documents or tokens that is no slip."""


@dataclass(frozen=True)
class Between:
    """The smallest and the largest number that a field takes."""

    least: float
    """Smallest number, itself allowed."""
    most: float
    """Largest number, itself allowed."""


@dataclass(frozen=True)
class Plugin:
    """A field that holds the name of a plug-in."""

    kind: str
    """Kind of plug-in, as `workbench plugins` lists them."""


@dataclass(frozen=True)
class Later:
    """A field that was added when runs were there already.

    A run's description leaves it out where it holds its default, or what those runs did, so that
    they keep their ids.
    """

    before: str = ""
    """What the runs did that came before the field; empty: its default."""


@dataclass(frozen=True)
class NoneAs:
    """A list that may be left empty, and the word that says so on the command line."""

    word: str
    """Word for the empty list."""


@dataclass(frozen=True)
class KeptAs:
    """A field that was renamed when runs were there already, which keep it under its first name."""

    name: str
    """Name in a run's description."""


Seed = Annotated[int, Between(0, 2**31 - 1)]
Replicates = Annotated[int, Between(100, 100_000)]
"""An interval's ends are quantiles of the replicates; below 100 there are none."""
Permutations = Annotated[int, Between(100, MANY)]
"""A permutation's p is 1 / (permutations + 1) at least."""
Count = Annotated[int, Between(1, MANY)]
CountOrZero = Annotated[int, Between(0, MANY)]
CountOfTexts = Annotated[int, Between(0, HUGE)]
Share = Annotated[float, Between(0, 1)]
Positive = Annotated[float, Between(1e-9, MANY)]
NotNegative = Annotated[float, Between(0, MANY)]
Temperature = Annotated[float, Between(0, 100)]
TextColumn = Annotated[str, Later()]
