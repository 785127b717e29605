"""Sweeps in a study: measured into a run, and read back from the store as aligned arrays.

1. `sweep_material` collects the questions and neutral texts that settings mean for a model, with
   their checksum.
2. `measure_sweep` measures interventions and writes the relations `interventions`, `ratings`,
   `damages` and `prompts`; an interrupted run goes on where it stopped.
3. `read_sweep` gives a finished sweep back, `sweep_setup` what it was measured with, so that
   something else can be steered under the same questions.

Left out: what the numbers mean; see `workbench/causal/effects.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.bounds import Count, Seed
from feature_store.errors import BadInput, Incompatible
from feature_store.progress import Progress
from feature_store.records import Run, Steering, ValueSystem
from feature_store.work import Work
from workbench import material
from workbench.measuring.defaults import SweepAskingSettings, sweep_questions
from workbench.measuring.questions import prompt_rows
from workbench.settings import make
from workbench.steering.apply import edit_for
from workbench.sweeps import sweep
from workbench.sweeps.damage import Sweep, damage_rows, unit_of_effects
from workbench.sweeps.sweep import EditedModel, Intervention, SweepMaterial
from workbench.workspace import Workspace, site_of


@dataclass(frozen=True)
class SweepSettings(SweepAskingSettings):
    """What is put to a model under every intervention: questions and neutral texts."""

    neutral: str = ""
    """File or folder with neutral text; empty: that made for the model."""
    n_neutral: Count = 16
    """Neutral texts."""
    seed: Seed = 0
    """Seed of contexts, controls and bootstrap."""


class SweepSetup(NamedTuple):
    """What a sweep is measured with, but for its interventions."""

    sae_run: Run
    """Run of the SAE whose features are steered; it names the model and the place."""
    settings: SweepSettings
    """Instrument, contexts and seed."""
    material: SweepMaterial
    """Questions and neutral texts that the settings mean."""
    template: Steering
    """Method, unit and positions of every intervention."""


class SweepTables(NamedTuple):
    """What a sweep measured, as tables."""

    interventions: pd.DataFrame
    """Rows of `interventions`, with or without their damage."""
    ratings: pa.Table
    """One row a question and intervention, or their means: intervention, context, value, rating,
    base [rating points]."""
    damage: pa.Table
    """One row a neutral text and intervention [nats per token], in their order."""


def sweep_material(study: Workspace, model_name: str, settings: SweepSettings) -> SweepMaterial:
    """Collect the questions and neutral texts that settings mean for a model.

    `model_name` is the model's address; it decides the default wordings, contexts and texts.
    """
    questions = sweep_questions(study, model_name, settings)
    source = settings.neutral or material.default_source(model_name)
    neutral = material.neutral(source, settings.n_neutral, settings.seed, settings.text_column)
    return SweepMaterial(questions, neutral)


def sweep_setup(study: Workspace, sweep_run: Run) -> SweepSetup:
    """Give the setup of a finished sweep, to steer something else under the same questions.

    Raises Incompatible where its texts are no longer those that were asked.
    """
    config = sweep_run.config
    names = [field.name for field in fields(SweepSettings) if field.name in config]
    # Sweeps that came before the modes asked on the scale.
    asked = {"mode": "logprob"} | {name: config[name] for name in names}
    settings = make(SweepSettings, asked)
    sae_run = study.resolve("sae", sweep_run.inputs["sae"])
    texts = sweep_material(study, sae_run.config["model"], settings)
    if texts.digest != sweep_run.inputs["prompts"]:
        raise Incompatible(
            f"{sweep_run.id} asked other questions than its configuration means now: its texts"
            " changed. Restore them, or run `workbench effects` again."
        )
    template = Steering(method=config["method"], unit=config["unit"], positions=config["positions"])
    return SweepSetup(sae_run=sae_run, settings=settings, material=texts, template=template)


def refuse_without_unit(
    study: Workspace,
    sae_run: Run,
    instrument: str,
    texts: SweepMaterial,
    steered: Iterable[str],
    progress: Progress,
) -> None:
    """Raise BadInput for what would be refused after a sweep, from the unsteered model alone.

    That is a value which is `steered` for and not asked about, and unsteered ratings that vary over
    no context: an effect on them has no unit.
    """
    questions = texts.questions
    asked = {question.item.value for question in questions}
    if strange := sorted(set(steered) - asked):
        raise BadInput(
            f"{instrument} asks nothing about {', '.join(strange)}, for which features are"
            " labelled. Choose another instrument, or labels of its values."
        )
    model = study.model_of(sae_run)
    base = sweep.unsteered(model, questions, progress)
    values = tuple(value for value in study.system.ids if value in asked)
    rated = pd.DataFrame(
        {
            "context": [question.context for question in questions],
            "value": [question.item.value for question in questions],
            "base": base,
        }
    )
    table = rated.pivot_table(index="context", columns="value", values="base")
    unit_of_effects(table.reindex(columns=list(values)).to_numpy(), values)


def unlabelled_features(study: Workspace, sae_run: Run, labels: pd.DataFrame) -> list[int]:
    """Give the features that fire and carry no accepted label, from which controls are drawn."""
    alive = study.store.sql(
        "SELECT feature FROM features WHERE run = ? AND n_active > 0 ORDER BY feature", [sae_run.id]
    ).feature
    return sorted(set(alive) - set(labels.feature[labels.accepted]))


def edited_model(study: Workspace, sae_run: Run, steerings: Sequence[Steering]) -> EditedModel:
    """Load the model that an SAE reads, with one row of an edit for every steering."""
    return EditedModel(
        model=study.model_of(sae_run),
        edit=edit_for(study, sae_run, steerings),
        site=site_of(sae_run),
    )


def measure_sweep(
    work: Work,
    study: Workspace,
    setup: SweepSetup,
    interventions: Sequence[Intervention],
    replicates: int,
    progress: Progress,
) -> Sweep:
    """Measure interventions and write them with their damage, ratings and prompts.

    Goes on where an earlier, interrupted call stopped. `replicates`: bootstrap replicates behind
    the intervals of the damage.
    """
    sae_run, settings, texts = setup.sae_run, setup.settings, setup.material
    steerings = [intervention.steering for intervention in interventions]
    edited = edited_model(study, sae_run, steerings)
    ratings, damage = sweep.measure(work, edited, texts, interventions, progress)
    tables = SweepTables(pd.DataFrame(intervention_rows(interventions)), ratings, damage)
    return write_sweep(work, study.system, tables, texts, replicates, settings.seed)


def measured_topics(work: Work, study: Workspace, interventions: Sequence[Intervention]) -> Sweep:
    """Give the topic's part of what `measure_sweep` has just measured in mode `voice`.

    Its ratings are how likely talk about a value is, whichever the stance [nats per token].
    """
    tables = SweepTables(
        interventions=pd.DataFrame(intervention_rows(interventions)),
        ratings=context_means(work.parts("topic_ratings")),
        damage=work.parts("damages"),
    )
    return as_sweep(tables, study.system)


def write_sweep(
    work: Work,
    system: ValueSystem,
    tables: SweepTables,
    texts: SweepMaterial,
    replicates: int,
    seed: int,
) -> Sweep:
    """Write what was measured (interventions, ratings, damages, prompts); give it as aligned
    arrays.

    `replicates` and `seed` are those of the bootstrap behind the intervals of the damage.
    """
    measured = as_sweep(tables._replace(ratings=context_means(tables.ratings)), system)
    damage = pd.DataFrame(damage_rows(measured, replicates, seed))
    interventions = pd.concat([tables.interventions, damage], axis=1)
    work.table("interventions", pa.Table.from_pandas(interventions, preserve_index=False))
    work.table("ratings", tables.ratings, sort=("value", "intervention", "context"))
    work.table("damages", tables.damage, sort=("intervention", "text"))
    work.table("prompts", prompt_rows(texts.questions), sort=("context", "wording", "order"))
    if texts.questions[0].voiced:
        topics = work.parts("topic_ratings")
        work.table("topic_ratings", topics, sort=("value", "intervention", "context"))
    return measured


def context_means(ratings: pa.Table) -> pa.Table:
    """Average ratings over the items, wordings and orders of a context and value."""
    means = ratings.group_by(["intervention", "context", "value"]).aggregate(
        [("rating", "mean"), ("base", "mean")]
    )
    return means.rename_columns(["intervention", "context", "value", "rating", "base"])


def intervention_rows(interventions: Sequence[Intervention]) -> list[dict[str, Any]]:
    """Give interventions as rows of the relation `interventions`, their damage not yet known."""
    return [
        {
            "intervention": number,
            "steering": intervention.steering.name,
            "kind": intervention.kind,
            "unit_id": intervention.unit_id,
            "feature": intervention.feature,
            "value": intervention.value,
            "polarity": intervention.polarity,
            "dose": intervention.steering.strength,
            "unit": intervention.steering.unit,
        }
        for number, intervention in enumerate(interventions)
    ]


def read_sweep(study: Workspace, run: str) -> Sweep:
    """Read what a finished sweep measured, by the id of its run.

    Raises Incompatible for one that was asked in rounds: what builds on it would take intervals at
    face value that allow for no looks.
    """
    if study.runs.get(run).config.get("until"):
        raise Incompatible(
            f"{run} asked in rounds (--until), so not everything was asked in every context. Run"
            " `workbench effects` without --until, and build on that."
        )
    store = study.store
    interventions = store.sql(
        "SELECT * FROM interventions WHERE run = ? ORDER BY intervention", [run]
    )
    ratings = store.arrow(
        "SELECT intervention, context, value, avg(rating) AS rating, avg(base) AS base FROM ratings"
        " WHERE run = ? GROUP BY ALL",
        [run],
    )
    damage = store.arrow(
        "SELECT intervention, text, damage FROM damages WHERE run = ? ORDER BY intervention, text",
        [run],
    )
    return as_sweep(SweepTables(interventions, ratings, damage), study.system)


def as_sweep(tables: SweepTables, system: ValueSystem) -> Sweep:
    """Align a sweep's tables as arrays; their ratings are means over a context and value."""
    ratings, rows = tables.ratings, tables.interventions
    measured = set(pc.unique(ratings["value"]).to_pylist())
    values = tuple(value for value in system.ids if value in measured)
    columns = pd.Series(range(len(values)), index=values)
    column = columns[ratings["value"].to_pandas()].to_numpy()
    intervention = ratings["intervention"].to_numpy()
    context = ratings["context"].to_numpy()
    shape = (len(rows), context.max() + 1, len(values))
    steered = np.full(shape, np.nan)
    steered[intervention, context, column] = ratings["rating"].to_numpy()
    base = np.full(shape[1:], np.nan)
    base[context, column] = ratings["base"].to_numpy()
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
        damage=tables.damage["damage"].to_numpy().reshape(len(rows), -1),
    )
