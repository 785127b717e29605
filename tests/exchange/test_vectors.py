"""Steering vectors for other programs: what each would add is what the study adds."""

import json
import stat

import gguf
import pytest
import torch
from safetensors import safe_open

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.records import Steering
from sae_training.dictionary.loaders import load_sae
from workbench.command.cli import main
from workbench.steering.apply import edit_for, steer
from workbench.workspace import site_of

PROMPT = "i locked the door twice ."
FORMATS = ("safetensors", "gguf", "lm-eval")


def added_by_study(study, steering):
    """The vector that the study's own edit adds [residual units]."""
    return edit_for(study, study.runs.latest("sae"), [steering]).vectors[0]


def logits_of(model, vector, module):
    """The logits where a program adds a vector to a module's output, but at the first token."""

    def hook(_, __, output):
        hidden = output[0] if isinstance(output, tuple) else output
        moved = hidden + vector
        moved[:, :1] = hidden[:, :1]
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    handle = module.register_forward_hook(hook)
    try:
        return model.module(torch.tensor(model.tokenize([PROMPT]))).logits
    finally:
        handle.remove()


def steered_logits(study, steering):
    with steer(study, study.runs.latest("sae"), steering) as model:
        ids = torch.tensor(model.tokenize([PROMPT]))
        return model.logits(ids, torch.ones_like(ids, dtype=torch.bool))


def test_a_plain_file_says_all_that_it_needs(complete, tmp_path):
    steering = Steering(features=((3, 1.0), (9, -2.0)), strength=0.3, combine="sum")
    out = complete.export(
        "safetensors", tmp_path / "v.safetensors", features=("3", "9:-2"), strength=0.3
    )
    with safe_open(out, framework="pt") as opened:
        assert list(opened.keys()) == ["steering_vector"]
        vector, said = opened.get_tensor("steering_vector"), opened.metadata()
    assert torch.equal(vector, added_by_study(complete, steering))
    sae_run = complete.runs.latest("sae")
    site = site_of(sae_run)
    assert (said["unit"], said["method"]) == ("residual units", "add")
    assert (int(said["layer"]), said["point"]) == (site.layer, site.point)
    assert said["site"] == f"blocks.{site.layer}.hook_{site.point}"
    assert (said["model"], said["sae"]) == ("organism", sae_run.id)
    assert complete.model("organism").revision == said["revision"] != ""
    assert (float(said["strength"]), said["strength_unit"]) == (0.3, "norm_share")
    assert json.loads(said["features"]) == [[3, 1.0], [9, -2.0]]
    assert stat.S_IMODE(out.stat().st_mode) & 0o444 == 0o444, "others may read it"


def test_several_features_are_the_sum_of_single_ones(complete):
    scale = {"strength": 0.3, "combine": "sum"}
    both = added_by_study(complete, Steering(features=((3, 1.0), (9, -2.0)), **scale))
    first = added_by_study(complete, Steering(features=((3, 1.0),), strength=0.3))
    second = added_by_study(complete, Steering(features=((9, 1.0),), strength=-0.6))
    torch.testing.assert_close(both, first + second)


def test_a_control_vector_is_added_where_the_study_steers(complete, tmp_path):
    """llama.cpp adds `direction.N` to what leaves its 0-based layer N."""
    out = complete.export("gguf", tmp_path / "v.gguf", value="power", strength=0.5)
    reader = gguf.GGUFReader(out)
    architecture = reader.get_field("general.architecture").contents()
    assert architecture == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "llama"
    assert reader.get_field("controlvector.layer_count").contents() == 1
    assert reader.get_field("values_workbench.unit").contents() == "residual units"
    (tensor,) = reader.tensors
    name, _, layer = tensor.name.partition(".")
    assert name == "direction"
    assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
    vector = torch.tensor(tensor.data)
    steering = Steering(features=((3, 1.0),), strength=0.5)
    assert torch.equal(vector, added_by_study(complete, steering))
    model = complete.model("organism")
    elsewhere = logits_of(model, vector, model.layers[int(layer) - 1])
    there = logits_of(model, vector, model.layers[int(layer)])
    expected = steered_logits(complete, steering)
    torch.testing.assert_close(there, expected, atol=1e-4, rtol=1e-4)
    assert (elsewhere - expected).abs().max() > 1e-2, "another layer does something else"


def test_a_value_that_its_feature_rejects_is_turned(complete, tmp_path):
    out = complete.export("gguf", tmp_path / "v.gguf", value="security", strength=0.5)
    (tensor,) = gguf.GGUFReader(out).tensors
    turned = added_by_study(complete, Steering(features=((5, -1.0),), strength=0.5))
    assert torch.equal(torch.tensor(tensor.data), turned)


def at(study, layer, point):
    """The study as if its SAE read another place."""
    run = study.runs.latest("sae")
    file = study.runs.folder / run.id / "run.json"
    content = json.loads(file.read_text())
    content["summary"] |= {"layer": layer, "point": point}
    file.chmod(0o600)
    file.write_text(json.dumps(content))
    changed = type(study)(study.folder)
    changed._models = study._models
    return changed


@pytest.mark.parametrize(
    ("layer", "point", "direction"),
    [(1, "resid_post", 1), (2, "resid_pre", 1), (3, "resid_pre", 2)],
)
def test_how_layers_are_numbered(copied, tmp_path, layer, point, direction):
    study = at(copied, layer, point)
    out = study.export("gguf", tmp_path / "v.gguf", features=("3",), strength=0.5)
    assert [tensor.name for tensor in gguf.GGUFReader(out).tensors] == [f"direction.{direction}"]


@pytest.mark.parametrize(
    ("layer", "point"), [(0, "resid_post"), (1, "resid_pre"), (0, "resid_pre")]
)
def test_a_place_that_llama_cpp_does_not_reach_is_refused(copied, tmp_path, layer, point):
    study = at(copied, layer, point)
    with pytest.raises(Incompatible, match="what leaves layer 1"):
        study.export("gguf", tmp_path / "v.gguf", features=("3",), strength=0.5)
    assert not (tmp_path / "v.gguf").exists()


def test_the_harness_adds_it_where_the_study_steers(complete, tmp_path):
    with pytest.warns(UserWarning, match=r"steering\.csv is not written"):
        out = complete.export("lm-eval", tmp_path / "lm", features=("3", "9:-1"), strength=0.5)
    assert sorted(file.name for file in out.iterdir()) == ["steering.pt"]
    content = torch.load(out / "steering.pt", weights_only=True)
    ((hookpoint, entry),) = content.items()
    assert (entry["action"], entry["steering_coefficient"]) == ("add", 1.0)
    assert entry["bias"] is entry["head_index"] is None
    steering = Steering(features=((3, 1.0), (9, -1.0)), strength=0.5, combine="sum")
    model = complete.model("organism")
    modules = dict(model.module.base_model.named_modules())
    logits = logits_of(model, entry["steering_vector"], modules[hookpoint])
    torch.testing.assert_close(logits, steered_logits(complete, steering), atol=1e-4, rtol=1e-4)


def test_the_table_of_the_harness_means_the_same_vector(copied, tmp_path, monkeypatch):
    sae = load_sae(copied.runs.folder / copied.runs.latest("sae").id / "sae")
    sae.metadata.update({"release": "org-res", "sae_id": "layer_1/canonical"})
    monkeypatch.setattr(type(copied), "sae", lambda *_: sae)
    out = copied.export("lm-eval", tmp_path / "lm", value="security", strength=0.5)
    header, row = (out / "steering.csv").read_text().splitlines()
    assert header == (
        "loader,action,sparse_model,hookpoint,feature_index,steering_coefficient,head_index,"
        "sae_id,description"
    )
    fields = dict(zip(header.split(","), row.split(","), strict=True))
    assert (fields["loader"], fields["action"], fields["feature_index"]) == ("sae_lens", "add", "5")
    assert (fields["sparse_model"], fields["sae_id"]) == ("org-res", "layer_1/canonical")
    assert fields["hookpoint"] == f"layers.{copied.runs.latest('sae').summary['layer']}"
    vector = torch.load(out / "steering.pt", weights_only=True)[fields["hookpoint"]]
    by_table = float(fields["steering_coefficient"]) * sae.W_dec[5]
    torch.testing.assert_close(by_table, vector["steering_vector"])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "needs one of --features, --value and --direction"),
        ({"features": ("3",)}, "a --strength other than 0"),
        ({"features": ("3",), "value": "power", "strength": 1}, "got --features, --value at 1"),
        ({"features": ("99",), "strength": 1}, "features 0 to 63, got feature 99"),
        ({"features": ("x",), "strength": 1}, "index or index:weight"),
        ({"features": ("3",), "strength": 1, "name": "a/1-b"}, "does not read --name"),
    ],
)
def test_what_makes_no_vector_is_refused(complete, tmp_path, format, given, line):
    with pytest.raises(BadInput, match=line):
        complete.export(format, tmp_path / "out", **given)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_answered_with_the_nearest(complete, tmp_path):
    with pytest.raises(NotFound, match="Did you mean 'gguf'"):
        complete.export("ggfu", tmp_path / "out", features=("3",), strength=1)
    with pytest.raises(NotFound, match="Did you mean 'power'"):
        complete.export("gguf", tmp_path / "out", value="powr", strength=1)
    with pytest.raises(NotFound, match="No feature of"):
        complete.export("gguf", tmp_path / "out", value="hedonism", strength=1)


def test_what_is_there_is_not_overwritten(complete, tmp_path):
    (tmp_path / "v.gguf").write_text("mine")
    with pytest.raises(BadInput, match="exists already"):
        complete.export("gguf", tmp_path / "v.gguf", features=("3",), strength=1)
    assert (tmp_path / "v.gguf").read_text() == "mine"


def test_the_command_line_writes_one(complete, tmp_path, capsys):
    words = ["export", complete.folder, "--format", "safetensors", "--out", tmp_path / "v"]
    assert main([*map(str, words), "--features", "3,9:-1", "--strength", "0.2"]) == 0
    assert capsys.readouterr().out.startswith(str(tmp_path / "v"))
    assert main([*map(str, words), "--features", "3", "--strength", "0.2"]) == 2
    assert "exists already" in capsys.readouterr().err
