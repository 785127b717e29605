"""The same verbs on a real, small model that nobody here trained, with real text and a real
value-labelled table.

A model of 260,032 parameters carries no claim about values; this shows that the way through is the
same.
"""

import pytest

from workbench.command.cli import main
from workbench.study import Study

SCALE = ("--mode", "logprob")
"""Which mode hears the model is not tried: so small a one would be tried for as long as it is
trained."""


@pytest.fixture(scope="module")
def told(shared, tmp_path_factory):
    """A study of the model, by the command line, at a size for a test."""
    study, model = tmp_path_factory.mktemp("real") / "study", shared / "models" / "stories260K"
    touche = shared / "data" / "touche23"
    common = [
        "train",
        str(study),
        "--model",
        str(model),
        "--texts",
        str(shared / "data" / "text" / "tinystories_sample.txt"),
    ]
    assert (
        main(
            [
                *common,
                "--layer",
                "2",
                "--tokens",
                "200000",
                "--n-features",
                "512",
                "--k",
                "12",
                "--context",
                "128",
                "--batch-tokens",
                "1024",
            ]
        )
        == 0
    )
    labels = [
        "label",
        str(study),
        *SCALE,
        "--labelled",
        str(touche / "arguments-training.tsv"),
        "--labels",
        str(touche / "labels-training.tsv"),
    ]
    assert (
        main(
            [
                *labels,
                "--text-column",
                "Premise",
                "--context",
                "Conclusion",
                "--ignore",
                "Face",
                "--limit",
                "3000",
            ]
        )
        == 0
    )
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
    flags = [
        "--features-per-value",
        "1",
        "--doses",
        "0.3,0.6",
        "--n-contexts",
        "4",
        "--n-neutral",
        "6",
        "--random-features",
        "2",
        "--random-directions",
        "2",
    ]
    code = main(["effects", str(study.folder), *SCALE, *flags])
    # so small a model may carry no label that holds: then there is nothing to steer, and it says so
    if labels.empty:
        assert code == 2
        return
    assert code == 0
    cells = study.store.sql("SELECT * FROM side_effects")
    assert cells.effect.notna().all()
    assert cells.null_low.notna().all()
    assert set(cells.n) == {4}
    damage = study.store.sql(
        "SELECT dose, avg(damage) AS damage FROM interventions GROUP BY dose ORDER BY dose"
    ).damage
    assert damage.is_monotonic_increasing


def test_a_profile_by_generation_keeps_what_it_could_not_read(told):
    study, model = told
    assert (
        main(
            [
                "measure",
                str(study.folder),
                "--model",
                str(model),
                "--mode",
                "generate",
                "--n-contexts",
                "2",
                "--replicates",
                "200",
            ]
        )
        == 0
    )
    answers = study.store.sql("SELECT status, count(*) AS n FROM responses GROUP BY status")
    assert answers.n.sum() == 2 * 2 * 40
    assert set(answers.status) <= {"parsed", "refused", "unparsed"}
    parsed = study.store.sql(
        "SELECT sum(parsed) AS parsed, sum(missing) AS missing FROM profiles WHERE NOT centred"
    )
    assert parsed.parsed[0] + parsed.missing[0] == 2 * 2 * 40


def test_an_sae_of_another_width_is_refused(told, capsys):
    study, model = told
    folder = study.runs.folder / study.runs.latest("sae").id / "sae"
    assert (
        main(["adopt", str(study.folder), str(folder), "--model", "organism", "--layer", "1"]) == 2
    )
    assert "SAE expects d_model 64, the model gives 128" in capsys.readouterr().err


def test_every_verb_from_effects_to_causes_and_back_goes_through_and_claims_nothing(
    told, shared, capsys
):
    """The thresholds are let down so that there are features to steer; what they do is noise,
    and every verb says so or refuses.
    """
    study, model = told
    folder, touche, few = (
        str(study.folder),
        shared / "data" / "touche23",
        ["--n-contexts", "4", "--n-neutral", "4", "--replicates", "200"],
    )

    def said(code: int, *words: str) -> str:
        capsys.readouterr()
        assert main(list(words)) == code, words
        return capsys.readouterr()[code and 1]

    loose = "max_chance=1,min_effect=0.05,min_gain=0.01,specificity=1,min_score=0.5"
    files = [
        "--labelled",
        str(touche / "arguments-training.tsv"),
        "--labels",
        str(touche / "labels-training.tsv"),
    ]
    said(
        0,
        "label",
        folder,
        *SCALE,
        *files,
        "--text-column",
        "Premise",
        "--context",
        "Conclusion",
        "--ignore",
        "Face",
        "--limit",
        "1500",
        "--options",
        loose,
        "--scored-per-value",
        "1",
        "--n-contexts",
        "2",
    )
    labels = study.runs.latest("labels").summary
    assert labels["output_scores"] == labels["values_labelled"] >= 2
    assert labels["raise_their_value"] <= 2
    said(
        0,
        "effects",
        folder,
        *SCALE,
        *few,
        "--features-per-value",
        "1",
        "--doses",
        "0.6",
        "--random-features",
        "2",
        "--random-directions",
        "1",
    )
    assert study.runs.latest("effects").summary["questions_that_chose"] == 0
    said(0, "predict", folder, "--graph", "", "--steerings", "3", "--replicates", "200")
    assert study.runs.latest("prediction").summary["linear_r2"] < 0.9
    assert "nearest" in said(
        2, "plan", folder, "--want", "power +4, others within 0.01", "--replicates", "200"
    )
    said(2, "plan", folder, "--want", "power +4 tomorrow")
    # Features that do nothing make no graph: either none is found, or it is refused, and what needs
    # one says so.
    if main(["graph", folder, "--replicates", "200"]) == 0:
        said(0, "counterfactual", folder, "--target", "power=4.5", "--replicates", "200")
    else:
        assert "workbench graph" in said(
            2, "counterfactual", folder, "--target", "power=4.5", "--replicates", "200"
        )
    values = ",".join(
        study.store.sql(
            "SELECT DISTINCT value FROM labels WHERE run = ? AND accepted ORDER BY value LIMIT 2",
            [study.runs.latest("labels").id],
        ).value
    )
    said(
        0,
        "compare",
        folder,
        *SCALE,
        *few,
        "--probes",
        "",
        "--strengths",
        "0.6",
        "--methods",
        "add",
        "--features-per-value",
        "1",
        "--values",
        values,
    )
    assert study.runs.latest("comparison").summary["texts"] == 0, (
        "nobody here can judge what it writes"
    )
    told_neurons = [
        "--values",
        "power",
        "--n-answers",
        "2",
        "--new-tokens",
        "8",
        "--top",
        "20",
        "--gammas",
        "1",
        "--draws",
        "1",
    ]
    said(0, "neurons", folder, *few, *told_neurons)
    assert "fits into what" in said(2, "scenarios", folder, "--llm", f"local:{model}", "--n", "2")
    said(0, "scenarios", folder, "--llm", "organism", "--n", "4")
    feature = ["--features", "3", "--strength", "0.3", "--controls", "1", "--replicates", "200"]
    said(0, "decide", folder, *feature)
    assert study.runs.latest("decisions").summary["missing"] == 0
    said(0, "decide", folder, *feature, "--mode", "generate")
    written = study.runs.latest("decisions").summary
    answers = study.store.sql(
        "SELECT status, count(*) AS n FROM choices WHERE run = ? GROUP BY status",
        [study.runs.latest("decisions").id],
    )
    assert written["missing"] == answers.n[answers.status != "parsed"].sum() > 0, (
        "an answer that is none is counted"
    )
    said(0, "couple", folder, "--llm", f"local:{model}", "--replicates", "200")
    assert study.runs.latest("couple").summary["too_long"] > 0, (
        "what the model cannot read is counted, and the rest is asked"
    )
    assert study.runs.damaged(study.runs.latest("decisions").id) == []
