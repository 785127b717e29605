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
from jaxtyping import Bool, Float, Int
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
class LayerProbe:
    """How well a linear probe tells a value at one layer, and where that probe lies."""

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


class ProbeTexts(NamedTuple):
    """What the probes of one value are trained on: the residuals of its pairs."""

    value: str
    """Id of the value."""
    held: Float[np.ndarray, "pair layer d_model"]
    """Residual at the last token of each text that holds the value [residual units]."""
    opposed: Float[np.ndarray, "pair layer d_model"]
    """The same of the texts that do not."""
    contexts: Sequence[str]
    """Context of each pair; pairs of one context stand on the same side of the split."""
    length_auroc: float
    """AUROC of the number of tokens on these texts [0 to 1]."""


class FitOptions(NamedTuple):
    """How the probes of a value are trained, and which of them may be chosen."""

    layers: Sequence[int]
    """0-based number of each layer of the residuals."""
    eligible: Sequence[bool]
    """Whether the probe of each layer may be chosen."""
    min_accuracy: float = 0.9
    """Held-out accuracy above which an eligible layer is chosen [0 to 1]."""
    solver: Solver = "lbfgs"
    """Optimiser of the logistic regression."""
    seed: int = 0
    """Seed of the split and of the control's swaps."""


class FittedProbes(NamedTuple):
    """The probes of one value, a layer each, and its differences of means."""

    probes: list[LayerProbe]
    """One a layer."""
    weight: Float[np.ndarray, "layer d_model"]
    """w of each probe."""
    bias: Float[np.ndarray, " layer"]
    """b of each probe."""
    means: Float[np.ndarray, "layer d_model"]
    """Mean of held less mean of opposed training texts [residual units]."""


def skipped(n_layers: int) -> int:
    """Give the number of last layers that are not steered by default.

    The paper leaves out 5; on models of fewer than 20 layers it is a quarter of them.
    """
    return min(5, n_layers // 4)


def held_out(contexts: Sequence[str], seed: int) -> Bool[np.ndarray, " pair"]:
    """Choose the pairs that are held out: those of 30 % of the contexts, drawn with a seed.

    Raises BadInput for fewer than `FEWEST` contexts.
    """
    names = sorted(set(contexts))
    if len(names) < FEWEST:
        raise BadInput(
            f"A probe needs at least {FEWEST} contexts a value, got {len(names)} from"
            f" {len(contexts)} pairs. Give more pairs."
        )
    rng = np.random.default_rng(seed)
    count = round(HELD_OUT * len(names))
    drawn = {names[i] for i in rng.permutation(len(names))[:count]}
    return np.array([context in drawn for context in contexts])


def logistic(
    x: Float[np.ndarray, "text d_model"],
    held: Bool[np.ndarray, " text"],
    solver: Solver = "lbfgs",
    tolerance: float = 1e-4,
) -> tuple[Float[np.ndarray, " d_model"], float]:
    """Fit the logistic regression of `held` on the residuals `x`; gives w and b.

    `tolerance` is the solver's own, at which it stops.
    """
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(
        solver=solver, max_iter=10_000, tol=tolerance, random_state=0
    ).fit(x, held)
    return regression.coef_[0], float(regression.intercept_[0])


def fit(texts: ProbeTexts, options: FitOptions) -> FittedProbes:
    """Train the probes of one value, a layer each, and test them on held-out contexts.

    Gives them with their evidence and the differences of means, in the order of the layers.

        fitted = fit(texts, FitOptions(layers=[0, 1], eligible=[True, False]))
        fitted.probes[0].accuracy
    """
    split = _Split.of(texts.contexts, options.seed)
    probes, weights, biases, means = [], [], [], []
    for column, layer in enumerate(options.layers):
        held, opposed = texts.held[:, column], texts.opposed[:, column]
        weight, bias = _train(held, opposed, split, options.solver)
        correct = _correct(weight, bias, held, opposed, split)
        accuracy, low, high = split.mean_over_contexts(correct)
        probes.append(
            LayerProbe(
                value=texts.value,
                layer=layer,
                accuracy=accuracy,
                low=low,
                high=high,
                n=split.n,
                control=_control(held, opposed, split, options.solver),
                bias=bias,
                norm=float(np.linalg.norm(weight)),
                length_auroc=texts.length_auroc,
                chosen=bool(options.eligible[column] and accuracy > options.min_accuracy),
            )
        )
        weights.append(weight)
        biases.append(bias)
        means.append((held[split.train] - opposed[split.train]).mean(0))
    return FittedProbes(
        probes=probes, weight=np.stack(weights), bias=np.array(biases), means=np.stack(means)
    )


class _Split(NamedTuple):
    """Which pairs train and which test, and which of them the control swaps."""

    train: Bool[np.ndarray, " pair"]
    """Pairs that train."""
    test: Bool[np.ndarray, " pair"]
    """Pairs that test."""
    swap: Bool[np.ndarray, " pair"]
    """Pairs whose sides the control swaps."""
    context: Int[np.ndarray, " test_pair"]
    """Number of each test pair's context."""

    @classmethod
    def of(cls, contexts: Sequence[str], seed: int) -> "_Split":
        """Split pairs by their contexts (70/30), and draw the swaps of the control."""
        test = held_out(contexts, seed)
        swap = np.random.default_rng((seed, 1)).random(len(contexts)) < 0.5
        numbers = np.unique(np.asarray(contexts)[test], return_inverse=True)[1]
        return cls(train=~test, test=test, swap=swap, context=numbers)

    @property
    def n(self) -> int:
        """Number of held-out contexts."""
        return int(self.context.max()) + 1

    def mean_over_contexts(
        self, correct: Float[np.ndarray, " test_pair"]
    ) -> tuple[float, float, float]:
        """Average over contexts, each counting once; gives the mean and its 95 % interval."""
        by_context = np.bincount(self.context, correct) / np.bincount(self.context)
        accuracy = float(by_context.mean())
        return accuracy, *wilson(accuracy, len(by_context))


def _train(
    held: Float[np.ndarray, "pair d_model"],
    opposed: Float[np.ndarray, "pair d_model"],
    split: _Split,
    solver: Solver,
) -> tuple[Float[np.ndarray, " d_model"], float]:
    """Fit w and b on the training pairs."""
    x = np.concatenate([held[split.train], opposed[split.train]])
    return logistic(x, np.arange(len(x)) < len(x) // 2, solver)


def _correct(
    weight: Float[np.ndarray, " d_model"],
    bias: float,
    held: Float[np.ndarray, "pair d_model"],
    opposed: Float[np.ndarray, "pair d_model"],
    split: _Split,
) -> Float[np.ndarray, " test_pair"]:
    """Give the share of each test pair's two texts that the probe tells right [0, 0.5 or 1]."""
    held_right = held[split.test] @ weight + bias > 0
    opposed_right = opposed[split.test] @ weight + bias <= 0
    return (held_right.astype(float) + opposed_right) / 2


def _control(
    held: Float[np.ndarray, "pair d_model"],
    opposed: Float[np.ndarray, "pair d_model"],
    split: _Split,
    solver: Solver,
) -> float:
    """Give the accuracy of the same probe where the sides of pairs are swapped at random [0 to 1].

    Its labels say nothing of the value, so it shows what a probe learns of the texts besides.
    """
    swap = split.swap[:, None]
    mixed_held, mixed_opposed = np.where(swap, opposed, held), np.where(swap, held, opposed)
    weight, bias = _train(mixed_held, mixed_opposed, split, solver)
    return float(_correct(weight, bias, mixed_held, mixed_opposed, split).mean())


def wilson(share: float, n: int) -> tuple[float, float]:
    """Give Wilson's 95 % interval of a share [0 to 1] of `n` observations.

    Unlike the normal interval it has a width at 0 and 1, and stays between them.

        wilson(1.0, 25)     # (0.867, 1.0)
    """
    z = float(stats.norm.ppf(0.975))
    centre = share + z**2 / (2 * n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, float((centre - reach) / scale)), min(1.0, float((centre + reach) / scale))


def length_auroc(held: Sequence[int], opposed: Sequence[int]) -> float:
    """Say how well the number of tokens alone tells held from opposed texts [AUROC, 0 to 1].

    `held` and `opposed` are lengths [tokens]. Above 0.5 held texts are longer.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score([1] * len(held) + [0] * len(opposed), [*held, *opposed]))
