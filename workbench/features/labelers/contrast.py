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
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse, stats

from feature_store.bounds import Seed
from feature_store.errors import BadInput
from feature_store.records import Label, ValueSystem
from feature_store.registry import register
from workbench.features.labelers import LabelledActivations
from workbench.statistics.intervals import auroc, benjamini_hochberg, hedges_g

ENTRIES = 1_000_000
"""Stored activations whose fitted values are computed at a time: bounds memory."""


@dataclass(frozen=True)
class ContrastConfig:
    max_q: float = 0.05
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
    min_active: int = 8
    """Documents of the fit in which a feature must be active [documents]."""
    min_held_out: int = 4
    """Effective number of held-out documents in which an accepted feature is active: (sum a)^2 /
    sum a^2 [documents]."""
    min_texts: int = 10
    """Documents of the fit that must carry a mark for it to be tested [documents]."""
    held_out: float = 1 / 3
    """Share of documents that are held out [0 to 1]."""
    seed: Seed = 0
    """Seed of the split."""


class Fit(NamedTuple):
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

    config = ContrastConfig

    @staticmethod
    def label(
        data: LabelledActivations, system: ValueSystem, settings: ContrastConfig
    ) -> list[Label]:
        """Best mark of every live feature, and near misses."""
        if data.values.shape[1] != len(system.ids):
            raise BadInput(
                f"{system.id} has {len(system.ids)} values, the marks have {data.values.shape[1]}"
                " columns. Use one system."
            )
        strata = np.unique(data.contexts, return_inverse=True)[1]
        apart = _held_out(strata, settings.held_out, np.random.default_rng(settings.seed))
        fit_on, test_on = np.flatnonzero(~apart), np.flatnonzero(apart)
        marked = np.hstack([data.values > 0, data.values < 0])
        names = [(value, 1) for value in system.ids] + [(value, -1) for value in system.ids]
        tested = np.flatnonzero(marked[fit_on].sum(0) >= settings.min_texts)
        if not len(tested):
            raise BadInput(
                f"No value is carried by {settings.min_texts} texts or more of {len(fit_on)}, so no"
                " feature can be labelled. Give more labelled texts, or lower min_texts."
            )
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
        found = regress(columns[fit_on], marked[np.ix_(fit_on, tested)], strata[fit_on])
        z = np.divide(found.beta, found.se, out=np.zeros_like(found.beta), where=found.se > 0)
        p = 2 * stats.t.sf(np.abs(z), found.degrees)
        evidence = _Evidence(
            columns,
            live,
            active[live],
            found,
            p,
            benjamini_hochberg(p),
            marked[:, tested],
            [names[k] for k in tested],
            strata,
            fit_on,
            test_on,
            settings,
        )
        return evidence.labels()


def regress(
    activations: sparse.csc_matrix,
    marks: Bool[np.ndarray, "document mark"],
    strata: Int[np.ndarray, " document"],
) -> Fit:
    """Least squares of every feature on marks and context dummies, with HC1 standard errors."""
    documents = activations.shape[0]
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
    influence = np.linalg.pinv(x)
    beta = influence @ activations
    # Row 0 weighs all documents alike and gives the residual variance; the others are White's.
    weights = np.vstack([np.ones(documents), influence**2])
    squares = np.maximum(_weighted_squares(activations, x, beta, averager, strata, weights), 0.0)
    return Fit(
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
    """Sum over documents of weight x (a - x beta - mu)^2, mu the context's mean, without a dense
    residual.

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


class _Evidence:
    """Everything the fit found, turned into rows; held-out documents are looked at for the kept
    rows only.
    """

    def __init__(
        self,
        columns: sparse.csc_matrix,
        live: np.ndarray,
        active: np.ndarray,
        fit: Fit,
        p: np.ndarray,
        q: np.ndarray,
        marked: np.ndarray,
        names: list[tuple[str, int]],
        strata: np.ndarray,
        fit_on: np.ndarray,
        test_on: np.ndarray,
        settings: ContrastConfig,
    ):
        self.columns, self.live, self.active, self.p, self.q = columns, live, active, p, q
        self.marked, self.names, self.strata = marked, names, strata
        self.fit_on, self.test_on, self.settings = fit_on, test_on, settings
        factor = (1 - 3 / (4 * fit.degrees - 1)) / np.where(fit.sd > 0, fit.sd, 1.0)
        self.effect, self.se = fit.beta * factor, fit.se * factor
        self.reach = float(stats.t.ppf(0.975, fit.degrees))

    def labels(self) -> list[Label]:
        """Rows sorted by feature, best mark first."""
        best = self.effect.argmax(0)
        every = np.arange(len(self.live))
        rivals = self.effect.copy()
        rivals[best, every] = -np.inf
        runner = rivals.argmax(0)
        keep = (self.q < self.settings.max_q) & (self.effect >= self.settings.min_effect)
        keep[best, every] = self.effect[best, every] > 0
        rows = []
        held = self.columns[self.test_on]
        for mark in range(len(self.names)):
            chosen = np.flatnonzero(keep[mark])
            if len(chosen):
                rows += self._of_mark(mark, chosen, held[:, chosen], best, runner)
        order = sorted(range(len(rows)), key=lambda k: (rows[k].feature, -rows[k].effect))
        return [rows[k] for k in order]

    def _of_mark(
        self,
        mark: int,
        chosen: np.ndarray,
        held: sparse.csc_matrix,
        best: np.ndarray,
        runner: np.ndarray,
    ) -> list[Label]:
        truth, strata = self.marked[self.test_on, mark], self.strata[self.test_on]
        score = auroc(held, truth, strata)
        total = np.asarray(held.sum(0)).ravel()
        share = _averager(strata, int(self.strata.max()) + 1) @ truth
        size = np.maximum(total, 1e-300)
        precision, base = truth.astype(float) @ held / size, share[strata] @ held / size
        effective = total**2 / np.maximum(np.asarray(held.multiply(held).sum(0)).ravel(), 1e-300)
        gain = (precision - base) / np.maximum(1 - base, 1e-9)
        n, (value, polarity), wants = (
            int(self.marked[self.fit_on, mark].sum()),
            self.names[mark],
            self.settings,
        )
        rows = []
        for k, column in enumerate(chosen.tolist()):
            effect, se = self.effect[mark, column], self.se[mark, column]
            rival = runner[column] if best[column] == mark else best[column]
            ratio = max(self.effect[rival, column] / effect, 0.0) if len(self.names) > 1 else 0.0
            accepted = (
                self.q[mark, column] < wants.max_q
                and effect >= wants.min_effect
                and ratio <= wants.specificity
                and gain[k] >= wants.min_gain
                and score[k] >= wants.min_score
                and effective[k] >= wants.min_held_out
            )
            told: dict[str, Any] = {
                "precision": precision[k],
                "base_rate": base[k],
                "active": int(self.active[column]),
                "held_out_active": effective[k],
                "runner_up": self.names[rival][0],
                "runner_up_polarity": self.names[rival][1],
                "runner_up_share": ratio,
            }
            if accepted:
                told["unadjusted"] = self._unadjusted(mark, column)
            rows.append(
                Label(
                    feature=int(self.live[column]),
                    value=value,
                    polarity=polarity,
                    effect=float(effect),
                    low=float(effect - self.reach * se),
                    high=float(effect + self.reach * se),
                    p=float(self.p[mark, column]),
                    q=float(self.q[mark, column]),
                    score=float(score[k]),
                    gain=float(gain[k]),
                    n=n,
                    method="contrast",
                    accepted=bool(accepted),
                    evidence=json.dumps(
                        {
                            name: round(x, 4) if isinstance(x, float) else x
                            for name, x in told.items()
                        }
                    ),
                )
            )
        return rows

    def _unadjusted(self, mark: int, column: int) -> float:
        """Hedges' g within contexts, other values not held equal: how much the adjustment did
        [SD].
        """
        dense = self.columns[:, [column]].toarray().ravel()[self.fit_on]
        return float(hedges_g(dense, self.marked[self.fit_on, mark], self.strata[self.fit_on]).mean)


def _averager(strata: Int[np.ndarray, " document"], count: int) -> sparse.csr_matrix:
    """Matrix that takes the mean of each stratum [stratum, document]; rows of strata without
    documents are 0.
    """
    size = np.bincount(strata, minlength=count)
    rows = np.arange(len(strata))
    return sparse.csr_matrix((1 / size[strata], (strata, rows)), shape=(count, len(strata)))


def _held_out(
    strata: Int[np.ndarray, " document"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " document"]:
    """A random `share` of every stratum; what a small stratum cannot split evenly is carried to
    the next.
    """
    shuffled = rng.permutation(len(strata))
    in_order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    places = np.floor(np.arange(len(strata) + 1) * share)
    chosen = np.zeros(len(strata), bool)
    chosen[in_order[np.diff(places) > 0]] = True
    return chosen
