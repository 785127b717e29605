"""SAEs of EleutherAI's sparsify: read as their project computes them, or refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from feature_store.errors import BadInput, Incompatible, NotFound
from sae_training.dictionary.loaders import load_sae

D, F, K = 8, 24, 3


def hookpoint(folder, weights=None, **fields):
    """A small random SAE as sparsify saves one; `fields` are set in its configuration."""
    g = torch.Generator().manual_seed(1)
    tensors = {
        "encoder.weight": torch.randn(F, D, generator=g),
        "encoder.bias": torch.randn(F, generator=g),
        "W_dec": torch.randn(F, D, generator=g),
        "b_dec": torch.randn(D, generator=g),
    } | (weights or {})
    folder.mkdir(parents=True)
    save_file(tensors, folder / "sae.safetensors")
    config = {
        "activation": "topk",
        "expansion_factor": 3,
        "normalize_decoder": True,
        "num_latents": 0,
        "k": K,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": D,
    } | fields
    (folder / "cfg.json").write_text(json.dumps(config))
    return tensors


def published(tensors, x, k=K):
    """Activations and reconstruction as sparsify's SparseCoder computes them."""
    pre = torch.relu((x - tensors["b_dec"]) @ tensors["encoder.weight"].T + tensors["encoder.bias"])
    value, index = pre.topk(k, dim=-1)
    features = torch.zeros_like(pre).scatter(-1, index, value)
    return features, features @ tensors["W_dec"] + tensors["b_dec"]


def test_activations_and_reconstruction_are_those_of_the_project(tmp_path):
    tensors = hookpoint(tmp_path / "layers.3")
    sae = load_sae(f"sparsify:{tmp_path / 'layers.3'}")
    x = torch.randn(40, D)
    features, rebuilt = published(tensors, x)
    torch.testing.assert_close(sae.encode(x), features)
    torch.testing.assert_close(sae.decode(sae.encode(x)), rebuilt)
    assert (sae.site().layer, sae.site().point) == (3, "resid_post")
    assert (sae.n_features, sae.d_model, sae.k) == (F, D, K)


def test_number_of_latents_goes_before_the_factor(tmp_path):
    hookpoint(tmp_path / "layers.3", num_latents=F, expansion_factor=999)
    assert load_sae(f"sparsify:{tmp_path / 'layers.3'}").n_features == F


def test_half_precision_is_read(tmp_path):
    tensors = hookpoint(tmp_path / "layers.3")
    halved = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(halved, tmp_path / "layers.3" / "sae.safetensors")
    sae = load_sae(f"sparsify:{tmp_path / 'layers.3'}")
    x = torch.randn(5, D)
    widened = {name: tensor.float() for name, tensor in halved.items()}
    torch.testing.assert_close(sae.encode(x), published(widened, x)[0])


def test_the_real_class_agrees(tmp_path):
    sparsify = pytest.importorskip("sparsify", reason="eai-sparsify is not installed")
    coder = sparsify.SparseCoder(D, sparsify.SparseCoderConfig(num_latents=F, k=K))
    torch.nn.init.normal_(coder.encoder.bias)
    torch.nn.init.normal_(coder.b_dec)
    coder.save_to_disk(tmp_path / "h.2")
    sae = load_sae(f"sparsify:{tmp_path / 'h.2'}")
    x = torch.randn(30, D)
    with torch.no_grad():
        value, index, _ = coder.encode(x)
        rebuilt = coder.decode(value, index)
    features = torch.zeros(30, F).scatter(-1, index, value)
    torch.testing.assert_close(sae.encode(x), features)
    torch.testing.assert_close(sae.decode(sae.encode(x)), rebuilt)
    assert sae.site().layer == 2


def test_what_the_training_says_of_the_activations_is_kept(tmp_path):
    hookpoint(tmp_path / "layers.3")
    training = {"model": "org/model", "ctx_len": 64, "revision": "step1000", "lr": None}
    (tmp_path / "config.json").write_text(json.dumps(training))
    sae = load_sae(f"sparsify:{tmp_path / 'layers.3'}")
    assert sae.site().model == "org/model"
    assert (sae.reading.context_size, sae.reading.revision) == (64, "step1000")


def test_a_folder_of_another_name_leaves_the_layer_open(tmp_path):
    hookpoint(tmp_path / "mine")
    assert load_sae(f"sparsify:{tmp_path / 'mine'}").hook == ""


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"transcode": True}, "a transcoder"),
        ({"skip_connection": True}, "skip connection"),
        ({"signed": True}, "may be negative"),
        ({"activation": "groupmax"}, "'groupmax'; the workbench reads topk"),
        ({"d_in": D + 1}, r"encoder.weight should be \(27, 9\)"),
        ({"num_latents": F + 1}, r"encoder.weight should be \(25, 8\)"),
    ],
)
def test_what_is_not_such_an_sae_is_refused_by_name(tmp_path, fields, line):
    hookpoint(tmp_path / "layers.3", **fields)
    with pytest.raises(Incompatible, match=line):
        load_sae(f"sparsify:{tmp_path / 'layers.3'}")


@pytest.mark.parametrize(
    ("fields", "line"),
    [({"k": 0}, "k is a whole number"), ({"k": None}, "k is a whole number")],
)
def test_a_wrong_field_is_refused(tmp_path, fields, line):
    hookpoint(tmp_path / "layers.3", **fields)
    with pytest.raises(BadInput, match=line):
        load_sae(f"sparsify:{tmp_path / 'layers.3'}")


def test_further_tensors_and_number_formats_are_refused(tmp_path):
    hookpoint(tmp_path / "layers.3", {"W_skip": torch.zeros(D, D)})
    with pytest.raises(Incompatible, match="has W_skip"):
        load_sae(f"sparsify:{tmp_path / 'layers.3'}")
    hookpoint(tmp_path / "layers.4", {"b_dec": torch.zeros(D, dtype=torch.int32)})
    with pytest.raises(Incompatible, match="b_dec holds 'I32'"):
        load_sae(f"sparsify:{tmp_path / 'layers.4'}")


@pytest.mark.parametrize(
    ("name", "place"), [("layers.3.mlp", "a part of an MLP"), ("embed_tokens", "an embedding")]
)
def test_another_place_than_the_residual_is_refused(tmp_path, name, place):
    hookpoint(tmp_path / name)
    with pytest.raises(BadInput, match=place):
        load_sae(f"sparsify:{tmp_path / name}")


def test_a_folder_of_hookpoints_is_answered_with_their_names(tmp_path):
    hookpoint(tmp_path / "layers.3")
    hookpoint(tmp_path / "layers.4")
    with pytest.raises(BadInput, match=r"Name one of layers\.3, layers\.4"):
        load_sae(f"sparsify:{tmp_path}")
    with pytest.raises(NotFound, match=r"Did you mean 'layers\.3'"):
        load_sae(f"sparsify:{tmp_path / 'layer.3'}")


def test_a_half_copied_folder_is_refused(tmp_path):
    hookpoint(tmp_path / "layers.3")
    file = tmp_path / "layers.3" / "sae.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(BadInput, match="truncated or foreign"):
        load_sae(f"sparsify:{tmp_path / 'layers.3'}")
    file.unlink()
    with pytest.raises(BadInput, match=r"lacks sae\.safetensors"):
        load_sae(f"sparsify:{tmp_path / 'layers.3'}")


def test_a_folder_given_without_its_scheme_is_told_apart(tmp_path):
    hookpoint(tmp_path / "layers.3")
    with pytest.raises(BadInput, match="an SAE of sparsify; its address is sparsify:"):
        load_sae(tmp_path / "layers.3")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository in a cache of the hub, with the network off."""
    import huggingface_hub

    snapshot = tmp_path / "models--org--saes" / "snapshots" / ("0" * 40)
    (tmp_path / "models--org--saes" / "refs").mkdir(parents=True)
    (tmp_path / "models--org--saes" / "refs" / "main").write_text("0" * 40)
    original = huggingface_hub.hf_hub_download
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_download",
        lambda *a, **k: original(*a, **{"cache_dir": str(tmp_path)} | k),
    )
    return snapshot


def test_a_repository_of_the_hub(hub, monkeypatch):
    tensors = hookpoint(hub / "layers.3")
    (hub / "config.json").write_text(json.dumps({"model": "org/model"}))
    sae = load_sae("sparsify:hub:org/saes/layers.3")
    torch.testing.assert_close(sae.W_dec, tensors["W_dec"])
    assert (sae.site().model, sae.site().layer) == ("org/model", 3)
    listing = ["config.json", "layers.3/cfg.json", "layers.3/sae.safetensors"]
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_: listing)
    with pytest.raises(BadInput, match=r"Name one of layers\.3"):
        load_sae("sparsify:hub:org/saes")
    with pytest.raises(NotFound, match=r"could not be fetched.*Did you mean 'layers\.3'"):
        load_sae("sparsify:hub:org/saes/layers.9")


@pytest.mark.parametrize("address", ["hub:org", "hub:/saes", "hub:org//x"])
def test_what_is_no_repository_is_refused(address):
    with pytest.raises(BadInput, match="hub:ORG/NAME"):
        load_sae(f"sparsify:{address}")


def test_weights_of_no_sae_beside_a_sound_configuration(tmp_path):
    hookpoint(tmp_path / "layers.3")
    file = tmp_path / "layers.3" / "sae.safetensors"
    weights = load_file(file)
    save_file({"x": weights["b_dec"]}, file)
    with pytest.raises(BadInput, match=r"lacks encoder\.weight"):
        load_sae(f"sparsify:{tmp_path / 'layers.3'}")
