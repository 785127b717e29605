"""How much better the found questions separate the population than its seeds: from fresh opinions,
with what chance alone would give.

1. The search chose the best of many noisy, tilted scores: those are too good to be true. Every
   question of the report is asked anew under other seeds, and all opinions that could be read
   count.
2. *Chance*: the same opinions dealt out to the members at random; the mean separation of the deals
   is what so few opinions give by themselves.
3. Sets: `found` (the new instrument), `seed` (all topics' seed questions, or a random part),
   `best-seed` (as many seeds, those that scored best in the search: what choosing alone would have
   brought).
4. The ratio of two sets' mean separation, with the interval of a bootstrap over questions,
   studentised on the log scale.

The ratio of plain separations is conservative: what chance adds to both pulls it towards 1. The
ratio beyond chance stands beside it.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from workbench.statistics.intervals import bootstrap_mean, cluster_weights
from workbench.systems.adaem.divergence import distribution, gjs, spread

DEALS = 50
"""Random deals behind the chance level of one question."""
SETS = ("found", "seed", "best-seed")
"""Sets of questions that the report compares."""


class Ratio(NamedTuple):
    """How much better one set of questions separates than another."""

    ratio: float
    """Mean of the first set over that of the second."""
    low: float
    """Lower end of its 95 % interval over questions."""
    high: float
    """Upper end of it."""


def separation(held: Float[np.ndarray, "member opinion value"]) -> float:
    """Compute the GJS of the members' distributions on one question [nats].

    NaN where no opinion of a member could be read.
    """
    p = np.stack([distribution(opinions) for opinions in held])
    return gjs(p) if np.isfinite(p).all() else float("nan")


def chance(held: Float[np.ndarray, "member opinion value"], seed: int) -> float:
    """Compute the mean separation of the same opinions dealt out at random [nats].

    Each member gets as many opinions as it had.
    """
    read = np.isfinite(held).all(2)
    if not read.any(1).all():
        return float("nan")
    rng = np.random.default_rng((seed, 4))
    ends = np.cumsum(read.sum(1))[:-1]
    mass = spread(held[read])
    deals = []
    for _ in range(DEALS):
        parts = np.split(rng.permutation(mass), ends)
        deals.append(gjs(np.stack([part.mean(0) for part in parts])))
    return float(np.mean(deals))


def ratio(
    a: Float[np.ndarray, " first"], b: Float[np.ndarray, " second"], replicates: int, seed: int
) -> Ratio:
    """Divide the mean of `a` by the mean of `b`, with an interval over questions.

    NaN where a mean is not above 0. Raises BadInput below two questions a set.
    """
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if min(len(a), len(b)) < 2:
        raise BadInput(
            f"A ratio needs two readable questions a set, got {len(a)} and {len(b)}. Give more"
            " seeds, or a larger --questions."
        )
    if min(a.mean(), b.mean()) <= 0:
        return Ratio(*[float("nan")] * 3)
    logs, errors = _log_ratio(a, b, np.ones((1, len(a))), np.ones((1, len(b))))
    log, error = float(logs[0]), float(errors[0])
    if error == 0:
        return Ratio(float(np.exp(log)), float(np.exp(log)), float(np.exp(log)))
    drawn, drawn_errors = _log_ratio(
        a,
        b,
        cluster_weights(len(a), replicates, seed),
        cluster_weights(len(b), replicates, seed + 1),
    )
    # A replicate of few distinct questions has next to no spread; a quarter of the real one bounds
    # its ratio.
    t = (drawn - log) / np.maximum(drawn_errors, error / 4)
    below, above = np.quantile(t[np.isfinite(t)], (0.025, 0.975))
    return Ratio(
        ratio=float(np.exp(log)),
        low=float(np.exp(log - above * error)),
        high=float(np.exp(log - below * error)),
    )


def _log_ratio(
    a: np.ndarray, b: np.ndarray, a_weights: np.ndarray, b_weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the log of the ratio of two means, and its standard error, for every replicate."""
    a_log, a_error = _log_mean(a, a_weights)
    b_log, b_error = _log_mean(b, b_weights)
    return a_log - b_log, np.hypot(a_error, b_error)


def _log_mean(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the log of every replicate's mean and its standard error."""
    n = len(x)
    mean = weights @ x / n
    variance = np.maximum(weights @ x**2 / n - mean**2, 0) / (n - 1)
    safe = np.where(mean > 0, mean, np.nan)
    return np.log(safe), np.sqrt(variance) / safe


def rows(
    sets: dict[str, Float[np.ndarray, " question"]],
    chances: dict[str, Float[np.ndarray, " question"]],
    searched: dict[str, Float[np.ndarray, " question"]],
    replicates: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Write the rows of `adaem_separation`: every set's mean, and its ratio to the seeds.

    The ratio is given plain and beyond chance.
    """
    rows = []
    for name, apart in sets.items():
        mean = bootstrap_mean(apart[:, None], replicates, seed)
        plain = beyond = Ratio(*[float("nan")] * 3)
        if name != "seed":
            above_chance = apart - chances[name]
            seeds_above_chance = sets["seed"] - chances["seed"]
            plain = ratio(apart, sets["seed"], replicates, seed)
            beyond = ratio(above_chance, seeds_above_chance, replicates, seed)
        rows.append(
            {
                "questions": name,
                "separation": mean.mean[0],
                "low": mean.low[0],
                "high": mean.high[0],
                "n": int(mean.n[0]),
                "chance": float(np.nanmean(chances[name])),
                "searched": float(np.nanmean(searched[name])),
                "ratio": plain.ratio,
                "ratio_low": plain.low,
                "ratio_high": plain.high,
                "beyond": beyond.ratio,
                "beyond_low": beyond.low,
                "beyond_high": beyond.high,
            }
        )
    return rows
