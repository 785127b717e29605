"""CLIP, SigLIP and their like: a model trained to bring pictures and their captions together.

1. Any model of transformers with `get_image_features` and `get_text_features`, by folder or hub id;
   safetensors only, no code from its repository.
2. A word is embedded as it is, or inside `template` ("a photo of {}"), in which CLIP (Radford et
   al. 2021) was found to do better.
3. Texts longer than the model reads are refused, not cut.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput, Incompatible
from feature_store.registry import register
from workbench.vision.embedders import unit

if TYPE_CHECKING:
    from PIL.Image import Image

TOGETHER = 32
"""Images that go through the model at once."""


@dataclasses.dataclass(frozen=True)
class ClipSettings:
    """Which model embeds, where it runs, and what a text is put into."""

    model: str = "openai/clip-vit-base-patch32"
    """Folder or hub id."""
    revision: str = ""
    """Revision of a hub model."""
    dtype: str = "float32"
    """Number format of the weights."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, ..."""
    template: str = "{}"
    """What a text is put into; {} stands for it."""


@register("embedders", "clip")
class Clip:
    """Images and texts by CLIP, SigLIP or their like."""

    config = ClipSettings

    def __init__(self, config: ClipSettings) -> None:
        """Load the model. Raises Incompatible for one that embeds no images and texts."""
        from sae_training.model.loading import load

        if config.template.count("{}") != 1:
            raise BadInput(f"A template holds {{}} once, for the text; got {config.template!r}.")
        loaded = load(config.model, config.revision, config.dtype, config.device, "embedding")
        if not hasattr(loaded.module, "get_image_features") or not hasattr(
            loaded.module, "get_text_features"
        ):
            raise Incompatible(
                f"{config.model} does not embed images and texts in one space. Choose a CLIP or"
                " SigLIP."
            )
        # What a model for images and texts offers, torch's own type of modules does not know.
        self.module = cast(Any, loaded.module)
        self.processor = loaded.tokenizer
        self.template = config.template
        self.length = getattr(self.module.config.get_text_config(), "max_position_embeddings", 77)
        # SigLIP has only ever seen texts filled up to its full length.
        self.filled: dict[str, Any] = {}
        if "siglip" in self.module.config.model_type:
            self.filled = {"padding": "max_length", "max_length": self.length}
        self.name = f"clip {config.model}@{loaded.revision[:12]} {config.template}"

    def images(self, images: "Sequence[Image]") -> Float[np.ndarray, "image dim"]:
        """Embed images by their projected features."""
        import torch

        points = []
        for start in range(0, len(images), TOGETHER):
            part = list(images[start : start + TOGETHER])
            inputs = self.processor(images=part, return_tensors="pt")
            inputs = inputs.to(self.module.device, self.module.dtype)
            with torch.no_grad():
                features = self.module.get_image_features(**inputs).pooler_output
            points.append(features.double().cpu().numpy())
        return unit(np.concatenate(points))

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Embed texts by their projected features. Raises BadInput for a text that is too long."""
        import torch

        points = []
        for text in texts:  # one by one, so that nothing else needs padding
            inputs = self.processor(
                text=[self.template.replace("{}", text)], return_tensors="pt", **self.filled
            )
            if (n := inputs["input_ids"].shape[1]) > self.length:
                raise BadInput(
                    f"{text[:40]!r}... has {n} tokens, {self.name} reads {self.length}. Shorten it."
                )
            with torch.no_grad():
                features = self.module.get_text_features(**inputs.to(self.module.device))
            points.append(features.pooler_output.double().cpu().numpy())
        return unit(np.concatenate(points))
