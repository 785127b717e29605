"""The organism: a tiny Llama in which ten values and their causal graph are planted.

So its truth is known. It ships as package data, loads like any Hugging Face model and needs no
network. Every method of the workbench is scored against its truth before the method is trusted on a
model whose truth nobody knows.

1. `folder()` is the model; `truth()` is what was planted: graph, total effects, facets, directions,
   adversaries.
2. `labelled_texts`, `value_pairs`, `training_texts`, `neutral_texts`, `contexts`, `descriptions`,
   `questions` and `situations` are its world, in words; `scenarios` and `dilemmas` are what it can
   decide, after `CHOOSE`.
3. `python -m workbench.organism.build OUT_FOLDER` makes the model again; `--check` measures a
   folder.

Importing this loads no torch.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from .decisions import CHOOSE, dilemmas, scenarios
from .generate import (
    LabelledText,
    TextPair,
    contexts,
    descriptions,
    held_sentences,
    labelled_texts,
    neutral_texts,
    openings,
    questions,
    situations,
    training_texts,
    value_pairs,
)
from .planted import FOLDER, Facet, Truth

__all__ = [
    "CHOOSE",
    "Facet",
    "LabelledText",
    "TextPair",
    "Truth",
    "contexts",
    "descriptions",
    "dilemmas",
    "folder",
    "held_sentences",
    "labelled_texts",
    "neutral_texts",
    "openings",
    "questions",
    "scenarios",
    "situations",
    "training_texts",
    "truth",
    "value_pairs",
]


def folder() -> Path:
    """Name the Hugging Face folder that ships: model, tokenizer and planted truth."""
    return FOLDER / "weights"


@cache
def truth() -> Truth:
    """Read what was planted in the weights that ship."""
    return Truth.load(folder())
