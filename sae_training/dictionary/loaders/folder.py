"""sae-lens' folder: `cfg.json`, `sae_weights.safetensors`, `sparsity.safetensors`.

1. Reading checks the configuration (`configuration.py`), then names, shapes and number formats of
   the tensors by the header of their file, then whether they fit into memory, and reads them; `SAE`
   checks that they are finite. Weights are kept in float32 whatever the file holds.
2. Whether a file is safetensors is decided by the library that reads it. Nothing is ever
   unpickled: only where the library refuses a file, its first bytes say whether it is a pickle.
3. What is folded into the weights, so that features stay the same: the decoder's norm of a TopK SAE
   that ranks by it, and the factors that fine-tuning put on each decoder row.
4. Writing goes to new files that replace the old ones when they are complete.
5. `sparsity` is log10 of each feature's density, as sae-lens writes it. The metadata name its
   version: without one sae-lens takes the folder for an older layout and forgets them.

Left out: training checkpoints of sae-lens (they hold other tensors) and formats of other projects.
"""

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.files import SETTINGS, on_line, parse_json, read_json, replacing, shown
from feature_store.registry import register
from sae_training.dictionary import memory
from sae_training.dictionary.claims import Claims, of_folder
from sae_training.dictionary.configuration import Configuration, understand
from sae_training.dictionary.sae import SAE

CONFIG, WEIGHTS, SPARSITY = "cfg.json", "sae_weights.safetensors", "sparsity.safetensors"
PICKLES = (".pt", ".pth", ".pkl", ".bin", ".ckpt", ".npz")
SPARSITY_FLOOR = 1e-10
"""Added to a density before its logarithm, as sae-lens does."""
FORMATS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}
"""Number format of a tensor -> its name in safetensors."""
FLOATS = tuple(FORMATS.values())
"""Number formats of weights, as safetensors names them."""
OTHERS = {
    "sae.safetensors": "an SAE of sparsify; its address is sparsify:",
    "ae.pt": "an SAE of dictionary_learning; its address is dictionary-learning:",
}
"""File of another project's folder -> what it is, and how its address begins."""
FACTORS = ("scaling_factor", "finetuning_scaling_factor")
"""Names of the factor on each decoder row that fine-tuning left, in older files."""
MOST_TENSORS = 64
"""No SAE has more tensors."""


class Described(NamedTuple):
    """A tensor as the header of its file describes it."""

    shape: tuple[int, ...]
    """Its size along each axis."""
    format: str
    """Number format, as safetensors names it: `F32`, ..."""


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
    names = sorted(file.name for file in folder.iterdir())
    for name in OTHERS.keys() & names if WEIGHTS not in names else ():
        raise BadInput(f"{address} is {OTHERS[name]}{address}. Give that address.")
    if CONFIG not in names or WEIGHTS not in names:
        pickled = [name for name in names if Path(name).suffix in PICKLES]
        why = f"it has {on_line(', '.join(names[:6]), 200) if names else 'nothing'}"
        if pickled:
            why = f"it has {on_line(pickled[0])}, a pickle, which is never opened"
        raise BadInput(
            f"{address} is no SAE: expected {CONFIG} and {WEIGHTS}, {why}. Save it with sae-lens 6."
        )
    where = shown(folder, 300)
    config = understand(read_json(folder / CONFIG, SETTINGS), where)
    described = describe(folder / WEIGHTS)
    check(config, described, where)
    size = sum(4 * torch.Size(tensor.shape).numel() for tensor in described.values())
    memory.require(
        2 * size,
        f"{where}, an SAE of {config.n_features} features of width {config.d_model},",
        "Adopt it on a machine with more, or take a narrower SAE.",
    )
    claims = of_folder(folder, config.metadata, config.n_features)
    return build(config, read_tensors(folder / WEIGHTS), where, claims)


def describe(file: Path) -> dict[str, Described]:
    """Read the header of a safetensors file. Raises BadInput for a file that is none."""
    name = shown(file, 300)
    try:
        status = file.stat()
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror}. Copy it again.") from None
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{name} is no regular file, weights are read of one. Copy them there.")
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {key: opened.get_slice(key) for key in list(opened.keys())[: MOST_TENSORS + 1]}
            described = {
                key: Described(tuple(part.get_shape()), str(part.get_dtype()))
                for key, part in slices.items()
            }
    except (SafetensorError, ValueError, OSError) as error:
        raise _unreadable(file, error) from None
    if len(described) > MOST_TENSORS:
        raise BadInput(
            f"{name} holds more than {MOST_TENSORS} tensors, an SAE has a handful. Take the weights"
            " of an SAE."
        )
    _check_header(file)
    return described


def _check_header(file: Path) -> None:
    """Raise BadInput where the header names a tensor twice: the library takes the last of them."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(min(length, SETTINGS))
    try:
        if length > SETTINGS:
            raise BadInput(f"it has {length} bytes, an SAE's has some hundred.")
        parse_json(header.decode())
    except (BadInput, UnicodeDecodeError) as error:
        raise BadInput(
            f"The header of {shown(file, 300)} is not one to trust: {shown(error, 200)} Save the"
            " SAE again."
        ) from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Raises BadInput with one line for a truncated, foreign or pickled file.
    """
    try:
        return load_file(file)
    except (SafetensorError, ValueError, OSError) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> BadInput:
    """Say why a file is not readable as safetensors."""
    head = b""
    with contextlib.suppress(OSError), file.open("rb") as opened:
        head = opened.read(2)
    # The zip archive around a pickle, or protocol 2 to 5 of one.
    if head == b"PK" or (head[:1] == b"\x80" and head[1:] in (b"\2", b"\3", b"\4", b"\5")):
        return BadInput(
            f"{shown(file, 300)} is a pickle under the name of safetensors; it is never opened."
            " Convert it with sae-lens."
        )
    return BadInput(
        f"{shown(file, 300)} is not readable as safetensors ({shown(error, 200)}): truncated or"
        " foreign. Copy it again."
    )


def shapes_of(config: Configuration) -> dict[str, tuple[int, ...]]:
    """Name the tensors that an SAE has, with their shapes."""
    width, features = config.d_model, config.n_features
    biases = {"jumprelu": ("b_enc", "threshold"), "gated": ("b_gate", "b_mag", "r_mag")}
    shapes = {"W_enc": (width, features), "W_dec": (features, width), "b_dec": (width,)}
    return shapes | dict.fromkeys(biases.get(config.architecture, ("b_enc",)), (features,))


def check(config: Configuration, described: Mapping[str, Described], where: str) -> None:
    """Check the tensors of an SAE against its configuration.

    Raises BadInput where tensors lack, Incompatible where one has another shape or is not known.
    """
    shapes = shapes_of(config)
    if missing := sorted(set(shapes) - set(described)):
        raise BadInput(
            f"{where} lacks {', '.join(missing)}: a {config.architecture} SAE has"
            f" {', '.join(shapes)}. It has {shown(sorted(described)[:6], 200)}."
        )
    if strange := sorted(set(described) - set(shapes) - set(FACTORS)):
        raise Incompatible(
            f"{where} has {shown(strange[:6], 200)}, which a {config.architecture} SAE has not:"
            " they would be passed over. Needed is an SAE of a known kind, saved by sae-lens 6."
        )
    shapes |= dict.fromkeys(FACTORS, (config.n_features,))
    for name, tensor in described.items():
        if tensor.shape != shapes[name]:
            raise Incompatible(
                f"{where}: {name} should be {shapes[name]} by its configuration, it is"
                f" {shown(tensor.shape)}."
            )
        if tensor.format not in FLOATS:
            raise Incompatible(
                f"{where}: {name} holds {shown(tensor.format)}; weights are"
                f" {', '.join(FLOATS)}. Save them again in float32."
            )


def build(config: Configuration, weights: Mapping[str, Tensor], where: str, claims: Claims) -> SAE:
    """Make the SAE of a configuration and its tensors; `where` is what errors call it.

    Raises Incompatible for an SAE that the workbench cannot run, BadInput where it is damaged.
    """
    tensors = {name: tensor.detach().float() for name, tensor in weights.items()}
    factors = [tensors.pop(name) for name in FACTORS if name in tensors]
    tensors["W_dec"] = _finetuned(tensors["W_dec"], factors, config.finetuned, where)
    if config.rescale:
        norm = tensors["W_dec"].norm(dim=1).clamp(min=1e-8)
        tensors |= {
            "W_enc": tensors["W_enc"] * norm,
            "b_enc": tensors["b_enc"] * norm,
            "W_dec": tensors["W_dec"] / norm[:, None],
        }
    if config.architecture == "gated":
        tensors["b_enc"] = tensors.pop("b_gate")
    return SAE(
        **tensors,
        architecture=config.architecture,
        k=config.k,
        apply_b_dec_to_input=config.apply_b_dec_to_input,
        normalize_activations=config.normalize_activations,
        metadata=config.metadata,
        claims=claims,
    )


def _finetuned(
    decoder: Float[Tensor, "feat d_model"],
    factors: list[Tensor],
    finetuned: bool,
    where: str,
) -> Float[Tensor, "feat d_model"]:
    """Scale decoder rows by the factors that fine-tuning left; older files hold ones without it.

    Activations were multiplied by them before decoding, so a row may carry its factor instead.
    """
    if not factors and finetuned:
        raise BadInput(
            f"{where}: cfg.json says finetuning_scaling_factor, and the weights hold no"
            f" {FACTORS[0]}. Take a complete SAE."
        )
    for factor in factors:
        if not finetuned and not torch.equal(factor, torch.ones_like(factor)):
            raise Incompatible(
                f"{where} holds factors of a fine-tuning, and cfg.json says that there was none"
                " (finetuning_scaling_factor). Needed is a file that says whether they count."
            )
        decoder = decoder * factor[:, None]
    return decoder


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
