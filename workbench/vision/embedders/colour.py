"""Images by their colours alone: works without a model, and says nothing of what is seen.

1. An image becomes shares of its pixels in bins of red, green and blue; a pixel between two bins
   counts in both, so that shades that are near are alike. The square root of the shares has length
   one, and the cosine is Bhattacharyya's coefficient.
2. A text is the name of a colour (CSS), taken as an image of that colour alone. Any other word is
   refused.

It serves to try things out, and for tests. Left out: shape, texture, meaning.
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
    """How finely colours are told apart."""

    bins: int = 6
    """Bins of each of red, green and blue [>= 2]."""


@register("embedders", "colour")
class Colour:
    """Images by their colours alone, words by the colour they name; no model."""

    config = ColourSettings

    def __init__(self, config: ColourSettings) -> None:
        """Take the number of bins. Raises BadInput beyond 2 to 16."""
        if not 2 <= config.bins <= 16:
            raise BadInput(f"bins is a number from 2 to 16, got {config.bins}.")
        self.bins = config.bins
        self.name = f"colour bins={config.bins}"

    def images(self, images: "Sequence[Image]") -> Float[np.ndarray, "image dim"]:
        """Embed images by the square roots of the shares of their pixels in each bin."""
        small = [np.asarray(image.resize((SIDE, SIDE)), np.float64) for image in images]
        return np.stack([self._shares(pixels.reshape(-1, 3)) for pixels in small])

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Embed names of colours, each as an image of that colour alone."""
        from PIL import ImageColor

        rows = []
        for text in texts:
            try:
                colour = ImageColor.getrgb(text.strip().lower())[:3]
            except ValueError:
                raise BadInput(
                    f"The embedder `colour` knows names of colours, {text!r} is none. Use"
                    " --embedder clip, or colours as keywords."
                ) from None
            rows.append(self._shares(np.array([colour], np.float64)))
        return np.stack(rows)

    def _shares(self, pixels: Float[np.ndarray, "pixel 3"]) -> Float[np.ndarray, " dim"]:
        place = pixels / 255 * (self.bins - 1)
        low = np.minimum(place.astype(int), self.bins - 2)
        high = place - low
        weights = np.zeros((self.bins,) * 3)
        for corner in np.ndindex(2, 2, 2):
            share = np.prod(np.where(corner, high, 1 - high), axis=1)
            np.add.at(weights, tuple((low + corner).T), share)
        return np.sqrt(weights.ravel() / len(pixels))
