import numpy as np
import pytest

from feature_store.errors import NotFound
from feature_store.records import Instrument, Item, Response
from workbench.measure import centre, expected_ratings, per_context, questions, read_answer

ITEMS = (Item("a", "I lead.", "power"), Item("b", "I follow.", "power", -1), Item("c", "I help.", "benevolence"))
INSTRUMENT = Instrument(
    "tiny", "Tiny", ITEMS, tuple("123456"), (("plain", "{item} :"), ("scale", "1 {low} 6 {high}\n{item}")), "schwartz10", "", ""
)  # fmt: skip


def answer(value, context, rating, status="parsed"):
    return Response("x", value, context, "plain", "ascending", 0, "base", "", (), rating, status)


def test_only_a_wording_that_names_its_ends_is_turned_round():
    asked = questions(INSTRUMENT, ["It rains.", ""], ["plain", "scale"])
    assert len(asked) == 2 * 3 * (1 + 2)
    assert asked[0].prompt == "It rains. I lead. :"
    turned = [q for q in asked if q.order == "descending"]
    assert {q.wording for q in turned} == {"scale"}
    assert turned[0].prompt == "It rains.\n1 very much like me 6 not like me at all\nI lead."
    with pytest.raises(NotFound, match="Did you mean 'plain'"):
        questions(INSTRUMENT, [""], ["plan"])


def test_expected_ratings_put_keys_and_orders_right():
    asked = questions(INSTRUMENT, [""], ["scale"])
    sure_of_six = np.full((len(asked), 6), -50.0)
    sure_of_six[:, 5] = 0
    told = dict(zip([(q.item.id, q.order) for q in asked], expected_ratings(sure_of_six, asked), strict=True))
    assert told["a", "ascending"] == pytest.approx(6)
    assert told["a", "descending"] == pytest.approx(1)
    assert told["b", "ascending"] == pytest.approx(1)  # reverse-keyed
    assert told["b", "descending"] == pytest.approx(6)
    even = expected_ratings(np.zeros((4, len(asked), 6)), asked)
    assert even == pytest.approx(np.full((4, len(asked)), 3.5))


@pytest.mark.parametrize(
    ("text", "rating", "status"),
    [
        (" 4", 4, "parsed"), ("Answer: 6.", 6, "parsed"), ("I would say 3 because", 3, "parsed"),
        ("I'm sorry, as an AI I cannot", None, "refused"), ("maybe", None, "unparsed"), ("10", None, "unparsed"),
        ("4.5", None, "unparsed"), ("", None, "unparsed"),
    ],
)  # fmt: skip
def test_answers_are_read_or_kept_as_data(text, rating, status):
    got, how = read_answer(text, INSTRUMENT.options)
    assert how == status
    assert got == rating if rating else np.isnan(got)


def test_missing_answers_never_enter_a_mean():
    told = [answer("power", 0, 2.0), answer("power", 0, float("nan"), "refused"), answer("benevolence", 0, 6.0), answer("power", 1, float("nan"), "unparsed")]
    raw = per_context(told, ["power", "benevolence"])
    assert raw[0].tolist() == [2.0, 6.0]
    assert np.isnan(raw[1]).all()
    assert centre(raw, told)[0].tolist() == [-2.0, 2.0]  # MRAT is the mean of all items: (2 + 6) / 2
