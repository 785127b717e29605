"""Joint steerings in a study: what is known for predicting them, and how they are measured.

A joint steering steers several features at once, each at its own dose; or several groups of
features or directions, where the sweep steered those. `known_predictors` gathers what a study knows
for predicting one: the curves of each from a finished sweep, the causal graph of that sweep, and
how earlier predictions did. `joint_intervention` makes one of the interventions that a sweep
measures. The models themselves are in `workbench/causal/predict.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feature_store.errors import Incompatible
from feature_store.records import CausalGraph, Edge, Run, Steering
from workbench.causal.predict import (
    Curves,
    HeldOut,
    Predictors,
    UnitKey,
    Weights,
    dose_curves,
)
from workbench.measuring.questionnaire import one_scale
from workbench.sweeps.damage import Sweep
from workbench.sweeps.stored import read_sweep
from workbench.sweeps.sweep import Intervention
from workbench.sweeps.units import unit_name, units_that_read, value_units
from workbench.workspace import Workspace

ALL = "all"
"""Name of the pooled row of `prediction_scores`."""


def joint_intervention(
    number: int, weights: Weights, template: Steering, units: Mapping[str, Steering]
) -> Intervention:
    """Make an intervention of a sweep that steers several units together, each at its own dose.

    `weights` are pairs of a unit and its dose; method, unit and positions are those of `template`.
    `units` are the swept groups or directions by name (`swept_units`); none: features are steered.
    """
    if units:
        parts = tuple(replace(units[str(name)], strength=dose) for name, dose in weights)
        steering = replace(template, together=parts, strength=1.0)
    else:
        features = tuple((int(feature), dose) for feature, dose in weights)
        steering = replace(template, features=features, strength=1.0, combine="sum")
    return Intervention(
        unit_id=number, kind="joint", feature=-1, value="", polarity=1, steering=steering
    )


def swept_units(study: Workspace, sweep_run: Run, template: Steering) -> dict[str, Steering]:
    """Give the groups or directions of a sweep by name, in its order, without a strength.

    There are none where it steered features. Raises Incompatible for one that did not add them:
    nothing is known of how other methods go together.
    """
    config = sweep_run.config
    steered = config.get("steer", "features")
    if steered == "features":
        return {}
    if template.method != "add":
        raise Incompatible(
            f"{sweep_run.id} steered {steered} by {template.method}; several of them are given"
            f" together by adding. Run `workbench effects --steer {steered} --method add`, and"
            " build on that."
        )
    chosen = units_that_read(
        study, config["labels"], steered, config["part"], config.get("unproven", False)
    )
    units = value_units(study, config["labels"], chosen, template)
    names = [
        unit_name(str(row.value), int(row.polarity), str(row.part)) for row in chosen.itertuples()
    ]
    return {name: unit.steering for name, unit in zip(names, units, strict=True)}


def joint_relation(curves: Curves) -> str:
    """Name the relation of what joint steerings are made of: features, or groups and directions."""
    return "joint_units" if curves.names else "joint_features"


def joint_rows(curves: Curves, steerings: Sequence[Weights]) -> list[dict[str, Any]]:
    """Give joint steerings as rows of `joint_relation`, one a steering and unit."""
    place = {key: column for column, key in enumerate(curves.keys)}
    return [
        {
            "intervention": number,
            **_called(curves, key),
            "value": str(curves.source[place[key]]),
            "polarity": int(curves.polarity[place[key]]),
            "weight": dose,
        }
        for number, weights in enumerate(steerings)
        for key, dose in weights
    ]


def _called(curves: Curves, key: UnitKey) -> dict[str, Any]:
    """Give the columns that say which unit is meant."""
    return {"kind": curves.kind, "name": key} if curves.names else {"feature": key}


def turned_weights(curves: Curves) -> list[Weights]:
    """List every unit alone at every dose of its curve, with the sign turned."""
    return [((key, -float(dose)),) for key in curves.keys for dose in curves.dose[1:]]


def with_turned(curves: Curves, measured: Sweep) -> Curves:
    """Add what was measured under `turned_weights`, in their order, to curves."""
    units, doses = len(curves.feature), len(curves.dose) - 1
    changes, damage = measured.changes(), measured.damage
    changes = changes.reshape(units, doses, *changes.shape[1:])
    damage = damage.reshape(units, doses, damage.shape[1])
    return replace(
        curves,
        turned=np.concatenate([np.zeros_like(changes[:, :1]), changes], 1),
        turned_damage=np.concatenate([np.zeros_like(damage[:, :1]), damage], 1),
    )


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


def curves_of(study: Workspace, sweep_run: Run, kind: str = "") -> Curves:
    """Read what a finished sweep says of each unit alone, over its doses.

    `kind` is that of the units; empty: of those that it steered for the values (features, groups or
    directions).
    """
    top: float = len(one_scale(sweep_run.config["instrument"], study.system).options)
    if sweep_run.config.get("mode") == "voice":
        top = np.inf
    steered = sweep_run.config.get("steer", "features").removesuffix("s")
    curves = dose_curves(read_sweep(study, sweep_run.id), top, kind or steered)
    if curves.kind == steered != "feature":
        template = Steering(method=sweep_run.config["method"])
        return replace(curves, names=tuple(swept_units(study, sweep_run, template)))
    return curves


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
    if record.config.get("both_signs"):
        measured = read_sweep(study, record.id)
        turned = np.arange(record.summary["steerings"], len(measured.dose))
        curves = with_turned(predictors.curves, measured.take(turned))
        predictors = predictors._replace(curves=curves)
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
