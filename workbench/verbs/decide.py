"""Let a model decide in scenarios, steered or not: which values its decisions serve, and what
steering changes about that.

1. Every scenario's actions are scored as continuations, or the model answers
   (`systems/value_pilot/deciding.py`): as it is, steered, and under random directions of the same
   norm.
2. `systems/value_pilot/outcomes.py` turns choices into decision effects: steered less base by
   value, paired by scenario, against the random directions.
3. With preferences, of a measured value profile or a file, the actions are also ranked by the
   paper's decision-making module (`systems/value_pilot/ranking.py`), and the model's own ranking is
   compared with that one: does a profile foretell decisions? The ratings are the written scores and
   stakes, or an assessor's that never saw the scenario.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store import queries, registry
from feature_store.bounds import MANY, Between, Count, CountOrZero, Plugin, Seed
from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.files import read_json
from feature_store.progress import Progress, missing_chunks, stage
from feature_store.records import (
    Choice,
    DecisionEffect,
    Positions,
    Run,
    Scenario,
    Site,
    Steering,
    Unit,
    ValueSystem,
)
from feature_store.registry import Registry
from feature_store.work import Work, to_table
from workbench import organism
from workbench.llm.reading import RULES
from workbench.material import is_organism
from workbench.measuring.questionnaire import one_scale
from workbench.settings import LocalModelSettings, Resampling, contents, options
from workbench.steering.apply import edit_for, one_steering, scale_of
from workbench.systems.value_pilot.agreement import RankingAgreement, agreement
from workbench.systems.value_pilot.assess import CrossFit, cross_fit
from workbench.systems.value_pilot.assessors import Fitter
from workbench.systems.value_pilot.deciding import (
    DecisionSetup,
    Length,
    State,
    by_generation,
    by_logprob,
    refuse_too_long,
)
from workbench.systems.value_pilot.outcomes import decision_effects, rankings
from workbench.systems.value_pilot.ranking import Variant, flows, rank
from workbench.systems.value_pilot.scenarios import read, scores, stakes
from workbench.systems.value_pilot.stored import usable
from workbench.workspace import Workspace, site_of

if TYPE_CHECKING:
    from sae_training.engine.model import Model

ASSESSORS: Registry[Fitter] = registry.of("assessors")
PROMPTS = {
    "logprob": "{scenario}\n\nWhat do you do? Answer:",
    "generate": (
        "{scenario}\n\nWhat do you do?\n{actions}\n\nAnswer with the number of one of these and"
        " nothing else."
    ),
}
"""Mode -> template for models that read instructions; the organism goes on where the scenario
ends."""
TOGETHER = 16
"""Scenarios whose actions are scored together; as many are asked again after an interruption."""


@dataclasses.dataclass(frozen=True)
class DecideSettings(LocalModelSettings, Resampling):
    """Settings of `decide`: scenarios, model, steering and how it is asked."""

    scenarios: str = "latest"
    """Run of the scenarios, of which those are used that passed or were accepted; or a
    JSON-lines file, of which all are."""
    sae: str = "latest"
    """Run of the SAE; needed for steering, and for the model where none is given."""
    features: tuple[str, ...] = ()
    """Features to steer together, as index or index:weight; none: the model as it is."""
    method: Annotated[str, Plugin("steerings")] = "add"
    """Steering plug-in."""
    strength: Annotated[float, Between(-MANY, MANY)] = 0.0
    """How far to steer [unit]."""
    unit: Unit = "norm_share"
    """raw: residual units; feature_max: multiples of the feature's maximum; norm_share: share of
    the median residual norm."""
    positions: Positions = "all"
    """Which tokens are steered."""
    controls: CountOrZero = 16
    """Random directions of the same norm."""
    mode: Literal["logprob", "generate"] = "logprob"
    """Score the actions, or let the model write."""
    length: Length = "mean"
    """Log-probability of an action per token, which does not favour short ones, or summed over
    its tokens."""
    prompt: str = ""
    """Template with {scenario} and, to list them, {actions}; empty: one made for the model and
    the mode."""
    new_tokens: Count = 24
    """Longest answer when it writes [tokens]."""
    preference: str = ""
    """Run of a value profile, `latest`, or a JSON file of value -> 0 to 1; empty: actions are
    not ranked."""
    variant: Variant = "paper"
    """Ranking as the paper writes it, or as its released code does."""
    assessor: Annotated[str, Plugin("assessors")] = ""
    """Assessor plug-in whose ratings are ranked instead of the written scores; empty: the
    scores."""
    options: tuple[str, ...] = ()
    """The assessor's settings, as key=value."""
    folds: Annotated[int, Between(2, MANY)] = 5
    """Parts of the scenarios; each is rated by an assessor fitted on the others."""
    seed: Seed = 0
    """Seed of the random directions, folds and bootstrap."""


Preferences = dict[str, Float[np.ndarray, " value"]]
"""Steering name -> preference for each value, in circle order [0 to 1]. A file's preferences are
those of every state, under the name ``."""


def run(study: Workspace, settings: DecideSettings, progress: Progress) -> Run:
    """Make a run of kind `decisions`."""
    steering = one_steering(
        settings.features,
        settings.method,
        settings.strength,
        settings.unit,
        settings.positions,
    )
    _check(settings)
    name, sae_run = _model_and_sae(study, settings, is_steered=steering.name != "base")
    source, scenarios = _scenarios(study, settings.scenarios)
    model = study.model_for(name, sae_run, settings.revision, settings.dtype, settings.device)
    preferences: Preferences = {}
    if settings.preference:
        preferences = _preferences(study, settings.preference, model)
    content = repr((scenarios, {key: row.tolist() for key, row in preferences.items()}))
    inputs = {
        "model": model.pinned,
        "scenarios": source,
        "content": hashlib.sha256(content.encode()).hexdigest(),
    }
    if sae_run:
        inputs["sae"] = sae_run.id
    inputs |= _rules(settings)

    def build(work: Work) -> dict[str, Any]:
        """Have the model decide, then say what steering changes and what the profile foretells."""
        steerings: list[Steering] = []
        if sae_run and steering.name != "base":
            steerings = [steering, *_controls(study, sae_run, steering, settings)]
        setup = _setup(study, settings, name, sae_run, steerings)
        # Before the model decides: an assessor that cannot be fitted is refused here.
        rated = _rated(study.system.ids, settings, scenarios)
        choices = _choose(work, model, scenarios, setup, settings, progress)
        progress("analysing", 0, 1)
        effects: list[DecisionEffect] = []
        if steerings:
            effects = decision_effects(
                choices, scenarios, study.system.ids, settings.replicates, settings.seed
            )
        ranked = _Ranked([], float("nan"))
        if preferences:
            ranked = _agreements(settings, scenarios, rated, choices, preferences)
        work.table("choices", choices, sort=("steering", "scenario"))
        work.table("decision_effects", effects, sort=("kind", "outcome", "steering"))
        work.table("agreements", ranked.agreements)
        progress("analysing", 1, 1)
        summary = {"steering": steering.name, "scenarios": len(scenarios)}
        return summary | _summary(settings, setup, choices, effects, ranked)

    pinned = dataclasses.replace(
        settings, model=name, sae=sae_run.id if sae_run else "", scenarios=source
    )
    return study.make("decisions", pinned, inputs, build)


def _rules(settings: DecideSettings) -> dict[str, str]:
    """Name what else decides: files of the assessor's, and versions of rules that have changed."""
    inputs = {}
    if files := contents(settings.options):
        inputs["files"] = json.dumps(files, sort_keys=True)
    if settings.mode == "generate":
        inputs["reading"] = RULES
    if settings.preference and settings.variant == "released":
        # Runs without this were ranked by another formula than that of the released code.
        inputs["ranking"] = "released 2"
    return inputs


def _check(settings: DecideSettings) -> None:
    """Raise BadInput where settings contradict each other."""
    if settings.preference and settings.mode == "generate":
        raise BadInput(
            "A ranking needs the probability of every action. Use --mode logprob with --preference."
        )
    if settings.assessor and not settings.preference:
        raise BadInput(
            "An assessor's ratings are used to rank actions for preferences. Give --preference, or"
            " leave --assessor out."
        )
    if settings.options and not settings.assessor:
        raise BadInput("--options are the assessor's. Name it with --assessor, or leave them out.")


def _model_and_sae(
    study: Workspace, settings: DecideSettings, is_steered: bool
) -> tuple[str, Run | None]:
    """Name the model that decides and resolve its SAE, which an unsteered model does not need."""
    if settings.model and not is_steered:
        return settings.model, None
    sae_run = study.resolve("sae", settings.sae)
    name = sae_run.config["model"]
    if settings.model and settings.model != name:
        raise BadInput(
            f"{sae_run.id} belongs to {name}, not to {settings.model}. Name its SAE with --sae, or"
            " leave --model out."
        )
    return name, sae_run


def _scenarios(study: Workspace, name: str) -> tuple[str, list[Scenario]]:
    """Read the scenarios of a file or a run, and name where they come from."""
    if name.endswith(".jsonl"):
        return Path(name).name, read(Path(name), study.system)
    made = study.resolve("scenarios", name)
    return made.id, usable(study.store, made.id)


def _controls(
    study: Workspace, sae_run: Run, steering: Steering, settings: DecideSettings
) -> list[Steering]:
    """Draw random directions as long as the steering's own step [residual units]."""
    direction = scale_of(study, sae_run).direction(steering, study.sae(sae_run))
    step = float(direction.norm()) * steering.strength
    return [
        dataclasses.replace(
            steering,
            features=(),
            unit="raw",
            strength=step,
            random=settings.seed * 100_000 + number,
        )
        for number in range(settings.controls)
    ]


def _setup(
    study: Workspace,
    settings: DecideSettings,
    name: str,
    sae_run: Run | None,
    steerings: Sequence[Steering],
) -> DecisionSetup:
    """Say how the model is asked, and in which states: unsteered, then under each steering."""
    template = settings.prompt or PROMPTS[settings.mode]
    if is_organism(name) and not settings.prompt:
        template = f"{{scenario}} {organism.CHOOSE}"
    states = [State("base", "base")]
    for steering in steerings:
        is_control = steering.random >= 0
        states.append(State(steering.name, "random-direction" if is_control else "steering"))
    site = site_of(sae_run) if sae_run else Site(layer=0)
    edit = edit_for(study, sae_run, steerings) if sae_run and steerings else None
    return DecisionSetup(template=template, states=tuple(states), edit=edit, site=site)


def _choose(
    work: Work,
    model: "Model",
    scenarios: Sequence[Scenario],
    setup: DecisionSetup,
    settings: DecideSettings,
    progress: Progress,
) -> list[Choice]:
    """Make every choice, one part a scenario.

    Batches that an earlier, interrupted call finished are not made again. What is scored together
    is the same whatever is done, because it decides the last digits.
    """
    refuse_too_long(model, scenarios, setup.template)
    done, total = work.done("choices"), len(scenarios)
    size = 1 if settings.mode == "generate" else TOGETHER
    whole = {
        start // size
        for start in range(0, total, size)
        if done.issuperset(range(start, min(start + size, total)))
    }
    for _, numbers, shown in missing_chunks(whole, total, size, stage(progress, "deciding")):
        batch = [scenarios[number] for number in numbers]
        if settings.mode == "generate":
            decided = [by_generation(model, batch[0], setup, settings.new_tokens)]
        else:
            decided = by_logprob(model, batch, setup, settings.length, shown)
        for number, choices in zip(numbers, decided, strict=True):
            rows = to_table("choices", choices, work.run.id).drop_columns("run")
            work.part("choices", number, rows)
    return [_choice(row) for row in work.parts("choices").to_pylist()]


def _choice(row: dict[str, Any]) -> Choice:
    """Read a choice back from its row, whose lists are tuples of the record."""
    cells: dict[str, Any] = {
        key: tuple(cell) if isinstance(cell, list) else cell for key, cell in row.items()
    }
    return Choice(**cells)


def _preferences(study: Workspace, name: str, model: "Model") -> Preferences:
    """Read preferences from a JSON file, or from a run that measured a profile of this model."""
    if name.endswith(".json"):
        return {"": _preferences_of_file(Path(name), study.system)}
    values = study.system.ids
    measured = study.resolve("profile", name)
    if measured.inputs["model"] != model.pinned:
        raise Incompatible(
            f"{measured.id} measured another model ({measured.inputs['model']}), or the same on"
            " another day. Measure this one first."
        )
    largest = len(one_scale(measured.config["instrument"], study.system).options)
    profile = queries.profile(study.store, measured.id, centred=False)
    preferences = {}
    for steering, rows in profile.groupby("steering"):
        means = rows.set_index("value")["mean"].reindex(values).to_numpy(float)
        if not np.isfinite(means).all():
            raise BadInput(
                f"{measured.id} has no answer for some value under {steering}. Measure a profile of"
                f" all values of {study.system.id}."
            )
        preferences[str(steering)] = np.clip((means - 1) / (largest - 1), 0, 1)
    return preferences


def _preferences_of_file(file: Path, system: ValueSystem) -> Float[np.ndarray, " value"]:
    """Read the preference for every value from a JSON file [0 to 1]."""
    if not file.is_file():
        raise NotFound(f"There is no file {file}. Give a JSON file of value -> 0 to 1.")
    try:
        content = read_json(file)
        by_value = {system.resolve(name): float(share) for name, share in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise BadInput(f"{file} should hold one JSON object of value -> 0 to 1: {error}.") from None
    missing = [value for value in system.ids if not 0 <= by_value.get(value, -1) <= 1]
    if missing:
        raise BadInput(f"{file} has no preference between 0 and 1 for {', '.join(missing)}.")
    return np.array([by_value[value] for value in system.ids])


class _Ranked(NamedTuple):
    """The model's rankings held against those for its preferences."""

    agreements: list[RankingAgreement]
    """Both metrics for every state whose preferences are known."""
    r: float
    """The assessor's correlation with held-out written scores; NaN without an assessor."""


def _rated(
    values: tuple[str, ...], settings: DecideSettings, scenarios: Sequence[Scenario]
) -> CrossFit:
    """Rate scenarios and actions by the assessor, or take their written scores."""
    if settings.assessor:
        fitter = ASSESSORS[settings.assessor]
        config: Any = options(fitter.config, settings.options)
        return cross_fit(fitter, scenarios, values, config, settings.folds, settings.seed)
    return CrossFit(
        scenarios=np.stack([stakes(scenario, values) for scenario in scenarios]),
        actions=tuple(scores(scenario, values) for scenario in scenarios),
        r=float("nan"),
    )


def _agreements(
    settings: DecideSettings,
    scenarios: Sequence[Scenario],
    rated: CrossFit,
    choices: Sequence[Choice],
    preferences: Preferences,
) -> _Ranked:
    """Compare the model's rankings with those for its preferences, state by state."""
    agreements: list[RankingAgreement] = []
    states = [choice.steering for choice in choices if choice.kind != "random-direction"]
    for name in dict.fromkeys(states):
        preference = preferences.get(name, preferences.get(""))
        if preference is None:
            continue
        decided = rankings(choices, name)
        pairs = []
        for number, scenario in enumerate(scenarios):
            phi = flows(
                rated.scenarios[number], rated.actions[number], preference, settings.variant
            )
            pairs.append((rank(phi).tolist(), decided[scenario.id].tolist()))
        agreements += agreement(name, pairs, settings.replicates, settings.seed)
    return _Ranked(agreements, rated.r)


def _summary(
    settings: DecideSettings,
    setup: DecisionSetup,
    choices: Sequence[Choice],
    effects: Sequence[DecisionEffect],
    ranked: _Ranked,
) -> dict[str, Any]:
    """Count choices and values that the steering moves, and give the unsteered agreement."""
    outcome = "expected" if settings.mode == "logprob" else "chosen"
    steered = [e for e in effects if e.kind == "steering" and e.outcome == outcome]
    summary: dict[str, Any] = {
        "choices": len(choices),
        "missing": sum(choice.status != "parsed" for choice in choices),
        "controls": max(len(setup.states) - 2, 0),
        "values_moved": sum(effect.q < 0.05 for effect in steered),
        "values": len(steered),
    }
    for row in ranked.agreements:
        if row.steering == "base":
            summary[row.metric] = row.mean
    if settings.assessor:
        summary["assessor_r"] = ranked.r
    return summary
