"""Where in a model: the one table of names.

The same place has four names. Ours is `Site(layer, point)`; a Hugging Face model calls the layer by
its module path (`model.layers.5`, `transformer.h.5`, `gpt_neox.layers.5`); SAELens says
`blocks.5.hook_resid_post` or the module path; interp-engine says `resid_post.5`. Only this module
converts between them.

A residual is known by its *boundary*: boundary b is the stream that enters layer b, so `resid_pre`
of layer 5 and `resid_post` of layer 4 are both boundary 5, and boundary `n_layers` is what the
final norm reads.
"""

import re
from typing import Any, cast

from torch import nn

from feature_store.errors import BadInput
from feature_store.records import Point, Site

_NAMES = (
    (re.compile(r"blocks\.(\d+)\.hook_(resid_pre|resid_post)"), 1, 2),
    (re.compile(r"(resid_pre|resid_post)\.(\d+)"), 2, 1),
)
_MODULE = re.compile(r"[A-Za-z_][\w.]*\.(?:layers|h|blocks|decoder_layers)\.(\d+)")


FIRST = Site(layer=0)
"""The site that stands where nothing is steered, so that any would do."""


def parse(name: str) -> Site:
    """Read a site from a SAELens hook name, an interp-engine address or a module path.

        parse("blocks.5.hook_resid_pre")  # Site(layer=5, point="resid_pre")

    Raises BadInput where the name means no place on the residual stream.
    """
    for pattern, layer, point in _NAMES:
        if match := pattern.fullmatch(name):
            return Site(layer=int(match[layer]), point=cast(Point, match[point]))
    if match := _MODULE.fullmatch(name):
        # A hook on a module sees what the module returns.
        return Site(layer=int(match[1]))
    raise BadInput(
        f"{name!r} names no place on the residual stream. Write blocks.5.hook_resid_post,"
        " resid_post.5 or a layer's module path such as model.layers.5."
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
            f"{type(module).__name__} has no list of {count} decoder layers. "
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
