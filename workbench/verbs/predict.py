"""Predict joint steerings from single ones, then measure them: how far side effects can be known
beforehand.

1. Random joint steerings of two to four swept features, of random signs and doses, are drawn; no
   fit ever sees them.
2. Both models of `causal/predict.py` say what each will do; then all are measured under the sweep's
   own questions.
3. R2 of every value, coverage of the intervals and the errors are kept: `fitted` hands them on with
   every later prediction.

Coverage is judged with the model error of the other steerings, once in the same contexts, and once
predicted from half of the contexts and measured in the other half.
"""

import dataclasses

import numpy as np

from feature_store.bounds import Count, Replicates, Seed
from feature_store.errors import NotFound
from feature_store.progress import Progress
from feature_store.records import CausalGraph, Edge, Run, Steering
from workbench.causal import predict
from workbench.measuring.questionnaire import one_scale
from workbench.settings import plain
from workbench.statistics.intervals import bootstrap_mean
from workbench.sweeps import sweep
from workbench.sweeps.damage import Sweep
from workbench.verbs.effects import asked_again, measure_into, read_sweep
from workbench.workspace import Workspace

ALL = "all"
"""Name of the pooled row of `prediction_scores`."""


@dataclasses.dataclass(frozen=True)
class PredictSettings:
    effects: str = "latest"
    """Run of the sweep of single features."""
    graph: str = "latest"
    """Run of the graph of that sweep; latest: the newest of that sweep; empty: the linear model
    only."""
    steerings: Count = 60
    """Joint steerings that are measured."""
    largest: int = 4
    """Features of the largest joint steering, at least 2."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of the joint steerings and of the bootstrap."""


def joint(number: int, weights: predict.Weights, config: object) -> sweep.Intervention:
    """Features steered together, each at its own dose, as an intervention of a sweep with that
    configuration.
    """
    steering = Steering(
        features=tuple(weights),
        method=config.method,
        strength=1.0,
        unit=config.unit,
        positions=config.positions,
        combine="sum",
    )
    return sweep.Intervention(
        unit_id=number, kind="joint", feature=-1, value="", polarity=1, steering=steering
    )


def joint_rows(told: predict.Curves, steerings: list[predict.Weights]) -> list[dict]:
    """Rows of `joint_features`."""
    place = {int(f): k for k, f in enumerate(told.feature)}
    return [
        {
            "intervention": number,
            "feature": feature,
            "value": str(told.source[place[feature]]),
            "polarity": int(told.polarity[place[feature]]),
            "weight": dose,
        }
        for number, weights in enumerate(steerings)
        for feature, dose in weights
    ]


def halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Contexts split at random in two: one half to choose by, the other to report."""
    order = np.random.default_rng((seed, 7)).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def newest_of(study: Workspace, kind: str, effects: str) -> Run | None:
    """The newest finished run of a kind that was made of one sweep."""
    found = [run for run in study.runs.all(kind + "-") if run.inputs.get("effects") == effects]
    return found[-1] if found else None


def read_graph(study: Workspace, run: str) -> CausalGraph:
    """The graph of a finished run, from the store."""
    rows = study.store.sql("SELECT * EXCLUDE (run) FROM edges WHERE run = ?", [run])
    told = study.runs.get(run)
    edges = tuple(Edge(**row) for row in rows.to_dict("records"))
    named = {edge.source for edge in edges}
    values = tuple(value for value in study.system.ids if value in named)
    return CausalGraph(
        values=values,
        edges=edges,
        level=told.summary["level"],
        n=told.summary["contexts"],
        seed=told.seed,
    )


def curves_of(study: Workspace, effects: Run, kind: str = "feature") -> predict.Curves:
    """What a finished sweep says of each feature alone."""
    top = len(one_scale(effects.config["instrument"], study.system).options)
    return predict.curves(read_sweep(study, effects.id), top, kind)


def fitted(study: Workspace, effects: str = "latest") -> predict.Fitted:
    """All that the study knows for predicting a joint steering: curves, graph, and how held-out
    predictions did.
    """
    run = study.resolve("effects", effects)
    graph, checked = newest_of(study, "graph", run.id), newest_of(study, "prediction", run.id)
    told = predict.Fitted(
        curves=curves_of(study, run), graph=read_graph(study, graph.id) if graph else None
    )
    return (
        told
        if checked is None
        else told._replace(
            held=read_held(study, checked, told.curves.values),
            damage_error=checked.summary["damage_error"],
        )
    )


def read_held(study: Workspace, run: Run, values: tuple[str, ...]) -> dict[str, predict.Held]:
    """Model -> how it did, from a finished run of kind `prediction`."""
    rows = study.store.sql("SELECT * FROM prediction_scores WHERE run = ?", [run.id])
    found = {}
    for model, own in rows.groupby("model"):
        own = own.set_index("value").loc[[*values, ALL]]
        found[str(model)] = predict.Held(
            *(own[name].to_numpy() for name in ("r2", "low", "high", "chance", "mae", "error")),
            int(own.n.iloc[0]),
        )
    return found


def run(study: Workspace, config: PredictSettings, progress: Progress) -> Run:
    """A run of kind `prediction`."""
    effects_run = study.resolve("effects", config.effects)
    graph_run = _graph_of(study, config.graph, effects_run)
    sae_run = study.runs.get(effects_run.inputs["sae"])
    inputs = {"effects": effects_run.id, "sae": sae_run.id} | (
        {"graph": graph_run.id} if graph_run else {}
    )
    plainly = plain(
        dataclasses.replace(config, effects=effects_run.id, graph=graph_run.id if graph_run else "")
    )
    if study.runs.exists(id := study.runs.find("prediction", plainly, inputs, config.seed)):
        return study.runs.get(id)
    told = predict.Fitted(
        curves=curves_of(study, effects_run),
        graph=read_graph(study, graph_run.id) if graph_run else None,
    )
    drawn = predict.draw(told.curves, config.steerings, config.largest, config.seed)
    x = predict.doses(told.curves, drawn)
    swept, asked, neutral = asked_again(study, effects_run)
    with study.runs.begin("prediction", plainly, inputs, config.seed) as work:
        planned = [joint(number, weights, swept) for number, weights in enumerate(drawn)]
        measured = measure_into(
            work, study, sae_run, swept, asked, neutral, planned, config.replicates, progress
        )
        work.table("joint_features", joint_rows(told.curves, drawn))
        rows, scores, summary = _judge(told, x, measured, config)
        work.table("predictions", rows, sort=("model", "value", "intervention"))
        work.table("prediction_scores", scores)
        hurt, expected = measured.damage.mean(1), predict.damage(told.curves, x).mean(1)
        return work.finish(
            summary
            | {
                "steerings": len(drawn),
                "contexts": len(measured.base),
                "unit": swept.unit,
                "damage_measured": float(hurt.mean()),
                "damage_predicted": float(expected.mean()),
                "damage_error": float(np.sqrt(((hurt - expected) ** 2).mean())),
            }
        )


def _graph_of(study: Workspace, name: str, effects: Run) -> Run | None:
    if not name:
        return None
    found = (
        newest_of(study, "graph", effects.id) if name == "latest" else study.resolve("graph", name)
    )
    if found is None or found.inputs["effects"] != effects.id:
        raise NotFound(
            f"There is no graph of {effects.id} under {name!r}. Run `workbench graph --effects"
            f" {effects.id}` first, or give an empty --graph."
        )
    return found


def _judge(
    told: predict.Fitted, x: np.ndarray, measured: Sweep, config: PredictSettings
) -> tuple[list[dict], list[dict], dict]:
    change = measured.changes().transpose(1, 0, 2)
    found = bootstrap_mean(change, config.replicates, config.seed)
    sd = np.nanstd(measured.base, axis=0, ddof=1)
    first, second = halves(len(measured.base), config.seed)
    fresh = bootstrap_mean(change[second], config.replicates, config.seed)
    rows, scores, summary = [], [], {}
    for model in ("linear", "graph") if told.graph else ("linear",):
        said = bootstrap_mean(
            predict.changes(told, x, model).transpose(1, 0, 2), config.replicates, config.seed
        )
        held = predict.score(said.mean, found.mean, config.replicates, config.seed)
        wide = predict.widened(said, held.error[:-1], held.n)
        error = predict.error_of_others(said.mean, found.mean)
        inside = predict.covered(said, found, error, False)
        half = told._replace(curves=told.curves.of_contexts(first))
        again = bootstrap_mean(
            predict.changes(half, x, model).transpose(1, 0, 2), config.replicates, config.seed
        )
        inside_fresh = predict.covered(again, fresh, error, True)
        rows += [
            {
                "intervention": s,
                "model": model,
                "value": value,
                "predicted": wide.mean[s, j],
                "predicted_low": wide.low[s, j],
                "predicted_high": wide.high[s, j],
                "measured": found.mean[s, j],
                "measured_low": found.low[s, j],
                "measured_high": found.high[s, j],
                "sd": sd[j],
                "n": int(found.n[s, j]),
                "covered": bool(inside[s, j]),
            }
            for s in range(len(x))
            for j, value in enumerate(measured.values)
        ]
        shares, fresh_shares = (np.r_[c.mean(0), c.mean()] for c in (inside, inside_fresh))
        columns = (
            held.r2,
            held.low,
            held.high,
            held.chance,
            held.mae,
            held.error,
            shares,
            fresh_shares,
        )
        names = ("r2", "low", "high", "chance", "mae", "error", "coverage", "fresh_coverage")
        scores += [
            {"model": model, "value": value, "n": held.n}
            | dict(zip(names, map(float, figures), strict=True))
            for value, *figures in zip((*measured.values, ALL), *columns, strict=True)
        ]
        summary |= {
            f"{model}_r2": float(held.r2[-1]),
            f"{model}_worst_r2": float(np.nanmin(held.r2)),
            f"{model}_mae": float(held.mae[-1]),
            f"{model}_coverage": float(shares[-1]),
            f"{model}_fresh_coverage": float(fresh_shares[-1]),
        }
    return rows, scores, summary
