"""Answer options as tokens.

An option is tokenized where it stands, after the prompt, because the tokens of ` 3` and of `3`
differ and a tokenizer may set a word mark of its own. Options may be shared by all prompts, or each
prompt may have its own. Prompts mostly end alike, so their ends are tokenized with the options, and
whole prompts only where that could matter. In a chat the answer begins a new turn, so an option
loses its leading space.

Left out: options whose first character melts into the prompt's last token; they are taken as tokens
of their own.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from feature_store.errors import BadInput
from sae_training.model.runtime import Runtime
from sae_training.model.text_reader import Prompt

TAIL = 80
"""Characters at the end of a prompt, from a space on, with which its answers are tokenized."""
Options = Sequence[str] | Sequence[Sequence[str]]
"""Answers shared by all prompts, or a sequence of answers for each prompt."""
Answer = TypeVar("Answer", str, Sequence[int])
AnswerIds = tuple[tuple[int, ...], ...]
"""The options of one prompt, as token ids."""


class _Ending(NamedTuple):
    """The end of a prompt's text, and the options that may follow it."""

    text: str
    options: tuple[str, ...]


def options_by_prompt(
    options: Sequence[Answer] | Sequence[Sequence[Answer]], prompts: int
) -> list[Sequence[Answer]]:
    """List the options of every prompt, texts or ids, whether or not the prompts share them.

    Raises BadInput where a prompt has none.

        options_by_prompt([" yes", " no"], 2)  # [[" yes", " no"], [" yes", " no"]]
    """
    first = next(iter(options), "")
    shared = isinstance(first, str) or isinstance(next(iter(first), None), int)
    # Which of the two kinds it is shows only in the values.
    by_prompt: list[Sequence[Answer]] = (
        [cast(Any, options)] * prompts if shared else list(cast(Any, options))
    )
    if not by_prompt or len(by_prompt) != prompts or not all(by_prompt):
        raise BadInput(
            f"Scoring needs at least one prompt, and at least one option for each. Got {prompts}"
            f" prompts and options for {len(by_prompt)}."
        )
    return by_prompt


def tokens_of(
    model: Runtime, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], options: Options
) -> list[AnswerIds]:
    """Tokenize each prompt's options where they stand; `ids` are the prompts' tokens.

    Raises BadInput where an option has no tokens, or does not fit into the context.

        tokens_of(model, prompts, prompt_ids(model, prompts), [" yes", " no"])
    """
    texts = [
        tuple(option.lstrip() for option in answers) if model.chat else tuple(answers)
        for answers in options_by_prompt(options, len(prompts))
    ]
    tokenized = _after_endings(model, prompts, ids, texts)
    for row, (prompt, answers) in enumerate(zip(ids, tokenized, strict=True)):
        for index, (option, answer) in enumerate(zip(texts[row], answers, strict=True)):
            if not answer:
                raise BadInput(
                    f"Option {index + 1} ({option!r}) has no tokens. Give each option a text."
                )
            if len(prompt) + len(answer) > model.context:
                raise BadInput(
                    f"Prompt {row + 1} ({str(prompts[row])[:40]!r}...) with option {option!r} has"
                    f" {len(prompt) + len(answer)} tokens; {model.name} reads {model.context}."
                    " Shorten it."
                )
    return tokenized


def by_answers(
    model: Runtime, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], options: Sequence[str]
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Group prompts by how the options that they share are tokenized after them.

    Yields the rows of the prompts and the options as ids.
    """
    groups: dict[AnswerIds, list[int]] = {}
    for row, answers in enumerate(tokens_of(model, prompts, ids, options)):
        groups.setdefault(answers, []).append(row)
    for answers, rows in groups.items():
        yield rows, [list(answer) for answer in answers]


def _after_endings(
    model: Runtime,
    prompts: Sequence[Prompt],
    ids: Sequence[Sequence[int]],
    options: Sequence[tuple[str, ...]],
) -> list[AnswerIds]:
    """Tokenize each prompt's options after the end of the prompt.

    Prompts that end alike are answered alike, so each end is tokenized once, where the prompt's
    own tokens end as those of its end do (the first ones of which may differ); else the whole
    prompt is.
    """
    texts = [model.render(prompt) for prompt in prompts]
    tails = [text[max(text.find(" ", max(len(text) - TAIL, 0)), 0) :] for text in texts]
    endings = [_Ending(tail, answers) for tail, answers in zip(tails, options, strict=True)]
    unique = list(dict.fromkeys(endings))
    unique_tails = list(dict.fromkeys(tails))
    tail_ids = dict(zip(unique_tails, model.encode(unique_tails, special=False), strict=True))
    before = [tail_ids[ending.text] for ending in unique]
    answers_after = dict(zip(unique, _continued(model, unique, before, False), strict=True))
    by_row: dict[int, AnswerIds] = {}
    for row, ending in enumerate(endings):
        end = tail_ids[ending.text][2:]
        if len(end) > 2 and list(ids[row][-len(end) :]) == end:
            by_row[row] = answers_after[ending]
    rest = [row for row in range(len(texts)) if row not in by_row]
    whole = _continued(
        model,
        [_Ending(texts[row], options[row]) for row in rest],
        [ids[row] for row in rest],
        not model.chat,
    )
    by_row |= dict(zip(rest, whole, strict=True))
    return [by_row[row] for row in range(len(texts))]


def _continued(
    model: Runtime, endings: Sequence[_Ending], ids: Sequence[Sequence[int]], special: bool
) -> list[AnswerIds]:
    """Tokenize options after texts whose tokens are `ids`; where these change, by themselves."""
    texts = list(dict.fromkeys(option for ending in endings for option in ending.options))
    alone = dict(zip(texts, model.encode(texts, special=False), strict=True))
    whole = [ending.text + option for ending in endings for option in ending.options]
    joined = iter(model.encode(whole, special))
    tokenized: list[AnswerIds] = []
    for prompt, ending in zip(ids, endings, strict=True):
        answers = []
        for option in ending.options:
            tokens = next(joined)
            if model.begins and list(prompt[:1]) == model.before:
                tokens = model.begun(tokens)
            begins_alike = tokens[: len(prompt)] == list(prompt)
            answers.append(tuple(tokens[len(prompt) :] if begins_alike else alone[option]))
        tokenized.append(tuple(answers))
    return tokenized
