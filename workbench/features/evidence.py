"""What the marks of documents say of features: effects on the documents of the fit, and held-out
evidence. Labelers that compare marked documents share it.

1. `MarkEvidence.of` splits the documents, says which comparisons the marks allow, and takes the
   features that are active often enough.
2. Effects come of one regression of every feature on the marks of all values, held and rejected
   apart, and on the contexts (`statistics/marked.py`), with Hedges' small-sample factor.
3. `on_held_out` gives AUROC within contexts, precision, its base rate and the gain over it.
4. `pole_or_topic` says whether a feature is of one side of a value or of talk about it.

Left out: which features are labelled; that is the labelers'.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse, stats

from feature_store.errors import BadInput
from feature_store.records import Label, ValueSystem
from workbench.features.labelers import LabelledActivations
from workbench.statistics.intervals import auroc, hedges_g
from workbench.statistics.marked import (
    Design,
    MarkedTexts,
    MarkFit,
    marks_of,
    regress,
    stratum_means,
)


@runtime_checkable
class EvidenceSettings(Protocol):
    """What the settings of a labeler of marked documents say about its evidence."""

    @property
    def min_active(self) -> int:
        """Documents of the fit in which a feature must be active [documents]."""

    @property
    def min_texts(self) -> int:
        """Documents of the fit that must carry a mark for it to be tested [documents]."""

    @property
    def held_out(self) -> float:
        """Share of documents that are held out [0 to 1]."""

    @property
    def seed(self) -> int:
        """Seed of the split."""


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


class HeldOutEvidence(NamedTuple):
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


class LabelVerdict(NamedTuple):
    """What a labeler makes of a feature and a comparison."""

    method: str
    """Name of the labeler."""
    p: float
    """p of the labeler's own test [0 to 1]."""
    q: float
    """`p` after control of the false discovery rate [0 to 1]."""
    accepted: bool
    """Whether the labeler's limits are met."""
    evidence: dict[str, Any]
    """What the labeler adds to the evidence."""


@dataclass(frozen=True, eq=False)
class MarkEvidence:
    """Everything that the fit gives, to be turned into rows.

    Held-out documents are looked at for the rows alone that are kept.
    """

    features: Features
    """The features that are tested."""
    marks: MarkedTexts
    """The marks of all documents."""
    split: Split
    """Which documents fit, and which are held out."""

    @classmethod
    def of(
        cls, data: LabelledActivations, system: ValueSystem, settings: EvidenceSettings
    ) -> "MarkEvidence":
        """Split the documents and take the features that are active often enough, maybe none.

        Raises BadInput where the marks are of another system, or no mark is on enough documents.
        """
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
        columns = activations[:, live].tocsc()
        columns.eliminate_zeros()
        return cls(Features(columns, live, active[live]), marks, split)

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

    @property
    def n_marks(self) -> int:
        """Number of comparisons that are of one mark; those of topics come after them."""
        return len(self.marks.single)

    @cached_property
    def rival(self) -> Int[np.ndarray, "test live"]:
        """The strongest mark of each feature but those of the row; -1 where there is no other."""
        effect = self.effect[: self.n_marks]
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

    def pole_or_topic(
        self, best: Int[np.ndarray, " live"], specificity: float
    ) -> Int[np.ndarray, " live"]:
        """Give the comparison of each feature, `best` being its mark: the mark, or the topic of the
        mark's value where the other pole is what keeps it from being specific.
        """
        every = np.arange(self.effect.shape[1])
        topic = np.full(self.n_marks, -1)
        other = np.full(self.n_marks, -1)
        for row, (held, rejected) in self.marks.poles.items():
            topic[[held, rejected]], other[[held, rejected]] = row, (rejected, held)
        is_both = (
            (topic[best] >= 0)
            & (self.rival[best, every] == other[best])
            & (self.rival_share[best, every] > specificity)
        )
        return np.where(is_both, topic[best], best)

    def on_held_out(self, test: int, features: Int[np.ndarray, " feature"]) -> HeldOutEvidence:
        """Look at held-out documents for some features and one comparison."""
        rows = self.split.test
        active = self._held_out_columns[:, features]
        truth, strata = self.carried[rows, test], self.split.strata[rows]
        total = np.asarray(active.sum(0)).ravel()
        size = np.maximum(total, 1e-300)
        share = stratum_means(strata, int(self.split.strata.max()) + 1) @ truth
        precision = truth.astype(float) @ active / size
        base = share[strata] @ active / size
        squares = np.asarray(active.multiply(active).sum(0)).ravel()
        return HeldOutEvidence(
            score=auroc(active, truth, strata),
            precision=precision,
            base=base,
            gain=(precision - base) / np.maximum(1 - base, 1e-9),
            effective=total**2 / np.maximum(squares, 1e-300),
        )

    def label(
        self, test: int, column: int, outside: HeldOutEvidence, k: int, verdict: LabelVerdict
    ) -> Label:
        """Give the row of a comparison and a live feature, the `k`-th of `outside`."""
        value, polarity, part = self.marks.tests[test]
        effect, se = self.effect[test, column], self.se[test, column]
        reach = float(stats.t.ppf(0.975, self.fit.degrees))
        evidence = self._evidence(test, column, outside, k) | verdict.evidence
        if verdict.accepted:
            evidence["unadjusted"] = self._unadjusted(test, column)
        return Label(
            feature=int(self.features.live[column]),
            value=value,
            polarity=polarity,
            part=part,
            effect=float(effect),
            low=float(effect - reach * se),
            high=float(effect + reach * se),
            p=verdict.p,
            q=verdict.q,
            score=float(outside.score[k]),
            gain=float(outside.gain[k]),
            n=int(self.carried[self.split.fit, test].sum()),
            method=verdict.method,
            accepted=verdict.accepted,
            evidence=json.dumps({name: _rounded(x) for name, x in evidence.items()}),
        )

    def _evidence(self, test: int, column: int, outside: HeldOutEvidence, k: int) -> dict[str, Any]:
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

    def _unadjusted(self, test: int, column: int) -> float:
        """Give Hedges' g within contexts, other values not held equal [SD].

        Beside the effect it says how much the adjustment did.
        """
        rows = self.split.fit
        dense = self.features.columns[:, [column]].toarray().ravel()[rows]
        return float(hedges_g(dense, self.carried[rows, test], self.split.strata[rows]).mean)

    @cached_property
    def carried(self) -> Bool[np.ndarray, "document test"]:
        """Whether a document carries what is compared."""
        return self.marks.carried

    @cached_property
    def _poles(self) -> dict[str, tuple[int, int]]:
        """Value -> its comparisons held and rejected, where both are made."""
        return {self.marks.tests[topic].value: pair for topic, pair in self.marks.poles.items()}


def _rounded(x: Any) -> Any:
    """Round a float to four digits, for the evidence that is kept as text."""
    return round(x, 4) if isinstance(x, float) else x
