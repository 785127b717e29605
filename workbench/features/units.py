"""Groups of features and directions: what a value is steered by where single features are too weak.

1. The documents are split as labelers do: two thirds fit, a third, drawn within contexts, is held
   out; pairs together, since half a pair in the fit speaks for the opposite of its other half. What
   is compared is what `statistics/marked.py` allows: poles, where texts of both sides are there,
   and topics.
2. *Groups*: of the features that fit a comparison better than any other of its kind, the `GROUP`
   with the largest z. A pole is compared as held less rejected, so that its topic's features do not
   fill its group. Weights are a non-negative least squares fit on activations in units of their SD,
   the rest of the marks and the contexts held equal (sparse probing: Gurnee et al. 2023, "Finding
   Neurons in a Haystack", TMLR). A feature of no weight leaves the group.
3. *Directions*: the difference of the mean residuals, other values and contexts held equal. That of
   a pole is half of held less rejected; what all values' poles have in common (stance as such) is
   taken away.
4. *Evidence*: how well held-out documents are told apart, within contexts: AUROC with DeLong's
   interval. Of a topic: those that speak of the value against the others. Of a pole: held against
   rejected ones, less what the same scores tell of the poles of other values. Where documents come
   in pairs that differ in the pole alone, it is the pairs of the value against those of other
   values, by held less rejected. So neither talk about the value nor stance as such tells a pole.
5. Accepted: q below 0.05, by Benjamini-Hochberg over the study's groups, and over its directions.
   The direction that is kept is fitted on all documents.

Left out: whether what is read is also written; sweeps measure that.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, sparse, stats

from feature_store.records import ValueSystem
from workbench.features.labelers import LabelledActivations
from workbench.statistics.intervals import benjamini_hochberg
from workbench.statistics.marked import (
    TOLERANCE,
    Comparison,
    Design,
    MarkedTexts,
    marks_of,
    regress,
)
from workbench.statistics.readable import delong, paired_auroc

GROUP = 8
"""Most features of a group [features]."""
FEWEST = 10
"""Documents of the fit that must carry a mark for it to be compared [documents]."""
LEAST_ACTIVE = 8
"""Documents of the fit in which a feature of a group is active [documents]."""
HELD_OUT = 1 / 3
"""Share of documents that are held out [0 to 1]."""
LARGEST_Q = 0.05
"""Largest q of an accepted unit [0 to 1]."""
COMMON = 3
"""Values with poles from which on what all of them have in common is taken away."""


class Separation(NamedTuple):
    """How well scores tell documents apart."""

    auroc: float
    """AUROC within contexts [0.5 = chance]; of a pole less what it is of other values' poles, plus
    0.5. NaN without two documents to compare."""
    error: float
    """DeLong's standard error of it."""
    n: int
    """Documents, or pairs of them, that carry what is compared."""


NOTHING = Separation(auroc=np.nan, error=np.nan, n=0)
"""What can be said without documents."""


@dataclass(frozen=True, eq=False)
class ValueUnit:
    """A group or a direction, and how well it tells held-out documents apart."""

    compared: Comparison
    """What it is of."""
    features: Int[np.ndarray, " feature"]
    """0-based indices of a group's features; none of a direction."""
    weights: Float[np.ndarray, " feature"]
    """Their weights, at length 1 [activation SD]."""
    evidence: Separation
    """How well it tells held-out documents apart."""


class ValueUnits(NamedTuple):
    """The groups and directions of a study."""

    groups: list[ValueUnit]
    """One a comparison, where a feature fits it better than any other."""
    directions: list[ValueUnit]
    """One a pole that holds, and one a topic."""
    poles: Float[np.ndarray, "value d_model"]
    """Direction of each pole, towards held [residual units]; NaN where none could be compared."""
    topics: Float[np.ndarray, "value d_model"]
    """Direction of each topic [residual units]; NaN likewise."""


class _Texts(NamedTuple):
    """The marks of the documents, and which of them fit."""

    marks: MarkedTexts
    """Marks and comparisons of all documents."""
    strata: Int[np.ndarray, " document"]
    """Number of each document's context."""
    is_held_out: Bool[np.ndarray, " document"]
    """Whether a document is held out."""
    pairs: Int[np.ndarray, " document"] | None
    """Number of each document's pair; None: they come in none."""

    def told_apart(
        self, scores: Float[np.ndarray, " document"], compared: Comparison
    ) -> Separation:
        """Say how well scores tell held-out documents apart."""
        carried = self._carried(compared.value)
        if compared.part == "topic":
            truth = np.logical_or.reduce([*carried.values()])
            rows = self.is_held_out
        elif self.pairs is not None:
            held, rejected = self._whole_pairs(self.pairs)
            differences = compared.polarity * (scores[held] - scores[rejected])
            return _separation(differences, carried[1][held], self.strata[held])
        else:
            truth = carried[compared.polarity]
            rows = self.is_held_out & (carried[1] | carried[-1])
        separated = _separation(scores[rows], truth[rows], self.strata[rows])
        if compared.part == "pole" and len(self.marks.poles) >= COMMON:
            # What stance as such does is what the same scores tell of the other values' poles.
            stance = compared.polarity * self.stance
            rows = self.is_held_out & ~(carried[1] | carried[-1]) & (stance != 0)
            others = _separation(scores[rows], stance[rows] > 0, self.strata[rows])
            return Separation(
                auroc=0.5 + separated.auroc - others.auroc,
                error=float(np.hypot(separated.error, others.error)),
                n=separated.n,
            )
        return separated

    def _whole_pairs(
        self, pairs: Int[np.ndarray, " document"]
    ) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
        """Find the held-out pairs of which both documents are there: held and rejected ones."""
        stance = self.stance
        sides = [
            {pair: row for row, pair in enumerate(pairs.tolist()) if take[row]}
            for take in (self.is_held_out & (stance > 0), self.is_held_out & (stance < 0))
        ]
        both = [pair for pair in sides[0] if pair in sides[1]]
        held, rejected = (np.array([side[pair] for pair in both], int) for side in sides)
        return held, rejected

    @property
    def stance(self) -> Float[np.ndarray, " document"]:
        """Values that each document holds, less those that it rejects."""
        return self.marks.shares @ np.array([test.polarity for test in self.marks.single], float)

    def _carried(self, value: str) -> dict[int, Bool[np.ndarray, " document"]]:
        """Polarity -> which documents carry the mark, where it is compared."""
        return {
            test.polarity: self.marks.shares[:, column] > 0
            for column, test in enumerate(self.marks.single)
            if test.value == value
        }


def _separation(
    scores: Float[np.ndarray, " row"],
    truth: Bool[np.ndarray, " row"],
    strata: Int[np.ndarray, " row"],
) -> Separation:
    """Say how well scores tell true from other rows, within strata."""
    if not truth.any():
        return NOTHING
    wins, pairs = paired_auroc(scores[:, None], truth[:, None], strata)
    if not pairs.sum():
        return NOTHING
    return Separation(
        auroc=float(wins.sum() / pairs.sum()),
        error=delong(scores, truth, strata),
        n=int(truth.sum()),
    )


def units_of(
    data: LabelledActivations,
    residuals: Float[np.ndarray, "document d_model"],
    system: ValueSystem,
    seed: int,
) -> ValueUnits:
    """Find a group and a direction for every comparison that the documents allow.

    `residuals` are the documents' mean residuals; `seed` draws the held-out third.

        units = units_of(data, residuals, system, seed=0)
        units.poles[system.ids.index("power")]  # [d_model]
    """
    strata = np.unique(data.contexts, return_inverse=True)[1]
    is_held_out = data.is_held_out(HELD_OUT, np.random.default_rng(seed))
    marks = marks_of(data.values, system.ids, np.flatnonzero(~is_held_out), FEWEST)
    nothing = np.full((len(system.ids), residuals.shape[1]), np.nan)
    if not marks.tests:
        return ValueUnits(groups=[], directions=[], poles=nothing, topics=nothing.copy())
    texts = _Texts(marks=marks, strata=strata, is_held_out=is_held_out, pairs=data.pairs)
    fitted = _directions(residuals, texts, ~is_held_out)
    directions = [
        ValueUnit(
            compared=compared,
            features=np.empty(0, int),
            weights=np.empty(0),
            evidence=texts.told_apart(residuals @ vector, compared),
        )
        for compared, vector in fitted.items()
    ]
    whole = _directions(residuals, texts, np.ones(len(strata), bool))
    poles, topics = nothing, nothing.copy()
    for compared, vector in whole.items():
        kept = poles if compared.part == "pole" else topics
        kept[system.ids.index(compared.value)] = vector
    groups = _groups(data, texts)
    return ValueUnits(groups=groups, directions=directions, poles=poles, topics=topics)


def unit_rows(units: ValueUnits) -> list[dict[str, Any]]:
    """Give the rows of `value_units`: every group and direction with its evidence."""
    rows = []
    for kind, members in (("group", units.groups), ("direction", units.directions)):
        score = np.array([unit.evidence.auroc for unit in members])
        error = np.maximum([unit.evidence.error for unit in members], 1e-12)
        p = stats.norm.sf((score - 0.5) / error)
        q = benjamini_hochberg(p) if len(p) else p
        rows += [
            {
                "unit": kind,
                "value": unit.compared.value,
                "polarity": unit.compared.polarity,
                "part": unit.compared.part,
                "features": len(unit.features),
                "score": float(score[k]),
                "low": float(np.clip(score[k] - 1.96 * error[k], 0, 1)),
                "high": float(np.clip(score[k] + 1.96 * error[k], 0, 1)),
                "p": float(p[k]),
                "q": float(q[k]),
                "n": unit.evidence.n,
                "accepted": bool(q[k] < LARGEST_Q),
            }
            for k, unit in enumerate(members)
        ]
    return rows


def group_rows(units: ValueUnits) -> list[dict[str, Any]]:
    """Give the rows of `group_features`: the features of every group."""
    return [
        {
            "value": unit.compared.value,
            "polarity": unit.compared.polarity,
            "part": unit.compared.part,
            "feature": int(feature),
            "weight": float(weight),
        }
        for unit in units.groups
        for feature, weight in zip(unit.features, unit.weights, strict=True)
    ]


def _directions(
    residuals: Float[np.ndarray, "document d_model"],
    texts: _Texts,
    rows: Bool[np.ndarray, " document"],
) -> dict[Comparison, Float[np.ndarray, " d_model"]]:
    """Fit a direction to every pole and every topic on some documents."""
    design = Design.of(texts.marks.of(np.flatnonzero(rows)), texts.strata[rows])
    beta = design.influence() @ residuals[rows]
    tests = texts.marks.tests
    topics = {
        compared: texts.marks.combine[row] @ beta
        for row, compared in enumerate(tests)
        if compared.part == "topic"
    }
    poles = {
        tests[topic]._replace(part="pole"): (beta[held] - beta[rejected]) / 2
        for topic, (held, rejected) in texts.marks.poles.items()
    }
    if len(poles) >= COMMON:
        common = np.mean([*poles.values()], axis=0)
        poles = {compared: vector - common for compared, vector in poles.items()}
    return topics | poles


def _groups(data: LabelledActivations, texts: _Texts) -> list[ValueUnit]:
    """Find the group of every comparison that some feature fits better than any other."""
    rows = np.flatnonzero(~texts.is_held_out)
    activations = data.activations.tocsr().astype(float)
    active = np.bincount(
        activations[rows].indices, activations[rows].data > 0, minlength=activations.shape[1]
    )
    live = np.flatnonzero(active >= LEAST_ACTIVE)
    if not len(live):
        return []
    columns = activations[:, live].tocsc()
    columns.eliminate_zeros()
    design = Design.of(texts.marks.of(rows), texts.strata[rows])._replace(
        combine=_sides(texts.marks)
    )
    fit = regress(columns[rows], design)
    z = np.divide(fit.beta, fit.se, out=np.zeros_like(fit.beta), where=fit.se > 0)
    units = []
    for kind in ("pole", "topic"):
        tests = [row for row, test in enumerate(texts.marks.tests) if test.part == kind]
        best = np.array(tests)[z[tests].argmax(0)] if tests else np.empty(0, int)
        for test in tests:
            fitting = np.flatnonzero((best == test) & (z[test] > 0))
            if not len(fitting):
                continue
            support = fitting[np.argsort(-z[test, fitting], kind="stable")[:GROUP]]
            weights = _weights(columns[rows][:, support], design, test)
            support, weights = support[weights > 0], weights[weights > 0]
            if not len(support):
                continue
            sd = columns[rows][:, support].toarray().std(0)
            read = columns[:, support].toarray() @ (weights / np.where(sd > 0, sd, 1.0))
            compared = texts.marks.tests[test]
            units.append(
                ValueUnit(
                    compared=compared,
                    features=live[support],
                    weights=weights,
                    evidence=texts.told_apart(read, compared),
                )
            )
    return units


def _sides(marks: MarkedTexts) -> Float[np.ndarray, "test mark"]:
    """Give the comparisons as groups are made by: a pole is one side less the other."""
    sides = marks.combine.copy()
    for held, rejected in marks.poles.values():
        sides[held, rejected] = sides[rejected, held] = -1.0
    return sides


def _weights(
    columns: sparse.csc_matrix, design: Design, test: int
) -> Float[np.ndarray, " feature"]:
    """Weigh the features of a group by non-negative least squares, at length 1.

    Both sides are taken within contexts and at equal other values; activations in units of their
    SD.
    """
    combine = design.combine[test]
    wanted = design.x @ combine
    # What is held equal: the other marks, and what a pole's two sides have in common.
    others = design.x[:, combine == 0]
    if (combine < 0).any():
        others = np.column_stack([others, design.x @ np.abs(combine)])
    dense = columns.toarray()
    sd = dense.std(0)
    dense = (dense - (design.averager @ dense)[design.strata]) / np.where(sd > 0, sd, 1.0)
    sides = np.column_stack([dense, wanted])
    if others.shape[1]:
        sides = sides - others @ (np.linalg.pinv(others, rcond=TOLERANCE) @ sides)
    weights: Float[np.ndarray, " feature"] = optimize.nnls(sides[:, :-1], sides[:, -1])[0]
    length = np.linalg.norm(weights)
    return weights / length if length > 0 else weights
