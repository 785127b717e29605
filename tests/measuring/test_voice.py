"""Mode `voice`: statements scored as the model's own words, held less reversed."""

import dataclasses

import numpy as np
import pytest
import torch

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from feature_store.progress import silent
from feature_store.records import Item
from sae_training.engine import scoring
from workbench.causal.effects import own_rank
from workbench.instruments.pvq.item_files import read_reversals
from workbench.instruments.standin import standin
from workbench.measuring import voice
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.questionnaire import open_instrument
from workbench.measuring.questions import prompt_of
from workbench.measuring.respondents import LocalRespondent
from workbench.measuring.reversal import reverse
from workbench.measuring.scored import ScoredQuestions
from workbench.study import Study

REVERSED = {
    "Wealth matters to me": "Wealth does not matter to me",
    "Old customs matter to me.": "Old customs do not matter to me.",
    "I like to be in charge": "I do not like to be in charge",
    "I am a faithful friend": "I am not a faithful friend",
    "Others can rely on me": "Others cannot rely on me",
    "Everyone should be treated justly": "Not everyone should be treated justly",
    "People should do as they are told": "People should not do as they are told",
    "It is important to her to be rich": "It is not important to her to be rich",
    "I want what is right": "I do not want what is right",
    "I like people who are kind": "I do not like people who are kind",
    "We need rules": "We do not need rules",
    "He tries to help": "He does not try to help",
    "She has to win": "She does not have to win",
    "It is important to him to be free. He likes choices.": (
        "It is not important to him to be free. He does not like choices."
    ),
}


@pytest.mark.parametrize(("statement", "expected"), REVERSED.items())
def test_a_statement_is_turned_round_by_rule(statement, expected):
    assert reverse(statement) == expected


@pytest.mark.parametrize(
    "statement",
    [
        "I never lie",
        "Nobody should steer me",
        "Blue",
        "",
        "I wanted it",
        "What counts is love",
        "People who are kind",
    ],
)
def test_what_is_negative_already_or_fits_no_rule_has_no_reversal(statement):
    assert reverse(statement) == ""


@pytest.mark.parametrize("name", ["standin", "standin19"])
def test_every_shipped_statement_has_a_reversal_of_its_own_topic(name):
    system = registry.get("values", {"standin": "schwartz10"}.get(name, "schwartz19"))
    items = open_instrument(name, (), system).instrument.items
    for item in items:
        assert item.reversal
        assert item.reversal != item.text
        shared = set(item.text.lower().split()) & set(item.reversal.lower().split())
        assert len(shared) >= 2, f"{item.text} / {item.reversal}"
        assert 0.6 < len(item.reversal) / len(item.text) < 1.7


def test_the_reversal_leaves_the_ids_of_other_runs_alone():
    item = Item("a", "I rest", "hedonism")
    assert repr(item) == repr(dataclasses.replace(item, reversal="I do not rest"))


def test_items_without_a_reversal_are_named():
    items = (Item("a", "I like it", "power"), Item("b", "Never mind", "power"))
    instrument = dataclasses.replace(standin(), items=items)
    with pytest.raises(
        BadInput, match=r"1 of 2 items of standin have no reversal.* b 'Never mind'"
    ):
        voice.reversible(instrument)


def test_an_instrument_of_choices_is_no_statement():
    choices = dataclasses.replace(standin(), answer="choice")
    with pytest.raises(BadInput, match="Mode voice needs statements"):
        voice.reversible(choices)


def test_an_unknown_open_question_is_named():
    with pytest.raises(NotFound, match="no open question 'matter'"):
        voice.voice_questions(standin(), chat=True, names=("matter",))


def by_hand(model, prompt, statement):
    """Log-probability per token of a statement after a prompt, by one plain forward pass."""
    before = model.tokenize([prompt], prompt=True)[0]
    text = statement if model.chat else f" {statement}"
    after = model.encode([text], special=False)[0]
    ids = torch.tensor([[*before, *after]])
    with torch.no_grad():
        logits = model.module(input_ids=ids).logits[0].double().log_softmax(-1)
    places = range(len(before) - 1, ids.shape[1] - 1)
    return float(np.mean([logits[at, ids[0, at + 1]].item() for at in places]))


def few(n=4):
    return dataclasses.replace(standin(), items=standin().items[:n])


def test_a_rating_is_held_less_reversed_by_hand(tmp_path):
    study = Study(tmp_path / "study")
    model = study.model("organism")
    asked = voice.voice_questions(few(), model.chat, ("matters", "person"), persona="I am calm.")
    responses = administer(
        LocalRespondent(model, tmp_path),
        few(),
        asked,
        "base",
        silent,
        Elicitation(mode="voice"),
    )
    for question, response in zip(asked, responses, strict=True):
        held, reverse_ = (
            by_hand(model, prompt_of(question, model.chat), text) for text in question.answers
        )
        assert response.rating == pytest.approx(held - reverse_, abs=1e-4)
        assert response.logprobs == pytest.approx((held, reverse_), abs=1e-4)


def test_one_statement_that_is_too_long_leaves_the_others(tmp_path):
    model = Study(tmp_path / "study").model("organism")
    first, second, third = standin().items[:3]
    long = dataclasses.replace(second, text=" ".join([second.text] * model.context))
    instrument = dataclasses.replace(standin(), items=(first, long, third))
    asked = voice.voice_questions(instrument, model.chat, ("matters",))
    responses = administer(
        LocalRespondent(model, tmp_path),
        instrument,
        asked,
        "base",
        silent,
        Elicitation(mode="voice"),
    )
    status = {response.item: response.status for response in responses}
    assert status == {first.id: "parsed", long.id: "too-long", third.id: "parsed"}


def test_a_sweep_scores_the_same_statements(tmp_path):
    model = Study(tmp_path / "study").model("organism")
    asked = voice.voice_questions(few(), model.chat, ("matters",))
    scored = ScoredQuestions.of(asked, model)
    logprobs = scoring.sweep(model, scored.prompts, scored.options).base.double().numpy()
    held = np.array([by_hand(model, asked[0].prompt, q.answers[0]) for q in asked])
    against = np.array([by_hand(model, asked[0].prompt, q.answers[1]) for q in asked])
    np.testing.assert_allclose(scored.ratings(logprobs), held - against, atol=1e-4)
    np.testing.assert_allclose(scored.topics(logprobs), (held + against) / 2, atol=1e-4)


def test_what_raises_both_alike_is_topic_and_not_held():
    class Tokens:
        chat = True

        def encode(self, texts, special):
            return [text.split() for text in texts]

    asked = voice.voice_questions(few(), True, ("matters",))
    scored = ScoredQuestions.of(asked, Tokens())
    base = np.zeros((len(asked), 2))
    pushed = base + 0.3 * scored.lengths  # 0.3 nats a token more, whichever the stance
    assert scored.ratings(pushed) == pytest.approx(scored.ratings(base))
    assert scored.topics(pushed) - scored.topics(base) == pytest.approx(np.full(len(asked), 0.3))


def test_a_reverse_keyed_item_is_turned_round():
    class Tokens:
        chat = True

        def encode(self, texts, special):
            return [["x"] for _ in texts]

    item = Item("a", "I hate change", "stimulation", key=-1, reversal="I love change")
    instrument = dataclasses.replace(standin(), items=(item,))
    scored = ScoredQuestions.of(voice.voice_questions(instrument, True, ("matters",)), Tokens())
    assert scored.ratings(np.array([[-1.0, -3.0]])) == pytest.approx([-2.0])


def test_a_profile_in_voice_is_relative_to_a_request_without_opinion(tmp_path):
    study = Study(tmp_path / "study")
    run = study.measure(model="organism", mode="voice", wordings=("matters", "person"))
    rows = study.store.sql(
        "SELECT item, steering, rating, logprobs FROM responses WHERE run = ? AND wording <> 'x'",
        [run.id],
    )
    reference = rows[rows.steering == "reference"].set_index("item").rating
    of_base = rows[rows.steering == "base"]
    raw = of_base.logprobs.map(lambda both: both[0] - both[1])
    expected = raw - of_base.item.map(reference)
    np.testing.assert_allclose(of_base.rating, expected, atol=1e-9)
    topics = study.store.sql("SELECT count(*) AS n FROM topics WHERE run = ?", [run.id]).n[0]
    reversals = study.store.sql("SELECT source FROM reversals WHERE run = ?", [run.id]).source
    assert topics == 10
    assert list(reversals.unique()) == ["given"]
    assert len(reversals) == 40
    assert study.measure(model="organism", mode="voice", wordings=("matters", "person")) == run
    assert run.id != study.measure(model="organism", mode="voice", wordings=("matters",)).id


def test_the_rank_of_the_own_value_is_one_where_each_moves_itself_most():
    assert own_rank(np.eye(4), np.arange(4)) == 1.0
    assert own_rank(-np.eye(4), np.arange(4)) == 0.0
    noise = np.random.default_rng(0).normal(size=(400, 10, 10))
    ranks = [own_rank(matrix, np.arange(10)) for matrix in noise]
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.02)


def test_the_column_reversal_of_a_file_of_items_is_read(tmp_path):
    file = tmp_path / "items.csv"
    file.write_text("number,text,reversal\n1,I lead,I follow\n2,I rest,\n", encoding="utf-8")
    assert read_reversals(file) == {1: "I follow"}


def test_an_ordinal_regression_refuses_what_is_on_no_scale(tmp_path):
    study = Study(tmp_path / "study")
    study.measure(model="organism", mode="voice", wordings=("matters",))
    with pytest.raises(BadInput, match="asked in mode voice, whose ratings are on no scale"):
        study.ordinal()


def test_a_sum_over_tokens_is_refused(tmp_path):
    with pytest.raises(BadInput, match="counts log-probabilities per token"):
        Study(tmp_path / "study").measure(model="organism", mode="voice", length="sum")
