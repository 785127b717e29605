"""SAEs from a fake hub cache, through sae-lens' real loaders, with the network off."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from feature_store.errors import NotFound
from sae_training.dictionary.loaders import load_sae, save_sae
from sae_training.dictionary.sae import SAE

COMMIT = "0" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function that makes the snapshot folder of a repository."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def repository(name):
        root = tmp_path / f"models--{name.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(COMMIT)
        (root / "snapshots" / COMMIT).mkdir(parents=True)
        return root / "snapshots" / COMMIT

    import huggingface_hub.file_download

    original = huggingface_hub.file_download.hf_hub_download
    for module in ("sae_lens.loading.pretrained_sae_loaders",):
        monkeypatch.setattr(
            f"{module}.hf_hub_download",
            lambda *a, **k: original(*a, **{"cache_dir": str(tmp_path)} | k),
        )
    return repository


def test_hub_folder(hub):
    sae = SAE(
        W_enc=torch.randn(8, 20),
        W_dec=torch.randn(20, 8),
        b_enc=torch.zeros(20),
        b_dec=torch.zeros(8),
        architecture="topk",
        k=3,
        metadata={"hook_name": "blocks.2.hook_resid_post"},
    )
    save_sae(sae, hub("org/sae") / "layer_2")
    loaded = load_sae("hub:org/sae/layer_2")
    torch.testing.assert_close(loaded.W_dec, sae.W_dec)
    assert (loaded.site().layer, loaded.site().point) == (2, "resid_post")
    with pytest.raises(NotFound, match="could not be loaded"):
        load_sae("hub:org/sae/layer_3")


def older_release(folder):
    """A small SAE in the flat format in which gpt2-small-res-jb lies on the hub."""
    sae = SAE(
        W_enc=torch.randn(8, 20),
        W_dec=torch.randn(20, 8),
        b_enc=torch.zeros(20),
        b_dec=torch.zeros(8),
    )
    save_sae(sae, folder, torch.full((20,), 0.5))
    config = {
        "d_in": 8,
        "d_sae": 20,
        "dtype": "torch.float32",
        "hook_point": "blocks.8.hook_resid_pre",
        "hook_point_layer": 8,
        "hook_point_head_index": None,
        "model_name": "gpt2-small",
        "context_size": 128,
        "activation_fn": "relu",
        "device": "cpu",
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    weights = load_file(folder / "sae_weights.safetensors") | {"scaling_factor": torch.ones(20)}
    save_file(weights, folder / "sae_weights.safetensors")


@pytest.mark.parametrize("by", ["saelens", "hub"])
def test_what_the_registry_says_of_the_activations_is_followed(hub, by):
    """It overrides what the files say: the model's writing weights were centred."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    known = get_pretrained_saes_directory()["gpt2-small-res-jb"]
    path = known.saes_map["blocks.8.hook_resid_pre"]
    older_release(hub(known.repo_id) / path)
    address = "saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre"
    sae = load_sae(address if by == "saelens" else f"hub:{known.repo_id}/{path}")
    assert sae.reading.centred
    assert sae.reading.prepend_bos is True
    assert (sae.site().layer, sae.site().point) == (8, "resid_pre")
    assert sae.claims.l0 == known.expected_l0["blocks.8.hook_resid_pre"] > 0
    explained = known.expected_var_explained["blocks.8.hook_resid_pre"]
    assert explained < 1
    assert sae.claims.fvu == pytest.approx(1 - explained)
    # What is saved with a run says the same.
    x = torch.randn(5, 8)
    save_sae(sae, hub("org/own"))
    torch.testing.assert_close(load_sae("hub:org/own").encode(x), sae.encode(x))


def gemma_scope(folder, width):
    folder.mkdir(parents=True)
    g = np.random.default_rng(0)
    np.savez(
        folder / "params.npz",
        W_enc=g.standard_normal((2304, width), np.float32) / 48,
        W_dec=g.standard_normal((width, 2304), np.float32),
        b_enc=np.zeros(width, np.float32),
        b_dec=np.zeros(2304, np.float32),
        threshold=np.full(width, 0.5, np.float32),
    )


@pytest.mark.slow  # the converter insists on the full width: 300 MB of weights
def test_gemma_scope_through_its_own_converter(hub):
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    address = "gemma-scope-2b-pt-res-canonical"
    known = get_pretrained_saes_directory()[address]
    gemma_scope(hub(known.repo_id) / known.saes_map["layer_20/width_16k/canonical"], 16384)
    sae = load_sae(f"saelens:{address}/layer_20/width_16k/canonical")
    assert (sae.d_model, sae.n_features, sae.architecture) == (2304, 16384, "jumprelu")
    assert sae.site().layer == 20
    assert json.dumps(sae.metadata)
    assert (sae.encode(torch.randn(3, 2304)) > 0.5).any()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "saelens:gemma-scope-2b-pt-res-canonica/x",
            "Did you mean 'gemma-scope-2b-pt-res-canonical'",
        ),
        ("saelens:gemma-scope-2b-pt-res-canonical/layer_20/width_16/canonical", "Did you mean"),
    ],
)
def test_misspelt_release(address, message):
    with pytest.raises(NotFound, match=message):
        load_sae(address)
