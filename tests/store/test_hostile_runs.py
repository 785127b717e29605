"""A study of strangers: whatever stands in a run's folder, the other runs answer, and it is named.

The inputs are a run's description and its table, changed at random: bits flipped, ends cut, fields
and columns replaced, counts in the footer forged.
"""

import hashlib
import io
import json
import shutil
import warnings

import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from feature_store.records import Edge, Run
from feature_store.runs import Runs
from feature_store.schema import schemas
from feature_store.store import Store
from feature_store.terminal import visible
from tests.helpers.hostile import survives
from tests.store.test_runs import make, overwrite

FIELDS = tuple(Run.__dataclass_fields__)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20)
    | st.sampled_from([2**70, "finished", "1e999", "\x1b[2J", "2026-11-26", "../..", "a" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
VOUCHED = pytest.mark.parametrize("vouched", [False, True])
FLIPS = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 7)), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs; the tests replace files of the second."""
    runs = Runs(tmp_path_factory.mktemp("hostile") / "runs")
    make(runs)
    make(runs, {"a": 2})
    return runs


@pytest.fixture(scope="module")
def store(runs):
    """One that stays open, as the app's does."""
    return Store(runs.folder)


def flipped(content, flips):
    """The bytes with some bits flipped."""
    changed = bytearray(content)
    for place, bit in flips:
        changed[place % len(changed)] ^= 1 << bit
    return bytes(changed)


def look(store):
    """Ask what every page asks; the first run must be there, whatever the second is."""
    good, bad = (store.runs.find("graph", {"a": number}, {}, 0) for number in (1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = store.sql("SELECT run, source, weight, present, frequency FROM edges")
        assert rows[rows.run == good].weight.tolist() == [-0.7]
        known = store.sql("SELECT run FROM runs").run.tolist()
        assert good in known
        if bad in store.bad:
            assert set(rows.run) == {good}
        assert (bad in known) != (bad in store.bad)
        assert all(visible(line) == line and len(line) < 2_000 for line in store.bad.values())
        assert good in [run.id for run in store.runs.all()]
    return store


def replaced(store, name, content, vouched=False):
    """Put other bytes in the place of the second run's file, look, and put back what was there.

    `vouched`: the description gives the checksum of the new bytes, as one who forges would.
    """
    folder = store.runs.folder / store.runs.find("graph", {"a": 2}, {}, 0)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    overwrite(folder / name, content)
    if vouched:
        fields = json.loads(before[folder / "run.json"])
        fields["files"] = {name: hashlib.sha256(content).hexdigest()}
        overwrite(folder / "run.json", json.dumps(fields).encode())
    try:
        opened = survives(lambda: look(store))
        assert opened is not None, "one bad run refused the whole study"
        if not vouched and content != before[folder / name]:
            assert name == "run.json" or folder.name in store.bad
    finally:
        for file, usual in before.items():
            overwrite(file, usual)


def whole(runs, name):
    """The second run's file as it was written."""
    return (runs.folder / runs.find("graph", {"a": 2}, {}, 0) / name).read_bytes()


@hypothesis.given(st.sampled_from(FIELDS), VALUES)
@hypothesis.example("seed", 2**70)
@hypothesis.example("summary", [1])
@hypothesis.example("created", "9999-12-31T23:59:59-12:00")
@hypothesis.example("created", "0001-01-01T00:00:00+14:00")
@hypothesis.example("created", "2026-11-26T12")
@hypothesis.example("summary", {"n": 10**400})
@hypothesis.example("summary", {"n": 10**300})
@hypothesis.example("files", {"edges.parquet": "0" * 64, "a\x00b": "0" * 64})
def test_hostile_fields_of_a_description(runs, store, field, value):
    fields = json.loads(whole(runs, "run.json"))
    try:
        content = json.dumps(fields | {field: value}).encode()
    except ValueError:  # more digits than Python writes
        content = whole(runs, "run.json").replace(b'"seed": 0', b'"seed": 1' + b"0" * 5_000)
    replaced(store, "run.json", content)


@hypothesis.given(FLIPS, st.integers(0, 4_000))
def test_hostile_bytes_of_a_description(runs, store, flips, length):
    replaced(store, "run.json", flipped(whole(runs, "run.json"), flips)[: max(length, 1)])


@VOUCHED
@hypothesis.given(FLIPS)
def test_hostile_bits_of_a_table(runs, store, vouched, flips):
    replaced(store, "edges.parquet", flipped(whole(runs, "edges.parquet"), flips), vouched)


@VOUCHED
@hypothesis.given(st.integers(0, 8), FLIPS)
def test_hostile_bits_of_a_footer(runs, store, vouched, tail, flips):
    content = whole(runs, "edges.parquet")
    length = int.from_bytes(content[-8:-4], "little")
    footer = flipped(content[-8 - length : -tail or None], flips)
    end = content[len(content) - tail :]
    replaced(store, "edges.parquet", content[: -8 - length] + footer + end, vouched)


@VOUCHED
@hypothesis.given(st.integers(0, 10_000))
def test_hostile_ends_of_a_table(runs, store, vouched, length):
    content = whole(runs, "edges.parquet")
    replaced(store, "edges.parquet", content[: length % len(content)], vouched)


TYPES = st.sampled_from(
    [
        pa.string(),
        pa.int64(),
        pa.float32(),
        pa.bool_(),
        pa.list_(pa.float64()),
        pa.struct([("a", pa.int8())]),
        pa.timestamp("us"),
        pa.binary(),
        pa.null(),
        pa.decimal128(30, 3),
        pa.dictionary(pa.int8(), pa.string()),
    ]
)
COLUMNS = st.sampled_from([*schemas()["edges"].names, "strange", "edges.run", '"', ""])


@VOUCHED
@hypothesis.given(st.dictionaries(COLUMNS, TYPES, max_size=6), st.sets(COLUMNS), st.integers(0, 3))
def test_hostile_columns_of_a_table(runs, store, vouched, types, dropped, rows):
    table = pq.read_table(io.BytesIO(whole(runs, "edges.parquet")))
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns = {
        name: pa.concat_arrays(column.chunks * rows) if rows else column.type
        for name, column in columns.items()
        if name not in dropped
    }
    columns |= dict(types)
    arrays = [
        pa.nulls(rows, entry) if isinstance(entry, pa.DataType) else entry
        for entry in columns.values()
    ]
    file = io.BytesIO()
    pq.write_table(pa.table(arrays, names=list(columns)), file)
    replaced(store, "edges.parquet", file.getvalue(), vouched)


def varint(number):
    """A number as Thrift's compact protocol writes it."""
    number = number << 1
    content = b""
    while number > 127:
        content += bytes([number & 127 | 128])
        number >>= 7
    return content + bytes([number])


@VOUCHED
@hypothesis.given(st.integers(0, 2**63 - 1), st.integers(0, 30))
@hypothesis.example(2**62, 0)
@hypothesis.example(2**31, 1)
def test_hostile_counts_of_a_footer(runs, store, vouched, rows, place):
    """One of the places where the footer says that there is one row says another number."""
    content = whole(runs, "edges.parquet")
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8]
    places = [at for at in range(len(footer)) if footer[at : at + 1] == varint(1)]
    at = places[place % len(places)]
    forged = footer[:at] + varint(rows) + footer[at + 1 :]
    end = len(forged).to_bytes(4, "little") + b"PAR1"
    replaced(store, "edges.parquet", content[: -8 - length] + forged + end, vouched)


@hypothesis.given(st.text(min_size=1, max_size=60), st.booleans())
@hypothesis.example("a\nb", True)
@hypothesis.example("\x1b[2J", True)
@hypothesis.example("\ud7a4", False)  # a character that is not assigned
def test_hostile_names_of_a_folder(runs, store, name, copied):
    folder = runs.folder / f"graph-{name}"
    try:
        if copied:
            shutil.copytree(runs.folder / runs.find("graph", {"a": 2}, {}, 0), folder)
        else:
            folder.mkdir()
    except (OSError, ValueError):  # no name of a folder
        return
    try:
        survives(lambda: look(store))
    finally:
        shutil.rmtree(folder)


def test_an_edge_has_the_columns_that_are_changed_here():
    assert set(Edge.__dataclass_fields__) < set(schemas()["edges"].names)
