"""Everyday texts in two poles: what people write about twenty topics, for or against a value.

1. `situations.toml` has, for each topic and each of Schwartz's nineteen refined values, two pairs
   of texts: what somebody says of their own life, and an argument. A pair's texts speak of the same
   thing in nearly the same words; one holds the value, the other one rejects it.
2. The topic is the context: texts about different values are compared within it.
3. The nineteen fold into the values of the system as its names do. What folds into none of them
   (Face, among the ten) is left out.

`poles.py` varies the thing and keeps the words; here no two pairs share their words. Left out:
languages other than English, and systems into which none of the nineteen folds.
"""

import contextlib
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.errors import BadInput, NotFound
from feature_store.records import ValueSystem
from workbench.material.poles import PoleTexts


@functools.cache
def _file() -> Mapping[str, Any]:
    path = Path(__file__).with_name("situations.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def situation_texts(system: ValueSystem) -> PoleTexts:
    """Read the texts of all topics. Raises BadInput where no value of theirs is one of the system.

    situation_texts(system).contexts[0]  # "work"
    """
    texts, marks, topics = [], [], []
    for topic, values in _file()["topics"].items():
        for value, pairs in values.items():
            with contextlib.suppress(NotFound):
                mark = np.eye(len(system.ids))[system.ids.index(system.resolve(value))]
                for held, rejected in pairs:
                    texts += [held, rejected]
                    marks += [mark, -mark]
                    topics += [topic] * 2
    if not texts:
        raise BadInput(
            f"The everyday texts are about Schwartz's values, none of which is one of {system.id}."
            " Give a labelled table of your own, with marks 1 and -1."
        )
    return PoleTexts(texts=texts, marks=np.array(marks), contexts=topics, before=_file()["before"])
