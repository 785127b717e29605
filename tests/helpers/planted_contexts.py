"""Contexts of planted features, and an encoder that knows words alone."""

import re
from collections.abc import Sequence

import numpy as np

from workbench.features.contexts import FeatureContexts

FILLER = ["we", "met", "at", "noon", "near", "the", "river", "and", "rain", "went", "on", "late"]
ABOUT_POWER = ["she", "kept", "control", "of", "people", "took", "resources", "standing", "others"]


def contexts_of(rows: Sequence[tuple[int, Sequence[str], Sequence[float]]]) -> FeatureContexts:
    """Contexts of (feature, tokens, activation on each), the peak at the largest."""
    words = [token for _, tokens, _ in rows for token in tokens]
    vocabulary = tuple(dict.fromkeys(words))
    number = {token: k for k, token in enumerate(vocabulary)}
    return FeatureContexts(
        features=np.array([feature for feature, _, _ in rows], np.int64),
        peaks=np.array([int(np.argmax(active)) for _, _, active in rows], np.int64),
        starts=np.cumsum([0, *[len(tokens) for _, tokens, _ in rows]]).astype(np.int64),
        tokens=np.array([number[token] for token in words], np.int32),
        activations=np.array([a for _, _, active in rows for a in active], np.float32),
        vocabulary=vocabulary,
    )


def about_power(carriers: Sequence[int], features: int, each: int = 10) -> FeatureContexts:
    """Contexts of features, of which the carriers fire in words about power, others in filler."""
    rng = np.random.default_rng(0)
    rows = []
    for feature in range(features):
        words = ABOUT_POWER if feature in carriers else FILLER
        for _ in range(each):
            order = rng.permutation(len(words))
            active = rng.random(len(words))
            rows.append((feature, [f" {words[k]}" for k in order], list(active)))
    return contexts_of(rows)


class WordsEncoder:
    """An encoder whose dimensions are words: texts that share words are alike."""

    name = "encoder words"

    def __init__(self, address: str) -> None:
        self.address = address

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), 512))
        for row, text in enumerate(texts):
            for word in re.findall(r"[a-z]+", text.lower()):
                if len(word) > 4:
                    rows[row, sum(map(ord, word)) * 31 % 512] += 1
        rows[:, 0] += 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
