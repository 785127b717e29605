"""SAEs of dictionary_learning: each class as the project computes it, others refused by name."""

import json
import pickle  # noqa: TID251 - a file of a stranger who means harm

import pytest
import torch

from feature_store.errors import BadInput, Incompatible, NotFound
from sae_training.dictionary.loaders import load_sae

D, F, K = 8, 20, 3


def linear(g):
    return {
        "encoder.weight": torch.randn(F, D, generator=g),
        "encoder.bias": torch.randn(F, generator=g),
        "decoder.weight": torch.randn(D, F, generator=g),
    }


def parameters(g):
    return {
        "W_enc": torch.randn(D, F, generator=g),
        "b_enc": torch.randn(F, generator=g),
        "W_dec": torch.randn(F, D, generator=g),
        "b_dec": torch.randn(D, generator=g),
    }


def batch(threshold=0.7):
    return {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(threshold)}


def state(dict_class):
    """Random weights as the project's class of that name keeps them."""
    g = torch.Generator().manual_seed(2)
    bias = torch.randn(D, generator=g)
    if dict_class == "AutoEncoder":
        return linear(g) | {"bias": bias}
    if dict_class == "AutoEncoderNew":
        return linear(g) | {"decoder.bias": bias}
    if dict_class == "GatedAutoEncoder":
        gated = {name: torch.randn(F, generator=g) for name in ("r_mag", "gate_bias", "mag_bias")}
        weights = linear(g)
        del weights["encoder.bias"]
        return weights | gated | {"decoder_bias": bias}
    if dict_class in ("AutoEncoderTopK", "BatchTopKSAE"):
        return linear(g) | {"b_dec": bias} | batch()
    if dict_class == "MatryoshkaBatchTopKSAE":
        return parameters(g) | batch() | {"group_sizes": torch.tensor([5, 15])}
    return parameters(g) | {"threshold": torch.rand(F, generator=g)}


def published(dict_class, w, x):
    """Activations and reconstruction as the project's `load_dictionary(...)` gives them."""
    if dict_class == "AutoEncoder":  # it is loaded with decoder columns of length 1
        norm = w["decoder.weight"].norm(dim=0)
        features = torch.relu((x - w["bias"]) @ w["encoder.weight"].T + w["encoder.bias"]) * norm
        return features, features @ (w["decoder.weight"] / norm).T + w["bias"]
    if dict_class == "AutoEncoderNew":
        features = torch.relu(x @ w["encoder.weight"].T + w["encoder.bias"])
        return features, features @ w["decoder.weight"].T + w["decoder.bias"]
    if dict_class == "GatedAutoEncoder":
        pre = (x - w["decoder_bias"]) @ w["encoder.weight"].T
        magnitude = torch.relu(w["r_mag"].exp() * pre + w["mag_bias"])
        features = (pre + w["gate_bias"] > 0) * magnitude
        return features, features @ w["decoder.weight"].T + w["decoder_bias"]
    if dict_class == "JumpReluAutoEncoder":  # its bias is not taken off the input
        pre = x @ w["W_enc"] + w["b_enc"]
        features = torch.relu(pre * (pre > w["threshold"]))
        return features, features @ w["W_dec"] + w["b_dec"]
    if dict_class == "MatryoshkaBatchTopKSAE":
        active = torch.relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
        features = active * (active > w["threshold"])
        return features, features @ w["W_dec"] + w["b_dec"]
    active = torch.relu((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"])
    if dict_class == "AutoEncoderTopK":
        value, index = active.topk(K, dim=-1)
        features = torch.zeros_like(active).scatter(-1, index, value)
    else:
        features = active * (active > w["threshold"])
    return features, features @ w["decoder.weight"].T + w["b_dec"]


TRAINERS = {
    "StandardTrainer": "AutoEncoder",
    "StandardTrainerAprilUpdate": "AutoEncoder",
    "PAnnealTrainer": "AutoEncoder",
    "StandardTrainerNew": "AutoEncoderNew",
    "GatedSAETrainer": "GatedAutoEncoder",
    "GatedAnnealTrainer": "GatedAutoEncoder",
    "TopKTrainer": "AutoEncoderTopK",
    "BatchTopKTrainer": "BatchTopKSAE",
    "MatryoshkaBatchTopKTrainer": "MatryoshkaBatchTopKSAE",
    "JumpReluTrainer": "JumpReluAutoEncoder",
}


def save(folder, trainer_class="TopKTrainer", weights=None, buffer=None, **fields):
    """A trainer's folder; `fields` are set in its configuration."""
    folder.mkdir(parents=True)
    dict_class = TRAINERS.get(trainer_class, "AutoEncoder")
    weights = state(dict_class) if weights is None else weights
    torch.save(weights, folder / "ae.pt")
    trainer = {
        "trainer_class": trainer_class,
        "dict_class": dict_class,
        "activation_dim": D,
        "dict_size": F,
        "layer": 4,
        "lm_name": "org/model",
        "submodule_name": "resid_post_layer_4",
    }
    if "k" in weights:
        trainer["k"] = K
    content = {"trainer": trainer | fields, "buffer": {"ctx_len": 32, "io": "out"} | (buffer or {})}
    (folder / "config.json").write_text(json.dumps(content))
    return weights


@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_every_trainer_of_an_sae_gives_the_features_of_the_project(tmp_path, trainer_class):
    weights = save(tmp_path / "trainer_0", trainer_class)
    sae = load_sae(f"dictionary-learning:{tmp_path / 'trainer_0'}")
    x = torch.randn(60, D)
    features, rebuilt = published(TRAINERS[trainer_class], weights, x)
    torch.testing.assert_close(sae.encode(x), features)
    torch.testing.assert_close(sae.decode(sae.encode(x)), rebuilt)
    assert 0 < (features > 0).float().mean() < 1, "some features are active, and some are not"
    assert (sae.site().model, sae.site().layer, sae.site().point) == ("org/model", 4, "resid_post")
    assert sae.reading.context_size == 32


def test_a_threshold_that_was_never_estimated_keeps_what_relu_keeps(tmp_path):
    weights = save(tmp_path / "t", "BatchTopKTrainer", state("BatchTopKSAE") | batch(-1.0))
    x = torch.randn(20, D)
    sae = load_sae(f"dictionary-learning:{tmp_path / 't'}")
    torch.testing.assert_close(sae.encode(x), published("BatchTopKSAE", weights, x)[0])


@pytest.mark.parametrize(
    ("fields", "buffer", "hook"),
    [
        ({"submodule_name": "resid_pre_layer_4"}, {}, "blocks.4.hook_resid_pre"),
        ({"submodule_name": "resid_out_layer4"}, {}, "blocks.4.hook_resid_post"),
        ({"submodule_name": "resid_post"}, {}, "blocks.4.hook_resid_post"),
        ({"submodule_name": "model.layers.4"}, {}, "blocks.4.hook_resid_post"),
        ({"submodule_name": "model.layers.4"}, {"io": "in"}, "blocks.4.hook_resid_pre"),
        ({"submodule_name": "resid_post_layer_4", "layer": None}, {}, "blocks.4.hook_resid_post"),
        ({"submodule_name": None}, {}, ""),
    ],
)
def test_where_it_reads(tmp_path, fields, buffer, hook):
    save(tmp_path / "t", buffer=buffer, **fields)
    assert load_sae(f"dictionary-learning:{tmp_path / 't'}").hook == hook


def test_what_the_buffer_says_of_bos_tokens_is_followed(tmp_path):
    save(tmp_path / "t", buffer={"remove_bos": True, "add_special_tokens": False})
    sae = load_sae(f"dictionary-learning:{tmp_path / 't'}")
    assert sae.reading.prepend_bos is False
    assert sae.reading.positions == (1, None)


@pytest.mark.parametrize(
    ("fields", "buffer", "line"),
    [
        ({"dict_class": "CrossCoder", "trainer_class": "CrossCoderTrainer"}, {}, "'CrossCoder'"),
        ({"dict_class": "IdentityDict"}, {}, "is a 'IdentityDict'"),
        ({"submodule_name": "mlp_out_layer_4"}, {}, "a part of an MLP"),
        ({"submodule_name": "attn_out_layer_4"}, {}, "a part of attention"),
        ({}, {"io": "in_and_out"}, "a transcoder"),
        ({"activation_dim": D + 1}, {}, r"encoder.weight should be \(20, 9\)"),
        ({"dict_size": F + 1}, {}, r"encoder.weight should be \(21, 8\)"),
    ],
)
def test_what_is_no_sae_of_a_residual_is_refused_by_name(tmp_path, fields, buffer, line):
    save(tmp_path / "t", buffer=buffer, **fields)
    with pytest.raises(Incompatible, match=line):
        load_sae(f"dictionary-learning:{tmp_path / 't'}")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"k": K + 1}, "its configuration keeps k=4 features, its weights"),
        ({"layer": 5}, "contradicts itself: submodule_name"),
        ({"activation_dim": None}, "activation_dim is a whole number"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(tmp_path, fields, line):
    save(tmp_path / "t", **fields)
    with pytest.raises(BadInput, match=line):
        load_sae(f"dictionary-learning:{tmp_path / 't'}")


class Harmful:
    """What a pickle can make a reader do."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


@pytest.mark.parametrize("kind", ["pickle", "torch", "text", "cut off", "no tensors", "backup"])
def test_weights_that_are_no_tensors_are_refused_and_run_nothing(tmp_path, kind):
    save(tmp_path / "t")
    file, trap = tmp_path / "t" / "ae.pt", tmp_path / "trap"
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Harmful(trap)))
    elif kind == "torch":
        torch.save({"encoder.weight": Harmful(trap)}, file)
    elif kind == "text":
        file.write_text("weights")
    elif kind == "cut off":
        file.write_bytes(file.read_bytes()[:-40])
    elif kind == "no tensors":
        torch.save({"encoder.weight": 1.0}, file)
    else:
        torch.save({"ae": state("AutoEncoder"), "optimizer": {}, "step": 5}, file)
    with pytest.raises(BadInput, match=r"ae\.pt"):
        load_sae(f"dictionary-learning:{tmp_path / 't'}")
    assert not trap.exists()


def test_weights_of_another_class_are_refused(tmp_path):
    save(tmp_path / "t", "GatedSAETrainer", state("AutoEncoder"))
    with pytest.raises(BadInput, match=r"lacks .*gate_bias"):
        load_sae(f"dictionary-learning:{tmp_path / 't'}")
    save(tmp_path / "u", "StandardTrainer", state("AutoEncoder") | {"W_skip": torch.zeros(D, D)})
    with pytest.raises(Incompatible, match="has W_skip"):
        load_sae(f"dictionary-learning:{tmp_path / 'u'}")


def test_a_batch_without_a_threshold_is_refused(tmp_path):
    weights = state("BatchTopKSAE")
    del weights["threshold"]
    save(tmp_path / "t", "BatchTopKTrainer", weights)
    with pytest.raises(BadInput, match="has no threshold"):
        load_sae(f"dictionary-learning:{tmp_path / 't'}")


def test_a_folder_of_trainers_is_answered_with_their_names(tmp_path):
    save(tmp_path / "trainer_0")
    save(tmp_path / "trainer_1")
    with pytest.raises(BadInput, match="Name one of trainer_0, trainer_1"):
        load_sae(f"dictionary-learning:{tmp_path}")
    with pytest.raises(NotFound, match="There is no folder"):
        load_sae(f"dictionary-learning:{tmp_path / 'trainer_2'}")
    with pytest.raises(BadInput, match=r"lacks config\.json"):
        (tmp_path / "trainer_0" / "config.json").unlink()
        load_sae(f"dictionary-learning:{tmp_path / 'trainer_0'}")


def test_a_folder_given_without_its_scheme_is_told_apart(tmp_path):
    save(tmp_path / "t")
    with pytest.raises(BadInput, match="its address is dictionary-learning:"):
        load_sae(tmp_path / "t")


def test_a_repository_of_the_hub(tmp_path, monkeypatch):
    weights = save(tmp_path / "trainer_0")
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda repository, name: str(tmp_path / name)
    )
    sae = load_sae("dictionary-learning:hub:org/saes/trainer_0")
    torch.testing.assert_close(sae.W_dec, weights["decoder.weight"].T)

    def missing(*_):
        raise OSError("Entry Not Found\nfor url")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", missing)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_: ["trainer_0/ae.pt"])
    with pytest.raises(NotFound, match=r"Entry Not Found for url.*It has trainer_0\."):
        load_sae("dictionary-learning:hub:org/saes/trainer_9")
