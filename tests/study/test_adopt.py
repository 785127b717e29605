"""`workbench adopt` from the command line: what an SAE says of itself is followed, or refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import processors

from feature_store.records import Steering
from sae_training.dictionary import memory
from sae_training.dictionary.harvest import HarvestSettings, harvest
from sae_training.dictionary.loaders import load_sae, save_sae
from sae_training.dictionary.sae import SAE
from sae_training.dictionary.texts import Corpus, read_texts
from sae_training.engine.opening import open_model
from tests.helpers import small_models
from workbench.command.cli import main
from workbench.steering.apply import respondent
from workbench.study import Study

F, K = 48, 6


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two small GPT-2s, of which one tokenizer sets a BOS, texts, and an SAE."""
    folder = tmp_path_factory.mktemp("adopt")
    for name in ("sets", "bare"):
        module = small_models.module("gpt2")
        module.save_pretrained(folder / name)
        tokenizer = small_models.tokenizer()
        if name == "bare":
            tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
        tokenizer.save_pretrained(folder / name)
    words = ["the cat sat", "on the mat", "and then the dog", "ran to the end", "of the garden"]
    texts = [" ".join(words[i % 3 :] + words[: i % 5]) for i in range(24)]
    (folder / "texts.csv").write_text("text\n" + "\n".join(texts) + "\n")
    return folder


def sae_folder(place, name, **metadata):
    """A TopK SAE that rebuilds little, with some metadata."""
    g = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(
        torch.randn(F, small_models.WIDTH, generator=g), dim=1
    )
    sae = SAE(
        W_enc=0.3 * directions.T,
        W_dec=directions,
        b_enc=torch.zeros(F),
        b_dec=torch.zeros(small_models.WIDTH),
        architecture="topk",
        k=K,
    )
    shutil.rmtree(place / name, ignore_errors=True)
    save_sae(sae, place / name)
    config = json.loads((place / name / "cfg.json").read_text())
    config["metadata"] |= {"hook_name": "blocks.1.hook_resid_post"} | metadata
    (place / name / "cfg.json").write_text(json.dumps(config))
    return place / name


def adopt(place, study, sae, *more, model="bare"):
    words = ["adopt", study, sae, "--model", place / model, "--texts", place / "texts.csv", *more]
    return main([*map(str, words), "--context", "32", "--rows", "16"])


def newest(study):
    return Study(study).runs.latest("sae")


def densities(study):
    frame = Study(study).store.sql("SELECT density FROM features ORDER BY feature")
    return torch.tensor(frame.density.to_numpy())


def by_hand(place, sae, model):
    """Densities from the harvest itself, with a model that was begun by hand."""
    loaded = load_sae(sae)
    corpus = Corpus(read_texts(place / "texts.csv"), 16, 32)
    told = harvest(model, loaded, corpus, loaded.site(), HarvestSettings())
    return torch.tensor(told.features["density"].to_numpy())


@pytest.mark.parametrize(("model", "bos"), [("bare", True), ("sets", False)])
def test_a_bos_token_is_followed_by_whoever_reads(place, tmp_path, model, bos):
    """The model of the SAE's run reads as a model does whose tokenizer does the same."""
    sae = sae_folder(place, "bos", prepend_bos=bos)
    assert adopt(place, tmp_path / "s", sae, model=model) == 0
    same = open_model(place / ("sets" if bos else "bare"))
    other = open_model(place / model)
    torch.testing.assert_close(densities(tmp_path / "s"), by_hand(place, sae, same))
    assert not torch.equal(densities(tmp_path / "s"), by_hand(place, sae, other))
    study, run = Study(tmp_path / "s"), newest(tmp_path / "s")
    assert run.summary["prepend_bos"] is bos
    used = study.model_of(run)
    assert used is study.model_of(run)
    assert used.tokenize(["the cat"]) == same.tokenize(["the cat"])
    names = set()
    for steering in (Steering(), Steering(features=((1, 1.0),), strength=0.5, unit="raw")):
        asked = respondent(study, run, steering)
        assert asked.model is used
        names.add(asked.name)
    # Answers are kept by name: another beginning must not give those of the plain model.
    assert all(("after" if bos else "without") + " a BOS token" in name for name in names)


def test_centred_writing_weights_are_followed(place, tmp_path, capsys):
    arguments = {"center_writing_weights": True, "fold_ln": True}
    sae = sae_folder(place, "centred", model_from_pretrained_kwargs=arguments)
    assert adopt(place, tmp_path / "s", sae) == 0
    plain = sae_folder(place, "plain")
    model = open_model(place / "bare")
    loaded = load_sae(plain)
    corpus = Corpus(read_texts(place / "texts.csv"), 16, 32)

    class Centred(type(model)):
        def residuals(self, ids, mask, site):
            x = super().residuals(ids, mask, site)
            return x - x.mean(-1, keepdim=True)

    model.__class__ = Centred
    told = harvest(model, loaded, corpus, loaded.site(), HarvestSettings())
    expected = torch.tensor(told.features["density"].to_numpy())
    torch.testing.assert_close(densities(tmp_path / "s"), expected)
    assert "residuals less their mean" in newest(tmp_path / "s").summary["activations_of"]


REFUSED = [
    ({"hook_name": "blocks.1.hook_mlp_out"}, ("--layer", "1"), "what an MLP adds"),
    ({"hook_name": "blocks.1.hook_mlp_out"}, (), "what an MLP adds"),
    ({"hook_name": "blocks.1.hook_resid_mid"}, ("--layer", "1"), "between a layer's attention"),
    ({"hook_name": "blocks.1.hook_resid_pre"}, ("--layer", "2"), "it reads"),
    ({"hook_name": "blocks.9.hook_resid_post"}, (), "layers 0 to 3, got layer 9"),
    ({"hook_head_index": 2}, (), "one attention head"),
    (
        {"model_from_pretrained_kwargs": {"revision": "step1000"}},
        ("--revision", "0" * 40),
        "has checksum",
    ),
]


@pytest.mark.parametrize(("metadata", "more", "message"), REFUSED)
def test_a_contradiction_is_one_line(place, tmp_path, capsys, metadata, more, message):
    assert adopt(place, tmp_path / "s", sae_folder(place, "refused", **metadata), *more) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in told


@pytest.mark.parametrize("hook", ["blocks.1.hook_resid_pre", "blocks.0.hook_resid_post"])
def test_what_enters_a_layer_is_what_left_the_one_below(place, tmp_path, hook):
    layer = hook.split(".")[1]
    sae = sae_folder(place, "pre", hook_name=hook)
    assert adopt(place, tmp_path / "s", sae, "--layer", layer) == 0
    run = newest(tmp_path / "s")
    assert f"blocks.{run.summary['layer']}.hook_{run.summary['point']}" == hook
    below = sae_folder(place, "post", hook_name="model.layers.0")
    expected = by_hand(place, below, open_model(place / "bare"))
    torch.testing.assert_close(densities(tmp_path / "s"), expected)


def test_what_cfg_json_says_is_part_of_the_run(place, tmp_path):
    study = tmp_path / "s"
    ids = set()
    for metadata in ({}, {"prepend_bos": True}, {"hook_name": "blocks.2.hook_resid_post"}):
        assert adopt(place, study, sae_folder(place, "same", **metadata)) == 0
        ids.add(newest(study).id)
    config = json.loads((place / "same" / "cfg.json").read_text())
    (place / "same" / "cfg.json").write_text(json.dumps(config | {"k": 3}))
    assert adopt(place, study, place / "same") == 0
    ids.add(newest(study).id)
    assert len(ids) == 4


def test_a_mismatch_is_told_once_and_kept(place, tmp_path):
    sae = sae_folder(place, "off", l0=900, explained_variance=0.99)
    with pytest.warns(UserWarning, match="its makers state 900"):
        assert adopt(place, tmp_path / "s", sae) == 0
    summary = newest(tmp_path / "s").summary
    assert (summary["l0_stated"], summary["l0"]) == (900, K)
    assert summary["fvu_stated"] == pytest.approx(0.01)
    assert "does not seem to get the activations" in summary["warning"]


def test_another_revision_of_the_model_is_told(place, tmp_path):
    sae = sae_folder(place, "moved", model_revision="0" * 40)
    with pytest.warns(UserWarning, match="was made on revision '0000"):
        assert adopt(place, tmp_path / "s", sae) == 0
    arguments = {"revision": "step1000"}
    sae = sae_folder(place, "step", model_from_pretrained_kwargs=arguments)
    with pytest.warns(UserWarning, match="was made on revision 'step1000'"):
        assert adopt(place, tmp_path / "s", sae) == 0


def test_texts_are_read_in_pieces_that_the_sae_knows(place, tmp_path):
    sae = sae_folder(place, "short", context_size=4)
    with pytest.warns(UserWarning, match="made on pieces of 4 tokens"):
        assert adopt(place, tmp_path / "s", sae) == 0
    tokens = newest(tmp_path / "s").summary["tokens"]
    model, loaded = open_model(place / "bare"), load_sae(sae)
    corpus = Corpus(read_texts(place / "texts.csv"), 16, 4)
    assert tokens == harvest(model, loaded, corpus, loaded.site(), HarvestSettings()).tokens


def test_too_many_features_for_memory_are_refused_before_work(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device="cpu": 10**9)
    words = ["train", tmp_path / "s", "--model", place / "bare", "--texts", place / "texts.csv"]
    code = main([*map(str, words), "--n-features", "50000000", "--context", "32"])
    told = capsys.readouterr().err
    assert code == 2
    assert "50000000 features of width 32 takes about" in told
    assert "1.0 GB are free" in told
    assert list((tmp_path / "s" / "runs").glob("sae-*")) == []
    assert list((tmp_path / "s" / "runs" / ".work").glob("sae-*/run.json")) == []


def sparsify_folder(place, name, width=small_models.WIDTH):
    """A small random SAE as EleutherAI's sparsify saves one."""
    g = torch.Generator().manual_seed(3)
    folder = place / "hookpoints" / name
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "encoder.weight": torch.randn(F, width, generator=g),
        "encoder.bias": torch.zeros(F),
        "W_dec": torch.nn.functional.normalize(torch.randn(F, width, generator=g), dim=1),
        "b_dec": torch.zeros(width),
    }
    save_file(tensors, folder / "sae.safetensors")
    config = {"d_in": width, "num_latents": F, "k": K, "activation": "topk"}
    (folder / "cfg.json").write_text(json.dumps(config))
    return f"sparsify:{folder}"


def test_an_sae_of_another_project_becomes_a_run_like_any_other(place, tmp_path):
    assert adopt(place, tmp_path / "s", sparsify_folder(place, "h.1")) == 0
    run = newest(tmp_path / "s")
    assert (run.summary["layer"], run.summary["point"]) == (1, "resid_post")
    kept = load_sae(Study(tmp_path / "s").runs.folder / run.id / "sae")
    assert (kept.n_features, kept.k, kept.architecture) == (F, K, "topk")


@pytest.mark.parametrize(
    ("name", "width", "more", "line"),
    [
        ("h.1", small_models.WIDTH + 8, (), "SAE expects d_model"),
        ("h.99", small_models.WIDTH, (), "got layer 99"),
        ("h.1", small_models.WIDTH, ("--layer", "0"), "got --layer 0"),
        ("mine", small_models.WIDTH, (), "Give the layer it belongs to"),
        ("h.1.mlp", small_models.WIDTH, (), "a part of an MLP"),
    ],
)
def test_an_sae_of_another_project_that_disagrees_with_the_model_is_refused(
    place, tmp_path, capsys, name, width, more, line
):
    assert adopt(place, tmp_path / "s", sparsify_folder(place, name, width), *more) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
