"""People's verdicts: each kept whole, told apart by person, taken back, merged, sent and read."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from feature_store import queries
from feature_store.errors import BadInput, NotFound, WorkbenchError
from feature_store.records import HumanVerdict
from tests.helpers.synthetic import synthetic
from workbench.command.cli import main
from workbench.features import verdict_merging, verdicts
from workbench.features.verdicts import NameTaken
from workbench.study import Study


@pytest.fixture(autouse=True)
def desk(monkeypatch):
    monkeypatch.setenv(verdicts.DESK, "here")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("made") / "study").folder


@pytest.fixture
def study(made, tmp_path):
    return Study(shutil.copytree(made, tmp_path / "study"))


@pytest.fixture
def sae(study):
    return study.runs.latest("sae").id


def standing(study):
    rows = queries.standing_verdicts(study.store, study.runs.latest("sae").id)
    return {(row.feature, row.labeller): row.answer for row in rows.itertuples()}


def test_a_verdict_takes_what_it_does_not_say_from_the_label(study):
    label = queries.competing_labels(study.store, study.runs.latest("labels").id, 3).iloc[0]
    run = study.verdict("accept", feature=3, labeller="Ada", note="plain <b>")
    row = study.verdicts().iloc[0]
    assert (row.feature, row.value, row.polarity) == (3, label.value, label.polarity)
    assert (row.method, row.labeller, row.desk, row.note) == (
        "contrast",
        "Ada",
        "here",
        "plain <b>",
    )
    assert row.labels == study.runs.latest("labels").id
    assert row.came_in == run.id
    assert run.kind == "verdicts"
    study.verdict("accept", feature=3, labeller="Ada", side="both")
    study.verdict("change", feature=4, labeller="Ada", value="Self direction", side="rejected")
    study.verdict("reject", feature=5, labeller="Ada")
    study.verdict("unsure", feature=6, labeller="Ada")
    assert standing(study) == {
        (3, "Ada"): label.value,
        (4, "Ada"): "self-direction-",
        (5, "Ada"): "",
        (6, "Ada"): standing(study)[6, "Ada"],
    }
    assert len(study.verdicts()) == 5
    assert len(study.runs.all("verdicts-")) == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feature": 3}, "--labeller NAME"),
        ({"feature": 3, "labeller": "x" * 61}, "at most 60"),
        ({"feature": 3, "labeller": "a\u202eb"}, "printable"),
        ({"labeller": "Ada"}, "give --feature"),
        ({"feature": 9999, "labeller": "Ada"}, "has no feature 9999"),
        ({"feature": 3, "labeller": "Ada", "value": "powr"}, "Did you mean 'power'"),
        ({"feature": 3, "labeller": "Ada", "desk": "a b"}, "--desk is letters"),
        ({"feature": 3, "labeller": "Ada", "note": "x" * 2001}, "at most 2000"),
        ({"feature": 195, "labeller": "Ada"}, "give --value"),
        ({"feature": 3, "labeller": "Ada", "labels": "labels-0"}, "no finished run"),
        ({"verdict": "undo", "labeller": "Ada"}, "Ada has no verdict"),
        ({"verdict": "accpt", "feature": 3}, "--verdict is one of"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line_and_leaves_nothing(study, settings, message):
    with pytest.raises(WorkbenchError, match=message) as raised:
        study.verdict(**settings)
    assert "\n" not in str(raised.value)
    assert study.verdicts().empty
    assert [run.kind for run in study.runs.unfinished()] == ["profile"]


def test_undo_withdraws_ones_own_verdict_and_leaves_the_trail(study):
    first = study.verdict("accept", feature=3, labeller="Ada", value="power", side="held")
    study.verdict("reject", feature=3, labeller="Ada")
    study.verdict("undo", labeller="Ada")
    assert standing(study) == {(3, "Ada"): "power+"}
    id = study.verdicts().id[0]
    with pytest.raises(NotFound, match="people withdraw only their own"):
        study.verdict("undo", labeller="Ben", withdraws=id)
    study.verdict("undo", labeller="Ada", withdraws=id, note="wrong feature")
    assert standing(study) == {}
    with pytest.raises(NotFound, match="no verdict"):
        study.verdict("undo", labeller="Ada", withdraws=id)
    assert study.verdicts().standing.tolist() == ["withdrawn", "withdrawn", "undo", "undo"]
    assert study.runs.exists(first.id)


def test_two_people_of_one_name_are_told_apart_or_refused(study, sae):
    study.verdict("accept", feature=3, labeller="Ada", value="power", side="held")
    with pytest.raises(NameTaken, match=r"in use at another desk \(here, 1 verdicts") as raised:
        study.verdict("reject", feature=3, labeller=" ada ", desk="there")
    assert raised.value.person == verdicts.Person("Ada", "here")
    assert "give --desk here" in str(raised.value)
    study.verdict("reject", feature=4, labeller="ada", desk="here")  # who says that it is them
    assert set(study.verdicts().labeller) == {"Ada"}
    # Two who take a name in the same instant: neither sees the other's, and they stay two.
    twin = verdicts.Person("Ada", "there")
    said = verdicts.spoken(study, sae, twin, verdicts.Statement(feature=3, verdict="reject"))
    verdicts.keep(study, [said])
    rows = queries.standing_verdicts(study.store, sae)
    assert len(rows[rows.feature == 3]) == 2
    assert queries.verdict_agreement(study.store, sae).people == 2


def test_a_published_study_takes_no_verdict(study, tmp_path):
    study.verdict("accept", feature=3, labeller="Ada", value="power")
    file = study.publish(tmp_path / "s.duckdb", ["activations"])
    opened = Study(file, create=False)
    assert len(opened.verdicts()) == 1
    for refused in (
        lambda: opened.verdict("accept", feature=3, labeller="Ada"),
        lambda: opened.import_verdicts(file, labeller="Ada"),
        opened.compact,
    ):
        with pytest.raises(BadInput, match="published study, to be read only"):
            refused()
    assert opened.export_verdicts(tmp_path / "out.csv") == 1


# Files


def several(study):
    study.verdict("accept", feature=3, labeller="Ada", value="power", side="held", note='a;"b"\nc')
    study.verdict("change", feature=3, labeller="Ben", value="hedonism", side="rejected")
    study.verdict("both", feature=4, labeller="Ben", value="security")
    study.verdict("reject", feature=5, labeller="Ben")
    study.verdict("unsure", feature=6, labeller="Ben")
    study.verdict("undo", labeller="Ben", note="slip")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_exported_comes_back_whole_in_another_copy(study, made, tmp_path, suffix):
    several(study)
    file = tmp_path / f"verdicts.{suffix}"
    assert study.export_verdicts(file) == 6
    other = Study(shutil.copytree(made, tmp_path / "other"))
    became = other.import_verdicts(file)
    assert (became.account.read, became.lines) == (6, ())
    # Who reads it sits at another desk than who spoke; both say so.
    before, after = study.verdicts(), other.verdicts()
    pd.testing.assert_frame_equal(
        before.drop(columns="came_in"), after.drop(columns="came_in"), check_dtype=False
    )
    again = other.import_verdicts(file)
    assert again.run is None
    assert again.account.line().endswith("0 of 6 rows read (6 there already)")
    with pytest.raises(BadInput, match="exists already"):
        study.export_verdicts(file)


def test_a_spreadsheet_is_read_and_every_row_accounted_for(study, tmp_path, sae):
    file = tmp_path / "ada.csv"
    rows = [
        "feature;Value;verdict;polarity;note",
        "3;Power;accept;1;fine",
        "4;powr;accept;1;",
        "9999;power;accept;1;",
        "5;;reject;;no value at all",
        "6;Self-Direction;;;a value alone accepts",
        "7;power;maybe;1;",
        "8;;accept;1;",
        "x;power;accept;1;",
        "9;power;accept;up;",
        "3;Power;accept;1;fine",
    ]
    file.write_bytes("\ufeff".encode() + "\r\n".join(rows).encode())
    with pytest.raises(NotFound, match="has no column 'labeller'"):
        study.import_verdicts(file)
    became = study.import_verdicts(file, labeller="Ada")
    assert became.account.line() == (
        "ada.csv: 3 of 10 rows read (6 left out, each named; 1 there already)"
    )
    for line, reason in zip(
        became.lines,
        [
            "line 3: 'powr' is not a value of schwartz10. Did you mean 'power'?",
            "line 4: " + sae + " has no feature '9999'",
            "line 7: 'maybe' is no verdict. Known: accept",
            "line 8: accept needs a value",
            "line 9: a feature is a whole number, got 'x'",
            "line 10: polarity is 1, -1 or 0, got 'up'",
        ],
        strict=True,
    ):
        assert reason in line
    assert standing(study) == {
        (3, "Ada"): "power+",
        (5, "Ada"): "",
        (6, "Ada"): "self-direction",
    }
    # Mended and read again: only what is new comes.
    mended = file.read_bytes().replace(b"powr", b"power").replace(b"9999", b"19")
    file.write_bytes(mended)
    became = study.import_verdicts(file, labeller="Ada")
    assert became.account.read == 2
    assert len(study.verdicts()) == 5


def test_a_file_of_somebody_whose_name_is_in_use_is_asked_about(study, tmp_path):
    study.verdict("accept", feature=3, labeller="Ada", value="power")
    file = tmp_path / "t.csv"
    file.write_text("feature,labeller,verdict,desk\n5,Ada,reject,there\n6,Ada,reject,here\n")
    became = study.import_verdicts(file)
    assert became.account.read == 1
    assert "in use at another desk" in became.lines[0]
    file.write_text("feature,labeller,verdict,sae\n5,Ben,reject,sae-0\n")
    assert "speaks of 'sae-0'" in study.import_verdicts(file).lines[0]
    file.write_text("feature,labeller,verdict,withdraws\n5,Ben,undo,\n5,Ben,undo,v9\n")
    became = study.import_verdicts(file)
    assert became.account.read == 1
    assert "names in `withdraws`" in became.lines[0]
    assert "'v9', which is not here" in became.lines[1]


def test_the_command_line_gives_reads_writes_and_merges(study, tmp_path, capsys):
    folder = str(study.folder)
    words = ["verdict", folder, "--feature", "3", "--value", "power", "--labeller", "Ada"]
    assert main(words) == 0
    assert "verdict accept, value power, labeller Ada" in capsys.readouterr().out
    assert main([*words, "--desk", "there"]) == 2
    assert "in use at another desk" in capsys.readouterr().err
    assert (
        main(["verdict", folder, "--verdict", "reject", "--feature", "4", "--labeller", "B"]) == 0
    )
    assert main(["verdicts", folder]) == 0
    shown = capsys.readouterr().out
    assert "Ada  desk here  1 verdicts" in shown
    assert "2 features answered, 0 by two people or more" in shown
    file = tmp_path / "v.csv"
    assert main(["verdicts", folder, "--export", str(file)]) == 0
    file.write_text("feature,labeller,verdict\n5,Ada,reject\n5,\x1b[31mred,reject\n")
    assert main(["verdicts", folder, "--import", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "1 of 2 rows read" in out
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert main(["compact", folder]) == 0
    assert "3 verdicts of 3 runs, verified" in capsys.readouterr().out
    assert main(["compact", folder]) == 0
    assert "nothing to merge" in capsys.readouterr().out
    assert main(["check", folder]) == 0


# Merging


def test_many_small_runs_become_one_and_say_which_they_were(study):
    several(study)
    before = study.verdicts()
    runs = {run.id for run in study.runs.all("verdicts-")}
    done = study.compact()
    assert (done.merged, done.verdicts, done.finished, done.lines) == (6, 6, 0, ())
    assert [run.id for run in study.runs.all("verdicts-")] == [done.run.id]
    pd.testing.assert_frame_equal(study.verdicts(), before)
    assert set(before.came_in) == runs
    study.verdict("accept", feature=9, labeller="Ada", value="power")
    again = study.compact()
    assert again.verdicts == 7
    listed = verdict_merging._superseded_by(study, again.run)
    assert runs < set(listed)
    assert done.run.id in listed
    assert not study.runs.damaged(again.run.id)


class Killed(BaseException):
    """What stands for a kill: nothing is tidied up by who is killed."""


@pytest.mark.parametrize("step", ["_check", "_remove", "third", "flush"])
def test_a_merge_that_is_killed_loses_and_doubles_nothing(study, monkeypatch, step):
    several(study)
    before = study.verdicts()
    count = 0

    def kill(*_):
        raise Killed

    remove = verdict_merging._remove

    def kill_at_the_third(*arguments):
        nonlocal count
        count += 1
        if count == 3:
            raise Killed
        remove(*arguments)

    with monkeypatch.context() as patch:
        name = "_remove" if step == "third" else step
        patch.setattr(verdict_merging, name, kill_at_the_third if step == "third" else kill)
        with pytest.raises(Killed):
            study.compact()
    opened = Study(study.folder)
    pd.testing.assert_frame_equal(opened.verdicts(), before)
    assert queries.labellers(opened.store).verdicts.sum() == 6
    done = opened.compact()
    assert done.verdicts == 6
    pd.testing.assert_frame_equal(opened.verdicts(), before)
    assert len(opened.runs.all("verdicts-")) == 1
    assert len(opened.store.sql("SELECT id FROM verdicts")) == 6


def test_a_damaged_run_is_named_and_stays(study):
    several(study)
    victim = study.runs.folder / study.runs.all("verdicts-")[1].id
    file = victim / "verdicts.parquet"
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match=victim.name):
        done = Study(study.folder).compact()
    assert done.verdicts == 5
    assert victim.name in done.lines[0]
    assert victim.exists()


def test_a_merged_run_that_is_not_as_it_should_be_leaves_the_old_ones(study, monkeypatch):
    several(study)
    real = verdicts.write_rows
    monkeypatch.setattr(verdicts, "write_rows", lambda work, rows: real(work, rows.slice(1)))
    with pytest.raises(WorkbenchError, match="The old runs stay"):
        study.compact()
    assert len(study.verdicts()) == 6
    assert len(study.runs.all("verdicts-")) == 7


def test_what_was_half_kept_when_its_process_was_killed_is_finished(study, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("feature_store.work.publish", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            study.verdict("accept", feature=3, labeller="Ada", value="power")
    assert study.verdicts().empty
    done = Study(study.folder).compact()
    assert done.finished == 1
    assert study.verdicts().feature.tolist() == [3]
    assert [run.kind for run in study.runs.unfinished()] == ["profile"]


GIVE = """
import sys
from workbench.features import verdicts
from workbench.features.verdicts import Statement
from workbench.study import Study
study = Study(sys.argv[1])
speaker = verdicts.person(study.store, sys.argv[2])
sae = study.runs.latest("sae").id
for turn in range(10_000):
    said = verdicts.spoken(study, sae, speaker, Statement(feature=turn % 20, verdict="reject"))
    verdicts.keep(study, [said])
    print(said.id, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill_while_others_write_and_publish(study, tmp_path):
    environment = {**os.environ, verdicts.DESK: "here"}
    words = [sys.executable, "-c", GIVE, str(study.folder)]
    children = [
        subprocess.Popen([*words, who], stdout=subprocess.PIPE, text=True, env=environment)
        for who in ("Ada", "Ben")
    ]
    acknowledged = [child.stdout.readline().strip() for child in children]  # both are at work
    study.publish(tmp_path / "one.duckdb", ["activations"])
    study.compact()
    time.sleep(0.5)
    for child in children:
        child.send_signal(signal.SIGKILL)
    for child in children:
        acknowledged += child.stdout.read().split()
        child.wait()
    kept = Study(study.folder).verdicts().id.tolist()
    assert len(acknowledged) > 2
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))
    # At most one a process was begun and not acknowledged.
    assert len(kept) - len(acknowledged) <= 2


def test_a_record_is_a_row(study):
    names = set(HumanVerdict.__dataclass_fields__)
    columns = set(study.store.relations().query("relation == 'verdicts'").column)
    assert names == columns - {"run", "came_in"}
