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
    """How often neurons are active while a model answers under one pole."""

    share: Float[np.ndarray, " neuron"]
    """Share of response tokens on which each neuron is active [0 to 1]."""
    error: Float[np.ndarray, " neuron"]
    """Its standard error over answers; NaN below two answers."""
    tokens: int
    """Response tokens."""


@dataclass(frozen=True, eq=False)
class Located:
    """Neurons with a role for a value, and by how much they tell it from its reverse."""

    neuron: Int[np.ndarray, " chosen"]
    """0-based number among the neurons of all groups."""
    delta: Float[np.ndarray, " chosen"]
    """p(value) - p(reversed); above 0 in targets, below 0 in opposing neurons."""

    @property
    def opposing(self) -> Bool[np.ndarray, " chosen"]:
        """Mark the neurons that are held at or below 0."""
        return self.delta < 0

    def reverse(self) -> "Located":
        """Exchange targets and opponents."""
        return replace(self, delta=-self.delta)

    def control(
        self, group: Int[np.ndarray, " neuron"], alive: Bool[np.ndarray, " neuron"], seed: int
    ) -> "Located":
        """Draw a random control: as many other neurons of each group, moved by the same amounts.

        The deltas of the chosen neurons are permuted among the drawn ones, so that control and
        selection differ in which neurons move and in nothing else. `group` and `alive` say of
        every neuron where it belongs and whether it was active in some answer.
        """
        rng = np.random.default_rng(seed)
        drawn: list[np.ndarray] = []
        dealt: list[np.ndarray] = []
        chosen = np.zeros(len(group), bool)
        chosen[self.neuron] = True
        for number in np.unique(group[self.neuron]):
            members = np.flatnonzero(group == number)
            deltas = self.delta[group[self.neuron] == number]
            # Others first, among them the live ones; where a group has too few, chosen neurons fill
            # it up.
            order = np.lexsort((rng.random(len(members)), ~alive[members], chosen[members]))
            drawn.append(members[order[: len(deltas)]])
            dealt.append(rng.permutation(deltas))
        return Located(np.concatenate(drawn), np.concatenate(dealt)) if drawn else self


def shares(
    active: Int[np.ndarray, " neuron"],
    squares: Int[np.ndarray, " neuron"],
    products: Int[np.ndarray, " neuron"],
    tokens: Int[np.ndarray, " answer"],
) -> Shares:
    """Estimate shares from sums over answers of c, c squared and c t.

    c counts the tokens of an answer on which a neuron is active, t is the answer's length
    [tokens]. Raises BadInput where the model answered nothing.
    """
    total = int(tokens.sum())
    n = len(tokens)
    if not total:
        raise BadInput(
            "The model answered nothing, so no neuron was seen. Ask for more new tokens, or change"
            " the descriptions."
        )
    p = active / total
    # sum (c - p t)^2, the residuals of the ratio estimator
    squared_tokens = float((tokens.astype(float) ** 2).sum())
    residual = np.maximum(squares - 2 * p * products + p**2 * squared_tokens, 0)
    error = np.full(len(p), np.nan)
    if n > 1:
        error = np.sqrt(n / (n - 1) * residual) / total
    return Shares(p, error, total)


def locate(delta: Float[np.ndarray, " neuron"], top: int, least: float) -> Located:
    """Choose the targets and the opposing neurons of a value.

    In each direction these are the first `top`, and all whose delta is at least `least`.
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
    """Weigh a neuron's push by f(delta) [0 to 1]; 0.5 at a delta of 0.15."""
    return 1 / (1 + np.exp(-10 * (delta - 0.15)))


def amounts(
    located: Located, u: Float[np.ndarray, " chosen"], gamma: float
) -> Float[np.ndarray, " chosen"]:
    """Give what is added to each target [activation units]; 0 for opposing neurons."""
    return np.where(located.opposing, 0.0, gamma * u * weight(np.abs(located.delta)))
