"""Spans: steering the tokens of a piece of the prompt's own text, such as ` your values`.

1. A span is sought in the prompt as the model reads it (inside the chat template where one is
   used), at each place where it occurs.
2. Its tokens are those that hold one of its characters, by the tokenizer's own offsets: a space
   that a tokenizer sets before a word belongs to the word's token.
3. What is found are marks, one truth value a token of the prompt; `padded` lays them into a batch.
   Tokens after the prompt are never marked, so cached decode steps stay as they are.

Left out: tokenizers without offsets (the slow ones), and texts that are no prompt: only a prompt's
words are known here.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Span
from sae_training.model.edits import Edit
from sae_training.model.runtime import Runtime
from sae_training.model.text_reader import Prompt

Marks = Mapping[Span, Sequence[Sequence[bool]]]
"""Span -> for each prompt, whether each of its tokens is in the span."""


def of_rows(edits: Sequence[Edit], prompts: int) -> dict[Span, set[int]]:
    """Say in which prompts each span must occur, when row i of an edit steers prompt i."""
    needed: dict[Span, set[int]] = {}
    for edit in edits:
        for row, where in enumerate(edit.positions):
            if isinstance(where, Span):
                needed.setdefault(where, set()).update(range(prompts) if edit.rows == 1 else [row])
    return needed


def find(
    model: Runtime, prompts: Sequence[Prompt], needed: Mapping[Span, Collection[int]]
) -> Marks:
    """Mark the tokens of every span in every prompt.

    `needed` names for each span the prompts that must contain it. Raises BadInput where one of
    them does not.

        find(model, ["Rate your values."], {Span(" your values"): [0]})
    """
    if not needed:
        return {}
    if not getattr(model.tokenizer, "is_fast", False):
        raise Incompatible(
            f"The tokenizer of {model.name} tells no offsets, so a span cannot be found. Steer all"
            " positions instead."
        )
    texts = [model.render(prompt) for prompt in prompts]
    encoded = model.tokenizer(
        texts, add_special_tokens=not model.chat, return_offsets_mapping=True, verbose=False
    )
    offsets = []
    tokens = model.tokenize(prompts, prompt=True)
    for row, places, ids in zip(
        encoded["input_ids"], encoded["offset_mapping"], tokens, strict=True
    ):
        # What the tokenizer sets after a text is no part of a prompt.
        kept = places if model.chat else places[: len(model.without_end(row))]
        # What `beginning` sets before a text has no place in it.
        more = len(ids) - len(kept)
        offsets.append([(0, 0)] * more + kept[max(-more, 0) :])
    marks: dict[Span, list[list[bool]]] = {span: [] for span in needed}
    for span, rows in needed.items():
        for row, (text, places) in enumerate(zip(texts, offsets, strict=True)):
            marked = _marked(span.text, text, places)
            if row in rows and not any(marked):
                raise BadInput(
                    f"The span {span.text!r} does not occur in prompt {row + 1}"
                    f" ({prompts[row][:40]!r}...). Give words of the prompt."
                )
            marks[span].append(marked)
    return marks


def padded(
    marks: Marks, rows: Sequence[int], width: int, after: int = 0
) -> dict[Span, Bool[Tensor, "row tok"]]:
    """Lay the marks of some prompts into one batch, padded on the left to `width` columns.

    The last `after` columns follow the prompt, and are never marked.
    """
    batch = {}
    for span, of_prompt in marks.items():
        lines = []
        for row in rows:
            before = width - after - len(of_prompt[row])
            lines.append([False] * before + list(of_prompt[row]) + [False] * after)
        batch[span] = torch.tensor(lines)
    return batch


def _marked(span: str, text: str, places: Sequence[tuple[int, int]]) -> list[bool]:
    """Say of each token, from its first character to its end, whether it holds one of the span."""
    inside = [False] * len(text)
    start = text.find(span)
    while start >= 0:
        inside[start : start + len(span)] = [True] * len(span)
        start = text.find(span, start + 1)
    return [any(inside[low:high]) for low, high in places]
