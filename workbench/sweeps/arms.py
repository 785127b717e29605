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

import numpy as np
import pandas as pd

from feature_store.records import Steering
from workbench.sweeps.sweep import Intervention, Kind, as_direction

BASELINES = ("prompt", "difference-of-means")
CONTROLS = ("random-feature", "random-direction", "wrong-sign")


@dataclass(frozen=True)
class Planned:
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
        """What a sweep measures."""
        return Intervention(
            unit_id=self.unit_id,
            kind=self.kind,
            feature=-1,
            value=self.value,
            polarity=1,
            steering=self.steering,
        )

    def row(self, number: int) -> dict:
        """The row of `interventions`, damage not yet known."""
        name, unit = (
            (f"prompt {self.value} @{self.dose:g} sentences", "sentences")
            if self.prompt
            else (self.steering.name, self.steering.unit)
        )
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


def plan(
    chosen: pd.DataFrame,
    values: Sequence[str],
    plain_features: Sequence[int],
    probes: str,
    methods: Sequence[str],
    prompts: Mapping[str, Sequence[str]],
    strengths: Sequence[float],
    template: Steering,
    seed: int,
) -> list[Planned]:
    """Every arm x value x strength, prompts last. `chosen`: labelled features (feature, value,
    polarity); `probes`: run, or empty.

    `prompts`: value -> its ladder.
    """
    rng, found = np.random.default_rng((seed, 9)), []
    # What depends on the prompt comes first: a sweep measures a chunk that holds such a steering
    # prompt by prompt.
    steered: dict[str, dict[str, Steering]] = {"conva": {}} | {
        f"sae-{method}": {} for method in methods
    }
    for number, value in enumerate(values):
        features = as_direction(chosen, value)
        for method in methods:
            steered[f"sae-{method}"][value] = replace(template, method=method, features=features)
        if probes:
            for arm, method, kind in (
                ("difference-of-means", "add", "difference-of-means"),
                ("probe", "add", "probe"),
                ("conva", "conva", "probe"),
            ):
                steered.setdefault(arm, {})[value] = replace(
                    template, method=method, direction=f"{probes}/{value}/{kind}"
                )
        drawn = rng.permutation(np.asarray(plain_features))[: len(features)]
        signs = rng.choice((-1.0, 1.0), size=len(drawn))
        if len(drawn):
            control = tuple(
                (int(f), float(sign / np.sqrt(len(drawn))))
                for f, sign in zip(drawn, signs, strict=True)
            )
            steered.setdefault("random-feature", {})[value] = replace(
                template, method=methods[0], features=control
            )
        steered.setdefault("random-direction", {})[value] = replace(
            template, random=seed * 100_000 + number
        )
        turned = tuple((feature, -weight) for feature, weight in features)
        steered.setdefault("wrong-sign", {})[value] = replace(
            template, method=methods[0], features=turned
        )
    for arm, by_value in steered.items():
        kind: Kind = arm if arm in ("random-feature", "random-direction") else "direction"
        for value, steering in by_value.items():
            unit = len(found) // len(strengths)
            found += [
                Planned(
                    arm=arm,
                    value=value,
                    kind=kind,
                    unit_id=unit,
                    dose=float(s),
                    steering=replace(steering, strength=float(s)),
                )
                for s in strengths
            ]
    for value in values:
        unit = len(found) // len(strengths)
        found += [
            Planned(
                arm="prompt",
                value=value,
                kind="prompt",
                unit_id=unit,
                dose=float(k),
                steering=Steering(),
                prompt=text,
            )
            for k, text in enumerate(prompts[value], 1)
        ]
    return found
