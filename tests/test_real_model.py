"""The same verbs on a real, small model that nobody here trained, with real text and a real value-labelled table.

A model of 260,032 parameters carries no claim about values; this shows that the way through is the same.
"""

import pytest

from workbench.cli import main
from workbench.study import Study


@pytest.fixture(scope="module")
def told(shared, tmp_path_factory):
    """A study of the model, by the command line, at a size for a test."""
    study, model = tmp_path_factory.mktemp("real") / "study", shared / "models" / "stories260K"
    touche = shared / "data" / "touche23"
    common = ["train", str(study), "--model", str(model), "--texts", str(shared / "data" / "text" / "tinystories_sample.txt")]
    assert main([*common, "--layer", "2", "--tokens", "200000", "--n-features", "512", "--k", "12", "--context", "128", "--batch-tokens", "1024"]) == 0
    labels = ["label", str(study), "--labelled", str(touche / "arguments-training.tsv"), "--labels", str(touche / "labels-training.tsv")]
    assert main([*labels, "--text", "Premise", "--context", "Conclusion", "--ignore", "Face", "--limit", "3000"]) == 0
    return Study(study), model


def test_an_sae_of_it_explains_held_out_text(told):
    study, _ = told
    summary = study.runs.latest("sae").summary
    assert summary["fvu"] < 0.35
    assert summary["loss_recovered"] > 0.8
    assert summary["live"] > 300


def test_its_features_are_labelled_with_held_out_scores(told):
    study, _ = told
    labels = study.store.sql("SELECT * FROM labels")
    assert len(labels) > 0
    assert labels.score.between(0, 1).all()
    assert (labels.low <= labels.effect).all()
    assert labels.n.min() > 0


def test_a_sweep_is_measured_on_it(told):
    study, _ = told
    labels = study.store.sql("SELECT * FROM labels WHERE accepted")
    flags = ["--features-per-value", "1", "--doses", "0.3,0.6", "--n-contexts", "4", "--n-neutral", "6", "--random-features", "2", "--random-directions", "2"]
    code = main(["effects", str(study.folder), *flags])
    if labels.empty:  # so small a model may carry no label that holds: then there is nothing to steer, and it says so
        assert code == 2
        return
    assert code == 0
    cells = study.store.sql("SELECT * FROM side_effects")
    assert cells.effect.notna().all()
    assert cells.null_low.notna().all()
    assert set(cells.n) == {4}
    damage = study.store.sql("SELECT dose, avg(damage) AS damage FROM interventions GROUP BY dose ORDER BY dose").damage
    assert damage.is_monotonic_increasing


def test_a_profile_by_generation_keeps_what_it_could_not_read(told):
    study, model = told
    assert main(["measure", str(study.folder), "--model", str(model), "--mode", "generate", "--n-contexts", "2", "--replicates", "200"]) == 0
    answers = study.store.sql("SELECT status, count(*) AS n FROM responses GROUP BY status")
    assert answers.n.sum() == 2 * 2 * 40
    assert set(answers.status) <= {"parsed", "refused", "unparsed"}
    parsed = study.store.sql("SELECT sum(parsed) AS parsed, sum(missing) AS missing FROM profiles WHERE NOT centred")
    assert parsed.parsed[0] + parsed.missing[0] == 2 * 2 * 40


def test_an_sae_of_another_width_is_refused(told, capsys):
    study, model = told
    folder = study.runs.folder / study.runs.latest("sae").id / "sae"
    assert main(["adopt", str(study.folder), str(folder), "--model", "organism", "--layer", "1"]) == 2
    assert "SAE expects d_model 64, the model gives 128" in capsys.readouterr().err
