"""Answer options as tokens.

An option is tokenized where it stands, after the prompt, because the tokens of ` 3` and of `3` differ and a
tokenizer may set a word mark of its own. Prompts whose options come out alike (almost always all of them) are
scored together. Prompts mostly end alike, so their ends are tokenized with the options, and whole prompts only where
that could matter. In a chat the answer begins a new turn, so an option loses its leading space.

Left out: options whose first character melts into the prompt's last token; they are taken as tokens of their own.
"""

from collections.abc import Iterator, Sequence

from feature_store.errors import BadInput
from sae_training.model import Model, Prompt

TAIL = 80
"""Characters at the end of a prompt, from a space on, with which its answers are tokenized."""


def by_answers(model: Model, prompts: Sequence[Prompt], ids: Sequence[list[int]],
               options: Sequence[str]) -> Iterator[tuple[list[int], list[list[int]]]]:
    """(prompts, options as ids) for each way in which the options are tokenized; `ids` are the prompts' tokens."""
    if model.chat:
        options = [option.lstrip() for option in options]
    alone = model.tokenizer(list(options), add_special_tokens=False, verbose=False)["input_ids"]
    found = _after_tails(model, prompts, ids, options, alone)
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row, (prompt, answers) in enumerate(zip(ids, found, strict=True)):
        for index, (option, answer) in enumerate(zip(options, answers, strict=True)):
            if not answer:
                raise BadInput(f"Option {index + 1} ({option!r}) has no tokens. Give each option a text.")
            if len(prompt) + len(answer) > model.context:
                raise BadInput(f"Prompt {row + 1} ({str(prompts[row])[:40]!r}...) with option {option!r} has "
                               f"{len(prompt) + len(answer)} tokens; {model.name} reads {model.context}. Shorten it.")
        groups.setdefault(answers, []).append(row)
    for answers_of, rows in groups.items():
        yield rows, [list(answer) for answer in answers_of]


def _after_tails(model: Model, prompts: Sequence[Prompt], ids: Sequence[list[int]], options: Sequence[str],
                 alone: Sequence[list[int]]) -> list[tuple[tuple[int, ...], ...]]:
    """Each prompt's options as ids. Prompts that end alike are answered alike, so each end is tokenized once, where the prompt's own
    tokens end as those of its end do (the first ones of which may differ); else the whole prompt is."""
    texts = [model.render(prompt) for prompt in prompts]
    tails = [text[max(text.find(" ", max(len(text) - TAIL, 0)), 0):] for text in texts]
    each = list(dict.fromkeys(tails))
    tokens = dict(zip(each, _tokens(model, each, False), strict=True))
    known = dict(zip(each, _continued(model, each, list(tokens.values()), options, alone, False), strict=True))
    found = {}
    for row, tail in enumerate(tails):
        end = tokens[tail][2:]
        if len(end) > 2 and ids[row][-len(end):] == end:
            found[row] = known[tail]
    rest = [row for row in range(len(texts)) if row not in found]
    whole = _continued(model, [texts[row] for row in rest], [ids[row] for row in rest], options, alone, not model.chat)
    found |= dict(zip(rest, whole, strict=True))
    return [found[row] for row in range(len(texts))]


def _continued(model: Model, texts: Sequence[str], ids: Sequence[list[int]], options: Sequence[str], alone: Sequence[list[int]],
               special: bool) -> list[tuple[tuple[int, ...], ...]]:
    joined = _tokens(model, [text + option for text in texts for option in options], special)
    found = []
    for row, prompt in enumerate(ids):
        after = joined[row * len(options):(row + 1) * len(options)]
        found.append(tuple(tuple(one[len(prompt):] if one[:len(prompt)] == prompt else bare) for one, bare in zip(after, alone, strict=True)))
    return found


def _tokens(model: Model, texts: Sequence[str], special: bool) -> list[list[int]]:
    return model.tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"] if texts else []
