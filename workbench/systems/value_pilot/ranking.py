"""Rank the actions of a scenario for stated preferences: the paper's decision-making module,
pairwise outranking (PROMETHEE).

Given the ratings rho of the scenario and of every action by value [-1 to 1] and preferences p by
value [0 to 1]:

1. `p' = sigma(10 (p - 0.5))` sharpens the preferences.
2. `d = 1 - ||rho| - p'|` says how well a rating's size fits them, `r = 0.3 d + 0.7 rho` mixes both,
   for scenario and action.
3. `r_ij = sigma(|r^s_j|) r^a_ij`: an action counts more on values the scenario is about.
4. Action i is preferred to i' on value j by `V_j = sigma(r_ij - r_i'j)`; over all values by the sum
   weighted with p'.
5. `phi = phi+ - phi-`: mean preference over the N - 1 others less the mean preference of them over
   it (Brans & Vincke 1985).

`variant="paper"` is this. `variant="released"` is what the released code computes, which differs:

- step 2 squashes rho like p inside d alone, `d = 1 - |sigma(10 (rho - 0.5)) - p'|`;
- after step 3 each action's ratings are divided by their plain sum over the values, which turns an
  action's order round where that sum is negative;
- the weights are `p'` divided by their sum, and step 4 is the product of `V_j` to these powers;
- step 5 divides by N.

The paper's form does not divide the weights by their sum: that changes no order there.

Left out: where rho and p come from. Luo et al. (2025).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, log_expit

from feature_store.errors import BadInput

Variant = Literal["paper", "released"]
TINY = 1e-12
"""Sum of an action's ratings that is rounding alone."""


def sharpen(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Sharpen preferences or ratings: `sigma(10 (x - 0.5))` [0 to 1]."""
    return expit(10 * (x - 0.5))


def mix(
    rho: Float[np.ndarray, "*rows value"],
    weights: Float[np.ndarray, " value"],
    variant: Variant = "paper",
) -> Float[np.ndarray, "*rows value"]:
    """Mix ratings with their fit to the preferences [-0.7 to 1].

    `r = 0.3 d + 0.7 rho` with `d = 1 - ||rho| - p'|`, which rises with rho. The released code has
    the squashed rating in the place of |rho|.
    """
    size = np.abs(rho) if variant == "paper" else sharpen(rho)
    return 0.3 * (1 - np.abs(size - weights)) + 0.7 * rho


def flows(
    scenario: Float[np.ndarray, " value"],
    actions: Float[np.ndarray, "action value"],
    preferences: Float[np.ndarray, " value"],
    variant: Variant = "paper",
) -> Float[np.ndarray, " action"]:
    """Give the net flow phi of every action; the best action has the largest, and they sum to 0.

    Raises BadInput for fewer than two actions, for ratings or preferences out of range, and where
    the released code would divide by 0.

        flows(np.array([1.0]), np.array([[1.0], [-1.0]]), np.array([0.9]))
    """
    if len(actions) < 2:
        raise BadInput(f"Ranking needs at least two actions, got {len(actions)}.")
    if not (np.abs(scenario) <= 1).all() or not (np.abs(actions) <= 1).all():
        raise BadInput("Ratings of scenarios and actions lie in [-1, 1], got others.")
    if not ((preferences >= 0) & (preferences <= 1)).all():
        raise BadInput("Preferences lie in [0, 1], got others.")
    weights = sharpen(preferences)
    stakes = expit(np.abs(mix(scenario, weights, variant)))
    rated = stakes * mix(actions, weights, variant)
    if variant == "paper":
        by_value = expit(rated[:, None] - rated[None])
        return _net_flow(by_value @ weights, len(actions) - 1)
    rated = rated / _sums(rated)
    by_value = log_expit(rated[:, None] - rated[None])
    return _net_flow(np.exp(by_value @ (weights / weights.sum())), len(actions))


def _net_flow(
    preferred: Float[np.ndarray, "action action"], others: int
) -> Float[np.ndarray, " action"]:
    """Give how far each action is preferred to the others, less how far they are to it."""
    return (preferred.sum(1) - preferred.sum(0)) / others


def _sums(rated: Float[np.ndarray, "action value"]) -> Float[np.ndarray, "action 1"]:
    """Give the sum of each action's ratings, by which the released code divides.

    Raises BadInput where one is 0: the released code then has no answer.
    """
    sums = rated.sum(1, keepdims=True)
    vanishing = np.flatnonzero(np.abs(sums[:, 0]) < TINY)
    if len(vanishing):
        raise BadInput(
            f"The ratings of action {vanishing[0] + 1} add up to 0, and the released code divides"
            " by that sum. Rank by the paper's form (--variant paper)."
        )
    return sums


def rank(phi: Float[np.ndarray, " action"]) -> Int[np.ndarray, " action"]:
    """Order the numbers of the actions, best first; equal actions stay in their order."""
    return np.argsort(-phi, kind="stable")
