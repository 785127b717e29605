"""Let a model decide in scenarios, steered or not: which values its decisions serve, and what
steering changes about that.

1. Every scenario's actions are scored as continuations, or the model answers (`pilot/deciding.py`):
   as it is, steered, and under random directions of the same norm.
2. `pilot/outcomes.py` turns choices into decision effects: steered less base by value, paired by
   scenario, against the random ones.
3. With preferences, of a measured value profile or a file, the actions are also ranked by the
   paper's decision-making module (`pilot/ranking.py`), and the model's own ranking is compared with
   that one: does a profile foretell decisions? The ratings are the written scores and stakes, or an
   assessor's that never saw the scenario.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from jaxtyping import Float

from feature_store import queries, registry
from feature_store.bounds import MANY, Between, Count, CountOrZero, Plugin, Replicates, Seed
from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.progress import Progress
from feature_store.records import Choice, Positions, Run, Scenario, Site, Steering, Unit
from feature_store.runs import Work, to_table
from workbench import organism
from workbench.material import is_organism
from workbench.measuring.questionnaire import one_scale
from workbench.settings import options, plain
from workbench.steering.apply import edit_for, one_steering, scale_of
from workbench.systems.value_pilot.agreement import Agreement, agreement
from workbench.systems.value_pilot.assess import cross_fit
from workbench.systems.value_pilot.deciding import Length, State, by_generation, by_logprob
from workbench.systems.value_pilot.kept import usable
from workbench.systems.value_pilot.outcomes import decision_effects, rankings
from workbench.systems.value_pilot.ranking import Variant, flows, rank
from workbench.systems.value_pilot.scenarios import read, scores, stakes
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model

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
class DecideSettings:
    scenarios: str = "latest"
    """Run of the scenarios, of which those are used that passed or were accepted; or a
    JSON-lines file, of which all are."""
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
    replicates: Replicates = 2000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of the random directions, folds and bootstrap."""


def run(study: Workspace, config: DecideSettings, progress: Progress) -> Run:
    """A run of kind `decisions`."""
    steering = one_steering(
        config.features, config.method, config.strength, config.unit, config.positions
    )
    if config.preference and config.mode == "generate":
        raise BadInput(
            "A ranking needs the probability of every action. Use --mode logprob with --preference."
        )
    if config.assessor and not config.preference:
        raise BadInput(
            "An assessor's ratings are used to rank actions for preferences. Give --preference, or"
            " leave --assessor out."
        )
    if config.options and not config.assessor:
        raise BadInput("--options are the assessor's. Name it with --assessor, or leave them out.")
    sae_run = None if config.model and steering.name == "base" else study.resolve("sae", config.sae)
    if sae_run and config.model and config.model != sae_run.config["model"]:
        raise BadInput(
            f"{sae_run.id} belongs to {sae_run.config['model']}, not to {config.model}. Name its"
            " SAE with --sae, or leave --model out."
        )
    name = config.model or sae_run.config["model"]
    source, scenarios = _scenarios(study, config.scenarios)
    model = study.model_for(name, sae_run, config.revision, config.dtype, config.device)
    preferences = _preferences(study, config.preference, model) if config.preference else {}
    read_as = hashlib.sha256(
        repr((scenarios, {k: v.tolist() for k, v in preferences.items()})).encode()
    ).hexdigest()
    inputs = {"model": model.revision, "scenarios": source, "content": read_as} | (
        {"sae": sae_run.id} if sae_run else {}
    )
    plainly = plain(
        dataclasses.replace(config, model=name, sae=sae_run.id if sae_run else "", scenarios=source)
    )
    if study.runs.exists(id := study.runs.find("decisions", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("decisions", plainly, inputs, config.seed) as work:
        steerings = (
            []
            if steering.name == "base"
            else [steering, *_controls(study, sae_run, steering, config)]
        )
        choices = _choose(work, study, config, model, name, sae_run, scenarios, steerings, progress)
        progress("analysing", 0, 1)
        effects = (
            decision_effects(choices, scenarios, study.system.ids, config.replicates, config.seed)
            if steerings
            else []
        )
        agreements, r = (
            _agreements(study, config, scenarios, choices, preferences)
            if preferences
            else ([], float("nan"))
        )
        work.table("choices", choices, sort=("steering", "scenario"))
        work.table("decision_effects", effects, sort=("kind", "outcome", "steering"))
        work.table("agreements", agreements)
        progress("analysing", 1, 1)
        own_effects = [
            e
            for e in effects
            if e.kind == "steering"
            and e.outcome == ("expected" if config.mode == "logprob" else "chosen")
        ]
        summary = {
            "steering": steering.name,
            "scenarios": len(scenarios),
            "choices": len(choices),
            "missing": sum(c.status != "parsed" for c in choices),
            "controls": max(len(steerings) - 1, 0),
            "values_moved": sum(e.q < 0.05 for e in own_effects),
            "values": len(own_effects),
        }
        summary |= {a.metric: a.mean for a in agreements if a.steering == "base"}
        return work.finish(summary | ({"assessor_r": r} if config.assessor else {}))


def _scenarios(study: Workspace, told: str) -> tuple[str, list[Scenario]]:
    """Where the scenarios come from, and those that are used."""
    if told.endswith(".jsonl"):
        return Path(told).name, read(Path(told), study.system)
    made = study.resolve("scenarios", told)
    return made.id, usable(study.store, made.id)


def _controls(
    study: Workspace, sae_run: Run, steering: Steering, config: DecideSettings
) -> list[Steering]:
    """Random directions as long as the steering's own step [residual units]."""
    step = (
        float(scale_of(study, sae_run).direction(steering, study.sae(sae_run)).norm())
        * steering.strength
    )
    return [
        dataclasses.replace(
            steering, features=(), unit="raw", strength=step, random=config.seed * 100_000 + number
        )
        for number in range(config.controls)
    ]


def _choose(
    work: Work,
    study: Workspace,
    config: DecideSettings,
    model: "Model",
    name: str,
    sae_run: Run | None,
    scenarios: list[Scenario],
    steerings: list[Steering],
    progress: Progress,
) -> list[Choice]:
    """Every choice, one part a scenario; parts that an earlier, interrupted call kept are not
    made again.
    """
    template = config.prompt or (
        f"{{scenario}} {organism.CHOOSE}" if is_organism(name) else PROMPTS[config.mode]
    )
    states = [
        State("base", "base"),
        *(State(s.name, "random-direction" if s.random >= 0 else "steering") for s in steerings),
    ]
    edit = edit_for(study, sae_run, steerings) if steerings else None
    site = (
        Site(sae_run.summary["layer"], sae_run.summary["point"])
        if sae_run
        else Site(0, "resid_post")
    )
    done, written = work.done("choices"), config.mode == "generate"
    left = [number for number in range(len(scenarios)) if number not in done]
    size = 1 if written else TOGETHER
    for start in range(0, len(left), size):
        part = left[start : start + size]
        some, before = [scenarios[number] for number in part], len(scenarios) - len(left) + start

        def report(scored: int, total: int, before: int = before, share: int = len(part)) -> None:
            progress("deciding", before + scored * share // total, len(scenarios))

        if written:
            found = [by_generation(model, some[0], template, states, edit, site, config.new_tokens)]
        else:
            found = by_logprob(model, some, template, states, edit, site, config.length, report)
        for number, choices in zip(part, found, strict=True):
            work.part(
                "choices", number, to_table("choices", choices, work.run.id).drop_columns("run")
            )
        progress("deciding", before + len(part), len(scenarios))
    return [
        Choice(
            **{key: tuple(cell) if isinstance(cell, list) else cell for key, cell in row.items()}
        )
        for row in work.parts("choices").to_pylist()
    ]


def _preferences(
    study: Workspace, told: str, model: "Model"
) -> dict[str, Float[np.ndarray, " value"]]:
    """Steering name -> preference for each value [0 to 1]; a file's are those of the base and of
    whatever is steered, under the name ``.
    """
    values = study.system.ids
    if told.endswith(".json"):
        if not Path(told).is_file():
            raise NotFound(f"There is no file {told}. Give a JSON file of value -> 0 to 1.")
        try:
            known = {
                study.system.resolve(name): float(p)
                for name, p in json.loads(Path(told).read_text(encoding="utf-8")).items()
            }
        except (json.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
            raise BadInput(
                f"{told} should hold one JSON object of value -> 0 to 1: {error}."
            ) from None
        if missing := [value for value in values if not 0 <= known.get(value, -1) <= 1]:
            raise BadInput(f"{told} has no preference between 0 and 1 for {', '.join(missing)}.")
        return {"": np.array([known[value] for value in values])}
    made = study.resolve("profile", told)
    if made.inputs["model"] != model.revision:
        raise Incompatible(
            f"{made.id} measured another model (revision {made.inputs['model'][:12]}). Measure this"
            " one first."
        )
    largest = len(one_scale(made.config["instrument"], study.system).options)
    found = {}
    for name, rows in queries.profile(study.store, made.id, centred=False).groupby("steering"):
        means = rows.set_index("value")["mean"].reindex(values).to_numpy(float)
        if not np.isfinite(means).all():
            raise BadInput(
                f"{made.id} has no answer for some value under {name}. Measure a profile of all"
                f" values of {study.system.id}."
            )
        found[str(name)] = np.clip((means - 1) / (largest - 1), 0, 1)
    return found


def _agreements(
    study: Workspace,
    config: DecideSettings,
    scenarios: list[Scenario],
    choices: list[Choice],
    preferences: dict[str, Float[np.ndarray, " value"]],
) -> tuple[list[Agreement], float]:
    """The model's rankings against those for its preferences, in every state whose preferences
    are known; the assessor's held-out r.
    """
    values, r = study.system.ids, float("nan")
    situations, actions = (
        np.stack([stakes(s, values) for s in scenarios]),
        [scores(s, values) for s in scenarios],
    )
    if config.assessor:
        fitter = registry.get("assessors", config.assessor)
        rated = cross_fit(
            fitter,
            scenarios,
            values,
            options(fitter.config, config.options),
            config.folds,
            config.seed,
        )
        situations, actions, r = rated.scenarios, list(rated.actions), rated.r
    found = []
    for name in dict.fromkeys(
        choice.steering for choice in choices if choice.kind != "random-direction"
    ):
        wanted = preferences.get(name, preferences.get(""))
        if wanted is not None:
            made = rankings(choices, name)
            pairs = [
                (
                    rank(flows(situation, rated, wanted, config.variant)).tolist(),
                    made[scenario.id].tolist(),
                )
                for scenario, situation, rated in zip(scenarios, situations, actions, strict=True)
            ]
            found += agreement(name, pairs, config.replicates, config.seed)
    return found, r
