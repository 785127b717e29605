"""The embedding labeler: contexts near a value's definition, the encoder's absence refused."""

import json

import numpy as np
import pytest
from scipy import sparse

from feature_store import registry
from feature_store.errors import NotFound
from sae_training.model import catalogue, sentences
from tests.helpers.planted_contexts import WordsEncoder, about_power, contexts_of
from tests.helpers.planted_features import TEN
from workbench.features.labelers import LabelledActivations

EMBEDDING = registry.get("labelers", "embedding")


def data_of(contexts, features):
    return LabelledActivations(
        sparse.csr_matrix((4, features)),
        np.zeros((4, 10), int),
        np.full(4, ""),
        strongest=lambda: contexts,
    )


def test_features_near_a_definition_are_found(monkeypatch):
    monkeypatch.setattr(sentences, "SentenceEncoder", WordsEncoder)
    labels = EMBEDDING.label(
        data_of(about_power([2, 5], 80), 80), TEN, EMBEDDING.config(draws=20_000)
    )
    named = {label.feature: (label.value, label.part) for label in labels if label.accepted}
    assert named == {2: ("power", "topic"), 5: ("power", "topic")}
    assert all(np.isnan(label.score) and np.isnan(label.gain) for label in labels)
    evidence = json.loads(labels[2].evidence)
    assert evidence["encoder"] == "encoder words"
    assert evidence["mean"] > evidence["base_rate"]


def test_few_of_the_strongest_are_embedded_each_text_once(monkeypatch):
    seen = []

    class Counting(WordsEncoder):
        def texts(self, texts):
            seen.append(list(texts))
            return super().texts(texts)

    monkeypatch.setattr(sentences, "SentenceEncoder", Counting)
    rows = [(f, [f" word{f}", " same"], [1.0, 0.5]) for f in range(4) for _ in range(6)]
    EMBEDDING.label(data_of(contexts_of(rows), 4), TEN, EMBEDDING.config(contexts=3, draws=100))
    assert len(seen[0]) == 4


def test_an_encoder_that_is_not_there_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv(catalogue.VARIABLE, str(tmp_path))
    silent = data_of(None, 0)
    with pytest.raises(NotFound, match="workbench fetch minilm"):
        EMBEDDING.label(silent, TEN, EMBEDDING.config())
    with pytest.raises(NotFound, match="no sentence encoder"):
        EMBEDDING.label(silent, TEN, EMBEDDING.config(encoder=str(tmp_path)))
