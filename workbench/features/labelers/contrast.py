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
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse, stats

from feature_store.bounds import MANY, Between, Count, Seed, Share
from feature_store.errors import BadInput
from feature_store.records import Label, ValueSystem
from feature_store.registry import register
from workbench.features.labelers import LabelledActivations
from workbench.statistics.intervals import auroc, benjamini_hochberg, hedges_g
from workbench.statistics.marked import (
    Design,
    MarkedTexts,
    MarkFit,
    limit_by_chance,
    marks_of,
    permuted,
    regress,
    stratum_means,
)

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
        if data.values.shape[1] != len(system.ids):
            raise BadInput(
                f"{system.id} has {len(system.ids)} values, the marks have {data.values.shape[1]}"
                " columns. Use one system."
            )
        strata = np.unique(data.contexts, return_inverse=True)[1]
        rng = np.random.default_rng(settings.seed)
        is_held_out = data.is_held_out(settings.held_out, rng)
        split = Split(strata, np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out))
        marks = marks_of(data.values, system.ids, split.fit, settings.min_texts)
        if not marks.tests:
            raise BadInput(
                f"No value is carried by {settings.min_texts} texts or more of {len(split.fit)}, so"
                " no feature can be labelled. Give more labelled texts, or lower min_texts."
            )
        Design.of(marks.of(split.fit), strata[split.fit])
        activations = data.activations.tocsr().astype(float)
        active = np.bincount(
            activations[split.fit].indices,
            activations[split.fit].data > 0,
            minlength=activations.shape[1],
        )
        live = np.flatnonzero(active >= settings.min_active)
        if not len(live):
            return []
        columns = activations[:, live].tocsc()
        columns.eliminate_zeros()
        seen = Features(columns, live, active[live])
        evidence = Evidence(features=seen, marks=marks, split=split, settings=settings)
        rng = np.random.default_rng((settings.seed, 1))
        by_chance = []
        for _ in range(settings.permutations if settings.max_chance < 1 else 0):
            shuffled = marks._replace(shares=marks.shares[permuted(strata, rng)])
            by_chance.append(dataclasses.replace(evidence, marks=shuffled).candidates())
        return evidence.labels(limits_from(evidence.candidates(), by_chance, marks, settings))


class Features(NamedTuple):
    """The features that are active often enough to be tested."""

    columns: sparse.csc_matrix
    """Their activations [document, live]."""
    live: Int[np.ndarray, " live"]
    """Their indices."""
    active: Float[np.ndarray, " live"]
    """Documents of the fit in which each is active."""


class Split(NamedTuple):
    """Which documents fit and which are held out."""

    strata: Int[np.ndarray, " document"]
    """Number of each document's context."""
    fit: Int[np.ndarray, " fit"]
    """Documents of the fit."""
    test: Int[np.ndarray, " test"]
    """Documents that are held out."""


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


class _HeldOut(NamedTuple):
    """What held-out documents say of some features and a comparison; every field is [feature]."""

    score: Float[np.ndarray, " feature"]
    """AUROC within contexts [0 to 1]."""
    precision: Float[np.ndarray, " feature"]
    """Share of the activation that falls on documents with the mark [0 to 1]."""
    base: Float[np.ndarray, " feature"]
    """The same share if activation fell evenly within each context [0 to 1]."""
    gain: Float[np.ndarray, " feature"]
    """(precision - base) / (1 - base) [at most 1; 0 = as if by chance]."""
    effective: Float[np.ndarray, " feature"]
    """Effective number of held-out documents in which it is active [documents]."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that the fit gives, to be turned into rows.

    Held-out documents are looked at for the rows alone that are kept.
    """

    features: Features
    """The features that are tested."""
    marks: MarkedTexts
    """The marks of all documents."""
    split: Split
    """Which documents fit, and which are held out."""
    settings: ContrastLabelerSettings
    """Limits that do not come from the study."""

    @cached_property
    def fit(self) -> MarkFit:
        """The regression on the documents of the fit."""
        rows = self.split.fit
        design = Design.of(self.marks.of(rows), self.split.strata[rows])
        return regress(self.features.columns[rows], design)

    @cached_property
    def _held_out_columns(self) -> sparse.csc_matrix:
        """Activations of the live features in the held-out documents."""
        return self.features.columns[self.split.test]

    @cached_property
    def _factor(self) -> Float[np.ndarray, " live"]:
        """Hedges' small-sample factor over the residual SD: what turns beta into an effect."""
        sd = np.where(self.fit.sd > 0, self.fit.sd, 1.0)
        return (1 - 3 / (4 * self.fit.degrees - 1)) / sd

    @cached_property
    def effect(self) -> Float[np.ndarray, "test live"]:
        """Effect of each comparison on each feature [SD]."""
        return self.fit.beta * self._factor

    @cached_property
    def se(self) -> Float[np.ndarray, "test live"]:
        """Standard error of each effect [SD]."""
        return self.fit.se * self._factor

    @cached_property
    def z(self) -> Float[np.ndarray, "test live"]:
        """Difference of each comparison over its error."""
        beta, se = self.fit.beta, self.fit.se
        return np.divide(beta, se, out=np.zeros_like(beta), where=se > 0)

    @cached_property
    def p(self) -> Float[np.ndarray, "test live"]:
        """Two-sided p of each effect [0 to 1]."""
        return 2 * stats.t.sf(np.abs(self.z), self.fit.degrees)

    @cached_property
    def q(self) -> Float[np.ndarray, "test live"]:
        """False discovery rate of each effect, over all features and comparisons [0 to 1]."""
        return benjamini_hochberg(self.p)

    @property
    def _n_marks(self) -> int:
        """Number of comparisons that are of one mark; those of topics come after them."""
        return len(self.marks.single)

    @cached_property
    def rival(self) -> Int[np.ndarray, "test live"]:
        """The strongest mark of each feature but those of the row; -1 where there is no other."""
        effect = self.effect[: self._n_marks]
        rival = np.full(self.effect.shape, -1)
        for row, combined in enumerate(self.marks.combine > 0):
            if not combined.all():
                others = np.flatnonzero(~combined)
                rival[row] = others[effect[others].argmax(0)]
        return rival

    @cached_property
    def rival_share(self) -> Float[np.ndarray, "test live"]:
        """The rival's effect as a share of the row's; 0 where there is no other mark."""
        every = np.arange(self.effect.shape[1])
        share = self.effect[self.rival, every] / np.where(self.effect == 0, np.inf, self.effect)
        return np.where(self.rival < 0, 0.0, np.maximum(share, 0.0))

    @cached_property
    def compared(self) -> Int[np.ndarray, " live"]:
        """The comparison that each feature is looked at for: its largest mark, or the topic of that
        mark's value where the other pole is what keeps it from being specific.
        """
        every = np.arange(self.effect.shape[1])
        best = self.effect[: self._n_marks].argmax(0)
        topic = np.full(self._n_marks, -1)
        other = np.full(self._n_marks, -1)
        for row, (held, rejected) in self.marks.poles.items():
            topic[[held, rejected]], other[[held, rejected]] = row, (rejected, held)
        is_both = (
            (topic[best] >= 0)
            & (self.rival[best, every] == other[best])
            & (self.rival_share[best, every] > self.settings.specificity)
        )
        return np.where(is_both, topic[best], best)

    def candidates(self) -> Candidates:
        """Give the features that pass every limit but those that come from the study."""
        rows = []
        for test in range(len(self.marks.tests)):
            features = np.flatnonzero((self.compared == test) & self._is_large(test))
            if len(features):
                outside = self._on_held_out(test, features)
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
        is_kept[self._n_marks :] = False
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
        outside = self._on_held_out(test, features)
        value, polarity, part = self.marks.tests[test]
        n = int(self._carried[self.split.fit, test].sum())
        reach = float(stats.t.ppf(0.975, self.fit.degrees))
        passing = self._passes_outside(outside) & self._passes(test, features, outside, limits)
        rows = []
        for k, column in enumerate(features.tolist()):
            effect, se = self.effect[test, column], self.se[test, column]
            evidence = self._evidence(test, column, outside, k) | {
                "z_limit": float(limits.z[test]),
                "gain_limit": float(limits.gain[test]),
            }
            accepted = bool(passing[k])
            if accepted:
                evidence["unadjusted"] = self._unadjusted(test, column)
            rows.append(
                Label(
                    feature=int(self.features.live[column]),
                    value=value,
                    polarity=polarity,
                    part=part,
                    effect=float(effect),
                    low=float(effect - reach * se),
                    high=float(effect + reach * se),
                    p=float(self.p[test, column]),
                    q=float(self.q[test, column]),
                    score=float(outside.score[k]),
                    gain=float(outside.gain[k]),
                    n=n,
                    method="contrast",
                    accepted=accepted,
                    evidence=json.dumps({name: _rounded(x) for name, x in evidence.items()}),
                )
            )
        return rows

    def _on_held_out(self, test: int, features: Int[np.ndarray, " feature"]) -> _HeldOut:
        """Look at held-out documents for some features and one comparison."""
        rows = self.split.test
        active = self._held_out_columns[:, features]
        truth, strata = self._carried[rows, test], self.split.strata[rows]
        total = np.asarray(active.sum(0)).ravel()
        size = np.maximum(total, 1e-300)
        share = stratum_means(strata, int(self.split.strata.max()) + 1) @ truth
        precision = truth.astype(float) @ active / size
        base = share[strata] @ active / size
        squares = np.asarray(active.multiply(active).sum(0)).ravel()
        return _HeldOut(
            score=auroc(active, truth, strata),
            precision=precision,
            base=base,
            gain=(precision - base) / np.maximum(1 - base, 1e-9),
            effective=total**2 / np.maximum(squares, 1e-300),
        )

    def _is_large(self, test: int) -> Bool[np.ndarray, " live"]:
        """Which features' effect is worth a name and specific to the comparison."""
        return (
            (self.effect[test] > 0)
            & (self.effect[test] >= self.settings.min_effect)
            & (self.rival_share[test] <= self.settings.specificity)
        )

    def _passes_outside(self, outside: _HeldOut) -> Bool[np.ndarray, " feature"]:
        """Which features pass the limits on held-out documents that do not come from the study."""
        return (outside.score >= self.settings.min_score) & (
            outside.effective >= self.settings.min_held_out
        )

    def _passes(
        self,
        test: int,
        features: Int[np.ndarray, " feature"],
        outside: _HeldOut,
        limits: StudyLimits,
    ) -> Bool[np.ndarray, " feature"]:
        """Which features pass all other limits of one comparison."""
        return (
            (self.compared[features] == test)
            & self._is_large(test)[features]
            & (self.z[test, features] >= limits.z[test])
            & (outside.gain >= limits.gain[test])
        )

    def _evidence(self, test: int, column: int, outside: _HeldOut, k: int) -> dict[str, Any]:
        """Give what is kept as evidence beside a row."""
        rival = self.rival[test, column]
        runner_up, polarity, _ = self.marks.tests[rival] if rival >= 0 else ("", 0, "")
        evidence = {
            "z": float(self.z[test, column]),
            "precision": outside.precision[k],
            "base_rate": outside.base[k],
            "active": int(self.features.active[column]),
            "held_out_active": outside.effective[k],
            "runner_up": runner_up,
            "runner_up_polarity": polarity,
            "runner_up_share": float(self.rival_share[test, column]),
        }
        pair = self._poles.get(self.marks.tests[test].value)
        if pair:
            held, rejected = self.effect[list(pair), column]
            evidence["topic_effect"] = float(held + rejected) / 2
            evidence["pole_effect"] = float(held - rejected) / 2
        return evidence

    @cached_property
    def _carried(self) -> Bool[np.ndarray, "document test"]:
        """Whether a document carries what is compared."""
        return self.marks.carried

    @cached_property
    def _poles(self) -> dict[str, tuple[int, int]]:
        """Value -> its comparisons held and rejected, where both are made."""
        return {self.marks.tests[topic].value: pair for topic, pair in self.marks.poles.items()}

    def _unadjusted(self, test: int, column: int) -> float:
        """Give Hedges' g within contexts, other values not held equal [SD].

        Beside the effect it says how much the adjustment did.
        """
        rows = self.split.fit
        dense = self.features.columns[:, [column]].toarray().ravel()[rows]
        return float(hedges_g(dense, self._carried[rows, test], self.split.strata[rows]).mean)


def _rounded(x: Any) -> Any:
    """Round a float to four digits, for the evidence that is kept as text."""
    return round(x, 4) if isinstance(x, float) else x
