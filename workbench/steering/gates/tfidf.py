"""TF-IDF and logistic regression: does a text speak of the value, judged by its words?

1. Value-labelled texts (`material.labelled`, the same tables as the verb `label` reads) give the
   two classes: the value is held or rejected there, or it is not spoken of; with `held` only texts
   that hold it count as the first.
2. A fifth is held out; the area under its ROC curve stands in the detector's name. The detector
   itself is trained on all.

Left out: meaning. A prompt that speaks of a value in words never seen scores low.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from feature_store.bounds import CountOfTexts, Seed
from feature_store.errors import BadInput
from feature_store.registry import register
from workbench import material
from workbench.workspace import Workspace

HELD_OUT = 0.2
"""Share of the texts behind the figure in the name [0 to 1]."""
FEWEST = 10
"""Texts that each class needs."""


@dataclass(frozen=True)
class TfidfGateSettings:
    """Which labelled texts the detector is trained on."""

    labelled: str = material.ORGANISM
    """Value-labelled table (.csv, .tsv, .jsonl, .parquet), or `organism`."""
    labels: str = ""
    """Second table with the marks, joined by the columns that both have."""
    text_column: str = "text"
    """Column with the text."""
    scale: str = ""
    """Smallest and largest mark of the table, as 0-2; empty: marks are 1, 0.5, 0, -0.5, -1."""
    limit: CountOfTexts = 3000
    """At most this many texts [texts]; 0: all."""
    held: bool = False
    """Whether only texts that hold the value count; otherwise those that reject it do as well."""
    seed: Seed = 0
    """Seed of the sample and of the held-out share."""


class TfidfDetector:
    """A fitted pipeline and its name."""

    def __init__(self, pipeline: Any, name: str):
        """Hold a fitted pipeline of scikit-learn whose second class speaks of the value."""
        self.pipeline = pipeline
        self.name = name

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Give the probability of the class that speaks of the value [0 to 1].

        Both classes weigh alike, however many texts each had.
        """
        return self.pipeline.predict_proba(list(texts))[:, 1]


@register("detectors", "tfidf")
class TfidfPlugin:
    """Words of value-labelled texts: TF-IDF and logistic regression."""

    config = TfidfGateSettings

    @staticmethod
    def open(study: Workspace, value: str, settings: TfidfGateSettings) -> TfidfDetector:
        """Train the detector of a value on the labelled texts.

        Raises BadInput where either class has fewer than `FEWEST` texts.
        """
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import train_test_split

        texts, speaks = _classes(study, value, settings)
        train, test = train_test_split(
            np.arange(len(texts)), test_size=HELD_OUT, stratify=speaks, random_state=settings.seed
        )
        tested = _fit(texts[train], speaks[train])
        auroc = roc_auc_score(speaks[test], tested.predict_proba(list(texts[test]))[:, 1])
        return TfidfDetector(
            _fit(texts, speaks),
            f"tfidf {value} ({len(texts)} texts, held-out AUROC {auroc:.3f})",
        )


def _classes(
    study: Workspace, value: str, settings: TfidfGateSettings
) -> tuple[Shaped[np.ndarray, " text"], Bool[np.ndarray, " text"]]:
    """Read the labelled texts, and whether each of them speaks of the value."""
    source = material.LabelledSource(
        texts=settings.labelled,
        marks=settings.labels,
        text_column=settings.text_column,
        scale=settings.scale,
    )
    data = material.labelled(source, study.system, settings.limit, settings.seed)
    marks = data.values[:, study.system.ids.index(value)]
    speaks = marks > 0 if settings.held else marks != 0
    if min(speaks.sum(), (~speaks).sum()) < FEWEST:
        raise BadInput(
            f"{settings.labelled} has {speaks.sum()} texts that speak of {value} and"
            f" {(~speaks).sum()} that do not; a detector needs {FEWEST} of each. Give more"
            " labelled texts."
        )
    return np.array(data.texts, dtype=object), speaks


def _fit(texts: Shaped[np.ndarray, " text"], speaks: Bool[np.ndarray, " text"]) -> Any:
    """Fit words and pairs of words to whether a text speaks of the value."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )
    return pipeline.fit(list(texts), speaks)
