"""The judge labeler: what it asks, how it reads answers, and what nonsense costs."""

import json

import numpy as np
import pytest
from scipy import sparse

from feature_store import registry
from feature_store.errors import NotFound, WorkbenchError
from tests.helpers.endpoints import ScriptedLLM, serve
from tests.helpers.planted_contexts import about_power
from workbench.features.labelers import LabelledActivations, LabelNotes
from workbench.features.labelers.judge import read_explanation
from workbench.llm import open_llm
from workbench.llm.cached import CachedLLM

JUDGE = registry.get("labelers", "judge")
TEN = registry.get("values", "schwartz10")
FEATURES = 40


def answer(value="power", side="held", explanation="control over people"):
    return json.dumps({"explanation": explanation, "value": value, "side": side})


def knows_power(question):
    return answer() if "control" in question.split("What do the marked")[0] else answer("none")


def data_of(model, notes=None):
    return LabelledActivations(
        sparse.csr_matrix((2, FEATURES)),
        np.zeros((2, 10), np.int8),
        np.full(2, ""),
        strongest=lambda: about_power([3, 8], FEATURES, each=12),
        open_model=(lambda address: model) if not callable(model) else model,
        notes=notes or LabelNotes(),
    )


def labels_of(data, **settings):
    config = JUDGE.config(llm="local:x", **settings)
    return JUDGE.label(data, TEN, config)


def test_features_whose_answers_agree_are_labelled_with_their_side():
    notes, llm = LabelNotes(), ScriptedLLM(knows_power)
    labels = labels_of(data_of(llm, notes))
    accepted = {(x.feature, x.value, x.polarity, x.part) for x in labels if x.accepted}
    assert accepted == {(3, "power", 1, "pole"), (8, "power", 1, "pole")}
    evidence = json.loads(next(x.evidence for x in labels if x.feature == 3))
    assert evidence["judge"] == "scripted"
    assert evidence["explanation"] == "control over people"
    assert evidence["named"] == ["power"] * 4
    assert len(llm.asked) == FEATURES * 4 == notes.figures["calls"]
    assert notes.figures["refused"] == notes.figures["unparsed"] == 0
    rows = [row for row in notes.explanations if row["feature"] == 3]
    assert [row["part"] for row in rows] == [0, 1, 2, 3]
    assert {row["status"] for row in rows} == {"parsed"}


def test_each_part_shows_other_contexts_with_active_words_marked():
    llm = ScriptedLLM(knows_power)
    labels_of(data_of(llm), features=1, contexts=6, asked=2)
    first, second = (question.split("What do the marked")[0] for question in llm.asked)
    texts = [set(part.split("Text")[1:]) for part in (first, second)]
    assert len(texts[0]) == len(texts[1]) == 3
    assert first != second
    assert "<<" in first
    assert "- power: " in llm.asked[0]


def test_rejected_and_mixed_sides():
    sides = iter(["rejected"] * 4 + ["held", "rejected", "topic", "held"])

    def mixed(question):
        if "control" in question.split("What do the marked")[0]:
            return answer(side=next(sides))
        return answer("none")

    labels = labels_of(data_of(ScriptedLLM(mixed)))
    assert {(x.feature, x.polarity, x.part) for x in labels if x.accepted} == {
        (3, -1, "pole"),
        (8, 1, "topic"),
    }


def test_a_judge_that_says_the_same_of_every_feature_labels_none():
    labels = labels_of(data_of(ScriptedLLM(lambda question: answer())))
    assert not any(label.accepted for label in labels)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("<html><b>power</b></html>", "unparsed"),
        ("", "unparsed"),
        ("{'value': power}", "unparsed"),
        ('{"explanation": "x", "value": "greed"}', "unparsed"),
        ('{"explanation": 3, "value": "power"}', "unparsed"),
        ('{"explanation": "x", "value": ["power"]}', "unparsed"),
        ("[" * 5000, "unparsed"),
        ("I'm sorry, but I cannot help with that.", "refused"),
        (None, "too-long"),
    ],
)
def test_nonsense_names_nothing(text, status):
    read = read_explanation(text, TEN)
    assert (read.status, read.value, read.text) == (status, "", "")


@pytest.mark.parametrize(
    ("text", "value", "side"),
    [
        (answer("Power", "Held"), "power", "held"),
        ("Sure! ```json\n" + answer("Self-direction") + "\n```", "self-direction", "held"),
        (answer("power", "sideways"), "power", "topic"),
        (answer("none"), "", ""),
        (answer("hedonism") + " No, " + answer("power"), "power", "held"),
    ],
)
def test_an_answer_is_read_within_other_words(text, value, side):
    read = read_explanation(text, TEN)
    assert (read.status, read.value, read.side) == ("parsed", value, side)


def test_markup_and_control_characters_leave_the_explanation():
    text = answer(explanation="<script>alert(1)</script> \u202e\x1b[31m locked   doors" + "x" * 999)
    read = read_explanation(text, TEN)
    assert read.text.startswith("alert(1) [31m locked doors")
    assert read.text.isprintable()
    assert len(read.text) <= 400


def test_nonsense_costs_those_features_their_label_and_is_counted():
    def broken(question):
        text = question.split("What do the marked")[0]
        if "control" in text:
            return answer()
        return "<html>no</html>" if "river" in text.split("Text 2")[0] else "I cannot answer that."

    notes = LabelNotes()
    labels = labels_of(data_of(ScriptedLLM(broken), notes))
    assert {label.feature for label in labels} == {3, 8}
    assert notes.figures["unparsed"] + notes.figures["refused"] == (FEATURES - 2) * 4
    assert all(row["answer"] for row in notes.explanations), "the whole answer is kept"


def test_a_question_without_an_answer_costs_that_answer_and_an_outage_is_raised():
    class Flaky(ScriptedLLM):
        def chat(self, conversations, **sampling):
            if len(conversations) > 1 or "Text 1:\n" not in conversations[0][-1].content:
                raise WorkbenchError("no answer")
            if self.answer(conversations[0][-1].content) == "fail":
                raise WorkbenchError("no answer")
            return super().chat(conversations, **sampling)

    notes, calls = LabelNotes(), iter(range(10_000))
    flaky = Flaky(lambda q: "fail" if next(calls) % 25 == 3 else knows_power(q))
    labels_of(data_of(flaky, notes))
    assert 0 < notes.figures["unparsed"] < FEATURES
    with pytest.raises(WorkbenchError, match="no answer"):
        labels_of(data_of(Flaky(lambda q: "fail")))


def test_an_interrupted_run_asks_on(tmp_path):
    """An endpoint that goes away: what it answered is kept."""

    def until(number_of_answers):
        def reply(body, number):
            if number >= number_of_answers:
                return (400, {}, b"out of order")
            return knows_power(body["messages"][-1]["content"])

        return reply

    def opened(address):
        return CachedLLM(open_llm(address, None), tmp_path / "answers.jsonl")

    with serve(until(50)) as script:
        config = JUDGE.config(llm=f"{script.url}#tiny")
        with pytest.raises(WorkbenchError, match="out of order"):
            JUDGE.label(data_of(opened), TEN, config)
        script.reply = until(10_000)
        notes = LabelNotes()
        labels = JUDGE.label(data_of(opened, notes), TEN, config)
    assert {label.feature for label in labels if label.accepted} == {3, 8}
    assert notes.figures["calls"] == 160
    assert notes.figures["asked_now"] == 160 - 50
    assert notes.figures["tokens_read"] == 110 * 10


def test_without_a_language_model_it_is_refused_before_anything_is_read():
    silent = LabelledActivations(
        sparse.csr_matrix((2, 0)), np.zeros((2, 10), np.int8), np.full(2, "")
    )
    with pytest.raises(NotFound, match="llm=local"):
        JUDGE.label(silent, TEN, JUDGE.config())
    assert JUDGE.label(silent, TEN, JUDGE.config(llm="local:x")) == []
