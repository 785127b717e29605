"""The built-in texts in two poles: complete, balanced, in other words than the questionnaire."""

from collections import Counter

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput
from tests.measuring.test_voice import standin
from workbench import material
from workbench.material.poles import before_a_statement, pole_texts
from workbench.measuring.hearing import shared_stems

TEN = registry.get("values", "schwartz10")


def test_every_thing_stands_in_every_frame_in_both_poles():
    written = pole_texts(TEN)
    assert len(written.texts) == len(set(written.texts)) == 10 * 10 * 8 * 2
    assert (np.abs(written.marks).sum(1) == 1).all()
    counts = Counter(
        (frame, tuple(marks)) for frame, marks in zip(written.contexts, written.marks, strict=True)
    )
    assert len(counts) == 8 * 20
    assert set(counts.values()) == {10}


def test_things_share_few_stems_with_the_questionnaire():
    """What labels must not be what later measures: the stems that both have are these alone."""
    assert shared_stems(pole_texts(TEN).texts, standin()) == ("be", "over")


def test_a_chat_model_says_them_and_another_writes_them():
    class Reader:
        def __init__(self, chat):
            self.chat = chat

        def render(self, text):
            return f"<user>{text}<assistant>"

    before = pole_texts(TEN).before
    request = before_a_statement(Reader(True), before)
    assert request == "<user>Say something about yourself in a few words.<assistant>"
    assert before_a_statement(Reader(False), before) == "Something about myself: "


def test_a_system_without_things_is_refused_by_name():
    nineteen = registry.get("values", "schwartz19")
    with pytest.raises(BadInput, match="two poles for schwartz10, none for schwartz19"):
        pole_texts(nineteen)


def test_a_sample_of_them_keeps_marks_and_frames_together():
    source = material.LabelledSource("poles")
    whole, part = (material.labelled(source, TEN, n, 0) for n in (0, 50))
    assert len(part.texts) == 50
    place = {text: number for number, text in enumerate(whole.texts)}
    for text, marks, frame in zip(part.texts, part.values, part.contexts, strict=True):
        assert (whole.values[place[text]] == marks).all()
        assert whole.contexts[place[text]] == frame


def test_the_organism_knows_none_of_their_words():
    class Organism:
        name, chat = "organism", False

    with pytest.raises(BadInput, match="Label it with its own texts: --labelled organism"):
        material.labelled(material.LabelledSource("poles"), TEN, model=Organism())
