"""From a wanted profile back to a steering: the fewest features and strengths that are predicted to
give it.

1. Each feature's mean curve over the dose is replaced by its line, and a convex program (cvxpy,
   CLARABEL) asks how near the wish can be met within the measured doses and the damage: smallest
   sum of slacks, one a value. The curves are then followed from there by sequential convex
   programming: lines at the present doses, a trust region that shrinks where they mislead.
2. A sum of slacks above 0 refuses the wish (`Unreachable`): the nearest profile, the values whose
   bounds pull against one another (those with a slack, and those whose bound has a price in the
   dual), and the limits that bind.
3. Otherwise the same program pays for doses: L1, reweighted by 1 / (|dose| + eps) so that small
   doses vanish (Candes, Wakin & Boyd 2008). What is left is followed along the curves, and features
   are dropped, the smallest first, as long as the wish still holds; then the doses move as near to
   the targets as that set of features allows.
4. A wish is planned with a reserve: half of each tolerance, and the model's error at a bound, as
   far as that can be had, because what is predicted at the edge is measured beyond it every second
   time.

Values whose columns of effects are (nearly) proportional cannot be moved apart: `alike` names the
pairs. Left out: proof that no smaller set exists. Finding the smallest is a combinatorial problem;
this is a local search.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from feature_store.errors import BadInput
from workbench.causal.predict import Curves, Weights, damage, linear
from workbench.causal.wanted import Goal
from workbench.statistics.intervals import known_mean

ALIKE = 0.97
"""Cosine of two values' effects over the features from which they count as moving together."""
MET = 0.01
"""A wish counts as met when it is missed by no more than this over all values together [rating
points]."""
SMALLEST_DOSE = 0.02
"""Doses below this share of the largest one are none."""
PENALTY = 1e3
"""Price of one rating point of slack against everything else in the objective."""

DAMAGE_PRICE = 10.0
"""Price of exceeding the damage limit by its own size, against one rating point of slack:
nobody's nearest profile breaks it."""


class SteeringPlan(NamedTuple):
    """A steering for a wish, and what it is expected to do."""

    weights: Weights
    """(unit, signed dose) pairs, the largest first."""
    predicted: Float[np.ndarray, " value"]
    """Expected change [rating points]."""
    damage: float
    """Expected damage [nats per token]."""


class Unreachable(BadInput):
    """A wish that no steering within the limits meets; the message says the nearest and why."""

    def __init__(self, message: str, nearest: SteeringPlan, conflicts: tuple[str, ...]):
        super().__init__(message)
        self.nearest = nearest
        """The steering that misses least."""
        self.conflicts = conflicts
        """Ids of the values that cannot all have what is asked."""


class _Solved(NamedTuple):
    """Solution of one convex program."""

    doses: Float[np.ndarray, " feature"]
    """Signed doses; 0 for a feature that is not in use."""
    slack: Float[np.ndarray, " value"]
    """Rating points by which each value's bounds are missed."""
    price: Float[np.ndarray, " value"]
    """Dual of each value's bounds: how much less slack a looser bound would need."""


def alike(curves: Curves, smallest: float = ALIKE) -> list[tuple[str, str, float]]:
    """Find pairs of values that no steering can move apart, with the cosine of their effects.

    The features move such a pair in proportion: the cosine is `smallest` or more in size. A value
    that no feature moves is paired with itself.
    """
    gain = curves.slopes()
    length = np.linalg.norm(gain, axis=0)
    still = [
        (value, value, 0.0) for value, x in zip(curves.values, length, strict=True) if x < 1e-9
    ]
    unit = gain / np.maximum(length, 1e-12)
    pairs = [
        (curves.values[a], curves.values[b], float(unit[:, a] @ unit[:, b]))
        for a, b in combinations(range(len(curves.values)), 2)
    ]
    return still + [pair for pair in pairs if abs(pair[2]) >= smallest]


def plan(
    curves: Curves, goal: Goal, most: int, error: Float[np.ndarray, " value"] | None = None
) -> SteeringPlan:
    """Search the steering for a goal, of at most `most` features, groups or directions.

    `error` is the prediction's root mean square error at each value [rating points]; the plan keeps
    that far from the bounds where it can. Raises Unreachable with the nearest steering, and
    BadInput where the unsteered model meets the wish already.

        wish = parse("power -0.5, others within 0.2", system)
        plan(curves, goal(wish, curves.values, sd), most=4).weights        # ((12, -0.3), ...)
    """
    if most < 1:
        raise BadInput(f"A steering needs at least one {curves.kind}, got at most {most}.")
    nothing = np.zeros(len(curves.values))
    if goal.met(nothing).all():
        raise BadInput(
            "The unsteered model meets the wish, so there is nothing to plan. Ask for a change."
        )
    search = _Search(curves, goal)
    everything = np.ones(len(curves.feature), bool)
    start = search.convex(
        np.zeros(len(curves.feature)), everything, curves.dose[-1], goal, nearest=True
    )
    best = search.follow(start.doses, everything, goal, nearest=True)
    if search.miss(best, goal) > MET:
        raise search.unreachable(best, start, everything, f"doses up to {curves.dose[-1]:g}")
    careful = search.with_reserve(best, np.zeros(len(curves.values)) if error is None else error)
    x = search.sparse(best, careful, most)
    x, used = search.drop(x, careful, most)
    if search.miss(x, goal) > MET:
        solved = search.convex(x, used, curves.dose[-1], goal, nearest=True)
        raise search.unreachable(
            x, solved, used, f"at most {most} {curves.kind}s" if most > 1 else f"one {curves.kind}"
        )
    return search.as_plan(x)


class _Search:
    """The curves as arrays of means, and the convex programs over them."""

    def __init__(self, curves: Curves, goal: Goal):
        self.curves, self.goal = curves, goal
        self.reach = float(curves.dose[-1])
        self.lines = curves.slopes()
        by_dose = curves.damage.mean(2)
        self.harm = np.maximum(by_dose @ curves.dose**2 / (curves.dose**4).sum(), 0.0)

    def change(self, x: np.ndarray) -> np.ndarray:
        """Expected change along the curves, on the scale [value]."""
        return known_mean(linear(self.curves, x[None])[0], 0)

    def harm_of(self, x: np.ndarray) -> float:
        """Expected damage along the curves [nats per token]."""
        return float(damage(self.curves, x[None]).mean())

    def miss(self, x: np.ndarray, goal: Goal) -> float:
        """Rating points by which the bounds are missed, over all values together.

        Damage beyond its limit is dearer than any of them.
        """
        change = self.change(x)
        outside = np.maximum(goal.low - change, 0) + np.maximum(change - goal.high, 0)
        return float(
            outside.sum()
            + DAMAGE_PRICE * max(0.0, self.harm_of(x) - goal.damage) / max(goal.damage, MET)
        )

    def merit(self, x: np.ndarray, goal: Goal, nearest: bool) -> float:
        """What a step along the curves must lower: misses first, then distance to the targets."""
        away = 0.0 if nearest else float((goal.missed(self.change(x)) ** 2).sum())
        return PENALTY * self.miss(x, goal) + away

    def slopes(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of every value's change [feature value], and curvature of the damage [feature].

        They are those at the present doses; at dose 0, those of the lines over the whole range.
        """
        lines, harm = self.lines.copy(), self.harm.copy()
        step = 0.1 * self.reach
        for f in np.flatnonzero(x):
            up, down = x.copy(), x.copy()
            up[f] = min(x[f] + step, self.reach)
            down[f] = max(x[f] - step, -self.reach)
            lines[f] = (self.change(up) - self.change(down)) / (up[f] - down[f])
            here = self.curves.harm(int(f), float(x[f])).mean()
            harm[f] = max(0.0, float(here) / x[f] ** 2)
        return lines, harm

    def convex(
        self,
        x: np.ndarray,
        used: Bool[np.ndarray, " feature"],
        radius: float,
        goal: Goal,
        nearest: bool = False,
        prices: np.ndarray | None = None,
    ) -> _Solved:
        """Solve one convex program around the doses `x`, over the features in use.

        Slacks are made small first; then the doses' prices, or the distance to the targets. No dose
        moves by more than `radius`. With `nearest` only slacks count.
        """
        import cvxpy as cp

        lines, harm = self.slopes(x)
        lines, harm, at = lines[used], harm[used], x[used]
        dose, slack = cp.Variable(int(used.sum())), cp.Variable(len(goal.low), nonneg=True)
        change = self.change(x) + lines.T @ (dose - at)
        limits = [
            dose <= np.minimum(at + radius, self.reach),
            dose >= np.maximum(at - radius, -self.reach),
        ]
        below, above = (np.flatnonzero(np.isfinite(bound)) for bound in (goal.low, goal.high))
        bounds = [
            change[below] >= goal.low[below] - slack[below],
            change[above] <= goal.high[above] + slack[above],
        ]
        excess = cp.Variable(nonneg=True)
        if np.isfinite(goal.damage):
            limits.append(cp.sum(cp.multiply(harm, cp.square(dose))) <= goal.damage + excess)
        cost = cp.sum(slack) + DAMAGE_PRICE / max(goal.damage, MET) * excess
        # The last term, next to nothing, makes the solution unique.
        if nearest:
            cost += 1e-4 * cp.sum_squares(dose / self.reach)
        else:
            cost *= PENALTY
            aimed = np.flatnonzero(np.isfinite(goal.target))
            if prices is not None:
                cost += prices[used] @ cp.abs(dose) / self.reach
            elif len(aimed):
                cost += cp.sum_squares(change[aimed] - goal.target[aimed])
            cost += 1e-6 * cp.sum_squares(dose / self.reach)
        problem = cp.Problem(cp.Minimize(cost), limits + bounds)
        problem.solve(solver=cp.CLARABEL)
        if dose.value is None:
            raise RuntimeError(
                f"The planner's convex program ended as {problem.status}; it always has a solution."
            )
        doses, price = np.zeros(len(x)), np.zeros(len(goal.low))
        doses[used] = np.clip(dose.value, -self.reach, self.reach)
        price[below] += np.abs(bounds[0].dual_value)
        price[above] += np.abs(bounds[1].dual_value)
        return _Solved(doses, np.maximum(slack.value, 0), price)

    def follow(
        self, x: np.ndarray, used: np.ndarray, goal: Goal, nearest: bool = False, steps: int = 12
    ) -> np.ndarray:
        """Follow the curves from the doses `x` by sequential convex programming.

        Never ends worse than it began, by `merit`.
        """
        merit, radius = self.merit(x, goal, nearest), 0.5 * self.reach
        for _ in range(steps):
            if nearest and self.miss(x, goal) <= MET / 2:
                break
            tried = self.convex(x, used, radius, goal, nearest).doses
            reached = self.merit(tried, goal, nearest)
            if reached < merit - 1e-6:
                small = merit - reached < 1e-3 * merit
                x, merit = tried, reached
                if small:
                    break
            else:
                radius /= 3
                if radius < SMALLEST_DOSE * self.reach / 4:
                    break
        return x

    def with_reserve(self, x: np.ndarray, error: np.ndarray) -> Goal:
        """Narrow the goal's bounds by a reserve, and give it back where it cannot be had.

        The reserve is a quarter of a width, and `error` at a bound on one side [rating points].
        """
        width = self.goal.high - self.goal.low
        spare = np.where(np.isfinite(width), width / 4, error)
        tight = self.goal._replace(low=self.goal.low + spare, high=self.goal.high - spare)
        change = self.change(self.follow(x, np.ones(len(x), bool), tight, nearest=True))
        return tight._replace(
            low=np.clip(np.minimum(tight.low, change), self.goal.low, None),
            high=np.clip(np.maximum(tight.high, change), None, self.goal.high),
        )

    def sparse(self, x: np.ndarray, goal: Goal, most: int, rounds: int = 6) -> np.ndarray:
        """Find doses most of which are 0: reweighted L1 along lines, then along the curves.

        `x` are doses that meet the goal with all features.
        """
        everything, prices = np.ones(len(x), bool), np.ones(len(x))
        at = np.zeros(len(x))
        for _ in range(rounds):
            at = self.convex(np.zeros(len(x)), everything, self.reach, goal, prices=prices).doses
            prices = 1 / (np.abs(at) / self.reach + SMALLEST_DOSE)
        at[np.abs(at) < SMALLEST_DOSE * self.reach] = 0.0
        # Lines overrate features that saturate: where those that are left fall short on the curves,
        # the best of all others help.
        for more in (0, most, 4 * most, len(x)):
            used = (at != 0) | np.isin(everything.cumsum() - 1, np.argsort(-np.abs(x))[:more])
            start = x
            if more < len(x):
                start = np.where(at != 0, at, np.where(used, x, 0.0))
            doses = self.follow(start, used, goal)
            if self.miss(doses, goal) <= MET:
                break
        return doses

    def drop(self, x: np.ndarray, goal: Goal, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Leave out features one by one, the smallest first, while the goal still holds.

        Goes on beyond that until there are `most`. Gives the doses, and which features are in use.
        """
        used = x != 0
        allowed = max(self.miss(x, goal), MET)
        while used.sum() > 1:
            tried = []
            for f in np.flatnonzero(used)[np.argsort(np.abs(x[used]))]:
                rest = used & (np.arange(len(x)) != f)
                without = self.follow(np.where(rest, x, 0.0), rest, goal, steps=6)
                tried.append((self.miss(without, goal), without, rest))
                if tried[-1][0] <= allowed:
                    break
            missed, without, rest = min(tried, key=lambda attempt: attempt[0])
            if missed > allowed and used.sum() <= most:
                break
            x, used = without, rest
        x = self.follow(x, used, goal)
        return x, used

    def as_plan(self, x: np.ndarray) -> SteeringPlan:
        """Write the doses as pairs, rounded to what is given to the model."""
        x = x.round(4)
        order = [f for f in np.argsort(-np.abs(x)) if x[f]]
        return SteeringPlan(
            tuple((self.curves.keys[f], float(x[f])) for f in order),
            self.change(x),
            self.harm_of(x),
        )

    def unreachable(
        self, x: np.ndarray, solved: _Solved, used: np.ndarray, limit: str
    ) -> Unreachable:
        """Say why as an error: nearest profile, values in conflict, limits that bind."""
        nearest, goal, values = self.as_plan(x), self.goal, self.curves.values
        missed = ~goal.met(nearest.predicted, MET / len(values))
        local = self.convex(x, used, 0.1 * self.reach, goal, nearest=True)
        priced = (solved.price > 1e-3) | (local.price > 1e-3)
        conflicts = tuple(
            value for value, away, dear in zip(values, missed, priced, strict=True) if away or dear
        )
        got = [
            f"{values[j]} {nearest.predicted[j]:+.2f} (asked {_asked(goal, int(j))})"
            for j in np.flatnonzero(missed)
        ]
        if nearest.damage > 0.95 * goal.damage:
            limit += f" and damage up to {goal.damage:g} nats"
        pairs = [
            f"{a} and {b}"
            for a, b, _ in alike(self.curves)
            if a in conflicts and b in conflicts and a != b
        ]
        message = (
            f"No steering within {limit} gives this profile; the nearest gives"
            f" {', '.join(got) or f'damage {nearest.damage:.2f}'}"
        )
        if len(conflicts) > 1:
            message += f"; in conflict: {', '.join(conflicts)}"
        if pairs:
            message += f"; every {self.curves.kind} moves {', '.join(pairs)} alike"
        message += (
            f". Ask for that, or allow wider bounds, more damage or more {self.curves.kind}s."
        )
        return Unreachable(message, nearest, conflicts)


def _asked(goal: Goal, j: int) -> str:
    """What is asked of value `j`, in words."""
    low, high = goal.low[j], goal.high[j]
    if np.isfinite(low) and np.isfinite(high):
        return f"{low:+.2f} to {high:+.2f}"
    return f"at least {low:+.2f}" if np.isfinite(low) else f"at most {high:+.2f}"
