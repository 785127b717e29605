"""The ordinal regression: planted truth comes back, the sampler draws from the posterior it
says, and what cannot be fitted is refused."""

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import stats

from feature_store.errors import BadInput
from workbench.statistics import ordinal
from workbench.statistics.ordinal import SIGMA_SCALE, TAU_SD, OrdinalAnswers, SamplerSettings

ITEMS = np.repeat(np.arange(10), 4)
"""Value of each of 40 items."""
VALUES = tuple("abcdefghij")


def simulate(theta, seed, repeats=10, spread=0.3, thresholds=(-1.5, -0.8, 0.0, 0.8, 1.5)):
    """Answers of every condition to every item, as the model says."""
    rng = np.random.default_rng(seed)
    u = rng.normal(0, spread, len(ITEMS))
    condition, item = (
        x.ravel()
        for x in np.meshgrid(
            range(len(theta)), np.tile(np.arange(len(ITEMS)), repeats), indexing="ij"
        )
    )
    latent = theta[condition, ITEMS[item]] + u[item] + rng.normal(size=len(item))
    return condition, item, (latent[:, None] > np.array(thresholds)).sum(1)


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_conditions_and_a_planted_contrast_come_back(seed):
    theta = np.random.default_rng(100 + seed).normal(size=(3, 10))
    theta[1, :2] += (
        1.5  # the planted contrast: condition 1 holds a and b more than condition 0 does
    )
    theta[0, :2] -= 0.5
    told = ordinal.fit(
        OrdinalAnswers(*simulate(theta, seed), ITEMS, 6),
        SamplerSettings(warmup=300, draws=500, seed=seed),
    )
    true, found = ordinal.centred(theta), ordinal.summarise(ordinal.centred(told.theta))
    assert np.corrcoef(true.ravel(), found.mean.ravel())[0, 1] > 0.9
    assert ((found.low <= true) & (true <= found.high)).mean() >= 0.85
    assert found.r_hat.max() < 1.02
    assert found.ess.min() > 400
    groups = {"first": VALUES[:2], "last": VALUES[8:]}
    drawn = ordinal.contrasts(told.theta, VALUES, groups, [("first", "last")])
    pairs = ((1, 0), (2, 0), (2, 1))
    assert set(drawn) == {
        ("first - last", c, o) for c, o in ((0, -1), (1, -1), (2, -1), *pairs)
    } | {(value, *pair) for value in VALUES for pair in pairs}
    changed = ordinal.summarise(np.stack([drawn[value, 1, 0] for value in VALUES], axis=-1))
    np.testing.assert_allclose(changed.mean, found.mean[1] - found.mean[0], atol=1e-9)
    gap = true[1] - true[0]
    assert ((changed.low <= gap) & (gap <= changed.high)).mean() >= 0.8
    between = ordinal.summarise(drawn["first - last", 1, 0][..., None])
    planted = (theta[1, :2].mean() - theta[1, 8:].mean()) - (
        theta[0, :2].mean() - theta[0, 8:].mean()
    )
    assert np.sign(between.mean[0]) == np.sign(planted)
    assert abs(between.mean[0] - planted) < 0.6
    tau = ordinal.summarise(told.tau)
    # The place of the latent axis is only known through the prior, distances on it are in the data.
    assert np.diff(tau.mean) == pytest.approx([0.7, 0.8, 0.8, 0.7], abs=0.25)


def test_items_that_differ_widen_the_intervals():
    theta, settings = (
        np.random.default_rng(2).normal(size=(2, 10)),
        SamplerSettings(warmup=300, draws=500),
    )
    alike, apart = (
        ordinal.fit(OrdinalAnswers(*simulate(theta, 5, spread=spread), ITEMS, 6), settings)
        for spread in (0.0, 1.0)
    )
    assert alike.sigma_u.mean() < 0.25
    assert 0.7 < apart.sigma_u.mean() < 1.4
    narrow, wide = (ordinal.summarise(told.theta) for told in (alike, apart))
    assert np.median((wide.high - wide.low) / (narrow.high - narrow.low)) > 1.3


def test_without_an_effect_the_contrast_keeps_zero():
    theta = np.tile(np.random.default_rng(7).normal(size=10), (2, 1))
    told = ordinal.fit(
        OrdinalAnswers(*simulate(theta, 3), ITEMS, 6),
        SamplerSettings(warmup=300, draws=500, seed=3),
    )
    drawn = ordinal.contrasts(told.theta, VALUES, {"x": VALUES[:5], "y": VALUES[5:]}, [("x", "y")])
    gap = ordinal.summarise(drawn["x - y", 1, 0][..., None])
    assert gap.low[0] < 0 < gap.high[0]
    assert 0.02 < gap.below[0] < 0.98
    own = ordinal.summarise(told.theta[..., 1, :] - told.theta[..., 0, :])
    assert ((own.low < 0) & (own.high > 0)).mean() >= 0.8


def test_the_sampler_leaves_the_joint_distribution_of_parameters_and_answers_as_it_is():
    """Geweke (2004): answers drawn from the parameters, parameters moved given the answers;
    their marginals must stay the prior's.
    """
    rng, chains, steps = np.random.default_rng(5), 1, 5_000
    condition, item = np.repeat([0, 1], 6), np.tile([0, 0, 1, 1, 2, 2], 2)
    value_of, places = np.array([0, 1, 1]), 4
    state, kept = None, []
    for _ in range(steps):
        answer = (
            rng.integers(0, 3, len(item))
            if state is None
            else _answers(rng, state, condition, item, value_of)
        )
        data = ordinal._count(OrdinalAnswers(condition, item, answer, value_of, 3), 2)
        sampler = ordinal._Gibbs(data, places, 3, SamplerSettings(chains=chains))
        sampler.rng = rng
        if state is not None:
            for name, held in state.items():
                setattr(sampler, name, held)
        sampler.root, sampler.scale, sampler.reach = (
            np.eye(2),
            np.ones(chains),
            np.ones((chains, places)),
        )
        sampler.along = np.full((2, places), 0.3)
        sampler.step(tuning=False)
        state = {name: getattr(sampler, name) for name in ("theta", "tau", "alpha", "xi", "g")}
        sigma = abs(state["alpha"][0]) * np.sqrt(state["g"][0])
        u = state["alpha"][0] * state["xi"][0]
        kept.append(
            [
                *state["theta"][0],
                *state["theta"][0] ** 2,
                *state["tau"][0],
                *state["tau"][0] ** 2,
                np.diff(state["tau"][0])[0],
                sigma < SIGMA_SCALE,
                sigma < 3 * SIGMA_SCALE,
                *(abs(u / sigma) < 0.6745),
                u[0] > 0,
            ]
        )
    drawn = np.array(kept, float)[200:]
    pair = np.sort(rng.normal(0, TAU_SD, (400_000, 2)), axis=1)
    expected = [
        *[0.0] * 4,
        *[1.0] * 4,
        *pair.mean(0),
        *(pair**2).mean(0),
        np.diff(pair).mean(),
        0.5,
        2 / np.pi * np.arctan(3),
        *[0.5] * 4,
    ]
    size = array_stats.ess(drawn[None], chain_axis=0, draw_axis=1, method="mean")
    z = (drawn.mean(0) - expected) / (drawn.std(0) / np.sqrt(size))
    assert np.abs(z).max() < 4, z.round(1)
    assert np.min(size) > 30


def _answers(rng, state, condition, item, value_of):
    u = state["alpha"][0] * state["xi"][0]
    latent = (
        state["theta"][0][condition * 2 + value_of[item]] + u[item] + rng.normal(size=len(item))
    )
    return (latent[:, None] > state["tau"][0]).sum(1)


def test_one_cell_agrees_with_the_integral():
    """One condition, one value, one item, two options: the posterior of theta is an integral
    over one normal.
    """
    answers = np.array([0] * 2 + [1] * 18)
    told = ordinal.fit(
        OrdinalAnswers(np.zeros(20, int), np.zeros(20, int), answers, np.array([0]), 2),
        SamplerSettings(draws=3000, seed=1),
    )
    grid = np.linspace(-6, 6, 241)
    u = SIGMA_SCALE * np.tan(
        np.pi / 2 * (np.arange(300) + 0.5) / 300
    )  # quantiles of the half-Cauchy
    noise = stats.norm.ppf((np.arange(300) + 0.5) / 300)
    joint = np.zeros(len(grid))
    for shift in TAU_SD * noise[::6]:
        inner = stats.norm.cdf(grid[:, None, None] + u[::6, None] * noise[::6] - shift)
        joint += (inner**18 * (1 - inner) ** 2).mean((1, 2))
    density = joint * stats.norm.pdf(grid)
    density /= density.sum()
    mean = (grid * density).sum()
    sd = np.sqrt(((grid - mean) ** 2 * density).sum())
    assert told.theta.mean() == pytest.approx(mean, abs=0.05)
    assert told.theta.std() == pytest.approx(sd, abs=0.05)


def test_a_condition_that_always_agrees_and_an_option_nobody_took_stay_finite():
    condition, item = np.repeat([0, 1], 80), np.tile(np.arange(40), 4)
    answer = np.where(
        condition == 0, 5, np.random.default_rng(0).integers(1, 5, 160)
    )  # nobody takes option 1
    told = ordinal.fit(
        OrdinalAnswers(condition, item, answer, ITEMS, 6), SamplerSettings(draws=500)
    )
    assert np.isfinite(told.theta).all()
    assert np.isfinite(told.tau).all()
    assert (np.diff(told.tau, axis=-1) > 0).all()
    assert (told.theta[:, :, 0].mean((0, 1)) > told.theta[:, :, 1].mean((0, 1))).all()


def test_a_saturated_condition_mixes():
    """Where a condition gives the last answer nearly always, its theta and the last threshold
    move together: Gibbs alone crawls (ESS of 15).
    """
    theta = np.zeros((2, 10))
    theta[1, :3] = 4.5
    condition, item, answer = simulate(
        theta, 0, repeats=20, spread=0.0, thresholds=(-3.2, -1.6, 0.0, 1.6, 3.2)
    )
    told = ordinal.fit(
        OrdinalAnswers(condition, item, answer, ITEMS, 6), SamplerSettings(warmup=600, draws=600)
    )
    for drawn in (told.theta, told.tau):
        found = ordinal.summarise(drawn)
        assert found.r_hat.max() < 1.02
        assert found.ess.min() > 200


def test_same_seed_same_draws():
    data = simulate(np.zeros((2, 10)), 0, repeats=2)
    few = SamplerSettings(warmup=100, draws=100, seed=4)
    assert np.array_equal(
        ordinal.fit(OrdinalAnswers(*data, ITEMS, 6), few).theta,
        ordinal.fit(OrdinalAnswers(*data, ITEMS, 6), few).theta,
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {
                "answer": np.array([], int),
                "condition": np.array([], int),
                "item": np.array([], int),
            },
            "needs answers, got none",
        ),
        ({"answer": np.full(40, 6)}, "between 1 and 6, got 7 to 7"),
        ({"item": np.zeros(40, int)}, "condition 0 has none for value 1"),
        ({"settings": SamplerSettings(chains=1)}, "Two chains"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, told):
    asked = {
        "condition": np.zeros(40, int),
        "item": np.arange(40),
        "answer": np.full(40, 2),
        "value_of": ITEMS,
        "options": 6,
        "settings": SamplerSettings(),
    }
    asked |= change
    settings = asked.pop("settings")
    with pytest.raises(BadInput, match=told):
        ordinal.fit(OrdinalAnswers(**asked), settings)
