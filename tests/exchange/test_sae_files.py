"""An SAE and its figures for other programs: read back, they are the study's."""

import json
import math

import numpy as np
import pytest
import torch

from feature_store.errors import NotFound
from sae_training.dictionary.loaders import load_sae
from sae_training.dictionary.loaders.folder import SPARSITY
from workbench.study import Study


def test_a_folder_is_adopted_again_as_the_same_sae(complete, tmp_path):
    run = complete.runs.latest("sae")
    out = complete.export("sae-lens", tmp_path / "sae")
    kept, read = complete.sae(run), load_sae(out)
    x = torch.randn(20, read.d_model)
    torch.testing.assert_close(read.encode(x), kept.encode(x))
    torch.testing.assert_close(read.reconstruct(x), kept.reconstruct(x))
    assert (read.site().layer, read.site().point) == (run.summary["layer"], run.summary["point"])
    assert read.site().model == "organism"
    assert (out / SPARSITY).exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sae"], "nothing is left beside it"


def test_sae_lens_loads_it(complete, tmp_path):
    from sae_lens import SAE

    out = complete.export("sae-lens", tmp_path / "sae")
    loaded = SAE.load_from_disk(str(out))
    x = torch.randn(20, loaded.cfg.d_in)
    torch.testing.assert_close(loaded.encode(x), load_sae(out).encode(x), atol=1e-5, rtol=1e-5)


def test_a_study_that_was_published_has_no_weights_to_write(complete, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    opened = Study(complete.publish(tmp_path / "s.duckdb"), create=False)
    for format in ("sae-lens", "saebench"):
        with pytest.raises(NotFound, match="published without its weights"):
            opened.export(format, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_core_figures_are_those_of_the_evaluation(complete, tmp_path):
    run = complete.runs.latest("sae")
    content = json.loads(complete.export("saebench", tmp_path / "core.json").read_text())
    assert content["eval_type_id"] == "core"
    figures = content["eval_result_metrics"]
    rows = complete.store.sql("SELECT metric, value FROM training WHERE metric LIKE 'final_%'")
    ours = dict(zip(rows.metric, rows.value, strict=True))
    kept = figures["reconstruction_quality"]
    assert kept["explained_variance"] == pytest.approx(1 - ours["final_fvu"])
    assert kept["cossim"] == ours["final_cosine"]
    assert figures["sparsity"]["l0"] == ours["final_l0"]
    losses = figures["model_performance_preservation"]
    assert losses["ce_loss_with_sae"] == ours["final_loss_spliced"]
    assert losses["ce_loss_score"] == pytest.approx(
        (losses["ce_loss_with_ablation"] - losses["ce_loss_with_sae"])
        / (losses["ce_loss_with_ablation"] - losses["ce_loss_without_sae"])
    )
    for place in content["eval_result_unstructured"]["not_measured"]:
        category, metric = place.split(".")
        assert figures[category][metric] == -1
    assert "reconstruction_quality.mse" in content["eval_result_unstructured"]["not_measured"]
    assert all(math.isfinite(v) for part in figures.values() for v in part.values())
    assert content["sae_cfg_dict"]["d_sae"] == run.summary["n_features"]


def test_core_figures_of_features_follow_from_the_weights(complete, tmp_path):
    run = complete.runs.latest("sae")
    content = json.loads(complete.export("saebench", tmp_path / "core.json").read_text())
    details = content["eval_result_details"]
    sae = complete.sae(run)
    assert [row["index"] for row in details] == list(range(sae.n_features))
    rows = sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True)
    cosines = rows @ rows.T - 2 * torch.eye(len(rows))
    for feature in (0, 17, 63):
        row = details[feature]
        assert row["max_decoder_cosine_sim"] == pytest.approx(
            float(cosines[feature].max()), abs=1e-5
        )
        assert row["encoder_norm"] == pytest.approx(float(sae.W_enc[:, feature].norm()), rel=1e-5)
        frame = complete.store.sql(
            "SELECT document, count(*) AS n FROM activations WHERE feature = ? GROUP BY document",
            [feature],
        )
        assert row["consistent_activation_heuristic"] == pytest.approx(frame.n.mean())
    density = complete.store.sql("SELECT density FROM features ORDER BY feature").density
    np.testing.assert_allclose([row["feature_density"] for row in details], density)
    misc = content["eval_result_metrics"]["misc_metrics"]
    assert misc["freq_over_10_percent"] == pytest.approx(float((density > 0.1).mean()))
    assert misc["frac_alive"] == pytest.approx(float((density > 0).mean()))
