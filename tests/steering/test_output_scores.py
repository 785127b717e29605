"""Output scores: planted changes give what can be worked out by hand; on the organism they are
what steering does, in contexts kept for them."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from feature_store.errors import BadInput
from feature_store.progress import silent
from feature_store.records import Label, Steering
from workbench import material
from workbench.features import output_scores
from workbench.instruments.standin import standin
from workbench.measuring.defaults import SweepAskingSettings, sweep_questions
from workbench.measuring.questions import expected_ratings, option_texts
from workbench.steering.apply import steer
from workbench.sweeps import sweep


def label(
    feature: int, value: str = "power", polarity: int = 1, gain: float = 0.5, accepted: bool = True
) -> Label:
    return Label(
        feature=feature,
        value=value,
        polarity=polarity,
        part="pole",
        effect=1.0,
        low=0.8,
        high=1.2,
        p=1e-6,
        q=1e-5,
        score=0.7,
        gain=gain,
        n=50,
        method="contrast",
        accepted=accepted,
        evidence="{}",
    )


def test_planted_changes_are_found_with_their_interval_and_null():
    rng, values = np.random.default_rng(0), ("power", "security", "hedonism")
    changes = np.zeros((42, 8, 3))
    changes[0] += np.array([0.8, 0.3, -0.4])
    changes[1] += np.array([0.0, 0.0, 0.5])
    changes[2:] = rng.choice((-0.1, 0.1), (40, 1, 3))
    first, second = output_scores.rows_of(
        changes, values, [label(4), label(9, "hedonism", -1)], 0.2, 3
    )
    assert first["output"] == pytest.approx(0.8)
    assert first["beside"] == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 2))
    assert first["null_high"] == pytest.approx(0.1)
    assert (
        second["feature"],
        second["value"],
        second["polarity"],
        second["n"],
        second["seed"],
    ) == (9, "hedonism", -1, 8, 3)
    assert second["output"] == pytest.approx(0.5)
    noisy = changes.copy()
    noisy[0, :, 0] += np.linspace(-0.2, 0.2, 8)
    (row,) = output_scores.rows_of(
        np.concatenate([noisy[:1], noisy[2:]]), values, [label(4)], 0.2, 3
    )
    assert row["low"] < 0.8 < row["high"]
    assert row["output"] == pytest.approx(0.8)


def test_a_feature_under_which_the_model_gives_nan_has_no_score_and_comes_last():
    changes = np.full((26, 4, 2), 0.1)
    changes[0] = np.nan
    row, other = output_scores.rows_of(changes, ("power", "security"), [label(1), label(2)], 0.2, 0)
    assert np.isnan(row["output"])
    assert other["output"] == pytest.approx(0.1)


def test_means_over_questions_weigh_items_of_a_context_alike(probed_study):
    asking = SweepAskingSettings(wordings=("plain",), n_contexts=3)
    asked = sweep_questions(probed_study, "organism", asking)
    values = tuple(dict.fromkeys(q.item.value for q in asked))
    changes = np.random.default_rng(1).normal(size=(2, len(asked)))
    found = output_scores.by_context(changes, asked, values)
    wanted = np.mean(
        [
            c
            for c, q in zip(changes[1], asked, strict=True)
            if q.context == 2 and q.item.value == values[4]
        ]
    )
    assert found.shape == (2, 3, len(values))
    assert found[1, 2, 4] == pytest.approx(wanted)


def test_the_most_specific_accepted_labels_of_each_value_are_measured():
    labels = [
        label(1, gain=0.4),
        label(2, gain=0.9),
        label(3, gain=0.6),
        label(4, gain=1.0, accepted=False),
        label(5, "security", gain=0.1),
    ]
    assert [one.feature for one in output_scores.candidates(labels, 2)] == [2, 3, 5]


def test_labels_without_held_out_texts_come_by_their_effect():
    unknown = {"score": np.nan, "gain": np.nan}
    effects = {1: 2.5, 2: 4.0, 3: 3.0}
    labels = [replace(label(f), effect=effect, **unknown) for f, effect in effects.items()]
    assert [one.feature for one in output_scores.candidates(labels, 2)] == [2, 3]
    frame = pd.DataFrame([{**asdict(one), "output": np.nan} for one in labels])
    assert list(sweep.choose_features(frame, 2).feature) == [2, 3]


def test_features_are_chosen_by_output_where_it_is_known_and_by_specificity_else():
    rows = [(1, 0.9, 0.1), (2, 0.8, 0.7), (3, 0.7, 0.5), (4, 0.95, np.nan)]
    labels = pd.DataFrame(
        [
            {
                "feature": f,
                "value": "power",
                "polarity": 1,
                "gain": g,
                "score": 0.6,
                "effect": 1.0,
                "accepted": True,
                "output": o,
            }
            for f, g, o in rows
        ]
    )
    assert list(sweep.choose_features(labels, 2).feature) == [2, 3]
    assert list(sweep.choose_features(labels, 4).feature) == [2, 3, 1, 4]
    assert list(sweep.choose_features(labels, 2, "input").feature) == [4, 1]
    assert list(sweep.choose_features(labels.assign(output=np.nan), 2).feature) == [4, 1]


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_contexts_that_choose_are_others_than_those_that_measure(seed, tmp_path):
    assert not set(material.held_contexts("organism", 6, seed)) & set(
        material.contexts("organism", 24, seed)
    )
    assert not set(material.held_contexts("", 6, seed)) & set(material.contexts("", 24, seed))
    file = tmp_path / "contexts.txt"
    file.write_text("\n".join(f"Context {n}." for n in range(10)))
    held, measured = (
        material.held_contexts(str(file), 4, seed),
        material.contexts(str(file), 6, seed),
    )
    assert sorted(held + measured) == sorted(f"Context {n}." for n in range(10))
    with pytest.raises(BadInput, match="11 contexts were asked for"):
        material.held_contexts(str(file), 11, seed)


def test_a_score_is_what_steering_does_and_an_interrupted_one_goes_on(probed_study, monkeypatch):
    from sae_training.engine import scoring

    study = probed_study
    sae_run, instrument = study.runs.latest("sae"), standin()
    asking = SweepAskingSettings(wordings=("plain",), n_contexts=3)
    asked = sweep_questions(study, "organism", asking, held=True)
    alive = study.store.sql(
        "SELECT feature FROM features WHERE n_active > 0 ORDER BY feature"
    ).feature
    value = asked[0].item.value
    labels = [label(int(f), value, -1 if n % 2 else 1) for n, f in enumerate(alive[:30])]
    calls, whole = [], scoring.sweep

    def counted(*args):
        calls.append(args[3].rows)
        return whole(*args)

    monkeypatch.setattr(scoring, "sweep", counted)

    def stop(stage, done, total):
        raise KeyboardInterrupt

    design = output_scores.OutputDesign(
        instrument=instrument, questions=asked, labels=labels, dose=0.2, seed=0
    )
    told = (study, sae_run, design)
    with (
        pytest.raises(KeyboardInterrupt),
        study.runs.begin("labels", {"only": "here"}, {"sae": sae_run.id}, 0) as work,
    ):
        output_scores.measure(work, *told, stop)
    with study.runs.begin("labels", {"only": "here"}, {"sae": sae_run.id}, 0) as work:
        rows = output_scores.measure(work, *told, silent)
    assert calls == [48, 30 + output_scores.DIRECTIONS - 48], "the first chunk was measured once"
    monkeypatch.undo()
    model, options = study.model_of(sae_run), option_texts(instrument, study.model_of(sae_run))
    own = [q for q in asked if q.item.value == value]
    for row in (rows[0], rows[1]):
        base = expected_ratings(model.score([q.prompt for q in own], options).double().numpy(), own)
        with steer(
            study,
            sae_run,
            Steering(features=((row["feature"], float(row["polarity"])),), strength=0.2),
        ) as steered:
            after = expected_ratings(
                steered.score([q.prompt for q in own], options).double().numpy(), own
            )
        assert row["output"] == pytest.approx(float((after - base).mean()), abs=1e-4)
        assert row["n"] == 3


def test_a_study_of_other_values_than_the_instrument_gets_labels_without_output_scores(
    tmp_path, probed_study
):
    from workbench.study import Study
    from workbench.verbs.label import LabelSettings, _questions

    other = Study(tmp_path / "nineteen", system="schwartz19")
    run = probed_study.runs.latest("sae")
    assert _questions(other, LabelSettings(), run) == []
    assert len(_questions(probed_study, LabelSettings(), run)) == 6 * 40
    assert _questions(probed_study, LabelSettings(n_contexts=0), run) == []
