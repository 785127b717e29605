"""Where in a model: the one table of names.

The same place has four names. Ours is `Site(layer, point)`; a Hugging Face model calls the layer by
its module path (`model.layers.5`, `transformer.h.5`, `gpt_neox.layers.5`); SAELens says
`blocks.5.hook_resid_post` or the module path; interp-engine says `resid_post.5`. Only this module
converts between them. A name of another place (what an MLP adds, a head's output, the residual
within a layer) is refused in words that say which place it is.

A residual is known by its *boundary*: boundary b is the stream that enters layer b, so `resid_pre`
of layer 5 and `resid_post` of layer 4 are both boundary 5, and boundary `n_layers` is what the
final norm reads.
"""

import re
from typing import Any, cast

from torch import nn

from feature_store.errors import BadInput
from feature_store.records import Point, Site

_NUMBER = r"([0-9]{1,6})"
_RESIDUALS = (
    (re.compile(rf"blocks\.{_NUMBER}\.hook_(resid_pre|resid_post)"), 1, 2),
    (re.compile(rf"(resid_pre|resid_post)\.{_NUMBER}"), 2, 1),
)
_BRIDGE = re.compile(rf"blocks\.{_NUMBER}\.hook_(in|out)")
"""What TransformerLens 3 calls the same two places: a block's input and its output."""
_MODULE = re.compile(
    rf"(?:[A-Za-z_][\w.]*\.)?(?:layers|h|decoder_layers)\.{_NUMBER}(?:\.output(?:\.0)?)?"
    rf"|[A-Za-z_][\w.]*\.blocks\.{_NUMBER}(?:\.output(?:\.0)?)?"
)
_SENSES = re.compile(r"vision|visual|image|audio|speech|encoder(?!_)")
"""Parts of a module path that lead to what is not the language model's decoder."""
_ELSEWHERE = (
    ("hook_resid_mid", "the residual between a layer's attention and its MLP"),
    ("hook_mlp_out", "what an MLP adds to the residual"),
    ("hook_attn_out", "what attention adds to the residual"),
    ("hook_mlp_in", "what an MLP reads"),
    ("hook_attn_in", "what attention reads"),
    ("hook_z", "the outputs of single attention heads"),
    ("hook_normalized", "a normalised residual, which only the next part of the layer reads"),
    ("mlp.hook_", "the inside of an MLP"),
    ("attn.hook_", "the inside of attention"),
    ("hook_embed", "the embedding without what is added to it"),
    ("hook_pos_embed", "the positions' embedding"),
    ("transcoder", "the input of a transcoder"),
    ("layernorm", "a normalised residual"),
    ("attn", "a part of attention"),
    ("attention", "a part of attention"),
    ("mlp", "a part of an MLP"),
    ("feed_forward", "a part of an MLP"),
    ("embed", "an embedding"),
)
"""Part of a name -> the place that it means, the first that fits: for the line that refuses it."""


FIRST = Site(layer=0)
"""The site that stands where nothing is steered, so that any would do."""


def parse(name: str) -> Site:
    """Read a site from a SAELens hook name, an interp-engine address or a module path.

        parse("blocks.5.hook_resid_pre")  # Site(layer=5, point="resid_pre")

    Raises BadInput where the name means no place on the residual stream, or one within a layer.
    """
    for pattern, layer, point in _RESIDUALS:
        if match := pattern.fullmatch(name):
            return Site(layer=int(match[layer]), point=cast(Point, match[point]))
    if match := _BRIDGE.fullmatch(name):
        return Site(layer=int(match[1]), point="resid_pre" if match[2] == "in" else "resid_post")
    if (match := _MODULE.fullmatch(name)) and not _SENSES.search(name):
        # A hook on a module sees what the module returns.
        return Site(layer=int(match[1] or match[2]))
    meaning = [place for part, place in _ELSEWHERE if part in name]
    place = f": it is {meaning[0]}" if meaning else ""
    raise BadInput(
        f"{name[:80]!r} names no place on the residual stream that can be read here{place}. Needed"
        " is one that reads blocks.5.hook_resid_post, blocks.5.hook_resid_pre, resid_post.5 or a"
        " decoder layer's module path such as model.layers.5."
    )


def saelens_name(site: Site) -> str:
    """Name a site as SAELens does: `blocks.5.hook_resid_post`."""
    return f"blocks.{site.layer}.hook_{site.point}"


def interp_engine_name(site: Site) -> str:
    """Name a site as interp-engine does: `resid_post.5`."""
    return f"{site.point}.{site.layer}"


def layers(module: nn.Module, count: int) -> tuple[str, nn.ModuleList]:
    """Find the decoder layers: their module path and their list.

    They are the outermost ModuleList of `count` entries, which is what the configuration says. Of
    a model that sees, the language model's: its vision tower may have as many.
    """
    config = getattr(module, "config", None)
    composite = config is not None and config.get_text_config() is not config
    decoder: Any = cast(Any, module).get_decoder() if composite else module
    language = set(decoder.modules())
    lists = [
        (path, child)
        for path, child in module.named_modules()
        if isinstance(child, nn.ModuleList) and len(child) == count and child in language
    ]
    if not lists:
        raise BadInput(
            f"{type(module).__name__} has no list of {count or 'its'} decoder layers. "
            "The workbench reads decoder-only language models."
        )
    return min(lists, key=lambda entry: entry[0].count("."))


def module_path(module: nn.Module, count: int, layer: int) -> str:
    """Name a layer by its module path: `model.layers.5`."""
    check_layer(layer, count)
    return f"{layers(module, count)[0]}.{layer}"


def check_layer(layer: int, count: int) -> None:
    """Raise BadInput unless a model of `count` layers has `layer`."""
    if not 0 <= layer < count:
        raise BadInput(f"The model has layers 0 to {count - 1}, got layer {layer}.")


def boundary(site: Site, count: int) -> int:
    """Say which layer the residual at a site enters, in a model of `count` layers.

    That is `layer` for resid_pre and `layer + 1` for resid_post. Raises BadInput where the model
    has no such site.
    """
    check_layer(site.layer, count)
    return site.layer + (site.point == "resid_post")
