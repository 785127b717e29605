"""Several layers are trained from one reading of the texts, each as if it were trained alone."""

import warnings

import numpy as np
import pytest

from feature_store.errors import BadInput
from sae_training.engine.model import Model
from workbench.study import Study

SMALL = {
    "model": "organism",
    "documents": 80,
    "tokens": 6_000,
    "batch_tokens": 512,
    "n_features": 64,
    "k": 8,
}


@pytest.fixture
def passes(monkeypatch):
    """The forward passes of every model, as numbers of rows."""
    counted: list[int] = []
    forward = Model.forward

    def counting(self, ids, *args, **kwargs):
        counted.append(len(ids))
        return forward(self, ids, *args, **kwargs)

    monkeypatch.setattr(Model, "forward", counting)
    return counted


def test_layers_share_a_reading_and_make_the_runs_of_one_each(tmp_path, passes):
    together = Study(tmp_path / "together")
    with pytest.warns(UserWarning, match=r"2 SAEs: sae-\w+ \(layer 0\), sae-\w+ \(layer 2\)"):
        last = together.train(**SMALL, layer=(0, 2))
    shared = len(passes)
    assert last.summary["layer"] == 2
    assert not (together.folder / "residuals").exists()
    alone = Study(tmp_path / "alone")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = [alone.train(**SMALL, layer=layer) for layer in (0, 2)]
    assert shared < len(passes) - shared, "the texts were read once for both"
    runs = together.runs.all()
    assert [run.id for run in runs] == [run.id for run in made]
    for ours, theirs in zip(runs, made, strict=True):
        assert ours.config["layer"] == theirs.config["layer"]
        assert ours.files == theirs.files
        assert ours.summary == theirs.summary


def test_a_layer_that_is_there_is_not_made_again(tmp_path, passes):
    study = Study(tmp_path / "study")
    first = study.train(**SMALL, layer=1)
    before = first.files
    with pytest.warns(UserWarning, match="2 SAEs"):
        study.train(**SMALL, layer="1,3")
    assert study.runs.get(first.id).files == before
    assert [run.summary["layer"] for run in study.runs.all()] == [1, 3]
    passes.clear()
    with pytest.warns(UserWarning, match="2 SAEs"):
        study.train(**SMALL, layer=(1, 3))
    assert not passes


def test_a_stop_between_the_layers_keeps_the_reading(tmp_path, passes):
    whole, stopped = Study(tmp_path / "whole"), Study(tmp_path / "stopped")
    with pytest.warns(UserWarning, match="2 SAEs"):
        whole.train(**SMALL, layer=(0, 2))
    expected = len(passes)
    passes.clear()

    def stop(name, done, total):
        if name == "layer 2: training" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.train(**SMALL, layer=(0, 2), progress=stop)
    assert len(stopped.runs.all()) == 1
    with pytest.warns(UserWarning, match="2 SAEs"):
        stopped.train(**SMALL, layer=(0, 2))
    assert len(passes) == expected, "what was read is not read again"
    for ours, theirs in zip(whole.runs.all(), stopped.runs.all(), strict=True):
        assert ours.id == theirs.id
        assert ours.files == theirs.files


def test_a_layer_that_is_not_there_is_refused_before_any_work(tmp_path, passes):
    with pytest.raises(BadInput, match="layers 0 to 3, got layer 9"):
        Study(tmp_path / "study").train(**SMALL, layer=(1, 9))
    assert not passes


def test_without_a_cache_each_layer_reads_for_itself(tmp_path):
    study = Study(tmp_path / "study")
    with pytest.warns(UserWarning, match="2 SAEs"):
        study.train(**SMALL, layer=(0, 2), cache=False)
    cached = Study(tmp_path / "cached")
    with pytest.warns(UserWarning, match="2 SAEs"):
        cached.train(**SMALL, layer=(0, 2))
    for streamed, read in zip(study.runs.all(), cached.runs.all(), strict=True):
        # Another order of the same tokens: not the same SAE, and one about as good.
        assert streamed.summary["tokens"] == read.summary["tokens"]
        assert np.isclose(streamed.summary["fvu"], read.summary["fvu"], rtol=0.2)


def test_what_a_number_format_costs_stands_with_the_run(tmp_path):
    study = Study(tmp_path / "study")
    whole = study.train(**SMALL)
    assert not any(name.startswith("dtype") for name in whole.summary)
    half = study.train(**SMALL, dtype="bfloat16")
    assert half.summary["dtype"] == "bfloat16"
    assert 0 < half.summary["dtype_residuals"] < 0.01
    assert abs(half.summary["dtype_loss"]) < 0.1
