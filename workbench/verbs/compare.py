"""Compare ways to steer a value: SAE features, difference of means, ConVA, a prompt, and controls,
under one budget of damage.

1. Every arm (`sweeps/arms.py`) is measured for every value at every strength on the same questions,
   and its damage on the same neutral texts. The residual is steered by a sweep (`sweeps/sweep.py`);
   prompts are asked of the unsteered model, and their damage is the rise of the loss on the neutral
   text's own tokens after the prompt.
2. Strengths are chosen on half of the contexts, effects reported on the other half
   (`comparing/methods.py`).
3. Where somebody can judge texts, openings are continued under every arm and rated as in AxBench
   (`sweeps/ratings.py`): the organism's language is known, other models need `judge`. Without one
   that table is empty, and the questionnaire stands alone.

Everything is kept in chunks: an interrupted comparison goes on where it was.
"""

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd

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
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Positions, Run, Steering, Unit
from feature_store.work import Work
from workbench import material, organism
from workbench.causal import targets
from workbench.causal.joint import halves
from workbench.comparing import methods
from workbench.features import output_scores
from workbench.llm import open_llm
from workbench.llm.cached import CachedLLM
from workbench.llm.judges import LLMJudge, inputs_of
from workbench.measuring.heard import resolved
from workbench.measuring.scored import ScoredQuestions
from workbench.sweeps import arms, sweep, texts, value_prompts
from workbench.sweeps.arms import PlannedArm
from workbench.sweeps.damage import Sweep
from workbench.sweeps.ratings import JudgeRater, OrganismRater, Rater
from workbench.sweeps.stored import (
    SweepSettings,
    SweepTables,
    edited_model,
    refuse_without_unit,
    sweep_material,
    unlabelled_features,
    write_sweep,
)
from workbench.sweeps.sweep import ChosenBy, SweepMaterial
from workbench.workspace import Workspace

TIMED = 32
"""Questions behind the time of one question."""


@dataclasses.dataclass(frozen=True)
class CompareSettings(SweepSettings):
    """Which ways to steer are compared, at which strengths, and how texts are judged."""

    labels: str = "latest"
    """Run of the labels; its SAE is steered."""
    probes: str = "latest"
    """Run of the probes with the stored directions; empty: difference of means, probe and ConVA
    are left out."""
    values: tuple[str, ...] = ()
    """Values to compare for; none: all that have features (and probes)."""
    methods: Annotated[tuple[str, ...], Plugin("steerings")] = ("add", "clamp", "orthogonal")
    """Steering plug-ins under which the SAE's features are steered; the controls use the first."""
    features_per_value: Count = 8
    """Features of each value, steered as one direction."""
    choose: ChosenBy = "output"
    """By which score of the labels a value's features come first: `output` or `input`, as in
    `effects`."""
    strengths: Annotated[tuple[float, ...], Between(0, MANY)] = (0.1, 0.2, 0.3, 0.45, 0.6)
    """Strengths of every arm, positive and rising [unit]; a prompt has 1, 2, 3, ... sentences
    instead."""
    unit: Unit = "norm_share"
    """raw: residual units; feature_max: multiples of the feature's maximum; norm_share: share of
    the median residual norm."""
    positions: Positions = "all"
    """Which tokens are steered."""
    prompts: str = ""
    """TOML with the sentences of the prompts; empty: the shipped ones, on the organism sentences
    of its own language."""
    delta: Positive = 0.1
    """Damage that a chosen strength may do at most [nats per token]."""
    n_contexts: Annotated[int, Between(4, MANY)] = 24
    """Contexts, the clusters of the intervals; half of them choose, half report."""
    n_neutral: Annotated[int, Between(4, MANY)] = 16
    """Neutral texts; half of them choose, half report."""
    judge: str = ""
    """Language model that rates texts: local:FOLDER-OR-HUB-ID or https://host/v1#model; empty:
    on the organism its known language."""
    questions: str = ""
    """File of everyday questions that are answered in text; empty: the shipped ones (the
    organism continues its own openings)."""
    n_texts: CountOrZero = 16
    """Openings continued under every arm at every strength; half of them choose, half report; 0:
    none."""
    new_tokens: Count = 20
    """Longest continuation [tokens]."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of contexts, controls, halves, sampling and bootstrap."""


def run(study: Workspace, settings: CompareSettings, progress: Progress) -> Run:
    """Compare ways to steer a value; make a run of kind `comparison`."""
    if not settings.methods:
        raise BadInput("Give at least one method for the SAE's features, such as --methods add.")
    label_run = study.resolve("labels", settings.labels)
    source = study.resolve("sae", label_run.inputs["sae"]).config
    probe_run = study.resolve("probes", settings.probes) if settings.probes else None
    settings = resolved(study, settings, source, progress)
    setup = _set_up(study, settings, label_run, probe_run)
    inputs = {
        "labels": label_run.id,
        "sae": setup.sae_run.id,
        "model": setup.sae_run.inputs["model"],
        "prompts": setup.digest,
    }
    if probe_run:
        inputs["probes"] = probe_run.id
    if setup.judge:
        inputs |= inputs_of(setup.judge)
    pinned = dataclasses.replace(
        settings, labels=label_run.id, probes=probe_run.id if probe_run else ""
    )
    build = partial(_compare, study, pinned, setup, progress)
    return study.make("comparison", pinned, inputs, build)


class _Setup(NamedTuple):
    """What is compared, and with what it is measured."""

    label_run: Run
    """Run of the labels."""
    sae_run: Run
    """Run of the SAE, which names the model and the place."""
    probe_run: Run | None
    """Run of the probes; None: no arm goes along a stored direction."""
    material: SweepMaterial
    """Questions and neutral texts."""
    planned: list[PlannedArm]
    """Every arm for every value at every strength."""
    openings: list[str]
    """What is continued in text; none where nobody could judge it."""
    judge: LLMJudge | None
    """Who rates texts; None: where it is the organism, its known language does."""

    @property
    def digest(self) -> str:
        """Checksum of all that is put to the model [SHA-256]."""
        prompts = [arm.prompt for arm in self.planned]
        parts = [self.material.digest, prompts, self.openings]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def values(self) -> set[str]:
        """Ids of the values that are compared for."""
        return {arm.value for arm in self.planned}


def _set_up(
    study: Workspace, settings: CompareSettings, label_run: Run, probe_run: Run | None
) -> _Setup:
    """Plan the arms, and collect what they are measured with."""
    sae_run = study.resolve("sae", label_run.inputs["sae"])
    model_name = sae_run.config["model"]
    questions_and_texts = sweep_material(study, model_name, settings)
    labels = output_scores.with_outputs(study, label_run.id)
    chosen = sweep.choose_features(labels, settings.features_per_value, settings.choose)
    values = _values(study, settings, chosen, probe_run)
    _refuse_strengths(settings.strengths)
    if questions_and_texts.contexts < 4:
        raise BadInput(
            "Choosing and reporting need four contexts, or open questions, or more, got"
            f" {questions_and_texts.contexts}. Name more with --wordings, or leave it out."
        )
    if len(questions_and_texts.neutral) < 4:
        raise BadInput(
            "Choosing and reporting need four neutral texts or more, got"
            f" {len(questions_and_texts.neutral)}. Give more with --neutral."
        )
    sources = arms.ArmSources(
        chosen=chosen,
        unlabelled=unlabelled_features(study, sae_run, labels),
        probes=probe_run.id if probe_run else "",
        prompts=_ladders(study, settings, model_name, questions_and_texts, values),
    )
    template = Steering(unit=settings.unit, positions=settings.positions)
    return _Setup(
        label_run=label_run,
        sae_run=sae_run,
        probe_run=probe_run,
        material=questions_and_texts,
        planned=arms.plan(
            sources, values, settings.methods, settings.strengths, template, settings.seed
        ),
        openings=_openings(study, settings, model_name),
        judge=_judge(study, settings),
    )


def _values(
    study: Workspace, settings: CompareSettings, chosen: pd.DataFrame, probe_run: Run | None
) -> list[str]:
    """Ids of the values that are compared for. Raises BadInput for one that an arm lacks."""
    able = set(chosen.value)
    if probe_run:
        able &= set(probe_run.summary["probed"])
    values = list(dict.fromkeys(map(study.system.resolve, settings.values)))
    values = values or [value for value in study.system.ids if value in able]
    missing = [value for value in values if value not in able]
    if missing or not values:
        raise BadInput(
            "Every arm needs labelled features and, with --probes, a probe of the value; missing"
            f" for {', '.join(missing) or 'all values'}. Leave it out with --values, or label and"
            " probe it."
        )
    return values


def _refuse_strengths(strengths: Sequence[float]) -> None:
    """Raise BadInput for strengths that do not rise from above 0."""
    rising = list(strengths) == sorted(set(strengths))
    if not strengths or not rising or any(strength <= 0 for strength in strengths):
        raise BadInput(
            "Strengths are positive, rising numbers, got"
            f" {', '.join(f'{strength:g}' for strength in strengths) or 'none'}."
        )


def _ladders(
    study: Workspace,
    settings: CompareSettings,
    model_name: str,
    questions_and_texts: SweepMaterial,
    values: list[str],
) -> dict[str, list[str]]:
    """Value -> its prompts, of one sentence, of two, and so on, one a strength."""
    steps = len(settings.strengths)
    if model_name == material.ORGANISM and not settings.prompts:
        questions = [question.prompt for question in questions_and_texts.questions]
        return {
            value: value_prompts.organism_ladder(
                study.system[value], steps, questions, settings.seed
            )
            for value in values
        }
    sentences = value_prompts.read(settings.prompts)
    return {value: value_prompts.ladder(study.system[value], steps, sentences) for value in values}


def _openings(study: Workspace, settings: CompareSettings, model_name: str) -> list[str]:
    """What is continued in text; nothing where nobody could judge it."""
    is_organism = model_name == material.ORGANISM
    if not settings.n_texts or not (settings.judge or is_organism):
        return []
    if is_organism:
        openings = organism.openings(settings.n_texts, settings.seed + 1)
    else:
        questions = targets.questions(settings.questions, study.system)
        openings = [question.text for question in questions]
    n = min(len(openings), settings.n_texts)
    if n < 4:
        raise BadInput(
            f"Choosing and reporting need four openings or more, got {n}. Give more questions, or"
            " --n-texts 0."
        )
    return openings[:n]


def _judge(study: Workspace, settings: CompareSettings) -> LLMJudge | None:
    """The language model that rates texts, its answers kept with the study."""
    if not settings.judge:
        return None
    llm = open_llm(settings.judge, study.model)
    return LLMJudge(CachedLLM(llm, study.folder / "answers.jsonl"))


def _compare(
    study: Workspace, settings: CompareSettings, setup: _Setup, progress: Progress, work: Work
) -> dict[str, Any]:
    """Measure the arms into a run, compare them, and return the run's figures."""
    steerings = [arm.steering for arm in setup.planned]
    edited = edited_model(study, setup.sae_run, steerings)
    bench = _Bench(
        study=study,
        settings=settings,
        setup=setup,
        edited=edited,
    )
    value_prompts.refuse_too_long(edited.model, setup.planned, setup.material, setup.openings)
    if not work.done("ratings", "damages"):
        refuse_without_unit(
            study, setup.sae_run, settings.instrument, setup.material, setup.values, progress
        )
    measured = bench.measure(work, progress)
    progress("analysing", 0, 1)
    comparison = methods.compare(measured, study.system, bench.design())
    progress("analysing", 1, 1)
    scores = bench.score_texts(work, measured, progress)
    rows = bench.with_prompts(comparison.arms)
    means = bench.with_costs(comparison.arm_means, rows, scores)
    work.table("arms", rows)
    work.table("arm_effects", comparison.arm_effects)
    work.table("arm_contrasts", comparison.arm_contrasts)
    work.table("arm_means", means)
    figures = _figures(study, settings, setup, comparison, means)
    if scores:
        figures["unrated"] = sum(row["missing"] for row in scores.rows)
    return figures


class _Bench(NamedTuple):
    """The model under all arms, and what is put to it."""

    study: Workspace
    """The study that is worked in."""
    settings: CompareSettings
    """Settings of the comparison."""
    setup: _Setup
    """The planned arms, questions and texts."""
    edited: sweep.EditedModel
    """The model; row i of its edit is the i-th planned arm."""

    def measure(self, work: Work, progress: Progress) -> Sweep:
        """Measure every arm into the run; the sweep's `kind` is the name of the arm."""
        planned, questions_and_texts = self.setup.planned, self.setup.material
        sweep.measure(
            work,
            self.edited,
            questions_and_texts,
            [arm.intervention for arm in planned if not arm.prompt],
            progress,
        )
        ratings, damage = value_prompts.measure(
            work, self.edited.model, planned, questions_and_texts, progress
        )
        rows = pd.DataFrame([arm.row(number) for number, arm in enumerate(planned)])
        tables = SweepTables(rows, ratings, damage)
        replicates, seed = self.settings.replicates, self.settings.seed
        measured = write_sweep(
            work, self.study.system, tables, questions_and_texts, replicates, seed
        )
        return dataclasses.replace(measured, kind=np.array([arm.arm for arm in planned]))

    def design(self) -> methods.ComparisonDesign:
        """What chooses strengths, what reports effects, and which damage is allowed."""
        settings = self.settings
        return methods.ComparisonDesign(
            contexts=halves(self.setup.material.contexts, settings.seed),
            texts=halves(len(self.setup.material.neutral), settings.seed + 1),
            delta=settings.delta,
            baselines=arms.BASELINES,
            reverses={"wrong-sign": f"sae-{settings.methods[0]}"},
            replicates=settings.replicates,
            seed=settings.seed,
        )

    def score_texts(
        self, work: Work, measured: Sweep, progress: Progress
    ) -> methods.TextScores | None:
        """Write texts under every arm and rate them; None where nobody could judge them."""
        settings, planned, openings = self.settings, self.setup.planned, self.setup.openings
        if not openings:
            work.table("arm_texts", [])
            work.table("arm_scores", [])
            return None
        to_continue = texts.Openings(openings, settings.new_tokens, settings.seed)
        written = texts.write(work, self.edited, planned, to_continue, progress)
        usual = written["loss"].to_numpy()[: len(openings)]
        rater: Rater = JudgeRater(self.setup.judge) if self.setup.judge else OrganismRater(usual)
        rated = texts.rate(written, planned, openings, rater, self.study.system)
        scores = methods.score_texts(
            rated,
            measured,
            halves(len(openings), settings.seed + 2),
            self.design().reverses,
            settings.replicates,
            settings.seed,
        )
        work.table("arm_texts", texts.rows(written, rated), sort=("intervention", "opening"))
        work.table("arm_scores", [row | {"judge": rater.name} for row in scores.rows])
        return scores

    def with_prompts(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of `arms` with their prompts and the tokens that these add to a question."""
        model, question = self.edited.model, self.setup.material.questions[0]
        return [
            row
            | {"prompt": arm.prompt, "tokens": value_prompts.tokens(model, arm.prompt, question)}
            for row, arm in zip(rows, self.setup.planned, strict=True)
        ]

    def with_costs(
        self,
        means: list[dict[str, Any]],
        rows: list[dict[str, Any]],
        scores: methods.TextScores | None,
    ) -> list[dict[str, Any]]:
        """Rows of `arm_means` with what each arm costs and how its texts were rated."""
        unrated = dict.fromkeys(("harmonic", "harmonic_low", "harmonic_high"))
        complete = []
        for row in means:
            arm = row["arm"]
            tokens = [r["tokens"] for r in rows if r["arm"] == arm and r["chosen"]]
            costs = {
                "tokens": float(np.mean(tokens)),
                "seconds": self._seconds(arm),
                "needs": _needs(arm, self.setup),
            }
            complete.append(row | (scores.means[arm] if scores else unrated) | costs)
        return complete

    def _seconds(self, arm: str) -> float:
        """Time a question at the arm's largest strength [s], by full forward passes."""
        import torch

        rows = [k for k, planned in enumerate(self.setup.planned) if planned.arm == arm]
        row = max(rows, key=lambda k: (self.setup.planned[k].dose, -k))
        prompt = self.setup.planned[row].prompt
        model, edit, site = self.edited
        questions = self.setup.material.questions[:TIMED]
        prompts = [value_prompts.before(prompt, question.prompt) for question in questions]
        options = ScoredQuestions.of(questions, model).options
        with model.steered(edit.take(torch.tensor([row])), site):
            model.score(prompts[:1], options[:1])
            start = time.perf_counter()
            model.score(prompts, options)
        return (time.perf_counter() - start) / len(prompts)


def _needs(arm: str, setup: _Setup) -> str:
    """What an arm was made of, in words."""
    pairs = ""
    if setup.probe_run:
        summary = setup.probe_run.summary
        pairs = f"{summary['pairs']} pairs of texts over {summary['values']} values"
    needs = {
        "difference-of-means": pairs,
        "probe": pairs,
        "conva": pairs,
        "prompt": "the value in words",
        "random-feature": "an SAE",
        "random-direction": "nothing",
    }
    return needs.get(arm, f"an SAE and {setup.label_run.summary['texts']} labelled texts")


def _figures(
    study: Workspace,
    settings: CompareSettings,
    setup: _Setup,
    comparison: methods.MethodComparison,
    means: list[dict[str, Any]],
) -> dict[str, Any]:
    """The few figures that the run's summary gives."""
    rivals = [row for row in means if row["arm"] not in arms.CONTROLS]
    best = max(rivals, key=lambda row: row["effect"])
    left_out = [value for value in study.system.ids if value not in setup.values]
    return {
        "arms": len(means),
        "methods": len(rivals),
        "values": len(setup.values),
        "interventions": len(setup.planned),
        "contexts": setup.material.contexts,
        "texts": len(setup.openings),
        "best": best["arm"],
        "best_effect": best["effect"],
        "beat_baseline": sum(
            row["value"] == methods.ALL and row["q"] < 0.05 and row["difference"] > 0
            for row in comparison.arm_contrasts
        ),
        "left_out": ", ".join(left_out) or "none",
        "delta": settings.delta,
    }
