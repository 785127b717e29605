"""Texts in two poles: what speaks of a value and holds it, beside what speaks of it and rejects it.

1. `poles.toml` has, for each value, things that the value is about, and frames in two poles. Every
   thing stands in every frame.
2. A chat model reads a text as its own turn after a request, another one as its own continuation:
   what is found in it is about what the model says, not about what it is told. What stands before
   it is the same for all texts, and is read over.
3. The frame is the context: texts about different values are compared in the same words.

With marks of both signs, labelers can tell the topic from the pole. Left out: languages other than
English, and value systems that the file has no things of.
"""

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.records import ValueSystem

if TYPE_CHECKING:
    from sae_training.engine.model import Model


class PoleTexts(NamedTuple):
    """Short texts, each of one value and one pole."""

    texts: list[str]
    """One entry a text; the two poles of a pair follow each other, held first."""
    marks: Float[np.ndarray, "text value"]
    """1: held, -1: rejected, 0: another value's."""
    contexts: list[str]
    """What each text is compared within: its frame without the pole, or its topic."""
    before: Mapping[str, str]
    """What a `chat` model is asked before such a text, and what `continued` it follows."""


@functools.cache
def _file() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("poles.toml").read_text(encoding="utf-8"))


def pole_texts(system: ValueSystem) -> PoleTexts:
    """Write the texts of all values of a system. Raises BadInput where the file has no things.

    pole_texts(system).texts[0]  # "I hold independence dear."
    """
    things = _file()["things"].get(system.id)
    if things is None:
        written = ", ".join(_file()["things"])
        raise BadInput(
            f"There are texts in two poles for {written}, none for {system.id}. Give a labelled"
            " table of your own, with marks 1 and -1."
        )
    texts, marks, frames = [], [], []
    for column, value in enumerate(system.ids):
        for thing in things[value]:
            for number, frame in enumerate(_file()["frames"]):
                for pole, sign in (("held", 1), ("rejected", -1)):
                    texts.append(frame[pole].format(x=thing))
                    marks.append(np.eye(len(system.ids))[column] * sign)
                    frames.append(f"frame {number + 1}")
    return PoleTexts(texts=texts, marks=np.array(marks), contexts=frames, before=_file()["before"])


def before_a_statement(model: "Model", before: Mapping[str, str]) -> str:
    """Give what stands before a text as a model's own words: a request, or what it began with."""
    return model.render(before["chat"]) if model.chat else f"{before['continued']} "
