"""Plan a steering for a wanted profile, and measure whether it gives it.

    workbench plan STUDY --want "benevolence +0.5, power <= 0, others within 0.2, damage <= 0.1"

1. The wish is read (`causal/wish.py`), and the sweep's contexts are split in two at random.
2. Features and strengths are chosen by what single steerings did in the first half
   (`causal/planner.py`). A wish that cannot be met is refused here, with the nearest profile and
   the values that conflict; nothing has been measured yet.
3. The joint steering and a control, random features at the same doses, are measured in the second
   half under the sweep's own questions. What was wanted, predicted and measured stands side by
   side, with the distance before and after.
"""

import dataclasses

import numpy as np

from feature_store.bounds import Count, Replicates, Seed
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from workbench.causal import plan, predict
from workbench.causal.joint import (
    halves,
    joint_intervention,
    joint_rows,
    known_predictors,
    newest_of,
)
from workbench.causal.wanted import Goal, Scale, goal, parse
from workbench.settings import plain
from workbench.statistics.intervals import bootstrap_mean, cluster_weights, replicate_means
from workbench.sweeps.damage import Sweep
from workbench.sweeps.stored import SweepMaterial, measure_sweep, sweep_setup
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class PlanSettings:
    want: str = ""
    """The wanted profile, such as `benevolence +0.5, power <= 0, others within 0.2, damage <=
    0.1`."""
    unit: Scale = "points"
    """Of the wish. points: rating points; sd: unsteered SD of each value."""
    max_features: Count = 8
    """Features of the steering, at most."""
    effects: str = "latest"
    """Run of the sweep of single features."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of the split of contexts, the control and the bootstrap."""


def run(study: Workspace, config: PlanSettings, progress: Progress) -> Run:
    """A run of kind `plan`. Raises `plan.Unreachable` for a wish that cannot be met."""
    wish = parse(config.want, study.system, config.unit)
    effects_run = study.resolve("effects", config.effects)
    sae_run = study.runs.get(effects_run.inputs["sae"])
    checked = newest_of(study, "prediction", effects_run)
    inputs = {"effects": effects_run.id, "sae": sae_run.id} | (
        {"prediction": checked.id} if checked else {}
    )
    plainly = plain(dataclasses.replace(config, effects=effects_run.id))
    if study.runs.exists(id := study.runs.find("plan", plainly, inputs, config.seed)):
        return study.runs.get(id)
    setup = sweep_setup(study, effects_run)
    if setup.settings.n_contexts < 4:
        raise BadInput(
            "A plan needs four contexts, two to choose by and two to report, the sweep has"
            f" {setup.settings.n_contexts}. Sweep more."
        )
    progress("planning", 0, 1)
    told = known_predictors(study, effects_run.id)
    sd = np.nanstd(told.curves.base, axis=0, ddof=1)
    wanted = goal(wish, told.curves.values, sd)
    first, second = halves(len(told.curves.base), config.seed)
    half = told._replace(curves=told.curves.of_contexts(first))
    held = (told.held or {}).get("linear")
    found = plan.plan(half.curves, wanted, config.max_features, held.error[:-1] if held else None)
    progress("planning", 1, 1)
    steerings = [found.weights, *_control(study, effects_run, found.weights, config.seed)]
    with study.runs.begin("plan", plainly, inputs, config.seed) as work:
        planned = [
            joint_intervention(number, weights, setup.template)
            for number, weights in enumerate(steerings)
        ]
        questions = [q for q in setup.material.questions if q.context in set(second.tolist())]
        setup = setup._replace(material=SweepMaterial(questions, setup.material.neutral))
        measured = measure_sweep(work, study, setup, planned, config.replicates, progress)
        said = predict.predict(half, found.weights, "linear", config.replicates, config.seed)
        own = joint_rows(told.curves, [found.weights])
        control = [
            {"intervention": 1, "feature": f, "value": "", "polarity": 1, "weight": w}
            for f, w in (steerings[1] if steerings[1:] else ())
        ]
        work.table("joint_features", own + control)
        rows, summary = _report(wanted, said, sd, measured, second, config)
        work.table("plan_effects", rows)
        return work.finish(
            summary
            | {
                "want": config.want,
                "steering": planned[0].steering.name,
                "features": len(found.weights),
                "unit": setup.template.unit,
                "alike": [f"{a} and {b}" for a, b, _ in plan.alike(half.curves)],
                "held_out_r2": float(held.r2[-1]) if held else None,
                "held_out_n": held.n if held else 0,
            }
        )


def _control(
    study: Workspace, effects: Run, weights: predict.Weights, seed: int
) -> list[predict.Weights]:
    """Random features of the sweep at the plan's doses; none where the sweep had too few."""
    random = study.store.sql(
        "SELECT DISTINCT feature FROM interventions WHERE run = ? AND kind = 'random-feature' ORDER"
        " BY feature",
        [effects.id],
    )
    if len(random) < len(weights):
        return []
    chosen = np.random.default_rng((seed, 8)).permutation(random.feature.to_numpy())[: len(weights)]
    return [tuple((int(f), dose) for f, (_, dose) in zip(chosen, weights, strict=True))]


def _report(
    wanted: Goal,
    said: predict.Prediction,
    sd: np.ndarray,
    measured: Sweep,
    contexts: np.ndarray,
    config: PlanSettings,
) -> tuple[list[dict], dict]:
    change = measured.changes()[:, contexts].transpose(1, 0, 2)
    found = bootstrap_mean(change, config.replicates, config.seed)
    nothing = np.full(len(sd), np.nan)
    control = (
        [x[1] for x in (found.mean, found.low, found.high)]
        if change.shape[1] > 1
        else [nothing] * 3
    )
    mean, low, high, n = (x[0] for x in (found.mean, found.low, found.high, found.n))
    met = wanted.met(mean)
    rows = [
        {
            "value": value,
            "wanted": wanted.target[j],
            "wanted_low": wanted.low[j],
            "wanted_high": wanted.high[j],
            "predicted": said.mean[j],
            "predicted_low": said.low[j],
            "predicted_high": said.high[j],
            "measured": mean[j],
            "measured_low": low[j],
            "measured_high": high[j],
            "control": control[0][j],
            "control_low": control[1][j],
            "control_high": control[2][j],
            "sd": sd[j],
            "n": int(n[j]),
            "within": bool(met[j]),
        }
        for j, value in enumerate(said.values)
    ]
    drawn = wanted.distance(
        replicate_means(change[:, 0], cluster_weights(len(change), config.replicates, config.seed))
    )
    asked = np.isfinite(wanted.low) | np.isfinite(wanted.high)
    hurt = bootstrap_mean(measured.damage.T, config.replicates, config.seed)
    return rows, {
        "distance_before": float(wanted.distance(np.zeros(len(sd)))),
        "distance_predicted": float(wanted.distance(said.mean)),
        "distance_after": float(wanted.distance(mean)),
        "distance_low": float(np.quantile(drawn, 0.025)),
        "distance_high": float(np.quantile(drawn, 0.975)),
        "distance_control": float(wanted.distance(control[0])),
        "asked": int(asked.sum()),
        "within": int(met[asked].sum()),
        "damage_predicted": said.damage,
        "damage_predicted_low": said.damage_low,
        "damage_predicted_high": said.damage_high,
        "damage": float(hurt.mean[0]),
        "damage_low": float(hurt.low[0]),
        "damage_high": float(hurt.high[0]),
        "contexts_chosen_by": said.n,
        "contexts": len(change),
    }
