"""The causal score of a label: its own value rises when its feature is steered, and others do not.

1. Every single feature that a sweep steered, as a label's or as a control, has its changes at equal
   damage (`sweeps/damage.py`), context by context, of every value. So one sweep scores the labels
   of any method on these features, whichever method chose them.
2. `causal`: the own value's mean change, turned by the label's polarity [unsteered SD], with its
   interval over contexts. It passes where the interval lies above 0 and the mean above `chance`:
   the 97.5 % quantile of the same under random features and directions, of either sign.
3. `beside`: root mean square of the other values' mean changes [unsteered SD]. It passes where it
   is no larger than `chance`, the 97.5 % quantile of it over the controls.
4. `chance_share`: how often the same labels would pass `causal` had each named another value.

A control that a method labels is no control of that label. Left out: groups and directions, which
carry no label of one feature; features that the sweep did not steer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from feature_store.errors import BadInput
from workbench.statistics.intervals import (
    bootstrap_mean,
    cluster_weights,
    known_mean,
    replicate_means,
)
from workbench.sweeps.damage import Matched

SINGLE = ("feature", "random-feature")
"""Kinds of units that are one feature."""


class SteeredFeatures(NamedTuple):
    """What steering single features did at equal damage, and what controls did."""

    features: Int[np.ndarray, " unit"]
    """0-based feature index; -1 for a random direction."""
    is_control: Bool[np.ndarray, " unit"]
    """Which units were steered for no value."""
    changes: Float[np.ndarray, "unit context value"]
    """Change of every value along the feature, not turned by a polarity [unsteered SD]."""
    values: tuple[str, ...]
    """Ids of the values."""

    @classmethod
    def of(
        cls, matched: Matched, values: tuple[str, ...], sd: Float[np.ndarray, " value"]
    ) -> "SteeredFeatures":
        """Take them from a matched sweep. Raises BadInput where it steered no single feature."""
        rows = np.flatnonzero(np.isin(matched.kind, (*SINGLE, "random-direction")))
        if not np.isin(matched.kind, SINGLE).any():
            raise BadInput(
                "This sweep steered no single feature, so no label can be scored by it. Name one"
                " that did with --effects, or run `workbench effects`."
            )
        turned = matched.changes[rows] * matched.polarity[rows, None, None]
        return cls(
            features=matched.feature[rows],
            is_control=matched.is_control[rows],
            changes=turned / sd,
            values=values,
        )

    @property
    def means(self) -> Float[np.ndarray, "unit value"]:
        """Mean change over contexts [unsteered SD]."""
        return known_mean(self.changes, 1)


def causal_scores(
    steered: SteeredFeatures, labels: pd.DataFrame, replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Score every label (columns labels, feature, value, polarity) whose feature was steered.

    Two rows of `label_scores` a label, without `source`.
    """
    unit_of = {int(f): k for k, f in enumerate(steered.features) if f >= 0}
    scored = labels[labels.feature.isin(unit_of) & labels.value.isin(steered.values)]
    if scored.empty:
        return []
    units = scored.feature.map(unit_of).to_numpy()
    columns = np.array([steered.values.index(value) for value in scored.value])
    turned = steered.changes[units] * scored.polarity.to_numpy()[:, None, None]
    cells = bootstrap_mean(turned.transpose(1, 0, 2), replicates, seed)
    weights = cluster_weights(turned.shape[1], replicates, seed)
    rows = []
    for k, label in enumerate(scored.itertuples()):
        column, chance = int(columns[k]), _chance(steered, int(units[k]), int(columns[k]))
        identity = {
            "labels": label.labels,
            "feature": int(label.feature),
            "value": label.value,
            "polarity": int(label.polarity),
            "n": int(cells.n[k, column]),
        }
        mean, low = float(cells.mean[k, column]), float(cells.low[k, column])
        drawn = root_mean_square(np.delete(replicate_means(turned[k], weights), column, axis=1))
        beside = float(root_mean_square(np.delete(cells.mean[k], column)))
        ends = np.quantile(drawn[np.isfinite(drawn)], (0.025, 0.975))
        rows += [
            {
                **identity,
                "score": "causal",
                "figure": mean,
                "low": low,
                "high": float(cells.high[k, column]),
                "chance": chance.labelled,
                "passed": bool(low > 0 and mean > chance.labelled),
            },
            {
                **identity,
                "score": "beside",
                "figure": beside,
                "low": float(ends[0]),
                "high": float(ends[1]),
                "chance": chance.beside,
                "passed": bool(beside <= chance.beside),
            },
        ]
    return rows


def passed_by_other_values(
    steered: SteeredFeatures, labels: pd.DataFrame, replicates: int, seed: int
) -> float:
    """Share of labels that would pass `causal` with another value in place of their own [0 to 1].

    Every label (columns as in `causal_scores`) is tried with all other values; NaN without labels.
    """
    others = [
        labels.assign(value=[_shifted(value, step, steered.values) for value in labels.value])
        for step in range(1, len(steered.values))
    ]
    if not others:
        return float("nan")
    rows = causal_scores(steered, pd.concat(others, ignore_index=True), replicates, seed)
    passed = [row["passed"] for row in rows if row["score"] == "causal"]
    return float(np.mean(passed)) if passed else float("nan")


def _shifted(value: str, step: int, values: Sequence[str]) -> str:
    """Give the value that stands `step` places further on."""
    if value not in values:
        return value
    return values[(values.index(value) + step) % len(values)]


class _Chance(NamedTuple):
    """What 97.5 % of the controls stay below; NaN without controls."""

    labelled: float
    beside: float


def _chance(steered: SteeredFeatures, unit: int, column: int) -> _Chance:
    """Say what controls reach on a value, and on the others; the unit itself is none of them."""
    controls = steered.is_control.copy()
    controls[unit] = False
    if not controls.any():
        return _Chance(labelled=float("nan"), beside=float("nan"))
    means = steered.means[controls]
    # A control has no polarity to be turned by, so either sign is as likely.
    either_sign = np.r_[means[:, column], -means[:, column]]
    beside = root_mean_square(np.delete(means, column, axis=1))
    return _Chance(
        labelled=float(np.nanquantile(either_sign, 0.975)),
        beside=float(np.quantile(beside, 0.975)),
    )


def root_mean_square(x: Float[np.ndarray, "*cells value"]) -> Float[np.ndarray, "*cells"]:
    """Root of the mean square over the last axis; what is not known is left out."""
    return np.asarray(np.sqrt(known_mean(x**2, -1)))
