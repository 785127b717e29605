"""How often does the 95 % interval of an effect hold the true effect? Ours beside a bootstrap over
rows.

1. Each repeat simulates what a sweep measures: items nested in prompt contexts, asked with and
   without steering; ratings bounded to 1-6 and skewed, a change that differs from context to
   context with a long tail to one side.
2. The true effect is the mean change over 200,000 contexts of the same population.
3. Coverage is counted over 200 repeats x ten values, for 24, 32 and 48 contexts. The row bootstrap
   resamples items as if they were independent; percentile, basic and BCa resample contexts as ours
   does.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import stats

from workbench.statistics.intervals import bootstrap_mean, cluster_weights, replicate_means

NAME = "coverage"
REACH = [0.93, 0.97]
REPEATS, REPLICATES = 200, 1000
CONTEXTS, ITEMS = (24, 32, 48), 6
SHIFTS = np.linspace(-1.2, 1.5, 10)
"""Mean latent push of each value: from strong falls to rises that run into the end of the scale
[logits]."""


def changes(rng: np.random.Generator, contexts: int) -> Float[np.ndarray, "context item value"]:
    """Steered less unsteered ratings of one simulated sweep [rating points]."""
    shape = (contexts, ITEMS, len(SHIFTS))
    level = (
        0.8 * rng.gamma(2.0, 1.0, (contexts, 1, len(SHIFTS))) - 1.0 + 0.7 * rng.normal(size=shape)
    )
    reaction = rng.gamma(
        1.5, 1 / 1.5, (contexts, 1, len(SHIFTS))
    )  # some contexts react much more than most
    push = SHIFTS * reaction + 0.7 * rng.normal(size=shape)
    return rate(level + push + 0.3 * rng.normal(size=shape)) - rate(level)


def rate(logit: np.ndarray) -> np.ndarray:
    """A rating between 1 and 6."""
    return 1 + 5 / (1 + np.exp(-logit))


def intervals(
    x: Float[np.ndarray, "context item value"], seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Lower and upper ends by every method [value]."""
    means = x.mean(1)
    ours = bootstrap_mean(means, REPLICATES, seed)
    drawn = replicate_means(means, cluster_weights(len(means), REPLICATES, seed))
    rows = x.reshape(-1, x.shape[2])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    row_means = replicate_means(rows, cluster_weights(len(rows), REPLICATES, seed))
    bias = stats.norm.ppf((drawn < ours.mean).mean(0))
    apart = means.mean(0) - (len(means) * means.mean(0) - means) / (
        len(means) - 1
    )  # jackknife influence
    skew = (apart**3).sum(0) / (6 * (apart**2).sum(0) ** 1.5)
    ends = []
    for z in stats.norm.ppf((0.025, 0.975)):
        level = stats.norm.cdf(bias + (bias + z) / (1 - skew * (bias + z)))
        ends.append(np.array([np.quantile(drawn[:, k], level[k]) for k in range(len(level))]))
    return {
        "studentised": (ours.low, ours.high),
        "percentile": (low, high),
        "basic": (2 * ours.mean - high, 2 * ours.mean - low),
        "bca": (ends[0], ends[1]),
        "rows": tuple(np.quantile(row_means, (0.025, 0.975), axis=0)),
    }


def main() -> dict:
    """The value is the coverage of the interval that the workbench uses."""
    true = np.concatenate(
        [changes(np.random.default_rng((1, part)), 20_000).mean(1) for part in range(10)]
    ).mean(0)
    held: dict[str, dict[int, np.ndarray]] = {}
    for contexts in CONTEXTS:
        for repeat in range(REPEATS):
            x = changes(np.random.default_rng((2, contexts, repeat)), contexts)
            for method, (low, high) in intervals(x, repeat).items():
                counts = held.setdefault(method, {n: np.zeros(len(SHIFTS)) for n in CONTEXTS})
                counts[contexts] += (low <= true) & (true <= high)
    coverage = {
        method: {n: float(c.mean() / REPEATS) for n, c in counts.items()}
        for method, counts in held.items()
    }
    for method, by_n in coverage.items():
        print(f"{method:12} " + "  ".join(f"{n} contexts {share:.3f}" for n, share in by_n.items()))
    mean = {method: float(np.mean(list(by_n.values()))) for method, by_n in coverage.items()}
    ours = coverage["studentised"]
    return {
        "name": NAME,
        "value": mean["studentised"],
        "reach": REACH,
        "holds": all(REACH[0] <= c <= REACH[1] for c in ours.values()),
        "by_contexts": ours,
        "row_bootstrap": mean["rows"],
        "percentile": mean["percentile"],
        "basic": mean["basic"],
        "bca": mean["bca"],
        "repeats": REPEATS,
        "values": len(SHIFTS),
        "items_per_context": ITEMS,
    }
