"""Which verdicts count, how far people agree, and what is judged next: on rows made by hand."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from feature_store import queries
from feature_store.runs import Runs
from feature_store.store import Store

START = datetime(2026, 11, 28, 4, 0)


class Said:
    """Writes verdicts, each as a run of its own, a minute after the one before."""

    def __init__(self, folder):
        self.runs, self.number = Runs(folder / "runs"), 0

    def __call__(self, who, feature, verdict, value="", polarity=1, **more):
        self.number += 1
        row = {
            "id": f"v{self.number}",
            "came_in": "",
            "sae": "sae-1",
            "feature": feature,
            "verdict": verdict,
            "value": value,
            "polarity": polarity if value else 0,
            "labels": "",
            "method": "",
            "labeller": who,
            "desk": "d",
            "note": "",
            "given": START + timedelta(minutes=self.number),
            "withdraws": "",
        }
        with self.runs.begin("verdicts", {"number": self.number}, {}, 0) as work:
            work.table("verdicts", [row | more])
            work.finish({})
        return row["id"]


@pytest.fixture
def said(tmp_path):
    return Said(tmp_path)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def standing(store):
    rows = queries.standing_verdicts(store, "sae-1")
    return {(row.feature, row.labeller): row.answer for row in rows.itertuples()}


def test_the_last_verdict_that_was_not_withdrawn_counts(said, store):
    said("Ada", 1, "accept", "power")
    second = said("Ada", 1, "reject", "power")
    assert standing(store) == {(1, "Ada"): ""}
    said("Ada", 1, "undo", withdraws=second)
    assert standing(store) == {(1, "Ada"): "power+"}
    said("Ada", 1, "both", "power", 0)
    assert standing(store) == {(1, "Ada"): "power"}
    said("Ada", 1, "unsure")
    assert queries.standing_verdicts(store, "sae-1").answer.isna().all()
    log = queries.verdict_log(store)
    assert log.standing.tolist() == ["replaced", "withdrawn", "undo", "replaced", "counts"]


def test_nobody_withdraws_what_another_said(said, store):
    first = said("Ada", 1, "accept", "power")
    said("Ben", 1, "undo", withdraws=first)
    said("Ada", 1, "undo", withdraws=first, desk="elsewhere")  # of the same name
    assert standing(store) == {(1, "Ada"): "power+"}


def test_a_verdict_in_two_runs_counts_once(said, store):
    first = said("Ada", 1, "accept", "power")
    said("Ada", 1, "accept", "power", id=first, given=START + timedelta(minutes=1))
    assert len(queries.verdict_log(store)) == 1
    assert queries.labellers(store).verdicts.tolist() == [1]


def test_two_people_are_blind_to_one_another_until_both_have_judged(said, store):
    said("Ada", 1, "accept", "power")
    assert queries.feature_verdicts(store, "sae-1", 1, "Ben", "d").empty
    said("Ben", 1, "reject", "power")
    assert queries.feature_verdicts(store, "sae-1", 1, "Ben", "d").labeller.tolist() == ["Ada"]
    assert queries.feature_verdicts(store, "sae-1", 1, "Ada", "d").labeller.tolist() == ["Ben"]
    said("Ben", 1, "undo", withdraws="v2")
    assert queries.feature_verdicts(store, "sae-1", 1, "Ben", "d").empty


def alpha(units):
    """Krippendorff's alpha, nominal, from pairs of answers: his definition, not our formula."""
    units = [answers for answers in units if len(answers) > 1]
    pooled = [answer for answers in units for answer in answers]
    observed = sum(
        sum(a != b for a in answers for b in answers) / (len(answers) - 1) for answers in units
    ) / len(pooled)
    expected = sum(a != b for a in pooled for b in pooled) / (len(pooled) * (len(pooled) - 1))
    return 1 - observed / expected


def test_agreement_is_krippendorffs_with_answers_missing(said, store):
    rng = np.random.default_rng(0)
    words = ["power", "hedonism", ""]
    units = []
    for feature in range(12):
        answers = []
        for who in ("Ada", "Ben", "Cy"):
            draw = rng.random()
            if draw < 0.3:
                continue
            if draw < 0.4:
                said(who, feature, "unsure")
                continue
            value = words[int(rng.integers(3))] if rng.random() < 0.4 else words[feature % 3]
            said(who, feature, "accept" if value else "reject", value)
            answers.append(value)
        units.append(answers)
    agreement = queries.verdict_agreement(store, "sae-1")
    assert agreement.alpha == pytest.approx(alpha(units), abs=1e-12)
    shared = [answers for answers in units if len(answers) > 1]
    assert agreement.shared == len(shared)
    assert agreement.same == sum(len(set(answers)) == 1 for answers in shared)
    assert agreement.answered == sum(bool(answers) for answers in units)
    assert agreement.people == 3


def test_there_is_no_agreement_where_nothing_is_shared(said, store):
    assert np.isnan(queries.verdict_agreement(store, "sae-1").alpha)
    said("Ada", 1, "accept", "power")
    said("Ben", 2, "accept", "power")
    agreement = queries.verdict_agreement(store, "sae-1")
    assert (agreement.people, agreement.answered, agreement.shared) == (2, 2, 0)
    assert np.isnan(agreement.alpha)


def label(feature, value, effect, **more):
    row = {"feature": feature, "value": value, "polarity": 1, "part": "pole", "effect": effect}
    row |= dict.fromkeys(("low", "high", "p", "q", "score", "gain"), 0.9)
    return row | {"n": 9, "method": "m", "accepted": True, "evidence": "{}"} | more


def labels(runs, labeler, rows, outputs=()):
    with runs.begin("labels", {"labeler": labeler}, {"sae": "sae-1"}, 0) as work:
        work.table("labels", [row | {"method": labeler} for row in rows])
        scores = dict.fromkeys(("low", "high", "beside", "null_high", "dose"), 0.1)
        work.table(
            "output_scores",
            [
                {"feature": f, "value": v, "polarity": 1, "output": x, "n": 6, "seed": 0} | scores
                for f, v, x in outputs
            ],
        )
        return work.finish({}).id


def sweep(runs, labels_run, effects):
    """A sweep: feature -> its effect on its value at the dose that was matched; 9 at another."""
    with runs.begin("effects", {}, {"labels": labels_run}, 0) as work:
        doses, matched = [], []
        for unit, (feature, effect) in enumerate(effects.items()):
            shared = {"unit_id": unit, "kind": "feature", "feature": feature, "value": "power"}
            shared["polarity"] = 1
            for dose, size in ((0.3, effect), (0.9, 9.0)):
                numbers = dict.fromkeys(("low", "high", "points", "damage"), 0.0)
                doses.append(
                    shared | numbers | {"dose": dose, "target": "power", "effect": size, "n": 4}
                )
            matched.append(shared | {"strength": 0.35, "reached": True, "damage": 0.1})
        work.table("dose_effects", doses)
        work.table("matched", matched)
        work.finish({})


@pytest.fixture
def three(tmp_path):
    """Three labelers: they agree on feature 1, two of three on 2, all differ on 3, one names 4."""
    runs = Runs(tmp_path / "runs")
    a = labels(
        runs,
        "a",
        [label(1, "power", 1.0), label(2, "power", 2.0), label(3, "power", 3.0)],
        [(1, "power", 0.2), (2, "power", 0.1)],
    )
    b = labels(
        runs, "b", [label(1, "power", 1.0), label(2, "power", 1.0), label(3, "hedonism", 1.0)]
    )
    c = labels(
        runs,
        "c",
        [
            label(1, "power", 5.0),
            label(3, "security", 5.0),
            label(4, "security", 9.0),
            label(5, "power", 9.0, accepted=False),
        ],
    )
    return [a, b, c]


def test_the_queue_asks_first_where_labelers_differ(three, store):
    assert queries.voices(store, "sae-1").run.tolist() == three
    rows = queries.label_queue(store, "sae-1", three).set_index("feature")
    assert set(rows.index) == {1, 2, 3, 4}  # what nobody accepts is not asked
    # Two draws from three voices and one that says none.
    expected = {1: 1 - (9 + 1) / 16, 2: 1 - (4 + 4) / 16, 3: 1 - 4 / 16, 4: 1 - (1 + 9) / 16}
    assert rows.disagreement.to_dict() == pytest.approx(expected)
    assert rows.loc[1, ["value", "votes", "runs"]].tolist() == ["power", 3, 3]
    assert (rows.priority == rows.disagreement * rows.importance).all()
    assert rows.index[0] == rows.priority.idxmax() == 3


def test_importance_is_what_steering_does_where_it_was_measured(three, store, tmp_path):
    rows = queries.label_queue(store, "sae-1", three).set_index("feature")
    assert rows.by.to_dict() == {1: "output", 2: "output", 3: "effect", 4: "effect"}
    assert rows.importance[[1, 2]].tolist() == [1.0, 0.5]
    # Effects of different labelers have no common unit: ranks within each run's labels.
    assert rows.importance[[3, 4]].tolist() == [1.0, 1.0]
    sweep(Runs(tmp_path / "runs"), three[1], {1: 0.1, 2: -0.9, 4: 0.5})
    rows = queries.label_queue(store, "sae-1", three).set_index("feature")
    assert rows.by.to_dict() == {1: "sweep", 2: "sweep", 3: "effect", 4: "sweep"}
    assert rows.importance[[1, 4, 2]].tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_the_queue_forgets_what_one_has_judged_and_knows_nothing_of_others(three, store, said):
    before = queries.label_queue(store, "sae-1", three, "Ada", "d").feature.tolist()
    said("Ben", before[0], "accept", "power")
    assert queries.label_queue(store, "sae-1", three, "Ada", "d").feature.tolist() == before
    given = said("Ada", before[0], "unsure")
    assert queries.label_queue(store, "sae-1", three, "Ada", "d").feature.tolist() == before[1:]
    said("Ada", before[0], "undo", withdraws=given)
    assert queries.label_queue(store, "sae-1", three, "Ada", "d").feature.tolist() == before


def test_labels_made_of_verdicts_are_no_voice(three, store, tmp_path):
    runs = Runs(tmp_path / "runs")
    labels(runs, "human", [label(1, "security", 1.0)])
    labels(runs, "consensus", [label(1, "security", 1.0)])
    assert queries.voices(store, "sae-1").run.tolist() == three
    shown = queries.voiced_labels(store, three, 1)
    assert shown.method.tolist() == ["a", "b", "c"]
    assert set(shown.value) == {"power"}


def test_one_run_alone_is_asked_by_importance(store, tmp_path):
    run = labels(Runs(tmp_path / "runs"), "a", [label(f, "power", float(f)) for f in (3, 1, 2)])
    rows = queries.label_queue(store, "sae-1", [run])
    assert rows.feature.tolist() == [3, 2, 1]
    assert rows.disagreement.tolist() == [0.5] * 3
