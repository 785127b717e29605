"""How well two classes are told apart, with intervals that have a width where all is right.

1. `area` is the area under the ROC curve with Newcombe's interval (2006, method 5): the score
   interval over the variance of Hanley and McNeil, so that 10 of 10 are not certain.
2. `balanced` is the mean of two shares, with the interval of MOVER over their Wilson intervals
   (Zou and Donner 2008).

Bootstrapping few contexts would give no width at 1. Left out: contexts that come from one text.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize, stats

Z = 1.959963984540054
"""Reach of a 95 % interval [standard errors]."""


class Estimate(NamedTuple):
    """A share or an area with its 95 % interval [0 to 1]; NaN where a class is empty."""

    figure: float
    """The estimate."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


NOTHING = Estimate(figure=np.nan, low=np.nan, high=np.nan)


def proportion(right: Bool[np.ndarray, " n"]) -> Estimate:
    """Give the share that is right, with Wilson's interval."""
    if not len(right):
        return NOTHING
    ends = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return Estimate(figure=float(right.mean()), low=float(ends.low), high=float(ends.high))


def balanced(active: Bool[np.ndarray, " n"], silent: Bool[np.ndarray, " m"]) -> Estimate:
    """Give the balanced accuracy: the mean of the shares that are right in two classes.

    balanced(np.array([True, True]), np.array([True, False])).figure  # 0.75
    """
    if not (len(active) and len(silent)):
        return NOTHING
    first, second = proportion(active), proportion(silent)
    below = np.hypot(first.figure - first.low, second.figure - second.low) / 2
    above = np.hypot(first.high - first.figure, second.high - second.figure) / 2
    figure = (first.figure + second.figure) / 2
    return Estimate(figure=figure, low=float(figure - below), high=float(figure + above))


def area(active: Float[np.ndarray, " n"], silent: Float[np.ndarray, " m"]) -> Estimate:
    """Give the area under the ROC curve of a score [0 to 1; 0.5 = chance]; ties count half.

    area(np.array([2.0, 3.0]), np.array([1.0])).figure  # 1.0
    """
    if not (len(active) and len(silent)):
        return NOTHING
    above = active[:, None] > silent
    ties = active[:, None] == silent
    figure = float((above + ties / 2).mean())
    n, m = len(active), len(silent)
    half = (n + m) / 2

    def beyond(theta: float) -> float:
        """Say how far the estimate lies beyond the reach of `theta`."""
        pairs = 1 + (half - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(figure - theta) - Z * np.sqrt(theta * (1 - theta) * pairs / (n * m))

    # The estimate itself is no end of the interval, though at 0 and 1 its reach is 0.
    beside = 1e-9
    low = float(optimize.brentq(beyond, 0.0, figure - beside)) if figure > 0 else 0.0
    high = float(optimize.brentq(beyond, figure + beside, 1.0)) if figure < 1 else 1.0
    return Estimate(figure=figure, low=low, high=high)
