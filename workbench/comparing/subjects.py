"""Who is compared: a model as it is, the same model steered, another model.

A subject is written in one word:

- `base`: the model of the SAE, as it is;
- `power+`, `power-`: with the value's labelled features turned up or down, as one direction;
- `f12+f40*-1@0.4`: with features of one's own, at a strength of one's own;
- `organism`, a folder, a hub id, `https://host/v1#model`: another model.

`values` stands for `base` and every labelled value up and down: a population whose profiles differ,
which is what validity is computed from.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from feature_store.errors import BadInput, NotFound
from feature_store.records import ValueSystem
from workbench import material
from workbench.sweeps.sweep import as_direction, choose_features

EVERY_VALUE = "values"
"""Word that stands for the base model and every steerable value up and down."""
_FEATURES = re.compile(r"(f\d+(?:\*-?[\d.]+)?(?:\+f\d+(?:\*-?[\d.]+)?)*)@(-?[\d.]+)")


@dataclass(frozen=True)
class ComparedSubject:
    """One of those whose profiles are laid beside each other."""

    name: str
    """As it was written."""
    settings: Mapping[str, Any]
    """What a measurement is told of it: a model, or features and a strength."""

    @property
    def steered(self) -> bool:
        """Whether it is the SAE's model under a steering."""
        return "features" in self.settings


@dataclass(frozen=True, kw_only=True)
class Steerable:
    """What the values of a system can be steered by."""

    labels: pd.DataFrame
    """Labels with their output scores, as `output_scores.with_outputs` gives them; empty: no value
    can be steered."""
    system: ValueSystem
    """Value system of the labels."""
    features_per_value: int
    """Features of each value, steered as one direction."""
    strength: float
    """How far a value is turned [unit of the steering]."""

    @cached_property
    def features(self) -> pd.DataFrame:
        """The labels that were chosen, best first within their value."""
        if not len(self.labels):
            return self.labels
        return choose_features(self.labels, self.features_per_value)

    @cached_property
    def values(self) -> list[str]:
        """Ids of the values that have features, in the order of the system."""
        labelled = set(self.features.get("value", ()))
        return [value for value in self.system.ids if value in labelled]


def subjects(words: Sequence[str], steerable: Steerable) -> list[ComparedSubject]:
    """Read the subjects from the words on the command line, in their order and without repeats.

    Raises BadInput or NotFound for a word that names no subject, and below two subjects.
    """
    names = list(dict.fromkeys(expand(words, steerable.values)))
    named = [_subject(name, steerable) for name in names]
    if len(named) < 2:
        raise BadInput(
            f"A comparison needs two subjects, got {', '.join(names) or 'none'}. Name them with"
            " --subjects, as base,power+."
        )
    return named


def expand(words: Sequence[str], steerable: Sequence[str]) -> list[str]:
    """Replace the word `values` by the base model and every steerable value up and down."""
    names: list[str] = []
    for word in words:
        if word == EVERY_VALUE:
            names += ["base", *(f"{value}{sign}" for value in steerable for sign in "+-")]
        else:
            names.append(word)
    return names


def turns_value(word: str) -> bool:
    """Whether a word means values that are turned up or down, and so needs labels."""
    return word == EVERY_VALUE or word[-1:] in "+-"


def _subject(name: str, steerable: Steerable) -> ComparedSubject:
    """Read one subject from its word."""
    if name == "base":
        return ComparedSubject(name, {})
    if match := _FEATURES.fullmatch(name):
        features = tuple(part[1:].replace("*", ":") for part in match[1].split("+"))
        return ComparedSubject(name, {"features": features, "strength": _number(match[2], name)})
    if name[-1:] in "+-":
        return _turned_value(name, steerable)
    if name == material.ORGANISM or "/" in name or "." in name:
        return ComparedSubject(name, {"model": name})
    raise BadInput(
        f"{name!r} is not a subject. Write base, a value with + or - (power+), features with a"
        " strength (f12+f40*-1@0.4), or a model: organism, a folder, a hub id,"
        " https://host/v1#model."
    )


def _turned_value(name: str, steerable: Steerable) -> ComparedSubject:
    """Read a value with a sign: its features, steered as one direction."""
    try:
        value = steerable.system.resolve(name[:-1])
    except NotFound as error:
        raise NotFound(f"The subject {name!r} should be a value with + or -: {error}") from None
    if value not in steerable.values:
        raise BadInput(
            f"No accepted label names a feature of {value};"
            f" {', '.join(steerable.values) or 'no value'} can be steered. Label more, or leave it"
            " out."
        )
    weights = as_direction(steerable.features, value, 1 if name[-1] == "+" else -1)
    features = tuple(f"{index}:{weight!r}" for index, weight in weights)
    return ComparedSubject(name, {"features": features, "strength": steerable.strength})


def _number(text: str, name: str) -> float:
    """Read a strength. Raises BadInput naming the subject."""
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"The strength in {name!r} is not a number.") from None
