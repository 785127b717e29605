"""Embedders: images and words as points of one space, so that words find images; one file each.

A plug-in is a class registered under kind `embedders`, made with its settings (`key=value`, a
frozen dataclass `config`):

- `name` says what made the points, its revision included: points of different names are never
  compared;
- `images` and `texts` give rows of length one, so that the cosine is a product.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from feature_store import registry
from feature_store.registry import Registry
from workbench.settings import options

if TYPE_CHECKING:
    from PIL.Image import Image


@runtime_checkable
class Embedder(Protocol):
    """A map of images and of words into one space.

    embedder = make("colour", ["bins=4"])
    embedder.texts(["red"]) @ embedder.images([image]).T  # cosines, one a pair
    """

    name: str
    """Plug-in, model and revision."""

    def images(self, images: "Sequence[Image]") -> Float[np.ndarray, "image dim"]:
        """Embed images: a row of length one for each."""
        ...

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Embed texts: a row of length one for each. Raises BadInput for one it cannot place."""
        ...


@runtime_checkable
class EmbedderPlugin(Protocol):
    """A class that is registered as an embedder: its settings, and how it is made from them.

    @register("embedders", "mine")
    class Mine:
        config = MySettings

        def __init__(self, config: MySettings) -> None: ...
    """

    config: type
    """Frozen dataclass of the settings, each with a default."""

    def __call__(self, config: Any, /) -> Embedder:
        """Make the embedder; a model is loaded here."""
        ...


EMBEDDERS: Registry[EmbedderPlugin] = registry.of("embedders")
"""The embedders by name."""


def make(name: str, settings: Sequence[str]) -> Embedder:
    """Make the embedder of a name, with its settings as `key=value`."""
    plugin = EMBEDDERS[name]
    return plugin(options(plugin.config, settings))


def unit(rows: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
    """Scale rows to length one; a row of zeros stays one."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
