"""How two profiles of the same instrument differ, value by value.

1. *Paired* where both were asked the same questions: differences by cluster (context, or group of
   items), their mean with the studentised interval of `statistics.bootstrap_mean`.
2. *Unpaired* where contexts or wordings differ: Welch's t interval over the clusters of each.
3. q after Benjamini-Hochberg over all values and subjects of the instrument.

Differences are between centred profiles: who agrees more with everything differs in nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from workbench.measuring.profiles import Cells
from workbench.statistics.intervals import benjamini_hochberg, bootstrap_mean, known_mean


class Difference(NamedTuple):
    """How one profile differs from another, value by value."""

    mean: Float[np.ndarray, " value"]
    """Other less reference [rating points, or scores of what was chosen]."""
    low: Float[np.ndarray, " value"]
    """Lower end of the 95 % interval."""
    high: Float[np.ndarray, " value"]
    """Upper end of it."""
    p: Float[np.ndarray, " value"]
    """Two-sided p of no difference [0 to 1]."""
    n: np.ndarray
    """Clusters: pairs, or those of the smaller side."""


def difference(
    reference: Cells, other: Cells, paired: bool, replicates: int, seed: int
) -> Difference:
    """Subtract the centred reference from the other profile, over the reference's values.

    `paired`: both were asked the same questions. NaN where one side has no answer.

        change = difference(cells["base"], cells["power+"], paired=True, replicates=2000, seed=0)
        change.mean  # in the order of cells["base"].values
    """
    theirs = _columns(other, reference.values)
    if not paired:
        return _welch(reference.centred, theirs)
    row = {cluster: number for number, cluster in enumerate(other.clusters)}
    shared = [cluster for cluster in reference.clusters if cluster in row]
    reference_rows = [number for number, c in enumerate(reference.clusters) if c in row]
    changes = theirs[[row[c] for c in shared]] - reference.centred[reference_rows]
    return Difference(*bootstrap_mean(changes, replicates, seed))


def _columns(cells: Cells, values: Sequence[str]) -> Float[np.ndarray, "cluster value"]:
    """Give the centred cells of some values; NaN where a value was not measured."""
    columns = np.full((len(cells.clusters), len(values)), np.nan)
    for number, value in enumerate(values):
        if value in cells.values:
            columns[:, number] = cells.centred[:, cells.values.index(value)]
    return columns


def _welch(a: Float[np.ndarray, "cluster value"], b: Float[np.ndarray, "row value"]) -> Difference:
    """Subtract `a` from `b` as independent samples, with Welch's interval and p."""
    n = np.minimum(np.isfinite(a).sum(0), np.isfinite(b).sum(0))
    low, high, p = np.full((3, a.shape[1]), np.nan)
    for column in np.flatnonzero(n > 1):
        samples = [x[np.isfinite(x[:, column]), column] for x in (b, a)]
        test = stats.ttest_ind(*samples, equal_var=False)
        low[column], high[column] = test.confidence_interval(0.95)
        p[column] = test.pvalue
    return Difference(mean=known_mean(b, 0) - known_mean(a, 0), low=low, high=high, p=p, n=n)


def rows(
    instrument: str,
    reference: str,
    differences: Mapping[str, tuple[Difference, bool]],
    cells: Mapping[str, Cells],
) -> list[dict[str, Any]]:
    """Give the rows of the relation `contrasts` on one instrument.

    `differences`: subject -> its difference to the reference, and whether it is paired.
    """
    if not differences:
        return []
    values = cells[reference].values
    q = benjamini_hochberg(np.array([change.p for change, _ in differences.values()]))
    before = known_mean(cells[reference].centred, 0)
    return [
        {
            "instrument": instrument,
            "reference": reference,
            "subject": subject,
            "value": value,
            "before": float(before[k]),
            "difference": float(change.mean[k]),
            "low": float(change.low[k]),
            "high": float(change.high[k]),
            "p": float(change.p[k]),
            "q": float(q[row, k]),
            "n": int(change.n[k]),
            "paired": paired,
        }
        for row, (subject, (change, paired)) in enumerate(differences.items())
        for k, value in enumerate(values)
    ]
