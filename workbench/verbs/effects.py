"""Steer labelled features and controls over doses, and measure every value: the side-effect matrix.

1. `sweep.py` measures: each value's best features, random features and random directions, at every
   dose, in every prompt context, with the damage to neutral text.
2. `causal/effects.py` turns the ratings into dose effects with paired intervals over contexts,
   damage-matched strengths, the value x value matrix with null bands, and leakage.
"""

import dataclasses
import hashlib
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.bounds import (
    MANY,
    Between,
    Count,
    CountOrZero,
    Plugin,
    Positive,
    Replicates,
    Seed,
)
from feature_store.errors import Incompatible
from feature_store.progress import Progress
from feature_store.records import Positions, Run, Steering, Unit, ValueSystem
from feature_store.runs import Work
from workbench import material
from workbench.causal.effects import analyse
from workbench.features import output_scores
from workbench.measuring.questionnaire import one_scale
from workbench.measuring.questions import Question, prompt_rows
from workbench.settings import make, plain
from workbench.steering.apply import edit_for
from workbench.sweeps import sweep
from workbench.sweeps.damage import Sweep, damage_rows
from workbench.sweeps.sweep import Choice
from workbench.verbs.measure import ask, wordings_for
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class EffectsSettings:
    labels: str = "latest"
    """Run of the labels; its SAE is steered."""
    features_per_value: Count = 8
    """Features of each value; the graph wants at least 5."""
    choose: Choice = "output"
    """Features come first by their output score (how much a light steering raises the value, in
    contexts of its own) where the labels have one; `input`: by how specific they are to the
    value on held-out texts."""
    method: Annotated[str, Plugin("steerings")] = "add"
    """Steering plug-in."""
    doses: Annotated[tuple[float, ...], Between(0, MANY)] = (0.1, 0.2, 0.3, 0.45, 0.6)
    """Strengths, positive and rising [unit]."""
    unit: Unit = "norm_share"
    """raw: residual units; feature_max: multiples of the feature's maximum; norm_share: share of
    the median residual norm."""
    positions: Positions = "all"
    """Which tokens are steered."""
    random_features: CountOrZero = 12
    """Control features, live and without a label."""
    random_directions: CountOrZero = 12
    """Control directions, of equal norm."""
    delta: Positive = 0.1
    """Damage at which features are compared: rise of the loss on neutral text [nats per token]."""
    instrument: Annotated[str, Plugin("instruments")] = "standin"
    """Instrument plug-in."""
    wordings: tuple[str, ...] = ()
    """Wordings to ask; none: the first of those made for the model."""
    contexts: str = ""
    """File with one context a line; empty: those made for the model."""
    n_contexts: CountOrZero = 24
    """Contexts, the clusters of the intervals."""
    neutral: str = ""
    """File or folder with neutral text; empty: that made for the model."""
    n_neutral: Count = 16
    """Neutral texts."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of contexts, controls and bootstrap."""


def read_sweep(study: Workspace, run: str) -> Sweep:
    """What a finished sweep measured, from the store; `graph` starts here."""
    store = study.store
    rows = store.sql("SELECT * FROM interventions WHERE run = ? ORDER BY intervention", [run])
    ratings = store.arrow(
        "SELECT intervention, context, value, avg(rating) AS rating, avg(base) AS base FROM ratings"
        " WHERE run = ? GROUP BY ALL",
        [run],
    )
    hurt = store.arrow(
        "SELECT intervention, text, damage FROM damages WHERE run = ? ORDER BY intervention, text",
        [run],
    )
    return as_sweep(rows, ratings, hurt, study.system)


def as_sweep(rows: pd.DataFrame, ratings: pa.Table, damage: pa.Table, system: ValueSystem) -> Sweep:
    """Rows of `interventions`, mean ratings a context and value, and damages, as aligned arrays."""
    measured = set(pc.unique(ratings["value"]).to_pylist())
    values = tuple(value for value in system.ids if value in measured)
    place = pd.Series(range(len(values)), index=values)[ratings["value"].to_pandas()].to_numpy()
    at, context = ratings["intervention"].to_numpy(), ratings["context"].to_numpy()
    shape = (len(rows), context.max() + 1, len(values))
    steered, base = np.full(shape, np.nan), np.full(shape[1:], np.nan)
    steered[at, context, place] = ratings["rating"].to_numpy()
    base[context, place] = ratings["base"].to_numpy()
    return Sweep(
        values=values,
        unit_id=rows.unit_id.to_numpy(),
        kind=rows.kind.to_numpy(),
        feature=rows.feature.to_numpy(),
        source=rows.value.to_numpy(),
        polarity=rows.polarity.to_numpy(),
        dose=rows.dose.to_numpy(),
        ratings=steered,
        base=base,
        damage=damage["damage"].to_numpy().reshape(len(rows), -1),
    )


def material_of(
    study: Workspace, name: str, config: EffectsSettings
) -> tuple[list[Question], list[str], str]:
    """`(questions, neutral texts, checksum of both)` that a configuration means for the model
    `name`.
    """
    wordings = config.wordings or wordings_for(study, config.instrument, name)[:1]
    asked = ask(
        study, name, config.instrument, wordings, config.contexts, config.n_contexts, config.seed
    )
    neutral = material.neutral(config.neutral or material.own(name), config.n_neutral, config.seed)
    return (
        asked,
        neutral,
        hashlib.sha256(repr([q.prompt for q in asked] + neutral).encode()).hexdigest(),
    )


def asked_again(study: Workspace, run: Run) -> tuple[EffectsSettings, list[Question], list[str]]:
    """The configuration, questions and neutral texts of a finished sweep, to steer something
    else under the same ones.
    """
    config = make(EffectsSettings, run.config)
    asked, neutral, told = material_of(
        study, study.runs.get(run.inputs["sae"]).config["model"], config
    )
    if told != run.inputs["prompts"]:
        raise Incompatible(
            f"{run.id} asked other questions than its configuration means now: its texts changed."
            " Restore them, or run `workbench effects` again."
        )
    return config, asked, neutral


def measure_into(
    work: Work,
    study: Workspace,
    sae_run: Run,
    config: EffectsSettings,
    asked: list[Question],
    neutral: list[str],
    planned: list[sweep.Intervention],
    replicates: int,
    progress: Progress,
) -> Sweep:
    """Measure the interventions, resuming where an earlier call stopped, and write them with
    their damage, ratings and prompts.
    """
    ratings, damage = sweep.measure(
        work,
        study.model_of(sae_run),
        edit_for(study, sae_run, [i.steering for i in planned]),
        sae_run.summary["layer"],
        sae_run.summary["point"],
        one_scale(config.instrument, study.system),
        asked,
        neutral,
        planned,
        progress,
    )
    return keep(
        work, study, intervention_rows(planned), ratings, damage, asked, replicates, config.seed
    )


def intervention_rows(planned: list[sweep.Intervention]) -> list[dict]:
    """The interventions as rows of the relation, damage not yet known."""
    return [
        {
            "intervention": number,
            "steering": i.steering.name,
            "kind": i.kind,
            "unit_id": i.unit_id,
            "feature": i.feature,
            "value": i.value,
            "polarity": i.polarity,
            "dose": i.steering.strength,
            "unit": i.steering.unit,
        }
        for number, i in enumerate(planned)
    ]


def keep(
    work: Work,
    study: Workspace,
    rows: list[dict],
    ratings: pa.Table,
    damage: pa.Table,
    asked: list[Question],
    replicates: int,
    seed: int,
) -> Sweep:
    """Write what was measured (interventions, ratings, damages, prompts) and give it back as
    aligned arrays.
    """
    interventions = pd.DataFrame(rows)
    means = ratings.group_by(["intervention", "context", "value"]).aggregate(
        [("rating", "mean"), ("base", "mean")]
    )
    means = means.rename_columns(["intervention", "context", "value", "rating", "base"])
    measured = as_sweep(interventions, means, damage, study.system)
    hurt = pd.DataFrame(damage_rows(measured, replicates, seed))
    work.table(
        "interventions",
        pa.Table.from_pandas(pd.concat([interventions, hurt], axis=1), preserve_index=False),
    )
    work.table("ratings", ratings, sort=("value", "intervention", "context"))
    work.table("damages", damage, sort=("intervention", "text"))
    work.table("prompts", prompt_rows(asked), sort=("context", "wording", "order"))
    return measured


def run(study: Workspace, config: EffectsSettings, progress: Progress) -> Run:
    """A run of kind `effects`."""
    label_run = study.resolve("labels", config.labels)
    sae_run = study.runs.get(label_run.inputs["sae"])
    asked, neutral, told = material_of(study, sae_run.config["model"], config)
    inputs = {
        "labels": label_run.id,
        "sae": sae_run.id,
        "model": sae_run.inputs["model"],
        "prompts": told,
    }
    plainly = plain(dataclasses.replace(config, labels=label_run.id))
    if study.runs.exists(id := study.runs.find("effects", plainly, inputs, config.seed)):
        return study.runs.get(id)
    labels = output_scores.with_outputs(study, label_run.id)
    chosen = sweep.choose_features(labels, config.features_per_value, config.choose)
    alive = study.store.sql(
        "SELECT feature FROM features WHERE run = ? AND n_active > 0 ORDER BY feature", [sae_run.id]
    ).feature
    plain_features = sorted(set(alive) - set(labels.feature[labels.accepted]))
    template = Steering(method=config.method, unit=config.unit, positions=config.positions)
    planned = sweep.plan(
        chosen,
        plain_features,
        template,
        config.doses,
        config.random_features,
        config.random_directions,
        config.seed,
    )
    with study.runs.begin("effects", plainly, inputs, config.seed) as work:
        measured = measure_into(
            work, study, sae_run, config, asked, neutral, planned, config.replicates, progress
        )
        progress("analysing", 0, 1)
        found = analyse(measured, study.system, config.delta, config.replicates, config.seed)
        work.table("dose_effects", found.dose_effects, sort=("value", "unit_id", "target", "dose"))
        work.table("matched", found.matched.rows())
        work.table("side_effects", found.side_effects)
        work.table("leakage", found.leakage)
        progress("analysing", 1, 1)
        off = [cell for cell in found.side_effects if cell.source != cell.target]
        return work.finish(
            {
                "values": len({cell.source for cell in off}),
                "features": len(chosen),
                "interventions": len(planned),
                "contexts": config.n_contexts,
                "starred": sum(cell.q < 0.05 for cell in off),
                "cells": len(off),
                "reached": int(found.matched.reached.sum()),
                "units": len(found.matched.reached),
                "circle_spearman": found.circle.r,
                "circle_p": found.circle.p,
                "unit": config.unit,
                "delta": config.delta,
                "chosen_by": (
                    "output"
                    if config.choose == "output" and chosen.output.notna().any()
                    else "input"
                ),
                "questions_that_chose": output_scores.questions_in_both(study, label_run.id, asked),
            }
        )
