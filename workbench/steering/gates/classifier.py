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
class ClassifierConfig:
    folder: str = ""
    """Folder of the classifier, in Hugging Face's format."""
    label: str = ""
    """Name of the class that opens the gate; empty: the one that means the value."""
    max_tokens: Count = 512
    """Longer texts are cut [tokens]."""


class ClassifierDetector:
    """A classifier, its tokenizer and the class that counts."""

    def __init__(self, model: Any, tokenizer: Any, index: int, max_tokens: int, name: str):
        self.model, self.tokenizer, self.index, self.max_tokens, self.name = (
            model,
            tokenizer,
            index,
            max_tokens,
            name,
        )

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Probability of the class."""
        import torch

        limit = min(
            self.max_tokens, getattr(self.model.config, "max_position_embeddings", self.max_tokens)
        )
        out = []
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
            multi = (
                self.model.config.problem_type == "multi_label_classification"
                or logits.shape[1] == 1
            )
            out.append((logits.sigmoid() if multi else logits.softmax(-1))[:, self.index])
        return torch.cat(out).numpy()


@register("detectors", "classifier")
class Classifier:
    """A Hugging Face text classifier, from a folder."""

    config = ClassifierConfig

    @staticmethod
    def open(study: Workspace, value: str, settings: ClassifierConfig) -> ClassifierDetector:
        """Loaded from the folder."""
        if not settings.folder or not (Path(settings.folder) / "config.json").is_file():
            raise NotFound(
                f"{settings.folder or 'No folder'} holds no classifier (no config.json). Give"
                " folder=PATH of one in Hugging Face's format."
            )
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        told = {"local_files_only": True, "trust_remote_code": False}
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                settings.folder, use_safetensors=True, **told
            ).eval()
            tokenizer = AutoTokenizer.from_pretrained(settings.folder, **told)
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(
                f"{settings.folder} cannot be loaded as a text classifier:"
                f" {str(error).splitlines()[0]}"
            ) from None
        names = {name: int(index) for name, index in model.config.label2id.items()}
        label = settings.label or next((name for name in names if _means(study, name, value)), "")
        if label not in names:
            raise NotFound(
                f"{settings.folder} has no class for"
                f" {label or value}.{nearest(label or value, names)} Name one with label=NAME."
            )
        return ClassifierDetector(
            model,
            tokenizer,
            names[label],
            settings.max_tokens,
            f"classifier {settings.folder} {label}",
        )


def _means(study: Workspace, name: str, value: str) -> bool:
    try:
        return study.system.resolve(name) == value
    except NotFound:
        return False
