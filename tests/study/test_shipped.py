"""The study of a real chat model that ships: small, whole, and told on one page."""

from pathlib import Path

import pytest

from workbench import study_file
from workbench.command.cli import main
from workbench.command.job import read_job
from workbench.command.page import page
from workbench.study import Study

LARGEST = 12_000_000
"""Largest file that ships [bytes]."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield Study("smollm2", create=False)


def test_it_is_small_and_says_how_to_make_it_here(study):
    assert study_file.shipped()["smollm2"].stat().st_size <= LARGEST
    assert "make real" in study.published.note


def test_every_run_reads_and_every_stage_of_its_jobs_is_there(study):
    assert not study.store.bad
    kinds = [run.kind for run in study.runs.all()]
    assert {"sae", "labels", "hearing", "profile", "effects", "graph"} <= set(kinds)
    assert kinds.count("effects") == 2
    assert len(study.store.sql("SELECT DISTINCT feature FROM contexts")) > 4_000
    assert study.store.sql("SELECT count(*) AS n FROM contexts").n[0] > 15_000


def test_its_page_lacks_nothing(study):
    text = page(study, {})
    assert "What it values" in text
    assert "What is missing" not in text


def test_the_command_opens_it_by_its_name(study, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["check", "smollm2"]) == 0
    assert "every checksum as written" in capsys.readouterr().out


def test_no_text_of_others_is_in_it(study):
    """Items of others are not shipped: what was asked is ours."""
    instruments = study.store.sql(
        "SELECT DISTINCT config->>'instrument' AS name FROM runs WHERE kind = 'profile'"
    ).name
    assert set(instruments) <= {"standin", "decisions", "moral-dilemmas"}


def test_its_jobs_name_the_model_by_its_short_name():
    for job in ("smollm2", "smollm2-systems", "smollm2-nineteen"):
        stages = read_job(Path(__file__).parents[2] / "jobs" / f"{job}.toml").stages
        assert stages[0].given["model"] == "smollm2"
