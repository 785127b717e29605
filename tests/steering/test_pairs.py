"""Pairs differ in the value alone, or are refused with a reason; probes of them find what was
planted."""

import json

import numpy as np
import pandas as pd
import pytest

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from tests.helpers.endpoints import Short
from workbench import organism
from workbench.steering import pairs, probes
from workbench.steering.pairs import ValuePair

SYSTEM = registry.get("values", "schwartz10")
PLACES = ("market", "harbour", "library", "station", "bakery")


def controlled(n=10):
    acts = [("shared", "hid"), ("carried", "dropped"), ("guided", "misled"), ("praised", "mocked")]
    return [
        ValuePair(
            value="benevolence",
            held=(
                f"At the {PLACES[i % 5]} my neighbour stood waiting, and I {acts[i % 4][0]} the"
                " basket with her."
            ),
            opposed=(
                f"At the {PLACES[i % 5]} my neighbour stood waiting, and I {acts[i % 4][1]} the"
                " basket with her."
            ),
            context=f"c{i}",
        )
        for i in range(n)
    ]


def test_controlled_pairs_are_kept():
    assert not any(pair.reason for pair in pairs.check(controlled()))
    made = pairs.check(pairs.of_organism(60, 1))
    assert sum(bool(pair.reason) for pair in made) <= 0.02 * len(made)


def test_pairs_that_differ_in_more_than_the_value_are_refused_with_the_reason():
    strange = ValuePair(
        value="benevolence",
        held="At the market my neighbour stood waiting, and I shared the basket with her.",
        opposed="We drove through fog until the engine failed near a bridge.",
        context="x",
    )
    topic = ValuePair(
        value="benevolence",
        held="At the market my neighbour stood waiting, and I shared the basket with her.",
        opposed="At the harbour my neighbour stood waiting, and I hid the basket with her.",
        context="y",
    )
    same = ValuePair(value="benevolence", held="I shared it.", opposed="I shared it.", context="z")
    told = pairs.check([*controlled(40), strange, topic, same])
    assert [pair.reason for pair in told[:40]] == [""] * 40
    assert told[40].reason.startswith("only 0.00 of the content words")
    assert told[41].reason == "context words on one side alone: harbour, market"
    assert told[42].reason == "both texts are the same"
    with pytest.raises(BadInput, match=r"\d+ of 300 pairs differ in more than the value"):
        pairs.check(pairs.of_organism(30, 0, controlled=False))


def test_a_table_is_read_in_any_spelling(tmp_path):
    file = tmp_path / "pairs.csv"
    pairs.write(
        [
            *controlled(3),
            ValuePair(value="power", held="a", opposed="b", context="c", reason="refused"),
        ],
        file,
    )
    assert pairs.read(str(file), SYSTEM) == controlled(3)
    pd.DataFrame({"value": ["Self-Direction: Thought"], "text": ["a"], "opposed": ["b"]}).to_json(
        tmp_path / "p.jsonl", orient="records", lines=True
    )
    assert pairs.read(str(tmp_path / "p.jsonl"), SYSTEM) == [
        ValuePair(value="self-direction", held="a", opposed="b", context="pair 1")
    ]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ({"value": ["power"], "text": ["a"]}, BadInput, "lacks opposed"),
        ({"value": ["power"], "text": ["a"], "opposed": [""]}, BadInput, "line 2"),
        ({"value": ["powr"], "text": ["a"], "opposed": ["b"]}, NotFound, "Did you mean"),
        ({"value": [], "text": [], "opposed": []}, BadInput, "no pair"),
    ],
)
def test_a_bad_table_gets_one_line(tmp_path, rows, error, message):
    pd.DataFrame(rows).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(error, match=message) as caught:
        pairs.read(str(tmp_path / "p.csv"), SYSTEM)
    assert "\n" not in str(caught.value)


CONVA = [
    (
        '"As head of the team, I took the final decision myself and won the market from rivals."',
        "As head of the team, I let others decide, stepping back so that everybody had a say.",
    ),
    (
        "How can I use my position to sway the board and secure my authority?",
        "How can I step back so that the board's choice reflects what all of us think?",
    ),
]
"""Pairs as ConVA's authors write them: the situation is shared, the words hardly are."""


def test_convas_own_files_load_as_they_are(tmp_path):
    for value in ("power", "self-direction"):
        file = tmp_path / f"{value}_context_controlled.csv"
        pd.DataFrame(CONVA, columns=["question_1", "question_2"]).to_csv(file, index=False)
    told = pairs.read(str(file), SYSTEM)
    assert [(pair.value, pair.held, pair.opposed, pair.context) for pair in told] == [
        ("self-direction", CONVA[0][0].strip('"'), CONVA[0][1], "pair 1"),
        ("self-direction", *CONVA[1], "pair 2"),
    ]
    # A folder of them is one table: a file a value.
    both = pairs.read(str(tmp_path), SYSTEM)
    assert [pair.value for pair in both] == ["power"] * 2 + ["self-direction"] * 2
    assert len({pair.context for pair in both}) == 4
    assert pairs.sharing_less(told, 0.3) == 2
    assert not any(pair.reason for pair in pairs.check(told, 0.0))
    with pytest.raises(BadInput, match="2 of 2 pairs differ in more than the value"):
        pairs.check(told, 0.3)


@pytest.mark.parametrize("name", ["pairs.csv", "power_hedonism.csv"])
def test_a_value_that_neither_column_nor_name_says_is_refused(tmp_path, name):
    pd.DataFrame(CONVA, columns=["question_1", "question_2"]).to_csv(tmp_path / name, index=False)
    with pytest.raises(BadInput, match="has no column value, and its name says"):
        pairs.read(str(tmp_path / name), SYSTEM)


class Scripted:
    """Writes a good pair, then one with another topic, then no pair at all."""

    name = "scripted"

    def chat(self, conversations, *, max_new_tokens=256, temperature=0.0, seed=0):
        out = []
        for number, (message,) in enumerate(conversations):
            assert "equally long" in message.content
            if number % 5 == 4:
                out.append("I would rather not." if number % 2 else '{"held": "only one"}')
                continue
            other = (
                "fled from a storm over distant mountains"
                if number % 5 == 3
                else "kept the watch on the old bridge"
            )
            out.append(
                "Sure:\n"
                + json.dumps(
                    {
                        "held": "I gladly kept the watch on the old bridge",
                        "opposed": f"I sadly {other}",
                    }
                )
            )
        return out


def test_a_language_model_writes_pairs_and_failures_are_kept():
    told = pairs.by_llm(
        Scripted(), SYSTEM, ["power", "security"], [f"scene {i}" for i in range(10)]
    )
    assert len(told.pairs) == 16
    assert len(told.unparsed) == 4
    assert {pair.value for pair in told.pairs} == {"power", "security"}
    checked = pairs.check(told.pairs)
    assert sum(bool(pair.reason) for pair in checked) == 4


def test_a_request_longer_than_the_model_reads_is_counted():
    llm = Short(
        lambda q: json.dumps(
            {"held": "I gladly kept the watch", "opposed": "I sadly kept the watch"}
        ),
        2000,
    )
    told = pairs.by_llm(llm, SYSTEM, ["power"], ["at sea", "at sea " * 400, "at home"])
    assert ([pair.context for pair in told.pairs], told.unparsed, told.too_long) == (
        ["at sea", "at home"],
        [],
        1,
    )


def planted(rng, n, d, size, confound=0.0):
    """Residuals of pairs with a value along axis 0 and a topic along axis 1, on the held side
    with probability `confound`.
    """
    noise = rng.normal(size=(2, n, d))
    noise[0, :, 0] += size
    noise[1, :, 0] -= size
    noise[0, :, 1] += 4 * (rng.random(n) < confound)
    return noise[0][:, None], noise[1][:, None]


def fit(held, opposed, layer=0, eligible=True):
    """Probes of one layer; every pair has a context of its own."""
    contexts = [str(number) for number in range(len(held))]
    texts = probes.ProbeTexts("power", held, opposed, contexts, length_auroc=0.5)
    return probes.fit(texts, probes.FitOptions(layers=[layer], eligible=[eligible]))


def test_a_planted_direction_is_found_by_both_kinds():
    held, opposed = planted(np.random.default_rng(0), 200, 32, 2.0)
    told = fit(held, opposed, 7)
    assert told.weight[0, 0] / np.linalg.norm(told.weight[0]) > 0.9
    assert told.means[0, 0] / np.linalg.norm(told.means[0]) > 0.9
    (probe,) = told.probes
    assert probe.layer == 7
    assert probe.chosen
    assert probe.n == 60
    assert probe.low < probe.accuracy <= probe.high
    assert abs(probe.control - 0.5) < 0.2, "sides swapped at random cannot be told"
    again = fit(held, opposed, 7)
    assert np.array_equal(again.weight, told.weight)


def test_noise_has_no_probe_and_the_last_layers_are_not_chosen():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(2, 100, 1, 16))
    none = fit(noise[0], noise[1]).probes[0]
    assert none.low < 0.5 < none.high
    assert not none.chosen
    held, opposed = planted(rng, 60, 8, 3.0)
    assert not fit(held, opposed, eligible=False).probes[0].chosen
    assert [probes.skipped(n) for n in (4, 12, 26, 40)] == [1, 3, 5, 5]


def test_contexts_are_never_split():
    contexts = [f"c{i // 5}" for i in range(100)]
    apart = probes.held_out(contexts, 3)
    assert apart.sum() == 30
    assert not {c for c, a in zip(contexts, apart) if a} & {
        c for c, a in zip(contexts, apart) if not a
    }
    with pytest.raises(BadInput, match="at least 10 contexts"):
        probes.held_out(["a", "b"] * 30, 0)


def test_a_topic_on_one_side_bends_the_probe():
    rng = np.random.default_rng(2)
    cosine = {}
    for confound in (0.0, 0.7):
        held, opposed = planted(rng, 200, 32, 1.0, confound)
        weight = fit(held, opposed).weight[0]
        cosine[confound] = weight[0] / np.linalg.norm(weight)
    assert cosine[0.7] < 0.85 < cosine[0.0]


def test_lbfgs_and_saga_reach_the_same_minimum():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(120, 12))
    y = x[:, 0] + 0.5 * rng.normal(size=120) > 0
    ours, paper = (probes.logistic(x, y, solver, 1e-8) for solver in ("lbfgs", "saga"))
    np.testing.assert_allclose(ours[0], paper[0], atol=1e-4)
    assert ours[1] == pytest.approx(paper[1], abs=1e-4)


def test_length_alone_and_wilson():
    assert probes.length_auroc([5, 6, 7], [1, 2, 3]) == 1.0
    assert probes.length_auroc([5, 5], [5, 5]) == 0.5
    assert probes.length_auroc([1, 4], [2, 3]) == 0.5
    assert probes.wilson(0.5, 100) == pytest.approx(
        (0.4038, 0.5962), abs=1e-4
    )  # R: binom::binom.wilson(50, 100)
    low, high = probes.wilson(1.0, 25)
    assert high == pytest.approx(1.0)
    assert low == pytest.approx(0.8668, abs=1e-4)


def test_controlled_pairs_of_the_organism_differ_in_one_sentence():
    for pair in organism.value_pairs(6, 0):
        held, opposed = (text.rstrip(".").split(". ") for text in (pair.held, pair.opposed))
        assert len(held) == len(opposed)
        assert sum(a != b for a, b in zip(held, opposed)) == 1


@pytest.mark.parametrize("controlled", [True, False])
def test_a_confound_puts_the_topic_of_the_value_on_one_side(controlled):
    for chance in (0.0, 0.7):
        own = [p for p in organism.value_pairs(100, 0, controlled, chance) if p.value == "power"]
        held, opposed = (
            np.mean(["office" in text for text in texts])
            for texts in ([p.held for p in own], [p.opposed for p in own])
        )
        assert held - opposed == pytest.approx(chance, abs=0.12)
