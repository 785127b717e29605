"""Plan a steering for a wanted profile, and measure whether it gives it.

    workbench plan STUDY --want "benevolence +0.5, power <= 0, others within 0.2, damage <= 0.1"

1. The wish is read (`causal/wanted.py`), and the sweep's contexts are split in two at random.
2. Features (groups or directions, where the sweep steered those) and strengths are chosen by what
   single steerings did in the first half (`causal/plan.py`). A wish that cannot be met is refused
   here, with the nearest profile and the values that conflict; nothing has been measured yet.
3. The joint steering and a control, random features (beside groups and directions, random
   directions) at the same doses, are measured in the second half under the sweep's own questions.
   What was wanted, predicted and measured stands side by side, with the distance before and after.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from feature_store.bounds import Count, Replicates, Seed
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run, Steering
from feature_store.work import Work
from workbench.causal import plan, predict
from workbench.causal.joint import (
    halves,
    joint_intervention,
    joint_relation,
    joint_rows,
    known_predictors,
    newest_of,
    swept_units,
)
from workbench.causal.wanted import Goal, Wish, WishUnit, goal, parse
from workbench.statistics.intervals import (
    Interval,
    bootstrap_mean,
    cluster_weights,
    replicate_means,
)
from workbench.sweeps.damage import Sweep
from workbench.sweeps.stored import SweepSetup, measure_sweep, sweep_setup
from workbench.sweeps.sweep import SweepMaterial
from workbench.sweeps.units import what_is_steered
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class PlanSettings:
    """The wish, and what a steering for it may use."""

    want: str = ""
    """The wanted profile, such as `benevolence +0.5, power <= 0, others within 0.2, damage <=
    0.1`."""
    unit: WishUnit = "points"
    """Of the wish. points: rating points; sd: unsteered SD of each value."""
    max_features: Count = 8
    """Features, groups or directions of the steering, at most."""
    effects: str = "latest"
    """Run of the sweep, of features, groups or directions."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of the split of contexts, the control and the bootstrap."""


def run(study: Workspace, settings: PlanSettings, progress: Progress) -> Run:
    """Plan a steering and measure it; make a run of kind `plan`.

    Raises `plan.Unreachable` for a wish that cannot be met.
    """
    wish = parse(settings.want, study.system, settings.unit)
    sweep_run = study.resolve("effects", settings.effects)
    record = newest_of(study, "prediction", sweep_run)
    inputs = {"effects": sweep_run.id, "sae": sweep_run.inputs["sae"]}
    if record:
        inputs["prediction"] = record.id
    pinned = dataclasses.replace(settings, effects=sweep_run.id)
    build = partial(_plan, study, pinned, wish, sweep_run, progress)
    return study.make("plan", pinned, inputs, build)


def _plan(
    study: Workspace,
    settings: PlanSettings,
    wish: Wish,
    sweep_run: Run,
    progress: Progress,
    work: Work,
) -> dict[str, Any]:
    """Plan in one half of the contexts, measure in the other, and return the run's figures."""
    setup = sweep_setup(study, sweep_run)
    if setup.material.contexts < 4:
        raise BadInput(
            "A plan needs four contexts, two to choose by and two to report, the sweep has"
            f" {setup.material.contexts}. Sweep more."
        )
    progress("planning", 0, 1)
    draft = _draft(study, settings, wish, sweep_run)
    progress("planning", 1, 1)
    weights, curves = draft.plan.weights, draft.predictors.curves
    units = swept_units(study, sweep_run, setup.template)
    control: tuple[tuple[predict.UnitKey, float], ...]
    if units:
        random = _random_directions(setup.template, len(weights), settings.seed)
        units |= random
        control = tuple((name, dose) for name, (_, dose) in zip(random, weights, strict=True))
    else:
        control = _random_features(study, sweep_run, weights, settings.seed)
    steerings: list[predict.Weights] = [weights, *([control] if control else [])]
    interventions = [
        joint_intervention(number, weights, setup.template, units)
        for number, weights in enumerate(steerings)
    ]
    setup = _in_contexts(setup, draft.reporting)
    measured = measure_sweep(work, study, setup, interventions, settings.replicates, progress)
    control_rows = [
        {"intervention": 1, "value": "", "polarity": 1, "weight": dose}
        | ({"kind": "random-direction", "name": key} if units else {"feature": key})
        for key, dose in control
    ]
    work.table(joint_relation(curves), joint_rows(curves, [weights]) + control_rows)
    report = _report(draft, measured, settings)
    work.table("plan_effects", _effect_rows(draft, report))
    held = (draft.predictors.held or {}).get("linear")
    steered: dict[str, Any] = {f"{curves.kind}s": len(weights)}
    if units:
        steered["steered"] = what_is_steered(sweep_run.config)
    return _figures(draft, report, measured, settings) | {
        "want": settings.want,
        "steering": interventions[0].steering.name,
        **steered,
        "unit": setup.template.unit,
        "alike": [f"{a} and {b}" for a, b, _ in plan.alike(curves)],
        "held_out_r2": float(held.r2[-1]) if held else None,
        "held_out_n": held.n if held else 0,
    }


class _Draft(NamedTuple):
    """A plan before it is measured."""

    goal: Goal
    """The wish over the measured values [rating points]."""
    predictors: predict.Predictors
    """What is known of the features, in the contexts that choose."""
    plan: plan.SteeringPlan
    """The steering."""
    prediction: predict.Prediction
    """What it is expected to do."""
    sd: Float[np.ndarray, " value"]
    """Unsteered SD over all contexts [rating points]."""
    reporting: Int[np.ndarray, " context"]
    """Numbers of the contexts that report."""


def _draft(study: Workspace, settings: PlanSettings, wish: Wish, sweep_run: Run) -> _Draft:
    """Choose features and strengths by one half of the sweep's contexts."""
    predictors = known_predictors(study, sweep_run.id)
    base = predictors.curves.base
    sd = np.nanstd(base, axis=0, ddof=1)
    target = goal(wish, predictors.curves.values, sd)
    choosing, reporting = halves(len(base), settings.seed)
    half = predictors._replace(curves=predictors.curves.of_contexts(choosing))
    held = (predictors.held or {}).get("linear")
    error = held.error[:-1] if held else None
    steering = plan.plan(half.curves, target, settings.max_features, error)
    return _Draft(
        goal=target,
        predictors=half,
        plan=steering,
        prediction=predict.predict(
            half, steering.weights, "linear", settings.replicates, settings.seed
        ),
        sd=sd,
        reporting=reporting,
    )


def _in_contexts(setup: SweepSetup, contexts: Int[np.ndarray, " context"]) -> SweepSetup:
    """The same setup with the questions of some contexts only."""
    numbers = set(contexts.tolist())
    questions = [q for q in setup.material.questions if q.context in numbers]
    return setup._replace(material=SweepMaterial(questions, setup.material.neutral))


def _random_directions(template: Steering, n: int, seed: int) -> dict[str, Steering]:
    """Random directions that no sweep steered, by their names, without a strength."""
    seeds = [seed * 100_000 + 70_000 + number for number in range(n)]
    return {f"random {number}": dataclasses.replace(template, random=number) for number in seeds}


def _random_features(
    study: Workspace, sweep_run: Run, weights: predict.Weights, seed: int
) -> tuple[tuple[predict.UnitKey, float], ...]:
    """Random features of the sweep at the plan's doses; none where the sweep had too few."""
    random = study.store.sql(
        "SELECT DISTINCT feature FROM interventions WHERE run = ? AND kind = 'random-feature' ORDER"
        " BY feature",
        [sweep_run.id],
    )
    if len(random) < len(weights):
        return ()
    order = np.random.default_rng((seed, 8)).permutation(random.feature.to_numpy())
    drawn = order[: len(weights)]
    return tuple((int(f), dose) for f, (_, dose) in zip(drawn, weights, strict=True))


class _Report(NamedTuple):
    """What the plan did, and its control, in the contexts that report [rating points]."""

    change: Float[np.ndarray, "context value"]
    """Change under the plan."""
    plan: Interval
    """Its mean over contexts [value]."""
    control: Interval
    """The same under the control [value]; NaN without one."""


def _report(draft: _Draft, measured: Sweep, settings: PlanSettings) -> _Report:
    """Average what was measured over the contexts that report."""
    change = measured.changes()[:, draft.reporting].transpose(1, 0, 2)
    interval = bootstrap_mean(change, settings.replicates, settings.seed)
    nothing = np.full(len(draft.sd), np.nan)
    control = Interval(*[nothing] * 5)
    if change.shape[1] > 1:
        control = Interval(*(column[1] for column in interval))
    return _Report(
        change=change[:, 0], plan=Interval(*(column[0] for column in interval)), control=control
    )


def _effect_rows(draft: _Draft, report: _Report) -> list[dict[str, Any]]:
    """Rows of `plan_effects`: what was wanted, predicted and measured of every value."""
    wanted, expected = draft.goal, draft.prediction
    met = wanted.met(report.plan.mean)
    return [
        {
            "value": value,
            "wanted": wanted.target[j],
            "wanted_low": wanted.low[j],
            "wanted_high": wanted.high[j],
            "predicted": expected.mean[j],
            "predicted_low": expected.low[j],
            "predicted_high": expected.high[j],
            "measured": report.plan.mean[j],
            "measured_low": report.plan.low[j],
            "measured_high": report.plan.high[j],
            "control": report.control.mean[j],
            "control_low": report.control.low[j],
            "control_high": report.control.high[j],
            "sd": draft.sd[j],
            "n": int(report.plan.n[j]),
            "within": bool(met[j]),
        }
        for j, value in enumerate(expected.values)
    ]


def _figures(
    draft: _Draft, report: _Report, measured: Sweep, settings: PlanSettings
) -> dict[str, Any]:
    """Distances to the wish before and after, and the damage, for the run's summary."""
    wanted, expected = draft.goal, draft.prediction
    replicates, seed = settings.replicates, settings.seed
    weights = cluster_weights(len(report.change), replicates, seed)
    drawn = wanted.distance(replicate_means(report.change, weights))
    asked = np.isfinite(wanted.low) | np.isfinite(wanted.high)
    damage = bootstrap_mean(measured.damage.T, replicates, seed)
    return {
        "distance_before": float(wanted.distance(np.zeros(len(draft.sd)))),
        "distance_predicted": float(wanted.distance(expected.mean)),
        "distance_after": float(wanted.distance(report.plan.mean)),
        "distance_low": float(np.quantile(drawn, 0.025)),
        "distance_high": float(np.quantile(drawn, 0.975)),
        "distance_control": float(wanted.distance(report.control.mean)),
        "asked": int(asked.sum()),
        "within": int(wanted.met(report.plan.mean)[asked].sum()),
        "damage_predicted": expected.damage,
        "damage_predicted_low": expected.damage_low,
        "damage_predicted_high": expected.damage_high,
        "damage": float(damage.mean[0]),
        "damage_low": float(damage.low[0]),
        "damage_high": float(damage.high[0]),
        "contexts_chosen_by": expected.n,
        "contexts": len(report.change),
    }
