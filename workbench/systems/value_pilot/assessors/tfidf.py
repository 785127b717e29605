"""Words and word pairs, weighed by TF-IDF, into ridge and logistic regressions: the assessor that
runs anywhere.

1. Texts become TF-IDF vectors of words and word pairs, sublinear counts, length 1.
2. Label of a value: logistic regression of whether it is in the text. Where it is in all texts of
   the fit or in none, that share.
3. Rate of a value: ridge regression over the texts it is in, cut off at -1 and 1. Where it is in
   fewer than two, their mean, or 0.

Left out: word order beyond pairs; a word that the fit never saw says nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from feature_store.registry import register
from workbench.systems.value_pilot.assessors import PRESENT, Assessment, check


@dataclass(frozen=True)
class TfidfAssessorSettings:
    """Settings of the assessor that reads words and word pairs."""

    penalty: float = 1.0
    """Ridge penalty of the rates [> 0]."""
    inverse_penalty: float = 10.0
    """Inverse penalty of the labels' logistic regression [> 0]."""


@register("assessors", "tfidf")
class TfidfAssessor:
    """TF-IDF of words and word pairs into ridge (rate) and logistic regression (label)."""

    config = TfidfAssessorSettings

    @staticmethod
    def fit(
        texts: Sequence[str],
        ratings: Float[np.ndarray, "text value"],
        settings: TfidfAssessorSettings,
    ) -> "FittedTfidf":
        """Fit two regressions for each value, of its rate and of its label."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression, Ridge

        check(texts, ratings)
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        seen = words.fit_transform(texts)
        rates: list[Any] = []
        labels: list[Any] = []
        for column in ratings.T:
            held = np.abs(column) > PRESENT
            rates.append(
                Ridge(settings.penalty).fit(seen[held], column[held])
                if held.sum() > 1
                else float(column[held].sum())
            )
            labels.append(
                LogisticRegression(C=settings.inverse_penalty, max_iter=1000).fit(seen, held)
                if 0 < held.sum() < len(held)
                else float(held.mean())
            )
        return FittedTfidf(words, rates, labels)


@dataclass(frozen=True, eq=False)
class FittedTfidf:
    """Regressions of every value on the words of a text."""

    words: Any
    """The vectoriser."""
    rates: list[Any]
    """A regression a value, or the constant where there was nothing to learn."""
    labels: list[Any]
    """The same for the labels."""

    def assess(self, texts: Sequence[str]) -> Assessment:
        """Rate texts by the words that the fit saw."""
        seen = self.words.transform(texts)
        rates = [
            np.full(len(texts), model)
            if isinstance(model, float)
            else np.clip(model.predict(seen), -1, 1)
            for model in self.rates
        ]
        labels = [
            np.full(len(texts), model)
            if isinstance(model, float)
            else model.predict_proba(seen)[:, 1]
            for model in self.labels
        ]
        return Assessment(np.stack(rates, 1), np.stack(labels, 1))
