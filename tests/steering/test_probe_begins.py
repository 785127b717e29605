"""A study may begin with a probe, on the pairs that ConVA's authors publish."""

import csv

import pytest

from tests.helpers.small_models import saved
from tests.study.test_cli import refused
from workbench.command.cli import main
from workbench.study import Study
from workbench.verb_table import VERBS

PLACES = ["market", "harbour", "library", "station", "bakery", "garden"]
PEOPLE = ["neighbour", "cousin"]


@pytest.fixture
def conva(tmp_path):
    """Twelve pairs in ConVA's form, whose texts share a situation and few words."""
    file = tmp_path / "benevolence_context_controlled.csv"
    with file.open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["question_1", "question_2"])
        for place in PLACES:
            for person in PEOPLE:
                rows.writerow(
                    [
                        f'"At the {place} I gladly carried every basket for my tired {person}."',
                        f"At the {place} I walked past, since somebody's burden never bothers me.",
                    ]
                )
    return file


def test_a_probe_begins_a_study_on_the_authors_pairs(conva, tmp_path, capsys):
    words = ["probe", tmp_path / "new", "--model", "organism", "--pairs", conva]
    with pytest.warns(UserWarning, match=r"12 of 12 pairs .* share less than 0\.3"):
        assert main(list(map(str, words))) == 0
    run = Study(tmp_path / "new").runs.latest("probes")
    assert run.summary["probed"] == ["benevolence"]
    assert (run.summary["pairs"], run.summary["refused"]) == (12, 0)
    assert run.summary["pairs_sharing_little"] == 12
    capsys.readouterr()
    said = refused(capsys, *words, "--shared", "0.4")
    assert "12 of 12 pairs differ in more than the value" in said


def test_what_needs_no_run_may_begin_a_study():
    """Other verbs name a run that must be there, whatever their settings."""
    assert sorted(verb.name for verb in VERBS.values() if not verb.begins) == [
        "borrow",
        "compare",
        "control",
        "counterfactual",
        "decide",
        "describe",
        "effects",
        "forecast",
        "graph",
        "kang",
        "label",
        "ordinal",
        "plan",
        "predict",
        "review",
        "score",
        "transfer",
        "verdict",
    ]


def test_a_probe_reads_the_built_in_everyday_texts(tmp_path):
    run = Study(tmp_path / "study").probe(model=str(saved(tmp_path / "small")), solver="lbfgs")
    assert run.config["pairs"] == "situations"
    assert run.summary["values"] == 10
    assert run.summary["pairs"] + run.summary["refused"] == 720
    assert run.summary["pairs"] > 600


def test_without_pairs_of_yours_each_model_reads_those_that_suit_it(tmp_path, monkeypatch):
    """A real model was once probed on the organism's language, without a word."""
    read = {}

    def noted(study, settings, progress):
        """Note which pairs a model would be probed on."""
        read[settings.model] = settings.pairs
        raise KeyboardInterrupt

    monkeypatch.setattr("workbench.verbs.probe._pairs", noted)
    study = Study(tmp_path / "study")
    for name in ("organism", saved(tmp_path / "small")):
        with pytest.raises(KeyboardInterrupt):
            study.probe(model=str(name))
    assert list(read.values()) == ["organism", "situations"]
