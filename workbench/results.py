"""What a study has found, ready to be read in a notebook: labels, profile, side effects, edges.

    power = study.labels("power").best
    print(power.feature, power.score)
    with steer(study, sae, power.steering(0.6)) as model:
        print(model.generate(["I am writing this by hand."], 40))

`Study` has a method of the same name for each function here. Each reads the latest run of its kind
unless another one is named. Left out: questions of any other kind, which `study.store.sql` and
`feature_store/queries` answer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from feature_store import queries
from feature_store.errors import NotFound, nearest
from feature_store.records import Steering, Unit
from workbench.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class LabelledFeature:
    """A feature of an SAE that carries a value, and what speaks for it.

    power = study.labels("power").best
    power.steering(0.6)
    """

    feature: int
    """0-based feature index."""
    value: str
    """Id of the value that it carries."""
    polarity: int
    """+1: active where the value is held, or spoken of; -1: active where it is rejected."""
    part: str
    """`pole`: of texts on one side of the value; `topic`: of texts that speak of it; empty of a run
    of an earlier version, which did not tell."""
    effect: float
    """Standardised mean difference between texts with and without the value, within contexts
    [SD]."""
    low: float
    """Lower end of the 95 % interval of `effect` [SD]."""
    high: float
    """Upper end of the 95 % interval of `effect` [SD]."""
    score: float
    """Held-out area under the ROC curve, within contexts [0 to 1, 0.5 = chance]."""
    output: float
    """How much a light steering along it raises the value's rating [rating points]; NaN where it
    was not measured."""
    n: int
    """Texts that carry the value [texts]."""
    evidence: Mapping[str, Any]
    """What the labeler says for it: thresholds, counts, the runner-up value."""

    def steering(self, strength: float, unit: Unit = "norm_share", method: str = "add") -> Steering:
        """Steer along this feature so that its value rises; a negative strength lowers it.

        `strength` is in `unit`. A feature that rejects its value is turned round.
        """
        return Steering(
            features=((self.feature, float(self.polarity)),),
            method=method,
            strength=strength,
            unit=unit,
        )


@dataclass(frozen=True, kw_only=True)
class LabelledFeatures:
    """The accepted labels of a run, of one value or of all, the best to steer first.

    The best raise their value most when steered; where that was not measured, the most specific on
    held-out texts come first. `effects` chooses its features in the same order.

        security = study.labels("security")
        security.best.score
        security.features[:3]
    """

    run: str
    """Id of the run of kind labels."""
    value: str
    """Id of the value; empty: all values."""
    frame: pd.DataFrame = field(repr=False)
    """One row a label, with the columns of the relation `labels`, and `output`."""

    @property
    def features(self) -> tuple[int, ...]:
        """Give the features' indices, the best first, each once."""
        return tuple(dict.fromkeys(int(feature) for feature in self.frame.feature))

    @property
    def best(self) -> LabelledFeature:
        """Give the best feature. Raises NotFound where none carries the value."""
        if self.frame.empty:
            raise NotFound(
                f"No feature of {self.run} carries {self.value or 'a value'}. Look at the evidence:"
                " SELECT * FROM labels ORDER BY q."
            )
        row = self.frame.iloc[0]
        return LabelledFeature(
            feature=int(row.feature),
            value=str(row.value),
            polarity=int(row.polarity),
            part="" if pd.isna(row.part) else str(row.part),
            effect=float(row.effect),
            low=float(row.low),
            high=float(row.high),
            score=float(row.score),
            output=float("nan") if pd.isna(row.output) else float(row.output),
            n=int(row.n),
            evidence=_evidence(row.evidence),
        )

    def __len__(self) -> int:
        """Count the labels."""
        return len(self.frame)


def labels(study: Workspace, value: str = "", run: str = "latest") -> LabelledFeatures:
    """Read the accepted labels of one value, or of all; what they are is `LabelledFeatures`."""
    _check_value(study, value)
    id = study.resolve("labels", run).id
    frame = queries.accepted_labels(study.store, id, value)
    return LabelledFeatures(run=id, value=value, frame=frame)


def profile(study: Workspace, run: str = "latest") -> pd.DataFrame:
    """Read the value profile of every steering that a run measured: one row a steering and value.

    Ratings are above or below the mean of all items [rating points], the highest first.
    """
    rows = queries.profile(study.store, study.resolve("profile", run).id)
    return rows.sort_values(["steering", "mean"], ascending=[True, False], ignore_index=True)


def side_effects(study: Workspace, value: str = "", run: str = "latest") -> pd.DataFrame:
    """Read what else moved when a value, or any value, was steered: the largest effects first.

    One row a pair of a steered value (`source`) and another one (`target`); `effect`, `low` and
    `high` in unsteered SD of the target.
    """
    _check_value(study, value)
    cells = queries.matrix(study.store, study.resolve("effects", run).id)
    others = cells[cells.source != cells.target]
    if value:
        others = others[others.source == value]
    return others.sort_values("effect", key=abs, ascending=False, ignore_index=True)


def edges(study: Workspace, run: str = "latest") -> pd.DataFrame:
    """Read the causal graph among the values: one row an edge, the strongest first.

    `weight` is the change of `target` per unit change of `source` [rating points].
    """
    pairs = queries.edges(study.store, study.resolve("graph", run).id)
    return pairs[pairs.present].sort_values("weight", key=abs, ascending=False, ignore_index=True)


def _check_value(study: Workspace, value: str) -> None:
    """Raise NotFound where the study's value system has no such value."""
    if value and value not in study.system.ids:
        raise NotFound(
            f"{study.system_id} has no value {value!r}.{nearest(value, study.system.ids)}"
        )


def _evidence(text: str) -> Mapping[str, Any]:
    """Read a label's evidence, which is JSON or a person's note."""
    try:
        evidence = json.loads(text)
    except json.JSONDecodeError:
        return {"note": text}
    return evidence if isinstance(evidence, dict) else {"note": evidence}
