"""How far a question drives a population apart: the objective of AdAEM (Duan et al., ICLR 2026,
section 3).

    S(x) = GJS_a[p_1(v|x), ..., p_K(v|x)] + beta / K * sum_i D[p^(v|x), p_i(v|x)]

1. An opinion spreads its mass of 1 evenly over the values it holds, or lays it on `none`; p_i is
   the mean over the opinions of member i. Without `none` a question that hardly anyone answers with
   a value would be judged by the few who do.
2. GJS = sum_i a_i KL(p_i || sum_j a_j p_j): 0 for identical members, log K for K members that share
   nothing [nats].
3. The second term keeps answers from echoing the question: p^ is what the question itself holds,
   read by the same classifier. The paper's own text defines p^ no further; this is our reading.
4. D is Jensen-Shannon's divergence. The paper's second line has total variation and no 1/K:
   `distance` and `averaged` switch to it.

Left out: corrections of the plug-in estimate's bias; `report` shows the value under chance beside
it.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import xlogy

Distance = Literal["js", "tv"]


class Score(NamedTuple):
    """How far one question drives a population apart."""

    total: float
    """S: separation and distance [nats]; NaN where a member has no readable opinion."""
    separation: float
    """GJS of the members [0 to log K nats]."""
    distance: float
    """The second term, beta and 1/K included [nats; a share for total variation]."""


def kl(
    p: Float[np.ndarray, "*rows outcome"], q: Float[np.ndarray, "*rows outcome"]
) -> Float[np.ndarray, "*rows"]:
    """Compute KL(p || q) of every row [nats]; q must hold all that p holds."""
    return (xlogy(p, p) - xlogy(p, np.where(p > 0, q, 1.0))).sum(-1)


def gjs(
    p: Float[np.ndarray, "member outcome"], weights: Float[np.ndarray, " member"] | None = None
) -> float:
    """Compute the generalised Jensen-Shannon divergence of the rows [nats].

    Weights are equal unless they are given.

        gjs(np.array([[1.0, 0.0], [0.0, 1.0]]))  # log 2: the members share nothing
    """
    a = np.full(len(p), 1 / len(p)) if weights is None else weights
    return float(a @ kl(p, np.broadcast_to(a @ p, p.shape)))


def apart(
    p: Float[np.ndarray, " outcome"], q: Float[np.ndarray, " outcome"], distance: Distance
) -> float:
    """Compute how far two distributions lie apart.

    Jensen-Shannon's divergence [nats], or total variation [0 to 1].
    """
    return gjs(np.stack([p, q])) if distance == "js" else float(np.abs(p - q).sum() / 2)


def distribution(held: Float[np.ndarray, "opinion value"]) -> Float[np.ndarray, " outcome"]:
    """Estimate p(v|x) over the values and, last, `none`.

    Opinions that could not be read (NaN) are left out; NaN where none is left.
    """
    read = held[np.isfinite(held).all(1)]
    return spread(read).mean(0) if len(read) else np.full(held.shape[1] + 1, np.nan)


def spread(held: Float[np.ndarray, "opinion value"]) -> Float[np.ndarray, "opinion outcome"]:
    """Spread each opinion's mass of 1 over the values it holds, or lay it on `none`."""
    count = held.sum(1, keepdims=True)
    shares = np.divide(held, count, out=np.zeros_like(held), where=count > 0)
    return np.hstack([shares, (count == 0).astype(float)])


def score(
    p: Float[np.ndarray, "member outcome"],
    question: Float[np.ndarray, " outcome"],
    beta: float,
    distance: Distance = "js",
    averaged: bool = True,
    weights: Float[np.ndarray, " member"] | None = None,
) -> Score:
    """Compute S of one question from the members' distributions `p`.

    `question` is what the question itself holds. NaN where anything could not be read.
    """
    if not (np.isfinite(p).all() and np.isfinite(question).all()):
        return Score(float("nan"), float("nan"), float("nan"))
    separation = gjs(p, weights)
    second = beta * sum(apart(question, row, distance) for row in p)
    if averaged:
        second = second / len(p)
    return Score(separation + second, separation, second)
