"""How cleanly a feature will steer, forecast from what is known of it without steering.

Duan ("Pre-intervention prediction of sparse autoencoder steering side effects", 2026, arXiv
2606.08365) forecasts two axes of side effects, effect stability and collateral spread, from decoder
geometry, activation statistics, co-activation and the direct-logit footprint, beside baselines of
frequency and of magnitude alone. The axes are measured here on values, at equal damage:

1. `stability`: mean cosine of a feature's changes of all values between pairs of contexts [-1 to
   1]; 1: the same effect in every context.
2. `collateral`: share of the squared mean change that does not fall on the value that moves most
   [0 to 1]; 0: one value alone moves.
3. A random forest gives every steered feature a forecast from fits that never saw it (folds, dealt
   `REPEATS` times, averaged). Trees do not care on which scale a predictor comes, so no baseline is
   weak because of its scale.
4. Spearman's correlation of forecast and measurement over features, with a bootstrap over features;
   each baseline is compared in the same resamples. A difference whose interval holds 0 is none. A
   held-out correlation of what knows nothing lies below 0 (a fit without the largest leans the
   other way), so a baseline below 0 counts as 0 there: it gives nobody a lead.

Ours: the axes (the paper's own definitions are of logits and of other features), and the model. A
small effect is mostly noise, which lowers stability and raises collateral, so a forecast of the
effect's size forecasts both; the magnitude baseline stands for that. The bootstrap leaves out how
the fits themselves vary. Left out: groups and directions, and what a label names.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats

from feature_store.errors import BadInput

TARGETS = ("stability", "collateral")
"""What is forecast."""
FREQUENCY = ("density",)
"""Predictors of the frequency-only baseline."""
MAGNITUDE = ("max_activation", "mean_activation")
"""Predictors of the magnitude-only baseline."""
TREES = 100
"""Trees of a forest."""
LEAF = 5
"""Fewest features in a leaf of a tree."""
REPEATS = 2
"""Times that features are dealt into folds anew."""
LEAST = 20
"""Fewest steered features from which a forecast is fitted [features]."""


class Measured(NamedTuple):
    """What steering single features did, a row a feature."""

    features: Int[np.ndarray, " feature"]
    """0-based feature indices, without repetition."""
    stability: Float[np.ndarray, " feature"]
    """Mean cosine of the changes between pairs of contexts [-1 to 1]."""
    collateral: Float[np.ndarray, " feature"]
    """Share of the squared mean change beside the value that moves most [0 to 1]."""


class Skill(NamedTuple):
    """How well a set of predictors forecasts a target on features that its fits did not see."""

    target: str
    """One of `TARGETS`."""
    predictors: str
    """all, frequency or magnitude."""
    spearman: float
    """Correlation of forecast and measurement [-1 to 1]."""
    low: float
    """Lower end of its 95 % interval over features."""
    high: float
    """Upper end of it."""
    lead: float
    """Correlation of all predictors less this one, or less 0 where this one lies below; 0 of
    all."""
    lead_low: float
    """Lower end of its 95 % interval, in the same resamples."""
    lead_high: float
    """Upper end of it."""
    n: int
    """Features."""


def measured_axes(
    features: Int[np.ndarray, " unit"], changes: Float[np.ndarray, "unit context value"]
) -> Measured:
    """Measure both axes of features from their changes [any unit common to all values].

    A feature that changes nothing at all has no axis: NaN. Of several units of a feature the first
    counts.
    """
    features, first = np.unique(features, return_index=True)
    changes = changes[first]
    lengths = np.linalg.norm(changes, axis=2, keepdims=True)
    unit = np.divide(changes, lengths, out=np.zeros_like(changes), where=lengths > 0)
    n = (lengths[..., 0] > 0).sum(1)
    pairs = (unit.sum(1) ** 2).sum(1) - n
    count = n * (n - 1.0)
    stability = np.divide(pairs, count, out=np.full(len(n), np.nan), where=count > 0)
    squares = changes.mean(1) ** 2
    total = squares.sum(1)
    rest = total - squares.max(1, initial=0)
    collateral = np.divide(rest, total, out=np.full(len(n), np.nan), where=total > 0)
    return Measured(features=features, stability=stability, collateral=collateral)


def predictions(
    predictors: pd.DataFrame,
    steered: Int[np.ndarray, " feature"],
    target: Float[np.ndarray, " feature"],
    folds: int,
    seed: int,
) -> Float[np.ndarray, " row"]:
    """Forecast a target for every row of `predictors` (index: feature).

    Steered features, whose target is known, are forecast by fits that did not see them. Raises
    BadInput below `LEAST` of them.
    """
    from sklearn.model_selection import RepeatedKFold

    if len(steered) < LEAST:
        raise BadInput(
            f"A forecast needs {LEAST} steered features, got {len(steered)}. Sweep more: `workbench"
            " effects --random-features 60`."
        )
    x = predictors.to_numpy(float)
    place = predictors.index.get_indexer(steered)
    forecast = _forest(seed).fit(x[place], target).predict(x)
    held_out = np.zeros(len(steered))
    for fitted, left in RepeatedKFold(
        n_splits=min(folds, len(steered)), n_repeats=REPEATS, random_state=seed
    ).split(x[place]):
        model = _forest(seed).fit(x[place[fitted]], target[fitted])
        # The mean of the others is the lower, the higher those are that were left out: a forecast
        # that knows nothing would run against the truth.
        beyond_mean = model.predict(x[place[left]]) - target[fitted].mean()
        held_out[left] += beyond_mean / REPEATS
    forecast[place] = target.mean() + held_out
    return forecast


def importances(
    predictors: pd.DataFrame,
    steered: Int[np.ndarray, " feature"],
    target: Float[np.ndarray, " feature"],
    seed: int,
) -> dict[str, float]:
    """Give each predictor's share of what the fit of all steered features explains [0 to 1]."""
    forest = _forest(seed).fit(predictors.loc[steered].to_numpy(float), target)
    return dict(zip(predictors.columns, forest.feature_importances_.tolist(), strict=True))


def _forest(seed: int):  # type: ignore[no-untyped-def]  # sklearn has no types
    """Make the regression."""
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(
        TREES, min_samples_leaf=LEAF, max_features=1 / 3, random_state=seed
    )


def skills(
    target: str,
    measured: Float[np.ndarray, " feature"],
    forecasts: dict[str, Float[np.ndarray, " feature"]],
    replicates: int,
    seed: int,
) -> list[Skill]:
    """Correlate held-out forecasts (name of the predictors -> forecast) with what was measured."""
    rng = np.random.default_rng((seed, 7))
    drawn = rng.integers(len(measured), size=(replicates, len(measured)))
    truth = measured[drawn]
    resampled = {name: _spearman(forecast[drawn], truth) for name, forecast in forecasts.items()}
    whole = float(_spearman(forecasts["all"][None], measured[None])[0])
    rows = []
    for name, forecast in forecasts.items():
        correlation = float(_spearman(forecast[None], measured[None])[0])
        lead = whole - (max(correlation, 0.0) if name != "all" else whole)
        ends = np.nanquantile(resampled[name], (0.025, 0.975))
        baseline = np.maximum(resampled[name], 0) if name != "all" else resampled["all"]
        lead_ends = np.nanquantile(resampled["all"] - baseline, (0.025, 0.975))
        rows.append(
            Skill(
                target=target,
                predictors=name,
                spearman=correlation,
                low=float(ends[0]),
                high=float(ends[1]),
                lead=lead,
                lead_low=float(lead_ends[0]),
                lead_high=float(lead_ends[1]),
                n=len(measured),
            )
        )
    return rows


def _spearman(
    x: Float[np.ndarray, "row feature"], y: Float[np.ndarray, "row feature"]
) -> Float[np.ndarray, " row"]:
    """Correlate ranks row by row; 0 where one of the two is constant."""
    ranks = [stats.rankdata(part, axis=1) for part in (x, y)]
    a, b = (part - part.mean(1, keepdims=True) for part in ranks)
    length = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), length, out=np.zeros(len(a)), where=length > 0)


def cleanness(
    stability: Float[np.ndarray, " row"], collateral: Float[np.ndarray, " row"]
) -> Float[np.ndarray, " row"]:
    """Rank forecasts: mean of the shares of features that are less stable and that spread more.

    0 to 1; 1: the cleanest by both.
    """
    n = max(len(stability) - 1, 1)
    ranks = [stats.rankdata(part) - 1 for part in (stability, -collateral)]
    return (ranks[0] + ranks[1]) / 2 / n


def predictor_table(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join statistics of features (index: feature), those alike for all features left out.

    What a feature lacks, such as a partner, is 0 of a count or cosine, and else the median.
    """
    table = pd.concat(parts, axis=1)
    for name in ("jaccard", "cosine", "mean_cosine", "partners", "pmi"):
        if name in table:
            table[name] = table[name].fillna(0.0)
    table = table.fillna(table.median(numeric_only=True)).fillna(0.0)
    return table.loc[:, table.std() > 0]
