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
from typing import TypeVar

from feature_store.errors import BadInput
from sae_training.model.runtime import Prompt, Runtime

TAIL = 80
"""Characters at the end of a prompt, from a space on, with which its answers are tokenized."""
Options = Sequence[str] | Sequence[Sequence[str]]
"""Answers shared by all prompts, or a sequence of answers for each prompt."""
Answer = TypeVar("Answer", bound=Sequence)


def own(
    options: Sequence[Answer] | Sequence[Sequence[Answer]], prompts: int
) -> list[Sequence[Answer]]:
    """Each prompt's options, texts or ids, where they may be shared.

    Raises BadInput where a prompt has none.
    """
    first = next(iter(options), "")
    shared = isinstance(first, str) or isinstance(next(iter(first), None), int)
    each = [options] * prompts if shared else list(options)
    if not each or len(each) != prompts or not all(each):
        raise BadInput(
            f"Scoring needs at least one prompt, and at least one option for each. Got {prompts}"
            f" prompts and options for {len(each)}."
        )
    return each


def tokens_of(
    model: Runtime, prompts: Sequence[Prompt], ids: Sequence[list[int]], options: Options
) -> list[tuple[tuple[int, ...], ...]]:
    """Each prompt's options as ids; `ids` are the prompts' tokens."""
    each = [
        tuple(option.lstrip() for option in some) if model.chat else tuple(some)
        for some in own(options, len(prompts))
    ]
    found = _after_tails(model, prompts, ids, each)
    for row, (prompt, answers) in enumerate(zip(ids, found, strict=True)):
        for index, (option, answer) in enumerate(zip(each[row], answers, strict=True)):
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
    return found


def by_answers(
    model: Runtime, prompts: Sequence[Prompt], ids: Sequence[list[int]], options: Sequence[str]
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """(prompts, options as ids) for each way in which shared options are tokenized."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row, answers in enumerate(tokens_of(model, prompts, ids, options)):
        groups.setdefault(answers, []).append(row)
    for answers, rows in groups.items():
        yield rows, [list(answer) for answer in answers]


def _after_tails(
    model: Runtime,
    prompts: Sequence[Prompt],
    ids: Sequence[list[int]],
    options: Sequence[tuple[str, ...]],
) -> list[tuple[tuple[int, ...], ...]]:
    """Each prompt's options as ids. Prompts that end alike are answered alike, so each end is
    tokenized once, where the prompt's own tokens end as those of its end do (the first ones of
    which may differ); else the whole prompt is.
    """
    texts = [model.render(prompt) for prompt in prompts]
    tails = [text[max(text.find(" ", max(len(text) - TAIL, 0)), 0) :] for text in texts]
    asked = list(zip(tails, options, strict=True))
    each, ends = list(dict.fromkeys(asked)), list(dict.fromkeys(tails))
    tokens = dict(zip(ends, _tokens(model, ends, False), strict=True))
    known = dict(
        zip(each, _continued(model, each, [tokens[tail] for tail, _ in each], False), strict=True)
    )
    found = {}
    for row, one in enumerate(asked):
        end = tokens[one[0]][2:]
        if len(end) > 2 and ids[row][-len(end) :] == end:
            found[row] = known[one]
    rest = [row for row in range(len(texts)) if row not in found]
    whole = _continued(
        model,
        [(texts[row], options[row]) for row in rest],
        [ids[row] for row in rest],
        not model.chat,
    )
    found |= dict(zip(rest, whole, strict=True))
    return [found[row] for row in range(len(texts))]


def _continued(
    model: Runtime,
    asked: Sequence[tuple[str, tuple[str, ...]]],
    ids: Sequence[list[int]],
    special: bool,
) -> list[tuple[tuple[int, ...], ...]]:
    texts = list(dict.fromkeys(option for _, options in asked for option in options))
    alone = dict(zip(texts, _tokens(model, texts, False), strict=True))
    joined = iter(
        _tokens(model, [text + option for text, options in asked for option in options], special)
    )
    found = []
    for prompt, (_, options) in zip(ids, asked, strict=True):
        after = [(next(joined), alone[option]) for option in options]
        found.append(
            tuple(
                tuple(one[len(prompt) :] if one[: len(prompt)] == prompt else bare)
                for one, bare in after
            )
        )
    return found


def _tokens(model: Runtime, texts: Sequence[str], special: bool) -> list[list[int]]:
    return (
        model.tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        if texts
        else []
    )
