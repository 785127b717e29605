"""Whether marks of texts can be read off vectors: a linear probe on folds that it has not seen,
with its interval and its permutation null.

1. `folds_of` keeps the texts of a context in one fold where there are contexts enough, so that no
   probe has seen the topic on which it is tested.
2. `held_out_scores` fits a ridge regression of each column of marks on the vectors of the other
   folds; dimensions are standardised, and each column takes the penalty of the smallest generalised
   cross-validation error (Golub, Heath & Wahba 1979). All columns share one decomposition a fold,
   so that a hundred permutations cost little.
3. `paired_auroc` compares held with other texts within a stratum (fold and context) alone: a topic
   that goes with a value tells nothing there.
4. The interval is bootstrapped over strata, or DeLong's within them where they are few (DeLong,
   DeLong & Clarke-Pearson 1988).
5. The null permutes marks within contexts, fits anew, and gives the 97.5 % quantile of its AUROC.

Left out: non-linear probes, and which tokens say it; a text is one vector.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from workbench.statistics import marked
from workbench.statistics.intervals import bootstrap_ratio

FOLDS = 5
"""Parts of the texts, each of which is held out once."""
FEW_STRATA = 20
"""Below so many strata with a pair in them, DeLong's interval stands in for the bootstrap's."""
PENALTIES = np.array([0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0])
"""Ridge penalties that are tried [share of the mean eigenvalue]."""
REPLICATES = 1000
"""Bootstrap replicates behind an interval."""


class Folds(NamedTuple):
    """Which texts are fitted together, compared together, and permuted together."""

    fold: Int[np.ndarray, " text"]
    """Fold in which each text is held out."""
    stratum: Int[np.ndarray, " text"]
    """Texts are compared within a stratum: a context, within a fold."""
    context: Int[np.ndarray, " text"]
    """Marks are permuted within a context."""


class Readable(NamedTuple):
    """How well each value's mark is read; every field has one entry a value."""

    auroc: Float[np.ndarray, " value"]
    """Held-out AUROC within strata [0 to 1, 0.5 = chance]; NaN without a pair."""
    low: Float[np.ndarray, " value"]
    """Lower end of its 95 % interval."""
    high: Float[np.ndarray, " value"]
    """Upper end of it."""
    null: Float[np.ndarray, "permutation value"]
    """The same AUROC with permuted marks."""


def design_of(contexts: np.ndarray, seed: int) -> Folds:
    """Draw folds: of whole contexts where there are two a fold or more, else of texts.

    design_of(np.array(["parks", "parks", "banks"]), seed=0)
    """
    context = np.unique(contexts, return_inverse=True)[1]
    n = int(context.max()) + 1
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(context)) % FOLDS
    if n >= 2 * FOLDS:
        # The largest first, each into the emptiest fold, so that folds are of a size.
        sizes, filled, of_context = np.bincount(context), np.zeros(FOLDS), np.zeros(n, int)
        for topic in sorted(rng.permutation(n).tolist(), key=lambda c: -sizes[c]):
            of_context[topic] = int(filled.argmin())
            filled[of_context[topic]] += sizes[topic]
        fold = of_context[context]
    return Folds(fold=fold, stratum=fold * n + context, context=context)


def permuted(
    marks: Bool[np.ndarray, "text value"], design: Folds, permutations: int, seed: int
) -> Bool[np.ndarray, "text permutation value"]:
    """Permute the rows of marks within contexts, again and again."""
    rng = np.random.default_rng((seed, 2))
    drawn = [marked.permuted(design.context, rng) for _ in range(permutations)]
    return marks[np.stack(drawn, axis=1)]


def readable(
    vectors: Float[np.ndarray, "text d"],
    marks: Bool[np.ndarray, "text value"],
    shuffled: Bool[np.ndarray, "text permutation value"],
    design: Folds,
    seed: int,
) -> Readable:
    """Say how well each value's mark is read off the vectors, beside permuted marks.

    design = design_of(contexts, 0)
    readable(vectors, marks, permuted(marks, design, 100, 0), design, 0).auroc  # [value]
    """
    values, permutations = marks.shape[1], shuffled.shape[1]
    columns = np.concatenate([marks, shuffled.reshape(len(marks), -1)], axis=1)
    scores = held_out_scores(vectors, columns, design.fold)
    wins, pairs = paired_auroc(scores, columns, design.stratum)
    total = pairs.sum(0)
    auroc = np.divide(wins.sum(0), total, out=np.full(len(total), np.nan), where=total > 0)
    low, high = _interval(scores[:, :values], marks, design.stratum, seed)
    return Readable(
        auroc=auroc[:values],
        low=low,
        high=high,
        null=auroc[values:].reshape(permutations, values),
    )


def held_out_scores(
    vectors: Float[np.ndarray, "text d"],
    marks: Bool[np.ndarray, "text column"],
    fold: Int[np.ndarray, " text"],
) -> Float[np.ndarray, "text column"]:
    """Predict every column of marks on the fold that its ridge regression has not seen."""
    out = np.zeros(marks.shape)
    for held in np.unique(fold):
        train, test = fold != held, fold == held
        centre, spread = vectors[train].mean(0), vectors[train].std(0)
        spread[spread <= 1e-12 * np.abs(centre).max(initial=1e-12)] = np.inf
        x, x_test = (vectors[train] - centre) / spread, (vectors[test] - centre) / spread
        y = marks[train] - marks[train].mean(0)
        power, basis = np.linalg.eigh(x @ x.T)
        power = np.maximum(power, 0.0)
        along = basis.T @ y
        penalty = _penalties(power, along)
        out[test] = (x_test @ x.T) @ (basis @ (along / (power[:, None] + penalty)))
    return out


def _penalties(
    power: Float[np.ndarray, " n"], along: Float[np.ndarray, "n column"]
) -> Float[np.ndarray, " column"]:
    """Choose each column's penalty by generalised cross-validation, from eigenvalues and basis."""
    tried = PENALTIES * max(float(power.sum()) / len(power), 1e-12)
    left = tried[:, None] / (power + tried[:, None])
    error = (left**2 @ along**2) / left.sum(1)[:, None] ** 2
    return tried[error.argmin(0)]


def paired_auroc(
    scores: Float[np.ndarray, "text column"],
    marks: Bool[np.ndarray, "text column"],
    stratum: Int[np.ndarray, " text"],
) -> tuple[Float[np.ndarray, "stratum column"], Float[np.ndarray, "stratum column"]]:
    """Count the pairs of a marked and another text in each stratum, and those that are told right.

    Gives (told right, all); a tie is half right.
    """
    wins, pairs = [], []
    for number in np.unique(stratum):
        rows = stratum == number
        held = marks[rows].sum(0)
        rank_sum = (stats.rankdata(scores[rows], axis=0) * marks[rows]).sum(0)
        wins.append(rank_sum - held * (held + 1) / 2)
        pairs.append(held * (rows.sum() - held))
    # Without both kinds there is no pair, and nothing to win.
    return np.where(np.array(pairs) > 0, wins, 0.0).astype(float), np.array(pairs, float)


def _interval(
    scores: Float[np.ndarray, "text value"],
    marks: Bool[np.ndarray, "text value"],
    stratum: Int[np.ndarray, " text"],
    seed: int,
) -> tuple[Float[np.ndarray, " value"], Float[np.ndarray, " value"]]:
    """Give the ends of the 95 % interval of every value's AUROC within strata."""
    wins, pairs = paired_auroc(scores, marks, stratum)
    low, high = np.full(marks.shape[1], np.nan), np.full(marks.shape[1], np.nan)
    for value in range(marks.shape[1]):
        informative = pairs[:, value] > 0
        if informative.sum() >= FEW_STRATA:
            clusters = wins[informative][:, [value]], pairs[informative][:, [value]]
            interval = bootstrap_ratio(*clusters, REPLICATES, seed)
            low[value], high[value] = interval.low[0], interval.high[0]
        elif informative.any():
            mean = wins[:, value].sum() / pairs[:, value].sum()
            error = delong(scores[:, value], marks[:, value], stratum)
            low[value], high[value] = mean - 1.96 * error, mean + 1.96 * error
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def delong(
    scores: Float[np.ndarray, " text"],
    marks: Bool[np.ndarray, " text"],
    stratum: Int[np.ndarray, " text"],
) -> float:
    """Give the standard error of an AUROC within strata, each weighted by its pairs."""
    variance, pairs = 0.0, 0.0
    for number in np.unique(stratum):
        rows = stratum == number
        held, rest = scores[rows & marks], scores[rows & ~marks]
        if not len(held) or not len(rest):
            continue
        right = (held[:, None] > rest) + 0.5 * (held[:, None] == rest)
        parts = [
            (side.var(ddof=1) if len(side) > 1 else 0.25) / len(side)
            for side in (right.mean(1), right.mean(0))
        ]
        weight = len(held) * len(rest)
        variance += weight**2 * sum(parts)
        pairs += weight
    return float(np.sqrt(variance) / pairs)
