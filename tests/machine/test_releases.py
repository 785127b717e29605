"""What sae-lens' registry has for a model, and how it is written for people."""

import pytest

from feature_store.errors import NotFound
from sae_training.dictionary.releases import RESIDUAL, release_named, releases_of
from workbench.command.cli import main


@pytest.mark.parametrize("name", ["gemma-2-2b", "google/gemma-2-2b", "Gemma-2-2B"])
def test_a_model_is_known_by_its_name_or_hub_id(name):
    names = [release.name for release in releases_of(name)]
    assert "gemma-scope-2b-pt-res-canonical" in names
    assert all(release.model == "gemma-2-2b" for release in releases_of(name))


def test_releases_that_can_be_adopted_come_first():
    releases = releases_of("gemma-2-2b")
    reads = {release.name: release.reads for release in releases}
    assert reads["gemma-scope-2b-pt-res-canonical"] == RESIDUAL
    assert reads["gemma-scope-2b-pt-mlp"] == "MLPs"
    assert reads["gemma-scope-2b-pt-att-canonical"] == "attention"
    assert reads["gemma-scope-2b-pt-transcoders"] == "transcoders"
    others = [release.reads != RESIDUAL for release in releases]
    assert others == sorted(others)


def test_a_later_release_of_gemma_scope_is_there():
    assert any(release.reads == RESIDUAL for release in releases_of("google/gemma-3-1b-it"))


def test_every_address_is_one_that_the_loader_takes_apart():
    for sae in release_named("gemma-scope-2b-pt-res-canonical").saes:
        scheme, _, rest = sae.address.partition(":")
        assert (scheme, *rest.split("/", 1)) == (
            "saelens",
            "gemma-scope-2b-pt-res-canonical",
            sae.id,
        )


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(NotFound, match="Did you mean 'gemma-2-2b'"):
        releases_of("gema-2-2b")
    with pytest.raises(NotFound, match="Did you mean 'gemma-scope-2b-pt-res-canonical'"):
        release_named("gemma-scope-2b-pt-res-canonica")


def test_the_command_line_lists_them(capsys):
    assert main(["saes", "--model", "gemma-2-2b"]) == 0
    printed = capsys.readouterr().out
    assert "saelens:gemma-scope-2b-pt-res-canonical/layer_0/width_16k/canonical" in printed
    assert "`workbench adopt STUDY ADDRESS --model gemma-2-2b`" in printed
    assert main(["saes", "--release", "gemma-scope-2b-pt-res-canonical"]) == 0
    assert "layer_20/width_16k/canonical" in capsys.readouterr().out
    assert main(["saes"]) == 0
    assert "gemma-2-2b " in capsys.readouterr().out
    assert main(["saes", "--model", "gema-2-2b"]) == 2
    assert "Did you mean 'gemma-2-2b'" in capsys.readouterr().err
