"""SAEs of the project dictionary_learning: `ae.pt` and `config.json`, a folder a trainer.

1. `dictionary-learning:FOLDER` is the folder of one trainer,
   `dictionary-learning:hub:ORG/NAME/PATH` that of a hub repository. A folder of trainers is
   answered with their names.
2. `ae.pt` is read by `torch.load(weights_only=True)`, which builds tensors and runs no code of the
   file; it is mapped, and its names and shapes are checked before a weight is used.
3. `dict_class` of the configuration says what the SAE computes (`KINDS`): every trainer that makes
   an SAE (standard, p-anneal, gated, TopK, BatchTopK, Matryoshka BatchTopK, JumpReLU) saves one of
   them. Features are those that the project's own `load_dictionary` gives: decoder rows of
   `AutoEncoder` at length 1, a batch's top k by their threshold.
4. `submodule_name`, `layer` and `buffer.io` say the place. Where only a number is said, the layer
   is left to whoever adopts: an MLP's SAE says no more.

Left out: crosscoders, transcoders and identities, refused by name; a backup in the middle of a
training.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.files import SETTINGS, listed, on_line, read_json, regular, shown
from feature_store.registry import register
from sae_training.dictionary.claims import of_folder
from sae_training.dictionary.configuration import Configuration
from sae_training.dictionary.foreign import Counterpart, Hub, Tensors, place, require_memory
from sae_training.dictionary.loaders.folder import FORMATS, Described, build
from sae_training.dictionary.reading import flag, text, whole
from sae_training.dictionary.sae import SAE
from sae_training.model import sites

WEIGHTS, CONFIG = "ae.pt", "config.json"
RESIDUAL = re.compile(r"(?:^|[._])resid(?:ual)?_?(post|out|pre|in)(?:$|[._]|layer)")
"""How a name says that it is the residual after a layer, or before it."""
BEFORE = ("pre", "in")
ELSEWHERE = {"mlp": "a part of an MLP", "attn": "a part of attention", "embed": "an embedding"}
"""Part of a name -> the place that it means."""


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What an SAE of one class computes, and how it keeps its tensors."""

    architecture: str
    """`standard`, `topk`, `jumprelu` or `gated`."""
    names: Mapping[str, str]
    """Name of ours -> its name there; `.T` behind it: turned."""
    beside: tuple[str, ...] = ()
    """Tensors that a file may hold besides."""
    subtracts: bool = True
    """Whether the decoder's bias is taken off what is encoded."""
    unit_rows: bool = False
    """Whether the project's loader brings decoder rows to length 1."""


LINEAR = {"W_enc": "encoder.weight.T", "b_enc": "encoder.bias", "W_dec": "decoder.weight.T"}
PARAMETERS = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
GATED = {
    "W_enc": "encoder.weight.T",
    "W_dec": "decoder.weight.T",
    "b_dec": "decoder_bias",
    "b_gate": "gate_bias",
    "b_mag": "mag_bias",
    "r_mag": "r_mag",
}
BATCH = ("k", "threshold")
KINDS: Mapping[str, _Kind] = {
    "AutoEncoder": _Kind(architecture="standard", names=LINEAR | {"b_dec": "bias"}, unit_rows=True),
    "AutoEncoderNew": _Kind(
        architecture="standard", names=LINEAR | {"b_dec": "decoder.bias"}, subtracts=False
    ),
    "GatedAutoEncoder": _Kind(architecture="gated", names=GATED),
    "AutoEncoderTopK": _Kind(architecture="topk", names=LINEAR | {"b_dec": "b_dec"}, beside=BATCH),
    "BatchTopKSAE": _Kind(architecture="jumprelu", names=LINEAR | {"b_dec": "b_dec"}, beside=BATCH),
    "MatryoshkaBatchTopKSAE": _Kind(
        architecture="jumprelu", names=PARAMETERS, beside=(*BATCH, "group_sizes")
    ),
    "JumpReluAutoEncoder": _Kind(
        architecture="jumprelu",
        names=PARAMETERS | {"threshold": "threshold"},
        subtracts=False,
    ),
}
"""`dict_class` -> what it computes."""


@register("loaders", "dictionary-learning")
def load(address: str) -> SAE:
    """Load the SAE of one trainer: `FOLDER` or `hub:ORG/NAME/PATH`."""
    where = on_line(f"dictionary-learning:{address}", 300)
    weights_file, config_file = _files(address, where)
    content = read_json(config_file, SETTINGS)
    kind, config = understand(content, where)
    state = _state(weights_file, where)
    tensors = Tensors(_kept(kind, config), kind.beside)
    described = {
        name: Described(tuple(tensor.shape), FORMATS.get(tensor.dtype, str(tensor.dtype)))
        for name, tensor in state.items()
    }
    tensors.check(described, where)
    require_memory(config, where)
    weights = tensors.named(state)
    _check_k(config, state, where)
    if kind.architecture == "jumprelu" and "threshold" not in weights:
        weights["threshold"] = _threshold(state, config, where)
    if kind.unit_rows:
        weights = _with_unit_rows(weights)
    claims = of_folder(config_file.parent, {}, config.n_features)
    return build(config, weights, where, claims)


def understand(content: Any, where: str) -> tuple[_Kind, Configuration]:
    """Read dictionary_learning's `config.json`.

    Raises BadInput for a missing or wrong field, Incompatible for what is not an SAE of a known
    class, or reads another place than the residual stream.
    """
    trainer = content.get("trainer") if isinstance(content, dict) else None
    if not isinstance(trainer, dict):
        raise BadInput(
            f"{where}: {CONFIG} of dictionary_learning is an object with trainer, got"
            f" {shown(content)}."
        )
    name = text(trainer, "dict_class")
    if name not in KINDS:
        raise Incompatible(
            f"{where} is a {shown(name)}, trained by {shown(text(trainer, 'trainer_class'))}. The"
            f" workbench reads the SAEs of dictionary_learning: {', '.join(KINDS)}."
        )
    kind = KINDS[name]
    buffer = content.get("buffer")
    config = Configuration(
        architecture=kind.architecture,
        d_model=whole(trainer, "activation_dim", 1),
        n_features=whole(trainer, "dict_size", 1),
        k=whole(trainer, "k", 1) if kind.architecture == "topk" else 0,
        apply_b_dec_to_input=kind.subtracts,
        metadata=_metadata(trainer, buffer if isinstance(buffer, dict) else {}, where),
    )
    return kind, config


def _metadata(trainer: dict[str, Any], buffer: dict[str, Any], where: str) -> dict[str, Any]:
    """Collect what the configuration says of the activations, under sae-lens' names."""
    metadata: dict[str, Any] = {"hook_name": _hook(trainer, buffer, where)}
    if model := text(trainer, "lm_name"):
        metadata["model_name"] = model
    if buffer.get("ctx_len") is not None:
        metadata["context_size"] = whole(buffer, "ctx_len", 2)
    if flag(buffer, "add_special_tokens", None) is False:
        metadata["prepend_bos"] = False
    if flag(buffer, "remove_bos", False):
        # The first token of a text was left out, whether or not it was one.
        metadata["seqpos_slice"] = [1, None]
    return metadata


def _hook(trainer: dict[str, Any], buffer: dict[str, Any], where: str) -> str:
    """Say where the SAE reads, as sae-lens names it; empty where that is not said.

    Raises Incompatible for another place than the residual stream, BadInput where two fields
    contradict each other.
    """
    name, flow = text(trainer, "submodule_name"), text(buffer, "io")
    if flow == "in_and_out":
        raise Incompatible(
            f"{where} reads what enters a module and writes what leaves it: a transcoder. The"
            " workbench reads SAEs that rebuild what they read."
        )
    meaning = [place for part, place in ELSEWHERE.items() if part in name.lower()]
    if meaning:
        raise Incompatible(
            f"{where} reads {shown(name)}: {meaning[0]}. The workbench reads the residual stream."
        )
    layer = -1 if trainer.get("layer") is None else whole(trainer, "layer", 0)
    residual = RESIDUAL.search(name.lower())
    if residual is None:
        return _module(name, layer, flow, where)
    numbers = {int(number) for number in re.findall("[0-9]+", name)}
    if layer < 0 and len(numbers) == 1:
        layer = numbers.pop()
    elif numbers and layer not in numbers:
        raise BadInput(
            f"{where} contradicts itself: submodule_name is {shown(name)}, layer is {layer}. Take a"
            " configuration that says one thing."
        )
    point = "resid_pre" if residual[1] in BEFORE else "resid_post"
    return f"blocks.{layer}.hook_{point}" if layer >= 0 else ""


def _module(name: str, layer: int, flow: str, where: str) -> str:
    """Say where an SAE reads whose place is a module's path; empty where it is no path."""
    if not re.search(r"\.[0-9]", name):
        return ""
    site = sites.parse(name)
    if layer not in (-1, site.layer):
        raise BadInput(
            f"{where} contradicts itself: submodule_name is {shown(name)}, layer is {layer}. Take a"
            " configuration that says one thing."
        )
    return f"blocks.{site.layer}.hook_{'resid_pre' if flow == 'in' else site.point}"


def _files(address: str, where: str) -> tuple[Path, Path]:
    """Find or fetch weights and configuration. Raises NotFound or BadInput where there are none."""
    source = place(address)
    if isinstance(source, Hub):
        try:
            return source.file(WEIGHTS), source.file(CONFIG)
        except NotFound as error:
            folders = source.folders_with(WEIGHTS)
            known = f" It has {listed(folders)}." if folders else ""
            raise NotFound(f"{error}{known}") from error
    if not source.is_dir():
        raise NotFound(
            f"There is no folder {on_line(address, 300)}. Give one with {WEIGHTS} and {CONFIG}."
        )
    missing = [name for name in (WEIGHTS, CONFIG) if not (source / name).exists()]
    if not missing:
        return source / WEIGHTS, source / CONFIG
    trainers = sorted(
        os.path.relpath(file.parent, source)
        for pattern in (f"*/{WEIGHTS}", f"*/*/{WEIGHTS}")
        for file in source.glob(pattern)
    )
    if trainers:
        raise BadInput(
            f"{where} holds several SAEs. Name one of {listed(trainers)}, as in"
            f" {where}/{on_line(trainers[0])}."
        )
    raise BadInput(
        f"{where} is no SAE of dictionary_learning: it lacks {listed(missing)}. It has"
        f" {listed(sorted(file.name for file in source.iterdir())[:6])}."
    )


def _state(file: Path, where: str) -> dict[str, Tensor]:
    """Map the tensors of `ae.pt`. Raises BadInput for what is not a file of tensors alone."""
    with regular(file):  # what torch is given is a file, no pipe and no device
        try:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # whatever torch's reader of a stranger's file raises
            reason = on_line(" ".join(str(error).split()), 160)
            raise BadInput(
                f"{where}: {WEIGHTS} is not a file of tensors that torch saved, and nothing else is"
                f" opened ({reason}). Copy it again, or save the state dict with torch.save."
            ) from None
    if isinstance(state, dict) and "ae" in state and "optimizer" in state:
        raise BadInput(
            f"{where}: {WEIGHTS} is a backup in the middle of a training. Finish the training, or"
            " save the state dict under `ae` alone."
        )
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise BadInput(f"{where}: {WEIGHTS} holds no tensors by name. Take the weights of an SAE.")
    return dict(state)


def _kept(kind: _Kind, config: Configuration) -> dict[str, Counterpart]:
    """Say where each tensor of ours is kept, and in what shape."""
    width, features = config.d_model, config.n_features
    ours = {"W_enc": (width, features), "W_dec": (features, width), "b_dec": (width,)}
    kept = {}
    for name, theirs in kind.names.items():
        shape = ours.get(name, (features,))
        turned = theirs.endswith(".T")
        kept[name] = Counterpart(
            theirs.removesuffix(".T"), shape[::-1] if turned else shape, turned
        )
    return kept


def _check_k(config: Configuration, state: Mapping[str, Tensor], where: str) -> None:
    """Raise BadInput where the weights keep another number of features than the configuration."""
    kept = state.get("k")
    if config.architecture != "topk" or kept is None:
        return
    if kept.numel() != 1 or int(kept) != config.k:
        raise BadInput(
            f"{where} contradicts itself: its configuration keeps k={config.k} features, its"
            f" weights {shown(kept.flatten()[:3].tolist())}. Take both of one training."
        )


def _threshold(state: Mapping[str, Tensor], config: Configuration, where: str) -> Tensor:
    """Give a batch's threshold to each feature. Raises BadInput where the weights hold none."""
    threshold = state.get("threshold")
    if threshold is None or threshold.numel() != 1:
        raise BadInput(
            f"{where} has no threshold, by which single tokens are encoded. Save the SAE again with"
            " a dictionary_learning that estimates it."
        )
    return threshold.float().reshape(1).expand(config.n_features).contiguous()


def _with_unit_rows(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring decoder rows to length 1, and activations to what they then stand for."""
    decoder = weights["W_dec"].float()
    norm = decoder.norm(dim=1)
    norm = torch.where(norm > 0, norm, torch.ones_like(norm))
    return weights | {
        "W_enc": weights["W_enc"].float() * norm,
        "b_enc": weights["b_enc"].float() * norm,
        "W_dec": decoder / norm[:, None],
    }
