"""Does the ordinal regression find what was planted, and how long does it take on 1,200 answers?

1. Twenty simulations: 3 conditions x 40 items x 10 repeats, theta ~ N(0, 1), items N(0, 0.3), five
   thresholds. Condition 2 holds one group of values more than condition 1 does (+1, another group
   -1): the planted contrast.
2. Counted: the correlation of true and estimated theta (centred), the coverage of the 95 %
   intervals, the sign of the planted contrast, coverage of the spread of the items, R-hat and
   effective sample sizes.
3. Twenty more in which the conditions do not differ: how often the interval of the contrast between
   conditions keeps 0.
4. `value` is the time of one fit, summaries included, on this machine.
"""

from __future__ import annotations

import time

import numpy as np

from workbench.statistics import ordinal

NAME = "ordinal"
REACH = 30.0
"""Seconds for 1,200 answers."""
SEEDS = 20
CONDITIONS, ITEMS, REPEATS, SPREAD = 3, np.repeat(np.arange(10), 4), 10, 0.3
THRESHOLDS = np.array([-1.5, -0.8, 0.0, 0.8, 1.5])
VALUES = tuple(f"value-{k}" for k in range(10))
GROUPS = {"up": VALUES[:2], "down": VALUES[2:4]}


def simulated(
    theta: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Condition, item and answer of every row."""
    u = rng.normal(0, SPREAD, len(ITEMS))
    condition, item = (
        x.ravel()
        for x in np.meshgrid(
            range(len(theta)), np.tile(np.arange(len(ITEMS)), REPEATS), indexing="ij"
        )
    )
    latent = theta[condition, ITEMS[item]] + u[item] + rng.normal(size=len(item))
    return condition, item, (latent[:, None] > THRESHOLDS).sum(1)


def fitted(theta: np.ndarray, seed: int) -> dict[str, float]:
    """One simulation and its fit: how well, how surely, how fast."""
    rows = simulated(theta, np.random.default_rng((3, seed)))
    start = time.monotonic()
    answers = ordinal.OrdinalAnswers(*rows, ITEMS, len(THRESHOLDS) + 1)
    told = ordinal.fit(answers, ordinal.SamplerSettings(seed=seed))
    found = ordinal.summarise(ordinal.centred(told.theta))
    gaps = ordinal.contrasts(told.theta, VALUES, GROUPS, [("up", "down")])
    between = ordinal.summarise(gaps["up - down", 1, 0][..., None])
    seconds = time.monotonic() - start
    sigma, true = ordinal.summarise(told.sigma_u[..., None]), ordinal.centred(theta)
    return {
        "seconds": seconds,
        "r": float(np.corrcoef(true.ravel(), found.mean.ravel())[0, 1]),
        "coverage": float(((found.low <= true) & (true <= found.high)).mean()),
        "sign": float(between.mean[0] > 0),
        "keeps_0": float(between.low[0] <= 0 <= between.high[0]),
        "spread": float(sigma.low[0] <= SPREAD <= sigma.high[0]),
        "r_hat": float(found.r_hat.max()),
        "ess": float(found.ess.min()),
        "rows": float(len(rows[0])),
    }


def main() -> dict:
    """The value is the median time of a fit."""
    planted, alike = [], []
    for seed in range(SEEDS):
        theta = np.random.default_rng((4, seed)).normal(size=(CONDITIONS, 10))
        theta[1] = theta[0]
        alike.append(fitted(theta, seed))
        theta[1, :4] += (1.0, 1.0, -1.0, -1.0)
        planted.append(fitted(theta, seed))
        print(
            f"seed {seed:2} r {planted[-1]['r']:.3f} coverage {planted[-1]['coverage']:.3f} R-hat"
            f" {planted[-1]['r_hat']:.4f} ESS {planted[-1]['ess']:.0f}"
        )
    mean = {name: float(np.mean([one[name] for one in planted])) for name in planted[0]}
    seconds = float(np.median([one["seconds"] for one in planted + alike]))
    keeps = float(np.mean([one["keeps_0"] for one in alike]))
    holds = (
        seconds <= REACH
        and mean["r"] > 0.9
        and mean["coverage"] >= 0.88
        and mean["sign"] == 1.0
        and keeps >= 0.85
    )
    return {
        "name": NAME,
        "value": seconds,
        "reach": REACH,
        "holds": holds,
        "unit": "s",
        "rows": int(mean["rows"]),
        "seeds": SEEDS,
        "correlation": mean["r"],
        "coverage": mean["coverage"],
        "sign_right": mean["sign"],
        "no_effect_keeps_0": keeps,
        "spread_coverage": mean["spread"],
        "worst_r_hat": max(one["r_hat"] for one in planted),
        "least_ess": min(one["ess"] for one in planted),
        "seed": 0,
    }
