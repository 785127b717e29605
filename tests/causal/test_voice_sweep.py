"""A sweep in mode voice, and what is built on it: every verb that asks, on the organism."""

import shutil

import numpy as np
import pytest

from feature_store.errors import BadInput, Incompatible
from tests.helpers.labels import LAX
from workbench.causal.joint import known_predictors
from workbench.causal.predict import Predictors, predict
from workbench.measuring import voice
from workbench.study import Study
from workbench.sweeps.stored import read_sweep

SMALL = {"features_per_value": 2, "n_neutral": 4, "replicates": 100}


@pytest.fixture(scope="module")
def study(probed_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("voice") / "study"
    shutil.copytree(probed_study.folder, folder)  # others read the shared one
    made = Study(folder)
    made.label(limit=800, options=LAX, mode="voice", scored_per_value=1)
    made.effects(mode="voice", doses=(0.1, 0.3), random_features=2, random_directions=2, **SMALL)
    return made


def test_features_are_chosen_by_questions_that_no_sweep_asks(study):
    labels, effects = (study.runs.latest(kind) for kind in ("labels", "effects"))
    assert labels.summary["output_contexts"] == 2
    assert effects.summary["contexts"] == 6
    assert effects.summary["questions_that_chose"] == 0


def test_held_and_topic_are_of_the_same_questions(study):
    """The topic's part and what is held are the half sum and the difference of the same scores."""
    run = study.runs.latest("effects").id
    keys = 'run, intervention, context, item, wording, "order", value'
    both = study.store.sql(
        f"SELECT r.rating - r.base AS held, t.rating - t.base AS topic FROM ratings r JOIN"
        f" topic_ratings t USING ({keys}) WHERE run = ?",
        [run],
    )
    assert (
        len(both) == study.store.sql("SELECT count(*) AS n FROM ratings WHERE run = ?", [run]).n[0]
    )
    assert abs(np.corrcoef(both.held, both.topic)[0, 1]) < 0.9
    cells = study.store.sql("SELECT * FROM topic_effects WHERE run = ?", [run])
    sides = study.store.sql("SELECT * FROM side_effects WHERE run = ?", [run])
    assert len(cells) == len(sides)
    assert (cells.held_low <= cells.held).all()
    assert (cells.held <= cells.held_high).all()
    signs = cells.merge(sides, on=["source", "target"])
    assert (np.sign(signs.held) == np.sign(signs.effect)).all()


@pytest.mark.parametrize(
    ("verb", "settings"),
    [
        ("predict", {"graph": "", "steerings": 4, "largest": 2, "replicates": 100}),
        ("plan", {"want": "power +1", "replicates": 100}),
        ("compare", {"mode": "voice", "n_texts": 4, "strengths": (0.1, 0.3), **SMALL}),
        ("contrast", {"mode": "voice", "subjects": ("base", "power+"), "replicates": 100}),
    ],
)
def test_what_is_built_on_it_asks_the_same(study, verb, settings):
    run = study.do(verb, settings)
    if "contexts" in run.summary:
        assert run.summary["contexts"] in (3, 6)
    prompts = study.store.sql("SELECT DISTINCT prompt FROM prompts WHERE run = ?", [run.id])
    known = set(voice.open_questions(chat=False).values())
    assert set(prompts.prompt) <= known


def test_a_prediction_measures_what_the_sweep_did_not_turn_round(study):
    sweep = study.resolve("effects", "latest")
    run = study.predict(effects=sweep.id, graph="", steerings=4, largest=2, replicates=100)
    assert run.config["both_signs"]
    assert run.summary["steerings"] == 4
    parts = study.store.sql(
        "SELECT * FROM joint_features WHERE run = ? AND intervention >= 4", [run.id]
    )
    known = known_predictors(study, sweep.id).curves
    assert len(parts) == len(known.feature) * 2
    assert set(parts.weight) == {-0.1, -0.3}
    measured = read_sweep(study, run.id)
    last = int(parts.intervention.max())
    column = len(known.feature) - 1
    np.testing.assert_allclose(known.change(column, -0.3), measured.changes()[last])
    np.testing.assert_allclose(known.harm(column, -0.3), measured.damage[last])
    prediction = study.store.sql(
        "SELECT intervention, value, predicted FROM predictions WHERE run = ?", [run.id]
    )
    assert set(prediction.intervention) == {0, 1, 2, 3}
    drawn = study.store.sql(
        "SELECT feature, weight FROM joint_features WHERE run = ? AND intervention = 0", [run.id]
    )
    again = predict(Predictors(known), tuple(zip(drawn.feature, drawn.weight, strict=True)))
    rows = prediction[prediction.intervention == 0].set_index("value").predicted
    np.testing.assert_allclose(again.mean, rows[[*again.values]], atol=1e-6)


def test_too_few_questions_are_refused_before_the_sweep(study):
    with pytest.raises(BadInput, match="need four contexts, or open questions, or more, got 2"):
        study.compare(mode="voice", wordings=("matters", "person"), n_texts=0, **SMALL)


def test_rounds_are_refused_also_where_the_mode_follows_from_a_hearing(study, monkeypatch):
    monkeypatch.setattr("workbench.measuring.heard.mode_for", lambda *_: "voice")
    with pytest.raises(BadInput, match="too few open questions to ask them in rounds"):
        study.effects(until=0.1, replicates=1000)


@pytest.mark.parametrize(("steer", "kind"), [("groups", "group"), ("directions", "direction")])
def test_groups_and_directions_are_steered_like_features(study, steer, kind):
    run = study.effects(
        mode="voice",
        steer=steer,
        part="pole",
        doses=(0.1, 0.3),
        random_features=2,
        random_directions=2,
        **SMALL,
    )
    rows = study.store.sql("SELECT * FROM interventions WHERE run = ?", [run.id])
    assert set(rows.kind) >= {kind, "random-direction"}
    units = study.store.sql(
        "SELECT * FROM value_units WHERE unit = ? AND part = 'pole' AND accepted", [kind]
    )
    steered = rows[rows.kind == kind]
    assert set(zip(steered.value, steered.polarity)) == set(zip(units.value, units.polarity))
    # The organism's residual writes what is read of a pole.
    assert run.summary["own_held"] > 0
    graph = study.graph(effects=run.id, replicates=100)
    assert graph.summary["steered"] == f"{steer} of its pole"
    assert graph.summary["level"] == kind
    assert set(graph.summary[steer].values()) <= {1, 2}
    assert "features" not in graph.summary


def test_what_was_not_added_is_not_given_together(study):
    clamped = study.effects(
        mode="voice",
        steer="directions",
        method="clamp",
        doses=(0.1,),
        random_features=0,
        random_directions=0,
        **SMALL,
    )
    for verb, settings in (("predict", {"graph": ""}), ("plan", {"want": "power +1"})):
        with pytest.raises(Incompatible, match="steered directions by clamp; .*--method add"):
            study.do(verb, {"effects": clamped.id, "replicates": 100, **settings})


def test_what_no_text_tells_apart_is_not_steered(study):
    with pytest.raises(
        BadInput, match="has no direction of a value's topic that tells held-out texts apart"
    ):
        few = study.label(limit=60, options=LAX, mode="voice", n_contexts=0, seed=5)
        study.effects(mode="voice", labels=few.id, steer="directions", part="topic", **SMALL)
