import pytest

from feature_store.errors import BadInput
from feature_store.records import Site
from sae_training.model import sites
from sae_training.training.config import TrainingSettings
from tests.helpers import small_models


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("blocks.5.hook_resid_post", (5, "resid_post")),
        ("blocks.0.hook_resid_pre", (0, "resid_pre")),
        ("resid_post.11", (11, "resid_post")),
        ("model.layers.7", (7, "resid_post")),
        ("transformer.h.3", (3, "resid_post")),
        ("gpt_neox.layers.2", (2, "resid_post")),
    ],
)
def test_every_spelling_means_one_place(name, place):
    assert sites.parse(name) == Site(*place)


@pytest.mark.parametrize(
    "name", ["blocks.5.hook_mlp_out", "model.embed", "5", "blocks.x.hook_resid_post"]
)
def test_other_names_are_refused(name):
    with pytest.raises(BadInput, match="names no place on the residual stream"):
        sites.parse(name)


def test_names_go_out_and_come_back():
    site = Site(model="m", layer=5, point="resid_pre")
    assert sites.parse(sites.saelens_name(site)) == Site(5, "resid_pre")
    assert sites.parse(sites.interp_engine_name(site)) == Site(5, "resid_pre")


@pytest.mark.parametrize(
    ("family", "path"),
    [
        ("gpt2", "transformer.h"),
        ("llama", "model.layers"),
        ("gemma3", "model.layers"),
        ("neox", "gpt_neox.layers"),
    ],
)
def test_the_decoder_layers_are_found(family, path):
    module = small_models.module(family)
    found, layers = sites.layers(module, small_models.LAYERS)
    assert found == path
    assert module.get_submodule(sites.module_path(module, small_models.LAYERS, 3)) is layers[3]


def test_a_layer_out_of_range_is_named():
    with pytest.raises(BadInput, match=r"The model has layers 0 to 11, got layer 12\."):
        sites.check_layer(12, 12)
    with pytest.raises(BadInput, match="got layer -1"):
        sites.boundary(Site(-1), 12)
    with pytest.raises(BadInput, match="resid_pre or resid_post"):
        TrainingSettings(point="mlp")
