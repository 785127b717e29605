"""How an SAE's makers read their model, as far as it decides the activations.

An SAE's `cfg.json` says more than its shapes: whether texts began with a BOS token, how the
model's weights were changed when it was loaded, which tokens were left out. Another reading gives
other features without a word, so each of these fields is followed here, or refused with what would
be needed:

1. `prepend_bos`: the model reads every text and prompt with, or without, its BOS token first
   (`Runtime.beginning`).
2. `center_writing_weights`: everything that a layer adds to the residual loses its mean over the
   width, so the residual of the changed model is the plain one less its own mean. That is exact
   where every norm subtracts the mean itself (LayerNorm), so that layers read the same; other
   models are left as they are by TransformerLens, and such an SAE is refused for them.
3. `fold_ln`, `fold_value_biases`, `center_unembed`, `refactor_factored_attn_matrices` move weights
   about between two places of the residual: what stands in the stream stays the same.
4. `exclude_special_tokens`, `seqpos_slice`: tokens that were not trained on are not read.
5. `context_size`: texts are read in pieces of that length at most.
6. `revision`: the commit of the model that was read; `adopt` asks for that one.
7. A single head, a second hook that is written to (a transcoder) or an argument that is not known
   here is refused by name.

Left out: `dtype` of the model (the number format is the study's own setting, and float32 is the
more exact one), `device` and whatever else says only where and how fast.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feature_store.errors import BadInput, Incompatible
from feature_store.files import shown

ANY_LENGTH = 10**9
"""Longest context that is no slip [tokens]."""
UNCHANGED = (
    *("fold_ln", "fold_value_biases", "center_unembed", "refactor_factored_attn_matrices"),
    *("device", "device_map", "n_devices", "move_to_device", "dtype", "torch_dtype"),
    *("default_padding_side", "default_prepend_bos", "local_files_only", "token", "cache_dir"),
    *("low_cpu_mem_usage", "trust_remote_code", "attn_implementation", "force_download"),
    *("n_ctx",),
)
"""Arguments of `from_pretrained` that leave the residual stream as it is."""
CENTRED, REVISION = "center_writing_weights", "revision"
ALL = (None,)
"""The bounds of a slice that takes every position."""
ONE_PLACE = ("hook_head_index", "hook_head_index_out")
"""Fields that say that a single attention head is read or written."""


@dataclass(frozen=True)
class ModelReading:
    """What decides the activations that an SAE was made on, besides model and site."""

    prepend_bos: bool | None = None
    """Whether every text begins with the model's BOS token; None: as its tokenizer sets it."""
    centred: bool = False
    """Whether the mean over the width is taken off each residual."""
    special: bool = False
    """Whether the tokenizer's special tokens are left out."""
    left_out: tuple[int, ...] = ()
    """Ids of tokens that are left out."""
    positions: tuple[int | None, ...] = ALL
    """Start, stop and step of the positions of a piece of text that are read [tokens]."""
    context_size: int = ANY_LENGTH
    """Longest piece of text that was read [tokens]."""
    revision: str = ""
    """Commit of the model on the hub; empty: not said."""

    def __str__(self) -> str:
        """Say in words what is followed; empty where nothing is."""
        parts = []
        if self.prepend_bos is not None:
            parts.append(f"texts {'after' if self.prepend_bos else 'without'} a BOS token")
        if self.centred:
            parts.append("residuals less their mean")
        if self.special or self.left_out:
            parts.append("special tokens left out")
        if self.positions != ALL:
            parts.append("some positions left out")
        return ", ".join(parts)


PLAIN = ModelReading()
"""Every text as the tokenizer gives it, every residual as it is."""


def reading(metadata: Mapping[str, Any]) -> ModelReading:
    """Read what an SAE's metadata say of its activations.

    Raises Incompatible for what cannot be followed, BadInput for a field of a wrong type.

        reading({"prepend_bos": True}).prepend_bos  # True
    """
    for name in ONE_PLACE:
        if metadata.get(name) is not None:
            raise Incompatible(
                f"The SAE reads one attention head ({name} {shown(metadata[name])}). Needed is one"
                " that reads the whole residual stream."
            )
    output = metadata.get("hook_name_out")
    if output is not None and output != metadata.get("hook_name"):
        raise Incompatible(
            f"The SAE reads one place and writes another ({shown(output)}): a transcoder. Needed is"
            " one that rebuilds what it reads."
        )
    context = metadata.get("context_size")
    arguments = _arguments(metadata.get("model_from_pretrained_kwargs"))
    return ModelReading(
        prepend_bos=flag(metadata, "prepend_bos", None),
        centred=flag(arguments, CENTRED, False) or False,
        revision=text(arguments, REVISION),
        special=metadata.get("exclude_special_tokens") is True,
        left_out=_left_out(metadata.get("exclude_special_tokens")),
        positions=_positions(metadata.get("seqpos_slice")),
        context_size=ANY_LENGTH if context is None else whole(metadata, "context_size", 2),
    )


def flag(fields: Mapping[str, Any], name: str, default: bool | None) -> bool | None:
    """Look up a field that is true or false; `default` where it is absent or null.

    Raises BadInput where it is neither.
    """
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadInput(f"The SAE's cfg.json: {name} is true or false, got {shown(value)}.")
    return value


def whole(fields: Mapping[str, Any], name: str, least: int) -> int:
    """Look up a field that is a whole number. Raises BadInput where it is none, or too small."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= ANY_LENGTH:
        raise BadInput(
            f"The SAE's cfg.json: {name} is a whole number of at least {least}, got {shown(value)}."
        )
    return value


def text(fields: Mapping[str, Any], name: str) -> str:
    """Look up a field that is a text; empty where it is absent. Raises BadInput where it is not."""
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 1000:
        raise BadInput(f"The SAE's cfg.json: {name} is a text, got {shown(value)}.")
    return value


def _arguments(arguments: Any) -> dict[str, Any]:
    """Check the arguments that the model was loaded with, and give them."""
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise BadInput(
            "The SAE's cfg.json: model_from_pretrained_kwargs is an object, got"
            f" {shown(arguments)}."
        )
    for name, value in arguments.items():
        if name not in (*UNCHANGED, CENTRED, REVISION) and value not in (None, False):
            raise Incompatible(
                f"The SAE was made on a model that was loaded with {shown(name)} = {shown(value)},"
                " which the workbench cannot follow. Needed is an SAE of the plain model."
            )
    return arguments


def _left_out(special: Any) -> tuple[int, ...]:
    """List the ids of tokens that are left out, where they are given one by one."""
    if special is None or isinstance(special, bool):
        return ()
    if not isinstance(special, list) or any(
        isinstance(id, bool) or not isinstance(id, int) or not 0 <= id <= ANY_LENGTH
        for id in special
    ):
        raise BadInput(
            "The SAE's cfg.json: exclude_special_tokens is true, false or a list of token ids, got"
            f" {shown(special)}."
        )
    return tuple(special)


def _positions(bounds: Any) -> tuple[int | None, ...]:
    """Read which positions of a context were trained on."""
    if bounds is None:
        return ALL
    if (
        not isinstance(bounds, list | tuple)
        or not 1 <= len(bounds) <= 3
        or any(isinstance(bound, bool) or not isinstance(bound, int | None) for bound in bounds)
        or (len(bounds) == 3 and bounds[2] is not None and bounds[2] < 1)
        or any(abs(bound or 0) > ANY_LENGTH for bound in bounds)
    ):
        raise BadInput(
            "The SAE's cfg.json: seqpos_slice is one to three numbers, start, stop and step, got"
            f" {shown(bounds)}."
        )
    return tuple(bounds)
