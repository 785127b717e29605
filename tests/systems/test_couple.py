"""COUPLE over a scripted language model whose answers carry their scores, and the two verbs end
to end."""

import re

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput, WorkbenchError
from tests.helpers.endpoints import ScriptedLLM, Short, serve
from tests.helpers.synthetic import synthetic
from workbench.causal.counterfactual import Objective, counterfactuals
from workbench.study import Study
from workbench.systems.couple import texts as say
from workbench.systems.couple.text_scm import (
    AnsweredQuestion,
    Dialogue,
    Switches,
    TextSCM,
    circle_relations,
    graph_relations,
)
from workbench.verbs import couple as couple_verb

TEN = registry.get("values", "schwartz10")
ORIGINAL = {"power": 5, "achievement": 4, "security": 3, "benevolence": 2}
TONE = "a dry tone and the story of the goat"


def answer_of(scores, rest=""):
    return "I would [" + " ".join(f"{v}={s}" for v, s in scores.items()) + "] " + rest


def world(prompt: str) -> str:
    """A writer and judge without noise: an answer holds the values whose weights stand in it,
    anything else is absent.
    """
    if "Rate all of them together" in prompt:
        answer = prompt.split("\nAnswer: ")[1].split("\n\nHow")[0]
        held = dict(re.findall(r"([a-z-]+)=(\d)", answer))
        return "\n".join(
            f"{name}: {held.get(TEN.resolve(name), 2)}"
            for name in re.findall(r"^- ([\w-]+):", prompt.split("Values:")[1], re.M)
        )
    if "Name the ideas" in prompt:
        held = re.findall(r"([a-z-]+)=([345])", prompt)
        return "Here they are:\n" + "\n".join(
            f"- so it leans on {v} with weight {s} | {v}" for v, s in held
        )
    if "what is left" in prompt:
        return TONE if TONE in prompt else "Nothing."
    if "Write the one idea" in prompt:
        score, name = re.search(r"one value weighs (\d) of 5 .*?: ([\w-]+)\.", prompt).groups()
        return f"so it leans on {TEN.resolve(name)} with weight {score}"
    if "Give its stance" in prompt:
        return "Stance: this.\n" + "\n".join(
            re.findall(r"leans on [a-z-]+ with weight \d", prompt.split("rests on")[1])
        )
    if "with this plan" in prompt:
        rest = re.search(r"Keep this of the earlier answer: (.*)", prompt)
        return answer_of(
            dict(re.findall(r"leans on ([a-z-]+) with weight (\d)", prompt)),
            rest[1] if rest else "",
        )
    if "weigh in the answer as follows" in prompt:
        return answer_of({"benevolence": 4, "power": 3})
    return answer_of(ORIGINAL, TONE)


WHOLE = Switches()


def scm(llm=None, switches=WHOLE, relations=None):
    steps = []
    made = TextSCM(
        Dialogue(llm or ScriptedLLM(world), steps),
        TEN,
        circle_relations(TEN) if relations is None else relations,
        switches,
    )
    return made, steps


ASKED = AnsweredQuestion("q", "Should I?", answer_of(ORIGINAL, TONE))


def test_setting_values_to_what_they_are_returns_the_original():
    model, steps = scm()
    (own,) = model.abduct([ASKED])
    assert own.scores == dict.fromkeys(TEN.ids, 2.0) | ORIGINAL
    assert own.residual == TONE
    assert own.concepts[0] == ("so it leans on power with weight 5", "power")
    before = len(steps)
    same = Objective(
        tuple((v, own.scores[v]) for v in ("power", "achievement", "security", "hedonism"))
    )
    assert model.predict([own], [same]) == [ASKED]
    assert [s.step for s in steps[before:]] == ["action"], "nothing is asked"


def test_the_counterfactual_keeps_the_abducted_terms_and_differs_from_an_answer_made_anew():
    objective = Objective(
        (("benevolence", 5.0), ("achievement", 4.0), ("power", 1.0), ("security", 2.0))
    )
    model, steps = scm()
    (found,) = counterfactuals(model, [ASKED], [objective], 2.0)
    assert found.distance == 3 + 0 + 4 + 1
    # the analytic answer: values that were set, the one that stayed, and eps2; security is absent
    # as asked
    assert found.outcome.response == answer_of(
        {"benevolence": 5, "achievement": 4, "power": 1}, TONE
    )
    assert [(s.step, s.value) for s in steps if s.step in ("kept", "dropped")] == [
        ("dropped", "power"),
        ("dropped", "security"),
        ("kept", "achievement"),
    ]
    anew, _ = scm(switches=Switches(abduction=False))
    (fresh,) = counterfactuals(anew, [ASKED], [objective], 2.0)
    assert fresh.outcome.response == answer_of({"benevolence": 5, "power": 1}).strip()


def test_nothing_is_done_up_to_theta():
    objective = Objective((("power", 4.0), ("achievement", 3.0)))
    model, steps = scm()
    (kept,) = counterfactuals(model, [ASKED], [objective], 2.0)
    assert (kept.distance, kept.intervened, kept.outcome) == (2.0, False, ASKED)
    assert not {"action", "concept", "outline", "response"} & {s.step for s in steps}
    (done,) = counterfactuals(model, [ASKED], [objective], 1.9)
    assert done.intervened
    assert "power=4 achievement=3" in done.outcome.response


def concept_prompts(steps):
    return {s.value: s.prompt for s in steps if s.step == "concept"}


def test_opposed_values_hold_back_and_congruent_ones_blend():
    objective = Objective((("universalism", 5.0), ("benevolence", 4.0), ("power", 3.0)))
    model, steps = scm()
    model.predict(model.abduct([ASKED]), [objective])
    asked = concept_prompts(steps)
    assert "Universalism weighs 5 and pulls the other way: hold the idea back." in asked["power"]
    assert "Universalism weighs 5 and points the same way" in asked["benevolence"]
    assert "other way" not in asked["universalism"], "the weaker one holds nothing back"
    assert (
        "answered from these ideas:\n- so it leans on power with weight 5 | Power" in asked["power"]
    ), "the proxy of eps1"
    without, steps = scm(relations={})
    without.predict(without.abduct([ASKED]), [objective])
    assert not any("way" in prompt for prompt in concept_prompts(steps).values())


def test_each_switch_leaves_out_its_part():
    objective = Objective((("benevolence", 5.0), ("power", 1.0)))

    def outline(**off):
        model, steps = scm(switches=Switches(**off))
        model.predict(model.abduct([ASKED]), [objective])
        (found,) = [s.prompt for s in steps if s.step == "outline"]
        return found, {s.step for s in steps}

    whole, steps = outline()
    assert (
        "1. so it leans on benevolence with weight 5\n2. so it leans on achievement with weight"
        " 4\n3. so it leans on security" in whole
    )
    assert "An earlier answer: I would" in whole
    unordered, _ = outline(importance=False)
    assert "most important first" not in unordered
    assert (
        "- so it leans on achievement with weight 4\n- so it leans on security with weight 3\n- so"
        " it leans on benevolence" in unordered
    )
    bare, steps = outline(concepts=False)
    assert "concept" not in steps
    assert "1. Benevolence weighs 5 of 5 (the most important thing)" in bare
    anew, steps = outline(abduction=False)
    assert not {"concepts", "residual", "kept"} & steps
    assert "earlier answer" not in anew


@pytest.mark.parametrize(
    ("sign", "reply", "step", "status"),
    [
        ("Rate all", "no numbers here", "score", "unparsed"),
        ("Name the ideas", "too short | power", "concepts", "unparsed"),
        ("what is left", "I'm sorry, I cannot do that.", "residual", "refused"),
        ("Write the one idea", "As an AI I have no ideas of my own to give", "concept", "refused"),
        ("Give its stance", "", "outline", "unparsed"),
        ("with this plan", "I can't answer that.", "response", "refused"),
    ],
)
def test_a_reply_that_cannot_be_read_ends_its_question_only(sign, reply, step, status):
    other = AnsweredQuestion("other", "Must I?", ASKED.response)
    objective = Objective((("benevolence", 5.0), ("power", 1.0)))
    model, steps = scm(ScriptedLLM(lambda p: reply if sign in p and "Should I?" in p else world(p)))
    found = counterfactuals(model, [ASKED, other], [objective] * 2, 0.0)
    assert found[0].outcome is None
    assert found[1].outcome.response == answer_of(
        {"benevolence": 5, "achievement": 4, "security": 3, "power": 1}, TONE
    )
    failed = {(s.question, s.step, s.status, s.text) for s in steps if s.status != "parsed"}
    assert failed == {("q", step, status, reply)}


def test_replies_are_read():
    read = say.read_scores(TEN)
    told = (
        "**Power**: 4\n2. Self-Direction: 5/5\n- benevolence: 3 (mentioned)\nHedonism: 7\nSecurity:"
        " 2\nsecurity: 3\ncourage: 1\nTradition: 3.5"
    )
    assert read(told) == {
        "power": 4,
        "self-direction": 5,
        "benevolence": 3,
    }, "7, 3.5 and two different numbers are none"
    assert read("nothing") is None
    assert say.read_concepts(TEN)(
        "1. one two three four five | Power\none two three four | power\n"
        + "w " * 16
        + "| power\na b c d e | none"
    ) == [
        ("one two three four five", "power"),
        ("a b c d e", ""),
    ]
    assert say.read_values(("power", "security"), TEN)(
        "1. Security: safety\n- Hedonism\n- power"
    ) == ("security", "power")
    assert [say.rounded(x) for x in (1.49, 1.5, 4.5, 2.0)] == [1, 2, 5, 2]
    assert say.read_residual("Nothing.") == ""


@pytest.mark.parametrize(
    "line",
    ["4-5", "4 or 5", "4 out of 10", "between 3 and 4", "4.5", "not 4", "4?", "-4", "~4", "6"],
)
def test_a_score_that_is_no_point_of_the_rubric_is_left_out(line):
    assert say.read_scores(TEN)(f"Power: {line}\nBenevolence: 3 out of 5") == {"benevolence": 3}


def test_relations_from_circle_and_graph():
    circle = circle_relations(TEN)
    assert circle["tradition", "conformity"] == "congruent"
    assert circle["power", "universalism"] == "opposite"
    assert circle["power", "hedonism"] == "irrelevant"
    direct = np.array([[0, 0.5, 0], [0, 0, -0.6], [0, 0, 0.0]])
    graph = graph_relations(("power", "achievement", "security"), direct)
    assert graph["power", "achievement"] == graph["achievement", "power"] == "congruent"
    assert graph["power", "security"] == "opposite", "by way of achievement: -0.3"
    direct[0, 1] = 0.2
    assert (
        graph_relations(("power", "achievement", "security"), direct)["power", "security"]
        == "irrelevant"
    )


def contents(body):
    return body["messages"][-1]["content"]


TWO = (
    'question = [{id = "a", text = "Shall I stay?"}, {id = "b", text = "Shall I sell?", answer ='
    ' "Sell. [power=5 benevolence=1]"}]'
)


@pytest.fixture
def two(tmp_path):
    (tmp_path / "q.toml").write_text(TWO)
    return {"questions": str(tmp_path / "q.toml"), "target": "benevolence=5,power=1,security=4"}


def test_the_verb_keeps_every_step_and_scores_every_condition(tmp_path, two):
    study = Study(tmp_path / "study")
    with serve(lambda body, n: world(contents(body))) as script:
        told = two | {"llm": f"{script.url}#tiny", "input_price": 1.0}
        run = study.couple(**told)
        asked = len(script.requests)
        assert study.couple(**told).id == run.id
        assert len(script.requests) == asked
    sql = study.store.sql
    answers = sql("SELECT * FROM couple_answers ORDER BY question, condition")
    assert list(answers.status) == ["parsed"] * 6
    of = answers.set_index(["question", "condition"])
    # raw a: benevolence 2, power 5, security 3 against 5, 1, 4
    assert of.loc[("a", "raw"), "mae"] == pytest.approx((3 + 4 + 1) / 3)
    assert of.loc[("a", "raw"), "spearman"] == pytest.approx(-1)
    assert of.loc[("b", "raw"), "mae"] == pytest.approx((4 + 4 + 2) / 3)
    assert of.loc[("a", "value-prompt"), "mae"] == pytest.approx((1 + 2 + 2) / 3)
    assert of.loc[("a", "couple"), "mae"] == 0
    assert TONE in of.loc[("a", "couple"), "text"]
    assert set(answers.simulated_by) == {f"{script.url}#tiny"}
    metrics = sql("SELECT * FROM couple_metrics").set_index(["condition", "metric"])
    gain = metrics.loc[("couple - raw", "mae")]
    assert gain.estimate == pytest.approx(-(8 / 3 + 10 / 3) / 2)
    assert (gain.n, gain.missing) == (2, 0)
    steps = sql("SELECT * FROM couple_steps WHERE question = 'a' ORDER BY number")
    assert {
        "raw",
        "value-prompt",
        "score",
        "concepts",
        "residual",
        "action",
        "dropped",
        "kept",
        "concept",
        "outline",
        "response",
        "score couple",
    } <= set(steps.step)
    order = list(steps.step)
    assert (
        order.index("score")
        < order.index("concepts")
        < order.index("residual")
        < order.index("action")
        < order.index("response")
    )
    assert run.summary["answered_by"] == "LLM-simulated"
    assert run.summary["judge_difference"] == 0
    assert run.summary["own_work_marked"]
    assert run.summary["cost"] == pytest.approx(10 * asked / 1e6)
    assert len(sql("SELECT * FROM couple_scores WHERE target IS NOT NULL")) == 6 * 3


def test_an_endpoint_that_goes_down_midway_is_resumed_and_nothing_is_paid_twice(tmp_path, two):
    study, paid = Study(tmp_path / "study"), []
    state = {"left": 9}

    def reply(body, number):
        if not state["left"]:
            return 400, {}, {"error": {"message": "out of credit"}}
        state["left"] -= 1
        paid.append(contents(body))
        return world(contents(body))

    with serve(reply) as script:
        told = two | {"llm": f"{script.url}#tiny", "concurrency": 1}
        for _ in range(2):
            with pytest.raises(WorkbenchError, match="out of credit"):
                study.couple(**told)
        assert study.runs.unfinished()[0].kind == "couple"
        assert len(paid) == 9
        state["left"] = 10**6
        run = study.couple(**told)
    assert len(paid) == len(set(paid)), "nothing is paid twice"
    assert run.summary["asked_now"] == len(paid) - 9
    whole = Study(tmp_path / "whole")
    with serve(lambda body, n: world(contents(body))) as script:
        again = whole.couple(**two | {"llm": f"{script.url}#tiny"})
    kept = ("mae_couple", "mae_raw", "spearman_raw", "unread", "intervened")
    assert [run.summary[k] for k in kept] == [again.summary[k] for k in kept]


def test_refusals_are_counted_and_never_averaged(tmp_path, two):
    study = Study(tmp_path / "study")
    with serve(
        lambda body, n: (
            "I'm sorry, I can't."
            if "Give its stance" in contents(body) and "stay" in contents(body)
            else world(contents(body))
        )
    ) as script:
        run = study.couple(**two | {"llm": f"{script.url}#tiny"})
    row = study.store.sql(
        "SELECT * FROM couple_answers WHERE question = 'a' AND condition = 'couple'"
    ).iloc[0]
    assert (row.status, row.failed, row.text) == ("refused", "outline", "")
    assert np.isnan(row.mae)
    assert row.intervened
    metric = study.store.sql(
        "SELECT * FROM couple_metrics WHERE condition = 'couple - raw' AND metric = 'mae'"
    ).iloc[0]
    assert (metric.n, metric.missing) == (1, 1)
    assert run.summary["unread"] == 1


def test_a_prompt_too_long_is_counted_and_the_others_are_asked(tmp_path, two, monkeypatch):
    file = tmp_path / "q.toml"
    file.write_text(TWO.replace("Shall I sell?", "Shall I sell? " + "Tell me. " * 2000))
    monkeypatch.setattr(couple_verb, "open_llm", lambda *_: Short(world, 10_000))
    study = Study(tmp_path / "study")
    run = study.couple(**two | {"llm": "organism"})
    assert (run.summary["unread"], run.summary["too_long_questions"]) == (3, "b")
    assert run.summary["too_long"] >= 3
    rows = study.store.sql("SELECT * FROM couple_answers").set_index(["question", "condition"])
    assert set(rows.loc["a"].status) == {"parsed"}
    assert rows.loc[("b", "value-prompt"), "status"] == "too-long"
    monkeypatch.setattr(couple_verb, "open_llm", lambda *_: Short(world, 10))
    with pytest.raises(BadInput, match="longer context"):
        study.couple(**two | {"llm": "organism", "seed": 1})
    assert study.runs.unfinished() == []


@pytest.mark.parametrize(
    ("reply", "status"), [("Moo moo moo.", "unparsed"), ("I'm sorry, I cannot.", "refused")]
)
def test_a_model_that_says_nothing_leaves_no_number(tmp_path, two, reply, status):
    study = Study(tmp_path / "study")
    with serve(lambda body, n: reply) as script:
        run = study.couple(**two | {"llm": f"{script.url}#tiny"})
    assert run.summary["unread"] == 6
    assert run.summary["judge_difference"] is None
    answers = study.store.sql("SELECT status, mae FROM couple_answers")
    assert status in set(answers.status)
    assert "parsed" not in set(answers.status)
    assert study.store.sql("SELECT * FROM couple_metrics WHERE estimate IS NOT NULL OR n > 0").empty
    assert study.store.sql("SELECT * FROM couple_metrics").missing.unique() == [2]


def test_a_judge_that_wavers_is_named_with_its_number(tmp_path, two):
    def wavering(prompt):
        text = world(prompt)
        return re.sub(r": \d", ": 5", text) if "Values:\n- Universalism" in prompt else text

    steady, unsteady = (
        serve(lambda body, n, of=of: of(contents(body))) for of in (world, wavering)
    )
    with (
        steady as writer,
        unsteady as judge,
        pytest.warns(UserWarning, match=r"moves its own scores by \d"),
    ):
        run = Study(tmp_path / "s").couple(
            **two | {"llm": f"{writer.url}#w", "judge": f"{judge.url}#j"}
        )
    assert run.summary["judge_difference"] > 1
    assert not run.summary["own_work_marked"]


def test_more_than_five_values_are_chosen_by_question(tmp_path, two):
    def choosing(prompt):
        return "- Power\n- Benevolence\n- Hedonism" if "bear on most" in prompt else world(prompt)

    everything = ",".join(f"{v}=3" for v in TEN.ids)
    study = Study(tmp_path / "s")
    with serve(lambda body, n: choosing(contents(body))) as script:
        study.couple(**two | {"target": everything, "llm": f"{script.url}#tiny"})
    found = study.store.sql(
        "SELECT DISTINCT value FROM couple_scores WHERE target IS NOT NULL AND question = 'a'"
    )
    assert set(found.value) == {"power", "benevolence", "hedonism"}


def test_without_a_language_model_it_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="Which language model"):
        Study(tmp_path / "s").couple()


def test_counterfactual_profiles_of_a_study(tmp_path):
    study = synthetic(tmp_path / "study")
    run = study.counterfactual(target="power=5,security=3", theta=0.0, replicates=200)
    assert run.summary["contexts"] == 12
    rows = study.store.sql("SELECT * FROM counterfactual_changes").set_index("value")
    assert rows.loc["power", "target"] == 6
    assert rows.loc["security", "target"] == 3.5
    assert rows.loc["power", "observed"] + rows.loc["power", "change"] == pytest.approx(6)
    edges = (
        study.store.sql("SELECT * FROM edges WHERE present").set_index(["source", "target"]).weight
    )
    # from what is set, universalism is reached from power, and from security by way of conformity
    # and benevolence
    long_way = (
        edges["security", "conformity"]
        * edges["conformity", "benevolence"]
        * edges["benevolence", "universalism"]
    )
    reached = (
        edges["power", "universalism"] * rows.loc["power", "change"]
        + long_way * rows.loc["security", "change"]
    )
    assert rows.loc["universalism", "change"] == pytest.approx(reached)
    assert (
        rows.loc["universalism", "graph_low"]
        < rows.loc["universalism", "change"]
        < rows.loc["universalism", "graph_high"]
    )
    assert rows.loc["universalism", "null_high"] - rows.loc["universalism", "null_low"] > 0
    assert rows.loc["hedonism", "change"] == 0
    profiles = study.store.sql("SELECT * FROM counterfactual_profiles WHERE value = 'universalism'")
    assert abs(profiles.counterfactual - profiles.interventional).max() > 0.1
    assert profiles.counterfactual.mean() == pytest.approx(profiles.interventional.mean()), (
        "fresh noise is another context's"
    )
    near = study.counterfactual(target="power=3", theta=100.0, replicates=200)
    assert near.summary["intervened"] == 0
    assert (
        study.store.sql("SELECT change FROM counterfactual_changes WHERE run = ?", [near.id]).change
        == 0
    ).all()
    with pytest.raises(BadInput, match="says nothing about hedonism"):
        study.counterfactual(target="power=3", values="hedonism")
