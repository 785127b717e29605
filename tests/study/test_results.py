"""What a study has found is read like the domain: labels, profile, side effects and edges."""

import json
import math

import pytest

from feature_store import queries
from feature_store.errors import NotFound
from feature_store.records import Steering
from tests.helpers.synthetic import synthetic
from workbench.study import Study
from workbench.verb_table import VERBS


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("study") / "invented")


def test_the_best_feature_is_the_one_that_effects_steers_first(study):
    power = study.labels("power")
    assert power.run == study.resolve("labels", "latest").id
    assert set(power.frame.value) == {"power"}
    assert power.frame.accepted.all()
    assert power.best.feature == power.features[0]
    assert len(set(power.features)) == len(power.features) <= len(power)
    ranked = power.frame.output.dropna().tolist()
    assert ranked == sorted(ranked, reverse=True)


def test_a_feature_tells_its_evidence_and_becomes_a_steering_that_raises_its_value(study):
    for label in (study.labels("power").best, study.labels().best):
        row = (
            queries.competing_labels(study.store, study.labels().run, label.feature)
            .query("value == @label.value")
            .iloc[0]
        )
        assert (label.score, label.n, label.polarity) == (row.score, row.n, row.polarity)
        assert label.low <= label.effect <= label.high
        assert label.evidence == json.loads(row.evidence)
        assert math.isnan(label.output) or label.output == row.output
        expected = Steering(features=((label.feature, float(label.polarity)),), strength=0.6)
        assert label.steering(0.6) == expected


def test_all_values_are_read_where_none_is_named(study):
    everything = study.labels()
    assert set(everything.frame.value) == set(study.system.ids)
    assert len(everything) == len(study.store.sql("SELECT * FROM labels WHERE accepted"))


def test_side_effects_leave_the_steered_value_out_and_begin_with_the_largest(study):
    effects = study.side_effects("power")
    assert set(effects.source) == {"power"}
    assert "power" not in set(effects.target)
    sizes = effects.effect.abs().tolist()
    assert sizes == sorted(sizes, reverse=True)
    n = len(study.system.ids)
    assert len(study.side_effects()) == n * (n - 1)


def test_edges_and_profile_are_those_of_the_latest_runs(study):
    edges = study.edges()
    assert edges.present.all()
    assert edges.weight.abs().is_monotonic_decreasing
    profile = study.profile()
    assert set(profile[profile.steering == "base"].value) == set(study.system.ids)


def test_what_is_not_there_is_said(study, tmp_path):
    with pytest.raises(NotFound, match="has no value 'powr'. Did you mean 'power'"):
        study.labels("powr")
    with pytest.raises(NotFound, match="Run `workbench label` first"):
        Study(tmp_path / "empty").labels("power")
    bare = study.labels("power")
    with pytest.raises(NotFound, match="No feature of .* carries power"):
        type(bare)(run=bare.run, value="power", frame=bare.frame.head(0)).best  # noqa: B018 - raises


def test_no_reader_hides_a_verb():
    assert not {"labels", "profile", "side_effects", "edges"} & set(VERBS)
