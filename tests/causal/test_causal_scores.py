"""The causal score of a label, against features whose effects are planted."""

import numpy as np
import pandas as pd
import pytest

from feature_store.errors import BadInput
from workbench.causal.causal_scores import (
    SteeredFeatures,
    causal_scores,
    passed_by_other_values,
    root_mean_square,
)
from workbench.sweeps.damage import Matched

VALUES = ("power", "security", "hedonism")
CONTEXTS = 16


def matched(means, polarity, kinds, features):
    """A matched sweep: each unit's mean change of each value, turned by its polarity."""
    rng = np.random.default_rng(0)
    means, polarity = np.asarray(means, float), np.asarray(polarity)
    changes = means[:, None] + rng.normal(0, 0.05, (len(means), CONTEXTS, len(VALUES)))
    units = len(means)
    return Matched(
        unit_id=np.arange(units),
        kind=np.array(kinds),
        feature=np.array(features),
        source=np.array(["power" if kind == "feature" else "" for kind in kinds]),
        polarity=polarity,
        strength=np.ones(units),
        reached=np.ones(units, bool),
        damage=np.full(units, 0.1),
        changes=changes * polarity[:, None, None],
    )


@pytest.fixture
def steered():
    """Feature 3 raises power alone, 4 lowers it, 5 raises all, 6 does nothing; eight controls."""
    controls = np.random.default_rng(1).normal(0, 0.1, (8, 3))
    means = [[1, 0, 0], [-1, 0, 0], [1, 1, 1], [0, 0, 0], *controls]
    kinds = ["feature"] * 4 + ["random-feature"] * 4 + ["random-direction"] * 4
    sweep = matched(
        means, [1, -1, 1, 1] + [1] * 8, kinds, [3, 4, 5, 6, 10, 11, 12, 13, -1, -1, -1, -1]
    )
    return SteeredFeatures.of(sweep, VALUES, np.array([2.0, 2.0, 2.0]))


def labels(*rows):
    return pd.DataFrame(
        [("labels-1", *row) for row in rows], columns=["labels", "feature", "value", "polarity"]
    )


def scores(steered, *rows):
    made = causal_scores(steered, labels(*rows), 200, 0)
    return {(row["feature"], row["value"], row["polarity"], row["score"]): row for row in made}


def test_a_feature_that_raises_its_value_alone_passes_both(steered):
    made = scores(steered, (3, "power", 1))
    causal, beside = made[3, "power", 1, "causal"], made[3, "power", 1, "beside"]
    assert causal["figure"] == pytest.approx(0.5, abs=0.03)
    assert causal["low"] < causal["figure"] < causal["high"]
    assert causal["n"] == CONTEXTS
    assert causal["passed"]
    assert beside["passed"]


def test_the_labels_polarity_turns_the_change(steered):
    made = scores(steered, (4, "power", -1), (4, "power", 1), (3, "power", -1))
    assert made[4, "power", -1, "causal"]["figure"] == pytest.approx(0.5, abs=0.03)
    assert made[4, "power", -1, "causal"]["passed"]
    assert not made[4, "power", 1, "causal"]["passed"]
    assert not made[3, "power", -1, "causal"]["passed"]


def test_a_feature_that_raises_everything_is_not_clean(steered):
    made = scores(steered, (5, "power", 1))
    assert made[5, "power", 1, "causal"]["passed"]
    assert made[5, "power", 1, "beside"]["figure"] == pytest.approx(0.5, abs=0.03)
    assert not made[5, "power", 1, "beside"]["passed"]


def test_a_feature_that_does_nothing_and_a_wrong_value_pass_no_control(steered):
    made = scores(steered, (6, "power", 1), (3, "security", 1))
    assert not made[6, "power", 1, "causal"]["passed"]
    assert not made[3, "security", 1, "causal"]["passed"]
    assert not made[3, "security", 1, "beside"]["passed"], "power moved beside it"


def test_chance_is_what_controls_reach_and_a_labelled_control_is_none_of_them(steered):
    made = scores(steered, (3, "power", 1), (10, "power", 1))
    means = steered.means[4:, 0]
    expected = np.quantile(np.r_[means, -means], 0.975)
    assert made[3, "power", 1, "causal"]["chance"] == pytest.approx(expected)
    others = np.delete(means, 0)
    expected = np.quantile(np.r_[others, -others], 0.975)
    assert made[10, "power", 1, "causal"]["chance"] == pytest.approx(expected)


def test_labels_of_features_that_were_not_steered_have_no_score(steered):
    assert causal_scores(steered, labels((99, "power", 1), (3, "nosuch", 1)), 200, 0) == []


def test_other_values_pass_as_often_as_they_are_moved(steered):
    assert passed_by_other_values(steered, labels((3, "power", 1)), 200, 0) == 0
    assert passed_by_other_values(steered, labels((5, "power", 1)), 200, 0) == 1
    assert np.isnan(passed_by_other_values(steered, labels((99, "power", 1)), 200, 0))


def test_without_controls_nothing_passes():
    sweep = matched([[1, 0, 0]], [1], ["feature"], [3])
    alone = SteeredFeatures.of(sweep, VALUES, np.ones(3))
    rows = causal_scores(alone, labels((3, "power", 1)), 200, 0)
    assert [row["passed"] for row in rows] == [False, False]
    assert np.isnan(rows[0]["chance"])


def test_a_sweep_of_directions_scores_no_label():
    sweep = matched([[1, 0, 0]], [1], ["direction"], [-1])
    with pytest.raises(BadInput, match="no single feature"):
        SteeredFeatures.of(sweep, VALUES, np.ones(3))


def test_a_root_mean_square_leaves_out_what_is_not_known():
    assert root_mean_square(np.array([3.0, np.nan, 4.0])) == pytest.approx(np.sqrt(12.5))
