"""What scores of contexts say of features: the mean over a feature's contexts, against chance.

1. A labeler of contexts gives a score of each context and value. A feature's is the mean over its
   contexts; `effect` is its z: that mean less the mean over all features, over their SD.
2. p is one-sided: how often as many contexts, drawn at random from those of all features, have a
   mean as large. It is what permuting contexts among features gives, drawn once for each number of
   contexts. q is Benjamini-Hochberg over all features and values.
3. A coherent feature passes any null of that kind for the value it is nearest to: its contexts are
   alike. So z must reach `min_effect` as well, and only the value with the largest z counts.

Rows kept: one a feature that has contexts, for its value with the largest z. No text is held out,
so score, gain and the ends of the interval are NaN. A context says that a value is spoken of, not
on which side: labels are of the topic.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from feature_store.records import Label
from workbench.statistics.intervals import benjamini_hochberg

DRAWN = 20_000
"""Sets of contexts that are drawn at a time: bounds memory."""


@dataclass(frozen=True, kw_only=True)
class ContextLimits:
    """What a label from contexts must be worth, and how chance is drawn."""

    method: str
    """Name of the labeler."""
    draws: int
    """Sets of contexts that are drawn, for each number of contexts a feature has."""
    max_q: float
    """Largest q of an accepted label [0 to 1]."""
    min_effect: float
    """Smallest z of an accepted label [SD over features]."""
    seed: int
    """Seed of the draws."""


@dataclass(frozen=True, eq=False)
class ContextMeans:
    """The mean scores of features over their contexts, and what they are against chance."""

    features: Int[np.ndarray, " feature"]
    """0-based indices of the features that have contexts, rising."""
    counts: Int[np.ndarray, " feature"]
    """Contexts of each [contexts]."""
    means: Float[np.ndarray, "feature value"]
    """Mean score of each feature and value [unit of the score]."""
    z: Float[np.ndarray, "feature value"]
    """The mean against those of all features [SD over features]; 0 where all are alike."""
    p: Float[np.ndarray, "feature value"]
    """One-sided p of it, contexts permuted among features [0 to 1]."""

    @classmethod
    def of(
        cls,
        scores: Float[np.ndarray, "context value"],
        features: Int[np.ndarray, " context"],
        limits: ContextLimits,
    ) -> "ContextMeans":
        """Average the scores of contexts, whose features never fall, and test the means."""
        names, first, counts = np.unique(features, return_index=True, return_counts=True)
        means = np.add.reduceat(scores, first, axis=0) / counts[:, None]
        sd = means.std(0)
        centred = means - means.mean(0)
        z = np.divide(centred, sd, out=np.zeros_like(means), where=sd > 1e-12)
        rng = np.random.default_rng((limits.seed, 4))
        p = np.empty_like(means)
        for count in np.unique(counts):
            rows = counts == count
            p[rows] = _chance(means[rows], scores, int(count), limits.draws, rng)
        return cls(features=names, counts=counts, means=means, z=z, p=p)

    def labels(
        self, values: Sequence[str], limits: ContextLimits, evidence: Sequence[Mapping[str, Any]]
    ) -> list[Label]:
        """Give one row a feature, for the value with the largest z.

        `evidence` is what the labeler adds, a mapping a feature; see `best`.
        """
        q = benjamini_hochberg(self.p)
        base = self.means.mean(0)
        rows = []
        for k, value in enumerate(self.best.tolist()):
            z = float(self.z[k, value])
            others = np.delete(np.arange(len(values)), value)
            runner_up = int(others[self.z[k, others].argmax()])
            reasons = {
                "mean": float(self.means[k, value]),
                "base_rate": float(base[value]),
                "runner_up": values[runner_up],
                "runner_up_z": float(self.z[k, runner_up]),
                **evidence[k],
            }
            rows.append(
                Label(
                    feature=int(self.features[k]),
                    value=values[value],
                    polarity=1,
                    part="topic",
                    effect=z,
                    low=np.nan,
                    high=np.nan,
                    p=float(self.p[k, value]),
                    q=float(q[k, value]),
                    score=np.nan,
                    gain=np.nan,
                    n=int(self.counts[k]),
                    method=limits.method,
                    accepted=bool(q[k, value] <= limits.max_q and z >= limits.min_effect),
                    evidence=json.dumps({name: _rounded(x) for name, x in reasons.items()}),
                )
            )
        return rows

    @property
    def best(self) -> Int[np.ndarray, " feature"]:
        """The value, by its column, for which each feature has the largest z."""
        return self.z.argmax(1)


def _chance(
    means: Float[np.ndarray, "feature value"],
    scores: Float[np.ndarray, "context value"],
    count: int,
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "feature value"]:
    """Give the share of drawn sets of `count` contexts whose mean is as large; never 0."""
    as_large = np.zeros(means.shape)
    for start in range(0, draws, DRAWN):
        size = min(DRAWN, draws - start)
        drawn = np.zeros((size, scores.shape[1]))
        for _ in range(count):
            drawn += scores[rng.integers(len(scores), size=size)]
        drawn = np.sort(drawn / count, axis=0)
        for value in range(scores.shape[1]):
            # Sums in another order differ in their last digits, and must count as alike.
            least = means[:, value] - 1e-9
            as_large[:, value] += size - np.searchsorted(drawn[:, value], least)
    return (1 + as_large) / (1 + draws)


def _rounded(x: Any) -> Any:
    """Round a float to four digits, for the evidence that is kept as text."""
    return round(x, 4) if isinstance(x, float) else x
