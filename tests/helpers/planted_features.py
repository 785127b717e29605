"""Activations with planted features: of one behaviour of a pole, of a topic, idle, and mixed."""

import numpy as np
from scipy import sparse

from feature_store import registry
from workbench.features.labelers import LabelledActivations

TEN = registry.get("values", "schwartz10")
FACETS, TOPICS, IDLE, MIXED = 6, 20, 150, 20


def planted(
    seed: int, documents: int = 4000
) -> tuple[LabelledActivations, dict[int, tuple[str, int]], set[int]]:
    """`(data, truth, topic features)`. Facet features fire for one of six behaviours of one
    pole; a topic comes with its value in 70 % of the texts that hold it; other features are idle
    or sum two facets."""
    rng = np.random.default_rng(seed)
    marks, facets = np.zeros((documents, 10), int), 20 * FACETS
    activations = np.zeros((documents, facets + TOPICS + IDLE + MIXED))
    topics = np.full(documents, -1)
    for d in range(documents):
        leaning: dict[int, int] = {}
        for _ in range(rng.choice(4, p=(0.1, 0.3, 0.3, 0.3))):
            echo = leaning and rng.random() < 0.5  # values come together
            value = int(rng.choice(list(leaning))) if echo else int(rng.integers(10))
            sign = leaning.setdefault(value, int(rng.choice([1, -1])))
            activations[d, (2 * value + (sign > 0)) * FACETS + rng.integers(FACETS)] = rng.gamma(
                4, 0.5
            )
        for value, sign in leaning.items():
            marks[d, value] = sign
        held = np.flatnonzero(marks[d] > 0)
        if len(held) and rng.random() < 0.7:
            topics[d] = rng.choice(held)
        elif rng.random() < 0.75:
            topics[d] = rng.integers(10)
    for t in range(TOPICS):
        activations[:, facets + t] = (
            (topics == t % 10)
            * (rng.random(documents) < (1, 0.5)[t // 10])
            * rng.gamma(4, 0.5, documents)
        )
    idle = slice(facets + TOPICS, facets + TOPICS + IDLE)
    activations[:, idle] = (
        rng.random((documents, IDLE)) < 10 ** rng.uniform(-3, -0.5, IDLE)
    ) * rng.gamma(2, 1, (documents, IDLE))
    for m in range(MIXED):
        a, b = rng.choice(20, 2, replace=False) * FACETS + rng.integers(FACETS, size=2)
        activations[:, -1 - m] = activations[:, a] + activations[:, b]
    activations += (rng.random(activations.shape) < 0.005) * rng.gamma(1, 0.3, activations.shape)
    truth = {f: (TEN.ids[f // FACETS // 2], 1 if f // FACETS % 2 else -1) for f in range(facets)}
    data = LabelledActivations(
        sparse.csr_matrix(activations), marks, np.array([f"topic {t}" for t in topics])
    )
    return data, truth, set(range(facets, facets + TOPICS))


def accepted(labels):
    return {label.feature: (label.value, label.polarity) for label in labels if label.accepted}
