"""What a joint steering will do, said before it is measured.

1. A sweep steered every feature alone. `Curves` holds what it measured: the change of every rating
   in every context over the dose, linear between two doses, and the damage. A negative strength was
   never measured: its change is that of the positive one with the sign turned, its damage the same
   (odd and even extension). Doses beyond the measured ones are refused.
2. Two models of several features together. `linear`: the changes add up, context by context.
   `graph`: a feature pushes its own value only, by its own change over (I - A)^-1[i,i], and (I -
   A)^-1 of the causal graph carries the pushes on; what a feature does to other values directly is
   left out on purpose, so the graph is on trial. Either way a rating stays on its scale. Damages
   add up.
3. `score` holds predictions against measured joint steerings that no fit has seen: R2 of each value
   and of all together, with an interval over steerings and the R2 that predictions dealt to the
   wrong steerings reach (its 97.5 % quantile).
4. A prediction's interval adds two variances: the studentised bootstrap over contexts, and the mean
   squared error on the held-out steerings, which is what the model itself gets wrong. Without
   held-out steerings it is the former alone, and n says 0.

Left out: products of features. Where they matter, the held-out R2 says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import stats

from feature_store.errors import BadInput, NotFound
from feature_store.records import CausalGraph
from workbench.causal.graph import weights
from workbench.statistics.intervals import Interval, bootstrap_mean, cluster_weights, known_mean
from workbench.sweeps.damage import Sweep

Predictor = Literal["linear", "graph"]
"""How several features are predicted together: the changes add up, or the graph carries them."""
Weights = Sequence[tuple[int, float]]
"""(feature index, signed dose in the sweep's unit) pairs: what `Steering(combine="sum",
strength=1)` adds."""
SHUFFLES = 1000
"""Permutations behind the R2 of chance."""


@dataclass(frozen=True, eq=False)
class Curves:
    values: tuple[str, ...]
    """Ids of the measured values, in circle order."""
    feature: Int[np.ndarray, " feature"]
    """0-based feature index."""
    source: Shaped[np.ndarray, " feature"]
    """Id of the value that the feature is labelled with; empty for controls."""
    polarity: Int[np.ndarray, " feature"]
    """Polarity of the label, -1 or +1."""
    dose: Float[np.ndarray, " dose"]
    """0 and the measured doses, rising [the sweep's unit]."""
    changes: Float[np.ndarray, "feature dose context value"]
    """Steered less unsteered rating [rating points]; 0 at dose 0, NaN where nothing was parsed."""
    damage: Float[np.ndarray, "feature dose text"]
    """Rise of the loss on each neutral text [nats per token]."""
    base: Float[np.ndarray, "context value"]
    """Unsteered rating [rating points]."""
    top: int
    """Highest rating of the scale, which begins at 1 [rating points]."""

    def of_contexts(self, rows: Int[np.ndarray, " row"]) -> "Curves":
        """The same, measured in some of the contexts only."""
        return replace(self, changes=self.changes[:, :, rows], base=self.base[rows])

    def slopes(self) -> Float[np.ndarray, "feature value"]:
        """Least-squares line through the origin of each mean curve [rating points per unit of
        dose].
        """
        mean = known_mean(self.changes, 2)
        return np.einsum("d,fdv->fv", self.dose, mean) / (self.dose**2).sum()


class Held(NamedTuple):
    """How a model did on joint steerings that no fit has seen."""

    r2: Float[np.ndarray, " value+1"]
    """Of each value, and of all together in the last place [at most 1]; NaN where the measured
    changes are all equal."""
    low: Float[np.ndarray, " value+1"]
    """Lower end of the 95 % interval, bootstrapped over steerings."""
    high: Float[np.ndarray, " value+1"]
    """Upper end of it."""
    chance: Float[np.ndarray, " value+1"]
    """97.5 % quantile of R2 when predictions are dealt to the wrong steerings."""
    mae: Float[np.ndarray, " value+1"]
    """Mean absolute error [rating points]."""
    error: Float[np.ndarray, " value+1"]
    """Root mean square error [rating points]."""
    n: int
    """Held-out steerings."""


class Predictors(NamedTuple):
    """What is known for predicting a joint steering: single curves, the graph, the record."""

    curves: Curves
    """What the sweep measured."""
    graph: CausalGraph | None = None
    """Graph of the same sweep, for the model `graph`."""
    held: dict[str, Held] | None = None
    """Model -> how it did on held-out joint steerings of the same sweep."""
    damage_error: float = 0.0
    """Root mean square error of the damage on them [nats per token]."""


class Prediction(NamedTuple):
    values: tuple[str, ...]
    """Ids, in circle order."""
    mean: Float[np.ndarray, " value"]
    """Expected change over contexts [rating points]."""
    low: Float[np.ndarray, " value"]
    """Lower end of the 95 % interval: contexts and model error [rating points]."""
    high: Float[np.ndarray, " value"]
    """Upper end of it."""
    sd: Float[np.ndarray, " value"]
    """Unsteered SD over contexts [rating points]: `mean / sd` is the effect in SD."""
    n: int
    """Contexts."""
    damage: float
    """Expected rise of the loss on neutral text [nats per token]."""
    damage_low: float
    """Lower end of its 95 % interval: texts and model error [nats per token]."""
    damage_high: float
    """Upper end of it."""
    held: Held | None
    """The study's record of such predictions, to be shown beside this one; None where none was
    made yet."""
    seed: int
    """Seed of the bootstrap."""


def curves(sweep: Sweep, top: int, kind: str = "feature") -> Curves:
    """The dose-response of every unit of one kind.

    `top`: highest rating of the scale. Needs the same doses for all.
    """
    found, doses = [], None
    for unit in dict.fromkeys(sweep.unit_id[sweep.kind == kind].tolist()):
        rows = np.flatnonzero(sweep.unit_id == unit)
        rows = rows[np.argsort(sweep.dose[rows])]
        found.append(rows)
        if doses is not None and not np.array_equal(doses, sweep.dose[rows]):
            raise BadInput(
                f"Unit {unit} was steered at other doses than the first one. Sweep all features"
                " over the same doses."
            )
        doses = sweep.dose[rows]
    if doses is None:
        raise BadInput(
            f"The sweep steered no {kind}, so there is nothing to predict from. Label features and"
            " sweep them."
        )
    rows = np.stack(found)
    first = rows[:, 0]
    changes, hurt = sweep.changes()[rows], sweep.damage[rows]
    return Curves(
        values=sweep.values,
        feature=sweep.feature[first],
        source=sweep.source[first],
        polarity=sweep.polarity[first],
        dose=np.r_[0.0, doses],
        changes=np.concatenate([np.zeros_like(changes[:, :1]), changes], 1),
        damage=np.concatenate([np.zeros_like(hurt[:, :1]), hurt], 1),
        base=sweep.base,
        top=top,
    )


def doses(told: Curves, steerings: Sequence[Weights]) -> Float[np.ndarray, "steering feature"]:
    """Signed doses as a matrix.

    Raises NotFound for a feature that was not swept, BadInput beyond the measured doses.
    """
    place = {int(feature): column for column, feature in enumerate(told.feature)}
    x = np.zeros((len(steerings), len(place)))
    for row, pairs in enumerate(steerings):
        for feature, dose in pairs:
            if feature not in place:
                raise NotFound(
                    f"Feature {feature} was not swept, so nothing is known of its effects. Choose"
                    f" one of {', '.join(map(str, sorted(place)))}."
                )
            x[row, place[feature]] += dose
    if not (np.abs(x) <= told.dose[-1] + 1e-9).all():
        row, column = np.argwhere(~(np.abs(x) <= told.dose[-1] + 1e-9))[0]
        raise BadInput(
            f"Feature {told.feature[column]} was measured up to dose {told.dose[-1]:g},"
            f" {x[row, column]:g} lies beyond. Give a smaller dose, or sweep larger ones."
        )
    return x


def along(
    curve: Float[np.ndarray, " dose *cells"], dose: Float[np.ndarray, " dose"], strength: float
) -> Float[np.ndarray, "*cells"]:
    """The curve at a strength of either sign, read at its size; linear between two doses."""
    size = min(abs(strength), float(dose[-1]))
    upper = max(1, int(np.searchsorted(dose, size)))
    share = (size - dose[upper - 1]) / (dose[upper] - dose[upper - 1])
    # At a dose itself the lower one has no say, or its missing answers would spread.
    return curve[upper] if share == 1 else (1 - share) * curve[upper - 1] + share * curve[upper]


def bounded(
    base: Float[np.ndarray, "context value"],
    change: Float[np.ndarray, "*r context value"],
    top: int,
) -> Float[np.ndarray, "*r context value"]:
    """The change that a scale from 1 to `top` leaves room for [rating points]."""
    return np.clip(base + change, 1, top) - base


def linear(
    told: Curves, x: Float[np.ndarray, "steering feature"]
) -> Float[np.ndarray, "steering context value"]:
    """Changes of all ratings when the features' changes add up."""
    total = np.zeros((len(x), *told.base.shape))
    for row, column in np.argwhere(x != 0):
        total[row] += np.sign(x[row, column]) * along(
            told.changes[column], told.dose, float(x[row, column])
        )
    return bounded(told.base, total, told.top)


def through_graph(
    told: Curves, graph: CausalGraph, x: Float[np.ndarray, "steering feature"]
) -> Float[np.ndarray, "steering context value"]:
    """Changes when every feature pushes its own value and the graph carries it on; a value
    outside the graph moves alone.
    """
    size = len(told.values)
    direct = np.zeros((size, size))
    places = [told.values.index(value) for value in graph.values]
    direct[np.ix_(places, places)] = weights(graph)
    spread = np.linalg.inv(np.eye(size) - direct)
    pushes = np.zeros((len(x), *told.base.shape))
    for row, column in np.argwhere(x != 0):
        own = told.values.index(str(told.source[column]))
        change = along(told.changes[column], told.dose, float(x[row, column]))[:, own]
        pushes[row, :, own] += np.sign(x[row, column]) * change / spread[own, own]
    return bounded(told.base, pushes @ spread, told.top)


def damage(
    told: Curves, x: Float[np.ndarray, "steering feature"]
) -> Float[np.ndarray, "steering text"]:
    """Damage to every neutral text when the features' damages add up [nats per token]."""
    total = np.zeros((len(x), told.damage.shape[2]))
    for row, column in np.argwhere(x != 0):
        total[row] += along(told.damage[column], told.dose, float(x[row, column]))
    return total


def changes(
    fitted: Predictors, x: Float[np.ndarray, "steering feature"], model: Predictor
) -> Float[np.ndarray, "steering context value"]:
    """What a model expects in every context [rating points]."""
    if model == "linear":
        return linear(fitted.curves, x)
    if fitted.graph is None:
        raise BadInput(
            "The model `graph` needs a causal graph of the same sweep, there is none. Run"
            " `workbench graph` first."
        )
    return through_graph(fitted.curves, fitted.graph, x)


def predict(
    fitted: Predictors,
    steering: Weights,
    model: Predictor = "linear",
    replicates: int = 1000,
    seed: int = 0,
) -> Prediction:
    """The profile that a joint steering will have, with its interval, its damage and the record
    of such predictions.
    """
    x = doses(fitted.curves, [steering])
    held = (fitted.held or {}).get(model)
    error = held.error[:-1] if held else np.zeros(len(fitted.curves.values))
    found = widened(
        bootstrap_mean(changes(fitted, x, model)[0], replicates, seed), error, held.n if held else 0
    )
    hurt = widened(
        bootstrap_mean(damage(fitted.curves, x)[0], replicates, seed),
        np.array(fitted.damage_error),
        held.n if held else 0,
    )
    return Prediction(
        values=fitted.curves.values,
        mean=found.mean,
        low=found.low,
        high=found.high,
        sd=np.nanstd(fitted.curves.base, axis=0, ddof=1),
        n=len(fitted.curves.base),
        damage=float(hurt.mean),
        damage_low=float(hurt.low),
        damage_high=float(hurt.high),
        held=held,
        seed=seed,
    )


def widened(interval: Interval, error: Float[np.ndarray, "*cells"], n: int) -> Interval:
    """The interval of a new steering: the model's error on `n` held-out ones [RMS] added in
    quadrature.
    """
    if n < 2:
        return interval
    reach = stats.t.ppf(0.975, n) * np.sqrt(1 + 1 / n) * error
    low, high = (
        np.hypot(interval.mean - interval.low, reach),
        np.hypot(interval.high - interval.mean, reach),
    )
    return interval._replace(low=interval.mean - low, high=interval.mean + high)


def draw(told: Curves, n: int, largest: int, seed: int) -> list[tuple[tuple[int, float], ...]]:
    """`n` random joint steerings of 2 to `largest` different features, each at a random sign and
    measured-range dose.
    """
    if not 2 <= largest <= len(told.feature):
        raise BadInput(
            f"A joint steering takes 2 to {len(told.feature)} of the swept features, got {largest}."
        )
    rng = np.random.default_rng((seed, 5))
    found = []
    for _ in range(n):
        chosen = rng.choice(told.feature, rng.integers(2, largest + 1), replace=False)
        size = (
            rng.uniform(told.dose[1], told.dose[-1], len(chosen))
            if len(told.dose) > 2
            else np.full(len(chosen), told.dose[1])
        )
        found.append(
            tuple(
                (int(f), float(s))
                for f, s in zip(
                    chosen, (size * rng.choice((-1, 1), len(chosen))).round(4), strict=True
                )
            )
        )
    return found


def score(
    predicted: Float[np.ndarray, "steering value"],
    measured: Float[np.ndarray, "steering value"],
    replicates: int,
    seed: int,
) -> Held:
    """How well predicted mean changes meet the measured ones.

    All together is pooled: shared errors, each value's own mean.
    """
    n = len(measured)
    if n < 3:
        raise BadInput(
            f"A prediction is judged on three joint steerings or more, got {n}. Measure more."
        )

    def r2(forecast: np.ndarray, drawn: Float[np.ndarray, "replicate steering"]) -> np.ndarray:
        missed = drawn @ (measured - forecast) ** 2
        spread = drawn @ measured**2 - (drawn @ measured) ** 2 / drawn.sum(1, keepdims=True)
        missed, spread = (np.column_stack([x, x.sum(1)]) for x in (missed, spread))
        return (
            np.divide(missed, -spread, out=np.full_like(missed, np.nan), where=spread > 1e-12) + 1
        )

    whole = np.ones((1, n))
    low, high = np.nanquantile(
        r2(predicted, cluster_weights(n, replicates, seed)), (0.025, 0.975), axis=0
    )
    rng = np.random.default_rng((seed, 6))
    dealt = np.concatenate([r2(predicted[rng.permutation(n)], whole) for _ in range(SHUFFLES)])
    miss = measured - predicted
    mae, square = np.abs(miss).mean(0), (miss**2).mean(0)
    return Held(
        r2=r2(predicted, whole)[0],
        low=low,
        high=high,
        chance=np.nanquantile(dealt, 0.975, axis=0),
        mae=np.r_[mae, mae.mean()],
        error=np.sqrt(np.r_[square, square.mean()]),
        n=n,
    )


def error_of_others(
    predicted: Float[np.ndarray, "steering value"], measured: Float[np.ndarray, "steering value"]
) -> Float[np.ndarray, "steering value"]:
    """Root mean square error on all other steerings: what is known of the model before this one
    is measured [rating points].
    """
    square = (measured - predicted) ** 2
    return np.sqrt((square.sum(0) - square) / (len(measured) - 1))


def covered(
    found: Interval, measured: Interval, error: Float[np.ndarray, "steering value"], fresh: bool
) -> Bool[np.ndarray, "steering value"]:
    """Whether each measured mean lies in its prediction interval with that model error.

    `fresh`: it was measured in other contexts than the prediction's, so its own sampling error
    belongs to the interval.
    """
    wide = widened(found, error, len(error) - 1)
    own = (measured.high - measured.low) / 2 if fresh else np.zeros_like(error)
    low, high = np.hypot(found.mean - wide.low, own), np.hypot(wide.high - found.mean, own)
    return (found.mean - low <= measured.mean) & (measured.mean <= found.mean + high)
