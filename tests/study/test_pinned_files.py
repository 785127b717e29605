"""A file that is edited where it stands is other work: nothing is found of what it was before."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import small_models
from workbench import Study
from workbench.settings import contents
from workbench.steering import gates


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "study")


def test_contexts_edited_in_place_are_asked_again(study, tmp_path):
    file = tmp_path / "contexts.txt"
    file.write_text("I went to work.\nIt rained.\n")
    asked = {"model": "organism", "contexts": str(file), "n_contexts": 2, "replicates": 100}
    first = study.measure(**asked)
    assert study.measure(**asked).id == first.id
    file.write_text("I went to work.\nThe sun shone.\n")
    second = study.measure(**asked)
    assert second.id != first.id
    rows = study.store.sql("SELECT prompt FROM prompts WHERE run = ?", [second.id])
    assert rows.prompt.str.contains("sun shone", regex=False).any()


def test_contents_sums_up_the_files_that_settings_name(tmp_path):
    file = tmp_path / "texts.csv"
    file.write_text("text,power\na,1\n")
    folder = tmp_path / "model"
    small_models.module("llama").save_pretrained(folder)
    pairs = [f"labelled={file}", "held=true", f"folder={folder}", "run=latest", "labels="]
    first = contents(pairs)
    assert list(first) == [pairs[0], pairs[2]]
    file.write_text("text,power\na,-1\n")
    assert contents(pairs)[pairs[0]] != first[pairs[0]]
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert contents(pairs)[pairs[2]] != first[pairs[2]]


def test_a_gate_is_pinned_with_its_files(tmp_path):
    class Detector:
        name = "mentions power"

        def scores(self, texts):
            return np.ones(len(texts))

    file = tmp_path / "words.txt"
    file.write_text("gold")
    assert gates.pinned(Detector(), ["words=gold"]) == "mentions power"
    first = gates.pinned(Detector(), [f"file={file}"])
    file.write_text("iron")
    assert gates.pinned(Detector(), [f"file={file}"]) != first


@pytest.mark.parametrize("verb", ["scenarios", "dilemmas"])
def test_a_writer_that_runs_here_is_pinned_with_its_folder(study, tmp_path, verb):
    folder = tmp_path / "model"
    small_models.module("llama").save_pretrained(folder)
    small_models.tokenizer().save_pretrained(folder)
    pinned = []

    def stop(*_):
        raise KeyboardInterrupt

    for edit in ("", " "):
        (folder / "tokenizer_config.json").open("a").write(edit)
        study = Study(study.folder)
        study.make = lambda kind, settings, inputs, build: pinned.append(inputs) or stop()
        with pytest.raises(KeyboardInterrupt):
            study.do(verb, {"llm": f"local:{folder}", "n": 2})
    assert pinned[0]["llm"] != pinned[1]["llm"]
    assert pinned[0]["llm"].startswith(f"{folder}@")
