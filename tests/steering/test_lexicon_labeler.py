"""The lexicon labeler: words of a list, near the peak, against contexts of all features."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from tests.helpers.planted_contexts import about_power, contexts_of
from tests.helpers.planted_features import TEN
from workbench.features.labelers import LabelledActivations
from workbench.features.labelers.lexicon import WordPlaces, words_of

LEXICON = registry.get("labelers", "lexicon")
SETTINGS = LEXICON.config(draws=20_000)


def data_of(contexts, features):
    return LabelledActivations(
        sparse.csr_matrix((4, features)),
        np.zeros((4, 10), int),
        np.full(4, ""),
        strongest=lambda: contexts,
    )


def test_features_that_fire_on_the_words_are_found_and_no_text_is_held_out():
    data = data_of(about_power([3, 7], 60), 60)
    labels = LEXICON.label(data, TEN, SETTINGS)
    named = {label.feature: label for label in labels if label.accepted}
    assert set(named) == {3, 7}
    for label in named.values():
        assert (label.value, label.polarity, label.part) == ("power", 1, "topic")
        assert np.isnan([label.score, label.gain, label.low, label.high]).all()
        assert label.n == 10
        evidence = json.loads(label.evidence)
        assert evidence["mean"] > 0.5 > evidence["base_rate"]
        assert "control" in evidence["words"]
        assert evidence["word_list"] == "definitions"


def test_contexts_that_are_dealt_out_among_features_name_none():
    contexts = about_power(range(20), 200)
    accepted = 0
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(contexts))
        # The same contexts, each with another's feature: what a permuted study is.
        lengths = np.diff(contexts.starts)
        pieces = [np.arange(contexts.starts[k], contexts.starts[k + 1]) for k in order]
        places = np.concatenate(pieces)
        dealt = replace(
            contexts,
            peaks=contexts.peaks[order],
            starts=np.concatenate([[0], np.cumsum(lengths[order])]),
            tokens=contexts.tokens[places],
            activations=contexts.activations[places],
        )
        labels = LEXICON.label(data_of(dealt, 200), TEN, SETTINGS)
        accepted += sum(label.accepted for label in labels)
    assert accepted <= 0.05 * 5 * 20  # of 20 true ones, five times


def test_near_is_counted_in_words_and_not_across_contexts():
    contexts = contexts_of(
        [
            (0, [" far", " fro", "m", " any", " rul", "er"], [1, 1, 0, 1, 1, 0]),
            (1, [" thing", "!", " here"], [2, 1, 1]),
        ]
    )
    words = {"power": frozenset({"ruler"}), "security": frozenset()}
    for reach, shares in ((0, 0.25), (1, 0.5), (2, 0.75), (9, 1.0)):
        places = WordPlaces.of(contexts, reach)
        assert places.shares(places.near(words)).tolist() == [[shares, 0], [0, 0]]


def test_a_word_counts_in_any_inflection_and_letter_case(tmp_path):
    file = tmp_path / "words.toml"
    file.write_text('power = ["controlling", "Ruled"]\n"Self-Direction" = ["free"]\n')
    words = words_of(TEN, str(file))
    assert words["power"] == {"control", "rule"}
    assert words["self-direction"] == {"free"}
    table = tmp_path / "words.csv"
    table.write_text("value;word\npower;controls\nPower;rules\nself-direction;free\n")
    assert words_of(TEN, str(table)) == words


def test_definitions_are_the_list_where_none_is_given():
    words = words_of(TEN, "")
    assert list(words) == list(TEN.ids)
    assert all(words.values())
    assert "control" in words["power"]
    assert not any("the" in stems for stems in words.values())
    listed = [stem for stems in words.values() for stem in stems]
    assert len(listed) == len(set(listed))  # what several definitions share tells none apart


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", 'powr = ["rule"]', "Did you mean 'power'"),
        ("b.csv", "value,word\npowr,rule\n", "Did you mean 'power'"),
        ("c.toml", "", "lists no words"),
        ("d.csv", "value,word\n", "lists no words"),
        ("e.csv", "", "empty"),
        ("f.toml", 'power = "rule"', "list of words"),
        ("g.toml", 'power = ["human rights"]', "not one word"),
        ("h.csv", "value,term\npower,rule\n", "no column 'word'"),
        ("i.toml", "power = [1]", "list of words"),
    ],
)
def test_a_bad_list_is_refused_in_one_line_before_anything_is_read(
    tmp_path, name, content, message
):
    file = tmp_path / name
    file.write_text(content)
    silent = replace(data_of(None, 0), strongest=None)
    with pytest.raises((BadInput, NotFound), match=message) as refused:
        LEXICON.label(silent, TEN, LEXICON.config(words=str(file)))
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)


def test_an_sae_without_contexts_is_refused():
    with pytest.raises(BadInput, match="none were kept"):
        LEXICON.label(replace(data_of(None, 3), strongest=None), TEN, SETTINGS)
    with pytest.raises(BadInput, match="none were kept"):
        LEXICON.label(data_of(contexts_of([]), 3), TEN, SETTINGS)


def test_words_that_no_context_has_name_no_feature(tmp_path):
    file = tmp_path / "words.toml"
    file.write_text('power = ["zeppelin"]')
    settings = LEXICON.config(words=str(file), draws=1000)
    labels = LEXICON.label(data_of(about_power([1], 20), 20), TEN, settings)
    assert not any(label.accepted for label in labels)
    assert all(label.p == 1 for label in labels)
