"""Models by short name and by GGUF file: what opens is what was packed, and what is torn, foreign
or not there is refused in one line."""

import dataclasses
import errno
import hashlib
import zipfile

import gguf
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from transformers import LlamaConfig, LlamaForCausalLM

from feature_store.errors import BadInput, Incompatible, NotFound, WorkbenchError
from feature_store.progress import silent
from sae_training.engine.opening import open_model
from sae_training.model import catalogue, fetching
from workbench.command.cli import main

WORDS = ["<s>", "</s>", *[chr(code) for code in range(97, 123)], "\u0120", "ab", "he", "th"]
MERGES = ["a b", "h e", "t h"]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}


def module():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        **SIZES,
    )
    return LlamaForCausalLM(config).eval()


def permuted(weight, heads):
    """Rows as llama.cpp keeps them: the halves of each head interleaved."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def pack(file, family="llama"):
    """Write a tiny model as a GGUF file, by the reference writer."""
    model = module()
    config, state = model.config, {k: v.numpy() for k, v in model.state_dict().items()}
    writer = gguf.GGUFWriter(file, family)
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3] + [1] * (len(WORDS) - 2))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output.weight", state["lm_head.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    names = {
        "attn_q": ("self_attn.q_proj", 4),
        "attn_k": ("self_attn.k_proj", 2),
        "attn_v": ("self_attn.v_proj", 0),
        "attn_output": ("self_attn.o_proj", 0),
        "ffn_gate": ("mlp.gate_proj", 0),
        "ffn_up": ("mlp.up_proj", 0),
        "ffn_down": ("mlp.down_proj", 0),
        "attn_norm": ("input_layernorm", 0),
        "ffn_norm": ("post_attention_layernorm", 0),
    }
    for layer in range(config.num_hidden_layers):
        for name, (theirs, heads) in names.items():
            weight = state[f"model.layers.{layer}.{theirs}.weight"]
            weight = permuted(weight, heads) if heads else weight
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture
def packed(tmp_path):
    return pack(tmp_path / "tiny.gguf")


def test_a_gguf_file_opens_as_the_model_that_was_packed(packed):
    model = open_model(packed, device="cpu")
    ids = torch.tensor([[0, 2, 5, 8]])
    with torch.no_grad():
        expected = module()(input_ids=ids).logits
        torch.testing.assert_close(model.module(input_ids=ids).logits, expected)
    assert model.tokenizer.decode([30, 2]) == "hea"
    assert not hasattr(model.module.config, "quantization_config")
    assert open_model(packed, device="cpu").revision == model.revision
    assert model.revision == hashlib.sha256(packed.read_bytes()).hexdigest()[:40]


def test_another_revision_of_a_gguf_file_is_refused(packed):
    with pytest.raises(Incompatible, match="the file has changed"):
        open_model(packed, revision="0" * 40, device="cpu")


def test_a_family_that_is_not_read_is_named(tmp_path):
    file = pack(tmp_path / "tiny.gguf", "rwkv7")
    with pytest.raises(Incompatible, match="'rwkv7' model, which transformers does not read"):
        open_model(file, device="cpu")


@pytest.mark.parametrize("share", [0.001, 0.2, 0.7, 0.99])
def test_a_torn_gguf_file_is_refused_in_one_line(packed, share):
    whole = packed.read_bytes()
    packed.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WorkbenchError) as caught:
        open_model(packed, device="cpu")
    assert "GGUF" in str(caught.value)
    assert str(caught.value).isprintable()


# Short names


@pytest.fixture
def tiny(tmp_path, monkeypatch, packed):
    """A catalogue of one tiny model, its wheel laid where a download would be."""
    monkeypatch.setenv(catalogue.VARIABLE, str(tmp_path / "cache"))
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(packed, "tiny/tiny.gguf")
    model = dataclasses.replace(
        catalogue.known()["smollm2"],
        name="tiny",
        package="no-such-package-of-ours",
        version="1.0",
        wheel_bytes=wheel.stat().st_size,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny/tiny.gguf",
        member_sha256=hashlib.sha256(packed.read_bytes()).hexdigest(),
        folder_bytes=100_000,
    )
    monkeypatch.setattr(catalogue, "known", lambda: {"tiny": model})
    model.folder.with_name("tiny.part").mkdir(parents=True)
    return model, wheel.rename(model.folder.with_name("tiny.part") / wheel.name)


def test_a_fetched_model_is_a_plain_folder_of_the_same_model(tiny, packed):
    model, wheel = tiny
    folder = fetching.fetch(model, silent)
    assert (folder / "model.safetensors").exists()
    assert not wheel.parent.exists()
    by_name, by_file = open_model("tiny", device="cpu"), open_model(packed, device="cpu")
    assert by_name.score(["abba"], ["he", "t"]).equal(by_file.score(["abba"], ["he", "t"]))
    revision = by_name.revision
    assert fetching.fetch(model, silent) == folder
    assert open_model("tiny", device="cpu").revision == revision


def test_the_revision_does_not_follow_the_place(tiny, tmp_path, monkeypatch):
    model, _ = tiny
    fetching.fetch(model, silent)
    revision = open_model("tiny", device="cpu").revision
    moved = tmp_path / "elsewhere"
    (tmp_path / "cache").rename(moved)
    monkeypatch.setenv(catalogue.VARIABLE, str(moved))
    assert open_model("tiny", device="cpu").revision == revision


def test_a_name_that_was_not_fetched_says_how(tiny):
    with pytest.raises(NotFound, match="tiny is not here yet. Fetch it: `workbench fetch tiny`"):
        open_model("tiny", device="cpu")


def test_another_wheel_is_removed_and_refused(tiny):
    model, wheel = tiny
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(BadInput, match="is another file than tiny is made of"):
        fetching.fetch(model, silent)
    assert not wheel.exists()
    assert not model.is_fetched


def test_another_model_in_the_wheel_is_refused(tiny):
    model, _ = tiny
    other = dataclasses.replace(model, member_sha256="0" * 64)
    with pytest.raises(BadInput, match="is not the file that it should be"):
        fetching.fetch(other, silent)


def test_a_fetch_that_was_killed_goes_on(tiny, monkeypatch):
    model, wheel = tiny

    def killed(file, made):
        made.mkdir()
        (made / "config.json").write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_from_gguf", killed)
        with pytest.raises(KeyboardInterrupt):
            fetching.fetch(model, silent)
    assert not model.is_fetched
    assert wheel.exists()
    assert (fetching.fetch(model, silent) / "model.safetensors").exists()


def test_a_disk_without_room_is_said_before_anything_is_fetched(tiny, monkeypatch):
    usage = fetching.shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(WorkbenchError, match="are free. Make room, or name another folder"):
        fetching.fetch(tiny[0], silent)


def test_a_wheel_that_was_not_whole_is_said_to_be(tiny):
    model, wheel = tiny
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:-5])
    with pytest.raises(BadInput, match=f"it had {len(whole) - 5:,} of {len(whole):,} bytes"):
        fetching.fetch(model, silent)
    assert not wheel.exists()


@pytest.mark.parametrize("step", ["_take_out", "_from_gguf"])
def test_a_disk_that_fills_up_keeps_what_is_whole(tiny, monkeypatch, step):
    model, wheel = tiny
    full = OSError(errno.ENOSPC, "No space left on device")
    if step == "_from_gguf":
        full = SafetensorError("Error while serializing: No space left on device (os error 28)")

    def fails(*given):
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(fetching, step, fails)
        with pytest.raises(WorkbenchError, match="cannot be written.*No space left.*fetch it"):
            fetching.fetch(model, silent)
    assert wheel.exists()
    assert not model.is_fetched
    assert (fetching.fetch(model, silent) / "model.safetensors").exists()


def test_a_cache_that_is_no_folder_is_one_line(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv(catalogue.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(WorkbenchError, match="Not a directory.*WORKBENCH_CACHE"):
        fetching.fetch(tiny[0], silent)


def test_no_index_is_one_line(tiny, monkeypatch):
    model, wheel = tiny
    wheel.unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotFound, match="could not be downloaded.*or lay its wheel into"):
        fetching.fetch(model, silent)


def test_an_archive_that_leads_elsewhere_is_refused(tmp_path):
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../evil", "x")
    with pytest.raises(BadInput, match="outside its folder"):
        fetching._unpack(file, tmp_path / "made")


def test_the_command_lists_and_fetches(tiny, capsys):
    assert main(["fetch"]) == 0
    assert "tiny" in capsys.readouterr().out
    assert main(["fetch", "tiny"]) == 0
    assert "to download" in capsys.readouterr().out
    assert main(["fetch", "tony"]) == 2
    assert "Did you mean" in capsys.readouterr().err
