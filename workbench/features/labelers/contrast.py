"""The contrast labeler: a feature carries a value if texts with it differ from texts of the same
context without it.

1. A third of the documents, drawn within contexts, is held out; the rest fits.
2. One regression a feature on the marks of all values (held and rejected apart) and a dummy per
   context: `a = context + X beta + e`. By Frisch and Waugh the dummies are removed from X alone, so
   all features together cost one sparse product. Each beta is the difference with the value against
   without it, within contexts, at equal other values.
3. Errors are White's (HC1): activations are sparse and skewed. `effect` is beta over the residual
   SD with Hedges' small-sample factor; q is Benjamini-Hochberg over all features x marks.
4. Held-out evidence: AUROC within contexts (`score`), precision (the share of activation that falls
   on texts with the value), and its base rate (the same share if activation fell evenly within each
   context). A topic feature has a high precision and an equally high base rate; a perfect feature
   that fires for one of a value's many behaviours has an AUROC little above 0.5 and a precision of
   1. Hence the rule asks for `gain = (precision - base) / (1 - base)`.
5. Accepted: the largest mark of its feature, q, effect, gain, score and counts past their limits,
   and the runner-up's beta below `specificity` of it. A feature that fires for two values, or for
   both poles of one, is no label of either.

Rows kept: each live feature's best mark (accepted or not), and near misses: other marks of positive
effect with q and effect past their limits. Left out: words and token positions (they are the
lexicon's and the judge's evidence).
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import sparse, stats

from feature_store.bounds import MANY, Between, Count, Seed, Share
from feature_store.errors import BadInput
from feature_store.records import Label, ValueSystem
from feature_store.registry import register
from workbench.features.labelers import LabelledActivations
from workbench.statistics.intervals import auroc, benjamini_hochberg, hedges_g

ENTRIES = 1_000_000
"""Stored activations whose fitted values are computed at a time: bounds memory."""


@dataclass(frozen=True)
class ContrastLabelerSettings:
    """Limits past which a mark is accepted as a label, and the split."""

    max_q: Share = 0.05
    """Largest q of an accepted label [0 to 1]."""
    min_effect: float = 0.3
    """Smallest effect of an accepted label [SD]."""
    min_gain: float = 0.35
    """Smallest held-out gain of precision over its base rate [0: none, 1: active on the value
    alone]."""
    min_score: float = 0.51
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
    """Seed of the split."""


class ContrastFit(NamedTuple):
    """A regression of every feature on the marks of all values."""

    beta: Float[np.ndarray, "mark feature"]
    """Adjusted difference [activation units]."""
    se: Float[np.ndarray, "mark feature"]
    """Its robust standard error [activation units]."""
    sd: Float[np.ndarray, " feature"]
    """Residual SD within contexts and marks [activation units]."""
    degrees: int
    """Degrees of freedom of the residuals."""


@register("labelers", "contrast")
class Contrast:
    """Texts with a value against texts of the same context without it, other values held equal."""

    config = ContrastLabelerSettings

    @staticmethod
    def label(
        data: LabelledActivations, system: ValueSystem, settings: ContrastLabelerSettings
    ) -> list[Label]:
        """Give the best mark of every live feature, and near misses."""
        if data.values.shape[1] != len(system.ids):
            raise BadInput(
                f"{system.id} has {len(system.ids)} values, the marks have {data.values.shape[1]}"
                " columns. Use one system."
            )
        strata = np.unique(data.contexts, return_inverse=True)[1]
        is_held_out = _held_out(strata, settings.held_out, np.random.default_rng(settings.seed))
        fit_on, test_on = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        # A mark in part counts in part where features are regressed, else as the mark.
        shares = np.hstack([np.maximum(data.values, 0), np.maximum(-data.values, 0)])
        marked = shares > 0
        names: list[tuple[str, Literal[-1, 1]]] = [(value, 1) for value in system.ids]
        names += [(value, -1) for value in system.ids]
        tested = np.flatnonzero(marked[fit_on].sum(0) >= settings.min_texts)
        if not len(tested):
            raise BadInput(
                f"No value is carried by {settings.min_texts} texts or more of {len(fit_on)}, so no"
                " feature can be labelled. Give more labelled texts, or lower min_texts."
            )
        design = Design.of(shares[np.ix_(fit_on, tested)], strata[fit_on])
        activations = data.activations.tocsr().astype(float)
        active = np.bincount(
            activations[fit_on].indices,
            activations[fit_on].data > 0,
            minlength=activations.shape[1],
        )
        live = np.flatnonzero(active >= settings.min_active)
        if not len(live):
            return []
        columns = activations[:, live].tocsc()
        columns.eliminate_zeros()
        evidence = _Evidence(
            columns=columns,
            live=live,
            active=active[live],
            fit=regress(columns[fit_on], design),
            marked=marked[:, tested],
            names=[names[k] for k in tested],
            strata=strata,
            fit_on=fit_on,
            test_on=test_on,
            settings=settings,
        )
        return evidence.labels()


class Design(NamedTuple):
    """Marks and context dummies, on which every feature is regressed."""

    x: Float[np.ndarray, "document mark"]
    """Marks, less their means within the context."""
    strata: Int[np.ndarray, " document"]
    """0-based context of each document."""
    averager: sparse.csr_matrix
    """Takes means within contexts [context, document]."""
    degrees: int
    """Degrees of freedom of the residuals."""

    @classmethod
    def of(
        cls, marks: Shaped[np.ndarray, "document mark"], strata: Int[np.ndarray, " document"]
    ) -> "Design":
        """Lay out the design. Raises BadInput where fewer than ten degrees of freedom are left."""
        documents = len(marks)
        used, strata = np.unique(strata, return_inverse=True)
        averager = _averager(strata, len(used))
        x = marks.astype(float)
        x -= (averager @ x)[strata]
        degrees = documents - len(used) - int(np.linalg.matrix_rank(x))
        if degrees < 10:
            raise BadInput(
                f"{documents} texts in {len(used)} contexts leave {degrees} degrees of freedom, at"
                " least 10 are needed. Use wider contexts."
            )
        return cls(x=x, strata=strata, averager=averager, degrees=degrees)


def regress(activations: sparse.csc_matrix, design: Design) -> ContrastFit:
    """Regress every feature on marks and context dummies, with HC1 standard errors."""
    x, strata, averager, degrees = design
    documents = len(x)
    influence = np.linalg.pinv(x)
    beta = influence @ activations
    # Row 0 weighs all documents alike and gives the residual variance; the others are White's.
    weights = np.vstack([np.ones(documents), influence**2])
    squares = np.maximum(_weighted_squares(activations, x, beta, averager, strata, weights), 0.0)
    return ContrastFit(
        beta=beta,
        se=np.sqrt(squares[1:] * documents / degrees),
        sd=np.sqrt(squares[0] / degrees),
        degrees=degrees,
    )


def _weighted_squares(
    activations: sparse.csc_matrix,
    x: np.ndarray,
    beta: np.ndarray,
    averager: sparse.csr_matrix,
    strata: np.ndarray,
    weights: np.ndarray,
) -> Float[np.ndarray, "weight feature"]:
    """Sum weight x (a - x beta - mu)^2 over documents, mu the context's mean, sparsely.

    Only entries enter a^2 - 2 a h, h being the fitted value; h^2 = (x beta)^2 + 2 x beta mu + mu^2
    splits into sums over documents that do not depend on the feature, or run over the sparse
    context means. The cost is that of the entries.
    """
    means = (averager @ activations).tocsc()
    column = np.repeat(np.arange(activations.shape[1]), np.diff(activations.indptr))
    row, fitted = activations.indices, np.empty(activations.nnz)
    for start in range(0, len(row), ENTRIES):
        part = slice(start, start + ENTRIES)
        fitted[part] = (x[row[part]] * beta.T[column[part]]).sum(1)
    _, group = np.unique(column * len(averager.indptr) + strata[row], return_inverse=True)
    size = np.diff(averager.indptr)[strata[row]]
    fitted += (np.bincount(group, activations.data / size))[group] if len(group) else 0.0
    entries = activations.copy()
    entries.data = activations.data * (activations.data - 2 * fitted)
    total = weights @ entries
    by_stratum = sparse.csr_matrix(
        (np.ones(len(strata)), (strata, np.arange(len(strata)))), shape=averager.shape
    )
    for k, weight in enumerate(weights):
        weighted = x * weight[:, None]
        total[k] += ((x.T @ weighted @ beta + 2 * (by_stratum @ weighted).T @ means) * beta).sum(0)
    return total + (by_stratum @ weights.T).T @ means.multiply(means).tocsc()


class _HeldOut(NamedTuple):
    """What held-out documents say of some features about one mark; every field is [feature]."""

    score: Float[np.ndarray, " feature"]
    """AUROC within contexts [0 to 1]."""
    precision: Float[np.ndarray, " feature"]
    """Share of the activation that falls on documents with the mark [0 to 1]."""
    base: Float[np.ndarray, " feature"]
    """The same share if activation fell evenly within each context [0 to 1]."""
    gain: Float[np.ndarray, " feature"]
    """(precision - base) / (1 - base)."""
    effective: Float[np.ndarray, " feature"]
    """Effective number of documents in which the feature is active."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Evidence:
    """Everything that the fit gave, to be turned into rows.

    Held-out documents are looked at for the rows alone that are kept.
    """

    columns: sparse.csc_matrix
    """Activations of the live features [document, live]."""
    live: Int[np.ndarray, " live"]
    """Indices of the live features."""
    active: Float[np.ndarray, " live"]
    """Documents of the fit in which each is active."""
    fit: ContrastFit
    """The regression on the documents of the fit."""
    marked: Bool[np.ndarray, "document mark"]
    """Whether a document carries a mark that is tested."""
    names: list[tuple[str, Literal[-1, 1]]]
    """Value and polarity of each mark."""
    strata: Int[np.ndarray, " document"]
    """Number of each document's context."""
    fit_on: Int[np.ndarray, " fit"]
    """Documents of the fit."""
    test_on: Int[np.ndarray, " test"]
    """Documents that are held out."""
    settings: ContrastLabelerSettings
    """Limits."""

    @cached_property
    def _held_out_columns(self) -> sparse.csc_matrix:
        """Activations of the live features in the held-out documents."""
        return self.columns[self.test_on]

    @cached_property
    def _factor(self) -> Float[np.ndarray, " live"]:
        """Hedges' small-sample factor over the residual SD: what turns beta into an effect."""
        sd = np.where(self.fit.sd > 0, self.fit.sd, 1.0)
        return (1 - 3 / (4 * self.fit.degrees - 1)) / sd

    @cached_property
    def effect(self) -> Float[np.ndarray, "mark live"]:
        """Effect of each mark on each feature [SD]."""
        return self.fit.beta * self._factor

    @cached_property
    def se(self) -> Float[np.ndarray, "mark live"]:
        """Standard error of each effect [SD]."""
        return self.fit.se * self._factor

    @cached_property
    def p(self) -> Float[np.ndarray, "mark live"]:
        """Two-sided p of each effect [0 to 1]."""
        beta, se = self.fit.beta, self.fit.se
        z = np.divide(beta, se, out=np.zeros_like(beta), where=se > 0)
        return 2 * stats.t.sf(np.abs(z), self.fit.degrees)

    @cached_property
    def q(self) -> Float[np.ndarray, "mark live"]:
        """False discovery rate of each effect, over all features and marks [0 to 1]."""
        return benjamini_hochberg(self.p)

    @cached_property
    def rival(self) -> Int[np.ndarray, "mark live"]:
        """The strongest mark of each feature but the one of the row."""
        every = np.arange(len(self.live))
        best = self.effect.argmax(0)
        others = self.effect.copy()
        others[best, every] = -np.inf
        rival = np.broadcast_to(best, self.effect.shape).copy()
        rival[best, every] = others.argmax(0)
        return rival

    def labels(self) -> list[Label]:
        """Give the rows sorted by feature, best mark first."""
        best = self.effect.argmax(0)
        every = np.arange(len(self.live))
        is_near = (self.q < self.settings.max_q) & (self.effect >= self.settings.min_effect)
        is_near[best, every] = self.effect[best, every] > 0
        rows = []
        for mark in range(len(self.names)):
            features = np.flatnonzero(is_near[mark])
            if len(features):
                rows += self._of_mark(mark, features)
        order = sorted(range(len(rows)), key=lambda k: (rows[k].feature, -rows[k].effect))
        return [rows[k] for k in order]

    def _of_mark(self, mark: int, features: Int[np.ndarray, " feature"]) -> list[Label]:
        """Give the rows of one mark."""
        held_out = self._on_held_out(mark, features)
        value, polarity = self.names[mark]
        n = int(self.marked[self.fit_on, mark].sum())
        reach = float(stats.t.ppf(0.975, self.fit.degrees))
        rows = []
        for k, column in enumerate(features.tolist()):
            effect, se = self.effect[mark, column], self.se[mark, column]
            evidence = self._evidence(mark, column, held_out, k)
            accepted = self._accepts(mark, column, held_out, k)
            if accepted:
                evidence["unadjusted"] = self._unadjusted(mark, column)
            rows.append(
                Label(
                    feature=int(self.live[column]),
                    value=value,
                    polarity=polarity,
                    effect=float(effect),
                    low=float(effect - reach * se),
                    high=float(effect + reach * se),
                    p=float(self.p[mark, column]),
                    q=float(self.q[mark, column]),
                    score=float(held_out.score[k]),
                    gain=float(held_out.gain[k]),
                    n=n,
                    method="contrast",
                    accepted=accepted,
                    evidence=json.dumps({name: _rounded(x) for name, x in evidence.items()}),
                )
            )
        return rows

    def _on_held_out(self, mark: int, features: Int[np.ndarray, " feature"]) -> _HeldOut:
        """Look at held-out documents for some features and one mark."""
        held = self._held_out_columns[:, features]
        truth, strata = self.marked[self.test_on, mark], self.strata[self.test_on]
        total = np.asarray(held.sum(0)).ravel()
        size = np.maximum(total, 1e-300)
        share = _averager(strata, int(self.strata.max()) + 1) @ truth
        precision = truth.astype(float) @ held / size
        base = share[strata] @ held / size
        squares = np.asarray(held.multiply(held).sum(0)).ravel()
        return _HeldOut(
            score=auroc(held, truth, strata),
            precision=precision,
            base=base,
            gain=(precision - base) / np.maximum(1 - base, 1e-9),
            effective=total**2 / np.maximum(squares, 1e-300),
        )

    def _rival_share(self, mark: int, column: int) -> float:
        """Give the rival's effect as a share of the mark's; 0 where there is no other mark."""
        if len(self.names) < 2:
            return 0.0
        rival = self.rival[mark, column]
        return max(self.effect[rival, column] / self.effect[mark, column], 0.0)

    def _accepts(self, mark: int, column: int, held_out: _HeldOut, k: int) -> bool:
        """Whether a mark passes every limit; `k` is the feature's place among the held-out ones."""
        limits = self.settings
        return bool(
            self.q[mark, column] < limits.max_q
            and self.effect[mark, column] >= limits.min_effect
            and self._rival_share(mark, column) <= limits.specificity
            and held_out.gain[k] >= limits.min_gain
            and held_out.score[k] >= limits.min_score
            and held_out.effective[k] >= limits.min_held_out
        )

    def _evidence(self, mark: int, column: int, held_out: _HeldOut, k: int) -> dict[str, Any]:
        """Give what is kept as evidence beside a row."""
        rival, polarity = self.names[self.rival[mark, column]]
        return {
            "precision": held_out.precision[k],
            "base_rate": held_out.base[k],
            "active": int(self.active[column]),
            "held_out_active": held_out.effective[k],
            "runner_up": rival,
            "runner_up_polarity": polarity,
            "runner_up_share": self._rival_share(mark, column),
        }

    def _unadjusted(self, mark: int, column: int) -> float:
        """Give Hedges' g within contexts, other values not held equal [SD].

        Beside the effect it says how much the adjustment did.
        """
        dense = self.columns[:, [column]].toarray().ravel()[self.fit_on]
        return float(hedges_g(dense, self.marked[self.fit_on, mark], self.strata[self.fit_on]).mean)


def _rounded(x: Any) -> Any:
    """Round a float to four digits, for the evidence that is kept as text."""
    return round(x, 4) if isinstance(x, float) else x


def _averager(strata: Int[np.ndarray, " document"], count: int) -> sparse.csr_matrix:
    """Build the matrix that takes the mean of each stratum [stratum, document].

    Rows of strata without documents are 0.
    """
    size = np.bincount(strata, minlength=count)
    rows = np.arange(len(strata))
    return sparse.csr_matrix((1 / size[strata], (strata, rows)), shape=(count, len(strata)))


def _held_out(
    strata: Int[np.ndarray, " document"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " document"]:
    """Draw a random `share` of every stratum.

    What a small stratum cannot split evenly is carried to the next.
    """
    shuffled = rng.permutation(len(strata))
    in_order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    steps = np.floor(np.arange(len(strata) + 1) * share)
    is_drawn = np.zeros(len(strata), bool)
    is_drawn[in_order[np.diff(steps) > 0]] = True
    return is_drawn
