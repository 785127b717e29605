"""A chat template that tells the day: the day stands still, is pinned, and can be set."""

import json
from pathlib import Path

import pytest

from feature_store.errors import BadInput, Incompatible
from sae_training.dictionary.texts import read_texts
from sae_training.engine.opening import open_model
from sae_training.model import clock
from tests.helpers import small_models, small_vision
from workbench import Study, study_file
from workbench.command.cli import main
from workbench.workspace import Workspace

TELLING = (
    "{{- 'Today is ' + strftime_now('%d %b %Y %H:%M') + '. ' }}{% for m in messages %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}[model]"
)
"""As Llama 3.2's, to the minute."""


def folder(place: Path, template: str = TELLING) -> Path:
    """A small model whose template is `template`."""
    return small_models.saved(place, template)


def measure(study: Path, model: Path, *flags: str) -> dict:
    """Measure a little by the command line: what `run.json` says of the newest run."""
    words = ["measure", str(study), "--model", str(model), "--n-contexts", "1", "--mode", "logprob"]
    assert main([*words, "--replicates", "100", *flags]) == 0
    files = sorted((study / "runs").glob("*/run.json"), key=lambda file: file.stat().st_mtime_ns)
    return json.loads(files[-1].read_text())


def test_the_template_is_told_midnight_of_the_day_that_is_set(tmp_path):
    model = open_model(folder(tmp_path / "model"))
    model.today = "2024-02-29"
    assert model.render("a") == "Today is 29 Feb 2024 00:00. [user]a[model]"
    other = open_model(tmp_path / "model")
    other.today = "2026-11-26"
    # transformers keeps one compiled template for both.
    assert other.render("a").startswith("Today is 26 Nov 2026")
    assert model.render("a").startswith("Today is 29 Feb 2024")
    assert model.pinned == f"{model.revision} on 2024-02-29"
    assert model.identity.endswith(" on 2024-02-29")


def test_conversations_of_a_corpus_are_told_the_same_day(tmp_path):
    model = open_model(folder(tmp_path / "model"))
    model.today = "2024-02-29"
    corpus = tmp_path / "chat.jsonl"
    corpus.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}]}))
    (text,) = read_texts(corpus, model=model)
    assert text.startswith("Today is 29 Feb 2024 00:00. [user]a")


def test_a_template_that_asks_for_no_time_pins_no_day(tmp_path):
    silent = TELLING.replace("strftime_now('%d %b %Y %H:%M')", "'strftime_now'")
    model = open_model(folder(tmp_path / "model", silent))
    model.today = "2024-02-29"
    assert not model.tells_day
    assert model.pinned == model.revision
    off = open_model(folder(tmp_path / "telling"), chat="off")
    assert off.pinned == off.revision


def test_a_vision_models_template_is_told_the_day(tmp_path):
    model = open_model(f"vision:{small_vision.llava(tmp_path / 'seeing')}")
    model.processor.chat_template = "{{ strftime_now('%Y') }}" + model.processor.chat_template
    model.today = "1999-12-31"
    assert model.render("a").startswith("1999")


def test_one_run_id_is_one_day(tmp_path):
    model = folder(tmp_path / "model")
    monday = measure(tmp_path / "monday", model, "--today", "2026-11-23")
    tuesday = measure(tmp_path / "tuesday", model, "--today", "2026-11-24")
    again = measure(tmp_path / "again", model, "--today", "2026-11-23")
    assert monday["inputs"]["model"].endswith(" on 2026-11-23")
    assert monday["id"] != tuesday["id"]
    assert again["id"] == monday["id"]
    assert again["files"] == monday["files"]
    assert tuesday["files"] != monday["files"]


def test_a_study_stays_at_its_day(tmp_path):
    model, study = folder(tmp_path / "model"), tmp_path / "study"
    first = measure(study, model)
    file = study / "study.json"
    today = json.loads(file.read_text())["today"]
    assert first["inputs"]["model"].endswith(f" on {today}")
    # As if the study had been begun long ago.
    file.write_text(file.read_text().replace(today, "2020-01-01"))
    later = measure(study, model)
    assert later["inputs"]["model"].endswith(" on 2020-01-01")


def test_a_study_of_models_that_tell_no_day_notes_none(tmp_path):
    study = Workspace(tmp_path / "study")
    study.model("organism")
    assert "today" not in json.loads((tmp_path / "study" / "study.json").read_text())
    measured = measure(tmp_path / "study", "organism", "--today", "2020-01-01")
    assert " on " not in measured["inputs"]["model"]


def test_a_run_is_not_used_on_another_day(tmp_path):
    address = str(folder(tmp_path / "model"))
    study = Study(tmp_path / "study", today="2026-11-23")
    config = {"model": address, "revision": "", "dtype": "float32", "device": "cpu"}
    pinned = study.model(address, "", "float32", "cpu").pinned
    with study.runs.begin("sae", config, {"model": pinned}, 0) as work:
        run = work.finish({})
    assert study.model_of(run).today == "2026-11-23"
    with pytest.raises(Incompatible, match="--today 2026-11-23"):
        Study(tmp_path / "study", today="2026-11-24").model_of(run)


def test_a_day_is_refused_that_is_none(tmp_path, capsys):
    assert main(["measure", str(tmp_path / "s"), "--model", "organism", "--today", "soon"]) == 2
    assert "2026-11-26" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
    with pytest.raises(BadInput, match="2026-11-26"):
        study_file.day("2026-13-01")


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ ['a', 'b'] | random }}", Incompatible),
        ("{{ lipsum() }}", Incompatible),
        ("{% for %}", BadInput),
    ],
)
def test_a_template_that_cannot_be_pinned_is_refused(template, error):
    with pytest.raises(error, match="chat template of m"):
        clock.reads_clock(template, "m")
