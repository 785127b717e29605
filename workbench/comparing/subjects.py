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
from typing import Any

import pandas as pd

from feature_store.errors import BadInput, NotFound
from feature_store.records import ValueSystem
from workbench import material
from workbench.sweeps.sweep import as_direction, choose_features

EVERY = "values"
_FEATURES = re.compile(r"(f\d+(?:\*-?[\d.]+)?(?:\+f\d+(?:\*-?[\d.]+)?)*)@(-?[\d.]+)")


@dataclass(frozen=True)
class Subject:
    name: str
    """As it was written."""
    settings: Mapping[str, Any]
    """What `workbench measure` is told of it: a model, or features and a strength."""

    @property
    def steered(self) -> bool:
        """Whether it is the SAE's model under a steering."""
        return "features" in self.settings


def subjects(
    told: Sequence[str], labels: pd.DataFrame, system: ValueSystem, each: int, strength: float
) -> list[Subject]:
    """The subjects in the order they were named, each once.

    `labels`: as `output_scores.with_outputs` gives them; `each`: features a value.
    """
    chosen = choose_features(labels, each) if len(labels) else labels
    able = [value for value in system.ids if value in set(chosen.get("value", ()))]
    names = [
        name
        for one in told
        for name in (
            ["base", *(f"{v}{sign}" for v in able for sign in "+-")] if one == EVERY else [one]
        )
    ]
    found = {name: _subject(name, chosen, able, system, strength) for name in dict.fromkeys(names)}
    if len(found) < 2:
        raise BadInput(
            f"A comparison needs two subjects, got {', '.join(found) or 'none'}. Name them with"
            " --subjects, as base,power+."
        )
    return list(found.values())


def _subject(
    name: str, chosen: pd.DataFrame, able: Sequence[str], system: ValueSystem, strength: float
) -> Subject:
    if name == "base":
        return Subject(name, {})
    if match := _FEATURES.fullmatch(name):
        features = tuple(part[1:].replace("*", ":") for part in match[1].split("+"))
        return Subject(name, {"features": features, "strength": _number(match[2], name)})
    if name[-1:] in "+-":
        try:
            value = system.resolve(name[:-1])
        except NotFound as error:
            raise NotFound(f"The subject {name!r} should be a value with + or -: {error}") from None
        if value not in able:
            raise BadInput(
                f"No accepted label names a feature of {value}; {', '.join(able) or 'no value'} can"
                " be steered. Label more, or leave it out."
            )
        features = as_direction(chosen, value, 1 if name[-1] == "+" else -1)
        return Subject(
            name,
            {
                "features": tuple(f"{index}:{weight!r}" for index, weight in features),
                "strength": strength,
            },
        )
    if name == material.ORGANISM or "/" in name or "." in name:
        return Subject(name, {"model": name})
    raise BadInput(
        f"{name!r} is no subject. Write base, a value with + or - (power+), features with a"
        " strength (f12+f40*-1@0.4), or a model: organism, a folder, a hub id,"
        " https://host/v1#model."
    )


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"The strength in {name!r} is no number.") from None
