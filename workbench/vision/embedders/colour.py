"""Images by their colours alone: works without a model, and says nothing of what is seen.

1. An image becomes shares of its pixels in bins of red, green and blue; a pixel between two bins
   counts in both, so that shades that are near are alike. The square root of the shares has length
   one, and the cosine is Bhattacharyya's coefficient.
2. A text is the name of a colour (CSS), taken as an image of that colour alone. Any other word is
   refused.

For trying things out and for tests. Left out: shape, texture, meaning.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.registry import register

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 64
"""Images are looked at in this size [pixels]."""


@dataclasses.dataclass(frozen=True)
class ColourSettings:
    bins: int = 6
    """Bins of each of red, green and blue [>= 2]."""


@register("embedders", "colour")
class Colour:
    """Images by their colours alone, words by the colour they name; no model."""

    config = ColourSettings

    def __init__(self, config: ColourSettings) -> None:
        if not 2 <= config.bins <= 16:
            raise BadInput(f"bins is a number from 2 to 16, got {config.bins}.")
        self.bins = config.bins
        self.name = f"colour bins={config.bins}"

    def images(self, images: "Sequence[Image]") -> Float[np.ndarray, "image dim"]:
        """Square roots of the shares of pixels in each bin."""
        return np.stack(
            [
                self._shares(np.asarray(image.resize((SIDE, SIDE)), np.float64).reshape(-1, 3))
                for image in images
            ]
        )

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """The same of an image of the named colour."""
        from PIL import ImageColor

        rows = []
        for text in texts:
            try:
                rows.append(
                    self._shares(
                        np.array([ImageColor.getrgb(text.strip().lower())[:3]], np.float64)
                    )
                )
            except ValueError:
                raise BadInput(
                    f"The embedder `colour` knows names of colours, {text!r} is none. Use"
                    " --embedder clip, or colours as keywords."
                ) from None
        return np.stack(rows)

    def _shares(self, pixels: Float[np.ndarray, "pixel 3"]) -> Float[np.ndarray, " dim"]:
        place = pixels / 255 * (self.bins - 1)
        low = np.minimum(place.astype(int), self.bins - 2)
        high = place - low
        found = np.zeros((self.bins,) * 3)
        for corner in np.ndindex(2, 2, 2):
            share = np.prod(np.where(corner, high, 1 - high), axis=1)
            np.add.at(found, tuple((low + corner).T), share)
        return np.sqrt(found.ravel() / len(pixels))
