"""Neuronpedia's folder: every field from the store, null where it holds none, the same bytes."""

import gzip
import json
import warnings

import numpy as np
import pytest
import torch

from feature_store import queries
from feature_store.errors import BadInput
from workbench.exchange.exports import neuronpedia
from workbench.study import Study

FIELDS = {
    *("modelId", "layer", "index", "maxActApprox", "frac_nonzero", "pos_str", "pos_values"),
    *("neg_str", "neg_values", "freq_hist_data_bar_heights", "freq_hist_data_bar_values"),
    *("logits_hist_data_bar_heights", "logits_hist_data_bar_values", "topkCosSimIndices"),
    *("topkCosSimValues", "correlated_neurons_indices", "correlated_neurons_pearson"),
    *("correlated_neurons_l1", "correlated_features_indices", "correlated_features_pearson"),
    *("correlated_features_l1", "vector", "hookName", "vectorDefaultSteerStrength"),
}
ACTIVATION_FIELDS = {
    *("tokens", "values", "maxValue", "maxValueTokenIndex", "minValue", "binMin", "binMax"),
    *("binContains", "qualifyingTokenIndex", "modelId", "layer", "index"),
}


def rows(folder, kind):
    files = sorted(folder.glob(f"{kind}/batch-*.jsonl.gz"), key=lambda file: int(file.name[6:-9]))
    assert [file.name for file in files] == [f"batch-{n}.jsonl.gz" for n in range(len(files))]
    return [json.loads(line) for file in files for line in gzip.open(file, "rt")]


@pytest.fixture(scope="module")
def written(complete, tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return complete.export("neuronpedia", tmp_path_factory.mktemp("np") / "out")


def test_every_feature_has_every_field(complete, written):
    features = rows(written, "features")
    assert [row["index"] for row in features] == [str(n) for n in range(64)]
    assert all(set(row) >= FIELDS for row in features)
    absent = {name for row in features for name in FIELDS if row[name] is None}
    neurons = {name for name in FIELDS if name.startswith("correlated_neurons")}
    assert absent == neurons, "only what no command makes is null"


def test_figures_of_a_feature_are_the_stores(complete, written):
    store, run = complete.store, complete.runs.latest("sae")
    described = complete.runs.latest("descriptions").id
    row = rows(written, "features")[7]
    stored = queries.feature(store, run.id, 7).iloc[0]
    assert row["frac_nonzero"] == stored.density
    assert row["maxActApprox"] == row["vectorDefaultSteerStrength"] == stored.max_activation
    histogram = queries.histogram(store, run.id, 7)
    assert row["freq_hist_data_bar_heights"] == histogram["count"].tolist()
    np.testing.assert_allclose(
        row["freq_hist_data_bar_values"], (histogram.low + histogram.high) / 2, rtol=1e-6
    )
    tokens = queries.token_logits(store, described, 7)
    for side, short in (("promoted", "pos"), ("suppressed", "neg")):
        part = tokens[tokens.side == side]
        assert row[f"{short}_str"] == part.token.tolist()
        assert row[f"{short}_values"] == part.logit.tolist()
    near = queries.decoder_neighbours(store, described, 7)
    assert row["topkCosSimIndices"] == near.neighbour.tolist()
    shape = queries.logit_shape(store, described, 7).iloc[0]
    assert row["logits_hist_data_bar_heights"] == shape.bins.tolist()
    middles = row["logits_hist_data_bar_values"]
    width = middles[1] - middles[0]
    assert middles[0] - width / 2 == pytest.approx(shape.smallest)
    assert middles[-1] + width / 2 == pytest.approx(shape.largest)
    vector = complete.sae(run).W_dec[7]
    torch.testing.assert_close(torch.tensor(row["vector"]), vector)
    assert row["hookName"] == f"blocks.{run.summary['layer']}.hook_resid_post"
    top = vector.topk(3)
    assert row["neuron_alignment_indices"] == top.indices.tolist()
    assert row["neuron_alignment_l1"] == pytest.approx(
        (top.values / vector.abs().sum()).tolist(), rel=1e-5
    )


def test_correlations_are_pearsons_over_all_tokens(complete, written):
    run = complete.runs.latest("sae")
    frame = complete.store.sql("SELECT feature, document, position, activation FROM activations")
    dense = frame.pivot_table(
        index=["document", "position"], columns="feature", values="activation", fill_value=0.0
    )
    assert len(dense) == run.summary["tokens"]
    row = rows(written, "features")[7]
    partners = row["correlated_features_indices"]
    assert len(partners) == 5
    expected = [np.corrcoef(dense[7], dense[other])[0, 1] for other in partners]
    np.testing.assert_allclose(row["correlated_features_pearson"], expected, rtol=1e-5)
    decoder = complete.sae(run).W_dec
    cosine = torch.nn.functional.cosine_similarity(decoder[[7]], decoder[partners])
    np.testing.assert_allclose(row["correlated_features_l1"], cosine, rtol=1e-4, atol=1e-6)


def test_activations_are_the_top_contexts(complete, written):
    activations = rows(written, "activations")
    assert all(set(row) >= ACTIVATION_FIELDS for row in activations)
    mine = [row for row in activations if row["index"] == "7"]
    stored = queries.contexts(complete.store, complete.runs.latest("sae").id, 7)
    assert [row["tokens"] for row in mine] == [list(tokens) for tokens in stored.tokens]
    assert [row["maxValue"] for row in mine] == stored.activation.tolist()
    for row in mine:
        assert row["maxValue"] == row["values"][row["maxValueTokenIndex"]] == max(row["values"])
        assert (row["binMin"], row["binContains"]) == (-1, -1), "marked as the strongest"
    assert len({row["id"] for row in activations}) == len(activations)


def test_labels_become_explanations(complete, written):
    explanations = rows(written, "explanations")
    said = {(row["index"], row["description"], row["typeName"]) for row in explanations}
    assert said == {
        ("3", "Power", "values-workbench_contrast"),
        ("9", "Power", "values-workbench_contrast"),
        ("5", "Security (rejected)", "values-workbench_contrast"),
    }
    notes = json.loads(next(row for row in explanations if row["index"] == "5")["notes"])
    assert (notes["value"], notes["polarity"], notes["score"]) == ("security", -1, 0.9)


def test_what_the_sae_is_stands_in_the_four_files(complete, written):
    run = complete.runs.latest("sae")
    (source,) = map(json.loads, (written / "source.jsonl").open())
    (model,) = map(json.loads, (written / "model.jsonl").open())
    (sourceset,) = map(json.loads, (written / "sourceset.jsonl").open())
    (release,) = map(json.loads, (written / "release.jsonl").open())
    layer = run.summary["layer"]
    assert (source["id"], source["modelId"]) == (f"{layer}-values-workbench", "organism")
    assert source["setName"] == sourceset["name"] == "values-workbench"
    assert (model["id"], model["dimension"]) == ("organism", run.summary["d_model"])
    assert model["layers"] == complete.model("organism").n_layers
    assert sourceset["releaseName"] == release["name"]
    assert {row["layer"] for row in rows(written, "features")} == {source["id"]}


def test_the_same_study_gives_the_same_bytes(complete, written, tmp_path):
    with pytest.warns(UserWarning, match="correlated neurons"):
        again = complete.export("neuronpedia", tmp_path / "again")
    files = sorted(file.relative_to(written) for file in written.rglob("*") if file.is_file())
    assert files == sorted(file.relative_to(again) for file in again.rglob("*") if file.is_file())
    for file in files:
        assert (written / file).read_bytes() == (again / file).read_bytes()


def test_batches_hold_all_features_once(complete, written, tmp_path, monkeypatch):
    monkeypatch.setattr(neuronpedia, "BATCH", 10)
    with pytest.warns(UserWarning, match="the export lacks"):
        out = complete.export("neuronpedia", tmp_path / "small")
    assert len(list((out / "features").iterdir())) == 7
    for kind in ("features", "activations", "explanations"):
        assert rows(out, kind) == rows(written, kind)


def test_what_is_not_there_is_null_and_said_once(complete, tmp_path):
    import shutil

    study = Study(shutil.copytree(complete.folder, tmp_path / "study"))
    study._models = complete._models
    for kind in ("descriptions", "labels"):
        shutil.rmtree(study.runs.folder / study.runs.latest(kind).id)
    study = Study(study.folder)
    study._models = complete._models
    with pytest.warns(UserWarning, match="the export lacks") as warned:
        out = study.export("neuronpedia", tmp_path / "out")
    (line,) = [str(warning.message) for warning in warned]
    assert "`workbench describe` makes them" in line
    assert "`workbench label` or `workbench borrow` makes them" in line
    row = rows(out, "features")[7]
    for name in ("pos_str", "neg_values", "topkCosSimIndices", "correlated_features_pearson"):
        assert row[name] is None
    assert row["frac_nonzero"] > 0
    assert rows(out, "explanations") == []


def test_a_published_study_is_written_without_vectors(complete, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    opened = Study(complete.publish(tmp_path / "s.duckdb"), create=False)
    with pytest.warns(UserWarning, match="a published study has no weights"):
        out = opened.export("neuronpedia", tmp_path / "out")
    row = rows(out, "features")[7]
    assert row["vector"] is None
    assert row["hasVector"] is False
    assert row["pos_str"]


def test_its_name_at_neuronpedia(complete, tmp_path):
    layer = complete.runs.latest("sae").summary["layer"]
    with pytest.warns(UserWarning, match="the export lacks"):
        out = complete.export("neuronpedia", tmp_path / "out", name=f"my-model/{layer}-res-64")
    assert {(row["modelId"], row["layer"]) for row in rows(out, "features")} == {
        ("my-model", f"{layer}-res-64")
    }
    with pytest.raises(BadInput, match="reads layer"):
        complete.export("neuronpedia", tmp_path / "other", name="my-model/9-res-64")
    with pytest.raises(BadInput, match="MODEL/LAYER-SET"):
        complete.export("neuronpedia", tmp_path / "other", name="my model")
    assert not (tmp_path / "other").exists()


def test_an_export_that_is_stopped_leaves_nothing(complete, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(neuronpedia, "_explanations", stop)
    with pytest.raises(KeyboardInterrupt):
        complete.export("neuronpedia", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
