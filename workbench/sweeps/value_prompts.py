"""Prompts for a value: the wish that a value be held, written as a text before the question.

1. On a general model the sentences of a TOML file (`sentences`, with `{name}` and `{definition}` of
   the value) state the wish.
2. The organism reads no instructions: its prompts are sentences of its own language in which the
   value is held, none of which stands in any measured question.
3. They are asked of the unsteered model, in parts beside those of a sweep.
4. The dose is the number of sentences: the ladder 1, 2, 3, ... has as many steps as there are
   strengths.

Left out: prompts that a language model optimises, and examples of answers (few-shot).
"""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from feature_store.errors import BadInput, NotFound
from feature_store.files import read_toml, shown
from feature_store.progress import Progress, missing_chunks, stage
from feature_store.records import Value
from feature_store.work import Work
from workbench import organism
from workbench.measuring.questions import Question
from workbench.measuring.scored import ScoredQuestions
from workbench.sweeps.arms import PlannedArm
from workbench.sweeps.sweep import CHUNK, SweepMaterial, damage_table, ratings_table

if TYPE_CHECKING:
    from sae_training.engine.model import Model

SHIPPED = Path(__file__).with_name("value_prompts.toml")
"""The sentences that ship."""


def ladder(value: Value, steps: int, sentences: Sequence[str]) -> list[str]:
    """Write prompts of 1 to `steps` sentences for a value.

    `sentences` are templates with `{name}` and `{definition}`; they begin again where they end.
    """
    filled = [
        sentences[k % len(sentences)].format(name=value.name, definition=value.definition)
        for k in range(steps)
    ]
    return _rungs(filled)


def organism_ladder(value: Value, steps: int, questions: Sequence[str], seed: int) -> list[str]:
    """Write prompts of 1 to `steps` sentences of the organism's language that hold a value.

    None of the sentences occurs in `questions`, the texts that are asked after them.
    """
    return _rungs(organism.held_sentences(value.id, steps, questions, seed))


def _rungs(sentences: Sequence[str]) -> list[str]:
    """The first sentence, the first two, and so on."""
    return [" ".join(sentences[: k + 1]) for k in range(len(sentences))]


def read(file: str) -> list[str]:
    """Read the sentences of a TOML file, the shipped ones where `file` is empty.

    Raises NotFound without the file, BadInput where a sentence cannot be filled in.
    """
    path = Path(file) if file else SHIPPED
    try:
        sentences = read_toml(path).get("sentences", [])
    except NotFound:
        raise NotFound(f"There is no file of prompts {path}.") from None
    if not isinstance(sentences, list) or not all(map(_is_sentence, sentences)):
        wrong = next((s for s in sentences if not _is_sentence(s)), sentences)
        raise BadInput(
            f"{path.name}: sentences are texts with {{name}} and {{definition}} in them, got"
            f" {shown(wrong)}."
        )
    if not sentences:
        raise BadInput(f'{path.name} should hold a list, sentences = ["..."], got none.')
    return sentences


def _is_sentence(sentence: Any) -> bool:
    """Whether a part of a file is a text in which nothing but name and definition is filled in."""
    if not isinstance(sentence, str):
        return False
    try:
        fields = list(string.Formatter().parse(sentence))
    except ValueError:  # a brace that is never closed
        return False
    filled = [part[1:] for part in fields if part[1] is not None]
    return all(part in (("name", "", None), ("definition", "", None)) for part in filled)


def before(prompt: str, question: str) -> str:
    """Put a prompt before a question: on a line of its own where the question has lines, else
    before a space.
    """
    return f"{prompt}{_separator(question)}{question}" if prompt else question


def tokens(model: "Model", prompt: str, question: Question) -> int:
    """Count the tokens that a prompt adds to a question."""
    whole, bare = model.tokenize([before(prompt, question.prompt), question.prompt], prompt=True)
    return len(whole) - len(bare)


def refuse_too_long(
    model: "Model", planned: Sequence[PlannedArm], texts: SweepMaterial, openings: Sequence[str]
) -> None:
    """Raise BadInput where the longest prompt leaves no room for a question or an opening.

    It is asked before the sweep, which goes first and takes the longest.
    """
    from sae_training.engine.generate import prompt_ids

    prompts = dict.fromkeys(arm.prompt for arm in planned)
    longest = max(prompts, key=lambda prompt: len(model.tokenize([prompt])[0]), default="")
    asked = dict.fromkeys([*(question.prompt for question in texts.questions), *openings])
    prompt_ids(model, [before(longest, question) for question in asked])


def measure(
    work: Work,
    model: "Model",
    planned: Sequence[PlannedArm],
    texts: SweepMaterial,
    progress: Progress,
) -> tuple[pa.Table, pa.Table]:
    """Measure the arms with a prompt as further parts of a sweep; give all parts `(ratings,
    damage)`.

    The arms without a prompt have been measured by `sweep.measure`; their numbers come first. One
    part a value; parts that an earlier, interrupted call kept are not measured again.
    """
    groups = _by_value(planned)
    first = -(-sum(not arm.prompt for arm in planned) // CHUNK)
    done = work.done("ratings", "damages")
    if done.issuperset(range(first, first + len(groups))):
        return work.parts("ratings"), work.parts("damages")
    scored = ScoredQuestions.of(texts.questions, model)
    base = _score(model, [""], scored)[0]
    values, shown = list(groups), stage(progress, "asking after prompts")
    for number, _, _ in missing_chunks({part - first for part in done}, len(values), 1, shown):
        value, rows = values[number], groups[values[number]]
        prompts = [planned[row].prompt for row in rows]
        logprobs = _score(model, prompts, scored)
        ratings = scored.ratings(logprobs)
        if not np.isfinite(ratings).all():
            raise BadInput(
                f"After a prompt for {value} the model gives NaN. Load it with another --dtype."
            )
        separator = _separator(texts.questions[0].prompt)
        damage = rises(model, [prompt + separator for prompt in prompts], texts.neutral)
        part, numbers = first + number, np.array(rows)
        work.part("damages", part, damage_table(numbers, damage))
        if scored.voiced:
            topics = scored.topics(logprobs), scored.topics(base)
            work.part("topic_ratings", part, ratings_table(numbers, texts.questions, *topics))
        table = ratings_table(numbers, texts.questions, ratings, scored.ratings(base))
        work.part("ratings", part, table)
    return work.parts("ratings"), work.parts("damages")


def _by_value(planned: Sequence[PlannedArm]) -> dict[str, list[int]]:
    """Value -> numbers of its arms with a prompt."""
    groups: dict[str, list[int]] = {}
    for number, arm in enumerate(planned):
        if arm.prompt:
            groups.setdefault(arm.value, []).append(number)
    return groups


def _score(
    model: "Model", prompts: Sequence[str], scored: ScoredQuestions
) -> Float[np.ndarray, "prompt question option"]:
    """Log-probabilities of the answers after each prompt [nats]."""
    from sae_training.engine import neighbours, scoring

    whole = [before(prompt, question.prompt) for prompt in prompts for question in scored.questions]
    if scored.voiced:  # one question and many continuations
        logprobs = scoring.score(model, whole, scored.options * len(prompts))
    else:
        logprobs = neighbours.score(model, whole, scored.options[0])
    return logprobs.double().numpy().reshape(len(prompts), len(scored.questions), -1)


def rises(model: "Model", prefixes: Sequence[str], neutral: Sequence[str]) -> np.ndarray:
    """Measure the rise of the loss on each neutral text after each prefix [nats per token].

    It counts the neutral text's tokens after the prefix, less the same tokens' loss with nothing
    before them.
    """
    from sae_training.engine.losses import loss_after

    ids = [tokens[: model.context] for tokens in model.tokenize(neutral)]
    # What is read first has no loss without a prefix, so it is not counted with one either.
    before = model.before
    begin = max(len(before), 1)
    starts = [tokens[:begin] for tokens in ids]
    texts = [tokens[begin:] for tokens in ids]
    bare = [[] if start == before else start for start in starts]
    rise = [
        loss_after(model, [prefix + start for start in bare], texts)
        - loss_after(model, starts, texts)
        for prefix in model.tokenize(prefixes)
    ]
    return np.stack([row.double().numpy() for row in rise])


def _separator(question: str) -> str:
    return "\n" if "\n" in question else " "
