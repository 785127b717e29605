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
from feature_store.records import Action, Scenario, ValueSystem


def subsets(
    system: ValueSystem, n: int, smallest: int, largest: int, seed: int
) -> list[tuple[str, ...]]:
    """`n` sets of value ids in circle order, their sizes taking turns; fewer where there are no
    more; 0 means all.

    Every subset of one to six values is what the paper writes for (Luo et al. 2025); of ten values
    these are 847.
    """
    if not 1 <= smallest <= largest <= len(system.ids):
        raise BadInput(
            f"A scenario is about 1 to {len(system.ids)} values of {system.id}, got {smallest} to"
            f" {largest}."
        )
    rng, waiting = np.random.default_rng((seed, 1)), []
    for size in range(smallest, largest + 1):
        every = list(itertools.combinations(system.ids, size))
        waiting.append([every[i] for i in rng.permutation(len(every))])
    drawn = [one for turn in itertools.zip_longest(*waiting) for one in turn if one is not None]
    return drawn[: n or None]


def actions_of(told: Any, system: ValueSystem, fewest: int) -> tuple[Action, ...]:
    """The actions in parsed JSON. Raises BadInput that says which one is not as asked."""
    if not isinstance(told, list) or len(told) < fewest:
        raise BadInput(f"Expected a list of at least {fewest} actions, got {_brief(told)}.")
    found = []
    for number, action in enumerate(told, 1):
        if not isinstance(action, dict) or set(action) != {"text", "scores"}:
            raise BadInput(
                f'Expected action {number} as {{"text", "scores"}}, got {_brief(action)}.'
            )
        found.append(
            Action(
                _text(action["text"], f"text of action {number}"),
                _scores(action["scores"], system, number),
            )
        )
    if len({action.text for action in found}) < len(found):
        raise BadInput("Expected different actions, got one of them twice.")
    return tuple(found)


def _scores(told: Any, system: ValueSystem, number: int) -> tuple[tuple[str, float], ...]:
    if not isinstance(told, dict):
        raise BadInput(f"Expected the scores of action {number} by value, got {_brief(told)}.")
    found: dict[str, float] = {}
    for name, score in told.items():
        try:
            value = system.resolve(name)
        except NotFound as error:
            raise BadInput(f"Scores of action {number}: {error}") from None
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not -1 <= score <= 1:
            raise BadInput(
                f"Expected the score of action {number} on {value} in [-1, 1], got {_brief(score)}."
            )
        if value in found:
            raise BadInput(f"Action {number} is scored twice on {value}.")
        found[value] = float(score)
    if missing := [value for value in system.ids if value not in found]:
        raise BadInput(f"Action {number} has no score on {', '.join(missing)}.")
    return tuple((value, found[value]) for value in system.ids)


def values_of(told: Any, system: ValueSystem) -> tuple[str, ...]:
    """Value ids in circle order from a JSON list of names. Raises BadInput for anything else."""
    if not isinstance(told, list) or not told or not all(isinstance(name, str) for name in told):
        raise BadInput(f"Expected a list of names of values, got {_brief(told)}.")
    try:
        found = {system.resolve(name) for name in told}
    except NotFound as error:
        raise BadInput(str(error)) from None
    return tuple(value for value in system.ids if value in found)


def read(file: Path, system: ValueSystem) -> list[Scenario]:
    """The scenarios of a JSON-lines file. Raises NotFound, or BadInput that names the line."""
    if not file.is_file():
        raise NotFound(f"There is no file {file}. Give a .jsonl file with one scenario a line.")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file} must be UTF-8, byte {error.start} is not. Save it as UTF-8."
        ) from None
    found: dict[str, Scenario] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
            if not isinstance(told, dict) or not {"text", "values", "actions"} <= set(told):
                raise BadInput(
                    f'Expected {{"id", "text", "values", "actions", "source"}}, got {_brief(told)}.'
                )
            id = str(told.get("id", f"s{number:04d}"))
            if id in found:
                raise BadInput(f"The id {id!r} is taken by an earlier line.")
            found[id] = Scenario(
                id=id,
                text=_text(told["text"], "text"),
                values=values_of(told["values"], system),
                actions=actions_of(told["actions"], system, 2),
                source=str(told.get("source", file.name)),
            )
        except (json.JSONDecodeError, BadInput) as error:
            raise BadInput(f"{file}, line {number}: {error}") from None
    if not found:
        raise BadInput(f"{file} holds no scenario. Write one JSON object a line.")
    return list(found.values())


def write(file: Path, scenarios: Sequence[Scenario]) -> None:
    """The scenarios as a file that `read` reads."""
    lines = [
        {
            "id": s.id,
            "text": s.text,
            "values": list(s.values),
            "source": s.source,
            "actions": [{"text": a.text, "scores": dict(a.scores)} for a in s.actions],
        }
        for s in scenarios
    ]
    file.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
    )


def scores(scenario: Scenario, values: Sequence[str]) -> Float[np.ndarray, "action value"]:
    """How far each action serves each of `values` [-1 to 1]."""
    return np.array(
        [[dict(action.scores)[value] for value in values] for action in scenario.actions]
    )


def stakes(scenario: Scenario, values: Sequence[str]) -> Float[np.ndarray, " value"]:
    """1 for the values the scenario is about, 0 for the others."""
    return np.array([float(value in scenario.values) for value in values])


def _text(told: Any, what: str) -> str:
    if not isinstance(told, str) or not told.strip():
        raise BadInput(f"Expected the {what} in words, got {_brief(told)}.")
    return told.strip()


def _brief(told: Any) -> str:
    shown = json.dumps(told, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
