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
from jaxtyping import Float

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
    labelled: str = material.ORGANISM
    """Value-labelled table (.csv, .tsv, .jsonl, .parquet), or `organism`."""
    labels: str = ""
    """Second table with the marks, joined by the columns that both have."""
    text: str = "text"
    """Column with the text."""
    limit: CountOfTexts = 3000
    """At most this many texts [texts]; 0: all."""
    held: bool = False
    """Whether only texts that hold the value count; otherwise those that reject it do as well."""
    seed: Seed = 0
    """Seed of the sample and of the held-out share."""


class TfidfDetector:
    """A fitted pipeline and its name."""

    def __init__(self, pipeline: Any, name: str):
        self.pipeline, self.name = pipeline, name

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Probability of the class that speaks of the value, classes weighted alike."""
        return self.pipeline.predict_proba(list(texts))[:, 1]


@register("detectors", "tfidf")
class Tfidf:
    """Words of value-labelled texts: TF-IDF and logistic regression."""

    config = TfidfGateSettings

    @staticmethod
    def open(study: Workspace, value: str, settings: TfidfGateSettings) -> TfidfDetector:
        """Trained on the labelled texts."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import train_test_split
        from sklearn.pipeline import make_pipeline

        data = material.labelled(
            material.LabelledSource(
                texts=settings.labelled, marks=settings.labels, text_column=settings.text
            ),
            study.system,
            settings.limit,
            settings.seed,
        )
        marks = data.values[:, study.system.ids.index(value)]
        speaks = marks > 0 if settings.held else marks != 0
        if min(speaks.sum(), (~speaks).sum()) < FEWEST:
            raise BadInput(
                f"{settings.labelled} has {speaks.sum()} texts that speak of {value} and"
                f" {(~speaks).sum()} that do not; a detector needs {FEWEST} of each. Give more"
                " labelled texts."
            )

        def fitted(rows: np.ndarray) -> Any:
            pipeline = make_pipeline(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
                LogisticRegression(class_weight="balanced", max_iter=1000),
            )
            return pipeline.fit([data.texts[i] for i in rows], speaks[rows])

        train, test = train_test_split(
            np.arange(len(speaks)), test_size=HELD_OUT, stratify=speaks, random_state=settings.seed
        )
        told = fitted(train).predict_proba([data.texts[i] for i in test])[:, 1]
        auroc = roc_auc_score(speaks[test], told)
        return TfidfDetector(
            fitted(np.arange(len(speaks))),
            f"tfidf {value} ({len(speaks)} texts, held-out AUROC {auroc:.3f})",
        )
