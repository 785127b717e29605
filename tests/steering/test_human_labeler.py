"""The human labeler: what most people say, and what the others say beside it."""

import json

import numpy as np
import pytest
from scipy import sparse

from feature_store import registry
from feature_store.errors import BadInput
from tests.helpers.planted_features import TEN
from tests.helpers.planted_judgements import data_of, said_by
from workbench.features.labelers import LabelledActivations

HUMAN = registry.get("labelers", "human")


def labels(said, **settings):
    return HUMAN.label(data_of(said_by(people=said)), TEN, HUMAN.config(**settings))


def test_the_majority_labels_and_the_minority_stays_as_evidence():
    rows = labels(
        [
            ("Ada", 3, "accept", "power", 1),
            ("Ben", 3, "change", "power", 1),
            ("Cy", 3, "change", "hedonism", -1),
            ("Dee", 3, "unsure", "", 0),
        ]
    )
    first, second = rows
    assert (first.value, first.polarity, first.part, first.accepted) == ("power", 1, "pole", True)
    assert first.effect == pytest.approx(2 / 3)
    assert first.n == 3
    evidence = json.loads(first.evidence)
    assert evidence["named_by"] == "Ada (power, held), Ben (power, held)"
    assert evidence["others"] == "Cy (hedonism, rejected)"
    assert evidence["unsure"] == "Dee"
    assert (second.value, second.polarity, second.accepted) == ("hedonism", -1, False)


def test_a_tie_and_a_rejection_label_nothing():
    tie = labels([("Ada", 3, "accept", "power", 1), ("Ben", 3, "reject", "power", 1)])
    assert [label.accepted for label in tie] == [False]
    assert "Ben (no value)" in json.loads(tie[0].evidence)["others"]
    assert labels([("Ada", 3, "reject", "power", 1)]) == []
    assert labels([]) == []


def test_sides_that_tie_are_the_topic():
    (row,) = labels([("Ada", 3, "accept", "power", 1), ("Ben", 3, "change", "power", -1)])
    assert (row.part, row.polarity, row.accepted) == ("topic", 1, True)
    (row,) = labels([("Ada", 3, "both", "power", 0)])
    assert row.part == "topic"


def test_too_few_people_label_nothing():
    said = [("Ada", 3, "accept", "power", 1)]
    assert labels(said)[0].accepted
    assert not labels(said, min_people=2)[0].accepted


def test_without_anybody_who_says_something_it_says_so():
    silent = LabelledActivations(sparse.csr_matrix((4, 2)), np.zeros((4, 10)), np.full(4, ""))
    with pytest.raises(BadInput, match="there are none"):
        HUMAN.label(silent, TEN, HUMAN.config())
