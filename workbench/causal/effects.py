"""From a sweep's ratings to effects: dose-response, the value x value matrix, null bands, leakage.

1. `E_f->j(s) = mean_p[y_j(p, f, s) - y_j(p, 0)] / sigma_j`: paired by prompt context p, in units of
   sigma_j, the SD of the unsteered ratings over contexts. sigma_j is a unit of measurement and held
   fixed in every interval.
2. Features are compared at s*, the strength of equal damage (`sweeps/damage.py`), turned so that
   their value rises.
3. `M[i,j]` is the mean over value i's features; its interval is bootstrapped over contexts, jointly
   for all cells. A star speaks of the value, so it must hold in other contexts and with other
   features of the value: p is the larger one of both (`across_features`), and q is
   Benjamini-Hochberg over the cells off the diagonal. With one feature a value, p speaks of that
   feature alone.
4. The null band draws as many controls (random features, random directions) as the value has
   features, each at its own s* and with a random sign, and takes the 2.5 % and 97.5 % quantiles of
   their mean.
5. Leakage says how much of a value's steering goes to the others (`sweeps/leakage.py`).

Left out: the uncertainty of s*, and in the intervals that of which features were chosen (p has it;
the graph resamples features).
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from feature_store.errors import BadInput
from feature_store.records import SideEffect, ValueSystem
from workbench.statistics.circle import Circumplex, angles, fit
from workbench.statistics.intervals import (
    Correlation,
    Interval,
    benjamini_hochberg,
    bootstrap_mean,
    cluster_weights,
    known_mean,
    permuted_spearman,
    repeated_mean,
    replicate_means,
)
from workbench.sweeps.damage import Matched, Sweep, match
from workbench.sweeps.leakage import EffectMatrix, leakage

DRAWS = 2000
"""Draws of controls behind a null band; permutations behind a p."""


class Effects(NamedTuple):
    """All that a sweep says about effects, ready for the store."""

    side_effects: list[SideEffect]
    """The matrix, source by source; rows of `side_effects`."""
    dose_effects: list[dict[str, Any]]
    """Rows of `dose_effects`."""
    matched: Matched
    """Every unit at s*; the graph is made from it."""
    leakage: list[dict[str, Any]]
    """Rows of `leakage`."""
    circle: Correlation
    """Spearman of the cells off the diagonal with the cosine of their angle, labels permuted."""
    circumplex: dict[str, Circumplex]
    """Source value -> the circle through its row [SD]."""


def dose_effects(sweep: Sweep, replicates: int, seed: int, looks: int = 1) -> list[dict[str, Any]]:
    """Compute the effect of every intervention on every value, with its interval.

    Rows of `dose_effects`, in unsteered SD; not turned by polarity.
    """
    sd, damage = sweep.unsteered_sd(), sweep.damage.mean(1)
    changes = sweep.changes().transpose(1, 0, 2) / sd
    cells = _averaged(changes, replicates, seed, looks)
    return [
        {
            "unit_id": int(sweep.unit_id[k]),
            "kind": str(sweep.kind[k]),
            "feature": int(sweep.feature[k]),
            "value": str(sweep.source[k]),
            "polarity": int(sweep.polarity[k]),
            "dose": float(sweep.dose[k]),
            "target": target,
            "effect": float(cells.mean[k, j]),
            "low": float(cells.low[k, j]),
            "high": float(cells.high[k, j]),
            "points": float(cells.mean[k, j] * sd[j]),
            "n": int(cells.n[k, j]),
            "damage": float(damage[k]),
        }
        for k in range(len(sweep.dose))
        for j, target in enumerate(sweep.values)
    ]


def source_rows(
    matched: Matched, values: tuple[str, ...]
) -> tuple[tuple[str, ...], Float[np.ndarray, "context source value"]]:
    """Average the changes of each value's features, context by context [rating points].

    Gives `(sources, changes)`: the values that have features, and an array [context source value].
    """
    sources = tuple(value for value in values if len(matched.of(value)))
    if not sources:
        raise BadInput(
            "No labelled feature was steered, so there is no matrix. Label features first."
        )
    rows = [matched.changes[matched.of(value)] for value in sources]
    # A context in which one feature went unanswered still counts, by the mean of the others.
    return sources, np.stack([known_mean(row, 0) for row in rows], axis=1)


def across_features(
    matched: Matched, sources: tuple[str, ...], by_context: Float[np.ndarray, "source value"]
) -> Float[np.ndarray, "source value"]:
    """Compute p of a mean of 0 over contexts and over the source's features: the larger of both.

    Both must tell (intersection-union test, Berger 1982): one feature's leak is an effect in every
    context, and none of the value. `by_context` is p over contexts. Over features p is Student's,
    each feature's mean over contexts being one observation.
    """
    p = by_context.copy()
    for r, source in enumerate(sources):
        means = known_mean(matched.changes[matched.of(source)], 1)
        mean = known_mean(means, 0)
        n = np.isfinite(means).sum(0)
        degrees = np.maximum(n - 1, 1)
        sd = np.sqrt(np.nansum((means - mean) ** 2, axis=0) / degrees)
        error = sd / np.sqrt(np.maximum(n, 1))
        # Features that agree exactly leave no doubt of a mean other than 0.
        certain = np.where(mean == 0, 0.0, np.inf)
        t = np.divide(np.abs(mean), error, out=certain, where=sd > 0)
        by_feature = np.where(n > 1, 2 * stats.t.sf(t, degrees), 0.0)
        p[r] = np.maximum(p[r], by_feature)
    return p


def topic_effects(
    held: Sweep, topics: Sweep, delta: float, replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Lay what a steering makes the model hold beside the talk that it makes likelier.

    Rows of `topic_effects`, in nats per token: `held` is held less reversed, `topic` the mean of
    both. `topics` is the sweep `held` with the topic's part as its ratings.
    """
    rows: list[dict[str, Any]] = []
    parts = [source_rows(match(sweep, delta), sweep.values) for sweep in (held, topics)]
    sources = parts[0][0]
    stance, talk = (bootstrap_mean(changes, replicates, seed) for _, changes in parts)
    for r, source in enumerate(sources):
        for j, target in enumerate(held.values):
            row: dict[str, Any] = {"source": source, "target": target, "n": int(stance.n[r, j])}
            for name, cells in (("held", stance), ("topic", talk)):
                row[name] = float(cells.mean[r, j])
                row[f"{name}_low"] = float(cells.low[r, j])
                row[f"{name}_high"] = float(cells.high[r, j])
            rows.append(row)
    return rows


def own_parts(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Average what a value's steering does to the value itself: held, and talk about its topic.

    `rows` are those of `topic_effects`; `own_rank` is the share of the other values whose change,
    less the row's and the column's mean, lies below the own one's (0.5: chance).
    """
    figures: dict[str, float] = {}
    sources = list(dict.fromkeys(row["source"] for row in rows))
    targets = list(dict.fromkeys(row["target"] for row in rows))
    for part in ("held", "topic"):
        cells = {(row["source"], row["target"]): row[part] for row in rows}
        matrix = np.array([[cells[s, t] for t in targets] for s in sources])
        diagonal = np.array([targets.index(s) for s in sources])
        figures[f"own_{part}"] = float(matrix[np.arange(len(diagonal)), diagonal].mean())
        figures[f"own_{part}_rank"] = own_rank(matrix, diagonal)
    return figures


def own_rank(
    matrix: Float[np.ndarray, "source target"], diagonal: Int[np.ndarray, " source"]
) -> float:
    """Say how often a value's own change beats another value's, rows and columns centred [0 to 1].

    `diagonal` is each source's own column. 0.5 is chance; 1: every value moves itself most.
    """
    centred = matrix - matrix.mean(1, keepdims=True)
    if len(centred) > 1:
        centred = centred - centred.mean(0)
    wins = [
        (row[column] > np.delete(row, column)).mean()
        for row, column in zip(centred, diagonal, strict=True)
    ]
    return float(np.mean(wins))


def null_band(matched: Matched, features: int, seed: int) -> Float[np.ndarray, "2 value"]:
    """Draw `features` controls again and again; give the range of their mean change.

    The 2.5 % and the 97.5 % quantile of each value [rating points]; NaN without controls.
    """
    controls = np.flatnonzero(matched.is_control)
    if not len(controls):
        return np.full((2, matched.changes.shape[2]), np.nan)
    means = known_mean(matched.changes[controls], 1)
    rng = np.random.default_rng(seed)
    drawn = rng.random((DRAWS, len(controls))).argsort(1)[:, :features]
    if features > len(controls):
        drawn = rng.integers(len(controls), size=(DRAWS, features))
    # A control has no polarity to be turned by, so either sign is as likely.
    signs = rng.choice((-1.0, 1.0), size=drawn.shape)
    return np.quantile((means[drawn] * signs[..., None]).mean(1), (0.025, 0.975), axis=0)


def _averaged(changes: np.ndarray, replicates: int, seed: int, looks: int) -> Interval:
    """Average over contexts, with intervals that hold however often one looked."""
    if looks > 1:
        return repeated_mean(changes, replicates, seed, looks)
    return bootstrap_mean(changes, replicates, seed)


def analyse(
    sweep: Sweep,
    system: ValueSystem,
    delta: float,
    replicates: int,
    seed: int,
    looks: int = 1,
) -> Effects:
    """Compute all that a sweep says about effects.

    `delta` is the damage at which features are compared [nats per token]; `replicates` and `seed`
    are those of the bootstrap; `looks`: in how many rounds contexts were to be asked.

        effects = analyse(sweep, system, delta=0.1, replicates=1000, seed=0)
        effects.side_effects[0]        # SideEffect(source="power", target="security", ...)
    """
    sd = sweep.unsteered_sd()
    matched = match(sweep, delta)
    sources, changes = source_rows(matched, sweep.values)
    changes = changes / sd
    cells = _averaged(changes, replicates, seed, looks)
    drawn = replicate_means(changes, cluster_weights(len(changes), replicates, seed))
    matrix = EffectMatrix(
        cells=cells, replicates=drawn, sources=sources, values=sweep.values, looks=looks
    )
    circle, circles = _on_the_circle(matrix, system, seed)
    return Effects(
        side_effects=_side_effects(matrix, matched, sd, seed),
        dose_effects=dose_effects(sweep, replicates, seed, looks),
        matched=matched,
        leakage=leakage(matrix, system),
        circle=circle,
        circumplex=circles,
    )


def _side_effects(
    matrix: EffectMatrix, matched: Matched, sd: Float[np.ndarray, " value"], seed: int
) -> list[SideEffect]:
    """The matrix as records, source by source, with q over the cells off the diagonal."""
    cells, sources, values = matrix.cells, matrix.sources, matrix.values
    off_diagonal = _diagonal(matrix)[:, None] != np.arange(len(values))
    looks = matrix.looks
    p = np.minimum(1.0, looks * across_features(matched, sources, cells.p / looks))
    q = np.full(p.shape, np.nan)
    q[off_diagonal] = benjamini_hochberg(p[off_diagonal])
    counts = [len(matched.of(source)) for source in sources]
    bands = {count: null_band(matched, count, seed) / sd for count in set(counts)}
    return [
        SideEffect(
            source=source,
            target=target,
            effect=float(cells.mean[r, j]),
            low=float(cells.low[r, j]),
            high=float(cells.high[r, j]),
            p=float(p[r, j]),
            q=float(q[r, j]),
            null_low=float(bands[counts[r]][0, j]),
            null_high=float(bands[counts[r]][1, j]),
            n=int(cells.n[r, j]),
            features=counts[r],
        )
        for r, source in enumerate(sources)
        for j, target in enumerate(values)
    ]


def _diagonal(matrix: EffectMatrix) -> Int[np.ndarray, " source"]:
    """Column of each source's own value."""
    return np.array([matrix.values.index(source) for source in matrix.sources])


def _on_the_circle(
    matrix: EffectMatrix, system: ValueSystem, seed: int
) -> tuple[Correlation, dict[str, Circumplex]]:
    """How the cells go with the cosine of their angle, and the circle through each source's row.

    All NaN where the values have no circle.
    """
    if not system.circular:
        nothing = Circumplex(*[np.nan] * 5)
        return Correlation(np.nan, np.nan, 0), dict.fromkeys(matrix.sources, nothing)
    theta = angles(system, matrix.values)
    mean, likeness = matrix.cells.mean, np.cos(theta[:, None] - theta)
    circle = permuted_spearman(mean, _diagonal(matrix), likeness, DRAWS, seed)
    circles = {source: fit(mean[r], theta, DRAWS, seed) for r, source in enumerate(matrix.sources)}
    return circle, circles
