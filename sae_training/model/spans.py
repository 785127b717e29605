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
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Span
from sae_training.model.edits import Edit

if TYPE_CHECKING:
    from sae_training.model.runtime import Prompt, Runtime

Marks = Mapping[Span, Sequence[Sequence[bool]]]
"""Span -> for each prompt, whether each of its tokens is in the span."""


def of_rows(edits: Sequence[Edit], prompts: int) -> dict[Span, set[int]]:
    """The prompts in which each span must occur when row i of an edit steers prompt i."""
    needed: dict[Span, set[int]] = {}
    for edit in edits:
        for row, where in enumerate(edit.positions):
            if isinstance(where, Span):
                needed.setdefault(where, set()).update(range(prompts) if edit.rows == 1 else [row])
    return needed


def find(
    model: "Runtime", prompts: Sequence["Prompt"], needed: Mapping[Span, Collection[int]]
) -> Marks:
    """The marks of every span in every prompt.

    Raises BadInput where a prompt that needs a span does not contain it.
    """
    if not needed:
        return {}
    if not getattr(model.tokenizer, "is_fast", False):
        raise Incompatible(
            f"The tokenizer of {model.name} tells no offsets, so a span cannot be found. Steer all"
            " positions instead."
        )
    texts = [model.render(prompt) for prompt in prompts]
    offsets = model.tokenizer(
        texts, add_special_tokens=not model.chat, return_offsets_mapping=True, verbose=False
    )["offset_mapping"]
    marks: dict[Span, list[list[bool]]] = {span: [] for span in needed}
    for span, rows in needed.items():
        for row, (text, places) in enumerate(zip(texts, offsets, strict=True)):
            found = _marked(span.text, text, places)
            if row in rows and not any(found):
                raise BadInput(
                    f"The span {span.text!r} does not occur in prompt {row + 1}"
                    f" ({prompts[row][:40]!r}...). Give words of the prompt."
                )
            marks[span].append(found)
    return marks


def padded(
    marks: Marks, rows: Sequence[int], width: int, after: int = 0
) -> dict[Span, Bool[Tensor, "row tok"]]:
    """The marks of some prompts, padded on the left to `width` columns, the last `after` of
    which follow the prompt.
    """

    def line(mark: Sequence[bool]) -> list[bool]:
        return [False] * (width - after - len(mark)) + list(mark) + [False] * after

    return {span: torch.tensor([line(of[row]) for row in rows]) for span, of in marks.items()}


def _marked(span: str, text: str, places: Sequence[tuple[int, int]]) -> list[bool]:
    inside = [False] * len(text)
    start = text.find(span)
    while start >= 0:
        inside[start : start + len(span)] = [True] * len(span)
        start = text.find(span, start + 1)
    return [any(inside[low:high]) for low, high in places]
