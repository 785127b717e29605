"""What is changed in a model, how far, and where."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from feature_store.errors import BadInput

Unit = Literal["raw", "feature_max", "norm_share"]
Combine = Literal["direction", "sum"]
Positions = Literal["all", "prompt", "last", "generated"]


@dataclass(frozen=True)
class Span:
    """A piece of the prompt that is steered."""

    text: str
    """A piece of the prompt: steered are its tokens, at each place where it occurs, in the pass
    over the prompt alone."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise BadInput(
                f"A span is a piece of the prompt with at least one word, got {self.text!r}."
            )

    def __str__(self) -> str:
        return f"at {self.text!r}"


Where = Positions | Span


@dataclass(frozen=True)
class Steering:
    """What is changed in a model, how far, and where."""

    features: tuple[tuple[int, float], ...] = ()
    """(0-based feature index, weight) pairs; `combine` says what several of them mean."""
    method: str = "add"
    """Name of a steering plug-in."""
    strength: float = 0.0
    """How far, in `unit`; 0 changes nothing. Must be finite."""
    unit: Unit = "norm_share"
    """`raw`: length in residual units; `feature_max`: multiples of each feature's largest
    activation; `norm_share`: share of the median residual norm at the site."""
    positions: Where = "all"
    """Token positions that are steered, by name or as a span of the prompt's text (the first token
    of a sequence, a sink in most models, never is)."""
    random: int = -1
    """Seed of a random unit direction used instead of features [>= 0]; -1: features are used."""
    direction: str = ""
    """Direction of a probes run used instead of features, as `run/value/kind`; empty: features are
    used."""
    combine: Combine = "direction"
    """What several features mean. `direction`: one direction, which `strength` makes so long.
    `sum`: each feature as if steered alone, at `strength` times its weight, and the vectors
    added."""
    together: tuple["Steering", ...] = ()
    """Steerings that are given together, each as if alone at `strength` times its own strength, and
    the vectors added; none: features or a direction are used. Their method is `add`."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise BadInput(
                f"A steering strength must be a finite number, got {self.strength}. "
                "Give a dose such as 0.5."
            )
        if not all(math.isfinite(weight) for _, weight in self.features):
            raise BadInput(f"Feature weights must be finite numbers, got {self.features}.")
        if self.direction and (self.features or self.random >= 0):
            raise BadInput(
                f"A steering goes along {self.direction} or along features or a random direction. "
                "Give one of them."
            )
        if self.together and (self.features or self.by_direction or self.method != "add"):
            raise BadInput(
                f"Steerings are given together by adding them, got method {self.method} along"
                f" {self._along(_short)}. Use add, and nothing beside them."
            )

    @property
    def by_direction(self) -> bool:
        """Whether it goes along a random or a stored direction, which has no activation."""
        return self.random >= 0 or bool(self.direction)

    @property
    def name(self) -> str:
        """Readable and unique: `add f12+f7*-1 @0.5 norm_share`; `base` when nothing is changed."""
        if not (self.features or self.by_direction or self.together):
            return "base"
        if self.strength == 0 and self.method == "add":
            return "base"  # other methods change something at strength 0: they remove the feature
        return self._named(_short)

    @property
    def key(self) -> str:
        """The name with every digit, and with what `combine` does to a single weight.

        Two steerings that differ never share a key.
        """
        if self.name == "base":
            return "base"
        single = self.combine == "sum" and len(self.features) == 1
        alone = " alone" if single and self.features[0][1] != 1 else ""
        return self._named(_exact) + alone

    def _named(self, number_as_text: Callable[[float], str]) -> str:
        along = self._along(number_as_text)
        where = "" if self.positions == "all" else f" {self.positions}"
        return f"{self.method} {along} @{number_as_text(self.strength)} {self.unit}{where}"

    def _along(self, number_as_text: Callable[[float], str]) -> str:
        if self.random >= 0:
            return f"random{self.random}"
        parts = [
            f"({part._along(number_as_text)})*{number_as_text(part.strength)}"
            for part in self.together
        ]
        return self.direction or " & ".join(parts) or self._features(number_as_text)

    def _features(self, number_as_text: Callable[[float], str]) -> str:
        terms = []
        for index, weight in self.features:
            factor = "" if weight == 1 else f"*{number_as_text(weight)}"
            terms.append(f"f{index}{factor}")
        return ("+" if self.combine == "direction" else " & ").join(terms)


def _short(number: float) -> str:
    return f"{number:g}"


def _exact(number: float) -> str:
    """Six digits where they are the number, as in a shown name, else all of them."""
    short = _short(number)
    return short if float(short) == number else repr(float(number))
