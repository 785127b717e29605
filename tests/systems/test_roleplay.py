"""Roles, items, prompts and how answers are read."""

import math

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from feature_store.records import Item, Value
from workbench.llm import Verdict
from workbench.systems.kang import roles

SYSTEM = registry.get("values", "schwartz10")
VALUES = [
    Value(id=id, name=id.title(), angle=0.0, definition="Goal.", parent="")
    for id in ("order", "play")
]
MANY = [
    Item(id=f"{v.id}-{k}", text=f"Do you {v.id} {k}?", value=v.id, key=1 if k % 2 else -1)
    for v in VALUES
    for k in range(20)
]


@pytest.mark.parametrize("agreement", [1, -1])
@pytest.mark.parametrize(
    ("text", "score", "status"),
    [
        (" Because order helps.\nAnswer: yes", 1, "parsed"),
        (" Sure, why not.", 1, "parsed"),
        ("I think so.\nYes.", 1, "parsed"),
        (" I dislike it.\nAnswer: No, never", -1, "parsed"),
        ("no", -1, "parsed"),
        ("Answer: unsure", 0, "parsed"),
        ("I'm not sure about this.", 0, "parsed"),
        ("Answer: cannot say", math.nan, "refused"),
        ("As an AI I have no values.", math.nan, "refused"),
        ("Nobody knows", math.nan, "unparsed"),
        ("", math.nan, "unparsed"),
        (" No one should.\nyes", 1, "parsed"),
        (" Fine.\nAnswer: no\n\nQuestion: Is it?\nAnswer: yes", -1, "parsed"),
    ],
)
def test_an_answer_is_read_by_its_beginning(text, score, status, agreement):
    (answer,) = roles.read([text], ["Q?"])
    assert answer.status == status
    assert answer.text == text
    assert agreement * answer.score == agreement * score or (
        math.isnan(score) and math.isnan(answer.score)
    )


def test_what_no_rule_reads_goes_to_the_judge():
    class Scripted:
        name = "scripted"

        def judge(self, questions, options):
            self.questions = questions
            return [
                Verdict(choice="no", status="parsed", text="no", judge=self.name),
                Verdict(choice="", status="unparsed", text="hm", judge=self.name),
            ]

    judge = Scripted()
    found = roles.read(["yes", "Hardly ever.", "Blue."], ["A?", "B?", "C?"], judge)
    assert [answer.reader for answer in found] == ["rule", "scripted", "scripted"]
    assert [answer.status for answer in found] == ["parsed", "parsed", "unparsed"]
    assert found[1].score == -1
    assert math.isnan(found[2].score)
    assert len(judge.questions) == 2
    assert "B?" in judge.questions[0]
    assert "Hardly ever." in judge.questions[0]


def test_log_probabilities_become_scores():
    answers = roles.from_yes_no(np.log([[0.6, 0.2], [0.1, 0.3]]))
    assert [answer.score for answer in answers] == pytest.approx([0.5, -0.5])
    assert [answer.text for answer in answers] == ["yes", "no"]
    assert [answer.score for answer in roles.from_ratings(np.array([1.0, 3.5, 6.0]), 6)] == [
        -1,
        0,
        1,
    ]


def test_roles_are_seeded_and_distinct():
    found = roles.roles("some-model", 100, 25, 3)
    assert found == roles.roles("some-model", 100, 25, 3)
    assert found != roles.roles("some-model", 100, 25, 4)
    assert [role.split for role in found].count("train") == 101
    assert [role.number for role in found if not role.text] == [roles.NOBODY] * 2
    assert len({role.text for role in found}) == 126
    assert all("MBTI: " in role.text and "Job: " in role.text for role in found if role.text)
    with pytest.raises(BadInput, match="1000 names"):
        roles.roles("some-model", 1000, 1, 0)
    with pytest.raises(BadInput, match="both sides"):
        roles.roles("some-model", 10, 0, 0)
    assert len({role.text for role in roles.roles("organism", 20, 5, 0)}) == 26


def test_items_are_split_and_sampled_per_value():
    items = roles.split(MANY, VALUES, 0.7, 2, 0)
    assert (len(items.train), len(items.test)) == (28, 12)
    assert {item.id for item in items.train}.isdisjoint(item.id for item in items.test)
    first, again, other = (
        roles.items_for(roles.Role(n, "train", "x"), items, 0.4, 0) for n in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert [sum(item.value == v.id for item in first) for v in VALUES] == [6, 6]
    assert set(first) <= set(items.train)
    assert roles.items_for(roles.Role(5, "test", "x"), items, 0.4, 0) == list(items.test)
    with pytest.raises(BadInput, match="got 0"):
        roles.split(MANY, VALUES, 0.7, 21, 0)
    with pytest.raises(BadInput, match="between 0 and 1"):
        roles.split(MANY, VALUES, 1.0, 2, 0)


def test_prompts_hold_role_question_and_span():
    span = roles.wordings()["prompts"]["span"]
    for thought in (True, False):
        free, played = (
            roles.prompt("", "Is it?", thought),
            roles.prompt("You are Ada.", "Is it?", thought),
        )
        assert free.count(span) == 1
        assert played == "You are Ada.\n" + free
        assert free.rstrip().endswith("Thought:" if thought else "Answer:")
        assert "Question: Is it?" in free
    power = SYSTEM["power"]
    assert power.definition in roles.inclination("some-model", power, 1, 0)
    assert roles.inclination("some-model", power, 1, 0) != roles.inclination(
        "some-model", power, -1, 0
    )
    assert roles.inclination("organism", power, 1, 0) != roles.inclination("organism", power, -1, 0)


def test_a_table_of_items(tmp_path):
    file = tmp_path / "items.csv"
    file.write_text(
        "questionnaire,item,value,agreement,question\nQ,I plan.,Need for Order,1,Do you plan?\nQ,I"
        " drift.,Need for Order,-1,Do you drift?\n"
    )
    items, values = roles.from_table(file)
    assert [(item.id, item.key) for item in items] == [
        ("need-for-order-1", 1),
        ("need-for-order-2", -1),
    ]
    assert values[0].name == "Need for Order"
    file.write_text("value,agreement,question\nA,2,Is it?\n")
    with pytest.raises(BadInput, match="agreement is 1 or -1"):
        roles.from_table(file)
    file.write_text("value,question\nA,Is it?\n")
    with pytest.raises(NotFound, match="'agreement'"):
        roles.from_table(file)
    with pytest.raises(NotFound, match="no table"):
        roles.from_table(tmp_path / "nothing.csv")


def test_valuebench_has_seventeen_dimensions_of_twenty_items(shared):
    items, values = roles.from_table(shared / "data" / "valuebench" / "value_orientation.csv")
    found = roles.split(items, values, 0.7, 20, 0)
    assert len(found.values) == 17
    assert len(found.train) + len(found.test) == 366


@pytest.mark.parametrize(
    ("text", "score", "status"),
    [
        ("<think>No one should.</think>\nAnswer: yes", 1, "parsed"),
        ("**Yes**", 1, "parsed"),
        ("No. I would not.", -1, "parsed"),
        ("Yes, of course", 1, "parsed"),
        ("Yes I do", 1, "parsed"),
        ("Answer: can't say", math.nan, "refused"),
        ("No doubt about it", math.nan, "unparsed"),
        ("No problem, I would do it.", math.nan, "unparsed"),
        ("Answer: yes and no", math.nan, "unparsed"),
        ("yes/no", math.nan, "unparsed"),
        ("Yes or no? Hard to tell.", math.nan, "unparsed"),
        ("Yes?", math.nan, "unparsed"),
        ("No, never.\nYes.", math.nan, "unparsed"),
        ("<think>Yes, since", math.nan, "unparsed"),
        ("I do not say no", math.nan, "unparsed"),
        ("Nein", math.nan, "unparsed"),
    ],
)
def test_a_beginning_that_says_something_else_is_not_read(text, score, status):
    (answer,) = roles.read([text], ["Q?"])
    assert (answer.status, math.isnan(answer.score)) == (status, status != "parsed")
    assert status != "parsed" or answer.score == score
