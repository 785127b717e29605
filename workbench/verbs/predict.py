"""Predict joint steerings from single ones, then measure them: how far side effects can be known
beforehand.

1. Random joint steerings of two to four swept features (or groups or directions, where the sweep
   steered those), of random signs and doses, are drawn; no fit ever sees them.
2. They are measured under the sweep's own questions. In mode `voice` every unit is measured besides
   alone with its sign turned, since the sweep steered one way only and effects there do not turn
   with the sign: without it, R2 on SmolLM2 was below zero.
3. Both models of `causal/predict.py` say what each joint steering does.
4. R2 of every value, coverage of the intervals and the errors are kept, and handed on with every
   later prediction (`workbench/causal/joint.py`).

Coverage is judged with the model error of the other steerings, once in the same contexts, and once
predicted from half of the contexts and measured in the other half.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from feature_store.bounds import MANY, Between, Later, Replicates, Seed
from feature_store.errors import NotFound
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.work import Work
from workbench.causal import predict
from workbench.causal.joint import (
    ALL,
    curves_of,
    halves,
    joint_intervention,
    joint_relation,
    joint_rows,
    newest_of,
    read_graph,
    swept_units,
    turned_weights,
    with_turned,
)
from workbench.statistics.intervals import Interval, bootstrap_mean
from workbench.sweeps.damage import Sweep
from workbench.sweeps.stored import measure_sweep, sweep_setup
from workbench.sweeps.units import what_is_steered
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class PredictSettings:
    """Which sweep is predicted from, and how many joint steerings put it on trial."""

    effects: str = "latest"
    """Run of the sweep, of features, groups or directions."""
    graph: str = "latest"
    """Run of the graph of that sweep; latest: the newest of that sweep; empty: the linear model
    only."""
    steerings: Annotated[int, Between(3, MANY)] = 60
    """Joint steerings that are measured; a prediction is judged on 3 or more."""
    largest: Annotated[int, Between(2, MANY)] = 4
    """Features, groups or directions of the largest joint steering."""
    longest: Annotated[float, Between(0, MANY), Later()] = 0.0
    """Length of the longest joint steering, the root of the sum of its squared doses [the sweep's
    unit]; what is longer than anything that was swept is predicted worse. 0: as the doses add
    up."""
    both_signs: Annotated[bool, Later()] = False
    """Measure every feature, group or direction alone with its sign turned as well, and predict
    negative doses by that; always so in mode `voice`."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of the joint steerings and of the bootstrap."""


def run(study: Workspace, settings: PredictSettings, progress: Progress) -> Run:
    """Predict joint steerings and measure them; make a run of kind `prediction`."""
    sweep_run = study.resolve("effects", settings.effects)
    graph_run = _graph_of(study, settings.graph, sweep_run)
    inputs = {"effects": sweep_run.id, "sae": sweep_run.inputs["sae"]}
    if graph_run:
        inputs["graph"] = graph_run.id
    pinned = dataclasses.replace(
        settings,
        effects=sweep_run.id,
        graph=graph_run.id if graph_run else "",
        both_signs=settings.both_signs or sweep_run.config.get("mode") == "voice",
    )
    build = partial(_predict, study, pinned, sweep_run, graph_run, progress)
    return study.make("prediction", pinned, inputs, build)


def _predict(
    study: Workspace,
    settings: PredictSettings,
    sweep_run: Run,
    graph_run: Run | None,
    progress: Progress,
    work: Work,
) -> dict[str, Any]:
    """Draw, predict and measure joint steerings into a run, and return its figures."""
    predictors = predict.Predictors(
        curves=curves_of(study, sweep_run),
        graph=read_graph(study, graph_run) if graph_run else None,
    )
    curves, replicates = predictors.curves, settings.replicates
    longest = settings.longest or np.inf
    drawn = predict.draw(curves, settings.steerings, settings.largest, settings.seed, longest)
    doses = predict.dose_matrix(curves, drawn)
    turned = turned_weights(curves) if settings.both_signs else []
    setup = sweep_setup(study, sweep_run)
    units = swept_units(study, sweep_run, setup.template)
    interventions = [
        joint_intervention(number, weights, setup.template, units)
        for number, weights in enumerate([*drawn, *turned])
    ]
    everything = measure_sweep(work, study, setup, interventions, replicates, progress)
    measured = everything.take(np.arange(len(drawn)))
    if turned:
        alone = everything.take(np.arange(len(drawn), len(interventions)))
        curves = with_turned(curves, alone)
        predictors = predictors._replace(curves=curves)
    work.table(joint_relation(curves), joint_rows(curves, [*drawn, *turned]))
    rows, scores, summary = _judge(predictors, doses, measured, settings)
    work.table("predictions", rows, sort=("model", "value", "intervention"))
    work.table("prediction_scores", scores)
    damage = measured.damage.mean(1)
    expected = predict.damage(curves, doses).mean(1)
    steered = {"steered": what_is_steered(sweep_run.config)} if units else {}
    return summary | {
        **steered,
        "steerings": len(drawn),
        "contexts": len(measured.base),
        "unit": setup.template.unit,
        "damage_measured": float(damage.mean()),
        "damage_predicted": float(expected.mean()),
        "damage_error": float(np.sqrt(((damage - expected) ** 2).mean())),
    }


def _graph_of(study: Workspace, name: str, sweep_run: Run) -> Run | None:
    """The graph that a flag means, None for an empty one. Raises NotFound for another sweep's."""
    if not name:
        return None
    if name == "latest":
        graph_run = newest_of(study, "graph", sweep_run)
    else:
        graph_run = study.resolve("graph", name)
    if graph_run is None or graph_run.inputs["effects"] != sweep_run.id:
        raise NotFound(
            f"There is no graph of {sweep_run.id} under {name!r}. Run `workbench graph --effects"
            f" {sweep_run.id}` first, or give an empty --graph."
        )
    return graph_run


class _Trial(NamedTuple):
    """How one model's predictions did on the measured joint steerings."""

    held: predict.HeldOut
    """R2 and errors."""
    expected: Interval
    """Predicted mean changes with their prediction intervals [rating points]."""
    inside: Bool[np.ndarray, "steering value"]
    """Whether the measured mean lies in its prediction interval, in the same contexts."""
    inside_fresh: Bool[np.ndarray, "steering value"]
    """The same for a prediction from one half of the contexts, measured in the other half."""


def _judge(
    predictors: predict.Predictors,
    doses: Float[np.ndarray, "steering feature"],
    measured: Sweep,
    settings: PredictSettings,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, float]]:
    """Rows of `predictions` and of `prediction_scores`, and the summary's figures of each model."""
    change = measured.changes().transpose(1, 0, 2)
    measured_change = bootstrap_mean(change, settings.replicates, settings.seed)
    rows: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    summary: dict[str, float] = {}
    models: tuple[predict.Predictor, ...] = ("linear", "graph") if predictors.graph else ("linear",)
    for model in models:
        trial = _trial(predictors, doses, change, model, settings)
        rows += _prediction_rows(model, trial, measured, measured_change)
        model_scores = _score_rows(model, trial, measured.values)
        scores += model_scores
        pooled = model_scores[-1]
        summary |= {
            f"{model}_r2": pooled["r2"],
            f"{model}_worst_r2": float(np.nanmin(trial.held.r2)),
            f"{model}_mae": pooled["mae"],
            f"{model}_coverage": pooled["coverage"],
            f"{model}_fresh_coverage": pooled["fresh_coverage"],
        }
    return rows, scores, summary


def _trial(
    predictors: predict.Predictors,
    doses: Float[np.ndarray, "steering feature"],
    change: Float[np.ndarray, "context steering value"],
    model: predict.Predictor,
    settings: PredictSettings,
) -> _Trial:
    """Hold one model's predictions against the measured changes."""
    replicates, seed = settings.replicates, settings.seed
    first, second = halves(len(change), seed)
    measured = bootstrap_mean(change, replicates, seed)
    fresh = bootstrap_mean(change[second], replicates, seed)

    def expect(evidence: predict.Predictors) -> Interval:
        """Average a model's changes over contexts, with intervals [steering value]."""
        by_context = predict.changes(evidence, doses, model).transpose(1, 0, 2)
        return bootstrap_mean(by_context, replicates, seed)

    expected = expect(predictors)
    held = predict.score(expected.mean, measured.mean, replicates, seed)
    error = predict.error_of_others(expected.mean, measured.mean)
    from_half = expect(predictors._replace(curves=predictors.curves.of_contexts(first)))
    return _Trial(
        held=held,
        expected=predict.widened(expected, held.error[:-1], held.n),
        inside=predict.covered(expected, measured, error, False),
        inside_fresh=predict.covered(from_half, fresh, error, True),
    )


def _prediction_rows(
    model: str, trial: _Trial, measured: Sweep, change: Interval
) -> list[dict[str, Any]]:
    """Rows of `predictions` for one model: every joint steering and value."""
    sd = np.nanstd(measured.base, axis=0, ddof=1)
    expected = trial.expected
    return [
        {
            "intervention": s,
            "model": model,
            "value": value,
            "predicted": expected.mean[s, j],
            "predicted_low": expected.low[s, j],
            "predicted_high": expected.high[s, j],
            "measured": change.mean[s, j],
            "measured_low": change.low[s, j],
            "measured_high": change.high[s, j],
            "sd": sd[j],
            "n": int(change.n[s, j]),
            "covered": bool(trial.inside[s, j]),
        }
        for s in range(len(change.mean))
        for j, value in enumerate(measured.values)
    ]


def _score_rows(model: str, trial: _Trial, values: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of `prediction_scores` for one model: every value, and all together last."""
    held = trial.held
    columns = {
        "r2": held.r2,
        "low": held.low,
        "high": held.high,
        "chance": held.chance,
        "mae": held.mae,
        "error": held.error,
        "coverage": np.r_[trial.inside.mean(0), trial.inside.mean()],
        "fresh_coverage": np.r_[trial.inside_fresh.mean(0), trial.inside_fresh.mean()],
    }
    return [
        {"model": model, "value": value, "n": held.n}
        | {name: float(column[place]) for name, column in columns.items()}
        for place, value in enumerate((*values, ALL))
    ]
