"""Scores of a label on contexts, of planted contexts that speak of power or of nothing."""

import numpy as np
import pytest

from feature_store import registry
from tests.helpers.planted_contexts import ABOUT_POWER, FILLER, WordsEncoder
from workbench.features.context_scores import EncodedContexts, JudgedContexts, as_row
from workbench.features.held_out_contexts import HeldOutContexts, Window
from workbench.llm import Verdict

TEN = registry.get("values", "schwartz10")


def windows(words, count, seed):
    """Windows of shuffled words, the first of which is active."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        tokens = tuple(f" {words[k]}" for k in rng.permutation(len(words)))
        made.append(Window(tokens, (1.0, *[0.0] * (len(tokens) - 1))))
    return tuple(made)


HELD = {7: HeldOutContexts(windows(ABOUT_POWER, 8, 0), windows(FILLER, 8, 1))}


class Scripted:
    """A judge that answers by a function of the question."""

    name = "scripted"

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def judge(self, questions, options):
        self.asked += questions
        verdicts = []
        for question in questions:
            choice = self.answer(question)
            status = "parsed" if choice in options else "unparsed"
            choice = choice if status == "parsed" else ""
            verdicts.append(Verdict(choice=choice, status=status, text="", judge=self.name))
        return verdicts


def by_name(scores):
    return {score.score: score for score in scores}


def test_an_encoder_tells_the_right_value_and_not_a_wrong_one():
    encoded = EncodedContexts(HELD, TEN, WordsEncoder(""), seed=0)
    right, wrong = (by_name(encoded.scores(7, value)) for value in ("power", "hedonism"))
    assert right["embedding"].estimate.figure == 1
    assert right["detection"].estimate.figure == 1
    assert as_row(right["embedding"])["passed"]
    assert as_row(right["detection"])["passed"]
    assert right["embedding"].n == 16
    assert wrong["detection"].estimate.figure == 0.5
    assert not as_row(wrong["detection"])["passed"]
    assert not as_row(wrong["embedding"])["passed"]
    assert right["intruder"].estimate.figure == wrong["intruder"].estimate.figure == 1
    assert as_row(right["intruder"])["chance"] == pytest.approx(0.2)


def test_a_feature_with_few_contexts_has_no_intruder():
    few = {7: HeldOutContexts(HELD[7].active[:3], HELD[7].silent[:3])}
    assert (
        by_name(EncodedContexts(few, TEN, WordsEncoder(""), 0).scores(7, "power"))["intruder"].n
        == 0
    )
    assert (
        by_name(JudgedContexts(few, TEN, Scripted(lambda q: "1"), 0).scores(7, "power"))[
            "intruder"
        ].n
        == 0
    )


def knows_power(question):
    """Reads as a person would: texts about power mention control."""
    if question.startswith("A feature of a language model is active on four"):
        texts = question.split("Text ")[1:]
        return next(text[0] for text in texts if "control" not in text)
    if "<<" in question:
        marked = question.split("<<")[1].split(">>")[0]
        text = question.split("and >>:\n")[1]
        return "yes" if text.startswith("<<") and marked else "no"
    return "yes" if "control" in question.split("Text:")[1] else "no"


def test_a_judge_that_reads_scores_high_and_one_that_agrees_with_all_is_at_chance():
    judged = JudgedContexts(HELD, TEN, Scripted(knows_power), 0)
    for score in judged.scores(7, "power"):
        assert score.estimate.figure == 1, score.score
        assert as_row(score)["passed"]
    agrees = by_name(JudgedContexts(HELD, TEN, Scripted(lambda q: "yes"), 0).scores(7, "power"))
    assert agrees["detection"].estimate.figure == 0.5
    assert agrees["fuzzing"].estimate.figure == 0.5
    assert not as_row(agrees["detection"])["passed"]
    assert agrees["intruder"].n == 0


def test_marked_are_the_active_tokens_in_half_of_the_contexts_and_others_in_the_rest():
    judge = Scripted(lambda q: "yes")
    JudgedContexts(HELD, TEN, judge, 0).scores(7, "power")
    fuzzed = [q.split("and >>:\n")[1].split("\n\n")[0] for q in judge.asked if "<<" in q]
    assert len(fuzzed) == 8
    assert sum(text.startswith("<<") for text in fuzzed) == 4
    assert all(text.count("<<") == 1 for text in fuzzed)


def test_what_was_not_read_counts_in_no_score_and_is_counted():
    answers = iter(range(1000))
    judge = Scripted(lambda q: "perhaps" if next(answers) % 2 else "yes")
    judged = JudgedContexts(HELD, TEN, judge, 0)
    scores = by_name(judged.scores(7, "power"))
    assert scores["detection"].n == 8
    assert judged.unread == 8 + 4 + 8


def test_a_text_with_braces_and_markup_is_shown_as_it_is():
    odd = Window(("{name}", "<b>", "{0}"), (1.0, 0.0, 0.0))
    held = {7: HeldOutContexts((odd,), (odd,))}
    judge = Scripted(lambda q: "no")
    JudgedContexts(held, TEN, judge, 0).scores(7, "power")
    assert "{name}<b>{0}" in judge.asked[0]
