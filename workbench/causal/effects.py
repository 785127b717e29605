"""From a sweep's ratings to effects: dose-response, the value x value matrix, null bands, leakage.

1. `E_f->j(s) = mean_p[y_j(p, f, s) - y_j(p, 0)] / sigma_j`: paired by prompt context p, in units of
   sigma_j, the SD of the unsteered ratings over contexts. sigma_j is a unit of measurement and held
   fixed in every interval.
2. Features are compared at s*, the strength of equal damage (`damage.py`), turned so that their
   value rises.
3. `M[i,j]` is the mean over value i's features; its interval is bootstrapped over contexts, jointly
   for all cells. A star speaks of the value, so it must hold in other contexts and with other
   features of the value: p is the larger one of both (`across_features`), and q is
   Benjamini-Hochberg over the cells off the diagonal. With one feature a value, p speaks of that
   feature alone.
4. The null band draws as many controls (random features, random directions) as the value has
   features, each at its own s* and with a random sign, and takes the 2.5 % and 97.5 % quantiles of
   their mean.
5. Leakage `L_i = RMS_{j != i} M[i,j] / |M[i,i]|`, undefined unless the interval of M[i,i] excludes
   0, as a whole and for adjacent (up to 60 degrees), orthogonal and opposed (from 120 degrees)
   targets. RMS of noise is positive, so an interval that begins near the null's own leakage says
   nothing.

Left out: the uncertainty of s*, and in the intervals that of which features were chosen (p has it;
the graph resamples features).
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from feature_store.errors import BadInput
from feature_store.records import SideEffect, ValueSystem
from workbench.statistics.circle import Circumplex, angles, distances, fit
from workbench.statistics.intervals import (
    Correlation,
    Interval,
    benjamini_hochberg,
    bootstrap_mean,
    cluster_weights,
    known_mean,
    permuted_spearman,
    replicate_means,
)
from workbench.sweeps.damage import Matched, Sweep, match

SMALLEST_SD = 1e-4
"""Unsteered ratings that vary less over contexts cannot be a unit [rating points]."""
DRAWS = 2000
"""Draws of controls behind a null band; permutations behind a p."""
PARTS = ("all", "adjacent", "orthogonal", "opposed")


class Effects(NamedTuple):
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


def unsteered_sd(sweep: Sweep) -> Float[np.ndarray, " value"]:
    """sigma_j: SD over contexts of the unsteered rating of each value [rating points].

    Raises where it is no unit.
    """
    known = np.isfinite(sweep.base).sum(0)
    few = [value for value, n in zip(sweep.values, known, strict=True) if n < 2]
    if few:
        raise BadInput(
            f"Effects need two contexts with an unsteered answer, {', '.join(few)} has fewer. Ask"
            " more contexts."
        )
    sd = np.nanstd(sweep.base, axis=0, ddof=1)
    flat = [value for value, spread in zip(sweep.values, sd, strict=True) if spread < SMALLEST_SD]
    if flat:
        raise BadInput(
            f"The unsteered ratings of {', '.join(flat)} are the same in every context, so an"
            " effect has no unit. Ask under contexts that differ, or by log-probability."
        )
    return sd


def dose_effects(sweep: Sweep, replicates: int, seed: int) -> list[dict[str, Any]]:
    """The effect of every intervention on every value, with its interval; not turned by
    polarity.
    """
    sd, hurt = unsteered_sd(sweep), sweep.damage.mean(1)
    found = bootstrap_mean(sweep.changes().transpose(1, 0, 2) / sd, replicates, seed)
    return [
        {
            "unit_id": int(sweep.unit_id[k]),
            "kind": str(sweep.kind[k]),
            "feature": int(sweep.feature[k]),
            "value": str(sweep.source[k]),
            "polarity": int(sweep.polarity[k]),
            "dose": float(sweep.dose[k]),
            "target": target,
            "effect": float(found.mean[k, j]),
            "low": float(found.low[k, j]),
            "high": float(found.high[k, j]),
            "points": float(found.mean[k, j] * sd[j]),
            "n": int(found.n[k, j]),
            "damage": float(hurt[k]),
        }
        for k in range(len(sweep.dose))
        for j, target in enumerate(sweep.values)
    ]


def source_rows(
    matched: Matched, values: tuple[str, ...]
) -> tuple[tuple[str, ...], Float[np.ndarray, "context source value"]]:
    """`(sources, changes)`: values with features, and their features' mean change per context
    [rating points].
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
    """p of a mean of 0 over contexts and over the source's features, the larger one: both must tell
    (intersection-union test, Berger 1982).

    `by_context`: p over contexts. Over features it is Student's, each feature's mean over contexts
    being one observation. One feature's leak is an effect in every context, and none of the value.
    """
    p = by_context.copy()
    for r, source in enumerate(sources):
        means = known_mean(matched.changes[matched.of(source)], 1)
        n, mean = np.isfinite(means).sum(0), known_mean(means, 0)
        spread = np.sqrt(np.nansum((means - mean) ** 2, axis=0) / np.maximum(n - 1, 1))
        t = np.divide(
            np.abs(mean),
            spread / np.sqrt(np.maximum(n, 1)),
            out=np.where(mean == 0, 0.0, np.inf),
            where=spread > 0,
        )
        p[r] = np.maximum(p[r], np.where(n > 1, 2 * stats.t.sf(t, np.maximum(n - 1, 1)), 0.0))
    return p


def null_band(matched: Matched, features: int, seed: int) -> Float[np.ndarray, "2 value"]:
    """2.5 % and 97.5 % quantiles of the mean change of `features` controls [rating points]; NaN
    without controls.
    """
    controls = np.flatnonzero(matched.kind != "feature")
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


def leakage(
    cells: Interval,
    replicates: Float[np.ndarray, "replicate source value"],
    sources: tuple[str, ...],
    system: ValueSystem,
    values: tuple[str, ...],
) -> list[dict[str, Any]]:
    """L_i as a whole and by place on the circle, with percentile intervals; NaN with the reason
    where undefined.
    """
    gap, rows = np.degrees(distances(system, values)), []
    for r, source in enumerate(sources):
        i = values.index(source)
        others = (np.arange(len(values)) != i) & np.isfinite(cells.mean[r])
        place = {
            "all": others,
            "adjacent": others & (gap[i] <= 60 + 1e-9),
            "opposed": others & (gap[i] >= 120 - 1e-9),
            "orthogonal": others & (gap[i] > 60 + 1e-9) & (gap[i] < 120 - 1e-9),
        }
        for part in PARTS:
            reason = ""
            if not (cells.low[r, i] > 0 or cells.high[r, i] < 0):
                reason = "the interval of the value's own effect includes 0"
            elif not place[part].any():
                reason = "no value with answers lies there"
            figures = [float("nan")] * 3
            if not reason:
                whole = (cells.mean[r, place[part]] ** 2).mean() / cells.mean[r, i] ** 2
                drawn = (replicates[:, r, place[part]] ** 2).mean(1) / replicates[:, r, i] ** 2
                # A replicate holds the sampling noise once more than the estimate, and squares add
                # it up: centre them.
                centred = np.maximum(drawn - np.nanmean(drawn) + whole, 0.0)
                figures = [
                    float(x) for x in np.sqrt([whole, *np.nanquantile(centred, (0.025, 0.975))])
                ]
            rows.append(
                {
                    "source": source,
                    "part": part,
                    "leakage": figures[0],
                    "low": figures[1],
                    "high": figures[2],
                    "reason": reason,
                }
            )
    return rows


def analyse(sweep: Sweep, system: ValueSystem, delta: float, replicates: int, seed: int) -> Effects:
    """All that a sweep says about effects.

    `delta`: damage at which features are compared [nats per token].
    """
    sd = unsteered_sd(sweep)
    matched = match(sweep, delta)
    sources, changes = source_rows(matched, sweep.values)
    changes = changes / sd
    cells = bootstrap_mean(changes, replicates, seed)
    own = np.array([sweep.values.index(source) for source in sources])
    off = own[:, None] != np.arange(len(sweep.values))
    p = across_features(matched, sources, cells.p)
    q = np.full(p.shape, np.nan)
    q[off] = benjamini_hochberg(p[off])
    counts = [len(matched.of(source)) for source in sources]
    bands = {count: null_band(matched, count, seed) / sd for count in set(counts)}
    side_effects = [
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
        for j, target in enumerate(sweep.values)
    ]
    theta = angles(system, sweep.values)
    drawn = replicate_means(changes, cluster_weights(len(changes), replicates, seed))
    circle = Correlation(np.nan, np.nan, 0)
    circles = dict.fromkeys(sources, Circumplex(*[np.nan] * 5))
    if system.circular:
        circle = permuted_spearman(cells.mean, own, np.cos(theta[:, None] - theta), DRAWS, seed)
        circles = {
            source: fit(cells.mean[r], theta, DRAWS, seed) for r, source in enumerate(sources)
        }
    return Effects(
        side_effects=side_effects,
        dose_effects=dose_effects(sweep, replicates, seed),
        matched=matched,
        leakage=leakage(cells, drawn, sources, system, sweep.values),
        circle=circle,
        circumplex=circles,
    )
