"""The arms of a comparison: every way to steer a value, at every strength.

1. `sae-METHOD`: the value's best labelled features as one direction, turned by their polarity,
   under a steering method.
2. `difference-of-means` and `probe` add the stored directions of a run of probes; `conva` shifts
   along the probe's normal just so far.
3. `prompt`: sentences before the question; the strength is their number.
4. Controls: `random-feature` (as many unlabelled features, random signs), `random-direction`, and
   `wrong-sign` (the first SAE arm reversed).

All take the same strengths in the same unit, but for the prompt. Left out: how they are measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from feature_store.records import Steering
from workbench.sweeps.sweep import Intervention, Kind, as_direction

BASELINES = ("prompt", "difference-of-means")
"""Arms that every other arm is laid beside."""
CONTROLS = ("random-feature", "random-direction", "wrong-sign")
"""Arms that should do nothing, or the opposite."""
CONTROL_KINDS: Mapping[str, Kind] = {
    "random-feature": "random-feature",
    "random-direction": "random-direction",
}
"""Arms that are interventions of a kind of their name; all other arms are directions."""
STORED_DIRECTIONS = (
    ("difference-of-means", "add", "difference-of-means"),
    ("probe", "add", "probe"),
    ("conva", "conva", "probe"),
)
"""Arm, steering method and stored direction of the arms that need probes."""


@dataclass(frozen=True)
class PlannedArm:
    """One arm at one strength, for one value."""

    arm: str
    """Name of the arm."""
    value: str
    """Id of the value that is wished for."""
    kind: Kind
    """Kind of the intervention."""
    unit_id: int
    """0-based number of arm and value; its doses share it."""
    dose: float
    """Strength [unit of the steering], or sentences of a prompt."""
    steering: Steering
    """What is done to the residual; the base for a prompt."""
    prompt: str = ""
    """Text before the question; empty where the residual is steered."""

    @property
    def intervention(self) -> Intervention:
        """The arm as a sweep measures it."""
        return Intervention(
            unit_id=self.unit_id,
            kind=self.kind,
            feature=-1,
            value=self.value,
            polarity=1,
            steering=self.steering,
        )

    def row(self, number: int) -> dict[str, Any]:
        """Give the arm as row `number` of `interventions`, its damage not yet known."""
        name, unit = self.steering.name, str(self.steering.unit)
        if self.prompt:
            name, unit = f"prompt {self.value} @{self.dose:g} sentences", "sentences"
        return {
            "intervention": number,
            "steering": name,
            "kind": self.kind,
            "unit_id": self.unit_id,
            "feature": -1,
            "value": self.value,
            "polarity": 1,
            "dose": self.dose,
            "unit": unit,
        }


class ArmSources(NamedTuple):
    """What the arms of a comparison are made of."""

    chosen: pd.DataFrame
    """Labelled features of the values: feature, value, polarity."""
    unlabelled: Sequence[int]
    """Live features without a label, from which controls are drawn."""
    probes: str
    """Run of the probes with the stored directions; empty: arms along them are left out."""
    prompts: Mapping[str, Sequence[str]]
    """Value -> its prompts, one a strength, longer and longer."""


def plan(
    sources: ArmSources,
    values: Sequence[str],
    methods: Sequence[str],
    strengths: Sequence[float],
    template: Steering,
    seed: int,
) -> list[PlannedArm]:
    """List every arm for every value at every strength, prompts last.

    `methods` steer the SAE's features, the controls are steered by the first of them; unit and
    positions are those of `template`; `seed` draws the controls.
    """
    planned: list[PlannedArm] = []
    for arm, by_value in _steerings(sources, values, methods, template, seed).items():
        kind = CONTROL_KINDS.get(arm, "direction")
        for value, steering in by_value.items():
            unit = len(planned) // len(strengths)
            planned += [
                PlannedArm(
                    arm=arm,
                    value=value,
                    kind=kind,
                    unit_id=unit,
                    dose=float(strength),
                    steering=replace(steering, strength=float(strength)),
                )
                for strength in strengths
            ]
    for value in values:
        unit = len(planned) // len(strengths)
        planned += [
            PlannedArm(
                arm="prompt",
                value=value,
                kind="prompt",
                unit_id=unit,
                dose=float(sentences),
                steering=Steering(),
                prompt=text,
            )
            for sentences, text in enumerate(sources.prompts[value], 1)
        ]
    return planned


def _steerings(
    sources: ArmSources,
    values: Sequence[str],
    methods: Sequence[str],
    template: Steering,
    seed: int,
) -> dict[str, dict[str, Steering]]:
    """Arm -> value -> what is done to the residual, without a strength."""
    rng = np.random.default_rng((seed, 9))
    # What depends on the prompt comes first: a sweep measures a chunk that holds such a steering
    # prompt by prompt.
    steered: dict[str, dict[str, Steering]] = {"conva": {}}
    steered |= {f"sae-{method}": {} for method in methods}
    for number, value in enumerate(values):
        features = as_direction(sources.chosen, value)
        first = replace(template, method=methods[0])
        for method in methods:
            steered[f"sae-{method}"][value] = replace(template, method=method, features=features)
        if sources.probes:
            for arm, method, kind in STORED_DIRECTIONS:
                direction = f"{sources.probes}/{value}/{kind}"
                steering = replace(template, method=method, direction=direction)
                steered.setdefault(arm, {})[value] = steering
        control = random_features(sources.unlabelled, len(features), rng)
        if control:
            steered.setdefault("random-feature", {})[value] = replace(first, features=control)
        random = replace(template, random=seed * 100_000 + number)
        steered.setdefault("random-direction", {})[value] = random
        turned = tuple((feature, -weight) for feature, weight in features)
        steered.setdefault("wrong-sign", {})[value] = replace(first, features=turned)
    return steered


def random_features(
    unlabelled: Sequence[int], n: int, rng: np.random.Generator
) -> tuple[tuple[int, float], ...]:
    """Draw `n` features of random signs as (feature, weight) pairs of one direction of length 1."""
    drawn = rng.permutation(np.asarray(unlabelled))[:n]
    signs = rng.choice((-1.0, 1.0), size=len(drawn))
    return tuple(
        (int(feature), float(sign / np.sqrt(len(drawn))))
        for feature, sign in zip(drawn, signs, strict=True)
    )
