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
    """One that is asked: a model, perhaps steered or primed."""

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
    """Everybody that is asked, ready to answer."""

    members: tuple[Member, ...]
    """In the order in which they were named."""
    respondents: tuple[Respondent, ...]
    """The respondent that answers for each member."""
    model: "Model | None"
    """A model that runs here, unsteered: it says how likely an opinion is after its question;
    None where all run elsewhere."""
    is_organism: bool
    """Whether all are the organism."""


@dataclass(frozen=True)
class MemberSettings:
    """How steered and primed members are made."""

    per_value: int
    """Features of a value, steered as one direction."""
    template: Steering
    """Method, strength and unit of every steered member."""
    is_organism: bool
    """Whether all are the organism, which is primed in its own language."""
    seed: int
    """Seed of the sentences that prime the organism."""


def plan(
    names: Sequence[str], study: Workspace, labels: Run | None, settings: MemberSettings
) -> list[Member]:
    """Say what makes every member, by its name.

    Raises BadInput for fewer than two, the same one twice, or a value without features.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise BadInput(
            f"A population has at least two different members, got {', '.join(names) or 'none'}."
            " Name them, as --population power+,power-,base."
        )
    return [_member(name, study, labels, settings) for name in names]


def _member(name: str, study: Workspace, labels: Run | None, settings: MemberSettings) -> Member:
    if name == "base":
        return Member(name=name, kind="base", steering=Steering())
    if name.startswith("primed:"):
        persona = _prime(name.removeprefix("primed:"), study.system, settings)
        return Member(name=name, kind="primed", steering=Steering(), persona=persona)
    if is_address(name):
        return Member(name=name, kind="model", steering=Steering(), address=name)
    if name[-1:] not in ("+", "-"):
        raise BadInput(
            "A member is base, VALUE+ or VALUE-, RUN/VALUE/KIND+, primed:VALUE, or a model's"
            f" address, got {name!r}. Add + or - to steer up or down."
        )
    return _steered(name, study, labels, settings)


def _steered(name: str, study: Workspace, labels: Run | None, settings: MemberSettings) -> Member:
    """Steer along a stored direction, or along the best labelled features of a value."""
    sign = 1 if name[-1] == "+" else -1
    target = name[:-1]
    template = settings.template
    if "/" in target:
        strength = float(sign) * template.strength
        steering = replace(template, direction=target, strength=strength)
        return Member(name=name, kind="steered", steering=steering)
    value = study.system.resolve(target)
    assert labels is not None  # the verb resolves the labels wherever a value is steered
    chosen = choose_features(with_outputs(study, labels.id), settings.per_value)
    features = as_direction(chosen, value, sign)
    if not features:
        raise BadInput(
            f"{labels.id} has no accepted feature of {value}, so {name} cannot be steered. Choose"
            f" among {', '.join(sorted(set(chosen.value)))}."
        )
    return Member(name=name, kind="steered", steering=replace(template, features=features))


def _prime(name: str, system: ValueSystem, settings: MemberSettings) -> str:
    """Write what tells a member that it holds a value."""
    value = system[system.resolve(name)]
    if settings.is_organism:
        return " ".join(organism.held_sentences(value.id, PRIMES, (), settings.seed))
    return value_prompts.ladder(value, PRIMES, value_prompts.read(""))[-1]


def is_address(name: str) -> bool:
    """Say whether a member is a model of its own."""
    return name == material.ORGANISM or name.startswith(("local:", "http://", "https://"))


def needs_labels(names: Sequence[str]) -> bool:
    """Say whether a member is steered along labelled features."""
    return any(
        name[-1:] in ("+", "-") and "/" not in name and not name.startswith("primed:")
        for name in names
    )


def needs_sae(names: Sequence[str]) -> bool:
    """Say whether a member is the SAE's model, steered or not."""
    return not all(map(is_address, names))


def open_population(study: Workspace, members: Sequence[Member], sae_run: Run | None) -> Population:
    """Make every member ready to answer; answers are kept in the study."""
    respondents: list[Respondent] = []
    here: list[Model] = []
    names = []
    for member in members:
        if "://" in member.address:
            llm = open_llm(member.address, study.model)
            respondents.append(RemoteRespondent(llm, study.folder))
            names.append(member.address)
        elif member.address:
            name = member.address.removeprefix("local:")
            here.append(study.model(name))
            respondents.append(LocalRespondent(here[-1], study.folder))
            names.append(name)
        else:
            assert sae_run is not None  # the verb resolves it wherever a member is the SAE's model
            here.append(study.model_of(sae_run))
            respondents.append(respondent(study, sae_run, member.steering))
            names.append(sae_run.config["model"])
    return Population(
        members=tuple(members),
        respondents=tuple(respondents),
        model=here[0] if here else None,
        is_organism=all(map(material.is_organism, names)),
    )
