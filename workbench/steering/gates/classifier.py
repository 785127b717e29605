"""Any text classifier in a Hugging Face folder: a fine-tuned encoder that was trained elsewhere.

1. `AutoModelForSequenceClassification` reads the folder alone: no network, no code of strangers,
   safetensors only.
2. The class is the label whose name means the value in the study's system, or the one that is
   named.
3. One class against the others by softmax; classifiers that say they are multi-label by a sigmoid.

Left out: training one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from feature_store.bounds import Count
from feature_store.errors import BadInput, NotFound, nearest
from feature_store.registry import register
from workbench.workspace import Workspace

ROWS = 32
"""Texts in one forward pass."""


@dataclass(frozen=True)
class ClassifierGateSettings:
    """Which classifier opens the gate, and for which of its classes."""

    folder: str = ""
    """Folder of the classifier, in Hugging Face's format."""
    label: str = ""
    """Name of the class that opens the gate; empty: the one that means the value."""
    max_tokens: Count = 512
    """Longer texts are cut [tokens]."""


class ClassifierDetector:
    """A classifier, its tokenizer and the class that counts."""

    def __init__(self, model: Any, tokenizer: Any, index: int, max_tokens: int, name: str):
        """Hold a loaded classifier; `index` is the place of the class among its outputs."""
        self.model = model
        self.tokenizer = tokenizer
        self.index = index
        self.max_tokens = max_tokens
        self.name = name

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Give the probability of the class [0 to 1], `ROWS` texts a forward pass."""
        import torch

        config = self.model.config
        limit = min(self.max_tokens, getattr(config, "max_position_embeddings", self.max_tokens))
        by_batch = []
        for first in range(0, len(texts), ROWS):
            rows = self.tokenizer(
                list(texts[first : first + ROWS]),
                padding=True,
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            )
            with torch.no_grad():
                logits = self.model(
                    input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]
                ).logits.double()
            # With a single output there is nothing to take a softmax over.
            multi_label = config.problem_type == "multi_label_classification"
            separate = multi_label or logits.shape[1] == 1
            probabilities = logits.sigmoid() if separate else logits.softmax(-1)
            by_batch.append(probabilities[:, self.index])
        return torch.cat(by_batch).numpy()


@register("detectors", "classifier")
class ClassifierPlugin:
    """A Hugging Face text classifier, from a folder."""

    config = ClassifierGateSettings

    @staticmethod
    def open(study: Workspace, value: str, settings: ClassifierGateSettings) -> ClassifierDetector:
        """Load the classifier from its folder and choose the class that means the value.

        Raises NotFound where the folder or the class is absent, BadInput where it cannot be loaded.
        """
        if not settings.folder or not (Path(settings.folder) / "config.json").is_file():
            raise NotFound(
                f"{settings.folder or 'No folder'} holds no classifier (no config.json). Give"
                " folder=PATH of one in Hugging Face's format."
            )
        model, tokenizer = _load(settings.folder)
        names = {name: int(index) for name, index in model.config.label2id.items()}
        label = settings.label or next((name for name in names if _means(study, name, value)), "")
        if label not in names:
            raise NotFound(
                f"{settings.folder} has no class for"
                f" {label or value}.{nearest(label or value, names)} Name one with label=NAME."
            )
        return ClassifierDetector(
            model=model,
            tokenizer=tokenizer,
            index=names[label],
            max_tokens=settings.max_tokens,
            name=f"classifier {settings.folder} {label}",
        )


def _load(folder: str) -> tuple[Any, Any]:
    """Load model and tokenizer from a folder alone: no network, and no code of strangers."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, **safe
        )
        return model.eval(), AutoTokenizer.from_pretrained(folder, **safe)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"{folder} cannot be loaded as a text classifier: {str(error).splitlines()[0]}"
        ) from None


def _means(study: Workspace, name: str, value: str) -> bool:
    """Say whether a class's name is a spelling of the value (its id)."""
    try:
        return study.system.resolve(name) == value
    except NotFound:
        return False
