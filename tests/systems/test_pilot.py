"""ValuePilot without a language model that has weights: ranking, metrics, filters, reading,
assessors, review."""

import json
import math

import numpy as np
import pytest

from feature_store import queries, registry
from feature_store.errors import BadInput, NotFound
from feature_store.progress import silent
from feature_store.records import Action, Choice, Scenario, Site
from tests.helpers import small_models
from tests.helpers.endpoints import serve
from workbench import organism
from workbench.study import Study
from workbench.systems.value_pilot.agreement import agreement, first_acc, os_sim
from workbench.systems.value_pilot.assess import cross_fit
from workbench.systems.value_pilot.deciding import (
    DecisionSetup,
    State,
    by_generation,
    prompts,
    read_choice,
)
from workbench.systems.value_pilot.filters import jaccard, leaks
from workbench.systems.value_pilot.outcomes import decision_effects, rankings
from workbench.systems.value_pilot.ranking import flows, mix, rank, sharpen
from workbench.systems.value_pilot.scenarios import read, scores, subsets, write
from workbench.systems.value_pilot.stored import usable
from workbench.systems.value_pilot.writing import read_inferred, read_written, write_prompt
from workbench.verbs import scenarios as writing_verb

TEN = registry.get("values", "schwartz10")
VALUES = TEN.ids
RNG = np.random.default_rng(0)


def action(text, **held):
    return Action(text, tuple((value, held.get(value, 0.0)) for value in VALUES))


def scenario(id="a", text="You wait for a bus.", values=("power",), actions=None, source="us"):
    actions = actions or (
        action("I push to the front.", power=1.0),
        action("I let others in.", power=-1.0),
    )
    return Scenario(id=id, text=text, values=values, actions=tuple(actions), source=source)


# ---- ranking
# --------------------------------------------------------------------------------------------------


def test_one_pair_of_actions_by_hand():
    p, s, a, b = 0.6, 0.5, 0.8, -0.2
    weight = 1 / (1 + np.exp(-1))
    r = [0.3 * (1 - abs(abs(x) - weight)) + 0.7 * x for x in (s, a, b)]
    inner = [1 / (1 + np.exp(-abs(r[0]))) * x for x in r[1:]]
    forth, back = (1 / (1 + np.exp(-(inner[i] - inner[1 - i]))) for i in (0, 1))
    expected = weight * (forth - back)  # N - 1 = 1 other
    assert flows(np.array([s]), np.array([[a], [b]]), np.array([p])) == pytest.approx(
        [expected, -expected]
    )


def squash(x):
    return 1 / (1 + math.exp(-10 * (x - 0.5)))


def sigma(x):
    return 1 / (1 + math.exp(-x))


def test_two_actions_as_the_released_code_ranks_them_by_hand():
    """Scenario [.2, .8], actions [[.1, .6], [.7, .3]], preferences [.8, .6], step by step."""
    w1, w2 = squash(0.8), squash(0.6)  # .9526, .7311
    s1 = 0.3 * (1 - abs(squash(0.2) - w1)) + 0.7 * 0.2  # d alone sees a squashed rating
    s2 = 0.3 * (1 - abs(squash(0.8) - w2)) + 0.7 * 0.8
    a1 = sigma(abs(s1)) * (0.3 * (1 - abs(squash(0.1) - w1)) + 0.7 * 0.1)
    a2 = sigma(abs(s2)) * (0.3 * (1 - abs(squash(0.6) - w2)) + 0.7 * 0.6)
    b1 = sigma(abs(s1)) * (0.3 * (1 - abs(squash(0.7) - w1)) + 0.7 * 0.7)
    b2 = sigma(abs(s2)) * (0.3 * (1 - abs(squash(0.3) - w2)) + 0.7 * 0.3)
    a1, a2, b1, b2 = a1 / (a1 + a2), a2 / (a1 + a2), b1 / (b1 + b2), b2 / (b1 + b2)
    k1, k2 = w1 / (w1 + w2), w2 / (w1 + w2)
    forth = sigma(a1 - b1) ** k1 * sigma(a2 - b2) ** k2
    back = sigma(b1 - a1) ** k1 * sigma(b2 - a2) ** k2
    expected = (forth - back) / 2  # N, not N - 1
    assert expected == pytest.approx(-0.0177, abs=5e-5)
    s, a, p = np.array([0.2, 0.8]), np.array([[0.1, 0.6], [0.7, 0.3]]), np.array([0.8, 0.6])
    assert flows(s, a, p, "released") == pytest.approx([expected, -expected], abs=1e-12)
    assert rank(flows(s, a, p, "released")).tolist() == [1, 0]


def flows_by_loops(scenario, actions, preferences, variant):
    """Either form, a number at a time."""
    values, n = range(len(scenario)), len(actions)
    weights = [squash(p) for p in preferences]

    def mixed(rho, j):
        size = squash(rho) if variant == "released" else abs(rho)
        return 0.3 * (1 - abs(size - weights[j])) + 0.7 * rho

    rated = [[sigma(abs(mixed(scenario[j], j))) * mixed(a[j], j) for j in values] for a in actions]
    total = math.fsum(weights)
    if variant == "released":
        rated = [[x / math.fsum(row) for x in row] for row in rated]

    def preferred(i, k):
        each = [sigma(rated[i][j] - rated[k][j]) for j in values]
        if variant == "released":
            return math.prod(v ** (weights[j] / total) for j, v in enumerate(each))
        return math.fsum(v * weights[j] for j, v in enumerate(each))

    return [
        math.fsum(preferred(i, k) - preferred(k, i) for k in range(n) if k != i)
        / (n if variant == "released" else n - 1)
        for i in range(n)
    ]


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_flows_are_those_of_a_second_writing_of_the_formula(variant):
    draw = np.random.default_rng(9)
    for _ in range(200):
        values, n = int(draw.integers(1, 8)), int(draw.integers(2, 7))
        s, a = draw.uniform(-1, 1, values), draw.uniform(-1, 1, (n, values))
        p = draw.uniform(0, 1, values)
        again = flows_by_loops(s, a, p, variant)
        assert flows(s, a, p, variant) == pytest.approx(again, abs=1e-9)


def test_ratings_that_add_up_to_nothing_have_no_released_ranking():
    # With p = .5 the weight is .5, and a rating r with .3 (1 - |squash(r) - .5|) = -.7 r is mixed
    # to 0; bisection finds it.
    low, high = -1.0, 0.0
    for _ in range(200):
        r = (low + high) / 2
        low, high = (r, high) if 0.3 * (1 - abs(squash(r) - 0.5)) + 0.7 * r < 0 else (low, r)
    s, a, p = np.array([0.5]), np.array([[0.4], [low]]), np.array([0.5])
    with pytest.raises(BadInput, match="action 2 add up to 0.*--variant paper"):
        flows(s, a, p, "released")
    assert np.isfinite(flows(s, a, p)).all()


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_flows_sum_to_zero_and_permuting_actions_permutes_them(variant):
    for _ in range(30):
        s, a, p = RNG.uniform(-1, 1, 6), RNG.uniform(-1, 1, (9, 6)), RNG.uniform(0, 1, 6)
        phi = flows(s, a, p, variant)
        assert phi.sum() == pytest.approx(0, abs=1e-12)
        order = RNG.permutation(9)
        assert flows(s, a[order], p, variant) == pytest.approx(phi[order])
        assert (order[rank(phi[order])] == rank(phi)).all()


def test_a_dominating_action_ranks_first_and_more_of_a_value_never_ranks_lower():
    for _ in range(60):
        s, a, p = RNG.uniform(-1, 1, 5), RNG.uniform(-1, 0.9, (7, 5)), RNG.uniform(0, 1, 5)
        a[3] = a.max(0) + 0.05
        assert rank(flows(s, a, p))[0] == 3
        better, j = a[0].copy(), RNG.integers(5)
        better[j] = RNG.uniform(a[0, j], 1)
        phi = flows(s, np.vstack([a, better]), p)
        assert phi[-1] >= phi[0] - 1e-12
    grid = np.linspace(-1, 1, 201)[:, None]
    assert (np.diff(mix(grid, sharpen(np.array([0.4])))[:, 0]) > 0).all(), "the mix rises with rho"


def test_what_cannot_be_ranked_is_refused():
    one = np.zeros(2)
    for s, a, p, said in (
        (one, one[None], one, "two actions"),
        (one, np.full((2, 2), 1.5), one, "[-1, 1]"),
        (one, np.zeros((2, 2)), one - 1, "[0, 1]"),
    ):
        with pytest.raises(BadInput) as caught:
            flows(s, a, p)
        assert said in str(caught.value)


def test_metrics():
    assert os_sim([1, 2, 3], [1, 3, 2]) == pytest.approx((1 + 0.5 + 1) / 3)
    assert os_sim([1, 2, 3], [1, 2, 3]) == 1
    assert (first_acc([1, 2, 3], [1, 3, 2]), first_acc([1, 2], [2, 1])) == (1, 0)
    with pytest.raises(BadInput, match="same actions"):
        os_sim([1, 2], [1, 3])
    pairs = [(RNG.permutation(6).tolist(), RNG.permutation(6).tolist()) for _ in range(800)]
    overlap, first = agreement("base", pairs, 300, 0)
    assert overlap.chance == pytest.approx(7 / 12)
    assert first.chance == pytest.approx(1 / 6)
    for found in (overlap, first):
        assert found.n == 800
        assert found.low < found.chance < found.high


# ---- scenarios and their filters
# -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "leaked"),
    [
        ("She is powerful.", "powerful"),
        ("It empowers him.", "empowers"),
        ("We feel powerless", "powerless"),
        ("They achieved it", "achieved"),
        ("a securely shut door", "securely"),
        ("I feel insecure", "insecure"),
        ("a traditional meal", "traditional"),
        ("no conformist", "conformist"),
        ("a universal claim", "universal"),
        ("a benevolent aunt", "benevolent"),
        ("a stimulating talk", "stimulating"),
        ("self-directed work", "self directed"),
        ("hedonistic days", "hedonistic"),
        ("HUMILITY first", "humility"),
        ("My tradition's end", "traditions"),
    ],
)
def test_words_that_name_a_value_leak(said, leaked):
    assert leaks(scenario(text=said), TEN) == (leaked,)
    assert leaks(scenario(actions=(action(said, power=1.0), action("I go.", power=0.0))), TEN) == (
        leaked,
    )


@pytest.mark.parametrize(
    "said",
    [
        "We met at the university, in another universe.",
        "The direction of the bus is wrong.",
        "I trade in towers and confirm it.",
        "They humiliate me.",
        "He caught a cold; the achene fell.",
        "Be yourself: directions follow.",
    ],
)
def test_other_words_do_not(said):
    assert leaks(scenario(text=said), TEN) == ()


def test_subsets_take_turns_and_never_repeat():
    drawn = subsets(TEN, 60, 1, 6, 0)
    assert len(set(drawn)) == len(drawn) == 60
    assert [len(s) for s in drawn[:12]] == [1, 2, 3, 4, 5, 6] * 2
    assert all(s == tuple(v for v in VALUES if v in s) for s in drawn)
    assert drawn == subsets(TEN, 60, 1, 6, 0) != subsets(TEN, 60, 1, 6, 1)
    assert len(subsets(TEN, 0, 1, 6, 0)) == 847
    with pytest.raises(BadInput, match="1 to 10 values"):
        subsets(TEN, 5, 1, 11, 0)


def told(text="You are asked to lead a club.", n=10, **change):
    actions = [
        {
            "text": f"I do thing {i}.",
            "scores": {v: round(np.sin(i + k), 2) for k, v in enumerate(VALUES)},
        }
        for i in range(n)
    ]
    return {"scenario": text, "actions": actions} | change


def read_back(answer):
    return read_written(
        answer if isinstance(answer, str) else json.dumps(answer),
        TEN,
        ("power",),
        10,
        "s0",
        "writer",
    )


def test_answers_are_read_strictly():
    whole = read_back(told())
    assert whole.status == "parsed"
    assert len(whole.scenario.actions) == 10
    assert read_back("```json\n" + json.dumps(told()) + "\n```").status == "parsed"
    assert read_back("I'm sorry, I cannot write that.").status == "refused"

    def spoiled(score):
        made = told()
        made["actions"][3]["scores"]["power"] = score
        return made

    fewer = told()
    del fewer["actions"][2]["scores"]["tradition"]
    twice = told()
    twice["actions"][1]["text"] = twice["actions"][0]["text"]
    for answer, reason in (
        ("Here you are: " + json.dumps(told()), "one JSON object"),
        (json.dumps(told())[:-3], "one JSON object"),
        (told(n=9), "at least 10 actions"),
        (spoiled(1.01), "[-1, 1]"),
        (spoiled("high"), "[-1, 1]"),
        (spoiled(True), "[-1, 1]"),
        (spoiled(float("nan")), "[-1, 1]"),
        (fewer, "no score on tradition"),
        (told() | {"more": 1}, "keys"),
        (told(text=" "), "in words"),
        (twice, "twice"),
        ([1], "one JSON object"),
    ):
        found = read_back(answer)
        assert (found.status, found.scenario) == ("unparsed", None)
        assert reason in found.reason
    assert read_inferred('{"values": ["Power", "self-direction"]}', TEN).values == (
        "self-direction",
        "power",
    )
    assert read_inferred('{"values": ["wisdom"]}', TEN).status == "unparsed"
    assert read_inferred("As an AI I have none.", TEN).status == "refused"


def test_a_file_is_read_as_it_was_written_or_refused_with_its_line(tmp_path):
    file, made = (
        tmp_path / "s.jsonl",
        [scenario("a"), scenario("b", text="Zwölf Äpfel.", values=("security", "universalism"))],
    )
    write(file, made)
    assert read(file, TEN) == made
    file.write_text(
        file.read_text() + '{"id": "c", "text": "x", "values": ["wisdom"], "actions": []}\n',
        encoding="utf-8",
    )
    with pytest.raises(BadInput, match="line 3.*wisdom"):
        read(file, TEN)
    write(file, [made[0], made[0]])
    with pytest.raises(BadInput, match="line 2.*'a' is taken"):
        read(file, TEN)
    with pytest.raises(NotFound, match="no file"):
        read(tmp_path / "none.jsonl", TEN)


# ---- writing with a language model, filters, review
# ----------------------------------------------------------------


class Scripted:
    """Writes what a script says; reads blind what it wrote the text for, but in scenario 3.

    Breaks down after `calls`.
    """

    name = "scripted"

    def __init__(self, calls=10**6):
        self.calls, self.asked = calls, []

    def chat(self, conversations, *, max_new_tokens=256, temperature=0.0, seed=0):
        answers = []
        for (message,) in conversations:
            if len(self.asked) == self.calls:
                raise ConnectionError
            self.asked.append(message.content)
            answers.append(
                self.blind(message.content)
                if message.content.startswith("Here is a situation")
                else self.write(message.content, seed)
            )
        return answers

    def write(self, prompt, number):
        about = [v.id for v in TEN.values if f"- {v.name}: " in prompt.split("\n\n")[0]]
        text = f"Case {number}: " + " ".join(f"<{VALUES.index(v)}>" for v in about)
        text = {1: text + " You feel powerful.", 3: text + " But <5> too."}.get(number, text)
        return {0: "I'm sorry, I cannot.", 2: "Sure! {}"}.get(number) or json.dumps(told(text))

    def blind(self, prompt):
        return json.dumps({"values": [v for k, v in enumerate(VALUES) if f"<{k}>" in prompt]})


CONFIG = writing_verb.ScenariosSettings(n=7, largest=2)


def test_scenarios_are_written_filtered_kept_and_reviewed(tmp_path):
    study = Study(tmp_path / "study")
    with pytest.raises(ConnectionError):
        writing_verb.run(study, CONFIG, silent, Scripted(calls=9))
    rest = Scripted()
    run = writing_verb.run(study, CONFIG, silent, rest)
    assert len(rest.asked) == 7 + 5 - 9, (
        "nothing is asked twice, and of unread answers nothing more"
    )
    assert writing_verb.run(study, CONFIG, silent, Scripted(calls=0)) == run
    rows = queries.scenarios(study.store, run.id)
    assert rows.status.tolist() == [
        "refused",
        "parsed",
        "unparsed",
        "parsed",
        "parsed",
        "parsed",
        "parsed",
    ]
    assert rows.leaks.map(list).tolist() == [[], ["powerful"], [], [], [], [], []]
    assert rows.passed.tolist() == [False, False, False, False, True, True, True]
    assert rows.answer[2] == "Sure! {}"
    assert (run.summary["refused"], run.summary["unparsed"], run.summary["leaked"]) == (1, 1, 1)
    assert rows.agreement[4] == 1
    assert (rows.source == "scripted").all()
    assert rows.reader.tolist() == [
        "",
        "scripted",
        "",
        "scripted",
        "scripted",
        "scripted",
        "scripted",
    ]
    assert (
        rows.agreement[3] == jaccard(tuple(rows.at_stake[3]), (*rows.at_stake[3], "security")) < 1
    )
    assert [s.id for s in usable(study.store, run.id)] == ["s0004", "s0005", "s0006"]

    def review(scenario, verdict):
        return study.review(scenario=scenario, verdict=verdict, note="because", reviewer="me")

    review("s0004", "reject")
    review("s0003", "accept")
    review("s0003", "reject")
    assert [s.id for s in usable(study.store, run.id)] == ["s0005", "s0006"]
    review("s0003", "accept")
    assert [s.id for s in usable(study.store, run.id)] == ["s0003", "s0005", "s0006"]
    assert len(study.runs.all("review-")) == 4, "nothing is overwritten"
    assert queries.scenarios(study.store, run.id).reviews.tolist() == [0, 0, 0, 3, 1, 0, 0]
    with pytest.raises(BadInput, match="could not be read"):
        review("s0000", "accept")
    with pytest.raises(NotFound, match="s0004"):
        review("s004", "accept")


def test_an_endpoint_writes_scenarios(tmp_path):
    scripted = Scripted()

    def reply(body, number):
        prompt = body["messages"][-1]["content"]
        return (
            scripted.blind(prompt)
            if prompt.startswith("Here is a situation")
            else scripted.write(prompt, 9)
        )

    with serve(reply) as endpoint:
        run = Study(tmp_path / "study").scenarios(llm=f"{endpoint.url}#tiny-1", n=4, largest=2)
    assert (run.summary["parsed"], run.summary["passed"]) == (4, 4)


def test_a_looser_agreement_lets_more_through_and_a_file_is_read_blind(tmp_path):
    study = Study(tmp_path / "study")
    file = tmp_path / "s.jsonl"
    write(file, [scenario("x", text="<4> <9>"), scenario("y", text="<3>")])
    run = study.scenarios(file=str(file))
    assert run.summary["passed"] == 2, "nobody was asked"
    for least, passed in ((1.0, 0), (0.5, 1)):
        config = writing_verb.ScenariosSettings(file=str(file), agreement=least)
        assert writing_verb.run(study, config, silent, Scripted()).summary["passed"] == passed
    with pytest.raises(BadInput, match="Nobody was told"):
        study.scenarios()


def test_a_request_too_long_is_counted_and_the_others_are_written(tmp_path):
    longest = sorted(
        len(write_prompt(TEN, values, 10)[0].content) for values in subsets(TEN, 7, 1, 2, 0)
    )[3]
    study, speaker = Study(tmp_path / "study"), Scripted()
    speaker.fits = lambda conversations: [
        len(message.content) <= longest for (message,) in conversations
    ]
    run = writing_verb.run(study, CONFIG, silent, speaker)
    rows = queries.scenarios(study.store, run.id)
    long = (rows.status == "too-long").to_numpy()
    assert run.summary["too_long"] == long.sum() > 0
    assert set(rows.answer[long]) == {""}
    assert "longer" in rows.reason[long].iloc[0]
    speaker.fits = lambda conversations: [False] * len(conversations)
    with pytest.raises(BadInput, match="none of the 7 requests fits"):
        writing_verb.run(
            study, writing_verb.ScenariosSettings(n=7, largest=2, seed=1), silent, speaker
        )
    assert study.runs.unfinished() == []


def test_prompts_say_what_is_wanted_and_no_more():
    (message,) = write_prompt(TEN, ("power", "security"), 10)
    about = message.content.split("\n\n")[0]
    assert TEN["security"].definition in about
    assert TEN["tradition"].definition not in about
    assert all(f'"{value}"' in message.content for value in VALUES)


# ---- the organism's scenarios
# --------------------------------------------------------------------------------------


def test_the_organisms_scenarios_are_known():
    made = organism.scenarios(subsets(TEN, 24, 1, 6, 0), 10, 0)
    assert made == organism.scenarios(subsets(TEN, 24, 1, 6, 0), 10, 0)
    for one in made:
        known = scores(one, VALUES)
        assert len(one.actions) >= 10
        assert (known.sum(0) == 0).all(), "both poles of each facet"
        assert {VALUES[k] for k in np.flatnonzero(np.abs(known).sum(0))} == set(one.values)
        assert (np.abs(known).sum(1) == 1).all()
        assert not any(a.text.lower() in one.text.lower() for a in one.actions), (
            "the text has not used them"
        )
    with pytest.raises(BadInput, match="10 actions for 1 values"):
        organism.scenarios([("power",)], 12, 0)


# ---- decisions
# --------------------------------------------------------------------------------------------------


def choice(id, steering, kind, shares, order="given", status="parsed"):
    """A choice of the most probable action; none where it was not parsed."""
    chosen = int(np.argmax(shares)) if status == "parsed" else -1
    return Choice(
        scenario=id,
        steering=steering,
        kind=kind,
        order=order,
        logprobs=shares,
        tokens=(1,) * len(shares),
        probabilities=shares if status == "parsed" else (),
        chosen=chosen,
        text="",
        status=status,
    )


def test_decision_effects_are_paired_and_missing_answers_are_counted():
    """Planted: under `up` the first action gains exactly 0.2 of the probability; controls move
    nothing on average.
    """
    flat = [action("I sit.", security=0.5), action("I stay.", security=0.5)]
    made = [scenario(f"s{i}") for i in range(40)] + [scenario("flat", actions=flat)]
    base = RNG.uniform(0.2, 0.7, len(made))
    noise = RNG.normal(0, 0.02, (5, len(made)))
    choices = []
    for i, one in enumerate(made):
        choices.append(choice(one.id, "base", "base", (base[i], 1 - base[i])))
        choices.append(
            choice(
                one.id,
                "up",
                "steering",
                (base[i] + 0.2, 0.8 - base[i]),
                status="refused" if i < 3 else "parsed",
            )
        )
        for k in range(5):
            share = base[i] + noise[k, i] - noise[k, :40].mean()
            choices.append(choice(one.id, f"random{k}", "random-direction", (share, 1 - share)))
    found = decision_effects(choices, made, VALUES, 500, 0)
    assert {row.value for row in found} == {"power"}, "no action differs on another value"
    (up,) = [row for row in found if row.steering == "up" and row.outcome == "expected"]
    assert up.effect == pytest.approx(0.4)
    assert up.low == pytest.approx(0.4)
    assert (up.n, up.missing) == (37, 3)
    assert up.base == pytest.approx((2 * base[3:40] - 1).mean())
    assert up.null_high < 1e-9 + 0.02
    assert up.q < 1e-6
    control = next(row for row in found if row.steering == "random0" and row.outcome == "expected")
    assert control.low < 0 < control.high
    assert np.isnan(control.null_low)
    (chosen,) = [row for row in found if row.steering == "up" and row.outcome == "chosen"]
    assert chosen.effect == pytest.approx(
        2 * ((base[3:40] < 0.5) & (base[3:40] + 0.2 > 0.5)).mean()
    )
    assert rankings(choices, "base")["s3"].tolist() == ([0, 1] if base[3] >= 0.5 else [1, 0])


def test_orders_are_paired_before_they_are_averaged():
    """A model that always takes the first place: steered answers are missing in one order, and
    that is no effect.
    """
    made = [scenario(f"s{i}") for i in range(4)]
    choices = []
    for one in made:
        for order, shares in (("given", (1.0, 0.0)), ("reversed", (0.0, 1.0))):
            choices.append(choice(one.id, "base", "base", shares, order))
            choices.append(
                choice(
                    one.id,
                    "up",
                    "steering",
                    shares,
                    order,
                    "unparsed" if order == "given" else "parsed",
                )
            )
    rows = decision_effects(choices, made, VALUES, 200, 0)
    assert [row.effect for row in rows] == [0.0, 0.0]
    silent_ones = [choice(c.scenario, c.steering, c.kind, (), c.order, "refused") for c in choices]
    (row,) = decision_effects(silent_ones, made, VALUES, 200, 0)
    assert (row.outcome, row.n, row.missing) == ("chosen", 0, 4)
    assert np.isnan(row.effect)


@pytest.mark.parametrize(
    ("answer", "chosen", "status"),
    [
        (" 2", 1, "parsed"),
        ("2. I go.", 1, "parsed"),
        ("I would choose 1, so 1.", 0, "parsed"),
        ("I go.", 1, "parsed"),
        ("1 or 2", -1, "unparsed"),
        ("3", -1, "unparsed"),
        ("1.5", -1, "unparsed"),
        ("", -1, "unparsed"),
        ("I cannot choose.", -1, "refused"),
        ("I stay. I go.", -1, "unparsed"),
        ("I would not say: I go.", -1, "unparsed"),
        ("not 1", -1, "unparsed"),
        ("2. I stay.", -1, "unparsed"),
        ("I have 2 reasons.", -1, "unparsed"),
        ("<think>1 is better</think>2", 1, "parsed"),
    ],
)
def test_a_choice_is_read_or_kept_as_data(answer, chosen, status):
    assert read_choice(answer, ["I stay.", "I go."]) == (chosen, status)


def test_a_number_means_the_action_that_was_listed_under_it():
    class AlwaysFirst:
        def generate(self, prompts, max_new_tokens):
            assert prompts[0] != prompts[1]
            return [" 1."] * len(prompts)

    found = by_generation(
        AlwaysFirst(),
        scenario(),
        DecisionSetup(
            template="{scenario}\n{actions}",
            states=(State("base", "base"),),
            edit=None,
            site=Site(0),
        ),
        4,
    )
    assert [(c.order, c.chosen, c.status) for c in found] == [
        ("given", 0, "parsed"),
        ("reversed", 1, "parsed"),
    ]


def test_listed_actions_are_offered_in_both_orders():
    told = prompts(scenario(), "{scenario}\n{actions}")
    assert told["given"].endswith("1. I push to the front.\n2. I let others in.")
    assert told["reversed"].endswith("1. I let others in.\n2. I push to the front.")
    assert list(prompts(scenario(), "{scenario}")) == ["given"]
    with pytest.raises(BadInput, match="holds {scenario}"):
        prompts(scenario(), "{actions}")


# ---- assessors
# --------------------------------------------------------------------------------------------------


def test_words_are_learned_across_scenarios():
    """On the organism every behaviour has two phrasings at most, so held-out scenarios share
    words with those that were read.
    """
    made = organism.scenarios(subsets(TEN, 60, 1, 6, 0), 10, 0)
    fitter = registry.get("assessors", "tfidf")
    rated = cross_fit(fitter, made, VALUES, fitter.config(), 3, 0)
    assert rated.r > 0.7
    scrambled = [
        Scenario(
            id=s.id,
            text=s.text,
            values=s.values,
            actions=tuple(
                Action(a.text, made[-1 - i].actions[k].scores) for k, a in enumerate(s.actions[:10])
            ),
            source="",
        )
        for i, s in enumerate(made)
    ]
    assert abs(cross_fit(fitter, scrambled, VALUES, fitter.config(), 3, 0).r) < 0.2, (
        "scores that go with no words are not learned"
    )
    with pytest.raises(BadInput, match="2 to 60 folds"):
        cross_fit(fitter, made, VALUES, fitter.config(), 61, 0)


def test_a_frozen_t5_learns_through_its_head(tmp_path):
    folder = small_models.t5(tmp_path / "t5")
    words = {
        "cat": (1.0, 0.0),
        "mat": (-1.0, 0.0),
        "dog": (0.0, 1.0),
        "garden": (0.0, -1.0),
        "sat": (0.0, 0.0),
        "end": (0.0, 0.0),
    }
    texts = [
        f"the {word} {filler}"
        for word in words
        for filler in ("ran", "and then", "to the", "on", "of the", "the the")
    ]
    ratings = np.array([words[text.split()[1]] for text in texts])
    held = np.arange(len(texts)) % 6 == 5
    fitter = registry.get("assessors", "t5")
    known = fitter.fit(
        [t for t, h in zip(texts, held, strict=True) if not h],
        ratings[~held],
        fitter.config(str(folder), epochs=60, rows=10),
    )
    before = [p.clone() for p in known.encoder.parameters()]
    found = known.assess([t for t, h in zip(texts, held, strict=True) if h])
    assert np.corrcoef(found.rating.ravel(), ratings[held].ravel())[0, 1] > 0.8
    assert all(a.equal(b) for a, b in zip(before, known.encoder.parameters(), strict=True))
    with pytest.raises(NotFound, match="local folder"):
        fitter.fit(texts, ratings, fitter.config())
