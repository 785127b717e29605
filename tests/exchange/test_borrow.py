"""What others wrote of the features: read into the store as it is, or refused with nothing kept."""

import gzip
import json
import shutil
import warnings

import numpy as np
import pytest

from feature_store import queries
from feature_store.errors import BadInput, Incompatible, NotFound
from workbench.command.cli import main
from workbench.exchange.borrowed import open_source
from workbench.study import Study

HOSTILE = "<script>alert(1)</script> \x1b[2J red\nforged line \u202eneddih"


@pytest.fixture(scope="module")
def folder(complete, tmp_path_factory):
    """The study's own export."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return complete.export("neuronpedia", tmp_path_factory.mktemp("borrow") / "out")


@pytest.fixture
def theirs(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "theirs")


def layer(study):
    return study.runs.latest("sae").summary["layer"]


def lines(file, rows):
    """Write JSON lines, compressed where the name says so."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if file.name.endswith(".gz"):
        with gzip.open(file, "wt") as packed:
            packed.write(text)
    else:
        file.write_text(text)
    return file


def explanation(study, index, description, **fields):
    place = {"modelId": "organism", "layer": f"{layer(study)}-res"}
    return place | {"index": str(index), "description": description} | fields


def test_what_is_exported_comes_back_as_it_was(copied, theirs):
    sae, described = copied.runs.latest("sae").id, copied.runs.latest("descriptions").id
    run = copied.borrow(source=str(theirs))
    assert run.summary == {
        "borrowed_explanations": 3,
        "borrowed_features": 64,
        "borrowed_contexts": len(copied.store.sql("SELECT * FROM contexts")),
    }
    mine = copied.store.sql("SELECT * FROM features ORDER BY feature")
    came = copied.store.sql("SELECT * FROM borrowed_features ORDER BY feature")
    assert came.feature.tolist() == mine.feature.tolist()
    np.testing.assert_array_equal(came.density, mine.density)
    np.testing.assert_array_equal(came.max_activation, mine.max_activation)
    tokens = queries.token_logits(copied.store, described, 5)
    for side in ("promoted", "suppressed"):
        part = tokens[tokens.side == side]
        assert came[side][5].tolist() == part.token.tolist()
        assert came[f"{side}_logits"][5].tolist() == part.logit.tolist()
    assert (
        came.activation_counts[5].tolist()
        == queries.histogram(copied.store, sae, 5)["count"].tolist()
    )
    contexts = copied.store.sql("SELECT * FROM contexts ORDER BY feature, rank")
    back = copied.store.sql("SELECT * FROM borrowed_contexts ORDER BY feature, rank")
    for name in ("feature", "rank", "activation", "peak"):
        np.testing.assert_array_equal(back[name], contexts[name])
    for name in ("tokens", "activations"):
        assert [list(x) for x in back[name]] == [list(x) for x in contexts[name]]
    assert back.bin_low.isna().all(), "all are of the strongest"


def test_what_came_back_is_exported_once(copied, folder, theirs, tmp_path):
    copied.borrow(source=str(theirs))
    with pytest.warns(UserWarning, match="the export lacks"):
        again = copied.export("neuronpedia", tmp_path / "again")
    for kind in ("features", "activations", "explanations"):
        file = f"{kind}/batch-0.jsonl.gz"
        assert (again / file).read_bytes() == (folder / file).read_bytes()


def test_contexts_beyond_a_number_are_left_out(copied, theirs):
    run = copied.borrow(source=str(theirs), contexts=2)
    assert run.summary["borrowed_contexts"] == 2 * 64
    ranks = copied.store.sql("SELECT DISTINCT rank FROM borrowed_contexts ORDER BY rank")
    assert ranks["rank"].tolist() == [0, 1]


@pytest.mark.parametrize("name", ["theirs.jsonl", "theirs.jsonl.gz", "theirs.json"])
def test_a_file_of_explanations_alone(copied, tmp_path, name):
    rows = [
        explanation(copied, 2, "words of power", typeName="auto", explanationModelName="a model"),
        explanation(copied, 2, "orders"),
        explanation(copied, 4, "  "),
    ]
    file = tmp_path / name
    if name.endswith(".json"):
        file.write_text(json.dumps(rows))
    else:
        lines(file, rows)
    run = copied.borrow(source=str(file))
    assert run.summary["borrowed_explanations"] == 2, "an empty one says nothing"
    told = queries.borrowed_explanations(copied.store, copied.runs.latest("sae").id)
    assert told.text.tolist() == ["words of power", "orders"]
    assert told["rank"].tolist() == [0, 1]
    assert (told.method[0], told.model[0], told.method[1]) == ("auto", "a model", "")


def test_explanations_of_others_are_exported_as_they_wrote_them(copied, tmp_path):
    fields = {"authorId": "them", "typeName": "auto", "notes": "n", "createdAt": "2026-01-01"}
    row = explanation(copied, 2, HOSTILE, explanationModelName="m", **fields)
    copied.borrow(source=str(lines(tmp_path / "t.jsonl", [row])))
    with pytest.warns(UserWarning, match="the export lacks"):
        out = copied.export("neuronpedia", tmp_path / "out")
    packed = (out / "explanations" / "batch-0.jsonl.gz").read_bytes()
    written = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    (back,) = [entry for entry in written if entry["authorId"] == "them"]
    assert {name: back[name] for name in (*fields, "description", "index")} == {
        **fields,
        "description": HOSTILE,
        "index": "2",
    }


def test_strangers_texts_command_no_terminal(copied, tmp_path, capsys):
    file = lines(tmp_path / "t.jsonl", [explanation(copied, 2, HOSTILE)])
    assert main(["borrow", str(copied.folder), "--source", str(file)]) == 0
    printed = capsys.readouterr().out
    assert r"<script>alert(1)</script> \x1b[2J red\nforged line \u202eneddih" in printed
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert main(["sql", str(copied.folder), "SELECT text FROM borrowed_explanations"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert copied.store.sql("SELECT text FROM borrowed_explanations").text[0] == HOSTILE, (
        "kept as data"
    )


def test_the_same_source_is_one_run(copied, theirs):
    assert copied.borrow(source=str(theirs)).id == copied.borrow(source=str(theirs)).id
    lines(theirs / "explanations" / "batch-0.jsonl.gz", [explanation(copied, 1, "other")])
    assert len({copied.borrow(source=str(theirs)).id, *copied.runs.ids()}) == len(copied.runs.ids())
    assert len(copied.store.sql("SELECT run FROM runs WHERE kind = 'borrowed'")) == 2


def cut(file):
    file.write_bytes(file.read_bytes()[:-30])


def rename(file, name):
    file.rename(file.with_name(name))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda f: cut(f / "features" / "batch-0.jsonl.gz"), "half-written or damaged"),
        (lambda f: cut(f / "explanations" / "batch-0.jsonl.gz"), "Download or export it again"),
        (
            lambda f: rename(f / "activations" / "batch-0.jsonl.gz", "batch-1.jsonl.gz"),
            "batch-0 is missing before batch-1",
        ),
        (lambda f: shutil.rmtree(f / "features"), "none of features"),
        (
            lambda f: [file.unlink() for file in f.glob("*/batch-0.jsonl.gz")],
            r"hold no batch-N\.jsonl\.gz",
        ),
        (
            lambda f: shutil.copy(
                f / "features" / "batch-0.jsonl.gz", f / "features" / "batch-0.jsonl"
            ),
            "holds batch 0 twice",
        ),
    ],
)
def test_a_half_written_folder_is_refused_and_leaves_nothing(copied, theirs, change, line):
    before = sorted(copied.runs.folder.rglob("*"))
    change(theirs)
    with pytest.raises(BadInput, match=line):
        copied.borrow(source=str(theirs))
    assert sorted(copied.runs.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"index": "sixty"}, "index is a whole number"),
        ({"index": -1}, "index is a whole number"),
        ({"index": True}, "index is a whole number"),
        ({"description": 5}, "description is a text"),
        ({"layer": "res"}, "layer is LAYER-SET"),
        ({"typeName": []}, "typeName is a text"),
    ],
)
def test_a_wrong_field_is_refused_by_name_and_line(copied, tmp_path, fields, line):
    rows = [explanation(copied, 1, "fine"), explanation(copied, 1, "x") | fields]
    file = lines(tmp_path / "t.jsonl", rows)
    with pytest.raises(BadInput, match=rf"t\.jsonl, line 2: {line}"):
        copied.borrow(source=str(file))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[1, 2]\n", "a row is an object"),
        ('{"modelId": "m", "layer": "1-r", "index": "0"}\n', "an explanation has a description"),
        ('{"description": "a", "desc', "seems to end in the middle"),
        ("", "holds no explanation"),
    ],
)
def test_lines_that_are_no_explanations_are_refused(copied, tmp_path, text, line):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(BadInput, match=line):
        copied.borrow(source=str(tmp_path / "t.jsonl"))


def test_another_sae_is_refused(copied, tmp_path):
    rows = [explanation(copied, 64, "x")]
    with pytest.raises(Incompatible, match="speaks of feature 64"):
        copied.borrow(source=str(lines(tmp_path / "a.jsonl", rows)))
    rows = [explanation(copied, 1, "x") | {"layer": f"{layer(copied) + 1}-res"}]
    with pytest.raises(Incompatible, match="is of layer"):
        copied.borrow(source=str(lines(tmp_path / "b.jsonl", rows)))
    rows = [explanation(copied, 1, "x") | {"modelId": "gpt2-small"}]
    with pytest.warns(UserWarning, match="the source is of gpt2-small"):
        copied.borrow(source=str(lines(tmp_path / "c.jsonl", rows)))


def test_what_is_no_source_is_refused(copied, tmp_path):
    with pytest.raises(NotFound, match="There is nothing at"):
        copied.borrow(source=str(tmp_path / "nothing"))
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(BadInput, match="none of the formats"):
        copied.borrow(source=str(tmp_path / "x.csv"))
    with pytest.raises(BadInput, match="What is borrowed"):
        copied.borrow()


def dashboard(file, study, values, tokens=("a", "b"), **fields):
    """A feature export as SAEDashboard writes one, of one feature."""
    activation = {"tokens": list(tokens), "values": values}
    bins = ({"bin_min": -1, "bin_max": 2.0, "bin_contains": -1},) * 1
    sampled = {"bin_min": 0.5, "bin_max": 1.0, "bin_contains": 0.25}
    feature = {
        "feature_index": 6,
        "frac_nonzero": 0.01,
        "pos_str": [" power"],
        "pos_values": [1.5],
        "neg_str": [],
        "neg_values": [],
        "freq_hist_data_bar_values": [0.5, 1.5],
        "freq_hist_data_bar_heights": [9, 1],
        "activations": [activation | bins[0], activation | sampled],
    } | fields
    content = {"model_id": "organism", "layer": layer(study), "sae_set": "s", "features": [feature]}
    file.write_text(json.dumps(content))
    return file


def test_a_feature_export_of_saedashboard(copied, tmp_path):
    run = copied.borrow(source=str(dashboard(tmp_path / "batch-0.json", copied, [0.0, 2.0])))
    assert run.summary == {
        "borrowed_explanations": 0,
        "borrowed_features": 1,
        "borrowed_contexts": 2,
    }
    row = copied.store.sql("SELECT * FROM borrowed_features").iloc[0]
    assert (row.feature, row.density, row.max_activation) == (6, 0.01, 2.0)
    assert row.promoted.tolist() == [" power"]
    contexts = copied.store.sql("SELECT * FROM borrowed_contexts ORDER BY rank")
    assert contexts.peak.tolist() == [1, 1]
    assert contexts.bin_share.isna().tolist() == [True, False]
    assert contexts.bin_low[1] == 0.5


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"values": [1.0]}, "2 tokens and 1 values"),
        ({"values": [1.0, "x"]}, "values is a list of numbers"),
        ({"values": [1.0, 2.0], "pos_values": []}, "1 promoted and 0 promoted logits"),
        ({"values": [1.0, 2.0], "frac_nonzero": "all"}, "frac_nonzero is a number"),
        ({"values": [1.0, 2.0], "activations": {}}, "activations is a list of objects"),
    ],
)
def test_a_damaged_feature_export_is_refused(copied, tmp_path, fields, line):
    file = dashboard(tmp_path / "batch-0.json", copied, **fields)
    with pytest.raises(BadInput, match=line):
        copied.borrow(source=str(file))


def test_a_folder_of_batches_with_a_gap_is_refused(copied, tmp_path):
    for number in (0, 2):
        dashboard(tmp_path / f"batch-{number}.json", copied, [0.0, 1.0])
    with pytest.raises(BadInput, match="batch-1 is missing before batch-2"):
        copied.borrow(source=str(tmp_path))


def test_a_real_feature_export(shared):
    """Two features of an SAE of GPT-2, as SAEDashboard wrote them."""
    file = shared / "data" / "saedashboard" / "batch-0.json"
    if not file.exists():
        pytest.skip(f"needs a real feature export, {file} is absent")
    source = open_source(file)
    features, contexts = list(source.features()), list(source.contexts())
    assert source.sources() == {("gpt2-small", 0)}
    assert [row["feature"] for row in features] == [0, 1]
    assert features[0]["promoted"][0] == " Brigade"
    assert features[0]["promoted_logits"][0] == 3.753
    assert len(contexts) == 38 + 35
    strongest = [row for row in contexts if row["feature"] == 0 and row["bin_share"] is None]
    assert features[0]["max_activation"] == max(row["activation"] for row in strongest)
    assert strongest[0]["activation"] == features[0]["max_activation"]
    assert any(row["bin_share"] == 1.0 for row in contexts)
    assert all(len(row["tokens"]) == len(row["activations"]) for row in contexts)


def test_a_real_feature_export_becomes_a_run(copied, shared, tmp_path):
    file = shared / "data" / "saedashboard" / "batch-0.json"
    if not file.exists():
        pytest.skip(f"needs a real feature export, {file} is absent")
    content = json.loads(file.read_text()) | {"layer": layer(copied)}
    (tmp_path / "batch-0.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="the source is of gpt2-small"):
        run = copied.borrow(source=str(tmp_path / "batch-0.json"))
    assert run.summary["borrowed_contexts"] == 73
    rows = Study(copied.folder).store.sql(
        "SELECT count(*) AS n FROM borrowed_contexts WHERE bin_share IS NULL"
    )
    assert 0 < rows.n[0] < 73
