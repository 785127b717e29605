"""Linear probes of a value, layer by layer, and the directions they give (Jin et al., ACL 2025,
section 3).

1. Contexts are split 70/30; both texts of a pair, and all pairs of a context, stand on the same
   side.
2. Per layer: logistic regression on the last token's residual, `P(e) = sigmoid(w e + b)`. The paper
   fits with saga; lbfgs minimises the same strictly convex objective (L2, C = 1, free intercept)
   and reaches it sooner: a test lays the two side by side.
3. Accuracy is that of held-out texts, with Wilson's 95 % interval, a context counting as one
   observation. The control is the same probe on the same texts with the sides of pairs swapped at
   random (Hewitt & Liang 2019): what it learns is no value.
4. The difference of means of the training pairs is the direction of contrastive activation addition
   (Rimsky et al. 2024).
5. A layer is chosen where accuracy exceeds the limit, the last `skip` layers left out (the paper:
   0.9 and 5).
6. `length_auroc` says how well the number of tokens alone tells the texts apart: 0.5 not at all;
   from `LENGTH` on it warns.

Left out: probes of other tokens and non-linear ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from feature_store.errors import BadInput

HELD_OUT = 0.3
"""Share of contexts kept for the test [0 to 1]."""
LENGTH = 0.7
"""AUROC of the number of tokens, either way round, from which on a probe may be one of length
[0.5 to 1]."""
FEWEST = 10
"""Contexts that a value needs at least."""
Solver = Literal["lbfgs", "saga"]


@dataclass(frozen=True)
class Probe:
    value: str
    """Id of the value."""
    layer: int
    """0-based decoder layer whose output is read."""
    accuracy: float
    """Share of held-out texts that are told right [0 to 1, 0.5 = chance]."""
    low: float
    """Lower end of its 95 % interval, a context counting once."""
    high: float
    """Upper end of it."""
    n: int
    """Held-out contexts."""
    control: float
    """Accuracy of the same probe where the sides of pairs are swapped at random [0 to 1]."""
    bias: float
    """b [nats of log-odds]."""
    norm: float
    """Length of w [nats of log-odds per residual unit]."""
    length_auroc: float
    """AUROC of the number of tokens on all texts [0 to 1, 0.5 = no difference]."""
    chosen: bool
    """Whether ConVA steers this layer."""


class Fitted(NamedTuple):
    probes: list[Probe]
    """One a layer."""
    weight: Float[np.ndarray, "layer d_model"]
    """w of each probe."""
    bias: Float[np.ndarray, " layer"]
    """b of each probe."""
    means: Float[np.ndarray, "layer d_model"]
    """Mean of held less mean of opposed training texts [residual units]."""


def skipped(n_layers: int) -> int:
    """Last layers that are not steered by default: the paper's 5, on models of fewer than 20
    layers a quarter of them.
    """
    return min(5, n_layers // 4)


def held_out(contexts: Sequence[str], seed: int) -> Bool[np.ndarray, " pair"]:
    """Which pairs are held out: 30 % of the contexts, all pairs of each."""
    names = sorted(set(contexts))
    if len(names) < FEWEST:
        raise BadInput(
            f"A probe needs at least {FEWEST} contexts a value, got {len(names)} from"
            f" {len(contexts)} pairs. Give more pairs."
        )
    rng = np.random.default_rng(seed)
    apart = {names[i] for i in rng.permutation(len(names))[: round(HELD_OUT * len(names))]}
    return np.array([context in apart for context in contexts])


def logistic(
    x: Float[np.ndarray, "text d_model"],
    held: Bool[np.ndarray, " text"],
    solver: Solver = "lbfgs",
    tolerance: float = 1e-4,
) -> tuple[Float[np.ndarray, " d_model"], float]:
    """w and b of the logistic regression of `held` on `x`."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(solver=solver, max_iter=10_000, tol=tolerance, random_state=0).fit(
        x, held
    )
    return fitted.coef_[0], float(fitted.intercept_[0])


def fit(
    value: str,
    held: Float[np.ndarray, "pair layer d_model"],
    opposed: Float[np.ndarray, "pair layer d_model"],
    contexts: Sequence[str],
    layers: Sequence[int],
    length_auroc: float,
    eligible: Sequence[bool],
    min_accuracy: float = 0.9,
    solver: Solver = "lbfgs",
    seed: int = 0,
) -> Fitted:
    """Probes of one value at each of `layers`; `eligible` says which of them may be chosen."""
    apart = held_out(contexts, seed)
    swap = np.random.default_rng((seed, 1)).random(len(contexts)) < 0.5
    tested = np.unique(np.asarray(contexts)[apart], return_inverse=True)[1]
    probes, weights, biases, means = [], [], [], []
    for column, layer in enumerate(layers):
        plus, minus = held[:, column], opposed[:, column]
        weight, bias = _train(plus[~apart], minus[~apart], solver)
        right = _right(weight, bias, plus[apart], minus[apart])
        mixed = np.where(swap[:, None], minus, plus), np.where(swap[:, None], plus, minus)
        control = _right(
            *_train(mixed[0][~apart], mixed[1][~apart], solver), mixed[0][apart], mixed[1][apart]
        )
        by_context = np.bincount(tested, right) / np.bincount(tested)
        accuracy, n = float(by_context.mean()), len(by_context)
        low, high = wilson(accuracy, n)
        probes.append(
            Probe(
                value=value,
                layer=layer,
                accuracy=accuracy,
                low=low,
                high=high,
                n=n,
                control=float(control.mean()),
                bias=bias,
                norm=float(np.linalg.norm(weight)),
                length_auroc=length_auroc,
                chosen=bool(eligible[column] and accuracy > min_accuracy),
            )
        )
        weights.append(weight)
        biases.append(bias)
        means.append((plus[~apart] - minus[~apart]).mean(0))
    return Fitted(
        probes=probes, weight=np.stack(weights), bias=np.array(biases), means=np.stack(means)
    )


def _train(plus: np.ndarray, minus: np.ndarray, solver: Solver) -> tuple[np.ndarray, float]:
    return logistic(
        np.concatenate([plus, minus]), np.arange(len(plus) + len(minus)) < len(plus), solver
    )


def _right(
    weight: np.ndarray, bias: float, plus: np.ndarray, minus: np.ndarray
) -> Float[np.ndarray, " pair"]:
    """Share of each pair's two texts that the probe tells right [0, 0.5 or 1]."""
    return ((plus @ weight + bias > 0).astype(float) + (minus @ weight + bias <= 0)) / 2


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `n` observations; unlike the normal one it has a
    width at 0 and 1.
    """
    z = float(stats.norm.ppf(0.975))
    centre, reach = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, float((centre - reach) / scale)), min(1.0, float((centre + reach) / scale))


def length_auroc(held: Sequence[int], opposed: Sequence[int]) -> float:
    """How well the number of tokens tells held from opposed texts; above 0.5 where held ones are
    longer [0 to 1].
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score([1] * len(held) + [0] * len(opposed), [*held, *opposed]))
