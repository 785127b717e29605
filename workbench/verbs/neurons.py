"""Find the neurons that tell a value from its reverse, edit them, and measure every value and the
damage.

1. The model answers everyday questions as a person who holds a value and as one who holds its
   reverse (`systems/value_locate/descriptions.py`); MLP neurons, or the SAE's features, are counted
   over the tokens of the answers.
2. Each value gets target and opposing neurons and a control for them
   (`systems/value_locate/locate.py`).
3. Every edit (the value's neurons, the same in exchanged roles, random ones) is measured at every
   gamma by the study's instrument in every context, and by the loss on neutral text. Each finished
   edit is kept, so a killed run goes on.
4. With a judge, samples written without a description are scored under each condition as well.

A judge is named in the settings, or an object of the caller's (`study.neurons(judge=...)`); without
one the instrument alone speaks.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float

from feature_store import registry
from feature_store.bounds import (
    MANY,
    Between,
    Count,
    CountOrZero,
    NotNegative,
    Replicates,
    Seed,
    Share,
    Temperature,
)
from feature_store.errors import BadInput, NotFound
from feature_store.progress import Progress
from feature_store.records import Run, ValueSystem
from feature_store.work import Work
from sae_training.engine.neurons import edited, gates, latents
from workbench import material
from workbench.llm import Judge
from workbench.llm.judges import inputs_of, open_judge
from workbench.measuring.defaults import SweepAskingSettings, sweep_questions
from workbench.measuring.questionnaire import one_scale
from workbench.measuring.questions import Question, prompt_rows
from workbench.settings import LocalModelSettings
from workbench.statistics.intervals import bootstrap_mean
from workbench.sweeps.sweep import ratings_table
from workbench.systems.value_locate.descriptions import POLES, Descriptions, descriptions
from workbench.systems.value_locate.effects import (
    OWN,
    TOGETHER,
    Condition,
    MeasuredEdits,
    PlannedEdit,
    cells,
    effect_rows,
)
from workbench.systems.value_locate.effects import plan as plan_edits
from workbench.systems.value_locate.experiment import (
    AnswerSettings,
    Bench,
    LocateSettings,
    NeuronModel,
    ValueNeurons,
    answer_all,
    find,
)
from workbench.systems.value_locate.judging import samples_table, score, score_rows
from workbench.workspace import Workspace, site_of


@dataclasses.dataclass(frozen=True)
class NeuronsSettings(SweepAskingSettings, LocalModelSettings):
    """Settings of `neurons`: where, by which answers and how many are sought, and every edit."""

    on: Literal["mlp", "sae"] = "mlp"
    """mlp: the gate units of every MLP; sae: the SAE's features at its site."""
    sae: str = "latest"
    """Run of the SAE; needed for its features, and for the model where none is given."""
    system: str = ""
    """Value system whose values are located, such as higher-order; empty: the study's."""
    values: tuple[str, ...] = ()
    """Values to locate; none: all."""
    descriptions: str = ""
    """TOML file with descriptions and questions; empty: those made for the model."""
    n_answers: Count = 40
    """Answers a value and pole."""
    new_tokens: Count = 32
    """Longest answer [tokens]."""
    temperature: Temperature = 1.0
    """Sampling temperature of the answers; 0: greedy."""
    top: CountOrZero = 2000
    """Neurons a value and role, the largest differences first, at most those there are."""
    min_delta: Annotated[float, Between(1e-9, 1)] = 0.1
    """Difference of the shares from which a neuron is chosen whatever its rank [0 to 1]."""
    gammas: Annotated[tuple[float, ...], Between(0, MANY)] = (0.1, 0.5, 1.0, 2.0)
    """How far target neurons are pushed, rising; 0 only holds the opposing ones [multiples of
    u]."""
    dropout: Share = 0.1
    """Chance with which a neuron is left out of a pass [0 to 1]."""
    u: Literal["percentile", "share"] = "percentile"
    """percentile: a neuron's 95th percentile where it is active; share: the larger of its two
    shares, as the released code falls back to."""
    draws: CountOrZero = 3
    """Draws of the random control."""
    neutral: str = ""
    """File or folder with neutral text; empty: that made for the model."""
    n_neutral: Count = 16
    """Neutral texts."""
    judge: str = ""
    """Language model that scores samples: local:FOLDER-OR-HUB-ID (by log-probability), or
    https://host/v1#model (in words)."""
    samples: int = 20
    """Samples a value and condition that a judge scores, where there is one."""
    judged_gamma: NotNegative = 1.0
    """How far target neurons are pushed in those samples [multiples of u]."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of descriptions, answers, controls, dropout, contexts and bootstrap."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """What is asked, answered and edited."""

    system: ValueSystem
    """Values by which ratings are given."""
    values: tuple[str, ...]
    """Ids of the values whose neurons are sought."""
    descriptions: Descriptions
    """Persons and questions under which the model answers."""
    edits: list[PlannedEdit]
    """Every edit, value by value."""
    questions: list[Question]
    """The instrument's questions, under every context."""
    neutral: list[str]
    """Texts whose loss is the damage."""

    def digest(self, settings: "NeuronsSettings") -> str:
        """Digest every text that the model reads (SHA-256)."""
        prompts = [
            question.prompt
            for value in self.values
            for pole in POLES
            for question in self.descriptions.described(
                value, pole, settings.n_answers, settings.seed
            )
        ]
        texts = [q.prompt for q in self.questions] + self.neutral + prompts
        return hashlib.sha256(repr(texts).encode()).hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class _Lab:
    """The run that is made, and all that its steps need."""

    work: Work
    """The run."""
    subject: NeuronModel
    """The model and the neurons that are counted and edited."""
    plan: _Plan
    """What is asked, answered and edited."""
    settings: "NeuronsSettings"
    """Settings of the run."""
    progress: Progress
    """Shows how far it is."""


class _Unedited(NamedTuple):
    """The model as it is. Measured first: texts without a loss are refused before it answers."""

    ratings: Float[np.ndarray, " question"]
    """Expected rating of every question [rating points]."""
    losses: Float[np.ndarray, " text"]
    """Mean loss of every neutral text [nats per token]."""


def run(
    study: Workspace, settings: NeuronsSettings, progress: Progress, judge: Judge | None = None
) -> Run:
    """Make a run of kind `neurons`. `judge` stands in for the one that `settings.judge` names."""
    if settings.mode == "voice":
        raise BadInput(
            "Edited neurons are measured on the scale, whose answers they change. Leave --mode out."
        )
    settings = dataclasses.replace(settings, mode="logprob")
    if settings.judge:
        judge = open_judge(settings.judge, study.model, study.folder / "answers.jsonl")
    _check(settings, judge)
    name, sae_run = _model_and_sae(study, settings)
    plan = _plan(study, settings, name)
    model = study.model_for(name, sae_run, settings.revision, settings.dtype, settings.device)
    inputs = {"model": model.pinned, "prompts": plan.digest(settings)}
    if sae_run:
        inputs["sae"] = sae_run.id
    if judge:
        inputs |= inputs_of(judge)

    def build(work: Work) -> dict[str, Any]:
        """Find the neurons, measure every edit, and have samples scored where there is a judge."""
        if settings.on == "sae" and sae_run:
            groups = latents(model, study.sae(sae_run), site_of(sae_run))
        else:
            groups = gates(model)
        lab = _Lab(
            work=work,
            subject=NeuronModel(model, groups),
            plan=plan,
            settings=settings,
            progress=progress,
        )
        bench = Bench(
            model=model,
            instrument=one_scale(settings.instrument, study.system),
            questions=plan.questions,
            neutral=plan.neutral,
            system=plan.system,
        )
        unedited = _unedited(bench)
        neurons = _find_all(lab)
        _measure(lab, bench, neurons, unedited)
        if judge:
            _write_samples(lab, neurons, judge)
        progress("analysing", 0, 1)
        summary = _analyse(lab, bench, neurons, unedited.ratings)
        if judge:
            summary |= {"judge": judge.name, "not_judged": _score(lab)}
        progress("analysing", 1, 1)
        return summary

    pinned = dataclasses.replace(
        settings, model=name, sae=sae_run.id if sae_run else "", values=plan.values
    )
    return study.make("neurons", pinned, inputs, build)


def _check(settings: NeuronsSettings, judge: Judge | None) -> None:
    """Raise BadInput where too little is asked for."""
    few_samples = judge is not None and settings.samples < 2
    if settings.n_answers < 2 or settings.new_tokens < 2 or few_samples:
        raise BadInput(
            f"Shares need 2 answers of 2 tokens, scores 2 samples; got {settings.n_answers},"
            f" {settings.new_tokens} and {settings.samples}."
        )


def _model_and_sae(study: Workspace, settings: NeuronsSettings) -> tuple[str, Run | None]:
    """Name the model and resolve its SAE, which a model that is named needs for features only."""
    if settings.model and settings.on == "mlp":
        return settings.model, None
    sae_run = study.resolve("sae", settings.sae)
    name = sae_run.config["model"]
    if settings.model and settings.model != name:
        raise BadInput(
            f"{sae_run.id} belongs to {name}, not to {settings.model}. Name its SAE with --sae, or"
            " leave --model out."
        )
    return name, sae_run


def _plan(study: Workspace, settings: NeuronsSettings, name: str) -> _Plan:
    """Gather descriptions, edits, questions and neutral texts for a model.

    Raises NotFound where a value has no descriptions.
    """
    system = registry.get("values", settings.system) if settings.system else study.system
    values = tuple(dict.fromkeys(map(system.resolve, settings.values))) or system.ids
    source = material.default_source(name)
    persons = descriptions(settings.descriptions or source, system, settings.seed)
    missing = [value for value in values if (value, POLES[0]) not in persons.persons]
    if missing:
        raise NotFound(
            f"There are no descriptions of {', '.join(missing)}. Give a file that has them with"
            " --descriptions."
        )
    return _Plan(
        system=system,
        values=values,
        descriptions=persons,
        edits=plan_edits(values, settings.gammas, settings.draws),
        questions=sweep_questions(study, name, settings),
        neutral=material.neutral(
            settings.neutral or source, settings.n_neutral, settings.seed, settings.text_column
        ),
    )


def _unedited(bench: Bench) -> _Unedited:
    """Measure the model as it is. Raises BadInput where it overflows by itself."""
    from sae_training.model.overflow import not_finite

    ratings, losses = bench.ratings(), bench.losses()
    if not (np.isfinite(ratings).all() and np.isfinite(losses).all()):
        raise not_finite(bench.model, "Unsteered", steered=False)
    return _Unedited(ratings=ratings, losses=losses)


def _find_all(lab: _Lab) -> dict[str, ValueNeurons]:
    """Let the model answer, then find the neurons of every value."""
    settings = lab.settings
    answering = AnswerSettings(
        n=settings.n_answers,
        new_tokens=settings.new_tokens,
        temperature=settings.temperature,
        seed=settings.seed,
    )
    answer_all(
        lab.work, lab.subject, lab.plan.values, lab.plan.descriptions, answering, lab.progress
    )
    locating = LocateSettings(
        top=settings.top,
        least=settings.min_delta,
        draws=settings.draws,
        u=settings.u,
        seed=settings.seed,
    )
    neurons = {}
    for number, value in enumerate(lab.plan.values):
        neurons[value] = find(lab.work, lab.subject, value, number, locating)
        lab.progress("locating", number + 1, len(lab.plan.values))
    return neurons


def _edited(
    lab: _Lab, neurons: Mapping[str, ValueNeurons], edit: PlannedEdit
) -> AbstractContextManager[Any]:
    """Edit the neurons of a value while the block runs."""
    settings = lab.settings
    groups = lab.subject.groups
    change = neurons[edit.value].edit(edit, settings.dropout, settings.seed, groups)
    return edited(lab.subject.model, groups, change)


def _measure(
    lab: _Lab, bench: Bench, neurons: Mapping[str, ValueNeurons], unedited: _Unedited
) -> None:
    """Measure every edit, one part of `ratings` and of `damages` each.

    Raises BadInput where the model gives NaN.
    """
    for number, edit in enumerate(lab.plan.edits):
        if number not in lab.work.done("ratings", "damages"):
            with _edited(lab, neurons, edit):
                ratings, losses = bench.ratings(), bench.losses()
            if not (np.isfinite(ratings).all() and np.isfinite(losses).all()):
                raise BadInput(f"The model gives NaN with {edit.name}. Use smaller gammas.")
            damage = {
                "intervention": np.full(len(losses), number, np.int32),
                "text": np.arange(len(losses), dtype=np.int32),
                "damage": losses - unedited.losses,
            }
            rated = ratings_table(
                np.array([number]), bench.questions, ratings[None], unedited.ratings
            )
            lab.work.part("damages", number, pa.table(damage))
            lab.work.part("ratings", number, rated)
        lab.progress("editing", number + 1, len(lab.plan.edits))


def _write_samples(lab: _Lab, neurons: Mapping[str, ValueNeurons], judge: Judge) -> None:
    """Let the model write under each condition and a judge score it: parts `neuron_samples`."""
    settings = lab.settings
    questions = lab.plan.descriptions.bare(settings.samples)
    conditions: list[Condition] = ["default", "edited", "reversed"]
    if settings.draws:
        conditions.append("random")
    jobs = [(value, condition) for value in neurons for condition in conditions]
    for number, (value, condition) in enumerate(jobs):
        if number not in lab.work.done("neuron_samples"):
            edit = PlannedEdit(
                value=value,
                condition=condition,
                gamma=0.0 if condition == "default" else settings.judged_gamma,
                draw=0 if condition == "random" else -1,
            )
            unedited = contextlib.nullcontext()
            with unedited if condition == "default" else _edited(lab, neurons, edit):
                texts = lab.subject.model.generate(
                    [question.prompt for question in questions],
                    settings.new_tokens,
                    settings.temperature,
                    settings.seed,
                )
            samples = score(judge, lab.plan.system[value], questions, texts, condition, edit.gamma)
            lab.work.part("neuron_samples", number, samples_table(samples))
        lab.progress("judging", number + 1, len(jobs))


def _score(lab: _Lab) -> int:
    """Write the samples and what edits change of their scores; count those without a score."""
    settings = lab.settings
    samples = lab.work.parts("neuron_samples")
    scores = score_rows(samples, settings.replicates, settings.seed)
    lab.work.table("neuron_samples", samples, sort=("value", "condition", "sample"))
    lab.work.table("neuron_scores", scores)
    return int(np.isnan(samples["score"].to_numpy()).sum())


def _analyse(
    lab: _Lab,
    bench: Bench,
    neurons: Mapping[str, ValueNeurons],
    base: Float[np.ndarray, " question"],
) -> dict[str, Any]:
    """Estimate what every edit changes, write the tables, and give the run's figures."""
    work, settings, edits = lab.work, lab.settings, lab.plan.edits
    ratings, damages = work.parts("ratings"), work.parts("damages")
    rated = ratings["rating"].to_numpy().reshape(len(edits), -1).astype(float)
    damage = damages["damage"].to_numpy().reshape(len(edits), -1)
    measured = MeasuredEdits(
        ratings=np.stack([bench.fold(row) for row in rated]),
        base=bench.fold(base),
        damage=damage,
        neurons=[len(neurons[edit.value].located.neuron) for edit in edits],
    )
    made = cells(edits, bench.targets, measured)
    effects = effect_rows(made, settings.replicates, settings.seed)
    rows = [row for chosen in neurons.values() for row in chosen.rows(lab.subject.groups)]
    answers = work.parts("neuron_answers")
    work.table("neuron_answers", answers, sort=("value", "pole", "answer"))
    work.table("neurons", rows, sort=("value", "role", "layer", "neuron"))
    work.table("interventions", _interventions(lab, damage), sort=("intervention",))
    work.table("ratings", ratings, sort=("value", "intervention", "context"))
    work.table("damages", damages, sort=("intervention", "text"))
    work.table("prompts", prompt_rows(bench.questions), sort=("context", "wording", "order"))
    work.table("neuron_effects", effects)
    return _summary(lab, neurons, effects)


def _interventions(lab: _Lab, damage: Float[np.ndarray, "edit text"]) -> pa.Table:
    """Write the rows of `interventions`: one an edit, its gammas sharing a unit."""
    settings = lab.settings
    interval = bootstrap_mean(damage.T, settings.replicates, settings.seed)
    rows = [
        {
            "intervention": number,
            "steering": edit.name,
            "kind": f"{edit.condition}-neurons",
            "unit_id": number // len(settings.gammas),
            "feature": -1,
            "value": edit.value,
            "polarity": -1 if edit.condition == "reversed" else 1,
            "dose": edit.gamma,
            "unit": "gamma",
            "damage": interval.mean[number],
            "damage_low": interval.low[number],
            "damage_high": interval.high[number],
            "damage_n": interval.n[number],
        }
        for number, edit in enumerate(lab.plan.edits)
    ]
    return pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)


def _summary(
    lab: _Lab, neurons: Mapping[str, ValueNeurons], effects: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Give sizes, and the values' mean effect on themselves at the largest gamma [rating points].

    The effects stand under the names of their conditions.
    """
    settings, groups = lab.settings, lab.subject.groups
    located = [chosen.located for chosen in neurons.values()]
    summary: dict[str, Any] = {
        "on": settings.on,
        "values": len(neurons),
        "neurons": sum(group.width for group in groups),
        "layers": len(groups),
        "targets": sum(int((~roles.opposing).sum()) for roles in located),
        "opposing": sum(int(roles.opposing.sum()) for roles in located),
        "gamma": settings.gammas[-1],
        "contexts": settings.n_contexts,
    }
    for row in effects:
        if (row["value"], row["target"], row["gamma"]) == (TOGETHER, OWN, settings.gammas[-1]):
            summary[row["condition"]] = row["effect"]
    return summary
