"""What an SAE's metadata say of its activations is followed, or refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    OPTConfig,
)

from feature_store.errors import BadInput, Incompatible, WorkbenchError
from feature_store.records import Site, Span
from sae_training.dictionary.claims import Claims, doubts, of_folder, of_metadata
from sae_training.dictionary.evaluate import reconstruction
from sae_training.dictionary.loaders import load_sae, save_sae
from sae_training.dictionary.reading import reading
from sae_training.dictionary.sae import SAE
from sae_training.dictionary.stream import read
from sae_training.dictionary.texts import Corpus
from sae_training.engine.model import Model
from sae_training.model import sites, spans
from tests.helpers import small_models

D, F, K = 16, 48, 5
WIDTH, LAYERS, VOCABULARY = 32, 3, 60
CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
FAMILIES = {
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=24
    ),
    "gpt_neo": GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=24,
    ),
    "gptj": GPTJConfig(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=4, rotary_dim=4, n_positions=24
    ),
    "gpt_neox": GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=24,
    ),
    "opt": OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        ffn_dim=48,
        max_position_embeddings=24,
        word_embed_proj_dim=WIDTH,
    ),
}
WRITERS = ("c_proj", "out_proj", "fc_out", "fc2", "attention.dense", "dense_4h_to_h")
"""Names of the projections that add to the residual."""


def random_model(config):
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module


def residual(module, site):
    ids = torch.arange(24).reshape(2, 12) % VOCABULARY
    return Model(module, None, "m").residuals(ids, torch.ones(2, 12, dtype=torch.bool), site)


@pytest.mark.parametrize("point", ["resid_pre", "resid_post"])
def test_transformer_lens_centres_what_we_centre(point):
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    module = random_model(FAMILIES["gpt2"])
    config = HookedTransformerConfig(
        n_layers=LAYERS,
        d_model=WIDTH,
        d_head=WIDTH // 4,
        n_heads=4,
        d_mlp=4 * WIDTH,
        d_vocab=VOCABULARY,
        n_ctx=24,
        act_fn="gelu_new",
        normalization_type="LN",
        eps=1e-5,
        original_architecture="GPT2LMHeadModel",
        device="cpu",
    )
    theirs = HookedTransformer(config)
    theirs.load_and_process_state_dict(
        convert_gpt2_weights(module, config),
        fold_ln=False,
        center_writing_weights=True,
        center_unembed=False,
        fold_value_biases=False,
    )
    name = f"blocks.1.hook_{point}"
    ids = torch.arange(24).reshape(2, 12) % VOCABULARY
    _, cache = theirs.run_with_cache(ids, names_filter=[name], prepend_bos=False)
    sae = made("topk", WIDTH, metadata=CENTRED | {"hook_name": name})
    plain = residual(module, sae.site())
    assert (plain.mean(-1).abs() > 0.1).any()
    torch.testing.assert_close(sae.centre(plain), cache[name], atol=1e-4, rtol=1e-4)
    other = made("topk", WIDTH)
    torch.testing.assert_close(sae.encode(plain), other.encode(cache[name]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_centred_weights_give_the_residual_less_its_mean(family):
    module = random_model(FAMILIES[family])
    plain = residual(module, Site(1))
    assert Model(module, None, "m").centres
    with torch.no_grad():
        for name, part in module.named_modules():
            if isinstance(part, torch.nn.Embedding):
                part.weight.sub_(part.weight.mean(-1, keepdim=True))
            elif name.endswith(WRITERS):
                # A Conv1D has its outputs in columns, a Linear in rows.
                axis = 1 if type(part).__name__ == "Conv1D" else 0
                part.weight.sub_(part.weight.mean(axis, keepdim=True))
                if part.bias is not None:
                    part.bias.sub_(part.bias.mean())
    centred = residual(module, Site(1))
    torch.testing.assert_close(plain - plain.mean(-1, keepdim=True), centred, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3", "bloom"])
def test_other_families_refuse_centred_weights(family):
    sae = made("topk", small_models.WIDTH, metadata=CENTRED)
    with pytest.raises(Incompatible, match="center_writing_weights"):
        sae.check_fits(small_models.model(family))
    sae.check_fits(small_models.model("neox"))


@pytest.mark.parametrize("normalize", ["none", "layer_norm", "constant_norm_rescale"])
def test_a_centred_sae_rebuilds_the_plain_residual(normalize):
    """The mean is put back, and counts neither as error nor as variance."""
    sae = made("topk", D, metadata=CENTRED, normalize_activations=normalize)
    other = made("topk", D, normalize_activations=normalize)
    x = torch.randn(50, D) + 10 * torch.randn(50, 1)
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(sae.encode(x), other.encode(centred))
    rebuilt = other.reconstruct(centred) + x.mean(-1, keepdim=True)
    torch.testing.assert_close(sae.reconstruct(x), rebuilt, atol=1e-4, rtol=1e-4)
    ours, theirs = reconstruction(sae, [x]), reconstruction(other, [centred])
    assert ours.fvu == pytest.approx(theirs.fvu, rel=1e-4)


def made(architecture, width=D, **kwargs):
    g = torch.Generator().manual_seed(3)
    extra = {
        "topk": {"k": K},
        "jumprelu": {"threshold": torch.randn(F, generator=g).abs()},
        "gated": {"r_mag": torch.randn(F, generator=g) / 4, "b_mag": torch.randn(F, generator=g)},
    }
    return SAE(
        W_enc=torch.randn(width, F, generator=g),
        W_dec=torch.randn(F, width, generator=g),
        b_enc=torch.randn(F, generator=g),
        b_dec=torch.randn(width, generator=g),
        architecture=architecture,
        **extra.get(architecture, {}),
        **kwargs,
    )


def older(folder, kind, **fields):
    """A folder as sae-lens wrote it before version 6."""
    save_sae(made(kind), folder)
    config = {
        "architecture": kind,
        "d_in": D,
        "d_sae": F,
        "activation_fn_str": "relu",
        "apply_b_dec_to_input": True,
        "finetuning_scaling_factor": False,
        "normalize_activations": "none",
        "model_name": "tiny",
        "hook_name": "blocks.1.hook_resid_pre",
        "hook_layer": 1,
        "hook_head_index": None,
        "dtype": "torch.float32",
        "device": "cpu",
        "context_size": 64,
        "sae_lens_training_version": "5.0.0",
    }
    (folder / "cfg.json").write_text(json.dumps(config | fields))
    return folder


OLDER = {
    "standard": ("standard", {}),
    "no architecture": ("standard", {"architecture": "standard"}),
    "topk as an activation": (
        "topk",
        {
            "architecture": "standard",
            "activation_fn_str": "topk",
            "activation_fn_kwargs": {"k": K},
        },
    ),
    "topk": ("topk", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}),
    "jumprelu": ("jumprelu", {}),
    "gated": ("gated", {}),
    "no bias of the decoder": ("standard", {"apply_b_dec_to_input": False}),
    "not normalised": ("standard", {"normalize_activations": False}),
    "layer norm": ("standard", {"normalize_activations": "layer_norm"}),
    "constant norm": ("standard", {"normalize_activations": "constant_norm_rescale"}),
}


@pytest.mark.parametrize("name", OLDER)
def test_older_folders_give_sae_lens_activations(tmp_path, name):
    from sae_lens import SAE as Foreign

    architecture, fields = OLDER[name]
    folder = older(tmp_path / "sae", architecture, **fields)
    ours, theirs, x = load_sae(folder), Foreign.load_from_disk(folder), torch.randn(30, D)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.reconstruct(x), theirs(x), atol=1e-4, rtol=1e-4)
    assert ours.site() == Site(model="tiny", layer=1, point="resid_pre")
    # Before version 6 a BOS stood before every text unless something else was said.
    assert ours.reading.prepend_bos is True
    assert ours.reading.prepend_bos == bool(theirs.cfg.metadata.prepend_bos)


def test_names_of_still_older_folders(tmp_path):
    folder = older(tmp_path / "sae", "standard")
    config = json.loads((folder / "cfg.json").read_text())
    for name in ("hook_name", "hook_layer", "hook_head_index"):
        config[name.replace("hook_", "hook_point_").replace("_name", "")] = config.pop(name)
    config["hook_point"] = "blocks.{layer}.hook_resid_pre"
    (folder / "cfg.json").write_text(json.dumps(config))
    assert load_sae(folder).site() == Site(model="tiny", layer=1, point="resid_pre")


def test_factors_of_a_finetuning_scale_the_decoder(tmp_path):
    """sae-lens before 6 multiplied activations by them before decoding."""
    folder = older(tmp_path / "sae", "standard", finetuning_scaling_factor=True)
    plain, x = load_sae(older(tmp_path / "plain", "standard")), torch.randn(30, D)
    weights = load_file(folder / "sae_weights.safetensors")
    with pytest.raises(BadInput, match="hold no scaling_factor"):
        load_sae(folder)
    factor = torch.rand(F) + 0.5
    save_file(weights | {"scaling_factor": factor}, folder / "sae_weights.safetensors")
    sae = load_sae(folder)
    torch.testing.assert_close(sae.encode(x), plain.encode(x))
    expected = (plain.encode(x) * factor) @ plain.W_dec + plain.b_dec
    torch.testing.assert_close(sae.reconstruct(x), expected, atol=1e-4, rtol=1e-4)
    older(tmp_path / "no", "standard")
    save_file(weights | {"scaling_factor": factor}, tmp_path / "no" / "sae_weights.safetensors")
    with pytest.raises(Incompatible, match="factors of a fine-tuning"):
        load_sae(tmp_path / "no")
    ones = weights | {"scaling_factor": torch.ones(F)}
    save_file(ones, tmp_path / "no" / "sae_weights.safetensors")
    torch.testing.assert_close(load_sae(tmp_path / "no").W_dec, plain.W_dec)


REFUSED = [
    ({"hook_head_index": 3}, "one attention head"),
    ({"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}, "tr"),
    ({"model_from_pretrained_kwargs": {"first_n_layers": 4}}, "first_n_layers"),
    ({"model_from_pretrained_kwargs": [1]}, "is an object"),
    ({"model_from_pretrained_kwargs": {"center_writing_weights": "yes"}}, "true or false"),
    ({"prepend_bos": "yes"}, "true or false"),
    ({"context_size": -3}, "whole number"),
    ({"context_size": 1.5}, "whole number"),
    ({"exclude_special_tokens": ["<s>"]}, "token ids"),
    ({"seqpos_slice": [1, 2, 0]}, "start, stop and step"),
    ({"seqpos_slice": "all"}, "start, stop and step"),
]


@pytest.mark.parametrize(("metadata", "message"), REFUSED)
def test_what_cannot_be_followed_is_refused(metadata, message):
    with pytest.raises(WorkbenchError, match=message) as told:
        reading(metadata)
    assert str(told.value).isprintable()


KINDS = [
    ({"architecture": "jumprelu_transcoder"}, "jumprelu_transcoder"),
    ({"activation_fn_str": "tanh-relu"}, "tanh-relu"),
    ({"reshape_activations": "hook_z"}, "attention heads"),
    ({"d_out": 99}, "transcoder"),
    ({"dtype": "int8"}, "int8"),
    ({"normalize_activations": True}, "expected_average_only_in"),
    ({"hook_layer": 2}, "contradicts itself"),
    ({"metadata": {"hook_name": "blocks.2.hook_resid_post"}}, "contradicts itself"),
    ({"hook_point": "blocks.2.hook_resid_pre"}, "contradicts itself"),
    ({"architecture": "gated", "activation_fn": "topk"}, "contradicts itself"),
    ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5, "signed": True}}, "signed"),
]


@pytest.mark.parametrize(("fields", "message"), KINDS)
def test_another_kind_of_sae_is_refused_by_name(tmp_path, fields, message):
    folder = older(tmp_path / "sae", "standard", **fields)
    with pytest.raises(WorkbenchError, match=message):
        load_sae(folder)


def test_tensors_that_would_be_passed_over_are_refused(tmp_path):
    folder = older(tmp_path / "sae", "standard")
    weights = load_file(folder / "sae_weights.safetensors") | {"W_skip": torch.zeros(D, D)}
    save_file(weights, folder / "sae_weights.safetensors")
    with pytest.raises(Incompatible, match="W_skip"):
        load_sae(folder)


PLACES = {
    "blocks.5.hook_in": (5, "resid_pre"),
    "blocks.5.hook_out": (5, "resid_post"),
    "layers.5": (5, "resid_post"),
    "h.5": (5, "resid_post"),
    "model.decoder.layers.5": (5, "resid_post"),
    "model.language_model.layers.5": (5, "resid_post"),
    "model.layers.5.output": (5, "resid_post"),
    "transformer.blocks.5": (5, "resid_post"),
}
ELSEWHERE = {
    "blocks.1.hook_resid_mid": "between a layer's attention and its MLP",
    "blocks.1.hook_mlp_out": "what an MLP adds",
    "blocks.1.hook_attn_out": "what attention adds",
    "blocks.1.attn.hook_z": "single attention heads",
    "blocks.1.ln1.hook_normalized": "normalised residual",
    "blocks.1.ln2.hook_normalized": "normalised residual",
    "blocks.1.mlp.hook_post": "inside of an MLP",
    "hook_embed": "embedding",
    "model.layers.2.mlp": "part of an MLP",
    "model.layers.2.self_attn.o_proj.input": "part of attention",
    "model.layers.2.post_feedforward_layernorm.output": "normalised residual",
    "model.vision_tower.encoder.layers.3": "names no place",
    "vision_model.layers.3": "names no place",
    "blocks.99999999999999999999.hook_resid_post": "names no place",
}


@pytest.mark.parametrize("name", PLACES)
def test_more_spellings_of_a_place(name):
    assert sites.parse(name) == Site(*PLACES[name])


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_place_that_is_not_read_is_named(name):
    with pytest.raises(BadInput, match=ELSEWHERE[name]):
        sites.parse(name)


def unset(family="gpt2"):
    """A model whose tokenizer sets nothing before a text, though it has a BOS token."""
    model = small_models.model(family)
    model.tokenizer.backend_tokenizer.post_processor = None
    return Model(model.module, model.tokenizer, "unset")


def test_texts_begin_as_the_sae_wants_them():
    plain, sets = unset(), small_models.model("gpt2")
    text = ["the cat sat on the mat"]
    bare = plain.tokenize(text)[0]
    bos = sets.tokenizer.bos_token_id
    assert sets.tokenize(text) == [[bos, *bare]]
    assert plain.beginning(True).tokenize(text) == [[bos, *bare]]
    assert sets.beginning(False).tokenize(text) == [bare]
    assert plain.beginning(False) is plain
    assert sets.beginning(True) is sets
    assert sets.beginning(None) is sets
    assert plain.beginning(True).name != plain.name
    for model in (plain.beginning(True), sets):
        rows = list(read(model, Corpus([text[0] * 9], context=8), Site(1)))
        assert all((tokens.ids[:, 0] == bos).all() for tokens in rows)


@pytest.mark.parametrize("begins", [True, False])
def test_answers_and_spans_follow_the_beginning(begins):
    """Scores and marks are those of a tokenizer that does the same by itself."""
    plain, sets = unset(), small_models.model("gpt2")
    ours, same = (plain.beginning(True), sets) if begins else (sets.beginning(False), plain)
    prompts, options = ["the cat sat", "and then the dog"], [" on the mat", " ran"]
    torch.testing.assert_close(ours.score(prompts, options), same.score(prompts, options))
    assert ours.generate(prompts, 4) == same.generate(prompts, 4)
    needed = {Span("cat"): [0]}
    assert spans.find(ours, prompts, needed) == spans.find(same, prompts, needed)


def test_special_tokens_and_positions_are_left_out():
    model = small_models.model("gpt2")
    texts = ["the cat </s> sat on the mat", "and then the dog sat there"]
    end = model.tokenizer.eos_token_id

    def positions(**metadata):
        read_so = reading(metadata)
        return [
            (int(d), int(p))
            for tokens in read(model, Corpus(texts, context=16), Site(1), read_so)
            for d, p in zip(tokens.document, tokens.position, strict=True)
        ]

    ids = model.tokenize(texts)
    everything = [(d, p) for d, row in enumerate(ids) for p in range(1, len(row))]
    assert sorted(positions()) == everything
    assert end in ids[0]
    without = [(d, p) for d, p in everything if ids[d][p] != end]
    assert sorted(positions(exclude_special_tokens=True)) == without
    assert sorted(positions(exclude_special_tokens=[end])) == without
    kept = [(d, p) for d, p in everything if 2 <= p < 6]
    assert sorted(positions(seqpos_slice=[2, -10], context_size=16)) == kept


def test_a_model_without_a_start_token_refuses():
    model = unset()
    model.tokenizer.bos_token = model.tokenizer.eos_token = None
    with pytest.raises(Incompatible, match="neither BOS nor end token"):
        model.beginning(True)


def test_makers_figures_are_read_where_they_stand(tmp_path):
    save_sae(made("topk"), tmp_path)
    assert of_folder(tmp_path, {}, F) == Claims()
    density = torch.rand(F)
    save_sae(made("topk"), tmp_path, density)
    assert of_folder(tmp_path, {}, F).l0 == pytest.approx(float(density.sum()), rel=1e-4)
    evaluation = {"metrics": {"sparsity": {"l0": 60}, "quality": {"explained_variance": 0.8}}}
    (tmp_path / "eval_results.json").write_text(json.dumps(evaluation))
    assert load_sae(tmp_path).claims == Claims(l0=60.0, fvu=1 - 0.8)
    (tmp_path / "eval_results.json").write_text("{")
    assert of_folder(tmp_path, {"l0": 12, "fvu": 0.3}, F) == Claims(l0=12.0, fvu=0.3)


def test_doubts_name_both_figures():
    assert doubts(Claims(), l0=5, fvu=0.9) == ""
    assert doubts(Claims(l0=20, fvu=0.2), l0=31, fvu=0.35) == ""
    assert "worse than its mean would (FVU 1.31)" in doubts(Claims(), l0=5, fvu=1.31)
    told = doubts(Claims(l0=60, fvu=0.2), l0=410, fvu=0.7)
    assert "FVU is 0.7" in told
    assert "410 features fire on a token, its makers state 60" in told


@pytest.mark.parametrize(
    ("metadata", "fvu"),
    [
        ({"explained_variance": 0.8}, 1 - 0.8),
        ({"explained_variance": 0.0}, 1.0),
        ({"explained_variance": 85.0}, None),
        ({"fvu": 0.0, "explained_variance": 0.5}, 0.0),
        ({}, None),
    ],
)
def test_explained_variance_states_the_unexplained_rest(metadata, fvu):
    assert of_metadata(metadata).fvu == fvu
