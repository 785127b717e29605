"""The whole story at a tenth of the data, on the organism: verbs, resuming, and the way from a
number to its generations."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import workbench
from feature_store import queries
from feature_store.errors import BadInput, Incompatible
from feature_store.progress import silent
from feature_store.records import Steering
from tests.helpers.browser import Tab, served
from workbench import organism, steer
from workbench.causal.joint import known_predictors, swept_units
from workbench.causal.predict import predict
from workbench.command.demo import FAST, demo
from workbench.study import Study

pytestmark = pytest.mark.slow_file


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("study") / "fast")
    seen: dict[str, tuple[int, int]] = {}

    def progress(stage, done, total):
        seen[stage] = (done, total)

    outcome = demo(study, True, progress)
    return study, outcome, seen


def test_every_verb_leaves_a_finished_run(told):
    study, outcome, seen = told
    assert [run.kind for run in study.runs.all()] == [
        "sae",
        "labels",
        "profile",
        "effects",
        "graph",
    ]
    assert study.runs.unfinished() == []
    assert all(study.runs.damaged(run.id) == [] for run in study.runs.all())
    assert all(done == total for done, total in seen.values()), "every bar reaches its end"
    assert (study.folder / "result.png").stat().st_size > 10_000
    assert "SHD" in str(outcome)


def test_asking_again_makes_nothing_new(told):
    study, outcome, _ = told
    before = study.runs.ids()
    assert demo(study, True, silent).runs == outcome.runs
    assert study.runs.ids() == before


def test_the_ten_lines_of_the_readme_run(told, monkeypatch, capsys):
    study, outcome, _ = told

    class SmallStudy(Study):
        """Runs each verb with the settings of the fast demo, whose runs are there."""

        def do(self, verb, settings, progress=silent):
            assert verb in outcome.runs
            return super().do(verb, settings | FAST[verb], progress)

    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"## Ten lines of notebook\n+```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    assert '"studies/first"' in code
    monkeypatch.setattr(workbench, "Study", SmallStudy, raising=False)
    exec(code.replace('"studies/first"', repr(str(study.folder))), {})
    assert capsys.readouterr().out.strip(), "the steered model wrote something"
    assert set(study.runs.ids()) == {run.id for run in outcome.runs.values()}


def test_labels_are_of_features_that_are_there_and_tell_the_truth(told):
    study, outcome, _ = told
    labels = study.store.sql("SELECT * FROM labels WHERE accepted")
    assert len(labels) >= 20
    assert labels.q.max() < 0.05
    truth, sae = organism.truth(), study.sae(outcome.runs["train"])
    decoder = sae.W_dec.numpy() / np.linalg.norm(sae.W_dec.numpy(), axis=1, keepdims=True)
    cosine = decoder @ truth.directions[[f.direction for f in truth.facets]].T
    best = np.abs(cosine).argmax(1)
    right = [
        truth.facets[best[row.feature]].value == row.value
        and np.sign(cosine[row.feature, best[row.feature]]) == row.polarity
        for row in labels.itertuples()
    ]
    assert np.mean(right) >= 0.85


def test_output_scores_tell_features_that_write_their_value_from_those_that_read_it(told):
    study, outcome, _ = told
    scores = study.store.sql(
        "SELECT * FROM output_scores WHERE run = ?", [outcome.runs["label"].id]
    )
    assert len(scores) == study.store.sql("SELECT count(*) AS n FROM labels WHERE accepted").n[0]
    truth, sae = organism.truth(), study.sae(outcome.runs["train"])
    decoder = sae.W_dec.numpy() / np.linalg.norm(sae.W_dec.numpy(), axis=1, keepdims=True)
    cosine = [
        max(
            r.polarity * decoder[r.feature] @ truth.directions[f.direction]
            for f in truth.facets
            if f.value == r.value
        )
        for r in scores.itertuples()
    ]
    writes = np.array(cosine) >= 0.5
    # How well they tell the two apart is a figure of `python -m benchmarks labels`; a tenth of the
    # data only shows the direction.
    assert scores.output[writes].median() > scores.output[~writes].median()
    assert (scores.output > scores.null_high)[writes].mean() > 0.7
    assert outcome.runs["effects"].summary["chosen_by"] == "output"
    assert outcome.runs["effects"].summary["questions_that_chose"] == 0


def test_every_effect_leads_back_to_its_ratings(told):
    study, outcome, _ = told
    run = outcome.runs["effects"].id
    effect = study.store.sql(
        "SELECT * FROM dose_effects WHERE run = ? ORDER BY abs(effect) DESC LIMIT 1", [run]
    ).iloc[0]
    ratings = study.store.sql(
        "SELECT r.context, avg(r.rating) AS steered, avg(r.base) AS base FROM ratings r JOIN"
        " interventions i USING (run, intervention) WHERE r.run = ? AND i.unit_id = ? AND i.dose ="
        " ? AND r.value = ? GROUP BY ALL",
        [run, int(effect.unit_id), float(effect.dose), effect.target],
    )
    assert len(ratings) == effect.n
    change = (ratings.steered - ratings.base).mean()
    assert change == pytest.approx(effect.points, abs=1e-4)
    assert change / ratings.base.std() == pytest.approx(effect.effect, abs=1e-3)
    prompts = study.store.sql("SELECT count(*) AS n FROM prompts WHERE run = ?", [run]).n[0]
    assert (
        study.store.sql(
            "SELECT count(*) AS n FROM ratings WHERE run = ? AND intervention = 0", [run]
        ).n[0]
        == prompts
    )


def test_own_values_rise_and_controls_do_not(told):
    study, outcome, _ = told
    cells = study.store.sql(
        "SELECT * FROM side_effects WHERE run = ?", [outcome.runs["effects"].id]
    )
    own = cells[cells.source == cells.target]
    assert (own.effect > own.null_high).mean() >= 0.8
    assert (cells.low <= cells.effect).all()
    assert (cells.effect <= cells.high).all()
    assert set(cells.n) == {FAST["effects"]["n_contexts"]}


def test_steering_changes_the_profile_and_leaves_nothing_behind(told):
    study, outcome, _ = told
    sae_run = outcome.runs["train"]
    label = study.store.sql(
        "SELECT * FROM labels WHERE accepted AND polarity = 1 ORDER BY score DESC LIMIT 1"
    ).iloc[0]
    model = study.model_of(sae_run)
    prompts = ["I was at home."] * 2
    before = model.score(prompts, [" 1", " 6"])
    with steer(
        study, sae_run, Steering(features=((int(label.feature), 1.0),), strength=0.5)
    ) as steered:
        assert steered.generate(prompts, 5)
    assert (model.score(prompts, [" 1", " 6"]) == before).all()
    run = study.measure(features=f"{label.feature}", strength=0.5, n_contexts=6, replicates=200)
    profile = study.store.sql(
        "SELECT steering, mean FROM profiles WHERE run = ? AND value = ? AND NOT centred",
        [run.id, label.value],
    )
    by = dict(zip(profile.steering, profile["mean"], strict=True))
    assert by[run.summary["steering"]] > by["base"] + 0.3


def test_joint_steerings_are_predicted_and_measured(told):
    study, outcome, _ = told
    run = study.predict(steerings=8, replicates=200)
    assert study.predict(steerings=8, replicates=200).id == run.id
    sql = study.store.sql
    assert set(
        sql("SELECT model, count(*) AS n FROM predictions WHERE run = ? GROUP BY ALL", [run.id]).n
    ) == {80}
    features = sql(
        "SELECT intervention, count(*) AS n FROM joint_features WHERE run = ? GROUP BY ALL",
        [run.id],
    )
    assert set(features.n) <= {2, 3, 4}
    row = sql(
        "SELECT * FROM predictions WHERE run = ? AND model = 'linear' ORDER BY abs(measured) DESC"
        " LIMIT 1",
        [run.id],
    ).iloc[0]
    ratings = sql(
        "SELECT avg(rating) - avg(base) AS change FROM ratings WHERE run = ? AND intervention = ?"
        " AND value = ?",
        [run.id, int(row.intervention), row.value],
    )
    assert ratings.change[0] == pytest.approx(row.measured, abs=1e-4)
    scores = sql(
        "SELECT * FROM prediction_scores WHERE run = ? AND value = 'all'", [run.id]
    ).set_index("model")
    assert (scores.r2 > scores.chance).all()
    assert scores.r2["linear"] > 0.7

    known = known_predictors(study)
    feature = int(known.curves.feature[0])
    said = predict(known, ((feature, 0.5),))
    alone = (
        sql("SELECT target, points FROM dose_effects WHERE feature = ? AND dose = 0.5", [feature])
        .set_index("target")
        .points
    )
    assert said.mean == pytest.approx(alone[list(said.values)].to_numpy(), abs=1e-4)
    assert said.held.r2[-1] == pytest.approx(scores.r2["linear"])


def test_a_wish_is_planned_and_measured_in_other_contexts(told):
    study, _, _ = told
    want = "power +0.4 within 0.3, damage <= 1"
    run = study.plan(want, replicates=200)
    assert study.plan(want, replicates=200).id == run.id
    effects = study.store.sql("SELECT * FROM plan_effects WHERE run = ?", [run.id]).set_index(
        "value"
    )
    assert len(effects) == 10
    assert effects.n.unique().tolist() == [FAST["effects"]["n_contexts"] // 2]
    assert effects.measured["power"] > 0.1
    assert run.summary["distance_after"] < run.summary["distance_before"]
    assert abs(effects.control["power"]) < abs(effects.measured["power"])
    weights = study.store.sql(
        "SELECT * FROM joint_features WHERE run = ? AND intervention = 0", [run.id]
    )
    assert len(weights) == run.summary["features"]
    with pytest.raises(BadInput, match="the nearest gives.*power"):
        study.plan("power +5")
    with pytest.raises(BadInput, match="names no value"):
        study.plan("")


def _page(folder: str, sweep: str, name: str):
    import importlib

    import streamlit as st

    from feature_store import queries
    from workbench import views

    study = views.open_study(folder)
    runs = {kind: queries.candidates(study.store, kind) for kind in ("effects", "graph")}
    effects = runs["effects"][runs["effects"].run == sweep].iloc[0]
    st.session_state["study"], st.session_state["chosen"] = (
        study,
        views.ChosenRuns(
            sae=None, labels=None, profile=None, effects=effects, graph=runs["graph"].iloc[0]
        ),
    )
    importlib.import_module(f"workbench.views.{name}").page()


def _shown(study, sweep, name):
    """A page of the app, of one sweep and the newest graph."""
    page = AppTest.from_function(_page, args=(str(study.folder), sweep, name), default_timeout=60)
    page.run()
    assert not page.exception, page.exception[0].message
    return page


@pytest.mark.parametrize(("steer", "kind"), [("groups", "group"), ("directions", "direction")])
def test_groups_and_directions_are_predicted_and_planned_with(told, tmp_path, steer, kind):
    study = Study(shutil.copytree(told[0].folder, tmp_path / "copy"))  # others read the latest runs
    sweep = study.effects(
        steer=steer,
        part="pole",
        n_contexts=8,
        doses=(0.3, 0.6),
        random_features=0,
        random_directions=0,
        n_neutral=4,
        replicates=200,
    )
    sql = study.store.sql
    run = study.predict(effects=sweep.id, graph="", steerings=8, replicates=200)
    assert run.summary["steered"] == f"{steer} of its pole"
    parts = sql("SELECT * FROM joint_units WHERE run = ?", [run.id])
    assert set(parts.kind) == {kind}
    assert set(parts.groupby("intervention").size()) <= {2, 3, 4}
    scores = sql("SELECT * FROM prediction_scores WHERE run = ? AND value = 'all'", [run.id])
    assert scores.r2[0] > max(scores.chance[0], 0.8)

    # A name means what the sweep steered: alone, at a measured dose, it does the same.
    units = swept_units(study, sweep, Steering())
    steered = sql("SELECT * FROM interventions WHERE run = ? AND kind = ?", [sweep.id, kind])
    steerings = steered[steered.dose == 0.6].sort_values("unit_id").steering
    assert [replace(unit, strength=0.6).name for unit in units.values()] == [*steerings]
    name = next(iter(units))
    alone = sql(
        "SELECT target, points FROM dose_effects WHERE run = ? AND unit_id = 0 AND dose = 0.6",
        [sweep.id],
    ).set_index("target")
    known = known_predictors(study, sweep.id)
    prediction = predict(known, ((name, 0.6),))
    assert prediction.mean == pytest.approx(alone.points[[*prediction.values]].to_numpy(), abs=1e-4)
    assert prediction.held.r2[-1] == pytest.approx(scores.r2[0])

    value = str(known.curves.source[0])
    size = abs(alone.points[value])
    plan = study.plan(
        f"{value} >= {size / 2:.2f}", effects=sweep.id, max_features=2, replicates=200
    )
    assert 1 <= plan.summary[steer] <= 2
    assert plan.summary["held_out_r2"] == pytest.approx(scores.r2[0])
    assert plan.summary["distance_after"] < plan.summary["distance_before"] / 2
    assert plan.summary["distance_control"] > plan.summary["distance_before"] / 2
    turned, control = (queries.joint_units(study.store, plan.id, number) for number in (0, 1))
    assert set(turned.kind) == {kind}
    assert set(turned.name) <= set(units)
    assert set(control.kind) == {"random-direction"}
    assert control.weight.tolist() == turned.weight.tolist()
    graph = study.graph(effects=sweep.id, replicates=100)
    assert graph.summary["steered"] == f"{steer} of its pole"
    page = _shown(study, sweep.id, "graph")
    assert f"each steered by {steer} of its pole" in page.caption[0].value
    assert page.warning[0].value.startswith(f"{kind.capitalize()}-level graph")
    page = _shown(study, sweep.id, "plan")
    assert page.dataframe[0].value.turned[0] == f"{kind} {turned.name[0]}"
    with pytest.raises(BadInput, match=f"more damage or more {steer}"):
        study.plan(f"{value} +4.9", effects=sweep.id, replicates=200)
    with pytest.raises(BadInput, match=f"of the swept {steer}, got 99"):
        study.predict(effects=sweep.id, graph="", steerings=4, largest=99, replicates=200)


@pytest.mark.browser
def test_the_app_steers_the_model(told, browser):
    study, _, _ = told
    with served(study.folder) as address:
        tab = Tab(browser, address)
        tab.page.set_default_timeout(90_000)  # the model is loaded and asked, on a busy machine
        tab.open("steer", "Strength")
        tab.page.get_by_role("button", name="Write").click()
        tab.see("seed 0")
        tab.settled()
        default, steered = (box.inner_text() for box in tab.page.locator(".written").all())
        assert len(default) > 20
        assert len(steered) > 20
        assert default != steered
        tab.page.get_by_role("tab", name="Values").click()
        tab.page.get_by_role("button", name="Measure").click()
        tab.see("bootstrapped over 12 contexts")
        tab.settled()
        tab.see("95 % interval")
        tab.well()
        tab.page.close()


def test_a_killed_sweep_resumes_to_the_same_numbers(told, tmp_path):
    study, outcome, _ = told
    copy = Study(tmp_path / "copy")
    for run in (outcome.runs["train"], outcome.runs["label"]):
        os.makedirs(copy.runs.folder, exist_ok=True)
        shutil.copytree(study.runs.folder / run.id, copy.runs.folder / run.id)
    flags = [
        "--n-contexts",
        "4",
        "--features-per-value",
        "1",
        "--doses",
        "0.2,0.4,0.6,0.8,1.0,1.2",
        "--random-features",
        "2",
        "--random-directions",
        "2",
    ]
    words = [sys.executable, "-m", "workbench.command.cli", "effects", str(copy.folder), *flags]
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    kept = copy.runs.folder / ".work"
    deadline = time.monotonic() + 300
    while (
        not list(kept.glob("*/state/ratings/*.parquet"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [run.kind for run in copy.runs.unfinished()] == ["effects"]
    assert len(copy.store.sql("SELECT * FROM side_effects")) == 0, "nothing half-visible"
    subprocess.run(
        words, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    whole = Study(tmp_path / "whole")
    os.makedirs(whole.runs.folder, exist_ok=True)
    for run in (outcome.runs["train"], outcome.runs["label"]):
        shutil.copytree(study.runs.folder / run.id, whole.runs.folder / run.id)
    subprocess.run(
        [*words[:4], str(whole.folder), *flags],
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    query = "SELECT * FROM side_effects ORDER BY ALL"
    assert copy.store.sql(query).equals(whole.store.sql(query))
    assert copy.store.sql("SELECT * FROM ratings ORDER BY ALL").equals(
        whole.store.sql("SELECT * FROM ratings ORDER BY ALL")
    )


def test_a_run_of_another_kind_or_model_is_refused(told):
    study, outcome, _ = told
    with pytest.raises(BadInput, match="one of kind 'labels' is needed"):
        study.effects(labels=outcome.runs["train"].id)
    with pytest.raises(BadInput, match="Doses are positive, rising"):
        study.effects(doses=(1.0, 0.5))
    with pytest.raises(BadInput, match="belongs to organism"):
        study.measure(model="other", features="1", strength=1.0)


def test_a_model_that_changed_is_noticed(told, monkeypatch):
    study, outcome, _ = told
    run = outcome.runs["train"]
    monkeypatch.setattr(study.model_of(run), "revision", "0" * 40)
    with pytest.raises(Incompatible, match="Restore the model"):
        study.model_of(run)


def test_methods_are_compared_and_every_number_leads_back(told):
    study, _, _ = told
    study.probe(n_pairs=20)
    seen = {}
    settings = {
        "values": "power,benevolence",
        "methods": "add",
        "features_per_value": 2,
        "strengths": (0.2, 0.4),
        "n_contexts": 8,
        "n_neutral": 8,
        "n_texts": 4,
        "new_tokens": 12,
        "replicates": 200,
    }
    run = study.compare(
        progress=lambda stage, done, total: seen.update({stage: (done, total)}), **settings
    )
    assert study.compare(**settings).id == run.id
    assert all(done == total for done, total in seen.values()), "every bar reaches its end"
    sql = study.store.sql
    arms = sql("SELECT * FROM arms WHERE run = ?", [run.id])
    chosen = arms[arms.chosen].set_index(["arm", "value"])
    assert len(arms) == 8 * 2 * 2
    assert len(chosen) == 8 * 2
    for arm in ("sae-add", "difference-of-means", "probe", "conva", "prompt"):
        assert (chosen.loc[arm].low > 0).all(), arm
    assert (chosen.loc["wrong-sign"].high < 0).all()
    means = sql("SELECT * FROM arm_means WHERE run = ?", [run.id]).set_index("arm")
    assert abs(means.effect["random-direction"]) < means.effect["sae-add"] / 3
    assert means.tokens["prompt"] > 3
    assert means.tokens["sae-add"] == 0
    assert (means.seconds > 0).all()
    assert means.harmonic.notna().all()
    # The effect of a prompt is that of its own ratings, in the contexts that report.
    from workbench.causal.joint import halves

    row = chosen.loc[("prompt", "power")]
    ratings = (
        sql(
            "SELECT context, avg(rating) - avg(base) AS change FROM ratings WHERE run = ? AND"
            " intervention = ? AND value = 'power' GROUP BY context",
            [run.id, int(row.intervention)],
        )
        .set_index("context")
        .change
    )
    assert ratings[halves(8, 0)[1]].mean() == pytest.approx(row.points, abs=1e-4)
    questions = sql(
        "SELECT prompt FROM prompts WHERE run = ? AND value = 'power' AND context = 3", [run.id]
    ).prompt
    model = study.model_of(study.resolve("sae", "latest"))
    scores = np.exp(
        model.score([f"{row.prompt} {q}" for q in questions], [f" {k}" for k in range(1, 7)])
        .double()
        .numpy()
    )
    again = (scores / scores.sum(1, keepdims=True)) @ np.arange(1, 7)
    rated = sql(
        "SELECT avg(rating) AS r FROM ratings WHERE run = ? AND intervention = ? AND value ="
        " 'power' AND context = 3",
        [run.id, int(row.intervention)],
    )
    assert again.mean() == pytest.approx(rated.r[0], abs=1e-4)
    texts = sql("SELECT * FROM arm_texts WHERE run = ?", [run.id])
    assert len(texts) == 4 * (1 + 32)
    assert set(texts[texts.intervention >= 0].concept) <= {0.0, 1.0, 2.0}
    assert texts[texts.intervention < 0].concept.isna().all()
    contrasts = sql("SELECT * FROM arm_contrasts WHERE run = ?", [run.id])
    assert set(contrasts.baseline) <= {"prompt", "difference-of-means"}
    with pytest.raises(BadInput, match="Strengths are positive"):
        study.compare(strengths=(0.4, 0.2))
    bare = study.compare(**(settings | {"probes": "", "values": "power", "n_texts": 0}))
    assert bare.summary["methods"] == 2
    assert sql("SELECT harmonic FROM arm_means WHERE run = ?", [bare.id]).harmonic.isna().all()
    assert len(sql("SELECT * FROM arm_scores WHERE run = ?", [bare.id])) == 0
