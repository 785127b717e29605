"""From pairs to control on the organism: probes, directions, detectors, judged answers;
interruptions and gates among them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from feature_store.errors import BadInput, NotFound
from feature_store.records import Site, Steering
from tests.helpers.endpoints import serve
from workbench import organism
from workbench.instruments.standin import standin
from workbench.llm import Verdict
from workbench.measuring.questions import option_texts
from workbench.steering import directions
from workbench.steering.apply import edit_for
from workbench.steering.gates import make
from workbench.study import Study
from workbench.systems.conva import shift
from workbench.systems.conva.control import SIDES, Control, control, judged, points, summarise
from workbench.systems.conva.questions import choice_prompt, read_choices, read_dilemmas
from workbench.verbs import probe as probe_verb

pytestmark = pytest.mark.slow_file

TRUTH = organism.truth()


@pytest.fixture(scope="module")
def study(probed_study):
    return probed_study


@pytest.fixture(scope="module")
def run(study):
    return study.runs.latest("probes")


def true_direction(value):
    summed = TRUTH.directions[
        [facet.direction for facet in TRUTH.facets if facet.value == value]
    ].sum(0)
    return summed / np.linalg.norm(summed)


def ratings(model, value):
    """Expected rating of the value's items under some contexts."""
    from workbench.measuring.questions import expected_ratings, questions

    instrument = standin()
    asked = [
        q
        for q in questions(instrument, organism.contexts(4, 0), ["plain"])
        if q.item.value == value
    ]
    scores = model.score([q.prompt for q in asked], option_texts(instrument, model))
    return expected_ratings(scores.double().numpy(), asked)


def test_probes_of_every_value_and_layer_with_their_evidence(study, run):
    rows = study.store.sql("SELECT * FROM probes WHERE run = ?", [run.id])
    assert len(rows) == 40
    assert ((rows.low <= rows.accuracy) & (rows.accuracy <= rows.high)).all()
    assert rows[rows.layer == 3].chosen.sum() == 0, "the last of four layers is left out"
    assert (rows.chosen == ((rows.accuracy > 0.9) & (rows.layer < 3))).all()
    assert abs(rows.control.mean() - 0.5) < 0.1
    assert rows.accuracy[rows.layer == 1].min() > 0.9
    pairs = (
        study.store.sql(
            "SELECT kept, count(*) AS n FROM pairs WHERE run = ? GROUP BY kept", [run.id]
        )
        .set_index("kept")
        .n
    )
    assert pairs[True] == run.summary["pairs"]
    assert pairs.get(False, 0) == run.summary["refused"]
    assert study.probe(n_pairs=30).id == run.id


def test_directions_are_the_planted_ones_and_come_back_at_length_one(study, run):
    weights, means = [], []
    for value in TRUTH.values:
        for kind, found in (("probe", weights), ("difference-of-means", means)):
            unit = directions.direction(study, run, value, kind, TRUTH.layer)
            assert float(unit.norm()) == pytest.approx(1, abs=1e-6)
            found.append(float(unit.double().numpy() @ true_direction(value)))
    assert min(weights) > 0.8
    assert np.mean(weights) > 0.88
    assert min(means) > 0.75
    told = study.store.sql(
        "SELECT norm, bias FROM probes WHERE run = ? AND value = 'power' AND layer = 2", [run.id]
    ).iloc[0]
    probe = directions.probe(study, run, "Power", 2)
    assert float(probe.weight.norm()) == pytest.approx(told.norm)
    assert probe.bias == pytest.approx(told.bias)
    for bad, error in (
        (("powr", "probe", 1), NotFound),
        (("power", "probes", 1), NotFound),
        (("power", "probe", 4), BadInput),
    ):
        with pytest.raises(error):
            directions.direction(study, run, *bad)


def test_a_probe_is_taken_apart_into_features(study, run):
    rows = study.store.sql(
        "SELECT * FROM probe_features WHERE run = ? AND value = 'power' ORDER BY kind, rank",
        [run.id],
    )
    decoder = study.sae(study.runs.latest("sae")).W_dec.double().numpy()
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    for kind in directions.KINDS:
        own = rows[rows.kind == kind]
        cosine = decoder @ directions.direction(study, run, "power", kind, 1).double().numpy()
        assert own.feature.tolist() == np.argsort(-np.abs(cosine))[:20].tolist()
        np.testing.assert_allclose(own.cosine, cosine[own.feature], atol=1e-6)
    assert rows.null_high.between(0.2, 0.5).all()


def test_an_interrupted_run_goes_on_with_the_next_value(tmp_path, monkeypatch):
    study, probed = Study(tmp_path / "s"), []
    real = probe_verb._probe_value

    def counted(work, model, number, *rest):
        probed.append(number)
        if len(probed) == 4:
            raise KeyboardInterrupt
        real(work, model, number, *rest)

    monkeypatch.setattr(probe_verb, "_probe_value", counted)
    with pytest.raises(KeyboardInterrupt):
        study.probe(model="organism", n_pairs=14)
    assert not study.runs.ids("probes")
    run = study.probe(model="organism", n_pairs=14)
    assert probed == [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9]
    assert study.store.sql("SELECT count(*) AS n FROM probes").n[0] == 40
    assert study.store.sql("SELECT count(*) AS n FROM probe_features").n[0] == 0, (
        "no SAE, no features"
    )
    assert study.runs.damaged(run.id) == []
    assert directions.direction(study, run, "power", "probe", 1).shape == (128,)


def test_length_that_tells_the_classes_apart_is_named(tmp_path):
    rows = [
        {
            "value": "power",
            "text": f"I gave the order to the whole team in front of platform {i} .",
            "opposed": f"I gave the team platform {i} .",
        }
        for i in range(20)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
    study = Study(tmp_path / "s")
    run = study.probe(model="organism", pairs=str(tmp_path / "pairs.csv"))
    assert run.summary["told_apart_by_length"] == "power (AUROC 1)"
    with pytest.raises(BadInput, match="leaves none to choose"):
        study.probe(model="organism", skip_last=4)


@pytest.mark.parametrize(("lower", "target"), [(False, 0.999), (True, 0.001)])
def test_control_moves_the_value_and_leaves_nothing_behind(study, run, lower, target):
    model = study.model_of(run)
    before = ratings(model, "power")
    goal = shift.ShiftGoal("power", target, lower)
    with shift.controlled(study, run, model, goal):
        moved = ratings(model, "power") - before
    assert (-1 if lower else 1) * moved.mean() > 0.5
    assert np.array_equal(ratings(model, "power"), before)
    closed = torch.zeros(len(before), dtype=torch.bool)
    with shift.controlled(study, run, model, goal, open=closed):
        assert np.allclose(ratings(model, "power"), before, atol=1e-5)


def test_stored_directions_steer_by_every_method(study, run):
    sae_run, model = study.runs.latest("sae"), study.model_of(run)
    before = ratings(model, "security")
    moved = {}
    for kind in directions.KINDS:
        for method in ("add", "orthogonal", "conva"):
            told = Steering(
                method=method,
                strength=TRUTH.norm,
                unit="raw",
                direction=f"{run.id}/security/{kind}",
            )
            with model.steered(edit_for(study, sae_run, [told]), Site(1)):
                moved[kind, method] = (ratings(model, "security") - before).mean()
    assert min(moved.values()) > 0.5, moved
    with pytest.raises(BadInput, match="run/value/kind"):
        edit_for(study, sae_run, [Steering(strength=1.0, direction="power")])


class Scripted:
    """Yes where an answer holds a digit above 3, No where below, and one verdict in three that
    nobody can read.
    """

    name = "scripted"

    def __init__(self):
        self.seen = []

    def judge(self, questions, options):
        self.seen += questions
        out = []
        for number, question in enumerate(questions):
            if number % 3 == 2:
                out.append(Verdict(choice="", status="unparsed", text="hm", judge=self.name))
            else:
                choice = (
                    "Yes"
                    if any(digit in question.split("Answer:")[-1] for digit in "456")
                    else "No"
                )
                out.append(Verdict(choice=choice, status="parsed", text=choice, judge=self.name))
        return out


def test_answers_are_judged_counted_and_kept(study, run):
    told = control(study, Control(value="Power", target=0.999), Scripted())
    answers = study.store.sql("SELECT * FROM control_answers WHERE run = ?", [told.id])
    own = answers[answers.kind == "dilemma"]
    assert len(own) == 6
    assert set(own.question) == set(read_dilemmas("", "power", study.system))
    assert (own.status == "unparsed").sum() == 2
    rows = study.store.sql("SELECT * FROM control WHERE run = ?", [told.id]).set_index(
        ["measure", "steering"]
    )
    name = told.summary["steering"]
    for steering in ("base", name):
        side = own[own.steering == steering].sort_values("item")
        parsed = side[side.status == "parsed"]
        assert rows.loc[("csr", steering), "mean"] == pytest.approx(
            np.mean([SIDES[c] for c in parsed.choice])
        )
        assert rows.loc[("csr", steering), "n"] == 2
        assert rows.loc[("csr", steering), "missing"] == 1
        items = answers[(answers.kind == "choice") & (answers.steering == steering)]
        assert rows.loc[("accuracy", steering), "mean"] == pytest.approx(
            (items.answer == items.choice).mean()
        )
        assert rows.loc[("accuracy", steering), "n"] == len(read_choices(""))
    assert answers[answers.steering == "base"].open.sum() == 0
    assert answers[answers.steering == name].open.all()
    assert control(study, Control(value="power", target=0.999), Scripted()).id == told.id


def test_an_interrupted_control_asks_only_what_is_missing(study):
    class Stops(Scripted):
        def judge(self, questions, options):
            if len(self.seen) >= 6:
                raise KeyboardInterrupt
            return super().judge(questions, options)

    settings = Control(value="security", target=0.99, max_new_tokens=8)
    with pytest.raises(KeyboardInterrupt):
        control(study, settings, Stops())
    judge = Scripted()
    told = control(study, settings, judge)
    assert len(judge.seen) == 6, "three answers, two questions each: the base was kept"
    assert study.store.sql("SELECT count(*) AS n FROM control_answers WHERE run = ?", [told.id]).n[
        0
    ] == 2 * (3 + len(read_choices("")))


@pytest.mark.parametrize("detector", ["tfidf", "probe"])
def test_a_closed_gate_answers_as_before_and_an_open_one_as_without(study, run, detector):
    free = control(study, Control(value="power", target=0.999), Scripted())
    shut = control(
        study, Control(value="power", target=0.999, detector=detector, threshold=1.01), Scripted()
    )
    wide = control(
        study, Control(value="power", target=0.999, detector=detector, threshold=0.0), Scripted()
    )
    assert shut.summary["open"] == 0
    written = {}
    for told in (free, shut, wide):
        rows = study.store.sql(
            "SELECT steering, item, answer FROM control_answers WHERE run = ? ORDER BY item",
            [told.id],
        )
        written[told.id] = [
            rows[rows.steering == s].answer.tolist() for s in ("base", told.summary["steering"])
        ]
    assert written[shut.id][0] == written[shut.id][1]
    assert written[wide.id] == written[free.id]
    assert written[free.id][0] != written[free.id][1]


def test_verdicts_that_could_not_be_read_are_not_averaged():
    before = points(("Yes", "No", "Unclear", "", "Maybe"), SIDES)
    assert np.array_equal(before, [1.0, 0.0, 0.5, np.nan, np.nan], equal_nan=True)
    rows = {
        row["steering"]: row
        for row in summarise(before, np.array([1.0, 1.0, np.nan, 1.0, 0.0]), "after", 500, 0)
    }
    assert rows["base"]["mean"] == 0.5
    assert (rows["base"]["n"], rows["base"]["missing"]) == (3, 2)
    assert rows["after"]["mean"] == 0.75
    assert rows["change"]["mean"] == 0.5, "over the two items that were read both times"
    assert rows["change"]["n"] == 2
    nothing = summarise(np.array([np.nan]), np.array([np.nan]), "after", 500, 0)
    assert all(np.isnan(row["mean"]) and row["n"] == 0 for row in nothing)


def test_an_empty_answer_takes_no_side_and_asks_no_judge(study):
    judge = Scripted()
    told = judged(judge, study.system, "power", ["q1", "q2"], ["4", "  "])
    assert [v.choice for v in told.side] == ["Yes", "Unclear"]
    assert told.fluent[1] == Verdict(choice="No", status="parsed", text="", judge="empty answer")
    assert len(judge.seen) == 2
    assert "Power" in judge.seen[0]


def test_questions_are_read_from_files(study, tmp_path):
    pd.DataFrame({"value": ["Power", "security"], "question": ["Should A?", "Should B?"]}).to_csv(
        tmp_path / "d.csv", index=False
    )
    assert read_dilemmas(str(tmp_path / "d.csv"), "power", study.system) == ["Should A?"]
    with pytest.raises(NotFound, match="no dilemma of hedonism; it has power, security"):
        read_dilemmas(str(tmp_path / "d.csv"), "hedonism", study.system)
    item = {"question": "2 + 2?", "options": ["3", "4"], "answer": 1}
    (tmp_path / "c.jsonl").write_text(
        json.dumps(item) + "\n" + json.dumps(item | {"options": "3|4|5"})
    )
    first, second = read_choices(str(tmp_path / "c.jsonl"))
    assert choice_prompt(first) == "2 + 2?\nA. 3\nB. 4\nAnswer:"
    assert second.options == ("3", "4", "5")
    (tmp_path / "bad.jsonl").write_text(json.dumps(item | {"answer": 2}))
    with pytest.raises(BadInput, match="item 1: 2 to 10 options"):
        read_choices(str(tmp_path / "bad.jsonl"))
    assert all(len(read_dilemmas("", value, study.system)) == 3 for value in study.system.ids)


def test_a_detector_that_cannot_be_made_says_so(study, tmp_path):
    with pytest.raises(NotFound, match="holds no classifier"):
        make(study, "classifier", "power")
    with pytest.raises(NotFound, match="accepted label"):
        make(study, "feature", "power")
    with pytest.raises(BadInput, match="no feature 64"):
        make(study, "feature", "power", ["feature=64"])
    pd.DataFrame({"text": ["a", "b"] * 8, "power": [1, 0] * 8}).to_csv(
        tmp_path / "t.csv", index=False
    )
    with pytest.raises(BadInput, match="needs 10 of each"):
        make(study, "tfidf", "power", [f"labelled={tmp_path / 't.csv'}"])


def test_an_endpoint_judges_what_control_did(study):
    with serve(lambda body, number: "Yes") as endpoint:
        done = study.control("power", judge=f"{endpoint.url}#tiny-1", max_new_tokens=4)
        assert done.summary["judge"].endswith("tiny-1")
        assert done.summary["csr_after"] == 1.0
        asked = len(endpoint.requests)
        assert asked > 0
        study.control("power", judge=f"{endpoint.url}#tiny-1", max_new_tokens=4, seed=1)
        assert len(endpoint.requests) == asked, "nothing is asked twice"


def test_control_without_a_judge_or_a_value_says_what_to_name(study):
    with pytest.raises(BadInput, match="--judge"):
        study.control("power")
    with pytest.raises(BadInput, match="--value"):
        study.control("", judge="organism")


def test_a_language_model_writes_the_pairs(tmp_path):
    study = Study(tmp_path / "study")
    fillers = [
        "the soup was still hot",
        "the floor creaked a bit",
        "the lamp needed a new bulb",
        "the post came at noon",
    ]
    (tmp_path / "scenes.txt").write_text(
        "\n".join(f"{a} and {b}" for a in fillers for b in fillers if a != b), encoding="utf-8"
    )

    def reply(body, number):
        if number == 3:
            return "I would rather not."
        scene = body["messages"][0]["content"].split("situation: ")[1].split(".")[0]
        return json.dumps(
            {
                "held": f"{scene} . i locked the doors .",
                "opposed": f"{scene} . i left the windows .",
            }
        )

    with serve(reply) as endpoint:
        done = study.probe(
            model="organism",
            llm=f"{endpoint.url}#tiny-1",
            scenarios=str(tmp_path / "scenes.txt"),
            n_pairs=12,
        )
    assert done.summary["unread"] == 1
    assert done.summary["pairs"] + done.summary["refused"] == 10 * 12 - 1
    with pytest.raises(BadInput, match="--scenarios"):
        study.probe(model="organism", llm="http://127.0.0.1:9/v1#none")


def test_a_measurement_is_steered_where_its_gate_opens(study):
    feature = int(
        study.store.sql(
            "SELECT feature FROM features WHERE n_active > 0 ORDER BY max_activation DESC LIMIT 1"
        ).feature[0]
    )
    told = {
        "features": (str(feature),),
        "strength": 1.0,
        "n_contexts": 6,
        "wordings": ("plain",),
        "replicates": 100,
    }

    def ratings(**gate):
        run = study.measure(**told, **gate)
        rows = study.store.sql(
            "SELECT * FROM responses WHERE run = ? ORDER BY context, item", [run.id]
        )
        base, steered = (
            rows[(rows.steering == "base") == is_base].rating.to_numpy()
            for is_base in (True, False)
        )
        return run.summary.get("gated"), base, steered

    _, base, free = ratings()
    gate = {"gate": "probe", "gate_value": "power"}
    shut, wide = ratings(**gate, threshold=1.01), ratings(**gate, threshold=0.0)
    assert shut[0] == 0
    assert np.array_equal(shut[2], base)
    assert wide[0] == len(base)
    assert np.allclose(wide[2], free, atol=1e-5)
    some, _, mixed = ratings(**gate, threshold=0.5)
    closed = mixed == base
    assert closed.sum() >= len(base) - some
    assert np.allclose(mixed[~closed], free[~closed], atol=1e-5)
    with pytest.raises(BadInput, match="--gate-value"):
        study.measure(**told, gate="probe")
