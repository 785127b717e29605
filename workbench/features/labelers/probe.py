"""The probe labeler: a feature carries a value if a sparse logistic regression keeps choosing it.

1. A third of the documents, drawn within contexts, is held out (`features/evidence.py`). For each
   comparison (a value held, rejected, or spoken of) a logistic regression with an L1 penalty tells
   texts with the mark from all others by all live features at once, in units of their SD. Contexts
   stand beside them as columns that hardly pay for their weight: what goes with a topic is not the
   value's. A feature that adds nothing to a better one is not chosen; `contrast` names both.
2. Stability selection (Meinshausen & Buehlmann 2010, "Stability Selection", JRSS B 72): the
   regression is fitted on `subsamples` halves of the documents, in pairs that complement each other
   (Shah & Samworth 2013). A half is drawn within every context, pairs of texts together. Each fit
   chooses at most `per_fit` features, those with the largest positive weights.
3. The bound: of p features, at most per_fit^2 / ((2 t - 1) p) are expected to be chosen by chance
   in a share t of the halves or more. The threshold t is the one at which that is `max_false` a
   comparison; where it would exceed `LARGEST_THRESHOLD`, fits choose fewer. With few features the
   bound says little, so held-out documents decide as well.
4. Held-out evidence is independent of the choice: `score` and `gain` as in `contrast`, and p of the
   gain by marks permuted within contexts; q is Benjamini-Hochberg over the features that were
   chosen often.
5. Pole or topic, and specific: as in `contrast`, from effects adjusted for all values.

Rows kept: features chosen in at least half of the fits, one each. Left out: negative weights (a
value's absence), and whole contexts left out of a half: a value's topic would go with them.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from feature_store.bounds import MANY, Between, Count, Positive, Seed, Share
from feature_store.records import Label, ValueSystem
from feature_store.registry import register
from workbench.features.evidence import LabelVerdict, MarkEvidence
from workbench.features.labelers import LabelledActivations
from workbench.statistics.intervals import benjamini_hochberg
from workbench.statistics.marked import permuted

NEAR = 0.5
"""Smallest share of the fits that choose a feature which is kept as evidence [0 to 1]."""
LARGEST_THRESHOLD = 0.9
"""Largest threshold; Meinshausen and Buehlmann advise 0.6 to 0.9 [0 to 1]."""
LIGHT = 10.0
"""How much lighter the penalty on contexts is than that on a feature."""
STEP = 1.3
"""Factor between penalties that are tried until a fit chooses enough features."""
STEPS = 30
"""Penalties that are tried at most."""


@dataclass(frozen=True)
class ProbeLabelerSettings:
    """How often features are chosen, how many by chance, and what held-out documents must say."""

    subsamples: Annotated[int, Between(10, MANY)] = 50
    """Halves of the documents that are fitted, an even number [fits a comparison]."""
    per_fit: Count = 20
    """Features that a fit chooses at most [features]."""
    max_false: Positive = 0.5
    """Features that are expected to pass the threshold by chance, at most [features a
    comparison]."""
    threshold: Share = 0.0
    """Share of the fits that must choose a feature [0 to 1]; 0: that at which the bound is
    max_false."""
    max_q: Share = 0.05
    """Largest false discovery rate of the held-out gain [0 to 1]."""
    permutations: Count = 2000
    """Permutations of the held-out marks behind it."""
    min_effect: float = 0.1
    """Smallest effect of an accepted label [SD]."""
    specificity: float = 0.6
    """Largest effect of the runner-up, as a share of the best [0 to 1]."""
    min_score: float = 0.5
    """Smallest held-out AUROC [0 to 1]."""
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
    """Seed of the split, the halves and the permutations."""


class Bound(NamedTuple):
    """How many features are expected to be chosen by chance, and what follows from it."""

    per_fit: int
    """Features that a fit chooses at most [features]."""
    threshold: float
    """Share of the fits that must choose a feature [0 to 1]."""
    expected: float
    """Features expected to pass it by chance, at most [features a comparison]; infinite where the
    threshold is not above one half."""

    @classmethod
    def of(cls, features: int, settings: ProbeLabelerSettings) -> "Bound":
        """Choose the threshold at which at most `max_false` of `features` pass by chance."""
        most = features * settings.max_false
        fewer = int(np.sqrt((2 * LARGEST_THRESHOLD - 1) * most))
        per_fit = max(min(settings.per_fit, fewer), 1)
        threshold = settings.threshold or min((1 + per_fit**2 / most) / 2, LARGEST_THRESHOLD)
        above = 2 * threshold - 1
        expected = per_fit**2 / (above * features) if above > 0 else np.inf
        return cls(per_fit, threshold, expected)


class Stability(NamedTuple):
    """What the fits on the halves chose."""

    share: Float[np.ndarray, "test live"]
    """Share of the fits that chose each feature [0 to 1]."""
    weight: Float[np.ndarray, "test live"]
    """Its mean weight over them, 0 where it was not chosen [log odds per SD]."""


@register("labelers", "probe")
class SparseProbe:
    """Features that a sparse logistic regression chooses in most halves of the texts."""

    config = ProbeLabelerSettings

    @staticmethod
    def label(
        data: LabelledActivations, system: ValueSystem, settings: ProbeLabelerSettings
    ) -> list[Label]:
        """Give every feature that the fits chose often, for the comparison it was chosen in."""
        evidence = MarkEvidence.of(data, system, settings)
        live = len(evidence.features.live)
        if not live:
            return []
        bound = Bound.of(live, settings)
        halves = list(halves_of(data, evidence, settings))
        stability = choose_on(halves, evidence, bound.per_fit)
        return labels_of(evidence, stability, bound, settings)


def halves_of(
    data: LabelledActivations, evidence: MarkEvidence, settings: ProbeLabelerSettings
) -> Iterator[Int[np.ndarray, " row"]]:
    """Draw halves of every context's documents of the fit, pairs together; each after the other
    half. Rows count within the fit.
    """
    rows = evidence.split.fit
    fitted = LabelledActivations(
        activations=data.activations[rows],
        values=data.values[rows],
        contexts=data.contexts[rows],
        pairs=None if data.pairs is None else data.pairs[rows],
    )
    rng = np.random.default_rng((settings.seed, 2))
    for _ in range(settings.subsamples // 2):
        is_second = fitted.is_held_out(0.5, rng)
        yield np.flatnonzero(~is_second)
        yield np.flatnonzero(is_second)


def choose_on(
    halves: list[Int[np.ndarray, " _"]], evidence: MarkEvidence, per_fit: int
) -> Stability:
    """Fit every comparison on every half, and count which features are chosen."""
    design = _design(evidence)
    parts = [design[half] for half in halves]
    carried = evidence.carried[evidence.split.fit]
    live = len(evidence.features.live)
    share = np.zeros((carried.shape[1], live))
    weight = np.zeros_like(share)
    for test, truth in enumerate(carried.T):
        strength = _strength(parts[0], truth[halves[0]], live, per_fit)
        for part, half in zip(parts, halves, strict=True):
            fitted = _weights(part, truth[half], live, strength)
            chosen = np.argsort(-fitted, kind="stable")[:per_fit]
            chosen = chosen[fitted[chosen] > 0]
            share[test, chosen] += 1 / len(halves)
            weight[test, chosen] += fitted[chosen] / len(halves)
    return Stability(share, weight)


def _design(evidence: MarkEvidence) -> sparse.csr_matrix:
    """Give the documents of the fit: live features in units of their SD, then the contexts."""
    rows = evidence.split.fit
    columns = evidence.features.columns[rows]
    mean = np.asarray(columns.mean(0)).ravel()
    square = np.asarray(columns.multiply(columns).mean(0)).ravel()
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    scale = sparse.diags(1 / np.where(sd > 0, sd, 1.0))
    strata = np.unique(evidence.split.strata[rows], return_inverse=True)[1]
    places = (np.arange(len(rows)), strata)
    contexts = sparse.csr_matrix((np.full(len(rows), LIGHT), places))
    return sparse.hstack([columns @ scale, contexts], format="csr")


def _strength(
    part: sparse.csr_matrix, truth: Bool[np.ndarray, " row"], live: int, wanted: int
) -> float:
    """Find the weakest penalty at which a half just chooses the features that are wanted.

    It is scikit-learn's C: one over the penalty.
    """
    from sklearn.svm import l1_min_c

    if not _is_mixed(truth):
        return 1.0
    strength = float(l1_min_c(part, truth, loss="log"))
    for _ in range(STEPS):
        strength *= STEP
        if (_weights(part, truth, live, strength) > 0).sum() >= wanted:
            break
    return strength


def _weights(
    part: sparse.csr_matrix, truth: Bool[np.ndarray, " row"], live: int, strength: float
) -> Float[np.ndarray, " live"]:
    """Fit one regression and give the features' weights; zeros where all texts are alike."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if not _is_mixed(truth):
        return np.zeros(live)
    model = LogisticRegression(
        l1_ratio=1.0,
        C=strength,
        solver="liblinear",
        tol=1e-3,
        intercept_scaling=LIGHT,
        random_state=0,  # the solver's order of features, otherwise another one in each call
    )
    with warnings.catch_warnings():
        # What has not settled after all steps is a weight's last digit, not what is chosen.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(part, truth)
    return np.asarray(model.coef_)[0, :live]


def _is_mixed(truth: Bool[np.ndarray, " row"]) -> bool:
    """Whether there are texts with the mark and texts without it."""
    return bool(truth.any() and not truth.all())


def labels_of(
    evidence: MarkEvidence, stability: Stability, bound: Bound, settings: ProbeLabelerSettings
) -> list[Label]:
    """Give the rows of the features that were chosen often, sorted by feature."""
    every = np.arange(stability.share.shape[1])
    # Several values may choose a feature in every fit; then the larger weight decides.
    rank = stability.share + 1e-3 * stability.weight / (1 + stability.weight.max(initial=0))
    best = rank[: evidence.n_marks].argmax(0)
    compared = evidence.pole_or_topic(best, settings.specificity)
    is_kept = (stability.share[compared, every] >= NEAR) & (evidence.effect[compared, every] > 0)
    kept = np.flatnonzero(is_kept)
    p = _permuted_p(evidence, compared, kept, settings)
    q = benjamini_hochberg(p)
    rows = []
    for k, feature in enumerate(kept.tolist()):
        test = int(compared[feature])
        outside = evidence.on_held_out(test, kept[[k]])
        share = float(stability.share[test, feature])
        accepted = (
            share >= bound.threshold
            and q[k] <= settings.max_q
            and evidence.effect[test, feature] >= settings.min_effect
            and evidence.rival_share[test, feature] <= settings.specificity
            and outside.score[0] >= settings.min_score
            and outside.effective[0] >= settings.min_held_out
        )
        reasons = {
            "chosen_in": share,
            "threshold": bound.threshold,
            "by_chance_at_most": bound.expected,
            "per_fit": bound.per_fit,
            "weight": float(stability.weight[test, feature]),
        }
        verdict = LabelVerdict(
            method="probe",
            p=float(p[k]),
            q=float(q[k]),
            accepted=bool(accepted),
            evidence=reasons,
        )
        rows.append(evidence.label(test, feature, outside, 0, verdict))
    return rows


def _permuted_p(
    evidence: MarkEvidence,
    compared: Int[np.ndarray, " live"],
    kept: Int[np.ndarray, " row"],
    settings: ProbeLabelerSettings,
) -> Float[np.ndarray, " row"]:
    """Give the one-sided p of each kept feature's gain: marks permuted within contexts.

    The base rate is the same under every permutation, so precision alone is compared.
    """
    documents = evidence.split.test
    strata = evidence.split.strata[documents]
    rng = np.random.default_rng((settings.seed, 3))
    orders = np.stack([permuted(strata, rng) for _ in range(settings.permutations)])
    columns = evidence.features.columns[documents]
    p = np.empty(len(kept))
    for test in np.unique(compared[kept]):
        of_test = np.flatnonzero(compared[kept] == test)
        active = columns[:, kept[of_test]].toarray()
        truth = evidence.carried[documents, test].astype(float)
        seen = truth @ active
        drawn = truth[orders] @ active
        as_large = (drawn >= seen * (1 - 1e-12)).sum(0)
        p[of_test] = (1 + as_large) / (1 + settings.permutations)
    return p
