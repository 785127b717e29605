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


class Ratio(NamedTuple):
    ratio: float
    """Mean of the first set over that of the second."""
    low: float
    """Lower end of its 95 % interval over questions."""
    high: float
    """Upper end of it."""


def separation(held: Float[np.ndarray, "member opinion value"]) -> float:
    """GJS of the members' distributions on one question [nats]; NaN where a member was never
    read.
    """
    p = np.stack([distribution(one) for one in held])
    return gjs(p) if np.isfinite(p).all() else float("nan")


def chance(held: Float[np.ndarray, "member opinion value"], seed: int) -> float:
    """Mean separation of the same opinions dealt out at random, each member as many as it had
    [nats].
    """
    known = np.isfinite(held).all(2)
    if not known.any(1).all():
        return float("nan")
    rng, ends = np.random.default_rng((seed, 4)), np.cumsum(known.sum(1))[:-1]
    mass = spread(held[known])
    deals = [
        gjs(np.stack([part.mean(0) for part in np.split(rng.permutation(mass), ends)]))
        for _ in range(DEALS)
    ]
    return float(np.mean(deals))


def ratio(
    a: Float[np.ndarray, " first"], b: Float[np.ndarray, " second"], replicates: int, seed: int
) -> Ratio:
    """Mean of a over mean of b with its interval; NaN where a mean is not above 0. Raises
    BadInput below two questions a set.
    """
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if min(len(a), len(b)) < 2:
        raise BadInput(
            f"A ratio needs two readable questions a set, got {len(a)} and {len(b)}. Give more"
            " seeds, or a larger --questions."
        )
    if min(a.mean(), b.mean()) <= 0:
        return Ratio(*[float("nan")] * 3)
    logs, ses = zip(*(_log_mean(x, np.ones((1, len(x)))) for x in (a, b)), strict=True)
    log, se = float(logs[0][0] - logs[1][0]), float(np.hypot(ses[0][0], ses[1][0]))
    if se == 0:
        return Ratio(float(np.exp(log)), float(np.exp(log)), float(np.exp(log)))
    drawn = [
        _log_mean(x, cluster_weights(len(x), replicates, seed + k)) for k, x in enumerate((a, b))
    ]
    # A replicate of few distinct questions has next to no spread; a quarter of the real one bounds
    # its ratio.
    t = (drawn[0][0] - drawn[1][0] - log) / np.maximum(np.hypot(drawn[0][1], drawn[1][1]), se / 4)
    below, above = np.quantile(t[np.isfinite(t)], (0.025, 0.975))
    return Ratio(
        float(np.exp(log)), float(np.exp(log - above * se)), float(np.exp(log - below * se))
    )


def _log_mean(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of every replicate's mean and its standard error."""
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
    """Rows of `adaem_separation`: every set's mean, and its ratio to the seeds, plain and beyond
    chance.
    """
    found = []
    for name, told in sets.items():
        mean = bootstrap_mean(told[:, None], replicates, seed)
        unknown = Ratio(*[float("nan")] * 3)
        plain = unknown if name == "seed" else ratio(told, sets["seed"], replicates, seed)
        beyond = (
            unknown
            if name == "seed"
            else ratio(told - chances[name], sets["seed"] - chances["seed"], replicates, seed)
        )
        found.append(
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
    return found
