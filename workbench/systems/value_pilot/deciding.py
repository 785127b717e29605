"""Ask a model what it would do in a scenario, unsteered and under every steering.

1. A prompt is a template with `{scenario}` and, where the actions are to be listed, `{actions}`.
   Listed actions are offered in the given and in the reversed order: models prefer places.
2. `by_logprob` scores each action's text as the continuation, all scenarios and steerings in one
   sweep, and takes the softmax over the actions. A long action is less likely than a short one
   whatever it says, so by default its log-probability is divided by its tokens.
3. `by_generation` lets the model answer, greedily, and reads the number of an action, or an
   action's own words. Refused and unparsed answers stay as choices with that status.

Left out: sampling, several turns, reasons. What the choices mean is in `outcomes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.progress import StageProgress
from feature_store.records import Choice, Scenario, Site, Status
from workbench.llm import reading
from workbench.measuring.questions import softmax

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit

Length = Literal["mean", "sum"]
Order = Literal["given", "reversed"]


class State(NamedTuple):
    """The model as it is, or as one row of the edit changes it."""

    name: str
    """`Steering.name`."""
    kind: Literal["base", "steering", "random-direction"]
    """What was changed."""


@dataclass(frozen=True, eq=False)
class DecisionSetup:
    """How a model is asked what it would do, and in which states."""

    template: str
    """Prompt with {scenario} and, where the actions are listed, {actions}."""
    states: tuple[State, ...]
    """The unsteered model first, then one state for each row of `edit`."""
    edit: "Edit | None"
    """What steering does; None where nothing is steered."""
    site: Site
    """Where the model is steered."""


def prompts(scenario: Scenario, template: str) -> dict[Order, str]:
    """Write the prompt for each order of the actions; one where the template does not list them.

    Raises BadInput where the template has no place for the scenario.
    """
    if "{scenario}" not in template:
        raise BadInput(f"A template of a decision holds {{scenario}}, got {template!r}.")
    prompt = template.replace("{scenario}", scenario.text)
    if "{actions}" not in template:
        return {"given": prompt}
    texts = [action.text for action in scenario.actions]
    return {
        "given": prompt.replace("{actions}", _numbered(texts)),
        "reversed": prompt.replace("{actions}", _numbered(texts[::-1])),
    }


def _numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))


class _Request(NamedTuple):
    """One prompt of one scenario."""

    scenario: int
    """0-based number among the scenarios."""
    order: Order
    """Order in which the actions are listed."""
    prompt: str
    """What the model reads."""


def refuse_too_long(model: "Model", scenarios: Sequence[Scenario], template: str) -> None:
    """Raise BadInput for a scenario whose prompt the model cannot read, before any is decided."""
    from sae_training.engine.generate import prompt_ids

    every = [prompts(scenario, template).values() for scenario in scenarios]
    prompt_ids(model, [text for texts in every for text in texts])


def by_logprob(
    model: "Model",
    scenarios: Sequence[Scenario],
    setup: DecisionSetup,
    length: Length,
    progress: StageProgress,
) -> list[list[Choice]]:
    """Choose by the log-probability of every action, in every state at once.

    Gives the choices of each scenario, for each order of the actions and each state.
    `progress(done, total)` counts prompts. Raises BadInput where the model gives NaN.
    """
    from sae_training.engine.answers import tokens_of
    from sae_training.engine.generate import prompt_ids
    from sae_training.engine.scoring import sweep_ids
    from sae_training.model.overflow import not_finite

    requests = [
        _Request(number, order, prompt)
        for number, scenario in enumerate(scenarios)
        for order, prompt in prompts(scenario, setup.template).items()
    ]
    texts = [request.prompt for request in requests]
    continuations = [
        [f" {action.text}" for action in scenarios[request.scenario].actions]
        for request in requests
    ]
    ids = prompt_ids(model, texts)
    answers = tokens_of(model, texts, ids, continuations)
    scores = sweep_ids(model, ids, answers, setup.edit, setup.site, progress)
    if scores.base.isnan().any():
        raise not_finite(model, "Unsteered", steered=False)
    logprobs = np.concatenate([scores.base[None].double().numpy(), scores.steered.double().numpy()])
    choices: list[list[Choice]] = [[] for _ in scenarios]
    for column, request in enumerate(requests):
        tokens = np.array([len(answer) for answer in answers[column]])
        scored = logprobs[:, column, : len(tokens)]
        choices[request.scenario] += _scored_choices(
            scenarios[request.scenario], request.order, setup.states, scored, tokens, length
        )
    return choices


def _scored_choices(
    scenario: Scenario,
    order: Order,
    states: Sequence[State],
    logprobs: Float[np.ndarray, "state action"],
    tokens: np.ndarray,
    length: Length,
) -> list[Choice]:
    """Choose the action of the largest share in every state."""
    broken = np.argwhere(~np.isfinite(logprobs))
    if len(broken):
        state = states[int(broken[0][0])]
        raise BadInput(
            f"Under {state.name} the model gives NaN in scenario {scenario.id}. Lower the strength."
        )
    shares = softmax(logprobs / tokens if length == "mean" else logprobs)
    return [
        Choice(
            scenario=scenario.id,
            steering=state.name,
            kind=state.kind,
            order=order,
            logprobs=tuple(row.tolist()),
            tokens=tuple(tokens.tolist()),
            probabilities=tuple(share.tolist()),
            chosen=int(share.argmax()),
            text="",
            status="parsed",
        )
        for state, row, share in zip(states, logprobs, shares, strict=True)
    ]


def by_generation(
    model: "Model", scenario: Scenario, setup: DecisionSetup, new_tokens: int
) -> list[Choice]:
    """Choose by what the model writes, greedily, in every state and order of the actions."""
    import torch

    requests = prompts(scenario, setup.template)
    actions = [action.text for action in scenario.actions]
    choices = []
    for number, state in enumerate(setup.states):
        if setup.edit is None or state.kind == "base":
            answers = model.generate(list(requests.values()), new_tokens)
        else:
            edit = setup.edit.take(torch.tensor([number - 1]))
            with model.steered(edit, setup.site):
                answers = model.generate(list(requests.values()), new_tokens)
        for order, answer in zip(requests, answers, strict=True):
            choices.append(_written_choice(scenario.id, actions, state, order, answer))
    return choices


def _written_choice(
    scenario: str, actions: Sequence[str], state: State, order: Order, answer: str
) -> Choice:
    """Read the chosen action from an answer to the actions in this order."""
    listed = actions if order == "given" else actions[::-1]
    chosen, status = read_choice(answer, listed)
    if order == "reversed" and chosen >= 0:
        chosen = len(actions) - 1 - chosen
    return Choice(
        scenario=scenario,
        steering=state.name,
        kind=state.kind,
        order=order,
        logprobs=(),
        tokens=(),
        probabilities=(),
        chosen=chosen,
        text=answer,
        status=status,
    )


def read_choice(answer: str, texts: Sequence[str]) -> tuple[int, Status]:
    """Read which of the listed actions an answer names, by its words or else by its number.

    Gives the 0-based number of the action and how it was read; -1 where the answer names no action,
    more than one, or the number of one and the words of another.
    """
    named, status = reading.read_choice(answer, texts)
    number = reading.read_number(answer, 1, len(texts))
    if not named and number is None:
        return -1, status
    chosen = texts.index(named) if named else -1
    if number is not None and chosen not in (-1, number - 1):
        return -1, "unparsed"
    return chosen if named else int(number or 0) - 1, "parsed"
