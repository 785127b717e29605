"""What `cfg.json` says of an SAE, whichever sae-lens wrote it.

1. sae-lens 6 keeps the SAE's own fields at the top and what made its activations under `metadata`.
   Older ones are flat: names of their own (`hook_point`, `activation_fn_str`), the activation
   function beside an architecture `standard`, normalisation as true or false, and defaults that
   are not written down. `understand` turns both into one `Configuration`.
2. Every field has a type and bounds; a wrong one is refused by name, before tensors are read.
3. A field of another kind of SAE (a transcoder's second width, heads as input, an activation
   function that is not known here) is refused by name.

Left out: fields of a training (learning rates, batches), which say nothing of the finished SAE;
they are passed over. `dtype` and `device` are too: weights are kept in float32 wherever they run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feature_store.errors import BadInput, Incompatible
from feature_store.files import shown
from sae_training.dictionary.reading import flag, text, whole

ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")
OLDER_NAMES = {
    "hook_point": "hook_name",
    "hook_point_layer": "hook_layer",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
"""Name of a field before sae-lens 4 -> its name since."""
OF_THE_MODEL = (
    *("model_name", "model_class_name", "model_from_pretrained_kwargs", "hook_name", "hook_layer"),
    *("hook_head_index", "hook_name_out", "hook_head_index_out", "hf_hook_name", "prepend_bos"),
    *("exclude_special_tokens", "neuronpedia_id", "context_size", "seqpos_slice", "dataset_path"),
    *("sae_lens_version", "sae_lens_training_version"),
)
"""Fields that sae-lens 6 keeps under `metadata` and older ones at the top."""
TEXTS = (
    *("model_name", "model_revision", "model_class_name", "hf_hook_name"),
    *("sae_lens_version", "neuronpedia_id"),
)
"""Metadata that are texts where they are there."""
DTYPES = ("float32", "float16", "bfloat16", "float64", "half", "double")
"""Number formats in which weights may be kept, with or without `torch.` before them."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """An SAE's kind and shape, and what its makers say of its activations."""

    architecture: str
    """`standard`, `topk`, `jumprelu` or `gated`."""
    d_model: int
    """Width of what it reads."""
    n_features: int
    """Features of the dictionary."""
    k: int = 0
    """Features active on a token, of `topk` [>= 1]."""
    rescale: bool = False
    """Whether `topk` ranks by activation x decoder norm."""
    apply_b_dec_to_input: bool = True
    """Whether `b_dec` is subtracted before encoding."""
    normalize_activations: str = "none"
    """Per-token scaling of the input."""
    finetuned: bool = False
    """Whether each feature's decoder row is scaled by a factor of its own."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """sae-lens' metadata: model_name, hook_name, prepend_bos, ..."""


def understand(content: Any, where: str) -> Configuration:
    """Read what a `cfg.json` holds; `where` is what errors call the SAE.

    Raises BadInput for a missing or wrong field, Incompatible for another kind of SAE.

        understand({"d_in": 8, "d_sae": 32, "metadata": {}}, "my-sae").architecture  # "standard"
    """
    if not isinstance(content, dict):
        raise BadInput(f"{where}: cfg.json is an object with d_in and d_sae, got {shown(content)}.")
    missing = [name for name in ("d_in", "d_sae") if content.get(name) is None]
    if missing:
        raise BadInput(
            f"{where} is no SAE configuration: {' and '.join(missing)} missing in cfg.json. Save it"
            " with sae-lens 6."
        )
    fields = _renamed(content)
    architecture = _architecture(fields, where)
    _check_kind(fields, where)
    return Configuration(
        architecture=architecture,
        d_model=whole(fields, "d_in", 1),
        n_features=whole(fields, "d_sae", 1),
        k=_k(fields) if architecture == "topk" else 0,
        rescale=bool(flag(fields, "rescale_acts_by_decoder_norm", False)),
        apply_b_dec_to_input=bool(flag(fields, "apply_b_dec_to_input", True)),
        normalize_activations=_normalisation(fields),
        finetuned=bool(flag(fields, "finetuning_scaling_factor", False)),
        metadata=_metadata(fields),
    )


def _renamed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Call the fields of an older file by their later names. Raises BadInput where two differ."""
    fields = dict(content)
    for older, name in OLDER_NAMES.items():
        if older not in fields:
            continue
        value = fields.pop(older)
        if fields.get(name, value) != value:
            raise BadInput(
                f"The SAE's cfg.json contradicts itself: {older} is {shown(value)}, {name} is"
                f" {shown(fields[name])}. Take a file that says one thing."
            )
        fields[name] = value
    return fields


def _is_older(fields: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Say whether the file is flat, as before sae-lens 6."""
    version = fields.get("sae_lens_version") or metadata.get("sae_lens_version") or ""
    major = re.match(r"[0-9]{1,6}", version if isinstance(version, str) else "")
    return "metadata" not in fields if major is None else int(major[0]) < 6


def _metadata(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what is said of the model and the activations, wherever it stands.

    Raises BadInput where a field stands at both places and differs.
    """
    metadata = fields.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise BadInput(f"The SAE's cfg.json: metadata is an object, got {shown(metadata)}.")
    metadata = _renamed(metadata or {})
    for name in OF_THE_MODEL:
        if name not in fields:
            continue
        if metadata.get(name, fields[name]) != fields[name]:
            raise BadInput(
                f"The SAE's cfg.json contradicts itself: {name} is {shown(fields[name])}, in its"
                f" metadata {shown(metadata[name])}. Take a file that says one thing."
            )
        metadata[name] = fields[name]
    if _is_older(fields, metadata):
        # What sae-lens before 6 did where nothing was said.
        metadata.setdefault("prepend_bos", True)
    hook, layer = text(metadata, "hook_name"), metadata.get("hook_layer")
    if "{layer}" in hook:
        metadata["hook_name"] = hook.replace("{layer}", str(whole(metadata, "hook_layer", 0)))
    elif (
        hook
        and layer is not None
        and str(whole(metadata, "hook_layer", 0)) not in re.findall("[0-9]+", hook)
    ):
        raise BadInput(
            f"The SAE's cfg.json contradicts itself: hook_name is {shown(hook)}, hook_layer is"
            f" {layer}. Take a file that says one thing."
        )
    for name in TEXTS:
        text(metadata, name)
    return metadata


def _architecture(fields: Mapping[str, Any], where: str) -> str:
    """Find the architecture; of a flat file from its activation function too."""
    architecture = text(fields, "architecture") or "standard"
    if architecture not in ARCHITECTURES:
        raise Incompatible(
            f"{where} is a {shown(architecture)} SAE; the workbench reads"
            f" {', '.join(ARCHITECTURES)}."
        )
    function = text(fields, "activation_fn") or "relu"
    if function == "topk" and architecture in ("standard", "topk"):
        return "topk"
    if function != "relu":
        raise Incompatible(
            f"{where} is a {architecture} SAE with the activation function {shown(function)}; the"
            " workbench reads relu, and topk with architecture standard or topk."
        )
    return architecture


def _k(fields: Mapping[str, Any]) -> int:
    """Look up how many features a TopK SAE keeps."""
    arguments = fields.get("activation_fn_kwargs")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise BadInput(
            f"The SAE's cfg.json: activation_fn_kwargs is an object, got {shown(arguments)}."
        )
    for name, value in arguments.items():
        if name not in ("k", "use_sparse_activations") and value not in (None, False):
            raise Incompatible(
                f"The SAE's TopK has the argument {shown(name)} = {shown(value)}, which the"
                " workbench does not know. Needed is one that keeps the k largest by ReLU."
            )
    k = arguments.get("k")
    if k is not None and fields.get("k", k) != k:
        raise BadInput(
            f"The SAE's cfg.json contradicts itself: k is {shown(fields['k'])}, in"
            f" activation_fn_kwargs {shown(k)}. Take a file that says one thing."
        )
    return whole(fields if k is None else arguments, "k", 1)


def _normalisation(fields: Mapping[str, Any]) -> str:
    """Look up how inputs are scaled; older files say true for an average that is not kept."""
    value = fields.get("normalize_activations")
    if isinstance(value, bool):
        return "expected_average_only_in" if value else "none"
    return text(fields, "normalize_activations") or "none"


def _check_kind(fields: Mapping[str, Any], where: str) -> None:
    """Raise Incompatible for an SAE that reads or writes something else than one residual."""
    reshaped = text(fields, "reshape_activations") or "none"
    if reshaped != "none":
        raise Incompatible(
            f"{where} reads attention heads ({shown(reshaped)}); the workbench reads the residual"
            " stream."
        )
    output = fields.get("d_out")
    if output is not None and output != fields["d_in"]:
        raise Incompatible(
            f"{where} reads {shown(fields['d_in'])} numbers and writes {shown(output)}: a"
            " transcoder. The workbench reads SAEs that rebuild what they read."
        )
    dtype = text(fields, "dtype").removeprefix("torch.")
    if dtype and dtype not in DTYPES:
        raise Incompatible(
            f"{where} has weights of the number format {shown(dtype)}; the workbench reads"
            f" {', '.join(DTYPES[:4])}."
        )
