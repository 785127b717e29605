"""Steer labelled features and controls over doses, and measure every value: the side-effect matrix.

1. Where no doses are named, `sweeps/doses.py` searches for them on the model at hand; the organism
   has doses of its own.
2. `sweeps/sweep.py` measures: each value's best features, random features and random directions,
   at every dose, in every prompt context, with the damage to neutral text.
3. `causal/effects.py` turns the ratings into dose effects with paired intervals over contexts,
   damage-matched strengths, the value x value matrix with null bands, and leakage.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd

from feature_store.bounds import (
    MANY,
    Between,
    Count,
    CountOrZero,
    Later,
    NoneAs,
    Plugin,
    Positive,
    Replicates,
)
from feature_store.errors import BadInput, Incompatible
from feature_store.progress import Progress
from feature_store.records import Positions, Run, Steering, Unit
from feature_store.work import Work
from workbench import material
from workbench.causal.effects import analyse, own_parts, topic_effects
from workbench.features import output_scores
from workbench.measuring.heard import resolved, tried, verdict
from workbench.sweeps import sweep
from workbench.sweeps.damage import Sweep
from workbench.sweeps.doses import found_doses
from workbench.sweeps.rounds import Stopping, measure_in_rounds, planned_looks
from workbench.sweeps.stored import (
    SweepSettings,
    SweepSetup,
    measure_sweep,
    measured_topics,
    refuse_without_unit,
    sweep_material,
    unlabelled_features,
)
from workbench.sweeps.sweep import FirstSteered, Intervention, Steered, SteeredPart
from workbench.sweeps.units import units_that_read, value_units
from workbench.workspace import Workspace

ORGANISM_DOSES = (0.1, 0.2, 0.3, 0.45, 0.6)
"""Strengths at which the organism is steered unless others are named [share of the median norm]."""


@dataclasses.dataclass(frozen=True)
class EffectsSettings(SweepSettings):
    """What is steered, how strongly, and what is asked under it."""

    labels: str = "latest"
    """Run of the labels; its SAE is steered."""
    n_contexts: Annotated[int, Between(2, MANY)] = 24
    """Contexts, the clusters of the intervals."""
    features_per_value: Count = 8
    """Features of each value, where features are steered; the graph wants at least 5."""
    choose: FirstSteered = "output"
    """Features come first by their output score (how much a light steering raises the value, in
    contexts of its own) where the labels have one; `input`: by how specific they are to the
    value on held-out texts; `clean`: by how cleanly they are forecast to steer, which makes side
    effects look smaller than those of all features."""
    forecast: Annotated[str, Later()] = ""
    """Run of the forecast behind `clean`; empty: the newest."""
    steer: Annotated[Steered, Later()] = "features"
    """What is steered for a value: its labelled features one by one, groups of features, or
    directions of the residual, of which the labels' run has those that tell held-out texts
    apart."""
    part: Annotated[SteeredPart, Later()] = "any"
    """`pole`: only what is of a value's pole, `topic`: only what speaks of the value."""
    unproven: Annotated[bool, Later()] = False
    """Steer groups and directions too that do not tell held-out texts apart, so that the matrix is
    whole."""
    method: Annotated[str, Plugin("steerings")] = "add"
    """Steering plug-in."""
    doses: Annotated[tuple[float, ...], Between(0, MANY), NoneAs("auto")] = ()
    """Strengths, positive and rising [unit]; `auto`, the default: searched for on the model, the
    largest with a mean damage of `delta` (0.1,0.2,0.3,0.45,0.6 of the organism)."""
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
    until: Annotated[float, Between(0, MANY), Later()] = 0.0
    """Contexts are asked in up to three rounds, of the values and controls alone whose effects
    still have an interval wider than this [unsteered SD]; intervals and p allow for the looks. 0:
    all contexts of everything."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""


def run(study: Workspace, settings: EffectsSettings, progress: Progress) -> Run:
    """Sweep labelled features and controls over doses; make a run of kind `effects`."""
    if settings.until:
        planned_looks(settings.n_contexts, settings.replicates)
    label_run = study.resolve("labels", settings.labels)
    sae_run = study.resolve("sae", label_run.inputs["sae"])
    # Labels without a feature to steer are refused before anything is asked.
    forecast_run = _forecast(study, settings, sae_run)
    settings = dataclasses.replace(settings, forecast=forecast_run)
    labels = _labels(study, settings, label_run.id)
    sweep.choose_features(labels, settings.features_per_value, settings.choose)
    settings = resolved(study, settings, sae_run.config, progress)
    if settings.until and settings.mode == "voice":
        raise BadInput(
            "Mode voice has too few open questions to ask them in rounds. Leave --until out, or"
            " ask on the scale (--mode logprob)."
        )
    setup = SweepSetup(
        sae_run=sae_run,
        settings=settings,
        material=sweep_material(study, sae_run.config["model"], settings),
        template=Steering(method=settings.method, unit=settings.unit, positions=settings.positions),
    )
    inputs = {
        "labels": label_run.id,
        "sae": sae_run.id,
        "model": sae_run.inputs["model"],
        "prompts": setup.material.digest,
        **tried(study, settings.mode, sae_run.config["model"], settings.instrument),
        **({"forecast": forecast_run} if forecast_run else {}),
    }
    doses = settings.doses
    if not doses and material.is_organism(sae_run.config["model"]):
        doses = ORGANISM_DOSES
    pinned = dataclasses.replace(settings, labels=label_run.id, doses=doses)
    return study.make("effects", pinned, inputs, partial(_sweep, study, pinned, setup, progress))


def _sweep(
    study: Workspace, settings: EffectsSettings, setup: SweepSetup, progress: Progress, work: Work
) -> dict[str, Any]:
    """Measure the sweep into a run, write its effects, and return its figures."""
    labels = _labels(study, settings, settings.labels)
    units, by_output = _units(study, settings, labels, setup.template)
    controls = sweep.Controls(
        unlabelled=unlabelled_features(study, setup.sae_run, labels),
        features=settings.random_features,
        directions=settings.random_directions,
        seed=settings.seed,
    )
    if not work.done("ratings", "damages"):
        values = [unit.value for unit in units]
        refuse_without_unit(
            study, setup.sae_run, settings.instrument, setup.material, values, progress
        )
    doses = settings.doses or found_doses(work, study, setup, units, settings.delta, progress)
    interventions = sweep.plan(units, controls, setup.template, doses)
    looks = planned_looks(settings.n_contexts, settings.replicates) if settings.until else 1
    measured = _measured(work, study, setup, settings, interventions, progress)
    progress("analysing", 0, 1)
    effects = analyse(
        measured, study.system, settings.delta, settings.replicates, settings.seed, looks
    )
    work.table("dose_effects", effects.dose_effects, sort=("value", "unit_id", "target", "dose"))
    work.table("matched", effects.matched.rows())
    work.table("side_effects", effects.side_effects)
    work.table("leakage", effects.leakage)
    figures: dict[str, Any] = {}
    if settings.mode == "voice":
        topics = measured_topics(work, study, interventions)
        rows = topic_effects(measured, topics, settings.delta, settings.replicates, settings.seed)
        work.table("topic_effects", rows)
        figures = own_parts(rows)
    heard = verdict(study, settings.mode, setup.sae_run.config["model"], settings.instrument)
    progress("analysing", 1, 1)
    off_diagonal = [cell for cell in effects.side_effects if cell.source != cell.target]
    return {
        "values": len({cell.source for cell in off_diagonal}),
        "features": len(units),
        "interventions": len(interventions),
        "contexts": len(measured.base),
        "starred": 0 if heard.get("heard") == "no" else sum(cell.q < 0.05 for cell in off_diagonal),
        "cells": len(off_diagonal),
        "reached": int(effects.matched.reached.sum()),
        "units": len(effects.matched.reached),
        "circle_spearman": effects.circle.r,
        "circle_p": effects.circle.p,
        "unit": settings.unit,
        "delta": settings.delta,
        **({} if settings.doses else {"doses": list(doses)}),
        "chosen_by": "output" if by_output else _second_choice(settings),
        "questions_that_chose": output_scores.questions_in_both(
            study, settings.labels, setup.material.questions
        ),
        **(_spent(measured, looks, settings) if settings.until else {}),
        **figures,
        **heard,
    }


def _forecast(study: Workspace, settings: EffectsSettings, sae_run: Run) -> str:
    """Id of the forecast that features are chosen by; empty where they are not."""
    if settings.choose != "clean":
        if settings.forecast:
            raise BadInput(
                f"A forecast chooses features with --choose clean, got {settings.choose}. Add it,"
                " or leave --forecast out."
            )
        return ""
    forecast_run = study.resolve("forecast", settings.forecast or "latest")
    if forecast_run.inputs["sae"] != sae_run.id:
        raise Incompatible(
            f"{forecast_run.id} forecasts features of {forecast_run.inputs['sae']}, those of"
            f" {sae_run.id} are steered. Name a forecast of these with --forecast."
        )
    return forecast_run.id


def _labels(study: Workspace, settings: EffectsSettings, label_run: str) -> pd.DataFrame:
    """Read the labels with their output scores, and the forecasts where these choose."""
    labels = output_scores.with_outputs(study, label_run)
    if not settings.forecast:
        return labels
    clean = study.store.sql(
        "SELECT feature, clean FROM forecasts WHERE run = ?", [settings.forecast]
    )
    return labels.merge(clean, on="feature", how="left")


def _second_choice(settings: EffectsSettings) -> str:
    """Say what chose the features where no output score did."""
    by_forecast = settings.steer == "features" and settings.choose == "clean"
    return "clean" if by_forecast else "input"


def _units(
    study: Workspace, settings: EffectsSettings, labels: pd.DataFrame, template: Steering
) -> tuple[list[Intervention], bool]:
    """Give what is steered for the values, and whether output scores chose it."""
    if settings.steer != "features":
        rows = units_that_read(
            study, settings.labels, settings.steer, settings.part, settings.unproven
        )
        return value_units(study, settings.labels, rows, template), False
    if settings.unproven:
        raise BadInput(
            "Features are steered that carry an accepted label. Leave --unproven out, or steer"
            " --steer groups or directions."
        )
    if settings.part != "any":
        labels = labels[labels.part == settings.part]
        if not labels.accepted.any():
            raise BadInput(
                f"No feature of {settings.labels} is labelled with a value's {settings.part}. Leave"
                " --part out, or label with texts in two poles (`workbench label --labelled"
                " poles`)."
            )
    chosen = sweep.choose_features(labels, settings.features_per_value, settings.choose)
    by_output = settings.choose == "output" and bool(chosen.output.notna().any())
    return sweep.feature_units(chosen, template), by_output


def _measured(
    work: Work,
    study: Workspace,
    setup: SweepSetup,
    settings: EffectsSettings,
    interventions: Sequence[Intervention],
    progress: Progress,
) -> Sweep:
    """Measure the sweep: every context of everything, or in rounds."""
    if not settings.until:
        return measure_sweep(work, study, setup, interventions, settings.replicates, progress)
    stopping = Stopping(
        until=settings.until,
        delta=settings.delta,
        replicates=settings.replicates,
        seed=settings.seed,
        looks=planned_looks(settings.n_contexts, settings.replicates),
    )
    return measure_in_rounds(work, study, setup, interventions, stopping, progress)


def _spent(measured: Sweep, looks: int, settings: EffectsSettings) -> dict[str, Any]:
    """Say what rounds have saved: the share of all contexts of all interventions that was asked."""
    asked = np.isfinite(measured.ratings).any(-1).sum()
    return {
        "looks": looks,
        "asked": float(asked / (len(measured.ratings) * settings.n_contexts)),
    }
