"""An SAE feature as detector: does it fire anywhere in the prompt?

The score is the feature's largest activation in the text over the largest in the harvest, at most
1. Without a feature named it is the most specific one whose label of the value is accepted. To gate
token by token instead of prompt by prompt, wrap the edit in
`sae_training.engine.gates.ActivationGate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput, NotFound
from feature_store.records import Run
from feature_store.registry import register
from workbench.workspace import Workspace, site_of


@dataclass(frozen=True)
class FeatureGateSettings:
    """Which feature of which SAE opens the gate."""

    sae: str = "latest"
    """Run of the SAE."""
    feature: int = -1
    """0-based feature index; -1: the most specific feature with an accepted label of the value."""


class FeatureDetector:
    """A feature of a run's SAE."""

    def __init__(self, study: Workspace, run: Run, feature: int, largest: float):
        """Hold a feature (0-based) of an SAE's run; `largest` is its maximum in the harvest."""
        self.study = study
        self.run = run
        self.feature = feature
        self.largest = largest
        self.name = f"feature {run.id} f{feature}"

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Give the largest activation in each text over the largest harvested one [0 to 1]."""
        from sae_training.dictionary.harvest import pooled
        from sae_training.dictionary.texts import Corpus

        model = self.study.model_of(self.run)
        corpus = Corpus(texts, context=model.context)
        active = pooled(model, self.study.sae(self.run), corpus, site_of(self.run)).activations
        largest_in_text = active[:, [self.feature]].toarray()[:, 0].astype(float)
        return np.minimum(largest_in_text / self.largest, 1.0)


@register("detectors", "feature")
class FeaturePlugin:
    """The largest activation of an SAE feature in the prompt."""

    config = FeatureGateSettings

    @staticmethod
    def open(study: Workspace, value: str, settings: FeatureGateSettings) -> FeatureDetector:
        """Choose the feature of the value, and look up its maximum in the harvest.

        Raises NotFound where no label of the value is accepted, BadInput for a dead feature.
        """
        run = study.resolve("sae", settings.sae)
        feature = settings.feature
        if feature < 0:
            feature = _most_specific(study, run, value)
        rows = study.store.sql(
            "SELECT max_activation FROM features WHERE run = ? AND feature = ?", [run.id, feature]
        )
        if rows.empty or not rows.max_activation[0] > 0:
            raise BadInput(
                f"{run.id} has no feature {feature} that was ever active. Choose another feature."
            )
        return FeatureDetector(study, run, feature, float(rows.max_activation[0]))


def _most_specific(study: Workspace, run: Run, value: str) -> int:
    """Find the feature whose accepted label of the value gains most over the other values."""
    rows = study.store.sql(
        "SELECT l.feature FROM labels l JOIN runs r ON r.run = l.run WHERE l.value = ? AND"
        " l.accepted AND l.polarity = 1 AND r.inputs->>'sae' = ? ORDER BY l.gain DESC NULLS LAST,"
        " CASE WHEN l.gain IS NULL THEN l.effect END DESC, l.feature LIMIT 1",
        [value, run.id],
    )
    if rows.empty:
        raise NotFound(
            f"No feature of {run.id} has an accepted label of {value}. Run `workbench"
            " label`, or name one with feature=INDEX."
        )
    return int(rows.feature[0])
