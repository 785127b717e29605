import io
import sys
import time

import pytest

from feature_store.progress import in_terminal, in_turn, missing_chunks, part, stage, step


def test_lines_estimate_from_what_was_done_since_the_first_call(monkeypatch, capsys):
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    with in_terminal("demo") as progress:
        for clock["now"], done in ((5.0, 50), (15.0, 60), (16.0, 61), (60.0, 100)):
            progress("reading", done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "demo: reading 50 of 100",  # an interrupted run's share says nothing about the pace
        "demo: reading 60 of 100, about 40 s left",
        "demo: reading 100 of 100",
    ]


def test_what_is_found_finished_is_done_at_once_and_no_pace(monkeypatch, capsys):
    """Chunks of 10: the first and the third were kept; the second takes 10 s, the fourth 10 s."""
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    with in_terminal("effects") as progress:
        chunks = missing_chunks({0, 2}, 40, 10, stage(progress, "sweeping"))
        for number, rows, shown in chunks:
            assert list(rows) == list(range(10 * number, 10 * number + 10))
            for done in range(6):
                clock["now"] += 2.0 * bool(done)
                shown(done, 5)
    assert capsys.readouterr().err.splitlines() == [
        "effects: sweeping 20 of 40",
        "effects: sweeping 24 of 40, about 16 s left",
        "effects: sweeping 28 of 40, about 12 s left",
        "effects: sweeping 32 of 40, about 8 s left",
        "effects: sweeping 36 of 40, about 4 s left",
        "effects: sweeping 40 of 40",
    ]


def test_a_count_that_falls_begins_its_stage_anew(monkeypatch, capsys):
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    with in_terminal("hear") as progress:
        for clock["now"], done in ((0.0, 0), (1.0, 2), (100.0, 0), (140.0, 1)):
            progress("judging", done, 2)
    assert capsys.readouterr().err.splitlines() == [
        "hear: judging 0 of 2",
        "hear: judging 2 of 2",
        "hear: judging 0 of 2",
        "hear: judging 1 of 2, about 40 s left",
    ]


def test_a_bar_shows_the_time_left_by_the_pace_since_its_stage_began(monkeypatch):
    """A step longer than the half minute that the library of the bars looks back."""
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with in_terminal("effects") as progress:
        progress("sweeping", 48, 144)
        clock["now"] = 90.0
        progress("sweeping", 96, 144)
    assert "96/144" in screen.getvalue()
    assert "left 0:01:30" in screen.getvalue()


@pytest.mark.parametrize("size", [1, 7, 48])
def test_a_step_leaves_its_last_count_to_whoever_keeps_it(size):
    reports = []
    shown = step(lambda *count: reports.append(count), 48, size, 96)
    for done in range(11):
        shown(done, 10)
    assert [total for _, total in reports] == [96] * 11
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[0][0] == 48
    assert reports[-1][0] == 48 + size - 1


def test_works_in_turn_are_one_count():
    reports = []
    first, second = in_turn(lambda *count: reports.append(count), 10)
    for done in (0, 15, 30):
        first(done, 30)
    for done in (0, 10):
        second(done, 10)
    assert reports == [(0, 40), (15, 40), (30, 40), (30, 40), (40, 40)]


def test_stages_and_parts_name_what_only_counts():
    reports = []
    progress = part(lambda *report: reports.append(report), "train")
    stage(progress, "harvesting")(3, 10)
    assert reports == [("train: harvesting", 3, 10)]
