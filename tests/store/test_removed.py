"""Runs that are removed while others read and publish: nobody fails, and nothing is half there."""

import shutil
import warnings

import pytest

from feature_store import published
from feature_store.errors import WorkbenchError
from feature_store.runs import Runs
from feature_store.store import Store
from tests.store.test_verdicts import Said


@pytest.fixture
def runs(tmp_path):
    said = Said(tmp_path)
    for feature in range(4):
        said("Ada", feature, "accept", "power")
    return Runs(tmp_path / "runs")


def remove_one(runs):
    shutil.rmtree(runs.folder / runs.ids("verdicts-")[0])


def add_one(runs):
    said = Said(runs.folder.parent)
    said.number = 50  # a run of its own
    said("Ben", 9, "reject")


def features(store):
    return sorted(store.sql("SELECT feature FROM verdicts").feature)


@pytest.mark.parametrize("step", ["_view", "_look_at", "_read"])
def test_a_run_that_goes_while_it_is_read_is_gone_without_a_word(runs, monkeypatch, step):
    store = Store(runs.folder)
    real = getattr(Store, step)
    left = 2

    def removing(self, *arguments):
        nonlocal left
        if left:
            left -= 1
            remove_one(runs)
        return real(self, *arguments)

    add_one(runs)  # so that the store looks anew
    monkeypatch.setattr(Store, step, removing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(features(store)) == len(runs.ids("verdicts-")) < 5
        assert store.bad == {}


def unfolded(file, folder):
    published.unfold(file, folder)
    return Store(folder / "runs")


def test_what_is_published_while_runs_are_removed_is_whole(runs, tmp_path, monkeypatch):
    store = Store(runs.folder)
    real, left = Store.arrow, 2

    def removing(self, *arguments):
        nonlocal left
        if left:
            left -= 1
            remove_one(runs)
        return real(self, *arguments)

    monkeypatch.setattr(Store, "arrow", removing)
    file = published.publish(store, tmp_path / "s.duckdb", {"system": "schwartz10"})
    copy = unfolded(file, tmp_path / "copy")
    ids = sorted(copy.sql("SELECT run FROM runs").run)
    assert ids == sorted(runs.ids("verdicts-"))
    assert sorted(copy.sql("SELECT run FROM verdicts").run) == ids


def test_a_run_that_comes_while_one_publishes_is_left_out_whole(runs, tmp_path, monkeypatch):
    store = Store(runs.folder)
    real, begun = Store.arrow, []

    def adding(self, *arguments):
        if not begun:
            begun.append(True)
            add_one(runs)
        return real(self, *arguments)

    monkeypatch.setattr(Store, "arrow", adding)
    file = published.publish(store, tmp_path / "s.duckdb", {"system": "schwartz10"})
    copy = unfolded(file, tmp_path / "copy")
    assert len(runs.ids("verdicts-")) == 5
    assert len(copy.sql("SELECT run FROM runs")) == len(features(copy)) == 4


def test_who_removes_runs_all_the_while_is_named(runs, tmp_path, monkeypatch):
    store = Store(runs.folder)
    real = Store.arrow
    number = 10

    def changing(self, *arguments):
        nonlocal number
        number += 1
        remove_one(runs)
        with Runs(runs.folder).begin("verdicts", {"number": number}, {}, 0) as work:
            work.table("verdicts", [])
            work.finish({})
        return real(self, *arguments)

    monkeypatch.setattr(Store, "arrow", changing)
    with pytest.raises(WorkbenchError, match="removed all the while"):
        published.publish(store, tmp_path / "s.duckdb", {"system": "schwartz10"})
    assert not (tmp_path / "s.duckdb").exists()
