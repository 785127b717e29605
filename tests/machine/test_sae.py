"""Our SAE beside sae-lens', and what bad files get."""

import json
import os

import pytest
import torch

from feature_store.errors import BadInput, Incompatible, NotFound
from sae_training.dictionary.loaders import load_sae, save_sae
from sae_training.dictionary.sae import SAE
from tests.helpers import small_models

D, F, K = 16, 48, 5


def made(architecture: str, **kwargs) -> SAE:
    g = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    extra = {
        "topk": {"k": K},
        "jumprelu": {"threshold": draw(F).abs()},
        "gated": {"r_mag": draw(F) / 4, "b_mag": draw(F)},
    }
    return SAE(
        W_enc=draw(D, F),
        W_dec=draw(F, D),
        b_enc=draw(F),
        b_dec=draw(D),
        architecture=architecture,
        **extra.get(architecture, {}),
        **kwargs,
    )


@pytest.mark.parametrize("normalize", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
def test_sae_lens_reads_ours_and_agrees(tmp_path, architecture, normalize):
    from sae_lens import SAE as Foreign

    ours = made(architecture, normalize_activations=normalize)
    save_sae(ours, tmp_path, torch.rand(F))
    theirs = Foreign.load_from_disk(tmp_path)
    x = torch.randn(7, 3, D, generator=torch.Generator().manual_seed(0))
    assert (theirs.encode(x) > 0).any()
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.reconstruct(x), theirs(x), atol=1e-5, rtol=1e-5)
    code = ours.encode_sparse(x.flatten(0, 1))
    dense = torch.zeros(21, F).scatter_add_(1, code.feature, code.value)
    torch.testing.assert_close(dense, ours.encode(x).flatten(0, 1))


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "jumprelu", "standard", "gated"])
def test_we_read_what_sae_lens_saves(tmp_path, architecture):
    from sae_lens import SAE as Foreign
    from sae_lens.registry import get_sae_training_class

    kind, config = get_sae_training_class(architecture)
    sae = kind(config(d_in=D, d_sae=F, **({"k": K} if "topk" in architecture else {})))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if architecture == "batchtopk":
            sae.topk_threshold.fill_(0.2)
    sae.save_inference_model(tmp_path)
    ours, theirs, x = load_sae(tmp_path), Foreign.load_from_disk(tmp_path), torch.randn(9, D)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.reconstruct(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_rescaled_topk_is_folded(tmp_path):
    from sae_lens import SAE as Foreign

    ours = made("topk")
    save_sae(ours, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text()) | {
        "rescale_acts_by_decoder_norm": True
    }
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    folded, x = load_sae(tmp_path), torch.randn(9, D)
    torch.testing.assert_close(folded.W_dec.norm(dim=1), torch.ones(F))
    torch.testing.assert_close(
        folded.reconstruct(x), Foreign.load_from_disk(tmp_path)(x), atol=1e-4, rtol=1e-4
    )


def damage(folder, how):
    weights = folder / "sae_weights.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:200])
    elif how == "pickle":
        torch.save({"W_enc": torch.zeros(2)}, weights)
    elif how == "only a pickle":
        os.rename(weights, folder / "sae.pt")
    elif how == "foreign":
        from safetensors.torch import save_file

        save_file({"model.embed": torch.zeros(3)}, weights)
    elif how == "not JSON":
        (folder / "cfg.json").write_text("{")
    else:
        config = json.loads((folder / "cfg.json").read_text())
        (folder / "cfg.json").write_text(json.dumps(config | how))


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("truncated", BadInput, "truncated or foreign"),
        ("pickle", BadInput, "pickle"),
        ("only a pickle", BadInput, "pickle, which is never opened"),
        ("foreign", BadInput, "lacks"),
        ("not JSON", BadInput, "not valid JSON"),
        ({"d_in": 99}, Incompatible, "should be"),
        ({"architecture": "temporal"}, Incompatible, "temporal"),
        ({"normalize_activations": "expected_average_only_in"}, Incompatible, "Fold"),
    ],
)
def test_bad_files_get_one_line(tmp_path, how, error, message):
    save_sae(made("topk"), tmp_path)
    damage(tmp_path, how)
    with pytest.raises(error, match=message) as told:
        load_sae(tmp_path)
    assert "\n" not in str(told.value)


def test_nan_weights_and_wrong_model():
    with pytest.raises(BadInput, match="W_dec holds NaN"):
        SAE(
            W_enc=torch.zeros(D, F),
            W_dec=torch.full((F, D), torch.nan),
            b_enc=torch.zeros(F),
            b_dec=torch.zeros(D),
        )
    with pytest.raises(Incompatible, match="SAE expects d_model 16, the model gives 32"):
        made("topk").check_fits(small_models.model())


@pytest.mark.parametrize("address", ["nowhere", "saelenz:a/b", "folder:/nowhere", "hub:alone"])
def test_unknown_addresses(address):
    with pytest.raises((NotFound, BadInput)) as told:
        load_sae(address)
    assert "\n" not in str(told.value)
