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

`variant="paper"` is this. `variant="released"` is the released code, which differs: rho is squashed
like p before step 2, each action's ratings are divided by the sum of their sizes, step 4 is the
product of `V_j ^ p'_j`, step 5 divides by N. What "normalised" is there we choose (L1) and say
here. Neither divides the weights by their sum: that changes no order.

Left out: where rho and p come from. Luo et al. (2025).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from feature_store.errors import BadInput

Variant = Literal["paper", "released"]


def sharpen(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Sharpen preferences or ratings: `sigma(10 (x - 0.5))` [0 to 1]."""
    return expit(10 * (x - 0.5))


def mix(
    rho: Float[np.ndarray, "*rows value"], weights: Float[np.ndarray, " value"]
) -> Float[np.ndarray, "*rows value"]:
    """Mix ratings with their fit to the preferences [-0.7 to 1].

    `r = 0.3 d + 0.7 rho` with `d = 1 - ||rho| - p'|`; it rises with rho.
    """
    return 0.3 * (1 - np.abs(np.abs(rho) - weights)) + 0.7 * rho


def flows(
    scenario: Float[np.ndarray, " value"],
    actions: Float[np.ndarray, "action value"],
    preferences: Float[np.ndarray, " value"],
    variant: Variant = "paper",
) -> Float[np.ndarray, " action"]:
    """Give the net flow phi of every action; the best action has the largest, and they sum to 0.

    Raises BadInput for fewer than two actions, and for ratings or preferences out of range.

        flows(np.array([1.0]), np.array([[1.0], [-1.0]]), np.array([0.9]))
    """
    if len(actions) < 2:
        raise BadInput(f"Ranking needs at least two actions, got {len(actions)}.")
    if not (np.abs(scenario) <= 1).all() or not (np.abs(actions) <= 1).all():
        raise BadInput("Ratings of scenarios and actions lie in [-1, 1], got others.")
    if not ((preferences >= 0) & (preferences <= 1)).all():
        raise BadInput("Preferences lie in [0, 1], got others.")
    weights = sharpen(preferences)
    if variant == "released":
        scenario, actions = sharpen(scenario), sharpen(actions)
    rated = mix(actions, weights)
    if variant == "released":
        rated = rated / np.maximum(np.abs(rated).sum(1, keepdims=True), 1e-12)
    rated = expit(np.abs(mix(scenario, weights))) * rated
    by_value = expit(rated[:, None] - rated[None])
    if variant == "released":
        preferred, others = np.exp(np.log(by_value) @ weights), len(actions)
    else:
        preferred, others = by_value @ weights, len(actions) - 1
    return (preferred.sum(1) - preferred.sum(0)) / others


def rank(phi: Float[np.ndarray, " action"]) -> Int[np.ndarray, " action"]:
    """Order the numbers of the actions, best first; equal actions stay in their order."""
    return np.argsort(-phi, kind="stable")
