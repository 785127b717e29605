"""The sweep itself: what is counted while it runs, what an interruption leaves, and what is found
finished; on the organism, in chunks of two interventions."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from feature_store.progress import silent
from feature_store.records import Site, Steering
from sae_training.engine.opening import open_model
from sae_training.model.edits import Add
from tests.helpers.counting import assert_counts
from workbench import material, organism
from workbench.instruments.standin import standin
from workbench.measuring.questions import questions
from workbench.sweeps import sweep
from workbench.sweeps.sweep import EditedModel, Intervention, SweepMaterial

INTERVENTIONS = [
    Intervention(
        unit_id=number,
        kind="random-direction",
        feature=-1,
        value="",
        polarity=1,
        steering=Steering(random=number),
    )
    for number in range(7)
]


class Kept:
    """The parts of a sweep, in memory."""

    def __init__(self):
        self.kept = {}

    def part(self, relation, number, rows):
        self.kept[relation, number] = rows

    def done(self, *relations):
        numbers = {number for _, number in self.kept}
        return {n for n in numbers if all((relation, n) in self.kept for relation in relations)}

    def parts(self, relation):
        return pa.concat_tables(self.kept[key] for key in sorted(self.kept) if key[0] == relation)


@pytest.fixture(scope="module")
def edited():
    model = open_model(str(organism.folder()))
    vectors = torch.randn(7, model.d_model, generator=torch.Generator().manual_seed(0))
    return EditedModel(model, Add(vectors, ("all",) * 7), Site(1))


@pytest.fixture(scope="module")
def texts():
    asked = questions(standin(), ["At work."], ["plain"])[:12]
    return SweepMaterial(asked, material.neutral(material.ORGANISM, 3, 0))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(sweep, "CHUNK", 2)


def counted(reports):
    return lambda stage, done, total: reports.append((done, total))


def test_counts_rise_to_the_total_and_change_no_answer(edited, texts):
    reports = []
    watched = sweep.measure(Kept(), edited, texts, INTERVENTIONS, counted(reports))
    unwatched = sweep.measure(Kept(), edited, texts, INTERVENTIONS, silent)
    assert all(map(pa.Table.equals, watched, unwatched))
    assert_counts(reports)
    assert reports[-1][1] == len(INTERVENTIONS)
    assert set(range(8)) == {done for done, _ in reports}, "counts rise within a chunk as well"


def test_a_resumed_sweep_begins_at_what_is_done(edited, texts):
    whole = sweep.measure(Kept(), edited, texts, INTERVENTIONS, silent)
    work = Kept()
    sweep.measure(work, edited, texts, INTERVENTIONS, silent)
    for relation in ("ratings", "damages"):
        del work.kept[relation, 1], work.kept[relation, 3]
    reports = []
    resumed = sweep.measure(work, edited, texts, INTERVENTIONS, counted(reports))
    assert_counts(reports, first=4)
    assert all(map(pa.Table.equals, resumed, whole))


def test_an_interruption_inside_a_chunk_loses_that_chunk_alone(edited, texts):
    whole = sweep.measure(Kept(), edited, texts, INTERVENTIONS, silent)
    work = Kept()

    def interrupt(stage, done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.measure(work, edited, texts, INTERVENTIONS, interrupt)
    assert work.done("ratings", "damages") == {0, 1}
    resumed = sweep.measure(work, edited, texts, INTERVENTIONS, silent)
    assert all(map(pa.Table.equals, resumed, whole))
    ratings = resumed[0]["rating"].to_numpy().reshape(7, -1)
    assert np.ptp(ratings, axis=0).min() > 0, "they did steer"
