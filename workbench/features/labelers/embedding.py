"""The embedding labeler: a feature carries the value whose definition its contexts are closest to.

1. A sentence encoder embeds a window of each of a feature's strongest contexts, its peak token in
   brackets, and every value's name and definition.
2. The score of a context is its cosine with a value's definition, less the mean over values:
   closeness to all of them is no value. A feature's is the mean over its contexts; chance and z are
   those of `features/context_evidence.py`.

Windows are embedded one by one, not joined: so contexts can be permuted among features without
embedding anything twice. An encoder reads a small part of what a value is from one sentence, and
hardly tells its sides apart. Left out: explanations of features by a language model.
"""

from dataclasses import dataclass

import numpy as np

from feature_store.bounds import Count, Seed, Share
from feature_store.records import Label, ValueSystem
from feature_store.registry import register
from workbench.features.context_evidence import ContextLimits, ContextMeans
from workbench.features.labelers import LabelledActivations


@dataclass(frozen=True)
class EmbeddingLabelerSettings:
    """Which encoder, how much of the contexts it reads, and what a label must be worth."""

    encoder: str = "minilm"
    """Sentence encoder: minilm, once it was fetched, or a folder."""
    contexts: Count = 5
    """Strongest contexts of a feature that are embedded, at most [contexts]."""
    window: Count = 12
    """Tokens on either side of the peak that are embedded [tokens]."""
    max_q: Share = 0.05
    """Largest q of an accepted label [0 to 1]."""
    min_effect: float = 2.5
    """Smallest z of an accepted label [SD over features]."""
    draws: Count = 100_000
    """Draws of contexts behind p."""
    seed: Seed = 0
    """Seed of the draws."""


@register("labelers", "embedding")
class Embedding:
    """Features whose contexts a sentence encoder places near a value's definition."""

    config = EmbeddingLabelerSettings

    @staticmethod
    def label(
        data: LabelledActivations, system: ValueSystem, settings: EmbeddingLabelerSettings
    ) -> list[Label]:
        """Give every feature's value with the largest z.

        Raises NotFound where there is no such encoder, before anything is read.
        """
        from sae_training.model.sentences import SentenceEncoder

        encoder = SentenceEncoder(settings.encoder)
        if not data.activations.shape[1]:
            return []
        contexts = data.read_contexts().strongest(settings.contexts)
        windows = [contexts.around_peak(k, settings.window) for k in range(len(contexts))]
        distinct = {text: row for row, text in enumerate(dict.fromkeys(windows))}
        points = encoder.texts(list(distinct))
        definitions = encoder.texts(
            [f"{value.name}: {value.definition}" for value in system.values]
        )
        likeness = points @ definitions.T
        likeness -= likeness.mean(1, keepdims=True)
        scores = likeness[[distinct[text] for text in windows]]
        limits = ContextLimits(
            method="embedding",
            draws=settings.draws,
            max_q=settings.max_q,
            min_effect=settings.min_effect,
            seed=settings.seed,
        )
        means = ContextMeans.of(np.asarray(scores, float), contexts.features, limits)
        evidence = [{"encoder": encoder.name}] * len(means.features)
        return means.labels(system.ids, limits, evidence)
