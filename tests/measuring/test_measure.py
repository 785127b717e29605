"""What is asked, how answers are read, and what they add up to: each against what can be worked
out by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from feature_store.records import Action, Instrument, Item, Response
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.profiles import per_cluster, profile
from workbench.measuring.quality import change_quality, quality
from workbench.measuring.questions import Question, expected_ratings, prompt_of, questions
from workbench.measuring.reading import read

SYSTEM = registry.get("values", "schwartz10")
ITEMS = (
    Item(id="a", text="I lead.", value="power"),
    Item(id="b", text="I follow.", value="power", key=-1),
    Item(id="c", text="I help.", value="benevolence"),
)
INSTRUMENT = Instrument(
    id="tiny",
    title="Tiny",
    items=ITEMS,
    options=tuple("123456"),
    wordings=(("plain", "{item} :"), ("scale", "1 {low} 6 {high}\n{item}")),
    system="schwartz10",
    source="",
    licence="",
)
PHRASES = ("not like me", "a little like me", "like me", "very much like me")


def dilemmas(memory="full"):
    """Two steps; the first answer serves power, the second benevolence."""
    options = (
        Action("I take it.", (("power", 1.0),)),
        Action("I share it.", (("benevolence", 1.0),)),
    )
    items = (
        Item(id="one", text="Cake.", value="", options=options, group="d"),
        Item(id="two", text="More cake.", value="", options=options, group="d", after="one"),
    )
    return Instrument(
        id="steps",
        title="Steps",
        items=items,
        options=(),
        wordings=(("listed", "{item}\n{options}\nAnswer:"),),
        system="schwartz10",
        source="",
        licence="",
        answer="choice",
        memory=memory,
    )


def answer(item, context, rating, status="parsed", **more):
    return Response(
        item=item,
        value="",
        context=context,
        wording="plain",
        order="ascending",
        seed=0,
        steering="base",
        text="",
        logprobs=(),
        rating=rating,
        status=status,
        **more,
    )


@dataclasses.dataclass
class Scripted:
    """Answers what `say` gives for a question; keeps what it was asked."""

    say: object
    room: int = 10_000
    name: str = "scripted"
    heard: list = dataclasses.field(default_factory=list)

    def fits(self, asked, room):
        return [len(q.prompt) <= self.room for q in asked]

    def score(self, asked, length, progress):
        self.heard += asked
        return [
            tuple(-0.1 if answer == self.say(q) else -5.0 for answer in q.answers) for q in asked
        ]

    def answer(self, asked, new_tokens, temperature, progress):
        self.heard += asked
        return [self.say(q) for q in asked]


def silent(*_):
    pass


def test_only_a_wording_that_names_its_ends_is_turned_round():
    asked = questions(INSTRUMENT, ["It rains.", ""], ["plain", "scale"])
    assert len(asked) == 2 * 3 * (1 + 2)
    assert asked[0].prompt == "It rains. I lead. :"
    turned = [q for q in asked if q.order == "descending"]
    assert {q.wording for q in turned} == {"scale"}
    assert turned[0].prompt == "It rains.\n1 very much like me 6 not like me at all\nI lead."
    with pytest.raises(NotFound, match="Did you mean 'plain'"):
        questions(INSTRUMENT, [""], ["plan"])


@pytest.mark.parametrize("name", ["standin", "standin19"])
def test_a_wording_with_the_item_last_shares_all_that_stands_before_it(name, tmp_path):
    from tests.helpers.instruments import opened

    instrument = opened(name, tmp_path).instrument
    asked = questions(instrument, ["At work."], ["first"])
    assert {q.order for q in asked} == {"ascending", "descending"}
    for order in ("ascending", "descending"):
        prompts = [q.prompt for q in asked if q.order == order]
        shared = prompts[0][: prompts[0].index('Statement: "') + len('Statement: "')]
        assert all(prompt.startswith(shared) for prompt in prompts)
        assert "1 (" in shared
        longest = max(len(q.item.text) for q in asked)
        assert max(map(len, prompts)) - len(shared) <= longest + len('"\nAnswer:')
    assert "Rate a statement" not in repr(instrument), "profiles that do not ask it keep their ids"
    assert "first" not in dict(instrument.wordings)


def test_listed_phrases_are_turned_round_and_keep_their_meaning():
    told = dataclasses.replace(
        INSTRUMENT, options=PHRASES, wordings=(("listed", "{item} Choose: {options}."),)
    )
    up, down = questions(told, [""], ["listed"])[0], questions(told, [""], ["listed"])[3]
    assert up.prompt == "I lead. Choose: not like me, a little like me, like me, very much like me."
    assert (
        down.prompt == "I lead. Choose: very much like me, like me, a little like me, not like me."
    )
    found = administer(
        Scripted(say=lambda q: "very much like me"),
        told,
        [up, down],
        "base",
        silent,
        elicitation=Elicitation(mode="generate"),
    )
    assert [r.rating for r in found] == [4, 4], "a phrase means the same wherever it stands"


def test_letters_follow_the_order_in_which_answers_are_listed():
    asked = questions(dilemmas(), [""], ["listed"])
    assert [q.answers for q in asked] == [("A", "B"), ("A", "B"), ("B", "A"), ("B", "A")]
    assert asked[2].prompt == "Cake.\nA. I share it.\nB. I take it.\nAnswer:"
    found = administer(Scripted(say=lambda q: "A"), dilemmas(), asked, "base", silent)
    assert [r.chosen for r in found] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("memory", "told"),
    [
        ("full", ["Cake.\nA. I take it.\nB. I share it.\nAnswer:", "B. I share it."]),
        ("causal", ["B. I share it."]),
        ("none", []),
    ],
)
def test_a_later_step_is_told_of_the_earlier_one(memory, told):
    who = Scripted(say=lambda q: "B")
    asked = [q for q in questions(dilemmas(memory), [""], ["listed"]) if q.order == "ascending"]
    administer(who, dilemmas(memory), asked, "base", silent)
    assert [m.content for m in who.heard[1].history] == told
    assert isinstance(prompt_of(who.heard[1], chat=True), str) == (not told)
    assert prompt_of(who.heard[1], chat=False) == "\n".join([*told, asked[1].prompt])


def test_a_persona_is_a_system_message_or_the_first_line():
    (q,) = questions(
        dataclasses.replace(INSTRUMENT, items=ITEMS[:1]),
        ["It rains."],
        ["plain"],
        persona="You are a nurse.",
    )
    assert prompt_of(q, chat=True)[0] == {"role": "system", "content": "You are a nurse."}
    assert prompt_of(q, chat=False) == "You are a nurse.\nIt rains. I lead. :"


def test_expected_ratings_put_keys_and_orders_right():
    asked = questions(INSTRUMENT, [""], ["scale"])
    sure_of_six = np.full((len(asked), 6), -50.0)
    sure_of_six[:, 5] = 0
    told = dict(
        zip(
            [(q.item.id, q.order) for q in asked], expected_ratings(sure_of_six, asked), strict=True
        )
    )
    assert told["a", "ascending"] == pytest.approx(6)
    assert told["a", "descending"] == pytest.approx(1)
    assert told["b", "ascending"] == pytest.approx(1)  # reverse-keyed
    assert told["b", "descending"] == pytest.approx(6)
    even = expected_ratings(np.zeros((4, len(asked), 6)), asked)
    assert even == pytest.approx(np.full((4, len(asked)), 3.5))


@pytest.mark.parametrize(
    ("answers", "text", "chosen", "status"),
    [
        (tuple("123456"), " 4", 3, "parsed"),
        (tuple("123456"), "Answer: 6.", 5, "parsed"),
        (tuple("123456"), "I would say 3 because", 2, "parsed"),
        (tuple("123456"), "I'm sorry, as an AI I cannot", -1, "refused"),
        (tuple("123456"), "maybe", -1, "unparsed"),
        (tuple("123456"), "10", -1, "unparsed"),
        (tuple("123456"), "4.5", -1, "unparsed"),
        (tuple("123456"), "", -1, "unparsed"),
        (("A", "B"), "(B) I tell her", 1, "parsed"),
        (("B", "A"), "B", 0, "parsed"),
        (("A", "B"), "Cake", -1, "unparsed"),
        (PHRASES, "Very much like me.", 3, "parsed"),
        (PHRASES, "That is not like me", 0, "parsed"),
        (PHRASES, "perhaps", -1, "unparsed"),
        ((), "I would tell them the truth.", -1, "parsed"),
        ((), "  ", -1, "unparsed"),
        ((), "I cannot answer that.", -1, "refused"),
    ],
)
def test_answers_are_read_or_kept_as_data(answers, text, chosen, status):
    assert read(
        text,
        Question(
            item=ITEMS[0], context=0, wording="plain", order="ascending", prompt="", answers=answers
        ),
    ) == (chosen, status)


def test_missing_answers_never_enter_a_mean():
    told = [
        answer("a", 0, 2.0),
        answer("b", 0, float("nan"), "refused"),
        answer("c", 0, 6.0),
        answer("a", 1, float("nan"), "unparsed"),
    ]
    cells = per_cluster(told, INSTRUMENT, SYSTEM)
    assert cells.values == ("power", "benevolence")
    assert cells.raw[0].tolist() == [2.0, 6.0]
    assert np.isnan(cells.raw[1]).all()
    assert cells.centred[0].tolist() == [-2.0, 2.0]  # MRAT is the mean of all items: (2 + 6) / 2
    power = next(
        row
        for row in profile(told, INSTRUMENT, per_cluster(told, INSTRUMENT, SYSTEM), 200, 0)
        if row.value == "power"
    )
    assert (power.parsed, power.missing) == (1, 2)


def test_an_item_of_several_values_counts_once_in_the_mean_of_all():
    items = (
        Item(id="both", text="x", value="", tags=("power", "benevolence")),
        Item(id="one", text="y", value="power"),
    )
    told = [answer("both", 0, 6.0), answer("one", 0, 1.0)]
    cells = per_cluster(told, dataclasses.replace(INSTRUMENT, items=items), SYSTEM)
    assert np.nanmean(cells.raw, 0).tolist() == [3.5, 6.0]
    assert np.nanmean(cells.centred, 0).tolist() == [0.0, 2.5]


def test_a_choice_is_scored_against_choosing_by_lot():
    told = [answer("one", 0, float("nan"), chosen=1), answer("two", 0, float("nan"), chosen=1)]
    rows = {
        (row.value, row.centred): row
        for row in profile(told, dilemmas(), per_cluster(told, dilemmas(), SYSTEM), 200, 0)
    }
    assert rows["benevolence", True].mean == 0.5
    assert rows["power", True].mean == -0.5
    assert rows["power", False].mean == 0
    assert rows["power", True].n == 1, "one dilemma is one cluster"
    unsure = [dataclasses.replace(r, logprobs=(np.log(0.25), np.log(0.75))) for r in told]
    assert profile(unsure, dilemmas(), per_cluster(unsure, dilemmas(), SYSTEM), 200, 0)[
        -1
    ].mean == pytest.approx(0.25)


def test_what_is_too_long_is_counted_and_not_cut():
    asked = questions(INSTRUMENT, [""], ["plain"])
    who = Scripted(say=lambda q: "6", room=len("I lead. :"))
    found = administer(
        who, INSTRUMENT, asked, "base", silent, elicitation=Elicitation(mode="generate")
    )
    assert [r.status for r in found] == ["parsed", "too-long", "parsed"]
    assert all(len(q.prompt) <= who.room for q in who.heard)
    told = {row["metric"]: row for row in quality(found, INSTRUMENT, SYSTEM, 200, 0)}
    assert told["too-long"]["value"] == pytest.approx(1 / 3)


def wide(n=8):
    """An instrument with n items a value, half of them reverse-keyed."""
    items = tuple(
        Item(id=f"{v}-{k}", text=f"{v} {k}", value=v, key=1 if k % 2 else -1)
        for v in SYSTEM.ids
        for k in range(n)
    )
    return dataclasses.replace(INSTRUMENT, items=items)


def test_biases_are_found_where_they_were_planted():
    asked = questions(wide(), [f"{k}." for k in range(6)], ["scale"])
    always_six = administer(
        Scripted(say=lambda q: "6"),
        wide(),
        asked,
        "base",
        silent,
        elicitation=Elicitation(mode="generate"),
    )
    told = {row["metric"]: row for row in quality(always_six, wide(), SYSTEM, 200, 0)}
    # The same number in both orders: as an agreement 6 and then 1; over keys nothing is left.
    assert told["position"]["value"] == pytest.approx(0)
    up = [r for r in always_six if r.order == "ascending"]
    assert {row["metric"]: row for row in quality(up, wide(), SYSTEM, 200, 0)}["acquiescence"][
        "value"
    ] == pytest.approx(2.5)
    positive = dataclasses.replace(
        wide(), items=tuple(item for item in wide().items if item.key > 0)
    )
    asked = questions(positive, ["x.", "y."], ["scale"])
    told = {
        row["metric"]: row
        for row in quality(
            administer(
                Scripted(say=lambda q: "6"),
                positive,
                asked,
                "base",
                silent,
                elicitation=Elicitation(mode="generate"),
            ),
            positive,
            SYSTEM,
            200,
            0,
        )
    }
    assert told["position"]["value"] == pytest.approx(2.5)
    assert "acquiescence" not in told, (
        "without reverse-keyed items it is not to be told from values that are held"
    )


def test_first_place_bias_of_choices():
    asked = questions(dilemmas(), [""], ["listed"])
    told = {
        row["metric"]: row
        for row in quality(
            administer(Scripted(say=lambda q: "A"), dilemmas(), asked, "base", silent),
            dilemmas(),
            SYSTEM,
            200,
            0,
        )
    }
    assert told["position"]["value"] == pytest.approx(0.5)


@pytest.mark.parametrize("noise", [0.0, 2.0, 50.0])
def test_reliability_falls_with_noise_as_it_must(noise):
    """Levels spread with variance s over values: half profiles of k answers each correlate at s
    / (s + noise^2 / 2k), stepped up.
    """
    rng, level = np.random.default_rng(0), dict(zip(SYSTEM.ids, np.linspace(2, 5, 10), strict=True))
    instrument = dataclasses.replace(
        wide(), items=tuple(dataclasses.replace(i, key=1) for i in wide().items)
    )
    told = [
        dataclasses.replace(answer(i.id, c, level[i.value] + noise * rng.standard_normal()), seed=s)
        for s in range(2)
        for c in range(2)
        for i in instrument.items
    ]
    rows = {row["metric"]: row["value"] for row in quality(told, instrument, SYSTEM, 200, 0)}
    spread, answers = np.var(np.linspace(2, 5, 10)), 8 * 2 * 2
    assert rows["split-half"] == pytest.approx(
        spread / (spread + noise**2 / answers), abs=0.1 if noise < 5 else 0.8
    )
    assert rows["test-retest"] == pytest.approx(spread / (spread + noise**2 / 2), abs=0.25)


def test_nothing_is_asked_twice(tmp_path, monkeypatch):
    from sae_training.engine import scoring
    from sae_training.engine.model import Model
    from sae_training.engine.opening import open_model
    from workbench import organism
    from workbench.instruments.standin import standin
    from workbench.measuring.respondents import LocalRespondent

    model = open_model(str(organism.folder()))
    asked = questions(standin(), ["", "The bus came a little late."], ["plain"])
    first = administer(LocalRespondent(model, tmp_path), standin(), asked, "base", silent)
    alone = np.stack(
        [model.score([q.prompt], [f" {k}" for k in range(1, 7)])[0].numpy() for q in asked[:5]]
    )
    np.testing.assert_allclose([r.logprobs for r in first[:5]], alone, atol=1e-5)
    words = administer(
        LocalRespondent(model, tmp_path),
        standin(),
        asked[:3],
        "base",
        silent,
        elicitation=Elicitation(mode="generate"),
    )

    def nothing(*args, **more):
        raise AssertionError("asked again")

    monkeypatch.setattr(scoring, "score_rows", nothing)
    monkeypatch.setattr(Model, "generate", nothing)
    assert administer(LocalRespondent(model, tmp_path), standin(), asked, "base", silent) == first
    assert (
        administer(
            LocalRespondent(model, tmp_path),
            standin(),
            asked[:3],
            "base",
            silent,
            elicitation=Elicitation(mode="generate"),
        )
        == words
    )
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == len(asked)
    with pytest.raises(AssertionError, match="asked again"):
        administer(
            LocalRespondent(model, tmp_path, "another steering"), standin(), asked, "base", silent
        )
    monkeypatch.setattr(
        scoring,
        "score_rows",
        lambda model, prompts, answers, *_, **more: torch.full(
            (1, len(answers), len(answers[0])), float("nan")
        ),
    )
    with pytest.raises(BadInput, match="3 of 3 questions"):
        administer(
            LocalRespondent(model, tmp_path, "a third"), standin(), asked[:3], "base", silent
        )


def test_what_a_steering_changes_has_a_reliability_of_its_own():
    """A change that every item of a value shows repeats in the other half of them; noise does
    not, however reliable the profile is.
    """
    rng, made = (
        np.random.default_rng(0),
        dataclasses.replace(
            wide(), items=tuple(dataclasses.replace(item, key=1) for item in wide().items)
        ),
    )
    held = dict(zip(SYSTEM.ids, rng.normal(3.5, 1, 10), strict=True))
    base = [answer(item.id, 0, held[item.value] + rng.normal(0, 0.1)) for item in made.items]
    lift = dict(zip(SYSTEM.ids, rng.normal(0, 0.5, 10), strict=True))
    for own, noise, low, high in ((1.0, 0.1, 0.95, 1.0), (0.0, 0.5, -0.9, 0.6)):
        after = [
            dataclasses.replace(
                r, steering="s", rating=r.rating + own * lift[i.value] + noise * rng.normal()
            )
            for r, i in zip(base, made.items, strict=True)
        ]
        (row,) = change_quality(base, after, made, SYSTEM, 0)
        assert (row["metric"], row["steering"]) == ("split-half-change", "s")
        assert low < row["value"] <= high
    assert change_quality([], [], dilemmas(), SYSTEM, 0) == []


def test_ratings_that_follow_length_are_told():
    items = tuple(Item(id=f"i{k}", text="long " * k, value="power") for k in range(1, 12))
    told = [answer(item.id, 0, 6 - len(item.text) / 20) for item in items]
    rows = {
        row["metric"]: row
        for row in quality(told, dataclasses.replace(INSTRUMENT, items=items), SYSTEM, 200, 0)
    }
    assert rows["length"]["value"] == pytest.approx(-1)
    assert rows["length"]["n"] == 11
