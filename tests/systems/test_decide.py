"""Decisions of the organism, steered along its planted directions: the truth is known, no SAE
has to be trained."""

import json

import numpy as np
import pytest
import torch

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.records import Steering, ValueProfile
from sae_training.dictionary.loaders import save_sae
from sae_training.dictionary.sae import SAE
from sae_training.engine import scoring
from workbench import organism
from workbench.steering.apply import respondent
from workbench.study import Study
from workbench.systems.value_pilot.scenarios import scores, write
from workbench.verbs import decide

POWER = tuple(str(f.direction) for f in organism.truth().facets if f.value == "power")
SETS = [
    ("power",),
    ("power", "benevolence"),
    ("security", "power"),
    ("power", "tradition"),
    ("power",),
    ("hedonism", "power"),
    ("power",),
    ("achievement", "power"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(study, file of scenarios, revision of the model): the SAE's decoder rows are the planted
    directions.
    """
    folder = tmp_path_factory.mktemp("decide")
    study = Study(folder / "study")
    model = study.model("organism")
    rows = torch.tensor(organism.truth().directions, dtype=torch.float32)
    config = {"model": "organism", "revision": "", "dtype": "float32", "device": "auto"}
    with study.runs.begin("sae", config, {"model": model.revision}, 0) as work:
        sae = SAE(
            W_enc=rows.T.contiguous(),
            W_dec=rows,
            b_enc=torch.zeros(len(rows)),
            b_dec=torch.zeros(rows.shape[1]),
        )
        save_sae(sae, work.folder / "sae")
        work.table(
            "features",
            [
                {
                    "feature": i,
                    "n_active": 1,
                    "density": 0.1,
                    "max_activation": 2.0,
                    "mean_activation": 1.0,
                    "decoder_norm": 1.0,
                    "x": 0.0,
                    "y": 0.0,
                }
                for i in range(len(rows))
            ],
        )
        work.finish(
            {"layer": 1, "point": "resid_post", "median_norm": 20.0, "n_features": len(rows)}
        )
    file = folder / "power.jsonl"
    write(
        file,
        organism.scenarios([tuple(v for v in study.system.ids if v in s) for s in SETS], 10, 3),
    )
    return study, file, model.revision


def effects(study, run, value="power"):
    rows = study.store.sql(
        "SELECT * FROM decision_effects WHERE run = ? AND outcome = 'expected' AND value = ?",
        [run.id, value],
    )
    return rows[rows.kind == "steering"].iloc[0], rows[rows.kind == "random-direction"]


def test_answers_are_kept_under_every_digit_of_a_steering(told):
    study, _, _ = told
    names = {
        respondent(
            study,
            study.resolve("sae", "latest"),
            Steering(features=((3, 1.0),), strength=s, unit="raw"),
        ).name
        for s in (0.3, 0.30000001)
    }
    assert len(names) == 2


def test_a_flag_that_the_sae_contradicts_is_refused(told):
    study, file, _ = told
    with pytest.raises(BadInput, match="--dtype bfloat16"):
        study.decide(scenarios=str(file), dtype="bfloat16")


def test_steering_a_value_moves_decisions_its_way_and_random_directions_do_not(told, monkeypatch):
    study, file, _ = told
    settings = {
        "scenarios": str(file),
        "features": POWER,
        "unit": "raw",
        "strength": 6.0,
        "controls": 6,
    }
    swept = []
    true_sweep = scoring.sweep_ids
    monkeypatch.setattr(
        scoring,
        "sweep_ids",
        lambda model, ids, *more: (swept.extend(ids), true_sweep(model, ids, *more))[1],
    )
    monkeypatch.setattr(decide, "TOGETHER", 3)

    def stop(stage, done, total):
        if done == 4:  # in the middle of the second three
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.decide(progress=stop, **settings)
    up = study.decide(**settings)
    assert len(swept) == len(SETS) + 3, (
        "an interrupted run goes on where it was; the three at hand are asked again"
    )
    assert study.decide(**settings) == up
    assert len(swept) == len(SETS) + 3
    found, controls = effects(study, up)
    assert found.low > 0
    assert found.effect > found.null_high
    assert (found.effect > controls.effect.abs()).all()
    assert (found.n, found.missing, len(controls)) == (len(SETS), 0, 6)
    assert found.steered - found.base == pytest.approx(found.effect)
    down, _ = effects(study, study.decide(**(settings | {"strength": -6.0})))
    assert down.high < 0
    # by hand, for the first scenario: softmax over log-probabilities a token
    rows = study.store.sql(
        "SELECT * FROM choices WHERE run = ? AND scenario = 's0000' AND kind = 'base'", [up.id]
    ).iloc[0]
    weight = np.exp(np.array(rows.logprobs) / np.array(rows.tokens))
    assert np.array(rows.probabilities) == pytest.approx(weight / weight.sum())
    assert rows.chosen == weight.argmax()
    model = study.model("organism")
    first, *_ = organism.scenarios([SETS[0]], 10, 3)
    assert model.score([f"{first.text} {organism.CHOOSE}"], [f" {a.text}" for a in first.actions])[
        0
    ].numpy() == pytest.approx(np.array(rows.logprobs), abs=1e-3)
    summed = study.decide(scenarios=str(file), length="sum")
    row = study.store.sql(
        "SELECT * FROM choices WHERE run = ? AND scenario = 's0000'", [summed.id]
    ).iloc[0]
    weight = np.exp(np.array(row.logprobs))
    assert np.array(row.probabilities) == pytest.approx(weight / weight.sum())


def test_controls_are_as_long_as_the_step_they_stand_beside(told):
    study, file, _ = told
    run = study.decide(
        scenarios=str(file), features=POWER[:2], unit="feature_max", strength=1.0, controls=2
    )
    names = study.store.sql(
        "SELECT DISTINCT steering FROM choices WHERE run = ? AND kind = 'random-direction' ORDER"
        " BY 1",
        [run.id],
    ).steering
    assert names.tolist() == [
        "add random0 @2.82843 raw",
        "add random1 @2.82843 raw",
    ]  # 2 x sqrt 2: two features of maximum 2


def test_generated_answers_are_counted_whether_read_or_not(told):
    study, file, _ = told
    run = study.decide(
        scenarios=str(file),
        features=POWER,
        unit="raw",
        strength=6.0,
        controls=1,
        mode="generate",
        new_tokens=12,
    )
    rows = study.store.sql("SELECT * FROM choices WHERE run = ?", [run.id])
    assert len(rows) == run.summary["choices"] == 3 * len(SETS)
    assert (rows.chosen[rows.status != "parsed"] == -1).all()
    assert run.summary["missing"] == (rows.status != "parsed").sum()
    effect = study.store.sql(
        "SELECT * FROM decision_effects WHERE run = ? AND value = 'power'", [run.id]
    )
    assert set(effect.outcome) == {"chosen"}
    assert (effect.n + effect.missing == len(SETS)).all()


def test_preferences_rank_the_actions_and_the_models_ranking_is_compared(told, tmp_path):
    study, file, revision = told
    wanted = tmp_path / "p.json"
    wanted.write_text(
        json.dumps({value: 1.0 if value == "power" else 0.5 for value in study.system.ids})
    )
    run = study.decide(
        scenarios=str(file),
        features=POWER,
        unit="raw",
        strength=12.0,
        controls=0,
        preference=str(wanted),
    )
    rows = study.store.sql(
        "SELECT * FROM agreements WHERE run = ? AND metric = 'os_sim' ORDER BY steering = 'base'",
        [run.id],
    )
    assert rows.steering.tolist()[1] == "base"
    assert rows["mean"][0] > rows["mean"][1] > 0, (
        "a model steered to power ranks more as a lover of power would"
    )
    assert rows.low[0] > rows.chance[0]
    assert (rows.n == len(SETS)).all()
    by_words = study.decide(
        scenarios=str(file), preference=str(wanted), assessor="tfidf", folds=4, variant="released"
    )
    assert -1 <= by_words.summary["assessor_r"] <= 1
    assert len(study.store.sql("SELECT * FROM agreements WHERE run = ?", [by_words.id])) == 2

    def profile(model, mean):
        with study.runs.begin(
            "profile", {"instrument": "standin", "mean": mean}, {"model": model}, 0
        ) as work:
            work.table(
                "profiles",
                [
                    ValueProfile(
                        steering="base",
                        value=v,
                        mean=mean,
                        low=mean,
                        high=mean,
                        n=9,
                        parsed=9,
                        missing=0,
                        centred=False,
                    )
                    for v in study.system.ids
                ],
            )
            return work.finish({}).id

    measured = study.decide(scenarios=str(file), preference=profile(revision, 3.5))
    assert 0 <= measured.summary["os_sim"] <= 1
    with pytest.raises(Incompatible, match="another model"):
        study.decide(scenarios=str(file), preference=profile("0" * 40, 3.5))
    with pytest.raises(BadInput, match="no answer for some value"):
        study.decide(scenarios=str(file), preference=profile(revision, float("nan")))


def test_mistakes_are_one_line_and_leave_nothing(told, tmp_path):
    study, file, _ = told
    before = study.runs.ids()
    half = tmp_path / "half.json"
    half.write_text('{"power": 0.5}')
    for settings, error, said in (
        ({"mode": "generate", "preference": str(half)}, BadInput, "--mode logprob"),
        ({"assessor": "tfidf"}, BadInput, "Give --preference"),
        ({"preference": str(half)}, BadInput, "no preference between 0 and 1 for self-direction"),
        ({"preference": "none.json"}, NotFound, "no file"),
        ({"features": ("9999",), "strength": 1.0}, BadInput, "features 0 to"),
    ):
        with pytest.raises(error, match=said):
            study.decide(**({"scenarios": str(file)} | settings))
    with pytest.raises(NotFound, match="workbench scenarios"):
        study.decide()
    assert study.runs.ids() == before


def test_a_run_of_scenarios_is_decided_without_the_rejected_ones(tmp_path, told):
    study, _, _ = told
    run = study.scenarios(llm="organism", n=4)
    assert study.decide(scenarios=run.id, model="organism").summary["scenarios"] == 4
    study.review(scenarios=run.id, scenario="s0001", verdict="reject")
    fewer = study.decide(scenarios=run.id, model="organism")
    assert fewer.summary["scenarios"] == 3
    kept = study.store.sql(
        "SELECT DISTINCT scenario FROM choices WHERE run = ? ORDER BY 1", [fewer.id]
    ).scenario.tolist()
    assert kept == ["s0000", "s0002", "s0003"]
    known = study.store.sql(
        "SELECT scored, scores FROM actions WHERE run = ? AND scenario = 's0000' ORDER BY action",
        [run.id],
    )
    made = organism.scenarios(
        [
            tuple(
                study.store.sql(
                    "SELECT at_stake FROM scenarios WHERE run = ? AND number = 0", [run.id]
                ).at_stake[0]
            )
        ],
        10,
        0,
    )
    assert np.stack(known.scores).tolist() == scores(made[0], study.system.ids).tolist()
