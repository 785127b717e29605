"""Ask a language model for scenarios, and another time, blind, what they are about (the paper's
dataset generation).

1. `write_prompt` gives the values with their definitions, and the words that must not occur; it
   asks for a situation in which exactly these values are at stake, for actions, and for a score in
   [-1, 1] of every action on every value, as JSON.
2. `infer_prompt` gives the situation alone with all values and asks which of them are at stake, as
   JSON.
3. Answers are read strictly: the whole answer is one JSON object, bare or inside one code fence.
   What cannot be read is `refused` or `unparsed`, with the reason, and its text is kept.

The paper's prompts are not public; these are ours. Left out: asking again after an answer that
could not be read.
"""

from typing import Any, NamedTuple

from feature_store.errors import BadInput
from feature_store.files import parse_json
from feature_store.records import Scenario, Status, ValueSystem
from workbench.llm import Conversation, ask
from workbench.llm.reading import is_refusal
from workbench.systems.value_pilot.scenarios import actions_of, values_of

FENCE = "```"


class WrittenScenario(NamedTuple):
    """What a writer's answer holds."""

    scenario: Scenario | None
    """None unless parsed."""
    status: Status
    """How the answer could be read."""
    reason: str
    """Why it could not; empty when parsed."""


class InferredValues(NamedTuple):
    """What a blind reader's answer says of a situation."""

    values: tuple[str, ...]
    """Ids in circle order; empty unless parsed."""
    status: Status
    """How the answer could be read."""


def write_prompt(system: ValueSystem, values: tuple[str, ...], actions: int) -> Conversation:
    """Ask for one scenario about exactly these values, with so many scored actions or more."""
    about = "\n".join(f"- {system[value].name}: {system[value].definition}" for value in values)
    every = "\n".join(f'- "{value.id}": {value.definition}' for value in system.values)
    others = "no other value" if len(values) < len(system.ids) else "nothing else"
    names = ", ".join(value.name for value in system.values)
    return ask(
        "Write a short everyday situation, in the second person, in which exactly these values are"
        f" at stake, and {others}:\n{about}\n\nThen write at least {actions} different things that"
        " one could do in it, each one sentence in the first person, some that serve these values"
        " and some that go against them. Never use the name of a value or a form of it, neither in"
        f" the situation nor in an action. The names are: {names}.\n\nScore every action on every"
        " one of these values, from -1 (goes against it) over 0 (has nothing to do with it) to 1"
        f' (serves it):\n{every}\n\nAnswer with one JSON object and nothing else: {{"scenario":'
        ' "...", "actions": [{"text": "...", "scores": {'
        + ", ".join(f'"{id}": 0.0' for id in system.ids)
        + "}}, ...]}"
    )


def read_written(
    answer: str, system: ValueSystem, values: tuple[str, ...], actions: int, id: str, source: str
) -> WrittenScenario:
    """Read the scenario in a writer's answer, strictly; `actions` is the fewest that pass."""
    try:
        content = json_of(answer)
        text = content.get("scenario")
        has_keys = set(content) == {"scenario", "actions"}
        if not has_keys or not isinstance(text, str) or not text.strip():
            raise BadInput(
                'Expected {"scenario", "actions"} with a situation in words, got the keys'
                f" {sorted(content)}."
            )
        scenario = Scenario(
            id=id,
            text=text.strip(),
            values=values,
            actions=actions_of(content["actions"], system, actions),
            source=source,
        )
    except BadInput as error:
        return WrittenScenario(None, status_of(answer), str(error))
    return WrittenScenario(scenario, "parsed", "")


def infer_prompt(system: ValueSystem, text: str) -> Conversation:
    """Ask which values a situation is about, without saying for which it was written."""
    every = "\n".join(f'- "{value.id}": {value.definition}' for value in system.values)
    return ask(
        f"Here is a situation:\n{text}\n\nWhich of these values are at stake in it? Name all that"
        f" are and none that are not:\n{every}\n\nAnswer with one JSON object and nothing else:"
        ' {"values": ["...", ...]}'
    )


def read_inferred(answer: str, system: ValueSystem) -> InferredValues:
    """Read the values in a blind reader's answer, strictly."""
    try:
        content = json_of(answer)
        if set(content) != {"values"}:
            raise BadInput(f'Expected {{"values"}}, got the keys {sorted(content)}.')
        return InferredValues(values_of(content["values"], system), "parsed")
    except BadInput:
        return InferredValues((), status_of(answer))


def json_of(answer: str) -> dict[str, Any]:
    """Read the JSON object that an answer is, bare or inside one code fence. Raises BadInput."""
    text = answer.strip()
    if text.startswith(FENCE) and text.endswith(FENCE):
        text = text.removeprefix(FENCE).removeprefix("json").removesuffix(FENCE)
    try:
        content = parse_json(text, finite=False)
    except BadInput as error:
        raise BadInput(f"Expected one JSON object and nothing else: {error}") from None
    if not isinstance(content, dict):
        raise BadInput(f"Expected one JSON object, got a {type(content).__name__}.")
    return content


def status_of(answer: str) -> Status:
    """Say whether an answer that could not be read is a refusal."""
    return "refused" if is_refusal(answer) else "unparsed"
