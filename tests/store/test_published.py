"""A study in one file: what is unfolded is what was published, and a stranger's file forges
nothing."""

import json
import math
from dataclasses import replace

import duckdb
import pytest

from feature_store import schema
from feature_store.errors import BadInput, NotFound
from feature_store.published import publish, unfold
from feature_store.runs import Runs
from feature_store.store import Store
from feature_store.verified import intact
from tests.helpers.synthetic import synthetic
from tests.store.test_runs import make

ABOUT = {"system": "schwartz10", "note": "made for a test"}


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "unfolded"
    folder.mkdir()
    return folder


@pytest.fixture
def file(runs, tmp_path):
    make(runs)
    return publish(Store(runs.folder), tmp_path / "out" / "study.duckdb", ABOUT)


def test_any_client_reads_the_rows_and_their_units(file, runs):
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT weight FROM edges").fetchall() == [(-0.7,)]
        comments = connection.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'edges'"
        ).fetchall()
        assert "rating points" in dict(comments)["weight"]
    with pytest.raises(BadInput, match="exists already"):
        publish(Store(runs.folder), file, ABOUT)


def test_what_is_unfolded_is_what_was_published(tmp_path, folder):
    study = synthetic(tmp_path / "study")
    file = publish(study.store, tmp_path / "study.duckdb", ABOUT)
    assert unfold(file, folder) == ABOUT
    there, here = Store(folder / "runs"), study.store
    assert not there.bad
    for relation in schema.schemas():
        query = f"SELECT * FROM {relation} ORDER BY ALL"
        assert there.arrow(query).equals(here.arrow(query)), relation
    ids = sorted(there.runs.ids())
    assert ids == sorted(run.id for run in here.runs.all())
    for id in ids:
        run = intact(there.runs, there.runs.get(id))
        assert set(run.files) <= set(here.runs.get(id).files)
        assert replace(run, files={}) == replace(here.runs.get(id), files={})


def test_a_figure_that_is_no_number_stays_none(runs, tmp_path, folder):
    with runs.begin("graph", {}, {}, 0) as work:
        work.finish({"share": math.nan})
    unfold(publish(Store(runs.folder), tmp_path / "a.duckdb", ABOUT), folder)
    (run,) = Runs(folder / "runs").all()
    assert math.isnan(run.summary["share"])


def test_what_is_left_out_is_said(runs, tmp_path, folder):
    make(runs)
    store = Store(runs.folder)
    said = unfold(publish(store, tmp_path / "a.duckdb", ABOUT, ["edges"]), folder)
    assert said["without"] == "edges"
    assert Store(folder / "runs").sql("SELECT * FROM edges").empty
    for wrong in ("edge", "runs", "'; DROP TABLE edges"):
        with pytest.raises(NotFound, match="no relation"):
            publish(store, tmp_path / "b.duckdb", ABOUT, [wrong])
    assert not (tmp_path / "b.duckdb").exists()


def test_the_strongest_contexts_of_a_feature_are_kept(tmp_path, folder):
    study = synthetic(tmp_path / "study")
    said = unfold(publish(study.store, tmp_path / "a.duckdb", ABOUT, contexts=2), folder)
    assert "contexts beyond the 2 strongest" in said["without"]
    kept = Store(folder / "runs").sql("SELECT max(rank) AS last, count(*) AS n FROM contexts")
    whole = study.store.sql("SELECT count(*) AS n FROM contexts WHERE rank < 2")
    assert kept["last"][0] == 1
    assert kept.n[0] == whole.n[0] > 0
    samples = Store(folder / "runs").sql("SELECT max(draw) AS last, count(*) AS n FROM samples")
    assert samples["last"][0] == 1
    assert samples.n[0] == kept.n[0]


def forged(file, *statements):
    with duckdb.connect(str(file)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("id", ["../../escaped", ".work", "/tmp/escaped", "a\0b", "", "a" * 500])
def test_a_run_that_names_another_place_is_refused(file, folder, id):
    with duckdb.connect(str(file)) as connection:
        (text,) = connection.execute("SELECT description FROM descriptions").fetchone()
        text = json.dumps(json.loads(text) | {"id": id})
        connection.execute("UPDATE descriptions SET run = ?, description = ?", [id, text])
    with pytest.raises(BadInput, match="that is none"):
        unfold(file, folder)
    assert not any(folder.rglob("*"))


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE descriptions",
        "DROP TABLE study",
        "UPDATE descriptions SET description = '[' || repeat('[', 5000)",
        "UPDATE descriptions SET description = '{}'",
        "ALTER TABLE edges DROP COLUMN run",
        "DROP TABLE descriptions; CREATE VIEW descriptions AS SELECT 'a' AS run, 'b' AS"
        " description",
    ],
)
def test_a_file_that_was_not_written_so_is_refused_in_one_line(file, folder, statement):
    forged(file, *statement.split(";"))
    with pytest.raises(BadInput) as refused:
        unfold(file, folder)
    assert "\n" not in str(refused.value)


def test_a_view_of_a_stranger_is_not_run(file, folder, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("run,source\nmine,secret\n")
    forged(
        file,
        "DROP TABLE edges",
        f"CREATE VIEW edges AS SELECT * FROM read_csv('{secret}')",
    )
    unfold(file, folder)
    assert Store(folder / "runs").sql("SELECT * FROM edges").empty


def test_a_table_of_another_type_leaves_its_run_out(file, folder):
    forged(file, "ALTER TABLE edges ALTER weight TYPE VARCHAR")
    unfold(file, folder)
    store = Store(folder / "runs")
    with pytest.warns(UserWarning, match="weight"):
        assert store.bad
    assert store.sql("SELECT * FROM edges").empty


def test_a_run_whose_settings_were_rewritten_is_not_built_on(file, folder):
    forged(
        file,
        """UPDATE descriptions SET description = replace(description, '"seed": 0',
        '"seed": 1')""",
    )
    unfold(file, folder)
    runs = Runs(folder / "runs")
    (id,) = runs.ids()
    with pytest.raises(BadInput, match="other settings"):
        intact(runs, runs.get(id))


def test_what_is_no_published_study_is_refused(tmp_path, folder):
    torn = tmp_path / "torn.duckdb"
    torn.write_bytes(b"\0" * 8 + b"DUCK" + b"\0" * 4000)
    with pytest.raises(BadInput, match="no published study"):
        unfold(torn, folder)
