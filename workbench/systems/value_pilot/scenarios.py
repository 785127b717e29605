"""Scenarios and their actions: which values they are about, how they are read, checked and written.

1. `subsets` draws the sets of values that scenarios are to be about: sizes take turns, no set
   twice.
2. `actions_of` reads actions and their scores from JSON, strictly: a text, and for every value of
   the system one number in [-1, 1], nothing else.
3. `read` and `write` are the JSON-lines file: `{"id", "text", "values", "actions": [{"text",
   "scores"}], "source"}` a line.
4. `scores` and `stakes` are the same as arrays.

Left out: where scenarios come from (`writing`, the organism's generator) and which are let through
(`filters`).
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput, NotFound
from feature_store.files import json_lines
from feature_store.records import Action, Scenario, ValueSystem


def subsets(
    system: ValueSystem, n: int, smallest: int, largest: int, seed: int
) -> list[tuple[str, ...]]:
    """Draw `n` sets of value ids in circle order, their sizes taking turns; 0 means all.

    Every subset of one to six values is what the paper writes for (Luo et al. 2025); of ten values
    these are 847. There are fewer where the system has no more.
    """
    if not 1 <= smallest <= largest <= len(system.ids):
        raise BadInput(
            f"A scenario is about 1 to {len(system.ids)} values of {system.id}, got {smallest} to"
            f" {largest}."
        )
    rng = np.random.default_rng((seed, 1))
    by_size = []
    for size in range(smallest, largest + 1):
        every = list(itertools.combinations(system.ids, size))
        by_size.append([every[i] for i in rng.permutation(len(every))])
    drawn = [ids for turn in itertools.zip_longest(*by_size) for ids in turn if ids is not None]
    return drawn[: n or None]


def actions_of(content: Any, system: ValueSystem, fewest: int) -> tuple[Action, ...]:
    """Read the actions in parsed JSON. Raises BadInput that says which action is not as asked."""
    if not isinstance(content, list) or len(content) < fewest:
        raise BadInput(f"Expected a list of at least {fewest} actions, got {_brief(content)}.")
    actions = []
    for number, action in enumerate(content, 1):
        if not isinstance(action, dict) or set(action) != {"text", "scores"}:
            raise BadInput(
                f'Expected action {number} as {{"text", "scores"}}, got {_brief(action)}.'
            )
        text = _text(action["text"], f"text of action {number}")
        actions.append(Action(text, _scores(action["scores"], system, number)))
    if len({action.text for action in actions}) < len(actions):
        raise BadInput("Expected different actions, got one of them twice.")
    return tuple(actions)


def _scores(content: Any, system: ValueSystem, number: int) -> tuple[tuple[str, float], ...]:
    """Read the scores of action `number`, by value in circle order."""
    if not isinstance(content, dict):
        raise BadInput(f"Expected the scores of action {number} by value, got {_brief(content)}.")
    scores: dict[str, float] = {}
    for name, score in content.items():
        try:
            value = system.resolve(name)
        except NotFound as error:
            raise BadInput(f"Scores of action {number}: {error}") from None
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not -1 <= score <= 1:
            raise BadInput(
                f"Expected the score of action {number} on {value} in [-1, 1], got {_brief(score)}."
            )
        if value in scores:
            raise BadInput(f"Action {number} is scored twice on {value}.")
        scores[value] = float(score)
    missing = [value for value in system.ids if value not in scores]
    if missing:
        raise BadInput(f"Action {number} has no score on {', '.join(missing)}.")
    return tuple((value, scores[value]) for value in system.ids)


def values_of(content: Any, system: ValueSystem) -> tuple[str, ...]:
    """Read value ids, in circle order, from a JSON list of names. Raises BadInput for others."""
    is_list = isinstance(content, list) and len(content) > 0
    if not is_list or not all(isinstance(name, str) for name in content):
        raise BadInput(f"Expected a list of names of values, got {_brief(content)}.")
    try:
        named = {system.resolve(name) for name in content}
    except NotFound as error:
        raise BadInput(str(error)) from None
    return tuple(value for value in system.ids if value in named)


def read(file: Path, system: ValueSystem) -> list[Scenario]:
    """Read the scenarios of a JSON-lines file. Raises NotFound, or BadInput that names the line."""
    if not file.is_file():
        raise NotFound(f"There is no file {file}. Give a .jsonl file with one scenario a line.")
    scenarios: dict[str, Scenario] = {}
    for number, content in json_lines(file):
        try:
            scenario = _scenario(content, system, number, file.name)
            if scenario.id in scenarios:
                raise BadInput(f"The id {scenario.id!r} is taken by an earlier line.")
        except BadInput as error:
            raise BadInput(f"{file}, line {number}: {error}") from None
        scenarios[scenario.id] = scenario
    if not scenarios:
        raise BadInput(f"{file} holds no scenario. Write one JSON object a line.")
    return list(scenarios.values())


def _scenario(content: Any, system: ValueSystem, number: int, source: str) -> Scenario:
    """Read the scenario of line `number`; a line may leave out its id and its source."""
    if not isinstance(content, dict) or not {"text", "values", "actions"} <= set(content):
        raise BadInput(
            f'Expected {{"id", "text", "values", "actions", "source"}}, got {_brief(content)}.'
        )
    return Scenario(
        id=str(content.get("id", f"s{number:04d}")),
        text=_text(content["text"], "text"),
        values=values_of(content["values"], system),
        actions=actions_of(content["actions"], system, 2),
        source=str(content.get("source", source)),
    )


def write(file: Path, scenarios: Sequence[Scenario]) -> None:
    """Write scenarios as a file that `read` reads."""
    lines = [json.dumps(_as_json(scenario), ensure_ascii=False) for scenario in scenarios]
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _as_json(scenario: Scenario) -> dict[str, Any]:
    return {
        "id": scenario.id,
        "text": scenario.text,
        "values": list(scenario.values),
        "source": scenario.source,
        "actions": [
            {"text": action.text, "scores": dict(action.scores)} for action in scenario.actions
        ],
    }


def scores(scenario: Scenario, values: Sequence[str]) -> Float[np.ndarray, "action value"]:
    """Give how far each action serves each of `values` [-1 to 1]."""
    rows = []
    for action in scenario.actions:
        by_value = dict(action.scores)
        rows.append([by_value[value] for value in values])
    return np.array(rows)


def stakes(scenario: Scenario, values: Sequence[str]) -> Float[np.ndarray, " value"]:
    """Give 1 for the values the scenario is about, 0 for the others."""
    return np.array([float(value in scenario.values) for value in values])


def _text(content: Any, what: str) -> str:
    """Read words, without space around them."""
    if not isinstance(content, str) or not content.strip():
        raise BadInput(f"Expected the {what} in words, got {_brief(content)}.")
    return content.strip()


def _brief(content: Any) -> str:
    """Show what was read instead, as JSON of 60 characters at most."""
    shown = json.dumps(content, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
