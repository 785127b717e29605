"""SAE folders that strangers made, or that were damaged: read, or refused in one line."""

import json
import os
import struct

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from feature_store.errors import BadInput, Incompatible, WorkbenchError
from sae_training.dictionary import memory
from sae_training.dictionary.loaders import load_sae, save_sae
from sae_training.dictionary.sae import SAE
from tests.helpers.hostile import survives

D, F, K = 4, 6, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sound folder; each example writes one of its files anew."""
    place = tmp_path_factory.mktemp("hostile") / "sae"
    g = torch.Generator().manual_seed(0)
    sae = SAE(
        W_enc=torch.randn(D, F, generator=g),
        W_dec=torch.randn(F, D, generator=g),
        b_enc=torch.zeros(F),
        b_dec=torch.zeros(D),
        architecture="topk",
        k=K,
        metadata={"hook_name": "blocks.1.hook_resid_post", "prepend_bos": True},
    )
    save_sae(sae, place)
    return place


def read_and_use(folder):
    """Load, and do what every verb does first: the site, and some activations."""
    sae = load_sae(folder)
    features = sae.encode(torch.randn(3, D))
    assert bool(features.isfinite().all())
    if sae.hook:
        sae.site()
    return sae


FIELDS = [
    *("architecture", "d_in", "d_sae", "k", "dtype", "apply_b_dec_to_input", "activation_fn"),
    *("activation_fn_str", "activation_fn_kwargs", "normalize_activations", "hook_name"),
    *("reshape_activations", "rescale_acts_by_decoder_norm", "finetuning_scaling_factor"),
    *("hook_point", "hook_layer", "hook_head_index", "sae_lens_version", "d_out", "metadata"),
    *("prepend_bos", "model_from_pretrained_kwargs", "context_size", "seqpos_slice"),
    *("exclude_special_tokens", "hook_name_out", "hf_hook_name", "model_name"),
    *("model_revision", "neuronpedia_id"),
]
NAMES = [
    *("topk", "relu", "standard", "gated", "jumprelu", "layer_norm", "none", "float32"),
    *("blocks.1.hook_resid_pre", "blocks.{layer}.hook_z", "model.layers.1", "hook_z", "6.0.0"),
    *("\x1b[31m", "line\nbreak", "\u202e", "9" * 400, "blocks.9999999.hook_resid_post"),
]
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, 1, K, D, F, -1, 10**9, 10**30, 2**63, 10**300]),
        st.integers(),
        st.floats(),
        st.sampled_from(NAMES),
        st.text(max_size=12),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=6)), inner, max_size=4),
    ),
    max_leaves=8,
)
CHANGES = st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=4)


def rewritten(folder, changes, inside):
    """cfg.json with some fields changed, at the top or under `metadata`."""
    content = {
        "architecture": "topk",
        "d_in": D,
        "d_sae": F,
        "k": K,
        "metadata": {"hook_name": "blocks.1.hook_resid_post", "sae_lens_version": "6.0.0"},
    }
    if inside:
        content["metadata"] |= changes
    else:
        content |= changes
    (folder / "cfg.json").write_text(json.dumps(content))


@given(changes=CHANGES, inside=st.booleans())
@example(changes={"k": "many"}, inside=False)
@example(changes={"k": [1]}, inside=False)
@example(changes={"k": None}, inside=False)
@example(changes={"k": float("nan")}, inside=False)
@example(changes={"metadata": 5}, inside=False)
@example(changes={"metadata": "text"}, inside=False)
@example(changes={"hook_name": 12}, inside=True)
@example(changes={"d_in": 10**30, "d_sae": 10**30}, inside=False)
@example(changes={"model_name": "\ud800"}, inside=True)
def test_hostile_configuration_fields(folder, changes, inside):
    rewritten(folder, changes, inside)
    survives(lambda: read_and_use(folder))


@given(content=st.one_of(st.binary(max_size=120), st.text(max_size=60).map(str.encode)))
@example(content=b"[" * 100_000)
@example(content=b'{"d_in":' + b"9" * 5000 + b"}")
@example(content=b'{"d_in":4,"d_in":5,"d_sae":6}')
@example(content=b'{"d_in":4,"d_sae":1e400}')
@example(content=b"")
def test_hostile_configuration_bytes(folder, content):
    (folder / "cfg.json").write_bytes(content)
    survives(lambda: read_and_use(folder))


TENSOR_NAMES = ["W_enc", "W_dec", "b_enc", "b_dec", "threshold", "scaling_factor", "\x1b[31m", ""]
FORMATS = ["F32", "F64", "BF16", "F16", "I64", "U8", "BOOL", "C64", "F4", "F8_E8M0", "X", 3, None]
SIZES = st.sampled_from([0, 1, D, F, D * F, -1, 2**31, 2**62, 2**64, 1.5, "4", None])
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(FORMATS),
        "shape": st.one_of(st.lists(SIZES, max_size=4), VALUES),
        "data_offsets": st.one_of(st.lists(SIZES, min_size=2, max_size=2), VALUES),
    }
)
HEADERS = st.dictionaries(st.sampled_from(TENSOR_NAMES), st.one_of(ENTRIES, VALUES), max_size=6)


def sound_header():
    """Header and tensors of a sound file, as objects."""
    shapes = {"W_enc": [D, F], "W_dec": [F, D], "b_enc": [F], "b_dec": [D]}
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(torch.Size(shape).numel())
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    return header, end


def as_weights(folder, header, body, length=None):
    """A weights file of a header, written as given, and bytes after it."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = struct.pack("<Q", (len(raw) if length is None else length) % 2**64)
    (folder / "sae_weights.safetensors").write_bytes(size + raw + body)


@given(
    header=HEADERS,
    over=st.booleans(),
    body=st.sampled_from([0, 1, 4 * F, 4 * (2 * D * F + D + F)]),
    length=st.one_of(st.none(), st.sampled_from([0, 1, 2**20, 2**40, 2**63, 2**64 - 1])),
)
@example(header=b'{"W_enc":1,"W_enc":2}', over=False, body=0, length=None)
@example(header=b"[" * 100_000, over=False, body=0, length=None)
@example(
    header={"b_enc": {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}},
    over=True,
    body=4 * (2 * D * F + D + F),
    length=None,
)
def test_hostile_safetensors_header(folder, header, over, body, length):
    rewritten(folder, {}, inside=False)
    if over:
        header = sound_header()[0] | header
    as_weights(folder, header, bytes(body), length)
    survives(lambda: read_and_use(folder))


@given(content=st.binary(max_size=200), place=st.integers(0, 400))
@example(content=b"\xff\xff\x7f\x7f" * 50, place=260)
@example(content=b"\xff\xff\x7f\x7f" * 50, place=332)
def test_hostile_safetensors_bytes(folder, content, place):
    """A sound file with some bytes overwritten."""
    rewritten(folder, {}, inside=False)
    header, size = sound_header()
    as_weights(folder, header, bytes(size))
    file = folder / "sae_weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:place] + content + whole[place + len(content) :])
    survives(lambda: read_and_use(folder))


def test_a_name_that_stands_twice_in_the_header_is_refused(folder):
    rewritten(folder, {}, inside=False)
    header, size = sound_header()
    raw = json.dumps(header)
    twice = raw.replace('"b_dec"', '"b_dec":' + json.dumps(header["b_dec"]) + ', "b_dec"')
    as_weights(folder, twice.encode(), bytes(size))
    with pytest.raises(BadInput, match="stands there twice"):
        load_sae(folder)


def test_every_length_of_a_header_is_read(folder):
    """Where its lowest byte is 0x80 the file begins as a pickle does."""
    rewritten(folder, {}, inside=False)
    file = folder / "sae_weights.safetensors"
    header, size = sound_header()
    as_weights(folder, header, bytes(size))
    tensors, first = load_file(file), set()
    for spaces in range(0, 400, 8):
        save_file(tensors, file, metadata={"note": "x" * spaces})
        first.add(file.read_bytes()[0])
        assert load_sae(folder).n_features == F
    assert 0x80 in first


@pytest.mark.parametrize("head", [b"PK\3\4", b"\x80\2}q\0.", b"\x80\4\x95"])
def test_a_pickle_is_still_named(folder, head):
    (folder / "sae_weights.safetensors").write_bytes(head + bytes(100))
    with pytest.raises((SafetensorError, ValueError)):
        load_file(folder / "sae_weights.safetensors")
    with pytest.raises(BadInput, match="a pickle under the name of safetensors"):
        load_sae(folder)


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_pipes_and_devices_are_not_waited_for(folder, tmp_path, name):
    for number, make in enumerate((os.mkfifo, lambda path: path.symlink_to("/dev/zero"))):
        place = tmp_path / str(number)
        place.mkdir()
        rewritten(place, {}, inside=False)
        header, size = sound_header()
        as_weights(place, header, bytes(size))
        (place / name).unlink()
        make(place / name)
        with pytest.raises(BadInput, match="pipe|device|no regular file"):
            load_sae(place)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_numbers_with_a_point_are_refused(folder, dtype):
    rewritten(folder, {}, inside=False)
    shapes = {"W_enc": (D, F), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    tensors["b_enc"] = tensors["b_enc"].to(dtype)
    save_file(tensors, folder / "sae_weights.safetensors")
    with pytest.raises(Incompatible, match="b_enc holds"):
        load_sae(folder)


def test_a_number_too_large_for_float32_is_refused(folder):
    rewritten(folder, {}, inside=False)
    shapes = {"W_enc": (D, F), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
    tensors = {
        name: torch.full(shape, 1e300, dtype=torch.float64) for name, shape in shapes.items()
    }
    save_file(tensors, folder / "sae_weights.safetensors")
    with pytest.raises(BadInput, match="NaN or infinite"):
        load_sae(folder)


def test_what_does_not_fit_into_memory_is_said_before(folder, monkeypatch):
    rewritten(folder, {}, inside=False)
    header, size = sound_header()
    as_weights(folder, header, bytes(size))
    monkeypatch.setattr(memory, "available", lambda device="cpu": 100)
    with pytest.raises(BadInput, match=r"an SAE of 6 features .* GB of memory, .* are free"):
        load_sae(folder)


def test_damaged_directions_are_refused(tmp_path):
    from workbench.steering import directions

    file = tmp_path / "directions.safetensors"
    file.write_bytes(b"\x80" + bytes(40))
    with pytest.raises(BadInput, match="not readable as safetensors"):
        directions._load(file)


def test_memory_is_known_here():
    assert 2**20 < memory.available() < 2**50
    with pytest.raises(WorkbenchError, match=r"takes about 1000000\.0 GB of memory"):
        memory.require(10**15, "Something", "Take less.")
