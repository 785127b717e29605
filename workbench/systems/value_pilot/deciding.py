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

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from feature_store.errors import BadInput
from feature_store.records import Choice, Scenario, Site, Status
from workbench.llm.reading import is_refusal
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


def prompts(scenario: Scenario, template: str) -> dict[Order, str]:
    """The prompt by the order of the actions; one where the template does not list them.

    Raises BadInput without a scenario.
    """
    if "{scenario}" not in template:
        raise BadInput(f"A template of a decision holds {{scenario}}, got {template!r}.")
    told = template.replace("{scenario}", scenario.text)
    if "{actions}" not in template:
        return {"given": told}
    texts = [action.text for action in scenario.actions]

    def listed(order: Sequence[str]) -> str:
        return told.replace(
            "{actions}", "\n".join(f"{number}. {text}" for number, text in enumerate(order, 1))
        )

    return {"given": listed(texts), "reversed": listed(texts[::-1])}


def by_logprob(
    model: "Model",
    scenarios: Sequence[Scenario],
    template: str,
    states: Sequence[State],
    edit: "Edit | None",
    site: Site,
    length: Length,
    progress: Callable[[int, int], None],
) -> list[list[Choice]]:
    """For each scenario a choice a state and order.

    `states[0]` is the base, the others are the rows of `edit`.
    """
    from sae_training.engine.answers import tokens_of
    from sae_training.engine.generate import prompt_ids
    from sae_training.engine.scoring import sweep_ids

    asked = [
        (number, order, prompt)
        for number, scenario in enumerate(scenarios)
        for order, prompt in prompts(scenario, template).items()
    ]
    texts = [prompt for _, _, prompt in asked]
    ids = prompt_ids(model, texts)
    answers = tokens_of(
        model,
        texts,
        ids,
        [[f" {action.text}" for action in scenarios[number].actions] for number, _, _ in asked],
    )
    scores = sweep_ids(model, ids, answers, edit, site, progress)
    every = np.concatenate([scores.base[None].double().numpy(), scores.steered.double().numpy()])
    found: list[list[Choice]] = [[] for _ in scenarios]
    for column, (number, order, _) in enumerate(asked):
        tokens = np.array([len(answer) for answer in answers[column]])
        logprobs, scenario = every[:, column, : len(tokens)], scenarios[number]
        if not np.isfinite(logprobs).all():
            bad = states[int(np.argwhere(~np.isfinite(logprobs))[0][0])]
            raise BadInput(
                f"Under {bad.name} the model gives NaN in scenario {scenario.id}. Lower the"
                " strength."
            )
        shares = softmax(logprobs / tokens if length == "mean" else logprobs)
        found[number] += [
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
    return found


def by_generation(
    model: "Model",
    scenario: Scenario,
    template: str,
    states: Sequence[State],
    edit: "Edit | None",
    site: Site,
    new_tokens: int,
) -> list[Choice]:
    """The same, read from what the model writes."""
    import torch

    asked, found = prompts(scenario, template), []
    texts = [action.text for action in scenario.actions]
    for number, state in enumerate(states):
        if edit is None or state.kind == "base":
            answers = model.generate(list(asked.values()), new_tokens)
        else:
            with model.steered(edit.take(torch.tensor([number - 1])), site):
                answers = model.generate(list(asked.values()), new_tokens)
        for order, answer in zip(asked, answers, strict=True):
            place, status = read_choice(answer, texts if order == "given" else texts[::-1])
            if order == "reversed" and place >= 0:
                place = len(texts) - 1 - place
            found.append(
                Choice(
                    scenario=scenario.id,
                    steering=state.name,
                    kind=state.kind,
                    order=order,
                    logprobs=(),
                    tokens=(),
                    probabilities=(),
                    chosen=place,
                    text=answer,
                    status=status,
                )
            )
    return found


def read_choice(answer: str, texts: Sequence[str]) -> tuple[int, Status]:
    """0-based number of the chosen action and how it was read; -1 where the answer names none,
    or more than one.
    """
    said = [place for place, text in enumerate(texts) if text in answer]
    if len(said) == 1:
        return said[0], "parsed"
    numbers = {int(number) for number in re.findall(r"(?<![\d.])\d+(?![\d]|\.\d)", answer)}
    if not said and len(numbers) == 1 and 1 <= (number := numbers.pop()) <= len(texts):
        return number - 1, "parsed"
    return -1, "refused" if is_refusal(answer) else "unparsed"
