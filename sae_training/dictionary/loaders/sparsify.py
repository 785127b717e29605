"""SAEs of EleutherAI's sparsify: `cfg.json` and `sae.safetensors`, a folder a hookpoint.

1. `sparsify:FOLDER` is the folder of one hookpoint, `sparsify:hub:ORG/NAME/HOOKPOINT` that of a
   hub repository, such as `sparsify:hub:EleutherAI/sae-pythia-70m-32k/layers.3`. A folder of
   hookpoints is answered with their names.
2. The folder's name is the hookpoint: a module path within the model, whose output was read, so
   `layers.3` is the residual after layer 3. A name that means another place is refused; a name
   that means none leaves the layer to whoever adopts.
3. All are TopK: the encoder reads the residual less `b_dec`, and the k largest activations stay.
4. `config.json` of the training beside the hookpoints says model, revision and context.

Left out: transcoders, skip connections, signed activations and GroupMax, refused by name; state of
optimisers, which is never opened.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from feature_store.errors import BadInput, Incompatible, NotFound, WorkbenchError, nearest
from feature_store.files import SETTINGS, listed, on_line, read_json, shown
from feature_store.registry import register
from sae_training.dictionary.claims import of_folder
from sae_training.dictionary.configuration import Configuration
from sae_training.dictionary.foreign import Counterpart, Hub, Tensors, place, require_memory
from sae_training.dictionary.loaders.folder import build, describe, read_tensors
from sae_training.dictionary.reading import flag, text, whole
from sae_training.dictionary.sae import SAE
from sae_training.model import sites

CONFIG, WEIGHTS, TRAINING = "cfg.json", "sae.safetensors", "config.json"
HOOKPOINT = re.compile(r"\.[0-9]+\b|embed")
"""What a folder's name holds where it is a hookpoint."""
REFUSED = {
    "transcode": "a transcoder: it writes another place than it reads",
    "skip_connection": "a transcoder with a skip connection",
    "signed": "an SAE whose activations may be negative",
}
"""Field of the configuration -> what an SAE is where it is true."""


class _Files(NamedTuple):
    """The files of one hookpoint."""

    config: Path
    """`cfg.json`."""
    weights: Path
    """`sae.safetensors`."""
    training: Path | None
    """`config.json` of the training, where it is there."""
    hookpoint: str
    """Name of the folder."""


@register("loaders", "sparsify")
def load(address: str) -> SAE:
    """Load the SAE of one hookpoint: `FOLDER` or `hub:ORG/NAME/HOOKPOINT`."""
    where = on_line(f"sparsify:{address}", 300)
    files = _files(address, where)
    config = understand(read_json(files.config, SETTINGS), where, _metadata(files, where))
    shape = (config.n_features, config.d_model)
    tensors = Tensors(
        {
            "W_enc": Counterpart("encoder.weight", shape, turned=True),
            "W_dec": Counterpart("W_dec", shape),
            "b_enc": Counterpart("encoder.bias", shape[:1]),
            "b_dec": Counterpart("b_dec", shape[1:]),
        }
    )
    tensors.check(describe(files.weights), where)
    require_memory(config, where)
    claims = of_folder(files.config.parent, {}, config.n_features)
    return build(config, tensors.named(read_tensors(files.weights)), where, claims)


def understand(content: Any, where: str, metadata: dict[str, Any]) -> Configuration:
    """Read sparsify's `cfg.json`.

    Raises BadInput for a missing or wrong field, Incompatible for what is not a TopK SAE.
    """
    if not isinstance(content, dict) or "d_in" not in content:
        raise BadInput(
            f"{where}: sparsify's {CONFIG} is an object with d_in and k, got {shown(content)}."
        )
    for field, meaning in REFUSED.items():
        if flag(content, field, False):
            raise Incompatible(
                f"{where} is {meaning} ({field} is true). The workbench reads SAEs that rebuild"
                " what they read from activations of at least 0."
            )
    activation = text(content, "activation") or "topk"
    if activation != "topk":
        raise Incompatible(
            f"{where} has the activation function {shown(activation)}; the workbench reads topk,"
            " which keeps the k largest of all."
        )
    width = whole(content, "d_in", 1)
    features = content.get("num_latents") or 0
    if features:
        features = whole(content, "num_latents", 1)
    else:
        features = width * whole(content, "expansion_factor", 1)
    return Configuration(
        architecture="topk",
        d_model=width,
        n_features=features,
        k=whole(content, "k", 1),
        metadata=metadata,
    )


def _files(address: str, where: str) -> _Files:
    """Find or fetch the files of a hookpoint. Raises NotFound or BadInput where there is none."""
    source = place(address)
    if isinstance(source, Hub):
        if not source.path:
            raise BadInput(_choose(where, source.folders_with(WEIGHTS)))
        try:
            config = source.file(CONFIG)
        except NotFound as error:
            close = _close(source.path, source.folders_with(WEIGHTS))
            raise NotFound(f"{error}{close}") from error
        training = Hub(source.repository, "").optional(TRAINING)
        return _Files(
            config=config,
            weights=source.file(WEIGHTS),
            training=training,
            hookpoint=Path(source.path).name,
        )
    if not source.is_dir():
        beside = source.parent
        folders = _hookpoints(beside) if beside.is_dir() else []
        raise NotFound(
            f"There is no folder {where.removeprefix('sparsify:')}."
            f"{_close(source.name, folders) or f' Give one with {CONFIG} and {WEIGHTS}.'}"
        )
    if not (source / CONFIG).exists() and (folders := _hookpoints(source)):
        raise BadInput(_choose(where, folders))
    if missing := [name for name in (CONFIG, WEIGHTS) if not (source / name).exists()]:
        raise BadInput(
            f"{where} is no SAE of sparsify: it lacks {listed(missing)}. It has"
            f" {listed(sorted(file.name for file in source.iterdir())[:6])}."
        )
    training = source.resolve().parent / TRAINING
    return _Files(
        config=source / CONFIG,
        weights=source / WEIGHTS,
        training=training if training.is_file() else None,
        hookpoint=source.resolve().name,
    )


def _hookpoints(folder: Path) -> list[str]:
    """List the folders within a folder that hold an SAE."""
    return sorted(file.parent.name for file in folder.glob(f"*/{WEIGHTS}"))


def _close(name: str, names: list[str]) -> str:
    """Name the nearest hookpoint; empty where none is known."""
    return nearest(name, names) if names else ""


def _choose(where: str, names: list[str]) -> str:
    """Say that one of several hookpoints is to be named."""
    example = on_line(names[0]) if names else "layers.3"
    choice = f"Name one of {listed(names)}" if names else "Name the hookpoint"
    return f"{where} holds an SAE a hookpoint. {choice}, as in {where}/{example}."


def _metadata(files: _Files, where: str) -> dict[str, Any]:
    """Collect what hookpoint and training say of the activations.

    Raises BadInput where the hookpoint is not on the residual stream.
    """
    metadata: dict[str, Any] = {}
    if HOOKPOINT.search(files.hookpoint):
        sites.parse(files.hookpoint)  # refused here by what it means, before weights are read
        metadata["hook_name"] = files.hookpoint
    if files.training is None:
        return metadata
    try:
        training = read_json(files.training, SETTINGS)
    except WorkbenchError:  # it is beside the SAE, and may be of anything else
        return metadata
    if not isinstance(training, dict):
        return metadata
    if model := text(training, "model"):
        metadata["model_name"] = model
    if training.get("ctx_len") is not None:
        metadata["context_size"] = whole(training, "ctx_len", 2)
    if revision := text(training, "revision"):
        metadata["model_from_pretrained_kwargs"] = {"revision": revision}
    return metadata
