"""What is no model, or half of one, is refused in one line when it is opened or used.

A stranger's folder may lack its tokenizer, hold another program's weights, a pipe, or a
configuration that asks for anything at all.
"""

import json
import os

import hypothesis
import pytest
import torch
from hypothesis import strategies

from feature_store.errors import BadInput, WorkbenchError
from feature_store.records import Site, Steering
from sae_training.engine.losses import losses
from sae_training.engine.model import Model
from sae_training.engine.opening import open_model
from sae_training.model.edits import Add
from tests.helpers import small_models
from tests.helpers.hostile import survives
from workbench.steering.methods import StrengthScale, build_edit


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "llama"
    small_models.module("llama").save_pretrained(folder)
    small_models.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A folder of its own, whose files are links to those of the model."""
    made = tmp_path / "model"
    made.mkdir()
    for file in whole.iterdir():
        (made / file.name).symlink_to(file)
    return made


def refusal(address):
    with pytest.raises(WorkbenchError) as caught:
        open_model(address, device="cpu")
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("family", ["gpt2", "llama", "bloom", "qwen3", "gemma3"])
def test_a_folder_without_a_tokenizer_says_so(family, tmp_path):
    small_models.module(family).save_pretrained(tmp_path)
    assert "has no tokenizer: expected tokenizer.json" in refusal(tmp_path)


def test_a_tokenizer_that_cannot_be_read_is_named(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").write_text('{"model": 3}')
    assert "The tokenizer of" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "part", "value"),
    [
        ("tokenizer_config.json", "model_max_length", []),
        # The library panics: its error is no Exception.
        (
            "tokenizer.json",
            "post_processor",
            {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "<s>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {},
            },
        ),
    ],
)
def test_a_tokenizer_that_fails_in_use_is_refused_at_once(folder, name, part, value):
    content = json.loads((folder / name).read_text()) | {part: value}
    (folder / name).unlink()
    (folder / name).write_text(json.dumps(content))
    assert "The tokenizer of" in refusal(folder)


def test_gguf_is_named(folder, tmp_path):
    alone = tmp_path / "model-q4.gguf"
    alone.write_bytes(b"GGUF\x03\x00\x00\x00")
    assert "is no whole GGUF file" in refusal(alone)
    for address in ("model-q4.gguf", "org/model-q4.GGUF"):
        assert "There is no file" in refusal(address)
    (folder / "model.safetensors").unlink()
    alone.rename(folder / alone.name)
    assert "has its weights as GGUF ('model-q4.gguf')" in refusal(folder)
    assert "is a file; a model is a folder" in refusal(folder / "tokenizer.json")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "a.jinja"])
def test_a_pipe_in_a_folder_is_not_waited_for(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert "a pipe" in refusal(folder)


CONFIGS = {
    "nested": "[" * 100_000 + "]" * 100_000,
    "nested object": '{"a": ' * 100_000 + "1" + "}" * 100_000,
    "a list": "[]",
    "a text": '"llama"',
    "nothing": "",
    "bytes": "\x00\x01",
    "a huge number": '{"model_type": "llama", "vocab_size": ' + "9" * 5000 + "}",
    "layers without end": '{"model_type": "llama", "num_hidden_layers": 1000000000}',
    "layers in words": '{"model_type": "llama", "num_hidden_layers": "four"}',
    "no family": '{"model_type": "no-such-family"}',
    "a family that is no name": '{"model_type": ["llama"]}',
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_that_is_none_is_refused(folder, config):
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(config)
    refusal(folder)


VALUES = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers(-5, 70)
    | strategies.integers()
    | strategies.floats()
    | strategies.text(max_size=8),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def opened(whole, folder, name, content):
    """Open a copy of the model whose file `name` holds something else, and let it write."""
    for file in whole.iterdir():
        if file.name != name:
            (folder / file.name).symlink_to(file)
    (folder / name).write_text(json.dumps(content))

    def read():
        open_model(folder, device="cpu").generate(["the cat"], 2)
        return True

    return survives(read)


def changed(data, content, names):
    """Some parts of a file changed to anything."""
    drawn = data.draw(strategies.dictionaries(names, VALUES, min_size=1, max_size=4))
    return content | drawn


@hypothesis.given(data=strategies.data())
def test_hostile_configurations_are_read_or_refused(whole, tmp_path_factory, data):
    config = json.loads((whole / "config.json").read_text())
    names = strategies.sampled_from(sorted(config)) | strategies.text(max_size=12)
    folder = tmp_path_factory.mktemp("hostile")
    opened(whole, folder, "config.json", changed(data, config, names))


@hypothesis.given(data=strategies.data())
def test_hostile_tokenizers_are_read_or_refused(whole, tmp_path_factory, data):
    name = data.draw(strategies.sampled_from(["tokenizer.json", "tokenizer_config.json"]))
    content = json.loads((whole / name).read_text())
    part = data.draw(
        strategies.sampled_from([None, *(k for k, v in content.items() if isinstance(v, dict))])
    )
    inner = content if part is None else content[part]
    inner = changed(data, inner, strategies.sampled_from(sorted(inner)))
    opened(
        whole,
        tmp_path_factory.mktemp("hostile"),
        name,
        inner if part is None else content | {part: inner},
    )


def test_float16_that_overflows_is_named_where_nothing_is_steered():
    module = small_models.module("llama").half()
    with torch.no_grad():
        module.model.layers[1].mlp.down_proj.weight.fill_(60000)
    model = Model(module, small_models.tokenizer(), "tiny")
    ids = model.tokenize(["the cat sat on the mat"])
    edit = Add(torch.ones(1, model.d_model), ("all",))
    for call in (
        lambda: model.generate(["the cat"], 3),
        lambda: losses(model, ids, edit, Site(0)),
    ):
        with pytest.raises(BadInput, match=r"float16 ends at 65504.*bfloat16 or float32"):
            call()


@pytest.mark.parametrize("method", ["clamp", "ablate", "add", "orthogonal"])
@pytest.mark.parametrize("unit", ["raw", "norm_share", "feature_max"])
def test_a_feature_that_writes_nothing_is_refused(method, unit):
    sae = small_models.TinySAE()
    sae.W_dec = sae.W_dec.clone()
    sae.W_dec[5] = 0
    steering = Steering(
        features=((5, 1.0),), method=method, strength=1.0, unit=unit, positions="all"
    )
    with pytest.raises(BadInput, match=r"length 0"):
        build_edit([steering], sae, StrengthScale(5.0, torch.ones(40)))
