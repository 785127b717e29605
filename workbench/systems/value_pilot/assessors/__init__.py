"""Assessors rate a text by values: how much of each is in it, and in which direction. One assessor
a module.

A plug-in is registered under kind `assessors` and is anything with `config` (a frozen dataclass of
its settings) and `fit`, which learns from rated texts and gives an `Assessor`. An assessor says two
things about a text and a value, as the paper's does: the *rate*, in which direction and how far,
and the *label*, whether the value is in it at all; the rating is their product.

`check` is what every fit asks of its texts. Luo et al. (2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput

PRESENT = 0.05
"""A value is in a text where its rating is further from 0 than this [rating points]."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """What an assessor says of texts: one row a text, one column a value."""

    rate: Float[np.ndarray, "text value"]
    """Direction and size, given that the value is in the text [-1 to 1]."""
    label: Float[np.ndarray, "text value"]
    """Probability that it is [0 to 1]."""

    @property
    def rating(self) -> Float[np.ndarray, "text value"]:
        """Give rho: rate x label [-1 to 1]."""
        return self.rate * self.label


@runtime_checkable
class Assessor(Protocol):
    """Rates texts by values, once it was fitted.

    A `Fitter` gives it:

        assessor = fitter.fit(texts, ratings, fitter.config())
        assessor.assess(["I share what I have."]).rating
    """

    def assess(self, texts: Sequence[str]) -> Assessment:
        """Rate texts; columns are the values that the fit had."""
        ...


@runtime_checkable
class Fitter(Protocol):
    """Learns from rated texts: the plug-in of kind `assessors`.

    A plug-in of your own looks like this:

        @register("assessors", "mine")
        class MyAssessor:
            config = MySettings

            @staticmethod
            def fit(texts, ratings, settings): ...
    """

    config: type
    """Frozen dataclass of the plug-in's settings."""

    def fit(
        self, texts: Sequence[str], ratings: Float[np.ndarray, "text value"], settings: Any
    ) -> Assessor:
        """Fit an assessor on rated texts."""
        ...


def check(texts: Sequence[str], ratings: Float[np.ndarray, "text value"]) -> None:
    """Refuse what no assessor can learn from.

    Raises BadInput unless there are two texts or more, with one row of ratings in [-1, 1] each.
    """
    if len(texts) != len(ratings) or len(texts) < 2:
        raise BadInput(
            "An assessor learns from at least two texts with one row of ratings each, got"
            f" {len(texts)} and {len(ratings)}."
        )
    if not (np.abs(ratings) <= 1).all():
        raise BadInput("Ratings that an assessor learns from lie in [-1, 1], got others.")
