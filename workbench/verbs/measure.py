"""Measure a model's value profile with an instrument, steered or not.

1. The instrument's questions are asked in every context, unsteered and, where a steering is given,
   steered; by log-probability or in words. What was asked before is not asked again.
2. With a gate, a detector reads every question, and only those it opens for are steered.
3. Free answers are rated by a judge. Every answer is kept as a response, the profile is their mean
   with an interval, raw and centred.
4. Beside every profile stands what speaks against it: answers that are missing, reliability and
   biases (`administration/quality.py`).
"""

import dataclasses
import hashlib
from typing import Annotated

from feature_store.bounds import (
    MANY,
    Between,
    Count,
    CountOrZero,
    Plugin,
    Replicates,
    Seed,
    Temperature,
)
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Response, Run, Steering, Unit
from sae_training.engine.vision import VisionModel
from workbench import material
from workbench.llm import open_llm
from workbench.llm.judges import open_judge
from workbench.measuring import questions as asking
from workbench.measuring.administer import Mode, administer
from workbench.measuring.quality import change_quality, quality
from workbench.measuring.questionnaire import Opened, one_scale, open_instrument
from workbench.measuring.questions import Question, questions
from workbench.measuring.respondents import Length, Respondent, Speaker, Weights
from workbench.measuring.seeing import Seeing
from workbench.settings import plain
from workbench.steering import gates
from workbench.steering.apply import one_steering, respondent
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class AskingSettings:
    """How an instrument is administered."""

    wordings: tuple[str, ...] = ()
    """Wordings to ask; none: those made for the model."""
    contexts: str = ""
    """File with one context a line; empty: those made for the model, or none where the
    instrument wants none. `none`: no context, items are the clusters."""
    n_contexts: CountOrZero = 24
    """Contexts, the clusters of the intervals."""
    persona: str = ""
    """What the model is told it is, before everything else; empty: nothing."""
    mode: Mode = "logprob"
    """Score the answers, or let the model write."""
    length: Length = "mean"
    """Log-probability of an answer per token, which does not favour short ones, or summed over
    its tokens."""
    temperature: Temperature = 0.0
    """Sampling temperature when it writes; 0: greedy."""
    repeats: Annotated[int, Between(1, 10_000)] = 1
    """How often each question is asked when answers are sampled; their agreement is the
    test-retest reliability."""
    new_tokens: Count = 0
    """Longest answer when it writes [tokens]; 0: 12 on a scale or among answers, 128 in free
    text."""
    judge: str = ""
    """Language model that rates free answers: organism, local:FOLDER-OR-HUB-ID or
    https://host/v1#model."""
    replicates: Replicates = 2000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of contexts, sampling and bootstrap."""


@dataclasses.dataclass(frozen=True)
class MeasureSettings(AskingSettings):
    model: str = ""
    """Folder or hub id of the model, with `vision:` before it if it sees, or `organism`; empty:
    the model of `sae`."""
    revision: str = ""
    """Revision of a hub model."""
    dtype: str = "float32"
    """Number format of the weights."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, ..."""
    sae: str = "latest"
    """Run of the SAE; needed for steering, and for the model where none is given."""
    features: tuple[str, ...] = ()
    """Features to steer, as index or index:weight; none: the model as it is."""
    method: Annotated[str, Plugin("steerings")] = "add"
    """Steering plug-in."""
    strength: Annotated[float, Between(-MANY, MANY)] = 0.0
    """How far to steer [unit]."""
    unit: Unit = "norm_share"
    """raw: residual units; feature_max: multiples of the feature's maximum; norm_share: share of
    the median residual norm."""
    gate: Annotated[str, Plugin("detectors")] = ""
    """Detector plug-in that decides which questions are steered (conditional steering); empty:
    all are."""
    gate_value: str = ""
    """Value that the detector looks for."""
    gate_options: tuple[str, ...] = ()
    """The detector's own settings, as key=value."""
    threshold: float = 0.5
    """Score from which on a question is steered [0 to 1]."""
    instrument: Annotated[str, Plugin("instruments")] = "standin"
    """Instrument plug-in."""
    settings: tuple[str, ...] = ()
    """The instrument's own settings, as key=value: the file of its items, for one."""


def ask(
    study: Workspace,
    model_name: str,
    instrument: str,
    wordings: tuple[str, ...],
    contexts: str,
    n: int,
    seed: int,
    held: bool = False,
) -> list[Question]:
    """A sweep's questions for a model: its own wordings and contexts unless others are named.

    `held`: in the contexts kept for choosing.
    """
    own = material.own(model_name)
    chosen = (material.held_contexts if held else material.contexts)(contexts or own, n, seed)
    return questions(
        one_scale(instrument, study.system),
        chosen,
        wordings or wordings_for(study, instrument, model_name),
    )


def wordings_for(study: Workspace, instrument: str, model_name: str) -> tuple[str, ...]:
    """The wordings in which an instrument asks a model: the organism knows its own, others are
    asked with both ends of the scale named.
    """
    opened = open_instrument(instrument, (), study.system)
    return opened.plugin.wordings(opened.instrument, bool(material.own(model_name)))


def _check(config: MeasureSettings, opened: Opened, steering: Steering, study: Workspace) -> None:
    """Raises BadInput where flags do not go together."""
    free, talks = opened.instrument.answer == "text", "://" in config.model
    if config.gate and steering.name == "base":
        raise BadInput(
            "A gate decides where a steering acts, and none was given. Name one with --features and"
            " --strength, or leave --gate out."
        )
    if not config.gate and (config.gate_value or config.gate_options):
        raise BadInput(
            "--gate-value and --gate-options belong to a gate. Name it with --gate, or leave them"
            " out."
        )
    if config.gate and not config.gate_value:
        raise BadInput(
            "Which value does the gate look for? Name it with --gate-value:"
            f" {', '.join(study.system.ids)}."
        )
    if (free or talks) and config.mode == "logprob":
        what = (
            f"{config.instrument} asks for free answers"
            if free
            else f"{config.model} answers in words only"
        )
        raise BadInput(f"{what}. Use --mode generate.")
    if opened.plugin.judged != bool(config.judge):
        raise BadInput(
            f"{config.instrument}'s free answers are rated by a judge. Name its language model with"
            " --judge."
            if opened.plugin.judged
            else (
                f"{config.instrument} needs no judge: its answers are read by rule. Leave --judge"
                " out."
            )
        )
    if config.repeats != 1 and (
        config.mode == "logprob" or config.temperature == 0 or config.repeats < 1
    ):
        raise BadInput(
            "Repeats of an answer that is not sampled are the same answer. Use --mode generate with"
            " --temperature 1, or --repeats 1."
        )
    if talks and steering.name != "base":
        raise BadInput(
            f"{config.model} runs elsewhere and cannot be steered. Steer a model that runs here, or"
            " leave --features out."
        )


def _questions(
    study: Workspace, config: MeasureSettings, opened: Opened, name: str
) -> list[Question]:
    own = material.own(name)
    bare = config.contexts == "none" or not (config.contexts or opened.plugin.contexts)
    contexts = (
        [""] if bare else material.contexts(config.contexts or own, config.n_contexts, config.seed)
    )
    wordings = config.wordings or opened.plugin.wordings(opened.instrument, bool(own))
    repeats = range(config.seed, config.seed + config.repeats)
    return questions(opened.instrument, contexts, wordings, repeats, config.persona)


def _gate(study: Workspace, config: MeasureSettings, asked: list[Question]) -> list[bool]:
    """Which questions are steered."""
    if not config.gate:
        return [True] * len(asked)
    detector = gates.make(study, config.gate, config.gate_value, config.gate_options)
    return gates.gate(detector, [q.prompt for q in asked], config.threshold).open.tolist()


def run(study: Workspace, config: MeasureSettings, progress: Progress) -> Run:
    """A run of kind `profile`."""
    steering = one_steering(config.features, config.method, config.strength, config.unit)
    opened = open_instrument(config.instrument, config.settings, study.system, study.folder)
    _check(config, opened, steering, study)
    sae_run = None if config.model and steering.name == "base" else study.resolve("sae", config.sae)
    if sae_run and config.model and config.model != sae_run.config["model"]:
        raise BadInput(
            f"{sae_run.id} belongs to {sae_run.config['model']}, not to {config.model}. Name its"
            " SAE with --sae, or leave --model out."
        )
    name = config.model or sae_run.config["model"]
    asked = _questions(study, config, opened, name)
    base, steered, revision = _respondents(study, config, name, sae_run, steering)
    judge = (
        open_judge(config.judge, study.model, study.folder / "answers.jsonl")
        if config.judge
        else None
    )
    inputs = {
        "model": revision,
        "items": hashlib.sha256(repr(opened.instrument).encode()).hexdigest(),
    }
    inputs |= ({"sae": sae_run.id} if sae_run else {}) | ({"judge": judge.name} if judge else {})
    plainly = plain(dataclasses.replace(config, model=name, sae=sae_run.id if sae_run else ""))
    if study.runs.exists(id := study.runs.find("profile", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("profile", plainly, inputs, config.seed) as work:

        def answers(who: Respondent, said: str, some: list[Question]) -> list[Response]:
            if not some:
                return []
            return administer(
                who,
                opened.instrument,
                some,
                said,
                progress,
                mode=config.mode,
                length=config.length,
                temperature=config.temperature,
                new_tokens=config.new_tokens,
                read=opened.plugin.read,
            )

        responses = answers(base, "base", asked)
        sets, figures = [responses], {}
        if steered:
            is_open, said = (
                _gate(study, config, asked),
                steering.name + (f" gated by {config.gate}" if config.gate else ""),
            )
            changed = iter(
                answers(steered, said, [q for q, open in zip(asked, is_open, strict=True) if open])
            )
            # Behind a closed gate the model is as it was, to the bit: so is its answer.
            sets.append(
                [
                    next(changed) if open else dataclasses.replace(r, steering=said)
                    for r, open in zip(responses, is_open, strict=True)
                ]
            )
            figures = {"gated": sum(is_open)} if config.gate else {}
        # once all are there: a judge may find several values in a text, each a response of its own
        if judge:
            sets = [opened.plugin.rate(one, opened.instrument, judge) for one in sets]
        work.table("prompts", asking.prompt_rows(asked), sort=("context", "wording", "order"))
        work.table(
            "responses", [r for one in sets for r in one], sort=("steering", "value", "context")
        )
        work.table(
            "profiles",
            [
                row
                for one in sets
                for row in opened.plugin.score(
                    one, opened.instrument, study.system, config.replicates, config.seed
                )
            ],
        )
        told = [
            row
            for one in sets
            for row in quality(one, opened.instrument, study.system, config.replicates, config.seed)
        ]
        told += [
            row
            for one in sets[1:]
            for row in change_quality(sets[0], one, opened.instrument, study.system, config.seed)
        ]
        work.table("quality", told)
        more = [
            opened.plugin.tables(
                one, opened.instrument, study.system, config.replicates, config.seed
            )
            for one in sets
        ]
        for relation in more[0]:
            work.table(relation, [row for one in more for row in one[relation]])
        every = [r for one in sets for r in one]
        return work.finish(
            {
                "instrument": config.instrument,
                "steering": steering.name,
                "answers": len(every),
                "missing": sum(r.status != "parsed" for r in every),
                "contexts": len({q.context for q in asked}),
            }
            | _too_long(every)
            | figures
        )


def _too_long(responses: list[Response]) -> dict[str, int | str]:
    """How many questions were longer than the model reads, and which items; nothing where none
    was.
    """
    items = list(dict.fromkeys(r.item for r in responses if r.status == "too-long"))
    if not items:
        return {}
    return {
        "too_long": sum(r.status == "too-long" for r in responses),
        "too_long_items": ", ".join(items[:5]) + (", ..." if len(items) > 5 else ""),
    }


def _respondents(
    study: Workspace, config: MeasureSettings, name: str, sae_run: Run | None, steering: Steering
) -> tuple[Respondent, Respondent | None, str]:
    """Who answers as it is, who steered, and the model's revision."""
    if "://" in name:
        speaker = Speaker(open_llm(name, study.model), study.folder)
        return speaker, None, speaker.name
    model = study.model_for(name, sae_run, config.revision, config.dtype, config.device)
    kind = Seeing if isinstance(model, VisionModel) else Weights
    base = kind(model, study.folder)
    if sae_run is None or steering.name == "base":
        return base, None, model.revision
    return base, respondent(study, sae_run, steering, kind), model.revision
