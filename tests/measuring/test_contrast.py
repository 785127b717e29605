"""Profiles side by side: differences and validity against planted truth, and the verb on the
organism."""

import json

import numpy as np
import pandas as pd
import pytest

from feature_store import queries, registry
from feature_store.errors import BadInput, NotFound
from workbench.comparing.contrasts import difference
from workbench.comparing.subjects import Steerable, subjects
from workbench.comparing.validity import correlations, mtmm, validity
from workbench.measuring.profiles import Cells

SYSTEM = registry.get("values", "schwartz10")
LABELS = pd.DataFrame(
    {
        "feature": [3, 4, 5, 6],
        "value": ["power", "power", "benevolence", "power"],
        "polarity": [1, -1, 1, 1],
        "gain": [0.9, 0.8, 0.7, 0.6],
        "effect": [1.2, 1.1, 1.0, 0.9],
        "score": [0.9] * 4,
        "accepted": [True] * 4,
        "output": [0.5, 0.4, 0.3, 0.2],
    }
)

STEERABLE = Steerable(labels=LABELS, system=SYSTEM, features_per_value=2, strength=0.3)


def cells(x, values=("power", "benevolence"), start=0):
    return Cells(
        values=values, clusters=tuple(str(k + start) for k in range(len(x))), raw=x, centred=x
    )


def test_paired_differences_forget_what_clusters_share():
    rng = np.random.default_rng(0)
    shared = 5 * rng.standard_normal((40, 1))
    before, after = (
        shared + 0.1 * rng.standard_normal((40, 2)),
        shared + [0.5, 0.0] + 0.1 * rng.standard_normal((40, 2)),
    )
    paired, apart = (
        difference(cells(before), cells(after), told, 1000, 0) for told in (True, False)
    )
    np.testing.assert_allclose(paired.mean, after.mean(0) - before.mean(0))
    np.testing.assert_allclose(apart.mean, paired.mean)
    assert paired.low[0] > 0.4
    assert paired.low[1] < 0 < paired.high[1]
    assert apart.low[0] < 0, "unpaired, the clusters' spread hides it"
    assert paired.n.tolist() == apart.n.tolist() == [40, 40]


def test_only_shared_clusters_and_values_are_paired():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((12, 2))
    told = difference(cells(x), cells(x[4:] + 1, start=4), True, 500, 0)
    assert told.n.tolist() == [8, 8]
    np.testing.assert_allclose(told.mean, 1)
    lone = difference(cells(x), cells(x[:, :1] + 1, ("power",)), False, 500, 0)
    assert lone.mean[0] == pytest.approx(1)
    assert np.isnan([lone.mean[1], lone.low[1], lone.p[1]]).all()


def test_welch_covers():
    rng, hit = np.random.default_rng(2), 0
    for _ in range(300):
        told = difference(
            cells(rng.standard_normal((9, 2))),
            cells(1 + 3 * rng.standard_normal((14, 2))),
            False,
            100,
            0,
        )
        hit += int(told.low[0] <= 1 <= told.high[0])
    assert 0.91 <= hit / 300 <= 0.99


def population(n, noise, rng):
    truth = rng.standard_normal((n, 10))
    return truth + noise * rng.standard_normal((n, 10)), truth + noise * rng.standard_normal(
        (n, 10)
    )


def test_correlations_are_those_of_numpy():
    a, b = population(15, 0.5, np.random.default_rng(3))
    np.testing.assert_allclose(correlations(a, b), np.corrcoef(a.T, b.T)[:10, 10:])
    rows = mtmm({"a": a, "b": b}, SYSTEM.ids)
    assert len(rows) == 400
    one = next(
        r
        for r in rows
        if (r["instrument"], r["value"], r["other_instrument"], r["other_value"])
        == ("a", "power", "b", "security")
    )
    assert one["r"] == pytest.approx(
        np.corrcoef(a[:, SYSTEM.ids.index("power")], b[:, SYSTEM.ids.index("security")])[0, 1]
    )


def test_validity_is_found_where_it_is_and_not_where_it_is_not():
    rng = np.random.default_rng(4)
    told = {v.metric: v for v in validity(*population(40, 0.5, rng), 400, 0)}
    assert told["convergent"].value == pytest.approx(
        1 / 1.25, abs=0.1
    )  # r = signal / (signal + noise)
    assert told["convergent"].low <= told["convergent"].value <= told["convergent"].high
    assert told["convergent"].p < 0.01
    assert abs(told["discriminant"].value) < 0.1
    assert told["criterion"].value > 0.9
    assert told["profile"].p < 0.01
    ps = [
        {
            v.metric: v
            for v in validity(rng.standard_normal((12, 10)), rng.standard_normal((12, 10)), 200, k)
        }
        for k in range(60)
    ]
    assert np.mean([p["convergent"].p < 0.05 for p in ps]) < 0.15
    assert np.mean([p["profile"].p < 0.05 for p in ps]) < 0.15


def test_few_subjects_have_no_correlation_over_subjects():
    a, b = population(4, 0.1, np.random.default_rng(5))
    assert [v.metric for v in validity(a, b, 200, 0)] == ["profile"]


def test_instruments_are_compared_over_the_values_that_both_measure():
    a, b = population(20, 0.5, np.random.default_rng(6))
    a[:, :3], b[:, 5:7] = np.nan, np.nan
    keep = [3, 4, 7, 8, 9]
    assert str(validity(a, b, 200, 0)) == str(validity(a[:, keep], b[:, keep], 200, 0))
    b[:, 3:] = np.nan
    assert validity(a, b, 200, 0) == []


def test_subjects_are_written_in_one_word():
    told = subjects(["base", "power-", "f12+f40*-1.5@0.4", "hub/model"], STEERABLE)
    assert [s.name for s in told] == ["base", "power-", "f12+f40*-1.5@0.4", "hub/model"]
    pairs = [one.split(":") for one in told[1].settings["features"]]
    assert [int(index) for index, _ in pairs] == [3, 4]
    assert [float(weight) for _, weight in pairs] == pytest.approx([-(0.5**0.5), 0.5**0.5])
    assert told[1].settings["strength"] == 0.3
    assert told[2].settings == {"features": ("12", "40:-1.5"), "strength": 0.4}
    assert told[3].settings == {"model": "hub/model"}
    assert [s.name for s in subjects(["values"], STEERABLE)] == [
        "base",
        "power+",
        "power-",
        "benevolence+",
        "benevolence-",
    ]


@pytest.mark.parametrize(
    ("told", "error", "says"),
    [
        (["base"], BadInput, "needs two subjects"),
        (["base", "powr+"], NotFound, "Did you mean 'power'"),
        (["base", "tradition+"], BadInput, "No accepted label names a feature of tradition"),
        (["base", "strong"], BadInput, "is not a subject"),
        (["base", "f1@1.2.3"], BadInput, "is not a number"),
    ],
)
def test_a_subject_that_is_none_is_refused(told, error, says):
    with pytest.raises(error, match=says):
        subjects(told, STEERABLE)


def test_the_verb_on_the_organism(probed_study):
    """Steering a random feature and another model's wording: rows lead back to answers, and the
    same call is the same run.
    """
    study = probed_study
    feature = int(
        study.store.sql("SELECT feature FROM features ORDER BY n_active DESC LIMIT 1").feature[0]
    )
    asking = {
        "subjects": ("base", f"f{feature}@0.5", f"f{feature}*-1@0.5"),
        "instruments": ("standin",),
        "n_contexts": 6,
        "replicates": 200,
    }
    with pytest.raises(BadInput, match="needs two subjects"):
        study.contrast(**asking | {"subjects": ("base",)})
    with pytest.raises(BadInput, match="A setting is written instrument.key=value"):
        study.contrast(**asking | {"settings": ("items=x",)})
    run = study.contrast(**asking)
    assert study.contrast(**asking).id == run.id
    rows = queries.contrasts(study.store, run.id, "standin")
    assert len(rows) == 2 * 10
    assert rows.paired.all()
    assert rows.n.eq(6).all()
    who = queries.subjects(study.store, run.id)
    assert who.subject.tolist() == list(asking["subjects"])
    base, up = (queries.profile(study.store, row.profile) for row in who.iloc[:2].itertuples())
    means = [
        told[told.steering == name].set_index("value")["mean"]
        for told, name in ((base, "base"), (up, who.steering[1]))
    ]
    power = rows[(rows.subject == who.subject[1]) & (rows.value == "power")].iloc[0]
    assert power.difference == pytest.approx(means[1]["power"] - means[0]["power"])
    assert power.before == pytest.approx(means[0]["power"])
    fits = queries.circle_fits(study.store, run.id, "standin")
    assert set(fits.subject) == set(asking["subjects"][1:])
    assert ((fits.r2 >= 0) & (fits.r2 <= 1)).all()
    assert queries.mtmm(study.store, run.id).empty, "three subjects are too few"
    assert set(queries.quality(study.store, who.profile[0]).metric) >= {
        "unparsed",
        "refused",
        "too-long",
        "split-half",
        "alternate-form",
    }
    answers = queries.item_responses(study.store, who.profile[1], who.steering[1], "power", 5)
    assert answers.total.iloc[0] == 4 * 6 * 2
    assert answers.prompt.str.len().gt(0).all()
    kept = [json.loads(line) for line in (study.folder / "scores.jsonl").read_text().splitlines()]
    assert len({line["key"] for line in kept}) == len(kept), "nothing was asked twice"
