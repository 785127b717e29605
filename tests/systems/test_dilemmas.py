"""Dilemmas in steps: how they are read, asked and counted, against agents whose choices are
planted."""

import copy
import dataclasses
import json
import re
import warnings

import numpy as np
import pytest
from scipy import stats

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from tests.measuring.test_measure import Scripted, silent
from workbench import organism
from workbench.command.cli import main
from workbench.instruments.moral_dilemmas import metrics
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.questionnaire import open_instrument
from workbench.measuring.questions import prompt_of, questions
from workbench.organism.generate import behaviour
from workbench.organism.planted import planted_language
from workbench.study import Study
from workbench.systems.value_pilot.dilemmas import leaked, pairs
from workbench.verbs import dilemmas as verb

TEN, SIX = registry.get("values", "schwartz10"), registry.get("values", "moral-foundations")


def opened(file, system=TEN, memory="full"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_instrument("moral-dilemmas", (f"items={file}", f"memory={memory}"), system)


def choose(ready, prefer, mode="logprob"):
    """Answers of an agent that takes the option whose value `prefer` gives."""

    def say(q):
        values = [option.scores[0][0] for option in q.item.options]
        return q.answers[values.index(prefer(q, *values))]

    asked = questions(ready.instrument, [""], ready.plugin.wordings(ready.instrument, False))
    return administer(
        Scripted(say=say),
        ready.instrument,
        asked,
        "base",
        silent,
        elicitation=Elicitation(mode=mode),
    )


def first(order):
    return lambda q, a, b: min(a, b, key=order.index)


@pytest.fixture
def released(shared):
    folder = shared / "data" / "mmd" / "MMDs"
    return opened(folder / "MMDs_Schwartz.json"), opened(folder / "MMDs_MFT.json", SIX)


def test_released_choices_always_differ_and_steps_follow_each_other(released):
    ten, six = released
    # 25 moral-foundation dilemmas are released, five of them twice, word for word.
    assert [len(ready.instrument.items) for ready in released] == [26 * 5, 20 * 5]
    for ready in released:
        assert set(metrics.steps(ready.instrument).values()) == {1, 2, 3, 4, 5}
        for item in ready.instrument.items:
            a, b = item.options
            assert a.scores != b.scores
            assert a.text != b.text


def test_a_benevolence_first_agent_is_found_out(released):
    ten, _ = released
    told = choose(
        ten, first(["benevolence", *(v for v in TEN.ids if v != "benevolence")]), mode="generate"
    )
    counted = metrics.tally(told, ten.instrument, TEN)
    rows = [
        row
        for row in metrics.step_preferences(counted, "base", 200, 0)
        if row["value"] == "benevolence"
    ]
    assert [row["preference"] for row in rows] == [0.5] * 5
    assert all(row["n"] >= 10 and row["low"] > 0.2 and row["high"] == 0.5 for row in rows), (
        "Wilson's interval: fewer than all dilemmas were seen"
    )
    assert metrics.transitivity(counted, "base", 200, 0)["cycles"] == 0
    wins = [
        row for row in metrics.win_rates(counted, "base", 200, 0) if row["value"] == "benevolence"
    ]
    assert wins
    assert all(row["rate"] == 1 for row in wins if row["n"] >= metrics.FEWEST)
    assert all(np.isnan(row["rate"]) for row in wins if row["n"] < metrics.FEWEST), (
        "too few dilemmas are shown as n alone"
    )
    strengths = {
        row["value"]: row["strength"] for row in metrics.strengths(counted, "base", 200, 0)
    }
    assert (
        max((v for v in strengths if np.isfinite(strengths[v])), key=strengths.get) == "benevolence"
    )
    profile = {
        row.value: row.mean
        for row in ten.plugin.score(told, ten.instrument, TEN, 200, 0)
        if row.centred
    }
    assert profile["benevolence"] == 0.5


def test_rock_paper_scissors_is_one_cycle(released):
    ten, _ = released
    beats = {("benevolence", "conformity"), ("conformity", "security"), ("security", "benevolence")}
    order = [
        "benevolence",
        "conformity",
        "security",
        *(v for v in TEN.ids if v not in ("benevolence", "conformity", "security")),
    ]

    def prefer(q, a, b):
        return a if (a, b) in beats else b if (b, a) in beats else first(order)(q, a, b)

    found = metrics.transitivity(
        metrics.tally(choose(ten, prefer), ten.instrument, TEN), "base", 200, 0
    )
    assert found["cycles"] == 1
    assert found["found"] == ["security > benevolence > conformity > security"]
    assert found["triads"] >= 1
    assert found["chance"] == found["triads"] / 4


def test_cycles_of_coins_are_those_of_coins_among_dilemmas_drawn_anew(released):
    """Ties break no cycle: where coins decide, dilemmas drawn anew have as many cycles as coins."""
    rng, inside = np.random.default_rng(5), 0
    for _ in range(10):
        coins = {item.id: int(rng.integers(2)) for item in released[0].instrument.items}
        told = choose(released[0], lambda q, a, b, coins=coins: (a, b)[coins[q.item.id]])
        found = metrics.transitivity(
            metrics.tally(told, released[0].instrument, TEN), "base", 200, 0
        )
        inside += found["low"] <= found["chance"] <= found["high"]
    assert inside >= 8


def test_a_coin_stays_inside_binomial_bands(released):
    rng = np.random.default_rng(3)
    for ready, system in zip(released, (TEN, SIX), strict=True):
        coins = {item.id: int(rng.integers(2)) for item in ready.instrument.items}
        told = choose(ready, lambda q, a, b, coins=coins: (a, b)[coins[q.item.id]])
        outside = cells = 0
        for row in metrics.step_preferences(
            metrics.tally(told, ready.instrument, system), "base", 500, 0
        ):
            if row["n"] >= metrics.FEWEST:
                low, high = stats.binom.interval(0.95, row["n"], 0.5)
                outside += not low <= (row["preference"] + 0.5) * row["n"] <= high
                cells += 1
        assert cells > 10
        assert outside <= stats.binom.ppf(0.999, cells, 0.05)


def test_full_prompts_hold_all_that_went_before(released):
    ten, _ = released
    items = {item.id: item for item in ten.instrument.items}
    asked = questions(ten.instrument, [""], ["choose"])
    prompts = {}
    for memory in ("full", "causal", "none"):
        who = Scripted(say=lambda q: "B")
        ready = opened_like(ten, memory)
        administer(who, ready.instrument, asked, "base", silent)
        prompts[memory] = {
            (q.item.id, q.order): (q, prompt_of(q, chat=False), prompt_of(q, chat=True))
            for q in who.heard
        }
    last = next(item for item in ten.instrument.items if item.id.endswith("-5"))
    earlier = [items[f"{last.group}-{step}"] for step in range(1, 5)]
    for order in ("ascending", "descending"):
        _, text, chat = prompts["full"][last.id, order]
        places = [text.index(item.text) for item in (*earlier, last)]
        assert places == sorted(places), "every situation, in order"
        for item in earlier:
            said = item.options[1 if order == "ascending" else 0].text
            assert f"B. {said}" in [m["content"] for m in chat if m["role"] == "assistant"]
            assert text.count(said) == 2, "offered, and then chosen"
        assert [m["role"] for m in chat] == ["user", "assistant"] * 4 + ["user"]
        _, text, chat = prompts["causal"][last.id, order]
        assert not any(item.text in text for item in earlier)
        said = [f"B. {item.options[1 if order == 'ascending' else 0].text}" for item in earlier]
        assert [m["role"] for m in chat] == ["user"], (
            "many chat templates refuse answers without questions"
        )
        assert chat[0]["content"].startswith(
            "\n".join(["What you answered before:", *said, "", last.text])
        )
        assert prompts["none"][last.id, order][1] == prompts["none"][last.id, order][0].prompt


def opened_like(ready, memory):
    return dataclasses.replace(
        ready, instrument=dataclasses.replace(ready.instrument, memory=memory)
    )


# ---- reading
# --------------------------------------------------------------------------------------------------


def spoiled(change):
    told = organism.dilemmas(3, 0)
    change(told)
    return told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t[1].pop("step 3_situation"),
            "dilemma o0001, step 3: `step 3_situation` is missing",
        ),
        (lambda t: t[1].pop("step 2_choiceB_value"), "step 2: `step 2_choiceB_value` is missing"),
        (lambda t: t[0].update({"step 1_choiceA": 7}), "`step 1_choiceA` is no text"),
        (
            lambda t: t[0].update({"step 1_choiceA_value": t[0]["step 1_choiceB_value"]}),
            "both choices carry",
        ),
        (
            lambda t: t[0].update({"step 1_choiceA": t[0]["step 1_choiceB"]}),
            "both choices are the same text",
        ),
        (
            lambda t: t[2].update({"step 5_choiceA_value": "wisdom"}),
            "dilemma o0002, step 5: 'wisdom' is not a value of schwartz10",
        ),
        (lambda t: t[2].update({"idx": "o0001"}), "two different dilemmas of idx o0001"),
        (lambda t: t[2].pop("idx"), "dilemma 3 of the list has no `idx`"),
        (
            lambda t: [t[0].pop(key) for key in list(t[0]) if key.startswith("step 2")],
            "without a gap, got 1, 3, 4, 5",
        ),
        (lambda t: t.clear(), "at least one"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, change, said):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(spoiled(change)), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        opened(file)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_encodings_and_absent_files(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(organism.dilemmas(2, 0)), encoding="utf-8-sig")
    assert len(opened(file).instrument.items) == 10
    file.write_bytes(json.dumps([{"idx": "Zwölf"}], ensure_ascii=False).encode("latin-1"))
    with pytest.raises(BadInput, match="is not UTF-8 text"):
        opened(file)
    with pytest.raises(NotFound, match="no file"):
        opened(tmp_path / "absent.json")
    with pytest.raises(BadInput, match="items=FILE"):
        open_instrument("moral-dilemmas", (), TEN)


def test_a_dilemma_that_stands_twice_is_asked_once_and_said(tmp_path):
    told = organism.dilemmas(2, 0)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([*told, copy.deepcopy(told[0])]), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"1 of its dilemmas twice, word for word \(o0000\)"):
        ready = open_instrument("moral-dilemmas", (f"items={file}",), TEN)
    assert len(ready.instrument.items) == 10


# ---- counting
# --------------------------------------------------------------------------------------------------


def test_in_the_organisms_dilemmas_every_two_values_meet_once_a_step():
    ready = opened("organism")
    counted = metrics.tally(choose(ready, lambda q, a, b: a), ready.instrument, TEN)
    assert (counted.offered.sum(0) == 18).all(), "nine others at each step, in both orders"
    met = counted.wins + counted.wins.transpose(0, 2, 1)
    assert (met.sum(0) == 10 * (1 - np.eye(10))).all()
    assert met.max() == 2, "no pair comes back within a dilemma"


def test_a_bias_to_the_first_place_cancels():
    ready = opened("organism")
    asked = questions(ready.instrument, [""], ["choose"])
    told = administer(Scripted(say=lambda q: "A"), ready.instrument, asked, "base", silent)
    rows = metrics.step_preferences(metrics.tally(told, ready.instrument, TEN), "base", 200, 0)
    assert {row["preference"] for row in rows} == {0.0}
    assert all(row["low"] < -0.2 and row["high"] > 0.2 for row in rows), "no spread is no certainty"


def test_what_is_missing_is_counted_and_does_not_enter():
    ready = opened("organism")
    asked = questions(ready.instrument, [""], ["choose"])
    told = administer(
        Scripted(say=lambda q: "I cannot say." if q.item.group == "o0000" else "A"),
        ready.instrument,
        asked,
        "base",
        silent,
        elicitation=Elicitation(mode="generate"),
    )
    counted = metrics.tally(told, ready.instrument, TEN)
    assert counted.missing.sum() == 5 * 2 * 2
    assert counted.offered.sum() == 44 * 5 * 2 * 2
    assert sum(row["missing"] for row in metrics.step_preferences(counted, "base", 200, 0)) == 20


def test_the_interval_of_a_rate_covers():
    """Clusters of unequal sizes whose rates differ: the ratio of sums lies in 93 to 97 of 100
    intervals.
    """
    rng, hits = np.random.default_rng(0), 0
    for seed in range(400):
        size = rng.integers(1, 9, 30).astype(float)
        hit = rng.binomial(size.astype(int), rng.beta(4, 4, 30)).astype(float)
        found = metrics.rates(hit[:, None], size[:, None], 400, seed)
        hits += bool(found.low[0] <= 0.5 <= found.high[0])
    assert 0.92 <= hits / 400 <= 0.98


def test_strengths_are_recovered():
    rng, true = np.random.default_rng(0), np.array([1.0, 0.5, 0.0, -0.5, -1.0])
    odds = 1 / (1 + np.exp(true[None] - true[:, None]))
    wins = np.triu(rng.binomial(4000, odds), 1).astype(float)
    wins += np.tril((4000 - wins).T, -1)
    np.testing.assert_allclose(metrics.bradley_terry(wins[None])[0], true, atol=0.06)
    certain = np.triu(np.full((3, 3), 9.0), 1)
    assert np.isfinite(metrics.bradley_terry(certain[None])).all(), (
        "one who always wins has a finite strength"
    )


def test_ranks_of_two_models_agree_as_planted():
    ready = opened("organism")
    order = list(TEN.ids)
    one, same, other = (
        metrics.tally(choose(ready, first(told)), ready.instrument, TEN)
        for told in (order, order, order[::-1])
    )
    assert [row["rho"] for row in metrics.rank_agreement(one, same, 200, 0)] == pytest.approx(
        [1.0] * 5
    )
    rows = metrics.rank_agreement(one, other, 200, 0)
    assert [row["rho"] for row in rows] == pytest.approx([-1.0] * 5)
    assert all(row["n"] == 10 and row["low"] <= row["rho"] <= row["high"] for row in rows)


def test_other_items_have_no_steps():
    from workbench.instruments.standin import standin

    with pytest.raises(BadInput, match="no choice between two values"):
        metrics.tally([], standin(), TEN)


# ---- the organism
# --------------------------------------------------------------------------------------------------


def texts_of(leaning, n, seed):
    """`n` texts of one who holds and rejects what `leaning` says, each by other behaviours."""
    rng, rows = np.random.default_rng(seed), {}
    for row, facet in enumerate(planted_language().truth.facets):
        rows.setdefault(facet.value, []).append(row)
    return [
        " ".join(
            rng.permutation(
                [
                    behaviour(rng, int(rng.choice(rows[value])), sign, hedged=False).text
                    for value, sign in leaning.items()
                ]
            )
        )
        for _ in range(n)
    ]


def test_the_organism_chooses_what_follows_from_its_text(tmp_path):
    """What a text leans to and what follows from it through the planted graph; what it leans to
    alone explains less.
    """
    leaning = dict.fromkeys(("power", "achievement", "security"), 1) | dict.fromkeys(
        ("universalism", "benevolence", "self-direction"), -1
    )
    (tmp_path / "contexts.txt").write_text("\n".join(texts_of(leaning, 4, 0)), encoding="utf-8")
    study = Study(tmp_path / "study")
    common = {
        "model": "organism",
        "instrument": "moral-dilemmas",
        "contexts": str(tmp_path / "contexts.txt"),
        "length": "sum",
        "replicates": 200,
    }
    run = study.measure(settings=("items=organism", "memory=none", "n=9"), n_contexts=4, **common)
    found = study.store.sql(
        "SELECT value, mean FROM profiles WHERE run = ? AND centred", [run.id]
    ).set_index("value")["mean"]
    held, truth = (
        np.array([leaning.get(value, 0) for value in organism.truth().values]),
        organism.truth(),
    )
    chosen = found.loc[list(truth.values)]
    follows = np.corrcoef(held @ truth.effects, chosen)[0, 1]
    assert follows >= 0.95
    assert follows > np.corrcoef(held, chosen)[0, 1]
    told = study.measure(settings=("items=organism", "memory=full", "n=2"), n_contexts=1, **common)
    counts = (
        study.store.sql("SELECT run, count(*) n FROM step_preferences GROUP BY run")
        .set_index("run")
        .n
    )
    assert counts.to_dict() == {run.id: 50, told.id: 50}
    assert len(study.store.sql("SELECT * FROM transitivity")) == 2


def test_models_are_compared_step_by_step(tmp_path):
    """A model has the ranks of itself, read from what is stored of both."""
    study = Study(tmp_path / "study")
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(organism.dilemmas(25, 1, 1)), encoding="utf-8")
    run = study.contrast(
        subjects=("organism", str(organism.folder())),
        instruments=("moral-dilemmas",),
        settings=(f"moral-dilemmas.items={file}",),
        contexts="none",
        replicates=200,
        wordings=("own",),
    )
    rows = study.store.sql("SELECT * FROM step_agreement WHERE run = ? ORDER BY step", [run.id])
    assert rows.step.tolist() == [1]
    assert rows.reference.tolist() == ["organism"]
    assert rows.rho.tolist() == pytest.approx([1.0])
    assert (rows.n >= 3).all()


# ---- writing
# --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Writer:
    """Writes and reads as a script says: dilemma 1 leaks a value, 2 is refused, 3 is no JSON, 4
    is not what was meant. Breaks down after `calls`.
    """

    calls: int = 1000
    name: str = "writer"
    made: int = 0

    def chat(self, conversations, *, max_new_tokens=256, temperature=0.0, seed=0):
        return [self.answer(conversation[-1].content, seed) for conversation in conversations]

    def answer(self, prompt, seed):
        if self.calls == 0:
            raise ConnectionError("gone")
        self.calls -= 1
        self.made += 1
        if prompt.startswith("Here is"):
            meant = re.findall(r"\((\w[\w-]*)\)", prompt.split("\n\nWhich one")[0])
            if "story 4 " in prompt:
                meant = meant[::-1]
            return json.dumps(
                {"values": [list(pair) for pair in zip(meant[::2], meant[1::2], strict=True)]}
            )
        if seed == 2:
            return "I'm sorry, I cannot write that."
        if seed == 3:
            return "Once upon a time"
        named = {value.name: value.id for value in TEN.values}
        meant = [
            named[name]
            for name in re.findall(r"(?:choice A stands for|choice B for) ([A-Z][\w-]+) \(", prompt)
        ]
        steps = [
            {
                "situation": f"This is story {seed} at {k}.",
                "dilemma": "What now?" + (" It gives power." if seed == 1 else ""),
                "choiceA": f"I do one thing ({a}).",
                "choiceB": f"I do the other ({b}).",
            }
            for k, (a, b) in enumerate(zip(meant[::2], meant[1::2], strict=True))
        ]
        return "```json\n" + json.dumps({"norm": "One should help.", "steps": steps}) + "\n```"


def test_dilemmas_are_written_read_blind_filtered_and_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "workbench.systems.value_pilot.dilemmas.leaks",
        lambda scenario, system: tuple(
            "power" for a in scenario.actions if "gives power" in a.text
        ),
    )
    study = Study(tmp_path / "study")
    config = verb.DilemmasSettings(n=7, steps=3)
    with pytest.raises(ConnectionError):
        verb.run(study, config, silent, Writer(calls=9))
    writer = Writer()
    run = verb.run(study, config, silent, writer)
    assert writer.made == 7 + 5 - 9, "what was answered before is not asked again"
    rows = study.store.sql("SELECT * FROM dilemmas ORDER BY number")
    assert rows.status.tolist() == [
        "parsed",
        "parsed",
        "refused",
        "unparsed",
        "parsed",
        "parsed",
        "parsed",
    ]
    assert rows.passed.tolist() == [True, False, False, False, False, True, True]
    assert rows.reason[3].startswith("Expected one JSON object")
    assert run.summary | {"source": ""} == {
        "source": "",
        "asked": 7,
        "parsed": 5,
        "refused": 1,
        "unparsed": 1,
        "too_long": 0,
        "leaked": 1,
        "inference_unread": 0,
        "not_inferred": 1,
        "passed": 3,
    }
    file = study.runs.folder / run.id / "dilemmas.json"
    ready = opened(file)
    assert [item.id for item in ready.instrument.items[:4]] == [
        "d0000-1",
        "d0000-2",
        "d0000-3",
        "d0005-1",
    ]
    meant = [
        tuple(option.scores[0][0] for option in item.options) for item in ready.instrument.items[:3]
    ]
    assert meant == list(pairs(TEN, 7, 3, 0)[0])
    assert verb.run(study, config, silent, Writer(calls=0)).id == run.id


def test_a_value_word_in_a_dilemma_is_found():
    told = organism.dilemmas(1, 0)[0] | {"norm": "One helps."}
    assert leaked(told, 5, TEN) == ()
    told["step 2_dilemma"] = "It would be the powerful thing to do."
    assert leaked(told, 5, TEN) == ("powerful",)


def test_all_pairs_are_drawn_before_one_comes_again():
    drawn = [frozenset(pair) for one in pairs(TEN, 9, 5, 0) for pair in one]
    assert len(set(drawn)) == 45
    assert len(pairs(SIX, 4, 5, 0)) == 4
    assert pairs(TEN, 3, 5, 0) != pairs(TEN, 3, 5, 1)


def test_the_organism_writes_its_own(tmp_path):
    study = Study(tmp_path / "study")
    run = study.dilemmas(llm="organism", n=4)
    assert run.summary["passed"] == 4
    assert len(opened(study.runs.folder / run.id / "dilemmas.json").instrument.items) == 20
    with pytest.raises(BadInput, match="Schwartz's ten"):
        Study(tmp_path / "six", "moral-foundations").dilemmas(llm="organism")
    with pytest.raises(BadInput, match="Nobody"):
        study.dilemmas()


def test_a_study_of_another_system_is_begun_from_the_command_line(tmp_path, capsys):
    assert (
        main(
            [
                "measure",
                str(tmp_path / "six"),
                "--system",
                "moral-foundations",
                "--model",
                "organism",
            ]
        )
        == 2
    )
    assert (
        "standin measures schwartz10, this study speaks moral-foundations"
        in capsys.readouterr().err
    )
    assert (
        main(["measure", str(tmp_path / "six"), "--system", "schwartz19", "--model", "organism"])
        == 2
    )
    assert "is a study of moral-foundations" in capsys.readouterr().err
    with pytest.raises(BadInput, match="study of moral-foundations. Give a new folder"):
        Study(tmp_path / "six", "schwartz10")
    assert Study(tmp_path / "six").system_id == "moral-foundations"
    job = tmp_path / "ten.toml"
    job.write_text('model = "organism"\nsystem = "schwartz10"\n[train]\n')
    assert main(["study", str(tmp_path / "six"), "--job", str(job)]) == 2
    assert "is a study of moral-foundations" in capsys.readouterr().err
