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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from feature_store import queries, words
from feature_store.errors import BadInput, NotFound, nearest
from feature_store.progress import StageProgress, silent_stage
from feature_store.records import Steering, Unit
from workbench.workspace import Workspace

if TYPE_CHECKING:  # reading a text needs torch, reading what was measured does not
    from workbench.features.firing import FiringFeatures

ANY = queries.FeatureFilter()
"""Any live feature."""
SEARCH_BY = ("meaning", "words")
"""By what features are sought."""


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


class FoundFeatures(NamedTuple):
    """The features that a search gave, and how they were sought."""

    rows: pd.DataFrame
    """One row a feature: its statistics, its best accepted label, and `likeness` [SD above the mean
    feature] where it was sought by meaning."""
    total: int
    """Features that pass, those beyond `rows` counted [features]."""
    how: str
    """A sentence: by what they were sought."""


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


def search(
    study: Workspace,
    question: str,
    by: str = "meaning",
    wanted: queries.FeatureFilter = ANY,
    most: int = 25,
    progress: StageProgress = silent_stage,
) -> FoundFeatures:
    """Find the features of the newest SAE that a question is about, the nearest first.

    `by`: `meaning` (a sentence encoder, or the values' definitions where none was fetched) or
    `words` (a context holds all of them). `wanted` narrows by value, polarity, score and density.

        study.search("where is loyalty to family?").rows
    """
    if by not in SEARCH_BY:
        raise BadInput(f"Features are sought by meaning or by words, got {by!r}.")
    sae = study.resolve("sae", "latest").id
    labels = _labels_of(study, sae)
    words.ensure(study.store, sae)
    if by == "words":
        wanted = replace(wanted, text=question)
        order = queries.FeatureOrder(limit=most)
        page = queries.features(study.store, sae, labels, wanted, order)
        return FoundFeatures(page.rows, page.total, "Features with a context of all these words.")
    from workbench.features import meaning

    answer = meaning.search(study.store, sae, labels, study.system, question, progress)
    wanted = replace(wanted, among=answer.features.tolist())
    order = queries.FeatureOrder(sort="given", descending=False, limit=most)
    page = queries.features(study.store, sae, labels, wanted, order)
    likeness = dict(zip(answer.features.tolist(), answer.likeness.tolist(), strict=True))
    rows = page.rows.assign(likeness=page.rows.feature.map(likeness))
    return FoundFeatures(rows, page.total, answer.how)


def firing(study: Workspace, text: str) -> "FiringFeatures":
    """Read a text with the newest SAE's model: which features fire on each token, of which value.

    study.firing("I locked the doors twice.").rows
    """
    from workbench.features import firing as of_text

    run = study.resolve("sae", "latest")
    sae = study.sae(run)
    return of_text.firing(
        study.store, run, (study.model_of(run), sae), _labels_of(study, run.id), text
    )


def _labels_of(study: Workspace, sae: str) -> str:
    """Name the newest run of labels of an SAE; empty where there is none."""
    runs = queries.label_runs(study.store, sae)
    return "" if runs.empty else str(runs.run.iloc[0])


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
