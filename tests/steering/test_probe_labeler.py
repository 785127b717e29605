"""The probe labeler: planted features are chosen in most halves, chance is not, copies share."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from feature_store import registry
from feature_store.errors import BadInput
from tests.helpers.planted_features import TEN, accepted, planted
from workbench.features.evidence import MarkEvidence
from workbench.features.labelers import LabelledActivations
from workbench.features.labelers.probe import Bound, choose_on, halves_of

PROBE = registry.get("labelers", "probe")
SETTINGS = PROBE.config(subsamples=20)


@pytest.fixture(scope="module")
def world():
    data, truth, topics = planted(0, 2500)
    return data, truth, topics, PROBE.label(data, TEN, SETTINGS)


def test_planted_features_are_found_and_topics_are_not(world):
    _, truth, topics, labels = world
    found = accepted(labels)
    right = sum(truth.get(feature) == mark for feature, mark in found.items())
    assert right / len(found) >= 0.95
    assert right / len(truth) >= 0.9
    assert not topics & set(found)
    assert len(labels) == len({label.feature for label in labels})  # one row a feature


def test_permuted_marks_give_no_more_labels_than_the_bound(world):
    data = world[0]
    order = np.random.default_rng(1).permutation(len(data.values))
    labels = PROBE.label(replace(data, values=data.values[order]), TEN, SETTINGS)
    assert len(accepted(labels)) <= 2  # of 310 features; held-out documents refuse the chosen ones


def test_the_evidence_says_how_it_was_chosen_and_is_repeatable(world):
    data, _, _, labels = world
    told = [json.loads(label.evidence) for label in labels if label.accepted]
    assert all(t["chosen_in"] >= t["threshold"] for t in told)
    assert all(t["by_chance_at_most"] <= 0.5 for t in told)
    assert all(label.q >= label.p >= 1 / 2001 for label in labels)
    assert PROBE.label(data, TEN, SETTINGS) == labels


def test_the_threshold_is_where_the_bound_is_what_is_allowed():
    """Meinshausen and Buehlmann (2010), theorem 1: q^2 / ((2 t - 1) p)."""
    many = Bound.of(4000, PROBE.config())
    assert many.per_fit == 20
    assert many.threshold == pytest.approx((1 + 400 / 2000) / 2)
    assert many.expected == pytest.approx(0.5)
    few = Bound.of(100, PROBE.config())
    assert few.per_fit == 6  # sqrt(0.8 x 50), so that the threshold stays below 0.9
    assert few.expected <= 0.5
    named = Bound.of(4000, PROBE.config(threshold=0.75))
    assert named.expected == pytest.approx(400 / (0.5 * 4000))
    assert Bound.of(4000, PROBE.config(threshold=0.5)).expected == np.inf


def test_noise_passes_the_threshold_no_more_often_than_the_bound():
    rng = np.random.default_rng(2)
    noise = sparse.csr_matrix((rng.random((300, 200)) < 0.2) * rng.gamma(2, 1, (300, 200)))
    settings = PROBE.config(subsamples=20, max_false=1.0)
    passing = []
    for _ in range(8):
        values = np.zeros((300, 10), int)
        values[:, 4] = rng.random(300) < 0.3
        data = LabelledActivations(noise, values, np.full(300, ""))
        evidence = MarkEvidence.of(data, TEN, settings)
        bound = Bound.of(len(evidence.features.live), settings)
        halves = list(halves_of(data, evidence, settings))
        share = choose_on(halves, evidence, bound.per_fit).share
        assert share.sum() <= bound.per_fit * (1 + 1e-9)
        passing.append((share >= bound.threshold).sum())
    assert np.mean(passing) <= 1.0
    assert share.max() > 0  # something is chosen now and then


def test_halves_complement_each_other_and_keep_pairs_and_contexts():
    values = np.zeros((80, 10), int)
    values[:, 4] = np.tile([1, -1], 40)
    contexts = np.repeat([f"topic {k}" for k in range(4)], 20)
    pairs = np.repeat(np.arange(40), 2)
    data = LabelledActivations(sparse.csr_matrix(np.ones((80, 1))), values, contexts, pairs)
    evidence = MarkEvidence.of(data, TEN, SETTINGS)
    rows = evidence.split.fit
    halves = list(halves_of(data, evidence, SETTINGS))
    assert len(halves) == 20
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        assert sorted([*first, *second]) == list(range(len(rows)))
        assert not set(pairs[rows[first]]) & set(pairs[rows[second]])
        assert len(set(contexts[rows[first]])) == len(set(contexts[rows[second]])) == 4


def test_what_fires_for_both_sides_is_of_the_topic_and_a_weaker_copy_is_left_out():
    rng = np.random.default_rng(4)
    values = rng.integers(-1, 2, (3000, 10)) * (rng.random((3000, 10)) < 0.3)
    fire = np.column_stack([values[:, 4] > 0, values[:, 4] != 0, values[:, 7] < 0])
    noise = (rng.random((3000, 60)) < 0.1) * rng.gamma(2, 1, (3000, 60))
    active = fire * (rng.random(fire.shape) < 0.5) * rng.gamma(4, 0.5, fire.shape)
    copy = active[:, [2]] * (rng.random((3000, 1)) < 0.3)
    data = LabelledActivations(
        sparse.csr_matrix(np.hstack([active, noise, copy])), values, np.full(3000, "")
    )
    labels = [label for label in PROBE.label(data, TEN, SETTINGS) if label.accepted]
    named = {label.feature: (label.value, label.polarity, label.part) for label in labels}
    assert named[0] == ("power", 1, "pole")
    assert named[1] == ("power", 1, "topic")
    assert named[2] == ("tradition", -1, "pole")
    assert 63 not in named  # what it says, feature 2 says better
    contrast = registry.get("labelers", "contrast")
    assert 63 in accepted(contrast.label(data, TEN, contrast.config()))


def test_a_silent_sae_and_marks_that_nothing_carries(world):
    data = world[0]
    silent = replace(data, activations=sparse.csr_matrix(data.activations.shape))
    assert PROBE.label(silent, TEN, SETTINGS) == []
    with pytest.raises(BadInput, match="No value is carried"):
        PROBE.label(replace(data, values=np.zeros_like(data.values)), TEN, SETTINGS)
