"""How many steps a training takes, how its learning rate runs, and when a feature is dead."""

from sae_training.training.config import TrainingSettings

DECAY = 0.2
"""Share of the steps at the end over which the learning rate falls to `lr_end`, linearly."""


def steps(settings: TrainingSettings) -> int:
    """Count the optimiser steps of the whole training."""
    return max(1, settings.tokens // settings.batch_tokens)


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Compute the learning rate of a 0-based step: linear warm-up, constant, linear decay."""
    total = steps(settings)
    fall = max(1, int(total * DECAY))
    rate = settings.lr * min(1.0, (step + 1) / max(1, settings.warmup))
    late = max(0.0, (step - (total - fall) + 1) / fall)
    return rate + (settings.lr_end - rate) * late if late else rate


def dead_after(settings: TrainingSettings) -> int:
    """Count the steps without firing after which a feature is dead."""
    return max(1, settings.dead_tokens // settings.batch_tokens)
