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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri

from feature_store.bounds import Between, CountOrZero, Seed
from feature_store.errors import BadInput
from feature_store.progress import Progress, silent

TAU_SD, SIGMA_SCALE = 3.0, 0.5
"""Prior spread of the thresholds, and scale of the half-Cauchy prior of sigma_u [latent SD]."""
TINY = 1e-300
"""Smallest probability: its logarithm is finite."""
LEARN = (100, 250, 500)
"""Iterations of the warm-up at which the thresholds' steps are shaped anew."""
Bounds = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Tail probabilities between which each option lies, and whether they are counted from above
[chain, cell, option]."""


class OrdinalAnswers(NamedTuple):
    """Answers on one scale, one row an answer."""

    condition: Int[np.ndarray, " row"]
    """0-based number of the condition under which it was given."""
    item: Int[np.ndarray, " row"]
    """0-based number of the item that it answers."""
    answer: Int[np.ndarray, " row"]
    """0-based option, least agreement first."""
    value_of: Int[np.ndarray, " item"]
    """0-based number of the value that each item measures."""
    options: int
    """Options of the scale."""


@dataclass(frozen=True)
class SamplerSettings:
    """How long the sampler runs."""

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
    """Draws from the posterior, chain by chain."""

    theta: np.ndarray
    """How much each condition holds each value [chain, draw, condition, value; latent SD]."""
    tau: np.ndarray
    """Thresholds between the options [chain, draw, threshold; latent SD]."""
    sigma_u: np.ndarray
    """Spread of the items [chain, draw; latent SD]."""
    accepted: float
    """Share of the proposals of tau that were accepted after the warm-up [0 to 1]."""


class Summary(NamedTuple):
    """What draws add up to; every field has the shape of the cells."""

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
    """The answers, counted by cell (condition x item) and option."""

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
    answers: OrdinalAnswers, settings: SamplerSettings, progress: Progress = silent
) -> Posterior:
    """Draw from the posterior of the ordinal regression.

    Raises BadInput where some condition has no answer for some value, or the sampler runs too
    short.

        answers = OrdinalAnswers(condition, item, answer, value_of, options=6)
        theta = fit(answers, SamplerSettings(draws=500)).theta
        summarise(theta).mean  # [condition, value]
    """
    conditions = int(answers.condition.max(initial=-1)) + 1
    values = int(answers.value_of.max(initial=-1)) + 1
    data = _count(answers, values)
    if settings.chains < 2 or settings.draws < 100 or settings.warmup < 100:
        raise BadInput(
            f"Two chains, 100 draws and 100 of warm-up are the least, got {settings.chains},"
            f" {settings.draws} and {settings.warmup}. Give more."
        )
    sampler = _Gibbs(data, conditions * values, len(answers.value_of), settings)
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


def _count(answers: OrdinalAnswers, values: int) -> _Counted:
    """Count the answers by cell. Raises BadInput where they cannot be fitted."""
    answer, options = answers.answer, answers.options
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
    items = len(answers.value_of)
    places = (int(answers.condition.max()) + 1) * values
    cells, cell = np.unique(answers.condition * items + answers.item, return_inverse=True)
    n = np.zeros((len(cells), options))
    np.add.at(n, (cell, answer), 1)
    item = cells % items
    place = (cells // items) * values + answers.value_of[item]
    missing = np.setdiff1d(np.arange(places), place)
    if len(missing):
        raise BadInput(
            f"Every condition needs an answer for every value; condition {missing[0] // values} has"
            f" none for value {missing[0] % values}. Leave one out."
        )
    group = np.sort(cell * options + answer)
    return _Counted(
        n=n,
        place=place,
        item=item,
        group=group,
        starts=np.searchsorted(group, np.arange(len(cells)) * options),
    )


def _chosen(take: np.ndarray, new: Bounds, old: Bounds) -> Bounds:
    """Take `new` in the cells where `take` is set, else `old`."""
    low, high, above = (np.where(take[..., None], a, b) for a, b in zip(new, old, strict=True))
    return low, high, above


class _Gibbs:
    """The state of all chains, and one sweep over it."""

    def __init__(self, data: _Counted, places: int, items: int, settings: SamplerSettings):
        self.data = data
        self.rng = np.random.default_rng(settings.seed)
        chains = settings.chains
        crossed = np.zeros((places, items))
        np.add.at(crossed, (data.place, data.item), data.n.sum(1))
        self.crossed = crossed
        """Answers of each condition and value to each item [place, item]."""
        self.precision = crossed.sum(1) + 1.0  # theta ~ N(0, 1): the 1
        self.per_item = crossed.sum(0)
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
        self.alpha = np.full(chains, 0.3)
        self.xi = self.rng.normal(size=(chains, items))
        self.g = np.ones(chains)
        """Variance of xi [chain]."""
        neighbours = np.minimum(data.n[:, :-1].sum(0), data.n[:, 1:].sum(0))
        self.scale = np.ones(chains)
        """Length of the thresholds' steps [chain]."""
        self.root = np.diag(1 / np.sqrt(neighbours / 2 + 1.0))
        """Shape of the thresholds' steps: a root of their covariance."""
        self.reach = np.tile(2.4 / np.sqrt(self.precision), (chains, 1))
        """Length of each theta's steps [chain, place]."""
        self.along = np.zeros((len(centre), places))
        """How far each theta goes along with a step of each threshold."""
        self.history: list[np.ndarray] = []
        """Thresholds and theta of every iteration of the warm-up [chain, threshold + place]."""
        self.taken = 0
        self.tried = 0

    def _eta(self, theta: np.ndarray | None = None) -> np.ndarray:
        """Give the linear predictor of each cell [chain, cell], at another theta if given."""
        base = self.theta if theta is None else theta
        return base[:, self.data.place] + self.alpha[:, None] * self.xi[:, self.data.item]

    def step(self, tuning: bool) -> None:
        """Sweep once over the state of all chains.

        In order: theta and thresholds without the latents, latents, coefficients, spread, group
        moves.
        """
        bounds = self._conditions(tuning)
        bounds = self._thresholds(bounds, tuning)
        latent = self._latents(self._eta(), *bounds)
        total = np.add.reduceat(latent, self.data.starts, axis=1)
        self._coefficients(total)
        self._spread(total)
        self._groups(latent)

    def _bounds(self, tau: np.ndarray, eta: np.ndarray) -> Bounds:
        """Give the tail probabilities between which each option lies.

        They are counted from above where the option lies above the middle: there doubles keep the
        digits.
        """
        ends = np.pad(tau, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
        edge = ends[:, None, :] - eta[..., None]
        above = edge[..., :-1] > 0
        tail_low = ndtr(np.where(above, -edge[..., 1:], edge[..., :-1]))
        tail_high = ndtr(np.where(above, -edge[..., :-1], edge[..., 1:]))
        return tail_low, tail_high, above

    def _log_likelihood(self, low: np.ndarray, high: np.ndarray, above: np.ndarray) -> np.ndarray:
        """Give the log-likelihood of each cell [chain, cell; nats]."""
        return (self.data.n * np.log(np.maximum(high - low, TINY))).sum(-1)

    def _conditions(self, tuning: bool) -> Bounds:
        """Step every theta by itself, latents integrated out; give the bounds at the new state."""
        proposed = self.theta + self.reach * self.rng.normal(size=self.theta.shape)
        old = self._bounds(self.tau, self._eta())
        new = self._bounds(self.tau, self._eta(proposed))
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
        """Step all thresholds at once, and theta along with them, latents integrated out."""
        step = self.scale[:, None] * self.rng.normal(size=self.tau.shape) @ self.root.T
        ordered = np.all(np.diff(self.tau + step, axis=1) > 0, axis=1)
        step = np.where(ordered[:, None], step, 0.0)
        tau = self.tau + step
        theta = self.theta + step @ self.along
        new = self._bounds(tau, self._eta(theta))
        gain = (self._log_likelihood(*new) - self._log_likelihood(*bounds)).sum(1)
        prior_of_tau = ((self.tau**2 - tau**2) / TAU_SD**2).sum(1) / 2
        prior_of_theta = (self.theta**2 - theta**2).sum(1) / 2
        gain += prior_of_tau + prior_of_theta
        odds = np.minimum(gain, 0.0)
        take = ordered & (np.log(self.rng.random(len(odds))) < odds)
        self.tau = np.where(take[:, None], tau, self.tau)
        self.theta = np.where(take[:, None], theta, self.theta)
        if tuning:
            # A rate of about 0.3 is best for a handful of dimensions.
            self.scale *= np.exp(0.1 * (np.where(ordered, np.exp(odds), 0.0) - 0.3))
            self._learn()
        else:
            self.taken += int(take.sum())
            self.tried += len(take)
        return _chosen(take[:, None], new, bounds)

    def _learn(self) -> None:
        """Learn how thresholds and theta move together, from the second half of the warm-up so far.

        This shapes the thresholds' steps, and says how far theta goes along with them.
        """
        self.history.append(np.concatenate([self.tau, self.theta], axis=1))
        if len(self.history) not in LEARN:
            return
        chains = np.stack(self.history[len(self.history) // 2 :], axis=1)
        states = np.concatenate([chain - chain.mean(0) for chain in chains])
        k = self.tau.shape[1]
        tau, theta = states[:, :k], states[:, k:]
        spread = tau.T @ tau / len(states) + 1e-6 * np.eye(k)
        self.along = np.linalg.solve(spread, tau.T @ theta / len(states))
        self.root = np.linalg.cholesky(spread)
        self.scale = np.full(len(self.tau), 2.4 / np.sqrt(k))

    def _latents(
        self, eta: np.ndarray, low: np.ndarray, high: np.ndarray, above: np.ndarray
    ) -> np.ndarray:
        """Draw the latent of every answer: a normal cut off by its option's thresholds."""
        flat = (len(eta), -1)
        low, width, sign = (
            x.reshape(flat)[:, self.data.group]
            for x in (low, np.maximum(high - low, TINY), np.where(above, -1.0, 1.0))
        )
        normal = ndtri(np.clip(low + width * self.rng.random(low.shape), TINY, 1 - 1e-16))
        return eta[:, self.data.group // self.data.n.shape[1]] + sign * normal

    def _coefficients(self, total: np.ndarray) -> None:
        """Draw (xi, theta) jointly, given the latents' sums over each cell."""
        by_place = self._summed(total, self.data.place, len(self.precision))
        by_item = self._summed(total, self.data.item, len(self.per_item))
        pull = self.alpha[:, None] * (by_item - (by_place / self.precision) @ self.crossed)
        precision = self.alpha[:, None] ** 2 * np.maximum(self.eigen, 0) + 1 / self.g[:, None]
        noise = self.rng.normal(size=pull.shape) / np.sqrt(precision)
        self.xi = ((pull @ self.basis) / precision + noise) @ self.basis.T
        rest = by_place - self.alpha[:, None] * (self.xi @ self.crossed.T)
        noise = self.rng.normal(size=rest.shape) / np.sqrt(self.precision)
        self.theta = rest / self.precision + noise

    def _summed(self, total: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
        """Sum cells by group [chain, group]."""
        return np.stack([np.bincount(group, row, minlength=n) for row in total])

    def _spread(self, total: np.ndarray) -> None:
        """Draw alpha and the variance of xi, whose product is the spread of the items."""
        rest = self._summed(total, self.data.item, len(self.per_item)) - self.theta @ self.crossed
        precision = (self.xi**2) @ self.per_item + 1 / SIGMA_SCALE**2
        noise = self.rng.normal(size=len(precision)) / np.sqrt(precision)
        self.alpha = (self.xi * rest).sum(1) / precision + noise
        gamma = self.rng.gamma((1 + self.xi.shape[1]) / 2, size=len(self.g))
        self.g = (1 + (self.xi**2).sum(1)) / (2 * gamma)

    def _groups(self, latent: np.ndarray) -> None:
        """Stretch and shift the whole latent axis."""
        gap = latent - self._eta()[:, self.data.group // self.data.n.shape[1]]
        size = (
            (gap**2).sum(1)
            + (self.theta**2).sum(1)
            + (self.tau**2).sum(1) / TAU_SD**2
            + self.alpha**2 / SIGMA_SCALE**2
        )
        dimensions = gap.shape[1] + self.theta.shape[1] + self.tau.shape[1] + 1
        stretch = np.sqrt(2 * self.rng.gamma(dimensions / 2, size=len(size)) / size)
        self.theta = self.theta * stretch[:, None]
        self.tau = self.tau * stretch[:, None]
        self.alpha = self.alpha * stretch
        precision = self.theta.shape[1] + self.tau.shape[1] / TAU_SD**2
        mean = -(self.theta.sum(1) + self.tau.sum(1) / TAU_SD**2) / precision
        shift = mean + self.rng.normal(size=len(mean)) / np.sqrt(precision)
        self.theta = self.theta + shift[:, None]
        self.tau = self.tau + shift[:, None]


def centred(theta: Float[np.ndarray, "*draws value"]) -> Float[np.ndarray, "*draws value"]:
    """Subtract each condition's mean over its values.

    What is left says which values stand above the condition's own level of agreement.

        summarise(centred(posterior.theta)).below  # [condition, value]
    """
    return theta - theta.mean(-1, keepdims=True)


def contrast(
    theta: Float[np.ndarray, "*draws value"],
    values: Sequence[str],
    above: Sequence[str],
    below: Sequence[str],
) -> Float[np.ndarray, "*draws"]:
    """Give the mean of the values `above` less the mean of the values `below`, draw by draw.

    contrast(posterior.theta, system.ids, ["universalism", "benevolence"], ["power"])
    """
    column = {value: number for number, value in enumerate(values)}
    high = theta[..., [column[value] for value in above]].mean(-1)
    low = theta[..., [column[value] for value in below]].mean(-1)
    return high - low


def contrasts(
    theta: Float[np.ndarray, "*draws condition value"],
    values: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[str, str]],
) -> dict[tuple[str, int, int], np.ndarray]:
    """Give every contrast that is reported: (name, condition, other condition) -> draws.

    - `value`: the value, centred, in a condition less the same in another.
    - `a - b`: group a less group b in a condition (the other is then -1), and that less the same in
      another condition.

        draws = contrasts(theta, ("x", "y", "z"), {"a": ["x"], "b": ["y", "z"]}, [("a", "b")])
        draws["a - b", 1, 0].mean()  # how much more condition 1 holds a over b than condition 0
    """
    draws: dict[tuple[str, int, int], np.ndarray] = {}
    level = centred(theta)
    for condition in range(level.shape[-2]):
        for other in range(condition):
            for v, value in enumerate(values):
                difference = level[..., condition, v] - level[..., other, v]
                draws[value, condition, other] = difference
    for a, b in pairs:
        name, gap = f"{a} - {b}", contrast(theta, values, groups[a], groups[b])
        for condition in range(gap.shape[-1]):
            draws[name, condition, -1] = gap[..., condition]
            for other in range(condition):
                draws[name, condition, other] = gap[..., condition] - gap[..., other]
    return draws


def summarise(draws: Float[np.ndarray, "chain draw *cells"]) -> Summary:
    """Summarise the draws of every cell: mean, interval, P(< 0), R-hat, effective sample size.

    summarise(posterior.theta).r_hat  # [condition, value]; more than 1.01: run longer
    """
    flat = draws.reshape(*draws.shape[:2], -1)
    low, high = np.quantile(flat, (0.025, 0.975), axis=(0, 1))
    r_hat = array_stats.rhat(flat, chain_axis=0, draw_axis=1, method="rank")
    sizes = [
        array_stats.ess(flat, chain_axis=0, draw_axis=1, method=method, prob=prob)
        for method, prob in (("bulk", None), ("tail", (0.05, 0.95)))
    ]
    columns = (flat.mean((0, 1)), low, high, (flat < 0).mean((0, 1)), r_hat, np.minimum(*sizes))
    return Summary(*(np.asarray(column, float).reshape(draws.shape[2:]) for column in columns))
