"""Embedders: images and words as points of one space, so that words find images; one file each.

A plug-in is a class registered under kind `embedders`, made with its settings (`key=value`, a
frozen dataclass `config`):

- `name` says what made the points, its revision included: points of different names are never
  compared;
- `images` and `texts` give rows of length one, so that the cosine is a product.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from feature_store import registry
from workbench.settings import options

if TYPE_CHECKING:
    from PIL.Image import Image


@runtime_checkable
class Embedder(Protocol):
    name: str
    """Plug-in, model and revision."""

    def images(self, images: "Sequence[Image]") -> Float[np.ndarray, "image dim"]:
        """A row of length one for each image."""
        ...

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """A row of length one for each text. Raises BadInput for a text that it cannot place."""
        ...


def make(name: str, settings: Sequence[str]) -> Embedder:
    """The embedder of that name, with its settings."""
    plugin = registry.get("embedders", name)
    return plugin(options(plugin.config, settings))


def unit(rows: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
    """Rows at length one."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
