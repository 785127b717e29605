"""Judges: what they cannot read, what they find likelier, and how far they agree with
themselves."""

import pytest

from feature_store.errors import BadInput
from tests.helpers.endpoints import ScriptedLLM, Short
from tests.helpers.small_models import model
from workbench.llm.judges import PROMPT, LLMJudge, LogprobJudge, agreement, self_agreement


def test_a_judge_keeps_what_it_cannot_read():
    judge = LLMJudge(
        ScriptedLLM(lambda q: {"1": "Yes.", "2": "I'm sorry, no idea", "3": "hm"}[q[0]])
    )
    verdicts = judge.judge(["1", "2", "3"], ["yes", "no"])
    assert [(v.choice, v.status) for v in verdicts] == [
        ("yes", "parsed"),
        ("", "refused"),
        ("", "unparsed"),
    ]
    assert verdicts[2].text == "hm"
    assert verdicts[0].judge == "scripted"
    with pytest.raises(BadInput, match="two different options"):
        judge.judge(["1"], ["yes", "Yes "])


def test_a_logprob_judge_takes_what_the_question_makes_likelier():
    judge = LogprobJudge(model())
    judge.model.context = 256  # rotary positions reach as far as one likes
    options = ["the cat", "the dog ran to the end of the garden", "on"]
    verdicts = judge.judge(["the cat sat", "then the dog"], options)
    assert {v.status for v in verdicts} == {"parsed"}
    listed = "\n".join(f"- {o}" for o in options)
    prompts = [
        PROMPT.format(question=q, options=listed) for q in ("", "the cat sat", "then the dog")
    ]
    scores = judge.model.score(prompts, [f" {o}" for o in options])
    best = (scores[1:] - scores[0]).argmax(-1)
    assert [v.choice for v in verdicts] == [options[i] for i in best]
    # A judge that asks nothing learns nothing: every difference is 0.
    assert "+0.000; the dog" in judge.judge([""], options)[0].text


def test_a_question_longer_than_the_judge_reads_is_told_and_the_others_are_judged():
    llm = Short(lambda q: "yes", 200)
    verdicts = LLMJudge(llm).judge(["1", "2 " * 200, "3"], ["yes", "no"])
    assert [(v.choice, v.status) for v in verdicts] == [
        ("yes", "parsed"),
        ("", "too-long"),
        ("yes", "parsed"),
    ]
    assert len(llm.asked) == 2
    own = LogprobJudge(model())
    own.model.context = 256
    questions, options = ["the cat sat", "the dog ran " * 300, "then the dog"], ["the cat", "on"]
    verdicts = own.judge(questions, options)
    assert [v.status for v in verdicts] == ["parsed", "too-long", "parsed"]
    assert verdicts[::2] == own.judge(questions[::2], options)
    assert [v.status for v in own.judge(questions[1:2], options)] == ["too-long"]
    with pytest.warns(UserWarning, match="1 unread"):
        told = self_agreement(LLMJudge(llm), ["1", "2 " * 200], ["yes", "no"])
    assert (told.n, told.missing) == (1, 1)


def test_a_judge_that_takes_the_first_option_is_found_out():
    with pytest.warns(UserWarning, match="0% of 20 questions") as told:
        first = self_agreement(
            LLMJudge(ScriptedLLM(lambda q: q.split("- ")[1].split("\n")[0])),
            [str(i) for i in range(20)],
            ["yes", "no"],
        )
    assert (first.share, first.kappa, first.n) == (0.0, 0.0, 20)
    assert len(told) == 1
    steady = self_agreement(
        LLMJudge(ScriptedLLM(lambda q: "yes" if int(q.split("\n")[0]) % 2 else "no")),
        [str(i) for i in range(20)],
        ["yes", "no"],
    )
    assert (steady.share, steady.kappa, steady.missing) == (1.0, 1.0, 0)
    assert 0.83 < steady.low < 0.85


def test_agreement_by_hand():
    found = agreement(
        [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10 + [("b", "b")] * 15, missing=2
    )
    assert found.share == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)  # Cohen's textbook table
    assert found.missing == 2
