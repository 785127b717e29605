"""The contrast labeler: a feature carries a value if texts with it differ from texts of the same
context without it.

1. A third of the documents, drawn within contexts, is held out; the rest fits. Every feature is
   regressed on the marks of all values, held and rejected apart, and on the contexts
   (`statistics/marked.py`). `effect` is the difference at equal other values over the residual SD,
   with Hedges' small-sample factor; q is Benjamini-Hochberg over all features x comparisons.
2. Pole or topic: a feature that rises where a value is held and hardly where it is rejected, or the
   other way round, is of the *pole*. One that rises for both is of the *topic*: the value is spoken
   of. Where texts of one side alone are there, no feature can be told to be more than of the topic.
3. Specific: no other mark's effect exceeds `specificity` of the feature's own.
4. Held-out evidence: AUROC within contexts (`score`), precision (the share of activation that falls
   on texts with the value), and its base rate (the same share if activation fell evenly within each
   context). A topic feature has a high precision and an equally high base rate; a perfect feature
   that fires for one of a value's many behaviours has an AUROC little above 0.5 and a precision of
   1. Hence `gain = (precision - base) / (1 - base)` counts.
5. The limits come from the study. Marks are permuted within contexts, whole rows, and all is done
   again: the limit on z (difference over its error) is the smallest past which permuted studies
   make at most `max_chance` of the labels. The limit on the gain is `min_gain` of the most specific
   features of the same value: on clean marks they reach 1, on marks that people disagree about much
   less.

Rows kept: each live feature's own comparison (accepted or not), and near misses: other marks whose
effect is at least `min_effect`, with q below 0.05. Left out: words and token positions (they are
the lexicon's and the judge's evidence).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from feature_store.bounds import MANY, Between, Count, Seed, Share
from feature_store.records import Label, ValueSystem
from feature_store.registry import register
from workbench.features.evidence import HeldOutEvidence, LabelVerdict, MarkEvidence
from workbench.features.labelers import LabelledActivations
from workbench.statistics.intervals import benjamini_hochberg
from workbench.statistics.marked import MarkedTexts, limit_by_chance, permuted

MOST_SPECIFIC = 5
"""Features of a value whose mean gain is what the limit on the gain is a share of."""
NEAR = 0.05
"""Largest q of a near miss [0 to 1]."""


@dataclass(frozen=True)
class ContrastLabelerSettings:
    """How much of what is labelled may be chance, what a label must be worth, and the split."""

    max_chance: Share = 0.05
    """Largest share of the labels that permuted marks make as well [0 to 1; 1: no limit]."""
    permutations: Count = 20
    """Permutations of the marks."""
    min_effect: float = 0.1
    """Smallest effect of an accepted label [SD]."""
    min_gain: float = 0.35
    """Smallest held-out gain of precision over its base rate, as a share of that of the value's
    five most specific features."""
    min_score: float = 0.5
    """Smallest held-out AUROC [0 to 1]; low, because a feature of one behaviour misses a value's
    other texts."""
    specificity: float = 0.6
    """Largest effect of the runner-up, as a share of the best [0 to 1]."""
    min_active: Count = 8
    """Documents of the fit in which a feature must be active [documents]."""
    min_held_out: Annotated[int, Between(0, MANY)] = 4
    """Effective number of held-out documents in which an accepted feature is active: (sum a)^2 /
    sum a^2 [documents]."""
    min_texts: Count = 10
    """Documents of the fit that must carry a mark for it to be tested [documents]."""
    held_out: Annotated[float, Between(0.01, 0.99)] = 1 / 3
    """Share of documents that are held out [0 to 1]."""
    seed: Seed = 0
    """Seed of the split and of the permutations."""


@register("labelers", "contrast")
class Contrast:
    """Texts with a value against texts of the same context without it, other values held equal."""

    config = ContrastLabelerSettings

    @staticmethod
    def label(
        data: LabelledActivations, system: ValueSystem, settings: ContrastLabelerSettings
    ) -> list[Label]:
        """Give what every live feature is most specific to, and near misses."""
        shared = MarkEvidence.of(data, system, settings)
        if not len(shared.features.live):
            return []
        marks, strata = shared.marks, shared.split.strata
        evidence = Evidence(shared.features, marks, shared.split, settings)
        rng = np.random.default_rng((settings.seed, 1))
        by_chance = []
        for _ in range(settings.permutations if settings.max_chance < 1 else 0):
            shuffled = marks._replace(shares=marks.shares[permuted(strata, rng)])
            by_chance.append(dataclasses.replace(evidence, marks=shuffled).candidates())
        return evidence.labels(limits_from(evidence.candidates(), by_chance, marks, settings))


class Candidates(NamedTuple):
    """Features that pass every limit but those that come from the study; a row a feature."""

    test: Int[np.ndarray, " row"]
    """Comparison each is specific to."""
    z: Float[np.ndarray, " row"]
    """Its difference over the error."""
    gain: Float[np.ndarray, " row"]
    """Its held-out gain [at most 1]."""


class StudyLimits(NamedTuple):
    """The limits that come from the study."""

    z: Float[np.ndarray, " test"]
    """Smallest z of an accepted label, by comparison; the same for all poles, and for all
    topics."""
    gain: Float[np.ndarray, " test"]
    """Smallest gain, by comparison [at most 1]."""


def limits_from(
    candidates: Candidates,
    by_chance: Sequence[Candidates],
    marks: MarkedTexts,
    settings: ContrastLabelerSettings,
) -> StudyLimits:
    """Find the limits past which at most `max_chance` of the labels is there by chance.

    Poles and topics have limits of their own: many topics that are sure would make room for poles
    that are not. First comes z without a limit on the gain; the features past it say what gains are
    reached; then z again with it, on the study as on the permuted ones.
    """
    first = _limits_on_z(candidates, by_chance, marks, settings.max_chance)
    past = candidates.z >= first[candidates.test]
    reached = np.zeros(len(marks.tests))
    for test in np.unique(candidates.test[past]):
        gains = np.sort(candidates.gain[past & (candidates.test == test)])[-MOST_SPECIFIC:]
        reached[test] = max(float(gains.mean()), 0.0)
    for topic, poles in marks.poles.items():
        # Who tells the poles apart tells the topic, too.
        reached[topic] = max(reached[topic], *reached[list(poles)])
    gain = settings.min_gain * reached
    kept, *drawn = [
        Candidates(*(field[c.gain >= gain[c.test]] for field in c))
        for c in (candidates, *by_chance)
    ]
    limits = _limits_on_z(kept, drawn, marks, settings.max_chance)
    return StudyLimits(z=limits, gain=gain)


def _limits_on_z(
    candidates: Candidates, by_chance: Sequence[Candidates], marks: MarkedTexts, share: float
) -> Float[np.ndarray, " test"]:
    """Find the limit on z of the poles and that of the topics."""
    is_pole = np.array([test.part == "pole" for test in marks.tests])
    limits = np.empty(len(is_pole))
    for part in (is_pole, ~is_pole):
        z = candidates.z[part[candidates.test]]
        limits[part] = limit_by_chance(z, [c.z[part[c.test]] for c in by_chance], share)
    return limits


@dataclass(frozen=True, eq=False)
class Evidence(MarkEvidence):
    """The evidence, and which of it makes labels."""

    settings: ContrastLabelerSettings
    """Limits that do not come from the study."""

    @cached_property
    def q(self) -> Float[np.ndarray, "test live"]:
        """False discovery rate of each effect, over all features and comparisons [0 to 1]."""
        return benjamini_hochberg(self.p)

    @cached_property
    def compared(self) -> Int[np.ndarray, " live"]:
        """The comparison that each feature is looked at for: its largest mark, or the topic of that
        mark's value where the other pole is what keeps it from being specific.
        """
        best = self.effect[: self.n_marks].argmax(0)
        return self.pole_or_topic(best, self.settings.specificity)

    def candidates(self) -> Candidates:
        """Give the features that pass every limit but those that come from the study."""
        rows = []
        for test in range(len(self.marks.tests)):
            features = np.flatnonzero((self.compared == test) & self._is_large(test))
            if len(features):
                outside = self.on_held_out(test, features)
                passing = self._passes_outside(outside)
                z, gain = self.z[test, features][passing], outside.gain[passing]
                rows.append(Candidates(np.full(len(z), test), z, gain))
        if not rows:
            return Candidates(np.empty(0, int), np.empty(0), np.empty(0))
        return Candidates(*map(np.concatenate, zip(*rows, strict=True)))

    def labels(self, limits: StudyLimits) -> list[Label]:
        """Give the rows sorted by feature, the largest effect first."""
        every = np.arange(self.effect.shape[1])
        is_kept = (self.q < NEAR) & (self.effect >= self.settings.min_effect)
        is_kept[self.n_marks :] = False
        is_kept[self.compared, every] = self.effect[self.compared, every] > 0
        for topic, (held, _) in self.marks.poles.items():
            # A feature has one row a value and polarity: that of the topic stands for held.
            is_kept[held] &= ~is_kept[topic]
        rows = []
        for test in range(len(self.marks.tests)):
            features = np.flatnonzero(is_kept[test])
            if len(features):
                rows += self._of_test(test, features, limits)
        order = sorted(range(len(rows)), key=lambda k: (rows[k].feature, -rows[k].effect))
        return [rows[k] for k in order]

    def _of_test(
        self, test: int, features: Int[np.ndarray, " feature"], limits: StudyLimits
    ) -> list[Label]:
        """Give the rows of one comparison."""
        outside = self.on_held_out(test, features)
        passing = self._passes_outside(outside) & self._passes(test, features, outside, limits)
        reasons = {"z_limit": float(limits.z[test]), "gain_limit": float(limits.gain[test])}
        rows = []
        for k, column in enumerate(features.tolist()):
            verdict = LabelVerdict(
                method="contrast",
                p=float(self.p[test, column]),
                q=float(self.q[test, column]),
                accepted=bool(passing[k]),
                evidence=reasons,
            )
            rows.append(self.label(test, column, outside, k, verdict))
        return rows

    def _is_large(self, test: int) -> Bool[np.ndarray, " live"]:
        """Which features' effect is worth a name and specific to the comparison."""
        return (
            (self.effect[test] > 0)
            & (self.effect[test] >= self.settings.min_effect)
            & (self.rival_share[test] <= self.settings.specificity)
        )

    def _passes_outside(self, outside: HeldOutEvidence) -> Bool[np.ndarray, " feature"]:
        """Which features pass the limits on held-out documents that do not come from the study."""
        return (outside.score >= self.settings.min_score) & (
            outside.effective >= self.settings.min_held_out
        )

    def _passes(
        self,
        test: int,
        features: Int[np.ndarray, " feature"],
        outside: HeldOutEvidence,
        limits: StudyLimits,
    ) -> Bool[np.ndarray, " feature"]:
        """Which features pass all other limits of one comparison."""
        return (
            (self.compared[features] == test)
            & self._is_large(test)[features]
            & (self.z[test, features] >= limits.z[test])
            & (outside.gain >= limits.gain[test])
        )
