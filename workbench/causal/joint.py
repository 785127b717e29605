"""Joint steerings in a study: what is known for predicting them, and how they are measured.

A joint steering steers several features at once, each at its own dose. `known_predictors` gathers
what a study knows for predicting one: the features' curves from a finished sweep, the causal graph
of that sweep, and how earlier predictions did. `joint_intervention` makes one of the interventions
that a sweep measures. The models themselves are in `workbench/causal/predict.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feature_store.errors import Incompatible
from feature_store.records import CausalGraph, Edge, Run, Steering
from workbench.causal.predict import Curves, HeldOut, Predictors, Weights, dose_curves
from workbench.measuring.questionnaire import one_scale
from workbench.sweeps.stored import read_sweep
from workbench.sweeps.sweep import Intervention
from workbench.workspace import Workspace

ALL = "all"
"""Name of the pooled row of `prediction_scores`."""


def joint_intervention(number: int, weights: Weights, template: Steering) -> Intervention:
    """Make an intervention of a sweep that steers features together, each at its own dose.

    `weights` are pairs of a feature and its dose; method, unit and positions are those of
    `template`.
    """
    steering = replace(template, features=tuple(weights), strength=1.0, combine="sum")
    return Intervention(
        unit_id=number, kind="joint", feature=-1, value="", polarity=1, steering=steering
    )


def joint_rows(curves: Curves, steerings: Sequence[Weights]) -> list[dict[str, Any]]:
    """Give joint steerings as rows of `joint_features`, one a steering and feature."""
    place = {int(feature): column for column, feature in enumerate(curves.feature)}
    return [
        {
            "intervention": number,
            "feature": feature,
            "value": str(curves.source[place[feature]]),
            "polarity": int(curves.polarity[place[feature]]),
            "weight": dose,
        }
        for number, weights in enumerate(steerings)
        for feature, dose in weights
    ]


def halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split `n` contexts at random in two: numbers of those that choose, of those that report.

    An effect that is chosen for its size is too large in the contexts that chose it; the others
    owe it nothing.
    """
    order = np.random.default_rng((seed, 7)).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def newest_of(study: Workspace, kind: str, sweep_run: Run) -> Run | None:
    """Give the newest finished run of a kind that was made of one sweep; None without any."""
    runs = [run for run in study.runs.all(kind + "-") if run.inputs.get("effects") == sweep_run.id]
    return study.resolve(kind, runs[-1].id) if runs else None


def read_graph(study: Workspace, graph_run: Run) -> CausalGraph:
    """Read the causal graph of a finished run of kind `graph` from the store."""
    rows = study.store.sql("SELECT * EXCLUDE (run) FROM edges WHERE run = ?", [graph_run.id])
    edges = tuple(Edge(**row) for row in rows.to_dict("records"))
    sources = {edge.source for edge in edges}
    return CausalGraph(
        values=tuple(value for value in study.system.ids if value in sources),
        edges=edges,
        level=graph_run.summary["level"],
        n=graph_run.summary["contexts"],
        seed=graph_run.seed,
    )


def curves_of(study: Workspace, sweep_run: Run, kind: str = "feature") -> Curves:
    """Read what a finished sweep says of each feature alone, over its doses.

    `kind` is that of the swept units: `feature`, `random-feature` or `random-direction`.
    """
    top: float = len(one_scale(sweep_run.config["instrument"], study.system).options)
    if sweep_run.config.get("mode") == "voice":
        top = np.inf
    steered = sweep_run.config.get("steer", "features")
    if steered != "features":
        raise Incompatible(
            f"{sweep_run.id} steered {steered}; joint steerings are made of single features. Run"
            " `workbench effects` without --steer, and build on that."
        )
    return dose_curves(read_sweep(study, sweep_run.id), top, kind)


def known_predictors(study: Workspace, effects: str = "latest") -> Predictors:
    """Gather all that a study knows for predicting a joint steering.

    Curves come from the sweep `effects`, the graph and the record of held-out predictions from the
    newest runs made of that sweep, where there are any.
    """
    sweep_run = study.resolve("effects", effects)
    graph_run = newest_of(study, "graph", sweep_run)
    record = newest_of(study, "prediction", sweep_run)
    predictors = Predictors(
        curves=curves_of(study, sweep_run),
        graph=read_graph(study, graph_run) if graph_run else None,
    )
    if record is None:
        return predictors
    return predictors._replace(
        held=read_held(study, record, predictors.curves.values),
        damage_error=record.summary["damage_error"],
    )


def read_held(study: Workspace, run: Run, values: tuple[str, ...]) -> dict[str, HeldOut]:
    """Read how each model did on held-out steerings, from a finished run of kind `prediction`.

    Every array has one entry a value, in the order of `values`, and the pooled one in the last
    place.
    """
    rows = study.store.sql("SELECT * FROM prediction_scores WHERE run = ?", [run.id])
    record: dict[str, HeldOut] = {}
    for model, scores in rows.groupby("model"):
        scores = scores.set_index("value").loc[[*values, ALL]]
        record[str(model)] = HeldOut(
            r2=scores.r2.to_numpy(),
            low=scores.low.to_numpy(),
            high=scores.high.to_numpy(),
            chance=scores.chance.to_numpy(),
            mae=scores.mae.to_numpy(),
            error=scores.error.to_numpy(),
            n=int(scores.n.iloc[0]),
        )
    return record
