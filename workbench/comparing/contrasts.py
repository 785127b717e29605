"""How two profiles of the same instrument differ, value by value.

1. *Paired* where both were asked the same questions: differences by cluster (context, or group of
   items), their mean with the studentised interval of `statistics.bootstrap_mean`.
2. *Unpaired* where contexts or wordings differ: Welch's t interval over the clusters of each.
3. q after Benjamini-Hochberg over all values and subjects of the instrument.

Differences are between centred profiles: who agrees more with everything differs in nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from workbench.measuring.profiles import Cells
from workbench.statistics.intervals import benjamini_hochberg, bootstrap_mean, known_mean


class Difference(NamedTuple):
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
    """`other` less `reference`, centred, over the values of the reference; NaN where one side
    has none.
    """
    theirs = _columns(other, reference.values)
    if not paired:
        return _welch(reference.centred, theirs)
    rows = {cluster: row for row, cluster in enumerate(other.clusters)}
    shared = [
        (row, rows[cluster]) for row, cluster in enumerate(reference.clusters) if cluster in rows
    ]
    mine, his = ([pair[side] for pair in shared] for side in (0, 1))
    return Difference(*bootstrap_mean(theirs[his] - reference.centred[mine], replicates, seed))


def _columns(cells: Cells, values: Sequence[str]) -> Float[np.ndarray, "cluster value"]:
    found = np.full((len(cells.clusters), len(values)), np.nan)
    for column, value in enumerate(values):
        if value in cells.values:
            found[:, column] = cells.centred[:, cells.values.index(value)]
    return found


def _welch(a: Float[np.ndarray, "cluster value"], b: Float[np.ndarray, "row value"]) -> Difference:
    n = np.minimum(np.isfinite(a).sum(0), np.isfinite(b).sum(0))
    low, high, p = np.full((3, a.shape[1]), np.nan)
    for column in np.flatnonzero(n > 1):
        found = stats.ttest_ind(
            *(x[np.isfinite(x[:, column]), column] for x in (b, a)), equal_var=False
        )
        low[column], high[column] = found.confidence_interval(0.95)
        p[column] = found.pvalue
    return Difference(mean=known_mean(b, 0) - known_mean(a, 0), low=low, high=high, p=p, n=n)


def rows(
    instrument: str,
    reference: str,
    found: dict[str, tuple[Difference, bool]],
    cells: dict[str, Cells],
) -> list[dict[str, Any]]:
    """Rows of the relation `contrasts`: subject -> its difference and whether it is paired."""
    values = cells[reference].values
    q = benjamini_hochberg(np.array([told.p for told, _ in found.values()])) if found else []
    before = known_mean(cells[reference].centred, 0)
    return [
        {
            "instrument": instrument,
            "reference": reference,
            "subject": subject,
            "value": value,
            "before": float(before[k]),
            "difference": float(told.mean[k]),
            "low": float(told.low[k]),
            "high": float(told.high[k]),
            "p": float(told.p[k]),
            "q": float(own[k]),
            "n": int(told.n[k]),
            "paired": paired,
        }
        for (subject, (told, paired)), own in zip(found.items(), q, strict=True)
        for k, value in enumerate(values)
    ]
