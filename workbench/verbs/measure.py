"""Measure a model's value profile, steered or not.

1. The instrument's questions are asked in every context, unsteered and, where a steering is given, steered.
2. With a gate, a detector reads every question, and only those it opens for are steered.
3. Every answer is kept as a response, the profile is their mean with an interval over contexts, raw and centred.
"""

import dataclasses
from typing import TYPE_CHECKING, Literal

from feature_store import registry
from feature_store.errors import BadInput
from feature_store.records import Response, Run, Steering, Unit
from workbench import detectors, material
from workbench.config import plain
from workbench.measure import Question, by_generation, by_logprob, profile, questions
from workbench.progress import Progress
from workbench.steered import parse_features, steer

if TYPE_CHECKING:
    from workbench.study import Study


@dataclasses.dataclass(frozen=True)
class Config:
    model: str = ""
    """Folder or hub id of the model, or `organism`; empty: the model of `sae`."""
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
    method: str = "add"
    """Steering plug-in."""
    strength: float = 0.0
    """How far to steer [unit]."""
    unit: Unit = "norm_share"
    """raw: residual units; feature_max: multiples of the feature's maximum; norm_share: share of the median residual norm."""
    gate: str = ""
    """Detector plug-in that decides which questions are steered (conditional steering); empty: all are."""
    gate_value: str = ""
    """Value that the detector looks for."""
    gate_options: tuple[str, ...] = ()
    """The detector's own settings, as key=value."""
    threshold: float = 0.5
    """Score from which on a question is steered [0 to 1]."""
    instrument: str = "standin"
    """Instrument plug-in."""
    wordings: tuple[str, ...] = ()
    """Wordings to ask; none: those made for the model."""
    contexts: str = ""
    """File with one context a line; empty: those made for the model."""
    n_contexts: int = 24
    """Contexts, the clusters of the intervals."""
    mode: Literal["logprob", "generate"] = "logprob"
    """Score the options, or let the model write."""
    temperature: float = 0.0
    """Sampling temperature when it writes; 0: greedy."""
    replicates: int = 2000
    """Bootstrap replicates."""
    seed: int = 0
    """Seed of contexts, sampling and bootstrap."""


def ask(
    study: "Study", model_name: str, instrument: str, wordings: tuple[str, ...], contexts: str, n: int, seed: int, held: bool = False
) -> list[Question]:
    """The questions for a model: its own wordings and contexts unless others are named. `held`: in the contexts kept for choosing."""
    own = material.own(model_name)
    instrument_record = registry.get("instruments", instrument)
    if instrument_record.system != study.system.id:
        raise BadInput(
            f"{instrument} measures {instrument_record.system}, this study speaks {study.system.id}. Choose another instrument."
        )
    chosen = (material.held_contexts if held else material.contexts)(contexts or own, n, seed)
    return questions(instrument_record, chosen, wordings or wordings_for(model_name))


def wordings_for(model_name: str) -> tuple[str, ...]:
    """The wordings that a model is asked in: the organism knows two, others are asked with both ends of the scale named."""
    return ("plain", "rated") if material.own(model_name) else ("number",)


def prompt_rows(asked: list[Question]) -> list[dict]:
    """The prompts as rows of the relation `prompts`."""
    return [
        {
            "context": q.context,
            "item": q.item.id,
            "wording": q.wording,
            "order": q.order,
            "value": q.item.value,
            "prompt": q.prompt,
        }
        for q in asked
    ]


def _gate(study: "Study", config: Config, asked: list[Question]) -> list[bool]:
    """Which questions are steered."""
    if not config.gate:
        return [True] * len(asked)
    detector = detectors.make(study, config.gate, config.gate_value, config.gate_options)
    return detectors.gate(detector, [q.prompt for q in asked], config.threshold).open.tolist()


def run(study: "Study", config: Config, progress: Progress) -> Run:
    """A run of kind `profile`."""
    steering = Steering(parse_features(config.features), config.method, config.strength, config.unit)
    if config.gate and not config.gate_value:
        raise BadInput(f"Which value does the gate look for? Name it with --gate-value: {', '.join(study.system.ids)}.")
    sae_run = None if config.model and steering.name == "base" else study.resolve("sae", config.sae)
    if sae_run and config.model and config.model != sae_run.config["model"]:
        raise BadInput(
            f"{sae_run.id} belongs to {sae_run.config['model']}, not to {config.model}. Name its SAE with --sae, or leave --model out."
        )
    name = config.model or sae_run.config["model"]
    asked = ask(study, name, config.instrument, config.wordings, config.contexts, config.n_contexts, config.seed)
    model = study.model_of(sae_run) if sae_run else study.model(name, config.revision, config.dtype, config.device)
    inputs = {"model": model.revision} | ({"sae": sae_run.id} if sae_run else {})
    plainly = plain(dataclasses.replace(config, model=name, sae=sae_run.id if sae_run else ""))
    if study.runs.exists(id := study.runs.find("profile", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("profile", plainly, inputs, config.seed) as work:
        instrument = registry.get("instruments", config.instrument)

        def answers(who: str, some: list[Question]) -> list[Response]:
            if not some:
                return []
            if config.mode == "logprob":
                return by_logprob(model, instrument, some, who, progress)
            return by_generation(model, instrument, some, who, progress, config.temperature, config.seed)

        responses = answers("base", asked)
        profiles = profile(responses, study.system, config.replicates, config.seed)
        figures = {}
        if steering.name != "base":
            is_open, name = _gate(study, config, asked), steering.name + (f" gated by {config.gate}" if config.gate else "")
            with steer(study, sae_run, steering):
                steered = iter(answers(name, [q for q, open in zip(asked, is_open, strict=True) if open]))
            # Behind a closed gate the model is as it was, to the bit: so is its answer.
            changed = [next(steered) if open else dataclasses.replace(r, steering=name) for r, open in zip(responses, is_open, strict=True)]
            responses = responses + changed
            profiles = profiles + profile(changed, study.system, config.replicates, config.seed)
            figures = {"gated": sum(is_open)} if config.gate else {}
        work.table("prompts", prompt_rows(asked), sort=("context", "wording", "order"))
        work.table("responses", responses, sort=("steering", "value", "context"))
        work.table("profiles", profiles)
        missing = sum(r.status != "parsed" for r in responses)
        return work.finish(
            {"steering": steering.name, "answers": len(responses), "missing": missing, "contexts": config.n_contexts} | figures
        )
