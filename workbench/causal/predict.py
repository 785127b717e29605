"""Predict what a joint steering will do, before it is measured.

1. A sweep steered every feature alone, or every group of features or direction, which then is what
   a feature is here. `Curves` holds what it measured: the change of every rating in every context
   over the dose, linear between two doses, and the damage. Where the same was measured with the
   sign turned, a negative strength follows that. Where it was not, its change is that of the
   positive one with the sign turned, its damage the same: true where ratings are a line in the
   dose, far from true in mode `voice`. Doses beyond the measured ones are refused.
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
UnitKey = int | str
"""How a swept unit is called: a feature by its index, a group or direction by its name, such as
`power/pole` (`sweeps/units.py`)."""
Weights = Sequence[tuple[UnitKey, float]]
"""(unit, signed dose in the sweep's unit) pairs: what `Steering(combine="sum", strength=1)` adds of
features, and `Steering(together=..., strength=1)` of groups and directions."""
SHUFFLES = 1000
"""Permutations behind the R2 of chance."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Dose-response of single features, groups or directions: what each does alone, at every
    measured dose."""

    values: tuple[str, ...]
    """Ids of the measured values, in circle order."""
    feature: Int[np.ndarray, " feature"]
    """0-based feature index; -1 of groups and directions, which have names."""
    source: Shaped[np.ndarray, " feature"]
    """Id of the value that the feature is labelled with, or the group or direction is of; empty
    for controls."""
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
    top: float
    """Highest rating of the scale, which begins at 1 [rating points]; infinite: there is no scale
    (mode `voice`)."""
    kind: str = "feature"
    """What was swept: `feature`, `group`, `direction`, or a kind of control."""
    names: tuple[str, ...] = ()
    """Names of groups or directions; none of features."""
    turned: Float[np.ndarray, "feature dose context value"] | None = None
    """Change at the same doses with the sign turned [rating points]; None: not measured."""
    turned_damage: Float[np.ndarray, "feature dose text"] | None = None
    """Rise of the loss there [nats per token]; None: not measured."""

    @property
    def keys(self) -> list[UnitKey]:
        """How each unit is called in `Weights`."""
        return [*self.names] if self.names else self.feature.tolist()

    def of_contexts(self, rows: Int[np.ndarray, " row"]) -> "Curves":
        """Keep what was measured in some of the contexts only."""
        turned = None if self.turned is None else self.turned[:, :, rows]
        return replace(self, changes=self.changes[:, :, rows], base=self.base[rows], turned=turned)

    def change(self, column: int, strength: float) -> Float[np.ndarray, "context value"]:
        """Read the change under one unit at a strength of either sign [rating points]."""
        if strength < 0 and self.turned is not None:
            return along(self.turned[column], self.dose, strength)
        return np.sign(strength) * along(self.changes[column], self.dose, strength)

    def harm(self, column: int, strength: float) -> Float[np.ndarray, " text"]:
        """Read the damage under one unit at a strength of either sign [nats per token]."""
        below = self.turned_damage if strength < 0 else None
        return along(self.damage[column] if below is None else below[column], self.dose, strength)

    def slopes(self) -> Float[np.ndarray, "feature value"]:
        """Fit a line through the origin to each mean curve, both signs together, by least squares.

        Slopes are in rating points per unit of dose.
        """
        mean = known_mean(self.changes, 2)
        if self.turned is not None:
            mean = (mean - known_mean(self.turned, 2)) / 2
        return np.einsum("d,fdv->fv", self.dose, mean) / (self.dose**2).sum()


class HeldOut(NamedTuple):
    """How a model did on joint steerings that no fit has seen: its record."""

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
    """HeldOut-out steerings."""


class Predictors(NamedTuple):
    """What is known for predicting a joint steering: single curves, the graph, the record."""

    curves: Curves
    """What the sweep measured."""
    graph: CausalGraph | None = None
    """Graph of the same sweep, for the model `graph`."""
    held: dict[str, HeldOut] | None = None
    """Model -> how it did on held-out joint steerings of the same sweep."""
    damage_error: float = 0.0
    """Root mean square error of the damage on them [nats per token]."""


class Prediction(NamedTuple):
    """The profile that a joint steering is expected to have, and the record of such predictions."""

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
    held: HeldOut | None
    """The study's record of such predictions, to be shown beside this one; None where none was
    made yet."""
    seed: int
    """Seed of the bootstrap."""


def dose_curves(sweep: Sweep, top: float, kind: str = "feature") -> Curves:
    """Read the dose-response of every unit of one kind from a sweep.

    `top` is the highest rating of the scale, infinite without one. Raises BadInput unless all units
    were steered at the same doses.

        curves = dose_curves(sweep, top=6)
        x = dose_matrix(curves, [((12, 0.3), (40, -0.2))])
        linear(curves, x)        # changes of all ratings, added up
    """
    units = dict.fromkeys(sweep.unit_id[sweep.kind == kind].tolist())
    if not units:
        raise BadInput(
            f"The sweep steered no {kind}, so there is nothing to predict from. Label features and"
            " sweep them."
        )
    by_dose = []
    for unit in units:
        interventions = np.flatnonzero(sweep.unit_id == unit)
        by_dose.append(interventions[np.argsort(sweep.dose[interventions])])
        if not np.array_equal(sweep.dose[by_dose[0]], sweep.dose[by_dose[-1]]):
            raise BadInput(
                f"Unit {unit} was steered at other doses than the first one. Sweep all of them over"
                " the same doses."
            )
    rows = np.stack(by_dose)
    first = rows[:, 0]
    changes, damage = sweep.changes()[rows], sweep.damage[rows]
    return Curves(
        values=sweep.values,
        feature=sweep.feature[first],
        source=sweep.source[first],
        polarity=sweep.polarity[first],
        dose=np.r_[0.0, sweep.dose[rows[0]]],
        changes=np.concatenate([np.zeros_like(changes[:, :1]), changes], 1),
        damage=np.concatenate([np.zeros_like(damage[:, :1]), damage], 1),
        base=sweep.base,
        top=top,
        kind=kind,
    )


def dose_matrix(
    curves: Curves, steerings: Sequence[Weights]
) -> Float[np.ndarray, "steering feature"]:
    """Lay out joint steerings as a matrix of signed doses, one column a swept unit.

    Raises NotFound for a feature, group or direction that was not swept, BadInput beyond the
    measured doses.
    """
    place = {key: column for column, key in enumerate(curves.keys)}
    called = curves.kind.capitalize()
    x = np.zeros((len(steerings), len(place)))
    for row, pairs in enumerate(steerings):
        for key, dose in pairs:
            if key not in place:
                known = ", ".join(curves.names or map(str, sorted(curves.feature)))
                raise NotFound(
                    f"{called} {key} was not swept, so nothing is known of its effects. Choose one"
                    f" of {known}."
                )
            x[row, place[key]] += dose
    # NaN is beyond, too: it compares as not within.
    beyond = np.argwhere(~(np.abs(x) <= curves.dose[-1] + 1e-9))
    if len(beyond):
        row, column = beyond[0]
        raise BadInput(
            f"{called} {curves.keys[column]} was measured up to dose {curves.dose[-1]:g},"
            f" {x[row, column]:g} lies beyond. Give a smaller dose, or sweep larger ones."
        )
    return x


def along(
    curve: Float[np.ndarray, " dose *cells"], dose: Float[np.ndarray, " dose"], strength: float
) -> Float[np.ndarray, "*cells"]:
    """Read a curve at a strength of either sign, by its size; linear between two doses."""
    size = min(abs(strength), float(dose[-1]))
    upper = max(1, int(np.searchsorted(dose, size)))
    share = (size - dose[upper - 1]) / (dose[upper] - dose[upper - 1])
    # At a dose itself the lower one has no say, or its missing answers would spread.
    return curve[upper] if share == 1 else (1 - share) * curve[upper - 1] + share * curve[upper]


def bounded(
    base: Float[np.ndarray, "context value"],
    change: Float[np.ndarray, "*r context value"],
    top: float,
) -> Float[np.ndarray, "*r context value"]:
    """Cut changes off where the scale from 1 to `top` ends [rating points]; nowhere without one."""
    if np.isinf(top):
        return change
    return np.clip(base + change, 1, top) - base


def linear(
    curves: Curves, x: Float[np.ndarray, "steering feature"]
) -> Float[np.ndarray, "steering context value"]:
    """Predict the changes of all ratings by adding up those of the features [rating points].

    `x`: signed doses, as `dose_matrix` lays them out.
    """
    total = np.zeros((len(x), *curves.base.shape))
    for row, column in np.argwhere(x != 0).tolist():
        total[row] += curves.change(column, float(x[row, column]))
    return bounded(curves.base, total, curves.top)


def through_graph(
    curves: Curves, graph: CausalGraph, x: Float[np.ndarray, "steering feature"]
) -> Float[np.ndarray, "steering context value"]:
    """Predict the changes of all ratings through the causal graph [rating points].

    Every feature pushes the value that it is labelled with, and the graph carries the push on to
    other values; a value outside the graph moves alone. `x`: signed doses.
    """
    size = len(curves.values)
    direct = np.zeros((size, size))
    places = [curves.values.index(value) for value in graph.values]
    direct[np.ix_(places, places)] = weights(graph)
    spread = np.linalg.inv(np.eye(size) - direct)
    pushes = np.zeros((len(x), *curves.base.shape))
    for row, column in np.argwhere(x != 0).tolist():
        j = curves.values.index(str(curves.source[column]))
        change = curves.change(column, float(x[row, column]))[:, j]
        pushes[row, :, j] += change / spread[j, j]
    return bounded(curves.base, pushes @ spread, curves.top)


def damage(
    curves: Curves, x: Float[np.ndarray, "steering feature"]
) -> Float[np.ndarray, "steering text"]:
    """Predict the damage to every neutral text by adding up that of the features [nats per token].

    `x`: signed doses.
    """
    total = np.zeros((len(x), curves.damage.shape[2]))
    for row, column in np.argwhere(x != 0).tolist():
        total[row] += curves.harm(column, float(x[row, column]))
    return total


def changes(
    predictors: Predictors, x: Float[np.ndarray, "steering feature"], model: Predictor
) -> Float[np.ndarray, "steering context value"]:
    """Predict the change of every rating in every context under one of both models [rating points].

    `x`: signed doses. Raises BadInput for the model `graph` where there is no graph.
    """
    if model == "linear":
        return linear(predictors.curves, x)
    if predictors.graph is None:
        raise BadInput(
            "The model `graph` needs a causal graph of the same sweep, there is none. Run"
            " `workbench graph` first."
        )
    return through_graph(predictors.curves, predictors.graph, x)


def predict(
    predictors: Predictors,
    steering: Weights,
    model: Predictor = "linear",
    replicates: int = 1000,
    seed: int = 0,
) -> Prediction:
    """Predict the profile of a joint steering, with its interval, its damage and its record.

    `steering` are pairs of a unit and its signed dose; `replicates` and `seed` are those of the
    bootstrap over contexts and texts.

        predict(known_predictors(study), [(12, 0.3), (40, -0.2)]).mean        # change by value
    """
    curves = predictors.curves
    x = dose_matrix(curves, [steering])
    held = (predictors.held or {}).get(model)
    error = held.error[:-1] if held else np.zeros(len(curves.values))
    steerings = held.n if held else 0
    by_context = bootstrap_mean(changes(predictors, x, model)[0], replicates, seed)
    change = widened(by_context, error, steerings)
    by_text = bootstrap_mean(damage(curves, x)[0], replicates, seed)
    harm = widened(by_text, np.array(predictors.damage_error), steerings)
    return Prediction(
        values=curves.values,
        mean=change.mean,
        low=change.low,
        high=change.high,
        sd=np.nanstd(curves.base, axis=0, ddof=1),
        n=len(curves.base),
        damage=float(harm.mean),
        damage_low=float(harm.low),
        damage_high=float(harm.high),
        held=held,
        seed=seed,
    )


def widened(interval: Interval, error: Float[np.ndarray, "*cells"], n: int) -> Interval:
    """Widen an interval by what the model gets wrong, for a steering that was not measured yet.

    `error` is the root mean square error on `n` held-out steerings [unit of the interval]; the two
    are added in quadrature. Below two steerings nothing is known of it, and nothing is added.
    """
    if n < 2:
        return interval
    reach = stats.t.ppf(0.975, n) * np.sqrt(1 + 1 / n) * error
    below = np.hypot(interval.mean - interval.low, reach)
    above = np.hypot(interval.high - interval.mean, reach)
    return interval._replace(low=interval.mean - below, high=interval.mean + above)


def draw(
    curves: Curves, n: int, largest: int, seed: int, longest: float = np.inf
) -> list[tuple[tuple[UnitKey, float], ...]]:
    """Draw `n` random joint steerings of 2 to `largest` different features, groups or directions.

    Each has a random sign and a random dose within the measured range. Doses whose length (the root
    of the sum of their squares) is beyond `longest` are made smaller together.
    """
    keys = curves.keys
    if not 2 <= largest <= len(keys):
        raise BadInput(
            f"A joint steering takes 2 to {len(keys)} of the swept {curves.kind}s, got {largest}."
        )
    rng = np.random.default_rng((seed, 5))
    steerings = []
    for _ in range(n):
        drawn = rng.choice(len(keys), rng.integers(2, largest + 1), replace=False)
        size = np.full(len(drawn), curves.dose[1])
        if len(curves.dose) > 2:
            size = rng.uniform(curves.dose[1], curves.dose[-1], len(drawn))
        size *= min(1.0, longest / np.linalg.norm(size))
        doses = (size * rng.choice((-1, 1), len(drawn))).round(4)
        pairs = zip(drawn, doses, strict=True)
        steerings.append(tuple((keys[column], float(dose)) for column, dose in pairs))
    return steerings


def score(
    predicted: Float[np.ndarray, "steering value"],
    measured: Float[np.ndarray, "steering value"],
    replicates: int,
    seed: int,
) -> HeldOut:
    """Judge predicted mean changes by the measured ones [rating points].

    The last place of every array judges all values together: errors are pooled, and each value is
    compared with its mean. The interval of R2 is bootstrapped over steerings. Raises BadInput below
    three steerings.
    """
    n = len(measured)
    if n < 3:
        raise BadInput(
            f"A prediction is judged on three joint steerings or more, got {n}. Measure more."
        )
    whole = np.ones((1, n))
    drawn = _r2(predicted, measured, cluster_weights(n, replicates, seed))
    low, high = np.nanquantile(drawn, (0.025, 0.975), axis=0)
    rng = np.random.default_rng((seed, 6))
    dealt = [_r2(predicted[rng.permutation(n)], measured, whole) for _ in range(SHUFFLES)]
    miss = measured - predicted
    mae, square = np.abs(miss).mean(0), (miss**2).mean(0)
    return HeldOut(
        r2=_r2(predicted, measured, whole)[0],
        low=low,
        high=high,
        chance=np.nanquantile(np.concatenate(dealt), 0.975, axis=0),
        mae=np.r_[mae, mae.mean()],
        error=np.sqrt(np.r_[square, square.mean()]),
        n=n,
    )


def _r2(
    predicted: Float[np.ndarray, "steering value"],
    measured: Float[np.ndarray, "steering value"],
    weights: Float[np.ndarray, "replicate steering"],
) -> Float[np.ndarray, "replicate value+1"]:
    """R2 of every value, and of all together last, with steerings counted `weights` times."""
    missed = weights @ (measured - predicted) ** 2
    mean_square = (weights @ measured) ** 2 / weights.sum(1, keepdims=True)
    spread = weights @ measured**2 - mean_square
    missed = np.column_stack([missed, missed.sum(1)])
    spread = np.column_stack([spread, spread.sum(1)])
    # Where the measured changes are all equal there is nothing to explain.
    undefined = np.full_like(missed, np.nan)
    return np.divide(missed, -spread, out=undefined, where=spread > 1e-12) + 1


def error_of_others(
    predicted: Float[np.ndarray, "steering value"], measured: Float[np.ndarray, "steering value"]
) -> Float[np.ndarray, "steering value"]:
    """Compute the root mean square error on all other steerings [rating points].

    It is what is known of the model before this steering is measured.
    """
    square = (measured - predicted) ** 2
    return np.sqrt((square.sum(0) - square) / (len(measured) - 1))


def covered(
    predicted: Interval,
    measured: Interval,
    error: Float[np.ndarray, "steering value"],
    fresh: bool,
) -> Bool[np.ndarray, "steering value"]:
    """Tell for each measured mean whether it lies in its prediction interval.

    `error` is the model's error [rating points]. `fresh`: it was measured in other contexts than
    the prediction's, so that its sampling error belongs to the interval as well.
    """
    wide = widened(predicted, error, len(error) - 1)
    sampling = (measured.high - measured.low) / 2 if fresh else np.zeros_like(error)
    below = np.hypot(predicted.mean - wide.low, sampling)
    above = np.hypot(wide.high - predicted.mean, sampling)
    low, high = predicted.mean - below, predicted.mean + above
    return (low <= measured.mean) & (measured.mean <= high)
