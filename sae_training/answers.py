"""Answer options as tokens.

An option is tokenized where it stands, after the prompt, because the tokens of ` 3` and of `3` differ and a
tokenizer may set a word mark of its own. Prompts whose options come out alike (almost always all of them) are
scored together. In a chat the answer begins a new turn, so an option loses its leading space.

Left out: options whose first character melts into the prompt's last token; they are taken as tokens of their own.
"""

from collections.abc import Iterator, Sequence

from feature_store.errors import BadInput
from sae_training.model import Model


def by_answers(model: Model, prompts: Sequence[str], ids: Sequence[list[int]],
               options: Sequence[str]) -> Iterator[tuple[list[int], list[list[int]]]]:
    """(prompts, options as ids) for each way in which the options are tokenized; `ids` are the prompts' tokens."""
    if model.chat:
        options = [option.lstrip() for option in options]
    alone = model.tokenizer(list(options), add_special_tokens=False, verbose=False)["input_ids"]
    whole = [model.render(prompt) + option for prompt in prompts for option in options]
    tokens = model.tokenizer(whole, add_special_tokens=not model.chat, verbose=False)["input_ids"]
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row, prompt in enumerate(ids):
        answers = []
        for index, option in enumerate(options):
            joined = tokens[row * len(options) + index]
            answer = tuple(joined[len(prompt):] if joined[:len(prompt)] == prompt else alone[index])
            if not answer:
                raise BadInput(f"Option {index + 1} ({option!r}) has no tokens. Give each option a text.")
            if len(prompt) + len(answer) > model.context:
                raise BadInput(f"Prompt {row + 1} ({prompts[row][:40]!r}...) with option {option!r} has "
                               f"{len(prompt) + len(answer)} tokens; {model.name} reads {model.context}. Shorten it.")
            answers.append(answer)
        groups.setdefault(tuple(answers), []).append(row)
    for answers_of, rows in groups.items():
        yield rows, [list(answer) for answer in answers_of]
