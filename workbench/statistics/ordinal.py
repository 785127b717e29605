"""What conditions value, from answers on a scale: a Bayesian ordinal regression (after Segerer
2025).

The model: `P(y <= k) = Phi(tau_k - eta)`, `eta = theta[condition, value] + u[item]`, `theta ~ N(0,
1)`, `u ~ N(0, sigma_u)`, tau ordered. An answer is a rank and nothing more: no distance between
options is assumed, and items differ in how readily anyone agrees. Only the abstract of the paper is
known to us; what stands beyond the formula is ours: `tau_k ~ N(0, 3)`, `sigma_u ~
half-Cauchy(0.5)`.

The sampler is Gibbs, with Metropolis steps where a Gibbs step would crawl, on answers counted by
cell (condition x item):

1. With the latents integrated out: every theta (Metropolis, all side by side, for given tau they do
   not depend on each other), then tau, and theta along with it as far as the two went together in
   the warm-up, which matters where a condition nearly always gives the last answer.
2. The latents, normals cut off by tau (Albert & Chib 1993); given them (xi, theta) jointly, with u
   = alpha xi: theta has a diagonal precision and is integrated out, and the rest has one eigenbasis
   for all draws.
3. alpha and the spread of xi: a redundant pair that makes |sigma_u| half-Cauchy and lets small
   spreads mix (Gelman 2006).
4. Two group moves, both exact (Liu & Sabatti 2000): all of the latent axis is shifted, and
   stretched. Without them tau and theta crawl along together.

All chains run side by side in NumPy.

`summarise` gives mean, central 95 % interval, P(< 0), rank-normalised split R-hat and the effective
sample size (Vehtari et al. 2021, ArviZ). `centred` subtracts a condition's mean over its values;
`contrasts` are differences of group means, in one condition and between conditions, and of each
value between conditions.

Left out: an effect of the prompt's context. Answers of one item under several contexts count as
independent repeats; where contexts differ much the intervals are too narrow, and those of the
profile (over contexts) are the ones to read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri

from feature_store.bounds import Between, CountOrZero, Seed
from feature_store.errors import BadInput

TAU_SD, SIGMA_SCALE = 3.0, 0.5
"""Prior spread of the thresholds, and scale of the half-Cauchy prior of sigma_u [latent SD]."""
TINY = 1e-300
"""Smallest probability: its logarithm is finite."""
LEARN = (100, 250, 500)
"""Iterations of the warm-up at which the thresholds' steps are shaped anew."""
Bounds = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Tail probabilities between which each option lies, and whether they are counted from above
[chain, cell, option]."""


@dataclass(frozen=True)
class SamplerSettings:
    chains: Annotated[int, Between(2, 1000)] = 4
    """Chains; R-hat needs two [chains]."""
    warmup: CountOrZero = 600
    """Iterations a chain that are thrown away, and in which the step of the thresholds is tuned
    [iterations]."""
    draws: CountOrZero = 1000
    """Iterations a chain that are kept [iterations]."""
    seed: Seed = 0
    """Seed of the sampler."""


class Posterior(NamedTuple):
    theta: np.ndarray
    """How much each condition holds each value [chain, draw, condition, value; latent SD]."""
    tau: np.ndarray
    """Thresholds between the options [chain, draw, threshold; latent SD]."""
    sigma_u: np.ndarray
    """Spread of the items [chain, draw; latent SD]."""
    accepted: float
    """Share of the proposals of tau that were accepted after the warm-up [0 to 1]."""


class Summary(NamedTuple):
    """Every field has the shape of the cells."""

    mean: np.ndarray
    """Posterior mean [latent SD]."""
    low: np.ndarray
    """2.5 % quantile [latent SD]."""
    high: np.ndarray
    """97.5 % quantile [latent SD]."""
    below: np.ndarray
    """Posterior probability of being less than 0 [0 to 1]."""
    r_hat: np.ndarray
    """Rank-normalised split R-hat; more than 1.01: the chains disagree."""
    ess: np.ndarray
    """Effective sample size, the smaller one of bulk and tails [draws]."""


class _Counted(NamedTuple):
    """The answers, one group a cell (condition x item) and option."""

    n: np.ndarray
    """Answers of each option [cell, option]."""
    place: np.ndarray
    """Condition x value of each cell [cell]."""
    item: np.ndarray
    """Item of each cell [cell]."""
    group: np.ndarray
    """Cell x option of each answer, sorted [row]."""
    starts: np.ndarray
    """First answer of each cell [cell]."""


def fit(
    condition: Int[np.ndarray, " row"],
    item: Int[np.ndarray, " row"],
    answer: Int[np.ndarray, " row"],
    value_of: Int[np.ndarray, " item"],
    options: int,
    settings: SamplerSettings,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Posterior:
    """Draws from the posterior.

    `answer` is 0-based, least agreement first; `value_of` gives each item's value.
    """
    conditions, values = int(condition.max(initial=-1)) + 1, int(value_of.max(initial=-1)) + 1
    data = _count(condition, item, answer, value_of, values, options)
    if settings.chains < 2 or settings.draws < 100 or settings.warmup < 100:
        raise BadInput(
            f"Two chains, 100 draws and 100 of warm-up are the least, got {settings.chains},"
            f" {settings.draws} and {settings.warmup}. Give more."
        )
    sampler = _Gibbs(data, conditions * values, len(value_of), settings)
    theta, tau, sigma = [], [], []
    for step in range(settings.warmup + settings.draws):
        sampler.step(tuning=step < settings.warmup)
        if step >= settings.warmup:
            theta.append(sampler.theta.copy())
            tau.append(sampler.tau.copy())
            sigma.append(np.abs(sampler.alpha) * np.sqrt(sampler.g))
        if step % 100 == 99:
            progress("sampling", step + 1, settings.warmup + settings.draws)
    drawn = np.stack(theta, axis=1).reshape(settings.chains, settings.draws, conditions, values)
    return Posterior(
        theta=drawn,
        tau=np.stack(tau, axis=1),
        sigma_u=np.stack(sigma, axis=1),
        accepted=float(sampler.taken / sampler.tried),
    )


def _count(
    condition: np.ndarray,
    item: np.ndarray,
    answer: np.ndarray,
    value_of: np.ndarray,
    values: int,
    options: int,
) -> _Counted:
    if not len(answer):
        raise BadInput(
            "An ordinal regression needs answers, got none. Measure first; refused answers do not"
            " count."
        )
    if options < 2 or answer.min() < 0 or answer.max() >= options:
        raise BadInput(
            f"Answers must lie between 1 and {options}, got {answer.min() + 1} to"
            f" {answer.max() + 1}. Check the scale."
        )
    items, places = len(value_of), (int(condition.max()) + 1) * values
    cell = condition * items + item
    seen, where = np.unique(cell, return_inverse=True)
    n = np.zeros((len(seen), options))
    np.add.at(n, (where, answer), 1)
    place, own = (seen // items) * values + value_of[seen % items], seen % items
    if len(missing := np.setdiff1d(np.arange(places), place)):
        raise BadInput(
            f"Every condition needs an answer for every value; condition {missing[0] // values} has"
            f" none for value {missing[0] % values}. Leave one out."
        )
    group = np.sort(where * options + answer)
    return _Counted(
        n=n,
        place=place,
        item=own,
        group=group,
        starts=np.searchsorted(group, np.arange(len(seen)) * options),
    )


def _chosen(take: np.ndarray, new: Bounds, old: Bounds) -> Bounds:
    """`new` in the cells where `take` is set, else `old`."""
    return tuple(np.where(take[..., None], a, b) for a, b in zip(new, old, strict=True))  # type: ignore[return-value]


class _Gibbs:
    """The state of all chains, and one sweep over it."""

    def __init__(self, data: _Counted, places: int, items: int, settings: SamplerSettings):
        self.data, self.rng, chains = data, np.random.default_rng(settings.seed), settings.chains
        per_cell = data.n.sum(1)
        crossed = np.zeros((places, items))
        np.add.at(crossed, (data.place, data.item), per_cell)
        self.crossed, self.precision, self.per_item = (
            crossed,
            crossed.sum(1) + 1.0,
            crossed.sum(0),
        )  # theta ~ N(0, 1): the 1
        # Precision of u with theta integrated out, less the prior: it is the same in every sweep,
        # so its eigenbasis is too.
        self.eigen, self.basis = np.linalg.eigh(
            np.diag(self.per_item) - crossed.T @ (crossed / self.precision[:, None])
        )
        share = (np.cumsum(data.n.sum(0))[:-1] + 0.5) / (data.n.sum() + 1.0)
        centre = ndtri(np.clip(share, 0.02, 0.98)) + 1e-3 * np.arange(data.n.shape[1] - 1)
        # The chains start apart, so that R-hat can tell whether they have met.
        self.theta = self.rng.normal(size=(chains, places))
        self.tau = np.sort(
            centre
            + self.rng.normal(0, 0.5, (chains, 1))
            + self.rng.normal(0, 0.02, (chains, len(centre))),
            axis=1,
        )
        self.alpha, self.xi, self.g = (
            np.full(chains, 0.3),
            self.rng.normal(size=(chains, items)),
            np.ones(chains),
        )
        thresholds = len(centre)
        self.scale, self.root = (
            np.ones(chains),
            np.diag(1 / np.sqrt(np.minimum(data.n[:, :-1].sum(0), data.n[:, 1:].sum(0)) / 2 + 1.0)),
        )
        self.reach, self.along = (
            np.tile(2.4 / np.sqrt(self.precision), (chains, 1)),
            np.zeros((thresholds, places)),
        )
        self.seen: list[np.ndarray] = []
        self.taken, self.tried = 0, 0

    def _eta(self, theta: np.ndarray | None = None) -> np.ndarray:
        return (self.theta if theta is None else theta)[:, self.data.place] + self.alpha[
            :, None
        ] * self.xi[:, self.data.item]

    def step(self, tuning: bool) -> None:
        """One sweep: theta and thresholds without the latents, latents, coefficients, spread,
        group moves.
        """
        bounds = self._conditions(tuning)
        bounds = self._thresholds(bounds, tuning)
        latent = self._latents(self._eta(), *bounds)
        total = np.add.reduceat(latent, self.data.starts, axis=1)
        self._coefficients(total)
        self._spread(total)
        self._groups(latent)

    def _bounds(self, tau: np.ndarray, eta: np.ndarray) -> Bounds:
        """Tail probabilities between which each option lies, and whether they are counted from
        above, where doubles keep the digits.
        """
        edge = (
            np.pad(tau, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))[:, None, :]
            - eta[..., None]
        )
        above = edge[..., :-1] > 0
        tail_low, tail_high = (
            ndtr(np.where(above, -edge[..., 1:], edge[..., :-1])),
            ndtr(np.where(above, -edge[..., :-1], edge[..., 1:])),
        )
        return tail_low, tail_high, above

    def _log_likelihood(self, low: np.ndarray, high: np.ndarray, above: np.ndarray) -> np.ndarray:
        """Of each cell [chain, cell]."""
        return (self.data.n * np.log(np.maximum(high - low, TINY))).sum(-1)

    def _conditions(self, tuning: bool) -> Bounds:
        """Every theta by itself, latents integrated out."""
        proposed = self.theta + self.reach * self.rng.normal(size=self.theta.shape)
        old, new = self._bounds(self.tau, self._eta()), self._bounds(self.tau, self._eta(proposed))
        gain = self._summed(
            self._log_likelihood(*new) - self._log_likelihood(*old),
            self.data.place,
            proposed.shape[1],
        )
        odds = np.minimum(gain - (proposed**2 - self.theta**2) / 2, 0.0)
        take = np.log(self.rng.random(odds.shape)) < odds
        self.theta = np.where(take, proposed, self.theta)
        if tuning:
            self.reach *= np.exp(0.1 * (np.exp(odds) - 0.44))  # the best rate in one dimension
        return _chosen(take[:, self.data.place], new, old)

    def _thresholds(self, bounds: Bounds, tuning: bool) -> Bounds:
        """All thresholds at once, and theta along with them, latents integrated out."""
        step = self.scale[:, None] * self.rng.normal(size=self.tau.shape) @ self.root.T
        ordered = (np.diff(self.tau + step, axis=1) > 0).all(1)
        step = np.where(ordered[:, None], step, 0.0)
        tau, theta = self.tau + step, self.theta + step @ self.along
        new = self._bounds(tau, self._eta(theta))
        gain = (self._log_likelihood(*new) - self._log_likelihood(*bounds)).sum(1)
        gain += ((self.tau**2 - tau**2) / TAU_SD**2).sum(1) / 2 + (self.theta**2 - theta**2).sum(
            1
        ) / 2
        odds = np.minimum(gain, 0.0)
        take = ordered & (np.log(self.rng.random(len(odds))) < odds)
        self.tau, self.theta = (
            np.where(take[:, None], tau, self.tau),
            np.where(take[:, None], theta, self.theta),
        )
        if tuning:
            self.scale *= np.exp(
                0.1 * (np.where(ordered, np.exp(odds), 0.0) - 0.3)
            )  # about 0.3 is best for a handful of dimensions
            self._learn()
        else:
            self.taken, self.tried = self.taken + int(take.sum()), self.tried + len(take)
        return _chosen(take[:, None], new, bounds)

    def _learn(self) -> None:
        """The shape of the thresholds' steps, and how far theta goes along, from the second half
        of what has been seen.
        """
        self.seen.append(np.concatenate([self.tau, self.theta], axis=1))
        if len(self.seen) in LEARN:
            seen = np.stack(self.seen[len(self.seen) // 2 :], axis=1)
            seen = np.concatenate([own - own.mean(0) for own in seen])
            k = self.tau.shape[1]
            spread = seen[:, :k].T @ seen[:, :k] / len(seen) + 1e-6 * np.eye(k)
            self.along = np.linalg.solve(spread, seen[:, :k].T @ seen[:, k:] / len(seen))
            self.root, self.scale = (
                np.linalg.cholesky(spread),
                np.full(len(self.tau), 2.4 / np.sqrt(k)),
            )

    def _latents(
        self, eta: np.ndarray, low: np.ndarray, high: np.ndarray, above: np.ndarray
    ) -> np.ndarray:
        flat = (len(eta), -1)
        low, width, sign = (
            x.reshape(flat)[:, self.data.group]
            for x in (low, np.maximum(high - low, TINY), np.where(above, -1.0, 1.0))
        )
        drawn = ndtri(np.clip(low + width * self.rng.random(low.shape), TINY, 1 - 1e-16))
        return eta[:, self.data.group // self.data.n.shape[1]] + sign * drawn

    def _coefficients(self, total: np.ndarray) -> None:
        by_place, by_item = (
            self._summed(total, where, n)
            for where, n in (
                (self.data.place, len(self.precision)),
                (self.data.item, len(self.per_item)),
            )
        )
        pull = self.alpha[:, None] * (by_item - (by_place / self.precision) @ self.crossed)
        precision = self.alpha[:, None] ** 2 * np.maximum(self.eigen, 0) + 1 / self.g[:, None]
        self.xi = (
            (pull @ self.basis) / precision + self.rng.normal(size=pull.shape) / np.sqrt(precision)
        ) @ self.basis.T
        rest = by_place - self.alpha[:, None] * (self.xi @ self.crossed.T)
        self.theta = rest / self.precision + self.rng.normal(size=rest.shape) / np.sqrt(
            self.precision
        )

    def _summed(self, total: np.ndarray, where: np.ndarray, n: int) -> np.ndarray:
        return np.stack([np.bincount(where, row, minlength=n) for row in total])

    def _spread(self, total: np.ndarray) -> None:
        rest = self._summed(total, self.data.item, len(self.per_item)) - self.theta @ self.crossed
        precision = (self.xi**2) @ self.per_item + 1 / SIGMA_SCALE**2
        self.alpha = (self.xi * rest).sum(1) / precision + self.rng.normal(
            size=len(precision)
        ) / np.sqrt(precision)
        self.g = (1 + (self.xi**2).sum(1)) / (
            2 * self.rng.gamma((1 + self.xi.shape[1]) / 2, size=len(self.g))
        )

    def _groups(self, latent: np.ndarray) -> None:
        gap = latent - self._eta()[:, self.data.group // self.data.n.shape[1]]
        size = (
            (gap**2).sum(1)
            + (self.theta**2).sum(1)
            + (self.tau**2).sum(1) / TAU_SD**2
            + self.alpha**2 / SIGMA_SCALE**2
        )
        dimensions = gap.shape[1] + self.theta.shape[1] + self.tau.shape[1] + 1
        stretch = np.sqrt(2 * self.rng.gamma(dimensions / 2, size=len(size)) / size)
        self.theta, self.tau, self.alpha = (
            self.theta * stretch[:, None],
            self.tau * stretch[:, None],
            self.alpha * stretch,
        )
        precision = self.theta.shape[1] + self.tau.shape[1] / TAU_SD**2
        mean = -(self.theta.sum(1) + self.tau.sum(1) / TAU_SD**2) / precision
        shift = mean + self.rng.normal(size=len(mean)) / np.sqrt(precision)
        self.theta, self.tau = self.theta + shift[:, None], self.tau + shift[:, None]


def centred(theta: Float[np.ndarray, "*draws value"]) -> Float[np.ndarray, "*draws value"]:
    """Each condition's values less their mean: which values stand above the condition's own
    level of agreement.
    """
    return theta - theta.mean(-1, keepdims=True)


def contrast(
    theta: Float[np.ndarray, "*draws value"],
    values: Sequence[str],
    above: Sequence[str],
    below: Sequence[str],
) -> Float[np.ndarray, "*draws"]:
    """Mean of the values `above` less mean of the values `below`."""
    where = {value: column for column, value in enumerate(values)}
    high, low = (theta[..., [where[value] for value in group]].mean(-1) for group in (above, below))
    return high - low


def contrasts(
    theta: Float[np.ndarray, "*draws condition value"],
    values: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[str, str]],
) -> dict[tuple[str, int, int], np.ndarray]:
    """(name, condition, other) -> draws. `a - b`: of group a less group b in a condition (other
    -1), and of that less the same in another condition. A value: of it, centred, less the same
    in another condition."""
    found, own = {}, centred(theta)
    for c in range(own.shape[-2]):
        found |= {
            (value, c, other): own[..., c, v] - own[..., other, v]
            for other in range(c)
            for v, value in enumerate(values)
        }
    for a, b in pairs:
        gap = contrast(theta, values, groups[a], groups[b])
        for c in range(gap.shape[-1]):
            found[f"{a} - {b}", c, -1] = gap[..., c]
            found |= {(f"{a} - {b}", c, other): gap[..., c] - gap[..., other] for other in range(c)}
    return found


def summarise(draws: Float[np.ndarray, "chain draw *cells"]) -> Summary:
    """Mean, interval, P(< 0), R-hat and effective sample size of every cell."""
    flat = draws.reshape(*draws.shape[:2], -1)
    low, high = np.quantile(flat, (0.025, 0.975), axis=(0, 1))
    r_hat = array_stats.rhat(flat, chain_axis=0, draw_axis=1, method="rank")
    sizes = [
        array_stats.ess(flat, chain_axis=0, draw_axis=1, method=method, prob=prob)
        for method, prob in (("bulk", None), ("tail", (0.05, 0.95)))
    ]
    columns = (flat.mean((0, 1)), low, high, (flat < 0).mean((0, 1)), r_hat, np.minimum(*sizes))
    return Summary(*(np.asarray(column, float).reshape(draws.shape[2:]) for column in columns))
