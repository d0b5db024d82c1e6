"""The learning rate of every step."""

import math

from simct.config.optimization import TrainingConfig


def learning_rate_at(step: int, training: TrainingConfig) -> float:
    """The rate for optimizer step `step` (1-based): linear warm-up, then the schedule down to zero after the last."""
    warmup = math.ceil(training.warmup_ratio * training.steps)
    if step <= warmup:
        return training.learning_rate * step / warmup
    progress = (step - 1 - warmup) / max(1, training.steps - warmup)
    if training.schedule == "cosine":
        return training.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    if training.schedule == "linear":
        return training.learning_rate * (1 - progress)
    return training.learning_rate
