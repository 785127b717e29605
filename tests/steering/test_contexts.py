"""The features' strongest contexts as labelers see them: what the store holds, token by token."""

import numpy as np

from feature_store import queries
from tests.helpers.planted_contexts import contexts_of
from tests.helpers.synthetic import synthetic
from workbench.features import contexts
from workbench.features.labelers.lexicon import LexiconLabelerSettings
from workbench.verbs.label import _labeler_inputs


def test_what_is_read_is_what_the_store_holds(tmp_path):
    study = synthetic(tmp_path / "invented")
    sae = study.runs.latest("sae").id
    read = contexts.read(study.store, sae)
    assert len(np.unique(read.features)) == 192
    assert len(read) == 192 * 8
    for feature in (0, 3, 199 - 1):
        rows = queries.contexts(study.store, sae, feature)
        places = np.flatnonzero(read.features == feature)
        assert len(rows) == len(places)
        for place, row in zip(places.tolist(), rows.itertuples(), strict=True):
            span = slice(read.starts[place], read.starts[place + 1])
            assert read.words(place) == list(row.tokens)
            assert np.array_equal(read.activations[span], np.float32(row.activations))
            assert read.peaks[place] == row.peak
    assert len(contexts.read(study.store, "none")) == 0


def test_the_strongest_contexts_of_each_feature_are_kept():
    rows = [(f, [f"{f}", f"{k}"], [1.0, k]) for f in (1, 4) for k in range(5)]
    kept = contexts_of(rows).strongest(2)
    assert kept.features.tolist() == [1, 1, 4, 4]
    assert [kept.words(k) for k in range(4)] == [["1", "0"], ["1", "1"], ["4", "0"], ["4", "1"]]
    assert kept.activations.tolist() == [1, 0, 1, 1] * 2
    assert len(contexts_of(rows).strongest(9)) == 10


def test_the_window_lies_about_the_peak_which_is_marked():
    read = contexts_of([(0, [" a", " b", " c", " d", " e"], [0, 0, 3, 0, 0])])
    assert read.around_peak(0, 1) == "b [c]  d"
    assert read.around_peak(0, 9) == "a b [c]  d e"


def test_a_word_list_that_is_edited_is_another_input_of_the_run(tmp_path):
    file = tmp_path / "words.toml"
    file.write_text('power = ["rule"]')
    settings = LexiconLabelerSettings(words=str(file))
    before = _labeler_inputs(settings)
    assert list(before) == ["labeler", "files"]
    file.write_text('power = ["rule", "reign"]')
    after = _labeler_inputs(settings)
    assert after["labeler"] == before["labeler"]
    assert after["files"] != before["files"]
    assert list(_labeler_inputs(LexiconLabelerSettings())) == ["labeler"]
