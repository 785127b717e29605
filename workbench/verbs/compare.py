"""Compare ways to steer a value: SAE features, difference of means, ConVA, a prompt, and controls,
under one budget of damage.

1. Every arm (`arms.py`) is measured for every value at every strength on the same questions, and
   its damage on the same neutral texts. The residual is steered by a sweep (`sweep.py`); prompts
   are asked of the unsteered model, and their damage is the rise of the loss on the neutral text's
   own tokens after the prompt.
2. Strengths are chosen on half of the contexts, effects reported on the other half
   (`causal/compare.py`).
3. Where somebody can judge texts, openings are continued under every arm and rated as in AxBench
   (`ratings.py`): the organism's own language is known, other models need `judge`. Without one that
   table is empty, and the questionnaire stands alone.

Everything is kept in chunks: an interrupted comparison goes on where it was.
"""

import dataclasses
import hashlib
import time
from typing import TYPE_CHECKING, Annotated

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
from feature_store.records import Positions, Run, Site, Steering, Unit
from workbench import material, organism
from workbench.causal import targets
from workbench.causal.joint import halves
from workbench.comparing import methods
from workbench.features import output_scores
from workbench.llm import open_llm
from workbench.llm.answered import CachedLLM
from workbench.llm.judges import LLMJudge
from workbench.measuring.questionnaire import one_scale
from workbench.measuring.questions import Question, option_texts
from workbench.settings import plain
from workbench.steering.apply import edit_for
from workbench.sweeps import arms, sweep, texts, value_prompts
from workbench.sweeps.arms import Planned
from workbench.sweeps.stored import (
    SweepSettings,
    SweepTables,
    sweep_material,
    unlabelled_features,
    write_sweep,
)
from workbench.sweeps.sweep import Choice
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit

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
    choose: Choice = "output"
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
    n_contexts: CountOrZero = 24
    """Contexts, the clusters of the intervals; half of them choose, half report."""
    n_neutral: Count = 16
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


def run(study: Workspace, config: CompareSettings, progress: Progress) -> Run:
    """A run of kind `comparison`."""
    if not config.methods:
        raise BadInput("Give at least one method for the SAE's features, such as --methods add.")
    label_run = study.resolve("labels", config.labels)
    sae_run = study.runs.get(label_run.inputs["sae"])
    probe_run = study.resolve("probes", config.probes) if config.probes else None
    name = sae_run.config["model"]
    sweep_texts = sweep_material(study, name, config)
    asked, neutral, told = sweep_texts.questions, sweep_texts.neutral, sweep_texts.digest
    planned = _plan(study, config, label_run, sae_run, probe_run, asked)
    openings, judge = _openings(study, config, name), _judge(study, config)
    told = hashlib.sha256(
        repr([told, [one.prompt for one in planned], openings]).encode()
    ).hexdigest()
    inputs = {
        "labels": label_run.id,
        "sae": sae_run.id,
        "model": sae_run.inputs["model"],
        "prompts": told,
    }
    inputs |= ({"probes": probe_run.id} if probe_run else {}) | (
        {"judge": judge.name} if judge else {}
    )
    plainly = plain(
        dataclasses.replace(config, labels=label_run.id, probes=probe_run.id if probe_run else "")
    )
    if study.runs.exists(id := study.runs.find("comparison", plainly, inputs, config.seed)):
        return study.runs.get(id)
    model, at = study.model_of(sae_run), (sae_run.summary["layer"], sae_run.summary["point"])
    with study.runs.begin("comparison", plainly, inputs, config.seed) as work:
        edit = edit_for(study, sae_run, [one.steering for one in planned])
        instrument = one_scale(config.instrument, study.system)
        steered = [one.intervention for one in planned if not one.prompt]
        sweep.measure(work, model, edit, *at, instrument, asked, neutral, steered, progress)
        ratings, damage = value_prompts.measure(
            work, model, planned, asked, neutral, option_texts(instrument, model), progress
        )
        rows = pd.DataFrame([one.row(k) for k, one in enumerate(planned)])
        tables = SweepTables(rows, ratings, damage)
        measured = write_sweep(
            work, study.system, tables, sweep_texts, config.replicates, config.seed
        )
        measured = dataclasses.replace(measured, kind=np.array([one.arm for one in planned]))
        progress("analysing", 0, 1)
        reverses = {"wrong-sign": f"sae-{config.methods[0]}"}
        found = methods.compare(
            measured,
            study.system,
            halves(config.n_contexts, config.seed),
            halves(len(neutral), config.seed + 1),
            config.delta,
            arms.BASELINES,
            reverses,
            config.replicates,
            config.seed,
        )
        progress("analysing", 1, 1)
        scored = None
        if openings:
            written = texts.write(
                work, model, edit, *at, planned, openings, config.new_tokens, config.seed, progress
            )
            rater = (
                ratings.Asked(judge)
                if judge
                else ratings.Planted(written["loss"].to_numpy()[: len(openings)])
            )
            rated = texts.rate(written, planned, openings, rater, study.system)
            scored = methods.score_texts(
                rated,
                measured,
                halves(len(openings), config.seed + 2),
                reverses,
                config.replicates,
                config.seed,
            )
            work.table("arm_texts", texts.rows(written, rated), sort=("intervention", "opening"))
            work.table("arm_scores", [row | {"judge": rater.name} for row in scored.rows])
        else:
            work.table("arm_texts", [])
            work.table("arm_scores", [])
        tokens = [value_prompts.tokens(model, one.prompt, asked[0]) for one in planned]
        rows = [
            row | {"prompt": one.prompt, "tokens": extra}
            for row, one, extra in zip(found.arms, planned, tokens, strict=True)
        ]
        work.table("arms", rows)
        work.table("arm_effects", found.arm_effects)
        work.table("arm_contrasts", found.arm_contrasts)
        needs = _needs(label_run, probe_run)
        means = []
        for row in found.arm_means:
            extra = float(
                np.mean([r["tokens"] for r in rows if r["arm"] == row["arm"] and r["chosen"]])
            )
            means.append(
                row
                | _score_of(scored, row["arm"])
                | {
                    "tokens": extra,
                    "seconds": _seconds(
                        model, edit, at, planned, row["arm"], asked, option_texts(instrument, model)
                    ),
                    "needs": needs(row["arm"]),
                }
            )
        work.table("arm_means", means)
        rivals = [row for row in means if row["arm"] not in arms.CONTROLS]
        best = max(rivals, key=lambda row: row["effect"])
        return work.finish(
            {
                "arms": len(means),
                "methods": len(rivals),
                "values": len({one.value for one in planned}),
                "interventions": len(planned),
                "contexts": config.n_contexts,
                "texts": len(openings),
                "best": best["arm"],
                "best_effect": best["effect"],
                "beat_baseline": sum(
                    row["value"] == methods.ALL and row["q"] < 0.05 and row["difference"] > 0
                    for row in found.arm_contrasts
                ),
                "left_out": (
                    ", ".join(
                        v for v in study.system.ids if v not in {one.value for one in planned}
                    )
                    or "none"
                ),
                "delta": config.delta,
            }
        )


def _plan(
    study: Workspace,
    config: CompareSettings,
    label_run: Run,
    sae_run: Run,
    probe_run: Run | None,
    asked: list[Question],
) -> list[Planned]:
    labels = output_scores.with_outputs(study, label_run.id)
    chosen = sweep.choose_features(labels, config.features_per_value, config.choose)
    able = set(chosen.value) & set(probe_run.summary["probed"] if probe_run else chosen.value)
    if not config.methods:
        raise BadInput(
            "Which steering methods are compared? Name at least one with --methods, such as add."
        )
    wanted = list(dict.fromkeys(map(study.system.resolve, config.values))) or [
        value for value in study.system.ids if value in able
    ]
    missing = [value for value in wanted if value not in able]
    if missing or not wanted:
        raise BadInput(
            "Every arm needs labelled features and, with --probes, a probe of the value; missing"
            f" for {', '.join(missing) or 'all values'}. Leave it out with --values, or label and"
            " probe it."
        )
    if (
        any(s <= 0 for s in config.strengths)
        or list(config.strengths) != sorted(set(config.strengths))
        or not config.strengths
    ):
        raise BadInput(
            "Strengths are positive, rising numbers, got"
            f" {', '.join(f'{s:g}' for s in config.strengths) or 'none'}."
        )
    steps = len(config.strengths)
    if sae_run.config["model"] == material.ORGANISM and not config.prompts:
        texts = [question.prompt for question in asked]
        ladders = {
            value: value_prompts.organism_ladder(study.system[value], steps, texts, config.seed)
            for value in wanted
        }
    else:
        sentences = value_prompts.read(config.prompts)
        ladders = {
            value: value_prompts.ladder(study.system[value], steps, sentences) for value in wanted
        }
    template = Steering(unit=config.unit, positions=config.positions)
    unlabelled = unlabelled_features(study, sae_run, labels)
    probes = probe_run.id if probe_run else ""
    return arms.plan(
        chosen,
        wanted,
        unlabelled,
        probes,
        config.methods,
        ladders,
        config.strengths,
        template,
        config.seed,
    )


def _openings(study: Workspace, config: CompareSettings, name: str) -> list[str]:
    """What is continued in text; nothing where nobody could judge it."""
    if not config.n_texts or not (config.judge or name == material.ORGANISM):
        return []
    known = (
        organism.openings(config.n_texts, config.seed + 1)
        if name == material.ORGANISM
        else [q.text for q in targets.questions(config.questions, study.system)]
    )
    if min(len(known), config.n_texts) < 4:
        raise BadInput(
            "Choosing and reporting need four openings or more, got"
            f" {min(len(known), config.n_texts)}. Give more questions, or --n-texts 0."
        )
    return known[: config.n_texts]


def _judge(study: Workspace, config: CompareSettings) -> LLMJudge | None:
    return (
        LLMJudge(CachedLLM(open_llm(config.judge, study.model), study.folder / "answers.jsonl"))
        if config.judge
        else None
    )


def _seconds(
    model: "Model",
    edit: "Edit",
    at: tuple,
    planned: list[Planned],
    arm: str,
    asked: list[Question],
    options: list[str],
) -> float:
    """Time a question at the arm's largest strength [s], by full forward passes under the same
    hook.
    """
    import torch

    row, one = max(
        (pair for pair in enumerate(planned) if pair[1].arm == arm),
        key=lambda pair: (pair[1].dose, -pair[0]),
    )
    prompts = [value_prompts.before(one.prompt, q.prompt) for q in asked[:TIMED]]
    with model.steered(edit.take(torch.tensor([row])), Site(*at)):
        model.score(prompts[:1], options)
        start = time.perf_counter()
        model.score(prompts, options)
    return (time.perf_counter() - start) / len(prompts)


def _needs(label_run: Run, probe_run: Run | None):
    """Arm -> what it was made of, in words."""
    pairs = (
        f"{probe_run.summary['pairs']} pairs of texts over {probe_run.summary['values']} values"
        if probe_run
        else ""
    )
    features = f"an SAE and {label_run.summary['texts']} labelled texts"
    known = {
        "difference-of-means": pairs,
        "probe": pairs,
        "conva": pairs,
        "prompt": "the value in words",
        "random-feature": "an SAE",
        "random-direction": "nothing",
    }
    return lambda arm: known.get(arm, features)


def _score_of(scored: methods.Scored | None, arm: str) -> dict[str, float | None]:
    return (
        scored.means[arm]
        if scored
        else dict.fromkeys(("harmonic", "harmonic_low", "harmonic_high"))
    )
