"""The population that questions shall tell apart: steered variants of one model, primed ones, other
models.

A member is named by what makes it:

1. `base`: the SAE's model as it is; `VALUE+` and `VALUE-`: steered up or down along the value's
   best labelled features, as one direction; `RUN/VALUE/KIND+` or `-`: along a stored direction of a
   run of probes.
2. `primed:VALUE`: told before every question that it holds the value; the organism by sentences of
   its own language in which it does.
3. `organism`, `local:FOLDER-OR-HUB-ID`, `https://host/v1#model`: another model as it is.

Left out: members with a steering and a priming at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from feature_store.errors import BadInput
from feature_store.records import Run, Steering, ValueSystem
from workbench import material, organism
from workbench.features.output_scores import with_outputs
from workbench.llm import open_llm
from workbench.measuring.respondents import LocalRespondent, RemoteRespondent, Respondent
from workbench.steering.apply import respondent
from workbench.sweeps import value_prompts
from workbench.sweeps.sweep import as_direction, choose_features
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model

Kind = Literal["base", "steered", "primed", "model"]
PRIMES = 3
"""Sentences that tell a primed member what it holds."""


@dataclass(frozen=True)
class Member:
    name: str
    """As it was named."""
    kind: Kind
    """What makes it."""
    steering: Steering
    """What is done to the residual; the base for others."""
    persona: str = ""
    """What it is told before every question; empty: nothing."""
    address: str = ""
    """Address of a model of its own; empty: the SAE's model."""


@dataclass(frozen=True)
class Population:
    members: tuple[Member, ...]
    """In the order in which they were named."""
    respondents: tuple[Respondent, ...]
    """Who answers for each."""
    model: "Model | None"
    """A model that runs here, unsteered: it says how likely an opinion is after its question;
    None where all run elsewhere."""
    own: bool
    """Whether all are the organism."""


def plan(
    told: Sequence[str],
    study: Workspace,
    labels: Run | None,
    per_value: int,
    template: Steering,
    organism_only: bool,
    seed: int,
) -> list[Member]:
    """The members by their names.

    Raises BadInput for fewer than two, the same one twice, or a value without features.
    """
    if len(told) < 2 or len(set(told)) < len(told):
        raise BadInput(
            f"A population has at least two different members, got {', '.join(told) or 'none'}."
            " Name them, as --population power+,power-,base."
        )
    return [_member(name, study, labels, per_value, template, organism_only, seed) for name in told]


def _member(
    name: str,
    study: Workspace,
    labels: Run | None,
    per_value: int,
    template: Steering,
    organism_only: bool,
    seed: int,
) -> Member:
    if name == "base":
        return Member(name=name, kind="base", steering=Steering())
    if name.startswith("primed:"):
        return Member(
            name=name,
            kind="primed",
            steering=Steering(),
            persona=_prime(name.removeprefix("primed:"), study.system, organism_only, seed),
        )
    if is_address(name):
        return Member(name=name, kind="model", steering=Steering(), address=name)
    if name[-1:] not in ("+", "-"):
        raise BadInput(
            "A member is base, VALUE+ or VALUE-, RUN/VALUE/KIND+, primed:VALUE, or a model's"
            f" address, got {name!r}. Add + or - to steer up or down."
        )
    sign, what = (1.0 if name[-1] == "+" else -1.0), name[:-1]
    if "/" in what:
        return Member(
            name=name,
            kind="steered",
            steering=replace(template, direction=what, strength=sign * template.strength),
        )
    value = study.system.resolve(what)
    assert labels is not None  # the verb resolves the labels wherever a value is steered
    chosen = choose_features(with_outputs(study, labels.id), per_value)
    features = as_direction(chosen, value, 1 if name[-1] == "+" else -1)
    if not features:
        raise BadInput(
            f"{labels.id} has no accepted feature of {value}, so {name} cannot be steered. Choose"
            f" among {', '.join(sorted(set(chosen.value)))}."
        )
    return Member(name=name, kind="steered", steering=replace(template, features=features))


def _prime(name: str, system: ValueSystem, organism_only: bool, seed: int) -> str:
    value = system[system.resolve(name)]
    if organism_only:
        return " ".join(organism.held_sentences(value.id, PRIMES, (), seed))
    return value_prompts.ladder(value, PRIMES, value_prompts.read(""))[-1]


def is_address(name: str) -> bool:
    """Whether a member is a model of its own."""
    return name == material.ORGANISM or name.startswith(("local:", "http://", "https://"))


def needs_labels(told: Sequence[str]) -> bool:
    """Whether a member is steered along labelled features."""
    return any(
        name[-1:] in ("+", "-") and "/" not in name and not name.startswith("primed:")
        for name in told
    )


def needs_sae(told: Sequence[str]) -> bool:
    """Whether a member is the SAE's model, steered or not."""
    return not all(map(is_address, told))


def open_population(study: Workspace, members: Sequence[Member], sae_run: Run | None) -> Population:
    """Everyone ready to answer; answers are kept in the study."""
    respondents: list[Respondent] = []
    here: list[Model] = []
    names = []
    for member in members:
        if "://" in member.address:
            respondents.append(
                RemoteRespondent(open_llm(member.address, study.model), study.folder)
            )
            names.append(member.address)
            continue
        if member.address:
            model = study.model(member.address.removeprefix("local:"))
            names.append(member.address.removeprefix("local:"))
        else:
            assert sae_run is not None  # the verb resolves it wherever a member is the SAE's model
            model = study.model_of(sae_run)
            names.append(sae_run.config["model"])
        here.append(model)
        respondents.append(
            LocalRespondent(model, study.folder)
            if member.address
            else respondent(study, sae_run, member.steering)
        )
    return Population(
        members=tuple(members),
        respondents=tuple(respondents),
        model=here[0] if here else None,
        own=all(name == material.ORGANISM for name in names),
    )
