"""Find the neurons that tell a value from its reverse, edit them, and measure every value and the
damage.

1. The model answers everyday questions as a person who holds a value and as one who holds its
   reverse (`neurons/descriptions.py`); MLP neurons, or the SAE's features, are counted over the
   tokens of the answers.
2. Each value gets target and opposing neurons and a control for them (`neurons/locate.py`).
3. Every edit (the value's neurons, the same in exchanged roles, random ones) is measured at every
   gamma by the study's instrument in every context, and by the loss on neutral text. Each finished
   edit is kept, so a killed run goes on.
4. With a judge, samples written without a description are scored under each condition as well.

A judge is named in the configuration, or an object of the caller's (`study.neurons(judge=...)`);
without one the instrument alone speaks.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    Temperature,
)
from feature_store.errors import BadInput, NotFound
from feature_store.progress import Progress
from feature_store.records import Run, ValueSystem
from feature_store.runs import Work
from sae_training.engine.neurons import Group, edited, gates, latents
from workbench import material
from workbench.llm import Judge
from workbench.llm.judges import open_judge
from workbench.measuring.defaults import SweepAskingSettings, sweep_questions
from workbench.measuring.questionnaire import one_scale
from workbench.measuring.questions import prompt_rows
from workbench.settings import LocalModelSettings, plain
from workbench.statistics.intervals import bootstrap_mean
from workbench.sweeps.sweep import ratings_table
from workbench.systems.value_locate.descriptions import POLES, Descriptions, descriptions
from workbench.systems.value_locate.effects import (
    OWN,
    TOGETHER,
    Condition,
    Planned,
    cells,
    effect_rows,
    plan,
)
from workbench.systems.value_locate.experiment import Bench, Found, answer_all, find
from workbench.systems.value_locate.judging import samples_table, score, score_rows
from workbench.workspace import Workspace, site_of

if TYPE_CHECKING:
    from sae_training.engine.model import Model


@dataclasses.dataclass(frozen=True)
class NeuronsSettings(SweepAskingSettings, LocalModelSettings):
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
    min_delta: float = 0.1
    """Difference of the shares from which a neuron is chosen whatever its rank [0 to 1]."""
    gammas: Annotated[tuple[float, ...], Between(0, MANY)] = (0.1, 0.5, 1.0, 2.0)
    """How far target neurons are pushed, rising; 0 only holds the opposing ones [multiples of
    u]."""
    dropout: float = 0.1
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


def run(
    study: Workspace, config: NeuronsSettings, progress: Progress, judge: Judge | None = None
) -> Run:
    """A run of kind `neurons`."""
    if config.judge:
        judge = open_judge(config.judge, study.model, study.folder / "answers.jsonl")
    if config.n_answers < 2 or config.new_tokens < 2 or (judge and config.samples < 2):
        raise BadInput(
            f"Shares need 2 answers of 2 tokens, scores 2 samples; got {config.n_answers},"
            f" {config.new_tokens} and {config.samples}."
        )
    sae_run = None if config.model and config.on == "mlp" else study.resolve("sae", config.sae)
    if sae_run and config.model and config.model != sae_run.config["model"]:
        raise BadInput(
            f"{sae_run.id} belongs to {sae_run.config['model']}, not to {config.model}. Name its"
            " SAE with --sae, or leave --model out."
        )
    name = config.model or sae_run.config["model"]
    system = registry.get("values", config.system) if config.system else study.system
    values = tuple(dict.fromkeys(map(system.resolve, config.values))) or system.ids
    told = descriptions(config.descriptions or material.default_source(name), system, config.seed)
    if missing := [value for value in values if (value, POLES[0]) not in told.persons]:
        raise NotFound(
            f"There are no descriptions of {', '.join(missing)}. Give a file that has them with"
            " --descriptions."
        )
    planned = plan(values, config.gammas, config.draws)
    asked = sweep_questions(study, name, config)
    neutral = material.neutral(
        config.neutral or material.default_source(name), config.n_neutral, config.seed
    )
    model = study.model_for(name, sae_run, config.revision, config.dtype, config.device)
    prompts = [
        one.prompt
        for value in values
        for pole in POLES
        for one in told.asked(value, pole, config.n_answers, config.seed)
    ]
    read = hashlib.sha256(repr([q.prompt for q in asked] + neutral + prompts).encode()).hexdigest()
    inputs = (
        {"model": model.revision, "prompts": read}
        | ({"sae": sae_run.id} if sae_run else {})
        | ({"judge": judge.name} if judge else {})
    )
    plainly = plain(
        dataclasses.replace(config, model=name, sae=sae_run.id if sae_run else "", values=values)
    )
    if study.runs.exists(id := study.runs.find("neurons", plainly, inputs, config.seed)):
        return study.runs.get(id)
    if config.on == "mlp":
        groups = gates(model)
    else:
        groups = latents(model, study.sae(sae_run), site_of(sae_run))
    with study.runs.begin("neurons", plainly, inputs, config.seed) as work:
        answer_all(
            work,
            model,
            groups,
            values,
            told,
            config.n_answers,
            config.new_tokens,
            config.temperature,
            config.seed,
            progress,
        )
        found = {}
        for number, value in enumerate(values):
            found[value] = find(
                work,
                model,
                groups,
                number,
                value,
                config.top,
                config.min_delta,
                config.draws,
                config.u,
                config.seed,
            )
            progress("locating", number + 1, len(values))
        bench = Bench(
            model=model,
            instrument=one_scale(config.instrument, study.system),
            asked=asked,
            neutral=neutral,
            system=system,
        )
        base = _measure(work, bench, groups, found, planned, config, progress)
        if judge:
            _judge(work, model, groups, found, told, system, judge, config, progress)
        progress("analysing", 0, 1)
        ratings, damage = work.parts("ratings"), work.parts("damages")
        hurt = damage["damage"].to_numpy().reshape(len(planned), -1)
        folded = np.stack(
            [
                bench.fold(row)
                for row in ratings["rating"].to_numpy().reshape(len(planned), -1).astype(float)
            ]
        )
        counts = [len(found[one.value].own.neuron) for one in planned]
        effects = effect_rows(
            cells(planned, counts, bench.targets, folded, bench.fold(base), hurt),
            config.replicates,
            config.seed,
        )
        neurons = [row for one in found.values() for row in one.rows(groups)]
        work.table("neuron_answers", work.parts("neuron_answers"), sort=("value", "pole", "answer"))
        work.table("neurons", neurons, sort=("value", "role", "layer", "neuron"))
        work.table("interventions", _interventions(planned, hurt, config), sort=("intervention",))
        work.table("ratings", ratings, sort=("value", "intervention", "context"))
        work.table("damages", damage, sort=("intervention", "text"))
        work.table("prompts", prompt_rows(asked), sort=("context", "wording", "order"))
        work.table("neuron_effects", effects)
        missing = 0
        if judge:
            samples = work.parts("neuron_samples")
            work.table("neuron_samples", samples, sort=("value", "condition", "sample"))
            work.table("neuron_scores", score_rows(samples, config.replicates, config.seed))
            missing = int(np.isnan(samples["score"].to_numpy()).sum())
        progress("analysing", 1, 1)
        return work.finish(
            _summary(config, groups, found, effects)
            | ({"judge": judge.name, "not_judged": missing} if judge else {})
        )


def _measure(
    work: Work,
    bench: Bench,
    groups: Sequence[Group],
    found: dict[str, Found],
    planned: Sequence[Planned],
    config: NeuronsSettings,
    progress: Progress,
) -> Float[np.ndarray, " question"]:
    """Parts `ratings` and `damages`, one an edit; returns the unedited ratings."""
    base, loss = bench.ratings(), bench.losses()
    for number, one in enumerate(planned):
        if number not in work.done("ratings"):
            with edited(
                bench.model, groups, found[one.value].edit(one, config.dropout, config.seed, groups)
            ):
                ratings, losses = bench.ratings(), bench.losses()
            if not (np.isfinite(ratings).all() and np.isfinite(losses).all()):
                raise BadInput(f"The model gives NaN with {_name(one)}. Use smaller gammas.")
            texts = np.arange(len(losses), dtype=np.int32)
            work.part(
                "damages",
                number,
                pa.table(
                    {
                        "intervention": np.full(len(losses), number, np.int32),
                        "text": texts,
                        "damage": losses - loss,
                    }
                ),
            )
            work.part(
                "ratings",
                number,
                ratings_table(np.array([number]), bench.asked, ratings[None], base),
            )
        progress("editing", number + 1, len(planned))
    return base


def _judge(
    work: Work,
    model: "Model",
    groups: Sequence[Group],
    found: dict[str, Found],
    told: Descriptions,
    system: ValueSystem,
    judge: Judge,
    config: NeuronsSettings,
    progress: Progress,
) -> None:
    """Parts `neuron_samples`, one a value and condition."""
    asked = told.bare(config.samples)
    prompts = [one.prompt for one in asked]
    kinds: tuple[Condition, ...] = (
        "default",
        "edited",
        "reversed",
        *(("random",) if config.draws else ()),
    )
    jobs = [(value, kind) for value in found for kind in kinds]
    for number, (value, kind) in enumerate(jobs):
        if number not in work.done("neuron_samples"):
            if kind == "default":
                gamma, texts = (
                    0.0,
                    model.generate(prompts, config.new_tokens, config.temperature, config.seed),
                )
            else:
                gamma = config.judged_gamma
                one = Planned(
                    value=value, condition=kind, gamma=gamma, draw=0 if kind == "random" else -1
                )
                with edited(
                    model, groups, found[value].edit(one, config.dropout, config.seed, groups)
                ):
                    texts = model.generate(
                        prompts, config.new_tokens, config.temperature, config.seed
                    )
            work.part(
                "neuron_samples",
                number,
                samples_table(score(judge, system[value], asked, texts, kind, gamma)),
            )
        progress("judging", number + 1, len(jobs))


def _name(one: Planned) -> str:
    draw = f" {one.draw}" if one.condition == "random" else ""
    return f"{one.condition}{draw} neurons of {one.value} @{one.gamma:g} gamma"


def _interventions(
    planned: Sequence[Planned], hurt: Float[np.ndarray, "edit text"], config: NeuronsSettings
) -> pa.Table:
    """Rows of `interventions`: one an edit, its gammas sharing a unit."""
    harm = bootstrap_mean(hurt.T, config.replicates, config.seed)
    return pa.Table.from_pandas(
        pd.DataFrame(
            [
                {
                    "intervention": k,
                    "steering": _name(one),
                    "kind": f"{one.condition}-neurons",
                    "unit_id": k // len(config.gammas),
                    "feature": -1,
                    "value": one.value,
                    "polarity": -1 if one.condition == "reversed" else 1,
                    "dose": one.gamma,
                    "unit": "gamma",
                    "damage": harm.mean[k],
                    "damage_low": harm.low[k],
                    "damage_high": harm.high[k],
                    "damage_n": harm.n[k],
                }
                for k, one in enumerate(planned)
            ]
        ),
        preserve_index=False,
    )


def _summary(
    config: NeuronsSettings,
    groups: Sequence[Group],
    found: dict[str, Found],
    effects: list[dict[str, Any]],
) -> dict[str, Any]:
    """Sizes, and the mean effect of the values on themselves at the largest gamma [rating
    points].
    """
    own = {
        row["condition"]: row["effect"]
        for row in effects
        if (row["value"], row["target"], row["gamma"]) == (TOGETHER, OWN, config.gammas[-1])
    }
    return {
        "on": config.on,
        "values": len(found),
        "neurons": sum(group.width for group in groups),
        "layers": len(groups),
        "targets": sum(int((~one.own.opposing).sum()) for one in found.values()),
        "opposing": sum(int(one.own.opposing.sum()) for one in found.values()),
        "gamma": config.gammas[-1],
        "contexts": config.n_contexts,
    } | own
