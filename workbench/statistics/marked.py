"""Regressions of many sparse columns on the marks of texts, and limits that chance rarely passes.

1. `marks_of` splits the marks of every value into held and rejected, and says what is tested: each
   of both against texts without it, and, where texts of both poles are there, whether the value is
   spoken of at all.
2. `regress` is one regression a column on all marks and a dummy per stratum: `a = stratum + X beta
   + e`. By Frisch and Waugh the dummies are removed from X alone, so all columns together cost one
   sparse product. Errors are White's (HC1): activations are sparse and skewed.
3. `permuted` shuffles whole rows of marks within strata: whatever the columns have to do with the
   strata, and marks with one another, stays.
4. `limit_by_chance` compares a statistic with the same statistic of permuted studies: the smallest
   limit past which at most a stated share is there by chance (Storey & Tibshirani 2003, without the
   estimate of the share of true nulls).

Left out: which columns are worth a name; that is the labelers'.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy import sparse

from feature_store.errors import BadInput

TOLERANCE = 1e-9
"""Singular values of the marks below this share of the largest are taken for 0."""
ENTRIES = 1_000_000
"""Stored entries whose fitted values are computed at a time: bounds memory."""

Part = Literal["pole", "topic"]
"""What a difference is of: the pole, held or rejected, or that a value is spoken of at all."""


class Comparison(NamedTuple):
    """A difference that is tested: texts with a mark against texts without it."""

    value: str
    """Id of the value."""
    polarity: Literal[-1, 1]
    """+1: texts that hold it, or speak of it; -1: texts that reject it."""
    part: Part
    """`pole`: of texts on one side, where the other was tested as well; `topic`: of texts that
    speak of the value, on either side, or on the only one that is there."""


class MarkedTexts(NamedTuple):
    """The marks of texts, and the tests that they allow."""

    shares: Float[np.ndarray, "text mark"]
    """How far each text carries each mark [0 to 1]."""
    tests: list[Comparison]
    """The tests: one a mark in their order, then the topics."""
    combine: Float[np.ndarray, "test mark"]
    """What each test makes of the marks' coefficients."""

    @property
    def single(self) -> list[Comparison]:
        """The tests of one mark each, in the order of the marks."""
        return self.tests[: self.shares.shape[1]]

    @property
    def poles(self) -> dict[int, tuple[int, int]]:
        """Test of a topic -> the marks held and rejected that it is made of."""
        return {
            topic: (int(held), int(rejected))
            for topic in range(len(self.single), len(self.tests))
            for held, rejected in [np.flatnonzero(self.combine[topic])]
        }

    @property
    def carried(self) -> Bool[np.ndarray, "text test"]:
        """Whether a text carries what is tested."""
        return (self.shares > 0).astype(float) @ (self.combine.T > 0) > 0

    def of(self, rows: Int[np.ndarray, " row"]) -> "MarkedTexts":
        """Give the marks of some texts."""
        return self._replace(shares=self.shares[rows])


def marks_of(
    values: Num[np.ndarray, "text value"],
    ids: Sequence[str],
    counted: Int[np.ndarray, " row"],
    fewest: int,
) -> MarkedTexts:
    """Say which marks are tested: those that at least `fewest` of the `counted` texts carry.

    `values` are from -1, rejected, to 1, held; `ids` are the ids of the columns.
    """
    shares = np.hstack([np.maximum(values, 0), np.maximum(-values, 0)])
    carried = (shares[counted] > 0).sum(0) >= fewest
    n = len(ids)
    both = carried[:n] & carried[n:]
    tested, topics = np.flatnonzero(carried).tolist(), np.flatnonzero(both).tolist()
    tests = [
        Comparison(ids[k % n], 1 if k < n else -1, "pole" if both[k % n] else "topic")
        for k in tested
    ]
    tests += [Comparison(ids[k], 1, "topic") for k in topics]
    combine = np.zeros((len(tests), len(tested)))
    combine[: len(tested)] = np.eye(len(tested))
    for row, k in enumerate(topics, start=len(tested)):
        combine[row, np.isin(tested, (k, k + n))] = 0.5
    return MarkedTexts(shares=shares[:, tested], tests=tests, combine=combine)


def permuted(
    strata: Int[np.ndarray, " text"], rng: np.random.Generator
) -> Int[np.ndarray, " text"]:
    """Draw, for every text, another text of its stratum, each once."""
    drawn = np.empty(len(strata), int)
    drawn[np.argsort(strata, kind="stable")] = np.lexsort((rng.random(len(strata)), strata))
    return drawn


def limit_by_chance(
    statistic: Float[np.ndarray, " row"],
    by_chance: Sequence[np.ndarray],
    share: float,
) -> float:
    """Give the smallest limit past which at most `share` of the rows is there by chance.

    `by_chance` holds the same statistic of permuted studies, an array each. One more than was drawn
    is counted, so that few permutations cannot claim that chance makes nothing. A share of 1 is no
    limit; infinity where no limit will do.
    """
    if share >= 1:
        return -np.inf
    ranked = np.sort(statistic)[::-1]
    drawn = np.sort(np.concatenate([*by_chance, np.empty(0)]))
    past = 1 + len(drawn) - np.searchsorted(drawn, ranked)
    expected = past / max(len(by_chance), 1)
    passing = np.flatnonzero(expected <= share * np.arange(1, len(ranked) + 1))
    return float(ranked[passing[-1]]) if len(passing) else np.inf


class MarkFit(NamedTuple):
    """A regression of every column on all marks, and what each test makes of it."""

    beta: Float[np.ndarray, "test column"]
    """Adjusted difference [unit of the column]."""
    se: Float[np.ndarray, "test column"]
    """Its robust standard error [unit of the column]."""
    sd: Float[np.ndarray, " column"]
    """Residual SD within strata and marks [unit of the column]."""
    degrees: int
    """Degrees of freedom of the residuals."""


class Design(NamedTuple):
    """Marks and stratum dummies, on which every column is regressed."""

    x: Float[np.ndarray, "text mark"]
    """Marks, less their means within the stratum."""
    combine: Float[np.ndarray, "test mark"]
    """What each test makes of the marks' coefficients."""
    strata: Int[np.ndarray, " text"]
    """0-based stratum of each text."""
    averager: sparse.csr_matrix
    """Takes means within strata [stratum, text]."""
    degrees: int
    """Degrees of freedom of the residuals."""

    @classmethod
    def of(cls, marks: MarkedTexts, strata: Int[np.ndarray, " text"]) -> "Design":
        """Lay out the design. Raises BadInput where fewer than ten degrees of freedom are left."""
        texts = len(strata)
        used, strata = np.unique(strata, return_inverse=True)
        averager = stratum_means(strata, len(used))
        x = marks.shares.astype(float)
        x -= (averager @ x)[strata]
        degrees = texts - len(used) - int(np.linalg.matrix_rank(x, rtol=TOLERANCE))
        if degrees < 10:
            raise BadInput(
                f"{texts} texts in {len(used)} contexts leave {degrees} degrees of freedom, at"
                " least 10 are needed. Use wider contexts."
            )
        return cls(x=x, combine=marks.combine, strata=strata, averager=averager, degrees=degrees)

    def influence(self) -> Float[np.ndarray, "mark text"]:
        """Give what each text adds to each mark's coefficient.

        Where marks cannot be told apart (every text carries one of them), coefficients are the
        smallest that fit. The tolerance is far above rounding, which would pass for a difference.
        """
        return np.linalg.pinv(self.x, rcond=TOLERANCE)


def regress(columns: sparse.csc_matrix, design: Design) -> MarkFit:
    """Regress every column on marks and stratum dummies, with HC1 standard errors."""
    x, combine, strata, averager, degrees = design
    influence = design.influence()
    beta = influence @ columns
    # Row 0 weighs all texts alike and gives the residual variance; the others are White's.
    weights = np.vstack([np.ones(len(x)), (combine @ influence) ** 2])
    squares = np.maximum(_weighted_squares(columns, x, beta, averager, strata, weights), 0.0)
    return MarkFit(
        beta=combine @ beta,
        se=np.sqrt(squares[1:] * len(x) / degrees),
        sd=np.sqrt(squares[0] / degrees),
        degrees=degrees,
    )


def _weighted_squares(
    columns: sparse.csc_matrix,
    x: np.ndarray,
    beta: np.ndarray,
    averager: sparse.csr_matrix,
    strata: np.ndarray,
    weights: np.ndarray,
) -> Float[np.ndarray, "weight column"]:
    """Sum weight x (a - x beta - mu)^2 over texts, mu the stratum's mean, sparsely.

    Only entries enter a^2 - 2 a h, h being the fitted value; h^2 = (x beta)^2 + 2 x beta mu + mu^2
    splits into sums over texts that do not depend on the column, or run over the sparse
    stratum means. The cost is that of the entries.
    """
    means = (averager @ columns).tocsc()
    place = np.repeat(np.arange(columns.shape[1]), np.diff(columns.indptr))
    row, fitted = columns.indices, np.empty(columns.nnz)
    for start in range(0, len(row), ENTRIES):
        part = slice(start, start + ENTRIES)
        fitted[part] = (x[row[part]] * beta.T[place[part]]).sum(1)
    _, group = np.unique(place * len(averager.indptr) + strata[row], return_inverse=True)
    size = np.diff(averager.indptr)[strata[row]]
    fitted += (np.bincount(group, columns.data / size))[group] if len(group) else 0.0
    entries = columns.copy()
    entries.data = columns.data * (columns.data - 2 * fitted)
    total = weights @ entries
    by_stratum = sparse.csr_matrix(
        (np.ones(len(strata)), (strata, np.arange(len(strata)))), shape=averager.shape
    )
    for k, weight in enumerate(weights):
        weighted = x * weight[:, None]
        total[k] += ((x.T @ weighted @ beta + 2 * (by_stratum @ weighted).T @ means) * beta).sum(0)
    return total + (by_stratum @ weights.T).T @ means.multiply(means).tocsc()


def stratum_means(strata: Int[np.ndarray, " text"], count: int) -> sparse.csr_matrix:
    """Build the matrix that takes the mean of each stratum [stratum, text].

    Rows of strata without texts are 0.
    """
    size = np.bincount(strata, minlength=count)
    rows = np.arange(len(strata))
    return sparse.csr_matrix((1 / size[strata], (strata, rows)), shape=(count, len(strata)))


def held_out(
    strata: Int[np.ndarray, " text"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " text"]:
    """Draw a random `share` of every stratum.

    What a small stratum cannot split evenly is carried to the next.
    """
    shuffled = rng.permutation(len(strata))
    in_order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    steps = np.floor(np.arange(len(strata) + 1) * share)
    is_drawn = np.zeros(len(strata), bool)
    is_drawn[in_order[np.diff(steps) > 0]] = True
    return is_drawn
