"""`train --texts self`: a study without any data, on what its model writes."""

import pytest

from feature_store.errors import BadInput
from workbench import organism
from workbench.instruments.standin import standin
from workbench.instruments.standin19 import standin19
from workbench.material.requests import requests
from workbench.study import Study

SMALL = {"layer": 1, "documents": 64, "context": 48, "n_features": 64, "k": 4, "tokens": 4_096}


def test_a_model_without_texts_reads_what_it_writes(tmp_path):
    """The organism under another name: to the workbench any model of that folder."""
    study = Study(tmp_path / "study")
    stages = []
    run = study.train(lambda stage, *_: stages.append(stage), model=str(organism.folder()), **SMALL)
    assert run.config["texts"] == "self"
    assert "wrote on 64 requests" in run.summary["rows_read"]
    assert run.summary["documents"] > 32
    assert not (study.folder / "residuals").exists()
    assert stages[0] == "writing a corpus"
    again = study.train(model=str(organism.folder()), texts="self", **SMALL)
    assert again == run
    other = study.train(model=str(organism.folder()), **SMALL | {"seed": 1})
    assert other.inputs["texts"] != run.inputs["texts"]


def test_a_stopped_training_goes_on_with_the_same_corpus(tmp_path):
    whole = Study(tmp_path / "whole").train(model=str(organism.folder()), **SMALL)
    study = Study(tmp_path / "stopped")

    def stop(stage, done, total):
        if stage == "training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.train(stop, model=str(organism.folder()), **SMALL)
    run = study.train(model=str(organism.folder()), **SMALL)
    assert (run.id, run.files) == (whole.id, whole.files)


def test_the_organism_is_not_asked_in_english(tmp_path):
    with pytest.raises(BadInput, match="small language of its own, and no request in English"):
        Study(tmp_path / "study").train(model="organism", texts="self", **SMALL)


def test_requests_are_drawn_without_repetition_while_there_are_new_ones():
    for chat in (True, False):
        few = [str(request) for request in requests(chat, 30, seed=0)]
        assert len(set(few)) == 30
        assert few == [str(request) for request in requests(chat, 30, seed=0)]
        assert few != [str(request) for request in requests(chat, 30, seed=1)]
    openings = requests(False, 1_000, seed=0)
    assert len(openings) == 1_000
    assert len(set(map(str, openings))) == len(set(map(str, requests(False, 10_000, seed=2))))


@pytest.mark.parametrize("instrument", [standin, standin19])
def test_requests_hold_no_item(instrument):
    texts = [str(request) for request in (*requests(True, 2_500, 0), *requests(False, 100, 0))]
    written = "\n".join(texts).lower()
    for item in instrument().items:
        assert item.text.lower().rstrip(".") not in written
        assert item.reversal.lower().rstrip(".") not in written
