import time

from feature_store.progress import in_terminal, part, stage


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


def test_stages_and_parts_name_what_only_counts():
    reports = []
    progress = part(lambda *report: reports.append(report), "train")
    stage(progress, "harvesting")(3, 10)
    assert reports == [("train: harvesting", 3, 10)]
