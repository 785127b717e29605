"""The consensus labeler: voices are weighed by how reliable they are, against a planted truth."""

import json

import numpy as np
import pytest

from feature_store import queries, registry
from feature_store.errors import BadInput
from tests.helpers.planted_features import TEN
from tests.helpers.planted_judgements import data_of, said_by
from tests.helpers.synthetic import synthetic
from workbench.features import verdicts
from workbench.features.labelers.consensus import answers_of

CONSENSUS = registry.get("labelers", "consensus")
FEATURES = 600


def label(judgements, **settings):
    return CONSENSUS.label(data_of(judgements), TEN, CONSENSUS.config(**settings))


def accepted(rows):
    return {row.feature: (row.value, row.polarity, row.part) for row in rows if row.accepted}


@pytest.fixture
def truth():
    return {f: TEN.ids[f % 10] for f in range(200)}


def planted(truth, rng, sensitivity, wrong):
    """A voice that names a share of the truth, and so many features wrongly."""
    named = {f: (value, 1) for f, value in truth.items() if rng.random() < sensitivity}
    for feature in rng.choice(np.arange(200, FEATURES), wrong, replace=False):
        named[int(feature)] = (TEN.ids[int(rng.integers(10))], 0)
    return named


def f1(named, truth):
    right = sum(named.get(f, ("",))[0] == value for f, value in truth.items())
    return 2 * right / (len(named) + len(truth))


def test_a_good_voice_is_believed_against_many_silent_ones(truth):
    rng = np.random.default_rng(0)
    good = planted(truth, rng, 0.97, 2)
    voices = {
        "good": good,
        "careful": planted(truth, rng, 0.75, 0),
        "weak": planted(truth, rng, 0.12, 30),
        "silent": planted(truth, rng, 0.0, 8),
    }
    named = accepted(label(said_by(voices)))
    majority = {f: v for f, v in good.items() if f in voices["careful"] and f in voices["weak"]}
    assert f1(named, truth) >= f1(good, truth) - 0.01 > 0.9
    assert f1(majority, truth) < 0.4
    assert not set(named) & (set(voices["weak"]) - set(range(200)))
    assert all(named[f] == (truth[f], 1, "pole") for f in set(named) & set(truth))


def test_the_posterior_is_kept_beside_who_said_what(truth):
    rng = np.random.default_rng(1)
    voices = {"a": planted(truth, rng, 0.9, 5), "b": planted(truth, rng, 0.9, 5)}
    rows = label(said_by(voices))
    assert all(0 <= row.effect <= 1 and np.isnan(row.score) for row in rows)
    both = [row for row in rows if row.feature in voices["a"] and row.feature in voices["b"]]
    alone = [row for row in rows if row.feature >= 200]
    assert min(row.effect for row in both if row.feature < 200) > max(r.effect for r in alone)
    evidence = json.loads(both[0].evidence)
    assert evidence["yes"].count("(") == 2
    assert evidence["no"] == ""


def test_people_and_runs_speak_together_and_few_words_prove_nothing(truth):
    rng = np.random.default_rng(2)
    voices = {"a": planted(truth, rng, 0.95, 40), "b": planted(truth, rng, 0.6, 2)}
    doubtful = sorted(set(voices["a"]) - set(truth))[:15]
    people = [("Ada", f, "reject", voices["a"][f][0], 1) for f in doubtful]
    people += [("Ada", f, "accept", truth[f], 1) for f in range(40)]
    people += [("Ben", 599, "accept", "power", 1), ("Ben", 598, "unsure", "", 0)]
    rows = label(said_by(voices, people))
    with_people, without = accepted(rows), accepted(label(said_by(voices)))
    assert not set(with_people) & set(doubtful)
    assert f1(with_people, truth) >= f1(without, truth)
    ben = next(row for row in rows if row.feature == 599)
    assert ben.effect < 0.5  # one word of somebody nobody knows, against two runs
    assert "Ben @d" in ben.evidence


def test_of_two_values_the_likelier_one_is_the_label():
    voices = {
        "a": dict.fromkeys(range(60), ("power", 1)),
        "b": dict.fromkeys(range(60), ("power", 1)),
    }
    voices["c"] = dict.fromkeys(range(1, 60), ("power", 1)) | {0: ("hedonism", 1)}
    rows = [row for row in label(said_by(voices)) if row.feature == 0]
    assert {row.value: row.accepted for row in rows} == {"power": True, "hedonism": False}


def test_the_side_is_that_of_the_voice_that_is_reliable(truth):
    rng = np.random.default_rng(3)
    good = {f: (value, -1) for f, (value, _) in planted(truth, rng, 0.97, 2).items()}
    bad = {f: (value, 1) for f, (value, _) in planted(truth, rng, 0.3, 60).items()}
    topic = {f: (value, 0) for f, (value, _) in planted(truth, rng, 0.9, 2).items()}
    named = accepted(label(said_by({"good": good, "bad": bad, "topic": topic})))
    shared = set(good) & set(bad) & set(topic) & set(range(200))
    assert len(shared) > 20
    assert {named[f][1:] for f in shared} == {(-1, "pole")}


def test_a_person_answers_of_what_they_judged_and_a_run_of_all():
    judgements = said_by({"a": {1: ("power", 1)}}, [("Ada", 2, "accept", "hedonism", 1)])
    answers = answers_of(judgements)
    assert len(answers[answers.voice == "a"]) == FEATURES + 2
    assert answers[answers.voice == "Ada @d"].feature.tolist() == [2, 2]
    yes = answers[answers.answer == "yes"][["voice", "feature", "value"]].values.tolist()
    assert sorted(yes) == [["Ada @d", 2, "hedonism"], ["a", 1, "power"]]


def test_one_voice_is_no_consensus():
    with pytest.raises(BadInput, match="two voices or more, got 1"):
        label(said_by({"a": {1: ("power", 1)}}))


def test_both_labelers_make_runs_that_are_pinned_to_what_was_said(tmp_path, monkeypatch):
    monkeypatch.setenv(verdicts.DESK, "here")
    study = synthetic(tmp_path / "study")
    with pytest.raises(BadInput, match="two voices"):
        study.label(labeler="consensus")
    first = study.label(labeler="human")
    assert first.summary["features_labelled"] == 0
    for feature in range(12):
        study.verdict("accept", feature=feature, labeller="Ada", side="held", value="power")
    human = study.label(labeler="human")
    assert human.id != first.id
    assert study.label(labeler="human").id == human.id
    assert (
        human.inputs["labels_0"] == queries.voices(study.store, study.runs.latest("sae").id).run[0]
    )
    assert len(queries.accepted_labels(study.store, human.id, "power")) == 12
    consensus = study.label(labeler="consensus")
    assert consensus.summary["verdicts"] == 12
    assert (consensus.config["n_contexts"], consensus.config["labelled"]) == (0, "")
    study.compact()  # the same verdicts in another run say the same
    assert study.label(labeler="human").id == human.id
    study.verdict("undo", labeller="Ada")
    assert study.label(labeler="human").summary["features_labelled"] == 11
