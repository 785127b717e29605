"""sae-lens 6's folder: `cfg.json`, `sae_weights.safetensors`, `sparsity.safetensors`.

1. Reading checks the configuration, then the names and shapes of the tensors, then (in `SAE`) that
   they are finite. Weights are kept in float32 whatever the file holds. Nothing is ever unpickled:
   a pickle is refused by name.
2. Writing goes to new files that replace the old ones when they are complete.
3. `sparsity` is log10 of each feature's density, as sae-lens writes it. The metadata name its
   version: without one sae-lens takes the folder for an older layout and forgets them.

Left out: training checkpoints of sae-lens (they hold other tensors) and formats of other projects.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.files import replacing
from feature_store.registry import register
from sae_training.dictionary.sae import ARCHITECTURES, SAE

CONFIG, WEIGHTS, SPARSITY = "cfg.json", "sae_weights.safetensors", "sparsity.safetensors"
PICKLES = (".pt", ".pth", ".pkl", ".bin", ".ckpt", ".npz")
SPARSITY_FLOOR = 1e-10
"""Added to a density before its logarithm, as sae-lens does."""


@register("loaders", "folder")
def load(address: str) -> SAE:
    """Read a folder in sae-lens' format."""
    folder = Path(os.path.expanduser(address))
    if not folder.exists():
        raise NotFound(f"There is no SAE at {address}. Give a folder with {CONFIG} and {WEIGHTS}.")
    if not folder.is_dir():
        what = (
            "a pickle or archive, which is never opened" if folder.suffix in PICKLES else "a file"
        )
        raise BadInput(
            f"{address} is {what}; an SAE is a folder with {CONFIG} and {WEIGHTS}. Convert it with"
            " sae-lens."
        )
    if not (folder / CONFIG).exists() or not (folder / WEIGHTS).exists():
        names = sorted(file.name for file in folder.iterdir())[:6]
        pickled = [name for name in names if Path(name).suffix in PICKLES]
        why = f"it has {', '.join(names) or 'nothing'}"
        if pickled:
            why = f"it has {pickled[0]}, a pickle, which is never opened"
        raise BadInput(
            f"{address} is no SAE: expected {CONFIG} and {WEIGHTS}, {why}. Save it with sae-lens 6."
        )
    return build(read_config(folder / CONFIG), read_tensors(folder / WEIGHTS), str(folder))


def read_config(file: Path) -> dict[str, Any]:
    """Read the configuration, and check for what every sae-lens 6 folder has."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise BadInput(f"{file} is not JSON. Take an undamaged copy of the SAE.") from None
    missing = [
        name for name in ("d_in", "d_sae") if not isinstance(config, dict) or name not in config
    ]
    if missing:
        raise BadInput(
            f"{file} is no SAE configuration: {' and '.join(missing)} missing. Save it with"
            " sae-lens 6."
        )
    return config


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Raises BadInput with one line for a truncated, foreign or pickled file.
    """
    with file.open("rb") as opened:
        head = opened.read(2)
    if head[:1] == b"\x80" or head == b"PK":
        raise BadInput(
            f"{file} is a pickle under the name of safetensors; it is never opened. Convert it with"
            " sae-lens."
        )
    try:
        return load_file(file)
    except (SafetensorError, ValueError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise BadInput(
            f"{file} is not readable as safetensors ({reason}): truncated or foreign. Copy it"
            " again."
        ) from None


def build(config: dict[str, Any], weights: dict[str, Tensor], where: str) -> SAE:
    """Make the SAE of a sae-lens configuration and its tensors; `where` is what errors call it.

    Raises Incompatible for an SAE that the workbench cannot run, BadInput where tensors lack.
    """
    architecture = config.get("architecture", "standard")
    if architecture not in ARCHITECTURES:
        raise Incompatible(
            f"{where} is a {architecture!r} SAE; the workbench reads {', '.join(ARCHITECTURES)}."
        )
    if config.get("reshape_activations", "none") != "none":
        raise Incompatible(
            f"{where} reads attention heads ({config['reshape_activations']}); the workbench reads"
            " the residual stream."
        )
    d_model, features = config["d_in"], config["d_sae"]
    shapes = {"W_enc": (d_model, features), "W_dec": (features, d_model), "b_dec": (d_model,)}
    biases = {"jumprelu": ("b_enc", "threshold"), "gated": ("b_gate", "b_mag", "r_mag")}.get(
        architecture, ("b_enc",)
    )
    shapes |= dict.fromkeys(biases, (features,))
    if missing := sorted(set(shapes) - set(weights)):
        raise BadInput(
            f"{where} lacks {', '.join(missing)}: a {architecture} SAE has {', '.join(shapes)}. It"
            f" has {', '.join(sorted(weights)[:6])}."
        )
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            raise Incompatible(
                f"{where}: {name} should be {shape} by its configuration, it is"
                f" {tuple(weights[name].shape)}."
            )
    tensors = {name: weights[name].detach().float() for name in shapes}
    if architecture == "topk" and config.get("rescale_acts_by_decoder_norm"):
        norm = tensors["W_dec"].norm(dim=1).clamp(min=1e-8)
        tensors |= {
            "W_enc": tensors["W_enc"] * norm,
            "b_enc": tensors["b_enc"] * norm,
            "W_dec": tensors["W_dec"] / norm[:, None],
        }
    if architecture == "gated":
        tensors["b_enc"] = tensors.pop("b_gate")
    return SAE(
        **tensors,
        architecture=architecture,
        k=int(config.get("k", 0)) if architecture == "topk" else 0,
        apply_b_dec_to_input=bool(config.get("apply_b_dec_to_input", True)),
        normalize_activations=config.get("normalize_activations") or "none",
        metadata=dict(config.get("metadata") or {}),
    )


def save_sae(sae: SAE, folder: Path, density: Float[Tensor, " feat"] | None = None) -> None:
    """Write the folder that `sae_lens.SAE.load_from_disk` reads.

    `density` is the share of tokens on which each feature is active [0 to 1].

        save_sae(sae, Path("my-sae"))
    """
    config = {
        "architecture": sae.architecture,
        "d_in": sae.d_model,
        "d_sae": sae.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalize_activations,
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": version("sae-lens")} | sae.metadata,
    }
    if sae.architecture == "topk":
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sae.tensors().items()}
    if sae.architecture == "gated":
        tensors["b_gate"] = tensors.pop("b_enc")
    folder.mkdir(parents=True, exist_ok=True)
    # Not flushed: a run that is not finished is made again.
    with replacing(folder / CONFIG, flush=False) as beside:
        beside.write_bytes(json.dumps(config, indent=1).encode())
    with replacing(folder / WEIGHTS, flush=False) as beside:
        save_file(tensors, beside)
    if density is not None:
        sparsity = torch.log10(density.detach().cpu().float() + SPARSITY_FLOOR)
        with replacing(folder / SPARSITY, flush=False) as beside:
            save_file({"sparsity": sparsity}, beside)
