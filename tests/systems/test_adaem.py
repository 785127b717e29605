"""AdAEM without weights: divergences, bandit, response and question step, search, report and
ratings against what can be worked out."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.progress import silent
from feature_store.records import Steering
from feature_store.runs import Runs
from tests.helpers.endpoints import ScriptedLLM, Short
from workbench import organism
from workbench.llm.judges import LLMJudge
from workbench.measuring.questionnaire import open_instrument
from workbench.organism import reading
from workbench.statistics.intervals import bootstrap_mean
from workbench.study import Study
from workbench.systems.adaem import ratings, report, rewriting
from workbench.systems.adaem.asking import Asker
from workbench.systems.adaem.bandit import Bandit
from workbench.systems.adaem.classifiers import JudgeClassifier, PlantedClassifier
from workbench.systems.adaem.divergence import distribution, gjs, score
from workbench.systems.adaem.population import Member, MemberSettings, Population, plan
from workbench.systems.adaem.responses import Coherence, criteria, keep
from workbench.systems.adaem.search import Search, SearchObjective, SearchSettings

TEN = registry.get("values", "schwartz10")
RNG = np.random.default_rng(0)


# ---- the objective
# --------------------------------------------------------------------------------------------------


def test_separation_is_the_weighted_divergence_from_the_mixture():
    for members in (2, 4, 7):
        p, a = RNG.dirichlet(np.ones(11), members), RNG.dirichlet(np.ones(members))
        mixture = a @ p
        by_hand = sum(
            a[i] * sum(x * np.log(x / m) for x, m in zip(p[i], mixture, strict=True))
            for i in range(members)
        )
        assert gjs(p, a) == pytest.approx(by_hand, abs=1e-12)
        assert gjs(np.repeat(p[:1], members, 0)) == pytest.approx(0, abs=1e-12)
        assert gjs(np.eye(members, 11)) == pytest.approx(np.log(members), abs=1e-12)


def test_the_second_term_and_its_switches():
    p, asked = np.array([[1.0, 0, 0], [0, 1.0, 0]]), np.array([1.0, 0, 0])
    js = score(p, asked, 1.0)
    assert js.separation == pytest.approx(np.log(2))
    assert js.distance == pytest.approx(
        np.log(2) / 2
    )  # one member is where the question is, the other shares nothing with it
    assert js.total == pytest.approx(js.separation + js.distance)
    assert score(p, asked, 1.0, "tv").distance == pytest.approx(1 / 2)
    assert score(p, asked, 1.0, "tv", averaged=False).distance == pytest.approx(1.0)
    assert score(p, asked, 0.0).distance == 0
    assert np.isnan(score(np.array([[1.0, 0, 0], [np.nan] * 3]), asked, 1.0).total)


def test_an_opinion_spreads_its_mass_and_an_empty_one_lies_on_none():
    held = np.array([[1.0, 1, 0], [0, 0, 0], [np.nan] * 3, [0, 1, 0]])
    assert distribution(held) == pytest.approx([1 / 6, 1 / 2, 0, 1 / 3])
    assert np.isnan(distribution(held[2:3])).all()


def test_the_best_of_twenty_topics_is_pulled_most():
    rng, mean = np.random.default_rng(1), np.linspace(0.1, 0.6, 20)
    mean[13] = 1.2
    bandit = Bandit(mean + rng.normal(0, 0.2, 20), 1500)
    for _ in range(1500):
        topic = bandit.choose().topic
        bandit.reward(topic, float(mean[topic] + rng.normal(0, 0.2)))
    assert bandit.count.argmax() == 13
    assert bandit.count[13] > 2 * np.sort(bandit.count)[-2]
    assert bandit.count.min() > 1, "every topic is tried again"
    assert bandit.count.sum() == 1520


def test_the_bandit_starts_at_one_and_survives_a_lost_pull():
    bandit = Bandit(np.array([0.5, np.nan]), 10)
    first = bandit.choose()
    assert (first.topic, first.count, first.quality) == (0, 1, 0.5)
    assert first.bonus == pytest.approx(np.sqrt(2 * np.log(10)))
    bandit.reward(0, float("nan"))
    assert bandit.quality.tolist() == [0.5, 0.0]
    assert bandit.choose().topic == 1
    bandit.reward(1, 0.8)
    assert bandit.quality[1] == pytest.approx(0.4)


# ---- the steps
# --------------------------------------------------------------------------------------------------


def test_the_response_step_keeps_telling_opinions():
    member = np.array([0, 0, 0, 1, 1])
    held = np.array([[1.0, 0], [1, 0], [0, 0], [0, 1], [0, 1]])
    four = criteria(
        member,
        held,
        np.array([0.5, 0.1, 0.9, 0.2, np.nan]),
        ["red fox", "red fox", "blue sky", "red fox", "green sea"],
    )
    assert four[:, 0] == pytest.approx([2 / 3, 2 / 3, 0, 1, 1])
    assert four[:, 1] == pytest.approx([0.5, 0.1, 0.9, 0.2, 0])
    assert four[:, 2] == pytest.approx([1, 1, 0, 1, 1])
    assert four[0, 3] == pytest.approx(
        0.5
    )  # like one of the other's two opinions, unlike the second
    assert four[2, 3] == pytest.approx(1.0)
    assert keep(member, four.sum(1), 1).tolist() == [True, False, False, False, True]
    assert keep(member, four.sum(1), 2).tolist() == [True, True, False, True, True]


def test_the_language_of_the_organism_is_read():
    said = organism.held_sentences("power", 1, (), 0)[0]
    found = PlantedClassifier(TEN).read(
        [
            said,
            f"Now and then {said[0].lower()}{said[1:]} It was a long day.",
            "It was a long day.",
            said.rstrip("."),
        ]
    )
    column = TEN.ids.index("power")
    assert found[:, column].tolist() == [
        1,
        1,
        0,
        0,
    ], "a last sentence without its full stop says nothing"
    assert found.sum() == 2
    against = organism.descriptions("power", -1, 1, 0)[0]
    assert PlantedClassifier(TEN).read([f"{said} {against}"]).sum() == 0


def test_a_judge_reads_value_by_value_and_an_unread_cell_spoils_the_opinion():
    def answer(told):
        return (
            "no"
            if "Opinion:\nnothing" in told
            else (
                "maybe?"
                if "odd" in told and "Power" in told
                else "yes"
                if "Power" in told
                else "no"
            )
        )

    judge = JudgeClassifier(LLMJudge(ScriptedLLM(answer)), TEN)
    found = judge.read(["I rule.", "nothing", "odd", " "])
    assert found[0].tolist() == [float(v == "power") for v in TEN.ids]
    assert found[1].tolist() == found[3].tolist() == [0.0] * 10
    assert np.isnan(found[2]).all()
    assert judge.name == "scripted"


def test_a_language_model_rewrites():
    told = [
        rewriting.MemberAnswer("a", {"power": 0.7, "security": 0.0}, "I rule."),
        rewriting.MemberAnswer("b", {}, ""),
    ]
    llm = ScriptedLLM(
        lambda _: (
            'Sure:\n1. "Should one lead?"\n2) Should one follow?\n- Should one lead?\n3. And now?'
        )
    )
    assert rewriting.LLMRewriter(llm, 0.5, 100).rewrite("Lead?", told, 2, 0) == [
        "Should one lead?",
        "Should one follow?",
    ]
    assert "power 70%" in llm.asked[0]
    assert "security" not in llm.asked[0]
    assert "b: no value. It said: (nothing)" in llm.asked[0]
    assert (
        rewriting.LLMRewriter(ScriptedLLM(lambda _: "I'm sorry, I cannot help."), 0.5, 100).rewrite(
            "Lead?", told, 2, 0
        )
        == []
    )
    assert (
        rewriting.LLMRewriter(Short(lambda _: "1. Should one lead?", 1000), 0.5, 100).rewrite(
            "Lead? " * 200, told, 2, 0
        )
        == []
    ), "too long to be asked"


def test_the_composer_stays_in_the_language_of_the_organism():
    told = [
        rewriting.MemberAnswer("a", {"power": 0.9, "security": 0.2}, ""),
        rewriting.MemberAnswer("b", {"power": 0.1, "security": 0.2}, ""),
    ]
    question, seen, spoken = organism.situations(1, 0)[0], [], []
    for seed in range(150):
        question = rewriting.ComposedRewriter().rewrite(question, told, 1, seed)[0]
        whole = reading.read(question)
        assert all(one is not None for one in whole), question
        seen.append(question.rsplit(".", 1)[-1].strip())
        spoken += [one.owner for one in whole if one.sign]
    assert {"", "Now and then", "Once in a while"} == set(seen)
    assert max(set(spoken), key=spoken.count) == "power", "the disputed value is spoken of most"
    assert rewriting.ComposedRewriter().rewrite(
        question, told, 3, 1
    ) == rewriting.ComposedRewriter().rewrite(question, told, 3, 1)


def test_situations_are_different_and_of_no_value():
    made = organism.situations(480, 3)
    assert len(set(made)) == 480
    assert not any(one.sign for text in made for one in reading.read(text))
    with pytest.raises(ValueError, match="480"):
        organism.situations(481, 0)


# ---- the search
# --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Speaker:
    """Holds its own value the oftener the larger the number in the question; counts what it is
    asked.
    """

    value: str
    name: str
    asked: int = 0

    def fits(self, asked, room):
        return [True] * len(asked)

    def score(self, asked, length, progress):
        raise AssertionError("nobody asks for log-probabilities")

    def answer(self, asked, new_tokens, temperature, progress):
        self.asked += len(asked)
        rng = [np.random.default_rng(q.seed) for q in asked]
        return [
            self.value if r.random() < int(q.item.text.split()[-1]) / 20 else "well"
            for q, r in zip(asked, rng, strict=True)
        ]


class Words:
    """A value is held where its id is the text."""

    name = "words"

    def read(self, texts):
        return np.array([[float(text == value) for value in TEN.ids] for text in texts]).reshape(
            len(texts), 10
        )


class Climber:
    """Rewrites into a higher, a lower and the same number."""

    name = "climber"
    calls = 0

    def rewrite(self, question, told, n, seed):
        self.calls += 1
        topic, number = question.split()
        return [
            f"{topic} {min(int(number) + 3, 20)}",
            f"{topic} {max(int(number) - 2, 0)}",
            question,
        ][:n]


def searching(work, speakers, climber, progress=silent, pulls=30):
    members = tuple(Member(name=s.name, kind="model", steering=Steering()) for s in speakers)
    asker = Asker(
        population=Population(
            members=members, respondents=tuple(speakers), model=None, is_organism=True
        ),
        classifier=Words(),
        coherence=Coherence("none", lambda q, t: np.zeros(len(t))),
        system=TEN,
        temperature=1.0,
        new_tokens=5,
    )
    objective = SearchObjective(opinions=12, kept=10, beta=1.0, distance="js", averaged=True)
    settings = SearchSettings(pulls=pulls, rewrites=3, seed=0)
    search = Search(work, asker, climber, objective, settings, progress)
    return search.run(["A 2", "B 5", "C 0"])


def speakers():
    return [Speaker(v, v) for v in ("power", "security", "benevolence")]


def test_refinement_never_lowers_s_and_finds_what_separates(tmp_path):
    with Runs(tmp_path / "runs").begin("adaem", {}, {}, 0) as work:
        found = searching(work, speakers(), Climber())
    held = {one.number: one.score.total for one in found.tried if one.pull < 0}
    best = list(held.values())
    for pulled in found.pulls:
        topic = pulled.pull.topic
        if pulled.accepted >= 0:
            new = found.tried[pulled.accepted].score.total
            assert new > best[topic], "what is accepted is better"
            assert found.tried[pulled.accepted].topic == topic
            best[topic] = new
        else:
            assert not pulled.reward > best[topic]
    assert [found.tried[n].score.total for n in found.best] == best
    assert all(after >= before for before, after in zip(held.values(), best, strict=True))
    assert int(found.tried[found.ranked(found.best)[0]].read.text.split()[1]) >= 14, (
        "the question on which all speak their mind"
    )
    assert found.tried[found.ranked(found.best)[0]].score.separation == pytest.approx(
        np.log(3), abs=0.05
    )
    texts = [one.read.text for one in found.tried]
    assert len(set(texts)) == len(texts), "nothing is tried twice"


def test_an_interrupted_search_asks_nothing_twice(tmp_path):
    with Runs(tmp_path / "whole").begin("adaem", {}, {}, 0) as work:
        everyone, climber = speakers(), Climber()
        whole = searching(work, everyone, climber, pulls=12)

    def stop(stage, done, total):
        if (stage, done) == ("searching", 7):
            raise KeyboardInterrupt

    again, second = speakers(), Climber()
    with (
        pytest.raises(KeyboardInterrupt),
        Runs(tmp_path / "runs").begin("adaem", {}, {}, 0) as work,
    ):
        searching(work, again, second, stop, pulls=12)
    with Runs(tmp_path / "runs").begin("adaem", {}, {}, 0) as work:
        resumed = searching(work, again, second, pulls=12)
    assert [s.asked for s in again] == [s.asked for s in everyone]
    assert second.calls == climber.calls
    assert [(t.read.text, t.score, t.kept.tolist()) for t in resumed.tried] == [
        (t.read.text, t.score, t.kept.tolist()) for t in whole.tried
    ]
    assert resumed.best == whole.best


def test_a_member_that_refuses_leaves_no_score(tmp_path):
    @dataclasses.dataclass
    class Mute(Speaker):
        def answer(self, asked, new_tokens, temperature, progress):
            return ["I'm sorry, I cannot." for _ in asked]

    with Runs(tmp_path / "runs").begin("adaem", {}, {}, 0) as work:
        found = searching(work, [*speakers()[:2], Mute("power", "mute")], Climber(), pulls=2)
    assert all(np.isnan(one.score.total) for one in found.tried)
    assert found.ranked(found.best) == []
    assert {o.status for o in found.tried[0].read.opinions if o.member == 2} == {"refused"}


# ---- report and ratings
# --------------------------------------------------------------------------------------------------


def test_separation_under_chance_is_that_of_identical_members():
    rng = np.random.default_rng(2)
    same = (rng.random((4, 30, 10)) < 0.15).astype(float)
    assert report.separation(same) == pytest.approx(report.chance(same, 0), abs=0.06)
    apart = np.zeros((4, 30, 10))
    apart[np.arange(4), :, np.arange(4)] = 1
    assert report.separation(apart) == pytest.approx(np.log(4), abs=1e-12)
    assert report.chance(apart, 0) < 0.2
    apart[0] = np.nan
    assert np.isnan(report.separation(apart))
    assert np.isnan(report.chance(apart, 0))


def test_the_ratio_covers_its_truth():
    rng, covered = np.random.default_rng(3), 0
    for trial in range(200):
        found = report.ratio(rng.gamma(9, 2 / 9, 10), rng.gamma(9, 1 / 9, 14), 400, trial)
        covered += found.low <= 2 <= found.high
        assert found.low < found.ratio < found.high
    assert 0.9 <= covered / 200 <= 0.99
    assert report.ratio(np.array([3.0, 3.0]), np.array([1.5, 1.5]), 200, 0) == pytest.approx(
        (2, 2, 2)
    )
    assert np.isnan(report.ratio(np.array([0.0, 0.0]), np.array([1.0, 2.0]), 200, 0).ratio)
    with pytest.raises(BadInput, match="two readable questions"):
        report.ratio(np.array([1.0, np.nan]), np.array([1.0, 2.0]), 200, 0)


def test_trueskill_recovers_a_planted_order():
    rng, chance = np.random.default_rng(4), np.array([0.1, 0.7, 0.4, 0.9])
    held = np.zeros((25, 4, 12, 2))
    held[..., 0] = (
        rng.random((25, 4, 12)) < (1 - (1 - chance) ** (1 / 3))[:, None]
    )  # so that an answer of three holds it with `chance`
    rows = ratings.rate(held, 3, "abcd", ("power", "security"), 500, 0)
    first = {row["member"]: row for row in rows if row["value"] == "power"}
    assert sorted(first, key=lambda m: first[m]["mu"]) == ["a", "c", "b", "d"]
    assert sorted(first, key=lambda m: first[m]["win_rate"]) == ["a", "c", "b", "d"]
    assert first["a"]["high"] < first["d"]["low"]
    assert first["a"]["matches"] == 100
    second = [row for row in rows if row["value"] == "security"]
    assert all(row["win_rate"] == pytest.approx(0.5) and row["share"] == 0 for row in second)
    assert np.ptp([row["mu"] for row in second]) < 1e-6


def test_the_interval_of_a_share_is_within_what_a_share_can_be():
    held = np.zeros((5, 2, 30, 1))
    for question, n in enumerate((0, 0, 1, 1, 2)):
        held[question, 0, :n, 0] = 1
    assert bootstrap_mean(held.mean(2), 500, 0).low[0, 0] < 0, "studentised, it would reach below"
    rows = ratings.rate(held, 5, "ab", ("power",), 500, 0)
    assert rows[0]["share_low"] == 0 < rows[0]["share"] < rows[0]["share_high"]
    assert all(
        0 <= row[name] <= 1
        for row in rows
        for name in ("share_low", "share_high", "win_low", "win_high")
    )


def test_answers_pool_opinions_and_wins_are_counted():
    held = np.array([[1.0, 0], [0, 0], [np.nan, np.nan]])
    assert ratings.pooled(held).tolist() == [1, 0]
    assert np.isnan(ratings.pooled(held[2:])).all()
    won = ratings.win_rates(np.array([[1.0, 0, 0], [1, 1, 1], [1, np.nan, 0]]))
    assert won[0].tolist() == [1, 0.25, 0.25]
    assert won[1].tolist() == [0.5] * 3
    assert np.isnan(won[2]).all()


def test_a_population_is_named_in_one_line_or_refused(tmp_path):
    study = Study(tmp_path / "study")
    making = MemberSettings(per_value=8, template=Steering(strength=0.4), is_organism=True, seed=0)
    for told, what in (
        (("base",), "two different members"),
        (("base", "base"), "two different"),
        (("base", "power"), "Add \\+ or -"),
    ):
        with pytest.raises(BadInput, match=what) as caught:
            plan(told, study, None, making)
        assert "\n" not in str(caught.value)


# ---- the instrument
# --------------------------------------------------------------------------------------------------


def items(folder: Path, *questions, **more) -> str:
    told = {"format": 1, "system": "schwartz10", "questions": list(questions)} | more
    (folder / "items.json").write_text(json.dumps(told))
    return f"items={folder / 'items.json'}"


GOOD = ({"id": "a", "text": "A bridge?"}, {"id": "b", "text": "A friend?"})


@pytest.mark.parametrize(
    ("settings", "error", "what"),
    [
        (lambda f: (), BadInput, "items=FILE"),
        (lambda f: (f"items={f / 'none.json'}",), NotFound, "no file"),
        (lambda f: (items(f, {"id": "a"}),), BadInput, "question 1 should have an id and a text"),
        (lambda f: (items(f, *GOOD, GOOD[0]),), BadInput, "more than once"),
        (lambda f: (items(f),), BadInput, "lacks"),
        (lambda f: (items(f, *GOOD, format=2),), BadInput, "format 2"),
        (lambda f: (items(f, *GOOD, system="schwartz19"),), Incompatible, "schwartz19"),
        (
            lambda f: (
                (f / "x.json").write_bytes("é".encode("latin-1")) and f"items={f / 'x.json'}",
            ),
            BadInput,
            "UTF-8",
        ),
        (lambda f: (items(f, *GOOD), "pool=and"), BadInput, "pool"),
    ],
)
def test_a_wrong_file_of_questions_is_refused_in_one_line(tmp_path, settings, error, what):
    with pytest.raises(error, match=what) as caught:
        open_instrument("adaem", settings(tmp_path), TEN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("pool", "expected"), [("or", (1.0, 0.0)), ("share", (1 / 2, 0.0))])
def test_opinions_are_pooled_into_a_profile(tmp_path, pool, expected):
    from workbench.measuring.administer import Elicitation, administer
    from workbench.measuring.questions import questions

    opened = open_instrument("adaem", (items(tmp_path, *GOOD), f"pool={pool}"), TEN)

    class Half:
        name = "half"

        def fits(self, asked, room):
            return [True] * len(asked)

        def score(self, asked, length, progress):
            raise AssertionError

        def answer(self, asked, new_tokens, temperature, progress):
            return [
                (
                    "I rule."
                    if q.seed
                    else "I'm sorry, I cannot."
                    if q.item.id == "b" and q.seed == 2
                    else "Well."
                )
                for q in asked
            ]

    asked = questions(opened.instrument, [""], ("opinion",), range(2))
    told = administer(
        Half(), opened.instrument, asked, "base", silent, elicitation=Elicitation(mode="generate")
    )
    judge = LLMJudge(ScriptedLLM(lambda q: "yes" if "Power" in q and "I rule." in q else "no"))
    rated = opened.plugin.rate(told, opened.instrument, judge)
    assert len(rated) == 40
    found = {
        row.value: row
        for row in opened.plugin.score(rated, opened.instrument, TEN, 200, 0)
        if not row.centred
    }
    assert (found["power"].mean, found["security"].mean) == pytest.approx(expected)
    assert (found["power"].parsed, found["power"].missing, found["power"].n) == (4, 0, 2)
    centred = [
        row.mean
        for row in opened.plugin.score(rated, opened.instrument, TEN, 200, 0)
        if row.centred
    ]
    assert sum(centred) == pytest.approx(0, abs=1e-12)
