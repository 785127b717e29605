"""The contrast labeler on planted features: one-behaviour features found, topics and mixtures
not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from feature_store import registry
from feature_store.errors import BadInput
from tests.helpers.planted_features import TEN, TOPICS, accepted, planted
from workbench.features.labelers import LabelledActivations
from workbench.statistics.marked import Design, MarkedTexts, limit_by_chance, marks_of, regress

CONTRAST = registry.get("labelers", "contrast")


@pytest.fixture(scope="module")
def world():
    data, truth, topics = planted(0)
    return data, truth, topics, CONTRAST.label(data, TEN, CONTRAST.config())


def test_precision_and_recall_against_planted_features(world):
    _, truth, _, labels = world
    found = accepted(labels)
    right = sum(truth.get(feature) == mark for feature, mark in found.items())
    assert right / len(found) >= 0.95
    assert right / len(truth) >= 0.9
    assert len(found) == sum(label.accepted for label in labels)  # one label a feature


def test_topic_features_are_labelled_without_contexts_and_not_with_them(world):
    data, _, topics, labels = world
    assert not topics & set(accepted(labels))
    blind = CONTRAST.label(
        replace(data, contexts=np.full(len(data.values), "")), TEN, CONTRAST.config()
    )
    assert len(topics & set(accepted(blind))) >= 0.5 * TOPICS


def test_the_score_is_held_out_and_precision_is_told(world):
    labels = [label for label in world[3] if label.accepted]
    told = [json.loads(label.evidence) for label in labels]
    assert (
        0.53 < np.median([label.score for label in labels]) < 0.7
    )  # one behaviour of six: low by construction
    assert np.median([t["precision"] for t in told]) > 0.9
    assert all(t["base_rate"] < 0.5 for t in told)
    assert all(label.gain <= 1 for label in labels)
    assert all(label.low < label.effect < label.high and label.q >= label.p for label in labels)


def test_permuted_marks_give_next_to_no_labels(world):
    data = world[0]
    shuffled = np.random.default_rng(1).permutation(len(data.values))
    labels = CONTRAST.label(replace(data, values=data.values[shuffled]), TEN, CONTRAST.config())
    assert len(accepted(labels)) <= 0.05 * data.activations.shape[1]


def test_every_live_feature_keeps_its_best_row_and_the_answer_is_repeatable(world):
    data, truth, _, labels = world
    assert {label.feature for label in labels} >= set(truth)
    rows = [(label.feature, label.value, label.polarity) for label in labels]
    assert len(rows) == len(set(rows))
    assert CONTRAST.label(data, TEN, CONTRAST.config()) == labels


def test_the_regression_equals_the_one_with_dummies():
    rng = np.random.default_rng(2)
    strata, marks = rng.integers(0, 4, 120), rng.random((120, 3)) < 0.4
    dense = (rng.random((120, 5)) < 0.5) * rng.gamma(2, 1, (120, 5))
    plain = MarkedTexts(marks.astype(float), [], np.eye(3))
    fit = regress(sparse.csc_matrix(dense), Design.of(plain, strata))
    design = np.hstack([marks.astype(float), np.eye(4)[strata]])
    whole = np.linalg.lstsq(design, dense, rcond=None)[0]
    residual = dense - design @ whole
    bread = np.linalg.inv(design.T @ design)
    white = [
        np.sqrt(np.diag(bread @ (design.T * residual[:, f] ** 2) @ design @ bread)[:3] * 120 / 113)
        for f in range(5)
    ]
    assert fit.beta == pytest.approx(whole[:3])
    assert fit.se == pytest.approx(np.array(white).T)
    assert fit.sd == pytest.approx(np.sqrt((residual**2).sum(0) / 113))
    assert fit.degrees == 113


def test_a_combination_of_marks_has_its_own_error():
    rng = np.random.default_rng(3)
    strata, sides = rng.integers(0, 4, 200), rng.integers(-1, 2, 200)
    dense = (rng.random((200, 4)) < 0.5) * rng.gamma(2, 1, (200, 4))
    marks = marks_of(sides[:, None], ["power"], np.arange(200), 10)
    both = regress(sparse.csc_matrix(dense), Design.of(marks, strata))
    # The topic is the mean of both coefficients: a design of mean and half difference has it too.
    turned = np.column_stack([sides != 0, sides]).astype(float)
    other = regress(
        sparse.csc_matrix(dense), Design.of(MarkedTexts(turned, [], np.diag([1.0, 1.0])), strata)
    )
    assert both.beta[2] == pytest.approx(other.beta[0])
    assert both.se[2] == pytest.approx(other.se[0])


def test_what_fires_for_both_sides_is_of_the_topic_and_for_one_of_the_pole():
    rng = np.random.default_rng(4)
    values = rng.integers(-1, 2, (3000, 10)) * (rng.random((3000, 10)) < 0.3)
    fire = np.column_stack(
        [values[:, 4] > 0, values[:, 4] != 0, values[:, 4] < 0, values[:, 7] != 0]
    )
    noise = (rng.random((3000, 60)) < 0.1) * rng.gamma(2, 1, (3000, 60))
    active = np.hstack(
        [fire * (rng.random(fire.shape) < 0.5) * rng.gamma(4, 0.5, fire.shape), noise]
    )
    data = LabelledActivations(sparse.csr_matrix(active), values, np.full(3000, ""))
    labels = [label for label in CONTRAST.label(data, TEN, CONTRAST.config()) if label.accepted]
    planted_ = {0: ("power", 1, "pole"), 1: ("power", 1, "topic"), 2: ("power", -1, "pole")}
    planted_[3] = ("tradition", 1, "topic")
    named = {label.feature: (label.value, label.polarity, label.part) for label in labels}
    assert {feature: named.get(feature) for feature in planted_} == planted_
    assert sum(feature > 3 for feature in named) <= 2
    # Where no text rejects a value, nothing can be told to be more than of its topic.
    only = CONTRAST.label(replace(data, values=np.maximum(values, 0)), TEN, CONTRAST.config())
    assert {label.part for label in only} == {"topic"}


@pytest.mark.parametrize("real", [0, 5, 60])
def test_the_share_of_labels_by_chance_is_as_stated(real):
    """Of what passes the limit, at most the stated share is noise, whatever is planted."""
    rng = np.random.default_rng(5)
    shares, kept = [], []
    for _ in range(400):
        noise, effects = rng.normal(size=500), rng.normal(4, 1, real)
        permuted = [rng.normal(size=500) for _ in range(20)]
        limit = limit_by_chance(np.concatenate([noise, effects]), permuted, 0.1)
        wrong, right = (noise >= limit).sum(), (effects >= limit).sum()
        shares.append(wrong / max(wrong + right, 1))
        kept.append(right)
    assert np.mean(shares) < 0.1 + 3 * np.std(shares) / 20
    if real == 60:
        assert np.mean(kept) > 0.7 * real
        assert np.mean(shares) > 0.05  # and no stricter than was asked


def test_no_limit_and_no_row_that_passes():
    noise = [np.array([3.0, 4.0])]
    assert limit_by_chance(np.array([1.0, 2.0]), noise, 0.05) == np.inf
    assert limit_by_chance(np.array([1.0, 2.0]), noise, 1.0) == -np.inf
    assert limit_by_chance(np.empty(0), [], 0.05) == np.inf


def test_the_limit_follows_the_study():
    """Marks that people disagree about leave features that chance does not make."""
    data, truth, _ = planted(1)
    rng = np.random.default_rng(6)
    unsure = data.values * (rng.random(data.values.shape) < 0.55)
    labels = CONTRAST.label(replace(data, values=unsure), TEN, CONTRAST.config())
    named = accepted(labels)
    right = sum(truth.get(feature) == mark for feature, mark in named.items())
    assert right / len(named) >= 0.9
    assert right / len(truth) >= 0.75


def test_a_mark_that_nothing_carries_and_a_silent_sae_are_no_crash(world):
    data = world[0]
    without = data.values.copy()
    without[:, 3] = 0
    labels = CONTRAST.label(replace(data, values=np.maximum(without, 0)), TEN, CONTRAST.config())
    assert all(label.value != "achievement" and label.polarity == 1 for label in labels)
    silent = replace(data, activations=sparse.csr_matrix(data.activations.shape))
    assert CONTRAST.label(silent, TEN, CONTRAST.config()) == []
    with pytest.raises(BadInput, match="No value is carried"):
        CONTRAST.label(replace(data, values=np.zeros_like(data.values)), TEN, CONTRAST.config())


def test_bad_activations_are_refused():
    marks, contexts = np.zeros((3, 10), int), np.array(["", "", ""])
    with pytest.raises(BadInput, match="finite"):
        LabelledActivations(sparse.csr_matrix(np.array([[np.nan], [1.0], [0.0]])), marks, contexts)
    with pytest.raises(BadInput, match="one row a document"):
        LabelledActivations(sparse.csr_matrix((2, 1)), marks, contexts)
    with pytest.raises(BadInput, match="Marks"):
        LabelledActivations(sparse.csr_matrix((3, 1)), marks + 2, contexts)
