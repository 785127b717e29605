"""Which neurons tell a value from its reverse, and how far they are pushed (Su et al. 2025).

1. `shares`: p, the share of response tokens on which a neuron is active, with its standard error
   over answers (a ratio estimator: answers are the clusters, tokens of one answer are not
   independent).
2. `locate`: delta = p(value) - p(reversed). The neurons with the largest delta above 0 are the
   value's targets, those with the largest below 0 its opponents: the first `top` of each, and all
   whose delta is at least `least`.
3. `amounts`: how far a target is pushed, gamma u f(delta), f(delta) = 1 / (1 + exp(-10 (delta -
   0.15))).
4. The reverse edit exchanges the two roles. The control draws, layer by layer, as many other
   neurons and gives them the method's own deltas in random order: an edit of the same size and
   shape that knows nothing of the value. It prefers neurons that were active in some answer,
   because editing dead ones changes nothing.

Chosen here, since the paper leaves it open: only neurons with a delta of the right sign have a
role, however large `top` is.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from feature_store.errors import BadInput


@dataclass(frozen=True, eq=False)
class Shares:
    share: Float[np.ndarray, " neuron"]
    """Share of response tokens on which each neuron is active [0 to 1]."""
    error: Float[np.ndarray, " neuron"]
    """Its standard error over answers; NaN below two answers."""
    tokens: int
    """Response tokens."""


@dataclass(frozen=True, eq=False)
class Located:
    neuron: Int[np.ndarray, " chosen"]
    """0-based number among the neurons of all groups."""
    delta: Float[np.ndarray, " chosen"]
    """p(value) - p(reversed); above 0 in targets, below 0 in opposing neurons."""

    @property
    def opposing(self) -> Bool[np.ndarray, " chosen"]:
        """Which neurons are held at or below 0."""
        return self.delta < 0

    def reverse(self) -> "Located":
        """Targets and opponents exchanged."""
        return replace(self, delta=-self.delta)

    def control(
        self, group: Int[np.ndarray, " neuron"], alive: Bool[np.ndarray, " neuron"], seed: int
    ) -> "Located":
        """As many other neurons of each group, the deltas dealt out among them at random."""
        rng, drawn, dealt = np.random.default_rng(seed), [], []
        chosen = np.zeros(len(group), bool)
        chosen[self.neuron] = True
        for number in np.unique(group[self.neuron]):
            members = np.flatnonzero(group == number)
            own = self.delta[group[self.neuron] == number]
            # Others first, among them the live ones; where a group has too few, chosen neurons fill
            # it up.
            order = np.lexsort((rng.random(len(members)), ~alive[members], chosen[members]))
            drawn.append(members[order[: len(own)]])
            dealt.append(rng.permutation(own))
        return Located(np.concatenate(drawn), np.concatenate(dealt)) if drawn else self


def shares(
    active: Int[np.ndarray, " neuron"],
    squares: Int[np.ndarray, " neuron"],
    products: Int[np.ndarray, " neuron"],
    tokens: Int[np.ndarray, " answer"],
) -> Shares:
    """From sums over answers: active tokens c, c squared, and c times the answer's tokens t."""
    total, n = int(tokens.sum()), len(tokens)
    if not total:
        raise BadInput(
            "The model answered nothing, so no neuron was seen. Ask for more new tokens, or change"
            " the descriptions."
        )
    p = active / total
    # sum (c - p t)^2, the residuals of the ratio estimator
    residual = np.maximum(
        squares - 2 * p * products + p**2 * float((tokens.astype(float) ** 2).sum()), 0
    )
    error = np.sqrt(n / (n - 1) * residual) / total if n > 1 else np.full(len(p), np.nan)
    return Shares(p, error, total)


def locate(delta: Float[np.ndarray, " neuron"], top: int, least: float) -> Located:
    """Targets and opposing neurons of a value: in each direction the first `top` and all of at
    least `least`.
    """
    if top < 0 or not least > 0:
        raise BadInput(
            f"Neurons are chosen by a number >= 0 and a delta > 0, got {top} and {least:g}."
        )
    chosen = []
    for sign in (1, -1):
        order = np.argsort(-sign * delta, kind="stable")
        ranked = sign * delta[order]
        chosen.append(order[(ranked > 0) & ((np.arange(len(order)) < top) | (ranked >= least))])
    neuron = np.concatenate(chosen)
    return Located(neuron, delta[neuron])


def weight(delta: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """f(delta): how much of the push a neuron gets [0 to 1]; 0.5 at a delta of 0.15."""
    return 1 / (1 + np.exp(-10 * (delta - 0.15)))


def amounts(
    located: Located, u: Float[np.ndarray, " chosen"], gamma: float
) -> Float[np.ndarray, " chosen"]:
    """Added to each target [activation units]; 0 for opposing neurons."""
    return np.where(located.opposing, 0.0, gamma * u * weight(np.abs(located.delta)))
