"""The survey: on the organism it finds the layer at which values were planted; its advice is taken
and said; what it cannot survey it refuses."""

import copy
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from transformers import AutoModelForCausalLM

from feature_store import queries, registry
from feature_store.errors import BadInput
from tests.helpers import small_models
from workbench import figures
from workbench.command.cli import main
from workbench.organism.planted import LAYER
from workbench.study import Study
from workbench.sweeps.survey import advised, own_less_others, value_directions
from workbench.verbs.survey import RUNNING

SMALL = {
    "limit": 600,
    "n_contexts": 3,
    "directions": 6,
    "n_neutral": 4,
    "replicates": 100,
}


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("survey") / "study")
    return study, study.survey(**SMALL)


def test_the_planted_layer_is_where_values_are_written(surveyed):
    study, run = surveyed
    assert run.summary["layer"] == LAYER
    rows = queries.survey_writing(study.store, run.id)
    mean = rows[rows.value == "all"].set_index("layer")
    assert mean.effect.idxmax() == LAYER
    assert mean.low[LAYER] > mean.null_high[LAYER]
    # The bus is read after layer 1 and no longer after layer 3, where only the answer is left.
    assert mean.effect[3] < 0.05 * mean.effect[LAYER]
    np.testing.assert_allclose(mean.damage, 0.05, rtol=0.5)
    values = rows[(rows.value != "all") & (rows.layer == LAYER)]
    assert len(values) == 10
    assert (values.low > values.null_high).mean() >= 0.9
    assert (rows.n == SMALL["n_contexts"]).all()
    assert (rows.directions == SMALL["directions"]).all()


def test_values_are_read_beyond_permuted_marks(surveyed):
    study, run = surveyed
    rows = queries.survey_reading(study.store, run.id)
    assert set(rows.layer) == {0, 1, 2, 3}
    single = rows[rows.value != "all"]
    assert (single.auroc > single.null_high).mean() > 0.9
    assert ((single.low <= single.auroc) & (single.auroc <= single.high)).all()
    assert single.null_high.between(0.5, 0.85).all()
    assert (single.p >= 1 / 101).all()


def test_the_same_survey_is_one_run_and_another_seed_is_another(surveyed, tmp_path):
    study, run = surveyed
    assert study.survey(**SMALL).id == run.id
    other = Study(tmp_path / "other").survey(**SMALL, n_written=0, seed=1)
    assert other.id != run.id
    assert other.summary["layers_written"] == 0
    assert "none was steered" in other.summary["reason"]


def test_an_interrupted_survey_ends_with_the_same_rows(surveyed, tmp_path):
    study, run = surveyed
    again = Study(tmp_path / "again")

    def stop(stage, done, total):
        if stage == RUNNING and 0 < done < total <= 2 * done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again.survey(stop, **SMALL)
    assert again.survey(**SMALL).id == run.id
    for relation in (queries.survey_reading, queries.survey_writing):
        pd.testing.assert_frame_equal(
            relation(study.store, run.id), relation(again.store, run.id), atol=1e-6
        )


def test_train_takes_the_advice_and_says_so(surveyed, tmp_path):
    study, run = surveyed
    small = {"documents": 60, "tokens": 4_096, "n_features": 32, "k": 4, "cache": False}
    with pytest.warns(UserWarning, match=f"layer {LAYER}, as {run.id} advises"):
        taken = study.train(model="organism", **small)
    assert taken.config["layer"] == LAYER
    # Said once more where it is not needed would be noise; a layer that is named is not advised on.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = study.train(model="organism", layer=LAYER, **small)
    assert named.id == taken.id, "the advice is resolved before the run has its id"
    unsurveyed = Study(tmp_path / "new").train(model="organism", **small)
    assert unsurveyed.id == taken.id, "without a survey the default is what it was"
    other = study.train(model="organism", layer=0, **small)
    with pytest.warns(UserWarning, match=f"reads layer 0, {run.id} advises layer {LAYER}"):
        study.adopt(address=str(study.runs.folder / other.id / "sae"), documents=20)


def test_the_chart_shows_both_panels_and_the_terminal_a_line_a_layer(surveyed, capsys):
    study, run = surveyed
    system = registry.get("values", "schwartz10")
    reading, writing = (
        ask(study.store, run.id) for ask in (queries.survey_reading, queries.survey_writing)
    )
    drawn = figures.survey_layers(reading, writing, system)
    assert json.loads(drawn.to_json())["data"]
    thick = [trace for trace in drawn.data if trace.name == "mean over values"]
    assert [list(trace.x) for trace in thick] == [[0, 1, 2, 3]] * 2
    assert thick[1].x[int(np.argmax(thick[1].y))] == LAYER
    assert figures.survey_layers(reading, writing.head(0), system).data
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert main(["survey", str(study.folder), *flags]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in out[:4]] == [["layer", str(k)] for k in range(4)]
    assert out[4].startswith(f"advised: layer {LAYER}, ")


def test_bad_input_is_refused_in_one_line(tmp_path):
    study = Study(tmp_path / "study")
    with pytest.raises(BadInput, match="layers 0 to 3, got layer 9"):
        study.survey(layers=(1, 9))
    with pytest.raises(BadInput, match="needs 20 texts with a value"):
        study.survey(limit=30)
    table = tmp_path / "texts.csv"
    table.write_text("text,power\nI rule.,0\nI rest.,0\n")
    with pytest.raises(BadInput, match="marks no text with a value"):
        study.survey(labelled=str(table))
    assert study.runs.all() == study.runs.unfinished() == []


def test_a_survey_by_voice_scores_statements_less_their_reversals(tmp_path):
    study = Study(tmp_path / "study")
    run = study.survey(**SMALL | {"mode": "voice", "layers": (1, 3), "replicates": 200})
    rows = queries.survey_writing(study.store, run.id)
    assert set(rows.layer) == {1, 3}
    assert rows.effect.notna().all()
    prompts = study.store.sql("SELECT DISTINCT wording FROM prompts WHERE run = ?", [run.id])
    assert len(prompts) == rows.n.max() == SMALL["n_contexts"]


def test_a_damage_that_is_never_reached_is_marked(tmp_path):
    study = Study(tmp_path / "study")
    run = study.survey(**SMALL | {"layers": (1,), "damage": 1e5})
    rows = queries.survey_writing(study.store, run.id)
    assert not rows.reached.any()
    assert (rows.strength > 1).all()


def test_a_model_of_one_layer_is_surveyed(tmp_path):
    config = copy.deepcopy(small_models.CONFIGS["llama"])
    config.num_hidden_layers, config.max_position_embeddings = 1, 600
    folder = tmp_path / "one"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    small_models.tokenizer().save_pretrained(folder)
    rng = np.random.default_rng(0)
    rows = [f'"text {k} {rng.integers(99)}",{k % 2}' for k in range(80)]
    table = tmp_path / "texts.csv"
    table.write_text("text,power\n" + "\n".join(rows))
    study = Study(tmp_path / "study")
    run = study.survey(model=str(folder), labelled=str(table), mode="logprob", **SMALL)
    assert run.summary["layer"] == 0
    assert run.summary["layers_read"] == run.summary["layers_written"] == 1


def test_advice_weighs_reading_and_writing():
    reading = pd.DataFrame({"layer": [0, 1, 2], "value": "all", "auroc": [0.6, 0.8, 0.78]})
    reading = reading.assign(low=reading.auroc - 0.05, high=reading.auroc + 0.05)
    writing = pd.DataFrame({"layer": [0, 1, 2], "value": "all", "effect": [0.9, 0.2, 0.5]})
    writing = writing.assign(low=writing.effect - 0.1, high=writing.effect + 0.1, null_high=0.1)
    assert advised(reading, writing).layer == 2, "layer 0 writes most and reads little"
    assert advised(reading, writing.head(1)).layer == 0
    assert advised(reading, writing.assign(null_high=1.0)).layer == 1
    assert advised(reading, writing.head(0)).layer == 1


def test_what_raises_every_value_writes_none():
    from workbench.instruments.standin import standin
    from workbench.measuring.questions import questions

    asked = questions(standin(), ["At work.", "At home."], ["number"])
    values = [item.value for item in standin().items]
    values = list(dict.fromkeys(values))
    changes = np.full((2, len(asked)), 0.7)
    changes[1, [q.item.value == "power" for q in asked]] += 0.4
    changed = own_less_others(changes, asked, values)
    assert changed.shape == (2, 2, 10)
    np.testing.assert_allclose(changed[0], 0.0, atol=1e-12)
    np.testing.assert_allclose(changed[1, :, values.index("power")], 0.4)
    np.testing.assert_allclose(changed[1, :, values.index("security")], -0.4 / 9)


def test_directions_leave_topics_out():
    rng = np.random.default_rng(0)
    topic = np.repeat(np.arange(8), 50)
    marks = rng.random((400, 1)) < np.where(topic < 4, 0.8, 0.2)[:, None]
    means = 0.1 * rng.normal(size=(400, 6))
    means[:, 0] += marks[:, 0]
    means[:, 1] += 5 * (topic < 4)
    (direction,) = value_directions(means, marks, topic.astype(str))
    assert direction[0] > 0.98
    assert abs(direction[1]) < 0.1
    with pytest.raises(BadInput, match="alike"):
        value_directions(np.zeros((4, 3)), np.array([[True], [False]] * 2), np.array(["a"] * 4))
